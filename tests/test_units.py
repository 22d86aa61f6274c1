"""Units over 12,000 samples: what the user's words say, read and answered by code of its own."""

from __future__ import annotations

import copy
import itertools
import math
import random
import re
from collections import Counter
from fractions import Fraction

import pytest
from units_reader import KIND, MANY, ONE, SYMBOL, UnreadableError, answer_of, read_question

from mixgen.encoding.renderer import Renderer
from mixgen.encoding.tokenizer import train_tokenizer
from mixgen.errors import TaskError
from mixgen.seeding import rng
from mixgen.tasks._one_call import ANSWER
from mixgen.tasks._units_problems import KINDS, PAIRS
from mixgen.tasks._units_words import CONVERSIONS, OF_DEGREES, conversion_words
from mixgen.tasks.base import assistant, call, tool
from mixgen.tasks.trial import Turn, distinct_examples
from mixgen.tasks.units import Units
from mixgen.tools.units import UnitsSession

NUM_SAMPLES = 12_000
NUM = 100
TASK = Units()  # one, so that its test problems are drawn once
Z_999 = 3.2905  # a normal variable lies within so many standard deviations with probability 99.9 %


def draw(count, name="samples", **settings):
    task = Units(Units.Config(**settings))
    generator = rng(0, "test units", name)
    return [task.sample(generator) for _ in range(count)]


def words_of(example):
    return example["messages"][0]["content"]


def code_of(example):
    return example["messages"][1]["tool_calls"][0]["function"]["arguments"]["code"]


def numbers_of(example):
    """The quantity that a conversion's call holds."""
    return re.match(r"convert\(([-0-9.]+),", code_of(example))[1]


def within_999(count, total, share):
    return abs(count - total * share) <= Z_999 * math.sqrt(total * share * (1 - share))


@pytest.fixture(scope="module")
def samples():
    return draw(NUM_SAMPLES)


@pytest.fixture(scope="module")
def read(samples):
    return [read_question(words_of(example)) for example in samples]


# The reader itself: one that let everything through would make the tests below pass.


@pytest.mark.parametrize(
    "text",
    [
        "Convert 1 miles to kilometres.",
        "Convert 2 mile to kilometres.",
        "Convert 12.5 miles to kilometre.",
        "Convert 12.50 miles to kilometres.",
        "Convert 05 miles to kilometres.",
        "Convert 3 gallons to litres.",
        "Convert 3 tons to kilograms.",
        "Convert 3 kilobytes to bytes.",
        "Convert 3 kB to bytes.",
        "Convert 3 miles to kilograms.",
        "How many degrees Celsius are there in 5 degrees Fahrenheit?",
        "What is 5 in in cm?",
        "Convert 12 from binary to octal.",
        "Convert 11 to octal.",
        "Convert the binary number 0b11 to octal.",
        "What is decimal 1F in binary?",
        "What is the hexadecimal number fF in binary?",
        "What date is 1 days after 2024-03-01?",
        "How many days are there between 2024-03-01 and 2024-04-01?",
        "How many days after March 1, 2024 is April 1, 2024?",
        "What date is 5 days after 1 March, 2024?",
        "What date is 5 days after 3/1/2024?",
        "",
    ],
)
def test_the_reader_refuses_what_is_no_english_or_can_be_read_in_two_ways(text):
    with pytest.raises(UnreadableError):
        read_question(text)


# Truth of what is generated.


def test_every_question_can_be_read_in_one_way_only(samples):
    for example in samples:
        assert read_question(words_of(example)), words_of(example)


def test_every_answer_is_what_the_users_words_ask_for(samples, read):
    for example, problem in zip(samples, read, strict=True):
        assert example["answer"] == answer_of(problem), words_of(example)


def test_every_call_asks_in_code_what_the_words_ask(samples, read):
    for example, problem in zip(samples, read, strict=True):
        match problem:
            case "convert", value, source, target:
                text = numbers_of(example)
                assert float(text) == float(value)
                expected = f"convert({text},'{source}','{target}')"
            case "base", number, base, target:
                literal = code_of(example)[5:].split(",")[0]
                assert int(literal, 0) == number
                assert literal[:2] == {2: "0b", 8: "0o", 16: "0x"}.get(base, literal[:2])
                expected = f"base({literal},{target})"
            case "date", start, days:
                expected = "date('{:04}-{:02}-{:02}')".format(*start) + f"{days:+}"
            case "days", start, end:
                expected = "date('{:04}-{:02}-{:02}')".format(*end)
                expected += "-date('{:04}-{:02}-{:02}')".format(*start)
            case "weekday", day:
                expected = "weekday('{:04}-{:02}-{:02}')".format(*day)
        assert code_of(example) == expected, words_of(example)


