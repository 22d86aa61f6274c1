"""Calculator over 100,000 samples: an independent reader for prompts, 50 digits for answers."""

from __future__ import annotations

import copy
import itertools
import math
import random
import re
from collections import Counter
from typing import NamedTuple

import pytest
from expression_reader import (
    UnreadableError,
    depth_of,
    exact_value,
    key_of,
    numbers_of,
    operators_of,
    read_code,
    read_expression,
    read_prompt,
    strip_phrasing,
    units_off,
)

from mixgen.errors import TaskError
from mixgen.seeding import rng
from mixgen.tasks import base
from mixgen.tasks.base import assistant, call, tool, user
from mixgen.tasks.calculator import Calculator
from mixgen.tools.expression import BINARY, FUNCTIONS, evaluate, format_value

NUM_SAMPLES = 100_000
PLAIN_NUMBER = re.compile(r"0|-?(?:[1-9][0-9]*|0(?=\.))(?:\.[0-9]*[1-9])?")
Z_999 = 3.2905  # a normal variable lies within so many standard deviations with probability 99.9 %


class Problem(NamedTuple):
    prompt: str
    code: str
    output: str
    last_words: str
    answer: str
    key: str
    split: str
    difficulty: int
    metadata: dict
    tree: tuple


def code_of(example):
    return example["messages"][1]["tool_calls"][0]["function"]["arguments"]["code"]


def draw(count, name, **settings):
    """`count` examples of a calculator with these settings."""
    task = Calculator(Calculator.Config(**settings))
    generator = rng(0, "test calculator", name)
    return [task.sample(generator) for _ in range(count)]


def trees(count, **settings):
    """The trees of `count` examples, read from their prompts."""
    return [
        read_prompt(example["messages"][0]["content"])
        for example in draw(count, "trees", **settings)
    ]


def within_999(count, total, share):
    """Whether `count` of `total` lies within the 99.9 % interval of a binomial variable."""
    return abs(count - total * share) <= Z_999 * math.sqrt(total * share * (1 - share))


@pytest.fixture(scope="module")
def problems():
    task = Calculator()
    generator = rng(0, "test calculator")
    drawn = []
    for _ in range(NUM_SAMPLES):
        example = task.sample(generator)
        question, calling, output, last = example["messages"]
        drawn.append(
            Problem(
                question["content"],
                calling["tool_calls"][0]["function"]["arguments"]["code"],
                output["content"],
                last["content"],
                example["answer"],
                example["key"],
                example["split"],
                example["difficulty"],
                example["metadata"],
                read_prompt(question["content"]),
            )
        )
    return drawn


@pytest.fixture(scope="module")
def examples():
    return draw(2000, "examples")


# The reader itself: one that let everything through would make the tests below pass.


@pytest.mark.parametrize(
    "text",
    [
        "3 plus 4 times 2",
        "3 plus 4 plus 2",
        "3 + 4 times 2",
        "3 plus 4 * 2",
        "the sine of 3 plus 4",
        "4 plus the sine of 3",
        "4 - the sine of 3",
        "the sine of 3 ^ 2",
        "the sine of negative 3",
        "the sine of -3",
        "the sine of the cosine of 3",
        "negative 3 plus 4",
        "negative 3 + 4",
        "-3 plus 4",
        "3 plus -4",
        "2 to the power of 3 to the power of 2",
        "the absolute value of 3 - 4",
        "3 4",
        "(3 + 4",
        "3 + 4)",
        "3 +",
        "* 3",
        "",
        "()",
        "sin 3",
        "three plus 4",
        "3 pluss 4",
        "3e5 + 1",
        "1.2.3",
    ],
)
def test_the_reader_refuses_what_can_be_read_in_two_ways_or_in_none(text):
    with pytest.raises(UnreadableError):
        read_expression(text)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("2 + 3 × 4 - 6 ÷ 3", "2+3*4-6/3"),
        ("2 - 3 - 4", "(2-3)-4"),
        ("2 ^ 3 ** 2", "2**(3**2)"),
        ("-2 ^ 2", "-(2**2)"),
        ("2 * -3 ^ -2", "2*(-(3**(-2)))"),
        ("(-2) ^ 2", "(-2)**2"),
        ("7 // 2 % 3 × 5", "((7//2)%3)*5"),
        ("(the sine of (3 plus 4)) mod abs(negative 2)", "sin(3+4)%abs(-2)"),
        ("(negative 861) multiplied by 7809.6", "(-861)*7809.6"),
        ("the factorial of factorial(3)", "factorial(factorial(3))"),
    ],
)
def test_the_reader_reads_symbols_as_python_does(text, code):
    assert read_expression(text) == read_code(code)


def test_exact_values_are_good_to_50_digits():
    assert exact_value(read_code("2**100+1")) == 2**100 + 1
    assert exact_value(read_code("(-7)//2*10+(-7)%4")) == -39
    assert units_off("0.1411200080598672221007448", exact_value(read_code("sin(3)"))) < 1e-14
    assert units_off("0.3", exact_value(read_code("0.1+0.2"))) < 1e-38
    assert units_off("1.000000001", exact_value(read_code("1"))) == pytest.approx(1)


# Truth of what is generated.


def test_every_tool_message_and_answer_is_what_the_executor_computes_for_the_call(problems):
    for problem in problems:
        value = evaluate(problem.code)
        assert problem.output == problem.answer == format_value(value), problem
        assert problem.last_words == f"The answer is {problem.answer}.", problem


def test_every_prompt_is_read_in_one_way_only_and_that_is_the_code_and_the_key(problems):
    for problem in problems:
        assert problem.tree == read_code(problem.code), problem
        assert key_of(problem.tree) == problem.key, problem


def test_every_answer_agrees_with_50_digit_arithmetic_to_ten_significant_digits(problems):
    wrong = []
    for problem in problems:
        off = units_off(problem.answer, exact_value(problem.tree))
        if off > 1:
            wrong.append((round(off, 1), problem.prompt, problem.answer))
    assert not wrong, (
        f"{len(wrong)} of {len(problems)} off by more than one unit: {sorted(wrong)[-10:]}"
    )


def test_whole_answers_of_whole_problems_are_printed_in_full(problems):
    closed = {"+", "-", "*", "//", "%", "**", "abs", "factorial"}
    whole = [
        problem
        for problem in problems
        if "." not in problem.code and closed.issuperset(operators_of(problem.tree))
    ]
    assert len(whole) > NUM_SAMPLES / 20
    for problem in whole:
        assert problem.answer == str(exact_value(problem.tree)), problem


def test_no_answer_has_an_exponent_a_trailing_zero_or_more_than_ten_significant_digits(problems):
    for problem in problems:
        assert PLAIN_NUMBER.fullmatch(problem.answer), problem
        if "." in problem.answer:
            assert len(problem.answer.lstrip("-0.").replace(".", "")) <= 10, problem


def test_difficulty_and_metadata_say_what_the_tree_holds(problems):
    for problem in problems:
        names = operators_of(problem.tree)
        assert problem.difficulty == len(names), problem
        assert Counter(problem.metadata["operators"]) == Counter(names), problem
        assert problem.metadata["depth"] == depth_of(problem.tree), problem