def test_output_and_last_words_are_what_the_tool_prints(samples):
    for example in samples:
        _, calling, output, last = example["messages"]
        function = calling["tool_calls"][0]["function"]
        printed = UnitsSession().call(function["name"], function["arguments"])
        assert output["content"] == printed == example["answer"]
        assert last["content"] == f"The answer is {printed}."
        assert not printed.startswith("error")


def test_keys_are_equal_if_and_only_if_the_problems_are(samples):
    narrow = {"max_digits": 1, "max_bits": 4, "min_year": 2000, "max_year": 2000, "max_days": 2}
    similar = draw(4000, kinds=["temperature", "base", "date", "days"], **narrow)
    keys_of, problems_of = {}, {}
    for example in samples + similar:
        problem = read_question(words_of(example))
        keys_of.setdefault(problem, set()).add(example["key"])
        problems_of.setdefault(example["key"], set()).add(problem)
    assert all(len(keys) == 1 for keys in keys_of.values())
    assert all(len(problems) == 1 for problems in problems_of.values())
    said = {}
    for example in samples:
        said.setdefault(example["key"], set()).add(words_of(example))
    assert sum(len(words) > 1 for words in said.values()) > 300  # one key in several wordings


def test_difficulty_is_the_number_of_digits_that_the_call_copies(samples):
    for example in samples:
        code = code_of(example)
        if code.startswith("base"):
            digits = re.sub("^0[box]", "", code[5:].split(",")[0])
        else:
            digits = re.sub("[^0-9]", "", numbers_of(example) if code[0] == "c" else code)
        assert example["difficulty"] == len(digits), code


# Wording.


def test_every_unit_is_read_as_itself_whatever_it_is_called(samples):
    called = {"1": set(), "12.5": set(), "300": set()}
    asked_for = set()
    generator = random.Random(0)
    for kind, pairs in PAIRS.items():
        templates = OF_DEGREES if kind in ("temperature", "speed") else CONVERSIONS
        for (source, target), value in itertools.product(pairs, list(called) * 8):
            text = conversion_words(generator.random, templates, value, source, target)
            assert read_question(text) == ("convert", Fraction(value), source, target), text
            text = conversion_words(generator.random, ("%(is)s|%(in)s",), value, source, target)
            quantity, asked = text.split("|")
            called[value].add(quantity.removeprefix(f"{value} "))
            asked_for.add(asked)
    assert called["1"] == {*ONE, *SYMBOL}
    assert called["12.5"] == called["300"] == asked_for == {*MANY, *SYMBOL}
    units = {tuple(re.findall("'(.+?)'", code_of(e))) for e in samples if "convert" in code_of(e)}
    assert units == {pair for pairs in PAIRS.values() for pair in pairs}
    assert {source for source, _ in units} == set(KIND)


def test_every_kind_occurs_equally_often_and_every_phrasing_often_enough(samples):
    counts = Counter(example["metadata"]["kind"] for example in samples)
    assert set(counts) == set(KINDS)
    assert all(within_999(count, NUM_SAMPLES, 1 / len(KINDS)) for count in counts.values()), counts
    phrasings = Counter(
        re.match(r"[A-Z][a-z]+(?: [a-z]+){0,2}|[0-9]", words_of(example))[0] for example in samples
    )
    assert sum(count > 50 for count in phrasings.values()) > 30, phrasings


@pytest.mark.parametrize(
    "name",
    [
        r"(?<!US )(?<!imperial )(?:gallon|pint|fluid ounce)",
        r"(?<!US liquid )quart",
        r"(?<!US )(?<!imp )(?:gal|fl oz)\b",
        r"(?<!metric )\bton(?!ne)",
        r"(?<!decimal )\b(?:kilo|mega|giga)byte",
        r"(?<!decimal )\b[kMG]B\b",
        r"\bin in\b|[0-9] in to\b",
        r"between|until|weekday",
        r"[0-9]/[0-9]",
    ],
)
def test_no_name_of_several_meanings_is_left_open(samples, name):
    assert not [words_of(e) for e in samples if re.search(name, words_of(e))]