def test_every_operator_function_depth_and_spelling_occurs_in_a_fair_share(problems):
    names = Counter(name for problem in problems for name in operators_of(problem.tree))
    assert set(names) == {*BINARY, *FUNCTIONS}
    for operator in BINARY:
        assert names[operator] > 0.04 * names.total(), operator
    for function in FUNCTIONS:
        assert names[function] > 0.01 * names.total(), function
    depths = Counter(depth_of(problem.tree) for problem in problems)
    for depth in (1, 2, 3):
        assert within_999(depths[depth], NUM_SAMPLES, 1 / 3), depths
    text = "\n".join(strip_phrasing(problem.prompt) for problem in problems)
    for spelling in [
        "×",
        "÷",
        "^",
        "**",
        " times ",
        " multiplied by ",
        " over ",
        " mod ",
        " modulo ",
        " raised to ",
    ]:
        assert text.count(spelling) > NUM_SAMPLES / 100, spelling
    in_words = sum(
        bool(re.search("[a-z] [a-z(]", strip_phrasing(problem.prompt))) for problem in problems
    )
    assert 0.2 < in_words / NUM_SAMPLES < 0.8


# Splits and keys.


def test_splits_hold_their_shares_of_the_distinct_keys_and_no_key_is_in_two(problems):
    split_of_key = {}
    for problem in problems:
        assert split_of_key.setdefault(problem.key, problem.split) == problem.split, problem
    counts = Counter(split_of_key.values())
    assert set(counts) == {"train", "validation", "test"}
    for split, share in (("train", 0.96), ("validation", 0.02), ("test", 0.02)):
        assert within_999(counts[split], counts.total(), share), counts


def test_one_problem_in_other_words_or_with_operands_turned_has_one_key(problems):
    groups = {}
    for problem in problems:
        groups.setdefault(key_of(problem.tree), []).append(problem)
    reworded = {
        key: group
        for key, group in groups.items()
        if len({strip_phrasing(p.prompt) for p in group}) > 1
    }
    turned = {key: group for key, group in groups.items() if len({p.tree for p in group}) > 1}
    assert len(reworded) > 100
    assert len(turned) > 20
    for group in (reworded | turned).values():
        assert len({problem.key for problem in group}) == 1, group
        assert len({problem.answer for problem in group}) == 1, group


def test_different_problems_have_different_keys(problems):
    trees_of_key = {}
    for problem in problems:
        trees_of_key.setdefault(problem.key, set()).add(key_of(problem.tree))
    assert all(len(found) == 1 for found in trees_of_key.values())
    code_key = {
        key_of(read_code(code))
        for code in ["3-4", "4-3", "-3-4", "3-(-4)", "-(3-4)", "(-2)**2", "-2**2"]
    }
    assert len(code_key) == 7


def test_five_thousand_draws_hold_at_least_4500_distinct_problems(problems):
    for start in range(0, NUM_SAMPLES, 5000):
        assert len({problem.key for problem in problems[start : start + 5000]}) >= 4500


# Scoring.


def changed_digit(text, generator):
    """`text` with one of its digits replaced by another."""
    place = generator.choice([index for index, sign in enumerate(text) if sign.isdigit()])
    digit = generator.choice([digit for digit in "123456789" if digit != text[place]])
    return f"{text[:place]}{digit}{text[place + 1 :]}"


def with_part(example, index, part, value):
    """The gold reply with one field of one message replaced."""
    reply = copy.deepcopy(example["messages"])
    reply[index][part] = value
    return reply


def with_code(example, code, *, last=None, output=None):
    """A reply with other code and, unless given, the executor's output and the gold last words."""
    question, _, _, gold_last = example["messages"]
    printed = Calculator().tools().call("python", {"code": code}) if output is None else output
    return [question, call(code), tool(printed), gold_last if last is None else assistant(last)]


def renamed_tool(example):
    reply = copy.deepcopy(example["messages"])
    reply[1]["tool_calls"][0]["function"]["name"] = "bash"
    return reply


TAGS = "<|python_start|>1+1<|python_end|><|output_start|>2<|output_end|>"
CORRUPTIONS = {
    "nothing at all": lambda gold, other, draws: [],
    "the question alone": lambda gold, other, draws: gold["messages"][:1],
    "no tool message": lambda gold, other, draws: [*gold["messages"][:2], gold["messages"][3]],
    "no call": lambda gold, other, draws: [gold["messages"][0], gold["messages"][3]],
    "no last words": lambda gold, other, draws: gold["messages"][:3],
    "empty last words": lambda gold, other, draws: with_part(gold, 3, "content", ""),
    "a message too many": lambda gold, other, draws: [*gold["messages"], gold["messages"][3]],
    "a wrong digit in the last words": lambda gold, other, draws: with_part(
        gold, 3, "content", changed_digit(gold["messages"][3]["content"], draws)
    ),
    "a second answer": lambda gold, other, draws: with_part(
        gold, 3, "content", f"{gold['messages'][3]['content']} Or {other['answer']}."
    ),
    "an altered tool output": lambda gold, other, draws: with_part(
        gold, 2, "content", changed_digit(gold["messages"][2]["content"], draws)
    ),
    "an empty tool output": lambda gold, other, draws: with_part(gold, 2, "content", ""),
    "a wrong call, the right number": lambda gold, other, draws: with_code(
        gold, f"{code_of(gold)}+1e3"
    ),
    "a wrong call, its number": lambda gold, other, draws: with_code(
        gold,
        f"{code_of(gold)}+1e3",
        last=f"The answer is {format_value(evaluate(f'{code_of(gold)}+1e3'))}.",
    ),
    "a wrong call, a faked output": lambda gold, other, draws: with_code(
        gold, f"{code_of(gold)}+1e3", output=gold["answer"]
    ),
    "nonsense, the right number": lambda gold, other, draws: with_code(gold, "foo(bar)+!"),
    "nonsense, a faked output": lambda gold, other, draws: with_code(
        gold, "foo(bar)+!", output=gold["answer"]
    ),
    "a call that needs eval": lambda gold, other, draws: with_code(
        gold, f"__import__('os').getpid()*0+{gold['answer']}", output=gold["answer"]
    ),
    "a call of another tool": lambda gold, other, draws: renamed_tool(gold),
    "another problem's text": lambda gold, other, draws: other["messages"],
    "another problem's reply": lambda gold, other, draws: [
        gold["messages"][0],
        *other["messages"][1:],
    ],
    "tag soup as last words": lambda gold, other, draws: with_part(
        gold, 3, "content", f"{TAGS}{gold['messages'][3]['content']}"
    ),
    "tag soup alone": lambda gold, other, draws: [gold["messages"][0], assistant(TAGS * 20)],
    "tag soup everywhere": lambda gold, other, draws: [
        {**message, "content": TAGS} for message in gold["messages"]
    ],
    "tag soup as code": lambda gold, other, draws: with_code(gold, TAGS, output=gold["answer"]),
    "words beside the call": lambda gold, other, draws: with_part(gold, 1, "content", "42"),
    "two calls at once": lambda gold, other, draws: with_part(
        gold, 1, "tool_calls", gold["messages"][1]["tool_calls"] * 2
    ),
    "a call without code": lambda gold, other, draws: with_part(gold, 1, "tool_calls", [{}]),
    "a call within the last words": lambda gold, other, draws: with_part(
        gold, 3, "tool_calls", gold["messages"][1]["tool_calls"]
    ),
    "a call within the question": lambda gold, other, draws: with_part(
        gold, 0, "tool_calls", gold["messages"][1]["tool_calls"]
    ),
    "a call within the tool's output": lambda gold, other, draws: with_part(
        gold, 2, "tool_calls", gold["messages"][1]["tool_calls"]
    ),
    "a tool message by the assistant": lambda gold, other, draws: with_part(
        gold, 2, "role", "assistant"
    ),
    "an output by another name": lambda gold, other, draws: with_part(gold, 2, "name", "bash"),
    "an easier question": lambda gold, other, draws: [
        user("What is 1 + 1?"),
        *gold["messages"][1:],
    ],
}