def test_dates_come_in_five_forms_on_every_day_of_the_year(samples, read):
    text = "\n".join(words_of(e) for e in samples)
    for form in (
        r"\b[0-9]{4}-[0-9]{2}-[0-9]{2}\b",
        r"\b[0-9]{1,2} September [0-9]{4}",
        r"September [0-9]{1,2}, [0-9]{4}",
        r"\b[0-9]{1,2} Sep [0-9]{4}",
        r"Sep [0-9]{1,2}, [0-9]{4}",
    ):
        assert len(re.findall(form, text)) > 50, form
    days = {problem[1][1:] for problem in read if problem[0] in ("date", "days", "weekday")}
    assert len(days) == 366


def test_examples_are_far_shorter_than_a_row(samples):
    renderer = Renderer(train_tokenizer((Units(),), seed=42))
    lengths = [len(renderer.encode(e)[0]) for e in samples[:1000]]
    assert max(lengths) < 100


# Scoring.


def with_part(example, index, part, value):
    reply = copy.deepcopy(example["messages"])
    reply[index][part] = value
    return reply


def with_code(example, code, *, output=None, last=None):
    printed = UnitsSession().call("python", {"code": code}) if output is None else output
    return [example["messages"][0], call(code), tool(printed), assistant(last or ANSWER % printed)]


def moved_digit(text, generator):
    """`text` with one of its digits from 1 to 8 made larger by one."""
    places = [at for at, sign in enumerate(text) if sign in "12345678"]
    at = generator.choice(places)
    return f"{text[:at]}{int(text[at]) + 1}{text[at + 1 :]}"


def in_pairs(examples):
    """Each example with the next, where it gets another answer."""
    return [(e, o) for e, o in itertools.pairwise(examples) if e["answer"] != o["answer"]]


CORRUPTIONS = {
    "nothing": lambda e, o: [],
    "no call": lambda e, o: [e["messages"][0], e["messages"][3]],
    "another problem": lambda e, o: o["messages"],
    "another question": lambda e, o: [o["messages"][0], *e["messages"][1:]],
    "another problem's reply": lambda e, o: [e["messages"][0], *o["messages"][1:]],
    "another problem's call": lambda e, o: with_code(e, code_of(o)),
    "another call, the right answer": lambda e, o: with_code(
        e, code_of(o), last=ANSWER % e["answer"]
    ),
    "another call, a forged output": lambda e, o: with_code(e, code_of(o), output=e["answer"]),
    "no call that runs, a forged output": lambda e, o: with_code(e, "now()", output=e["answer"]),
    "a forged output": lambda e, o: with_part(e, 2, "content", o["answer"]),
    "a forged output, repeated": lambda e, o: with_code(e, code_of(e), output=o["answer"]),
    "another answer": lambda e, o: with_part(e, 3, "content", ANSWER % o["answer"]),
    "two answers": lambda e, o: with_part(e, 3, "content", f"{ANSWER % e['answer']} Yes."),
    "an answer without its full stop": lambda e, o: with_part(
        e, 3, "content", f"The answer is {e['answer']}"
    ),
    "an answer in other words": lambda e, o: with_part(e, 3, "content", f"It is {e['answer']}."),
    "a space too many": lambda e, o: with_part(e, 3, "content", ANSWER % f" {e['answer']}"),
    "words before the call": lambda e, o: with_part(e, 1, "content", "So:"),
    "two calls at once": lambda e, o: with_part(
        e, 1, "tool_calls", e["messages"][1]["tool_calls"] * 2
    ),
    "a second call": lambda e, o: [*e["messages"][:3], *e["messages"][1:]],
    "a call within the last words": lambda e, o: with_part(
        e, 3, "tool_calls", e["messages"][1]["tool_calls"]
    ),
    "an output of another name": lambda e, o: with_part(e, 2, "name", "bash"),
    "an error as the answer": lambda e, o: with_code(e, "convert(1,'km','kg')"),
    "spaces in the call": lambda e, o: with_code(e, f" {code_of(e)}"),
}


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corrupted_reply_scores_0_and_says_why(samples, name):
    for example, other in in_pairs(samples[:NUM]):
        score = Units().score(example, CORRUPTIONS[name](example, other))
        assert score.value == 0, example
        assert score.reason