def test_gold_replies_score_1(examples):
    task = Calculator()
    for example in examples:
        assert task.score(example, example["messages"]).value == 1, example
        assert task.score(example, copy.deepcopy(example["messages"])).reason == "", example


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corrupted_reply_scores_below_1_and_says_why(examples, name):
    task = Calculator()
    draws = random.Random(0)
    for example, other in itertools.pairwise(examples[:300]):
        if example["answer"] == other["answer"]:
            continue
        reply = CORRUPTIONS[name](example, other, draws)
        assert reply != example["messages"]
        score = task.score(example, reply)
        assert score.value < 1, (score, reply)
        assert score.reason


def test_a_longer_way_to_the_same_value_scores_1(examples):
    task = Calculator()
    for example in examples[:300]:
        code = f"({code_of(example)})*1"
        assert task.score(example, with_code(example, code)).value == 1, code


def test_last_words_that_differ_from_the_tools_output_score_below_1():
    task = Calculator()
    large = [
        e
        for e in draw(20_000, "large")
        if len(e["answer"].lstrip("-")) >= 11 and "." not in e["answer"]
    ]
    assert len(large) > 20
    for example in large:
        reply = with_code(example, f"{code_of(example)}+1")
        assert reply[2]["content"] not in reply[3]["content"]
        assert task.score(example, reply).value < 1, reply


# Settings: each does what its help says.


@pytest.mark.parametrize(("low", "high"), [(1, 1), (1, 2), (2, 2), (2, 3), (3, 3)])
def test_depth_lies_between_min_depth_and_max_depth_and_reaches_both(low, high):
    depths = {depth_of(tree) for tree in trees(1000, min_depth=low, max_depth=high)}
    assert depths == set(range(low, high + 1))


@pytest.mark.parametrize("digits", [1, 2, 3, 4])
def test_no_whole_operand_has_more_than_max_digits_digits(digits):
    whole = {
        number
        for tree in trees(3000, max_digits=digits)
        for number in numbers_of(tree)
        if "." not in number
    }
    longest = max(whole, key=lambda number: len(number.lstrip("-")))
    assert len(longest.lstrip("-")) == digits, longest


@pytest.mark.parametrize("digits", [1, 2, 3, 4])
def test_no_decimal_has_more_than_max_decimals_digits_after_its_point(digits):
    numbers = [number for tree in trees(3000, max_decimals=digits) for number in numbers_of(tree)]
    assert {len(number.partition(".")[2]) for number in numbers} == set(range(digits + 1))


@pytest.mark.parametrize("setting", [{"max_decimals": 0}, {"decimal_rate": 0.0}])
def test_without_decimals_every_operand_is_whole(setting):
    assert all("." not in number for tree in trees(5000, **setting) for number in numbers_of(tree))


def test_a_negative_rate_of_0_makes_no_negative_operand():
    prompts = [
        example["messages"][0]["content"] for example in draw(5000, "positive", negative_rate=0.0)
    ]
    assert all("negative" not in prompt for prompt in prompts)
    assert all(
        not number.startswith("-")
        for prompt in prompts
        for number in numbers_of(read_prompt(prompt))
    )


@pytest.mark.parametrize("rate", [0.0, 0.15, 0.5, 1.0])
def test_negative_rate_is_the_share_of_negative_operands(rate):
    found = trees(
        3000, negative_rate=rate, operators=["*"], functions=[], max_depth=1, decimal_rate=0.0
    )
    numbers = [number for tree in found for number in numbers_of(tree) if number != "0"]
    assert within_999(sum(number.startswith("-") for number in numbers), len(numbers), rate)


@pytest.mark.parametrize("rate", [0.0, 0.25, 0.7, 1.0])
def test_decimal_rate_is_the_share_of_decimals_among_operands(rate):
    found = trees(3000, decimal_rate=rate, operators=["*"], functions=[], max_depth=1)
    numbers = [number for tree in found for number in numbers_of(tree)]
    assert within_999(sum("." in number for number in numbers), len(numbers), rate)


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.8, 1.0])
def test_function_rate_is_the_share_of_functions_among_nodes(rate):
    names = [
        name
        for tree in trees(3000, function_rate=rate, functions=["abs"], operators=["*"], max_depth=1)
        for name in operators_of(tree)
    ]
    assert within_999(names.count("abs"), len(names), rate)