def test_any_digit_of_the_call_or_the_answer_that_is_wrong_scores_0(samples):
    draws = random.Random(0)
    for example in samples[:1000]:
        assert Units().score(example, example["messages"]).value == 1
        if re.search("[1-8]", example["answer"]):
            changed = ANSWER % moved_digit(example["answer"], draws)
            assert Units().score(example, with_part(example, 3, "content", changed)).value == 0
        if re.search("[1-8]", code_of(example)):
            changed = moved_digit(code_of(example), draws)
            assert Units().score(example, with_code(example, changed)).value == 0


def test_the_right_value_by_another_call_scores_0(samples):
    """Two dates equally far apart, another day of the same name, a value converted by head."""
    tried = Counter()
    for example in samples[:3000]:
        code, kind = code_of(example), example["metadata"]["kind"]
        if kind in ("days", "weekday"):
            year = re.search("'([0-9]{4})", code)[1]
            other = code.replace(f"'{year}", f"'{int(year) + 400}")
            if kind == "days" and other.count(str(int(year) + 400)) < 2:
                continue
        elif kind == "date":
            other = f"date('{example['answer']}')+0"
        elif kind in PAIRS and "about" not in example["answer"]:
            value, unit = example["answer"].split(" ", 1)
            other = f"convert({value},'{unit}','{unit}')"
        else:
            continue
        reply = with_code(example, other)
        if reply[2]["content"].startswith("error"):
            continue  # too many decimals to say it so
        assert reply[2:] == example["messages"][2:], other
        assert Units().score(example, reply).value == 0
        tried[kind] += 1
    assert len(tried) == len(PAIRS) + 3


def test_rounding_hides_no_wrong_digit_of_the_call():
    for example in draw(3000, "long", max_digits=6, max_decimals=4, kinds=["length"]):
        code = code_of(example)
        value = numbers_of(example)
        wrong = code.replace(value, f"{value}{'.' * ('.' not in value)}00001")
        assert Units().score(example, with_code(example, wrong)).value == 0


def test_the_same_call_in_another_spelling_scores_1(samples):
    spelled = Counter()
    for example in samples[:3000]:
        code = code_of(example)
        if code.startswith("convert"):
            value = numbers_of(example)
            other = code.replace(value, f"{value}{'.' * ('.' not in value)}0")
        elif code.startswith("base(0x"):
            other = code.upper().replace("BASE", "base").replace("0X", "0x")
        else:
            continue
        spelled[code.split("(")[0]] += other != code
        assert Units().score(example, with_code(example, other)).value == 1
    assert min(spelled["convert"], spelled["base"]) > 20


# Metrics.


def turn(code, says):
    return Turn([call(code), tool(UnitsSession().call("python", {"code": code})), assistant(says)])


FAKES = {  # what it does, then how many of the three steps it does in every problem
    "gold": (lambda e, o: Turn(e["messages"][1:]), 4),
    "silence": (lambda e, o: Turn([], "silent"), 0),
    "no call": (lambda e, o: Turn([assistant(ANSWER % e["answer"])]), 0),
    "no call that runs": (lambda e, o: turn("now()", ANSWER % e["answer"]), 0),
    "another call": (lambda e, o: turn(code_of(o), ANSWER % o["answer"]), 1),
    "another answer": (lambda e, o: turn(code_of(e), ANSWER % o["answer"]), 2),
    "the answer alone": (lambda e, o: turn(code_of(e), e["answer"]), 2),
    "no end": (lambda e, o: Turn(e["messages"][1:3], "too long"), 2),
    "a second call": (lambda e, o: Turn([*e["messages"][1:3], *e["messages"][1:]]), 3),
    "two calls at once": (
        lambda e, o: Turn(
            with_part(e, 1, "tool_calls", e["messages"][1]["tool_calls"] * 2)[1:],
        ),
        3,
    ),
    "a fault at the end": (lambda e, o: Turn(e["messages"][1:], "context is full"), 3),
}


@pytest.mark.parametrize("name", FAKES)
def test_metrics_count_how_far_a_reply_comes(name):
    fake, steps = FAKES[name]
    examples = distinct_examples(TASK, split="test", num_examples=NUM)
    others = [*examples[1:], examples[0]]
    by_question = {words_of(e): (e, o) for e, o in zip(examples, others, strict=True)}
    assert len(by_question) == NUM
    assert all(e["answer"] != o["answer"] for e, o in by_question.values())

    def answer(conversations):
        asked = [by_question[conversation[-1]["content"]] for conversation in conversations]
        return [fake(e, other) for e, other in asked]

    result = TASK.evaluate(answer, split="test", num_examples=NUM)
    counted = ("call_runs", "call_right", "answer_repeats_tool", "exact")
    assert [result[key].count for key in counted] == [NUM * (steps > at) for at in range(4)]
    groups = Counter(
        group
        for e in examples
        for group in (f"kind {e['metadata']['kind']}", f"digits {e['difficulty']}")
    )
    assert {m.group: m.total for m in result.metrics if m.group} == groups
    assert {m.group.split()[0] for m in result.metrics if m.group} == {"kind", "digits"}