def test_a_function_rate_of_0_makes_no_function():
    found = {name for tree in trees(3000, function_rate=0.0) for name in operators_of(tree)}
    assert found == set(BINARY)


@pytest.mark.parametrize("operators", [["+"], ["-", "/"], ["**"], ["%", "//"], list(BINARY)])
def test_only_the_operators_asked_for_occur_and_all_of_them(operators):
    found = {
        name
        for tree in trees(2000, operators=operators, functions=[])
        for name in operators_of(tree)
    }
    assert found == set(operators)


@pytest.mark.parametrize(
    "functions", [["sqrt"], ["sin", "abs"], ["factorial", "exp", "acos"], list(FUNCTIONS)]
)
def test_only_the_functions_asked_for_occur_and_all_of_them(functions):
    found = {name for tree in trees(2000, functions=functions) for name in operators_of(tree)}
    assert found - set(BINARY) == set(functions)


def test_without_functions_no_function_occurs_whatever_their_rate():
    found = {
        name for tree in trees(1000, functions=[], function_rate=1.0) for name in operators_of(tree)
    }
    assert found == set(BINARY)


@pytest.mark.parametrize(
    ("key", "settings"),
    [
        ("min_depth", {"min_depth": 0}),
        ("min_depth", {"min_depth": 4, "max_depth": 4}),
        ("max_depth", {"max_depth": 4}),
        ("max_depth", {"min_depth": 2, "max_depth": 1}),
        ("max_digits", {"max_digits": 0}),
        ("max_digits", {"max_digits": 5}),
        ("max_decimals", {"max_decimals": -1}),
        ("max_decimals", {"max_decimals": 5}),
        ("decimal_rate", {"decimal_rate": -0.1}),
        ("decimal_rate", {"decimal_rate": 1.1}),
        ("decimal_rate", {"decimal_rate": math.nan}),
        ("negative_rate", {"negative_rate": 2}),
        ("negative_rate", {"negative_rate": math.nan}),
        ("function_rate", {"function_rate": -1}),
        ("function_rate", {"function_rate": math.inf}),
        ("operators", {"operators": []}),
        ("operators", {"operators": ["+", "^"]}),
        ("functions", {"functions": ["sinus"]}),
        ("functions", {"functions": ["+"]}),
    ],
)
def test_a_setting_out_of_range_is_an_error_that_names_it(key, settings):
    with pytest.raises(TaskError, match=rf"\b{key}\b"):
        Calculator.Config(**settings)


def test_an_unknown_function_is_told_the_nearest_one():
    with pytest.raises(TaskError, match="did you mean 'factorial'"):
        Calculator.Config(functions=["factoral"])


class CountingRandom(random.Random):
    """Fails after five million draws, so that an endless search becomes a failing test."""

    count = 0

    def random(self):
        self.count += 1
        assert self.count < 5_000_000, "five million draws and no example"
        return super().random()


def test_settings_that_no_expression_satisfies_are_an_error_and_no_endless_search():
    with pytest.raises(TaskError, match="calculator"):
        task = Calculator(
            Calculator.Config(functions=["acos"], function_rate=1.0, max_decimals=0, min_depth=3)
        )
        task.sample(CountingRandom(0))


def test_settings_that_leave_a_split_empty_are_an_error(monkeypatch):
    monkeypatch.setattr(base, "MAX_REJECTIONS", 1000)
    task = Calculator(Calculator.Config(functions=["factorial"], function_rate=1.0, min_depth=3))
    with pytest.raises(TaskError, match=r"calculator.*distinct problems"):
        for split in ("train", "validation", "test"):
            task.sample_from(split, CountingRandom(0))