# Settings: each does what its help says.


@pytest.mark.parametrize("kinds", [["length"], ["base", "weekday"], ["date", "days"], list(KINDS)])
def test_only_the_kinds_asked_for_occur_and_all_of_them(kinds):
    assert {e["metadata"]["kind"] for e in draw(500, kinds=kinds)} == set(kinds)


@pytest.mark.parametrize("digits", [1, 2, 4, 6])
@pytest.mark.parametrize("decimals", [0, 1, 4])
def test_quantities_have_the_digits_asked_for(digits, decimals):
    kinds = ["length", "temperature", "data"]
    settings = {"max_digits": digits, "max_decimals": decimals, "kinds": kinds}
    values = [numbers_of(e).lstrip("-").partition(".") for e in draw(2000, **settings)]
    assert {len(whole) for whole, _, _ in values} == set(range(1, digits + 1))
    assert {len(tail) for _, _, tail in values} == set(range(decimals + 1))


@pytest.mark.parametrize("rate", [0.0, 0.4, 1.0])
def test_decimal_rate_and_negative_rate_are_shares(rate):
    settings = {"decimal_rate": rate, "negative_rate": rate, "kinds": ["temperature"]}
    examples = draw(3000, **settings)
    assert within_999(sum("." in numbers_of(e) for e in examples), 3000, rate)
    signs = ["-" in numbers_of(e) for e in examples if "'K'," not in code_of(e)]
    assert within_999(sum(signs), len(signs), rate)


def test_lengths_are_never_negative_and_no_temperature_is_minus_one():
    examples = draw(5000, negative_rate=1.0, max_digits=1)
    assert not any("convert(-1," in code_of(e) for e in examples)
    assert all(e["metadata"]["kind"] == "temperature" for e in examples if "(-" in code_of(e))


@pytest.mark.parametrize("bits", [4, 16, 32])
def test_numbers_in_bases_have_at_most_max_bits_binary_digits(bits):
    sizes = {read_question(words_of(e))[1] for e in draw(1000, kinds=["base"], max_bits=bits)}
    assert max(sizes).bit_length() == bits
    assert min(sizes) >= 4


def test_first_dates_and_days_apart_lie_in_their_ranges():
    settings = {"min_year": 1999, "max_year": 2000, "max_days": 3}
    years, apart = set(), set()
    for example in draw(3000, kinds=["date", "days", "weekday"], **settings):
        problem = read_question(words_of(example))
        years.add(problem[1][0])
        if problem[0] == "date":
            apart.add(problem[2])
    assert years == {1999, 2000}
    assert apart == {-3, -2, -1, 1, 2, 3}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("kinds", []),
        ("kinds", ["lengths"]),
        *itertools.product(["max_digits"], [0, 7]),
        *itertools.product(["max_decimals"], [-1, 5]),
        *itertools.product(["decimal_rate", "negative_rate"], [-0.1, 1.1, math.nan]),
        *itertools.product(["max_bits"], [3, 33]),
        *itertools.product(["min_year"], [1582, 2100]),
        *itertools.product(["max_year"], [1899, 3000]),
        *itertools.product(["max_days"], [0, 100_000]),
    ],
)
def test_a_setting_out_of_range_is_an_error_that_names_it(key, value):
    named = "max_year" if (key, value) == ("min_year", 2100) else key
    with pytest.raises(TaskError, match=rf"units: .*\b{named}\b"):
        Units.Config(**{key: value})


def test_the_largest_and_the_smallest_settings_make_examples():
    widest = {"max_digits": 6, "max_decimals": 4, "max_bits": 32, "max_days": 99_999}
    least = {"max_digits": 1, "max_decimals": 0, "max_bits": 4, "max_days": 1}
    for settings in (
        {**widest, "min_year": 1583, "max_year": 2999},
        {**least, "min_year": 2999, "max_year": 2999},
    ):
        for example in draw(1000, **settings):
            assert answer_of(read_question(words_of(example))) == example["answer"]
