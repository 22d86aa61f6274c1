"""Tables: an independent reader of the words answers every question; the scorer under attack."""

from __future__ import annotations

import copy
import itertools
import math
import random
import re
from collections import Counter

import pytest
from tables_reader import UnreadableError, answer_of, key_of, read_words, written

from mixgen.errors import TaskError
from mixgen.seeding import rng
from mixgen.tasks._one_call import ANSWER
from mixgen.tasks.base import SPLITS, assistant, call, tool, user
from mixgen.tasks.tables import OF_LISTS, OF_TABLES, UNCONDITIONAL, Tables
from mixgen.tasks.trial import Turn, distinct_examples
from mixgen.tools.tables import FUNCTIONS, LABELLED, TableSession

NUM_SAMPLES = 6_000
TASK = Tables()  # of all evaluations: it keeps the problems of a split
TINY = {"max_digits": 1, "max_decimals": 0, "max_numbers": 3, "max_rows": 2}
STEPS = ("call_runs", "value_right", "call_right", "answer_repeats_tool")
LAYOUTS = ("csv", "tabs", "markdown")
NUMBER = r"-?[0-9]+(?:\.[0-9]+)?"
Z_999 = 3.2905  # a normal variable lies within so many standard deviations with probability 99.9 %


def code_of(example):
    return example["messages"][1]["tool_calls"][0]["function"]["arguments"]["code"]


def words_of(example):
    return example["messages"][0]["content"]


def table_of(code):
    """The lines between the quotes, and the last line."""
    opening, *lines, closing, last = code.split("\n")
    assert (opening, closing) == ("table='''", "'''")
    return lines, last


def rows_of_table(code):
    """The header and the rows of the call's table, as lists of texts, and the last line."""
    lines, last = table_of(code)
    rows = [re.split(r"[|,\t]", line.strip("|")) for line in lines if not line.startswith("|-")]
    return rows, last


def is_table(example):
    return example["metadata"]["form"] != "list"


def draw(count, **settings):
    """`count` examples of a task with these settings."""
    task = Tables(Tables.Config(**settings))
    generator = rng(0, "test tables", str(settings))
    return [task.sample(generator) for _ in range(count)]


def within_999(count, total, share):
    return abs(count - total * share) <= Z_999 * math.sqrt(total * share * (1 - share))


@pytest.fixture(scope="module")
def examples():
    return draw(NUM_SAMPLES)


@pytest.fixture(scope="module")
def readings(examples):
    return [read_words(words_of(example)) for example in examples]


# The reader itself: one that let everything through would make the tests below pass.


@pytest.mark.parametrize(
    "text",
    [
        "",
        "What is the mean?",
        "What is the mean of these numbers?",
        "What is the mean of 4, 8 and 15?\n4, 8, 15",
        "What is the mean of these numbers: 4, 8, x",
        "What is the mode of those of these numbers that are big: 4, 8",
        "What is the variance of these numbers: 4, 8",
        "4, 8\nWhat is the sum of these numbers?\n15, 16",
        "What is the sum of these numbers?\n4 -8",
        "What is the mean price?",
        "item,price\npen,4\ncup,5",
        "What is the mean price?\nWhat is the mean price?",
        "What is the mean price?\nitem,price\npen,4\npen,5",
    ],
)
def test_the_reader_refuses_what_has_not_exactly_one_reading(text):
    with pytest.raises(UnreadableError):
        read_words(text)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("What is the median of 4, 8, 15 and 16?", "11.5"),
        ("Find the mean of these numbers: 1, 2, 2", "1.666666667"),
        ("Give the mode of these numbers.\n1\n2\n2", "2"),
        ("How many of 4, -8 and 15 are at most 4?", "2"),
        ("Sort 4, -8 and 0.5 in ascending order.", "-8, 0.5, 4"),
        ("Tell me the range of those of 1, 5 and 9 that are 5 or more.", "4"),
        ("Count the items whose color is red.\nitem,color,stock\npen,blue,4\ncup,red,5", "1"),
        ("Who has the highest age?\nname\tage\nAnn\t4\nCarla\t12", "Carla"),
        (
            "Of the pets whose kind is cat, which pet has the lowest age?\n"
            "|pet|age|kind|\n|-|-|-|\n|Rex|1|dog|\n|Luna|2|cat|",
            "Luna",
        ),
    ],
)
def test_the_reader_answers_as_a_person_does(text, answer):
    assert answer_of(read_words(text)) == answer


def test_written_numbers_are_exact_where_they_end_and_have_ten_digits_elsewhere():
    from fractions import Fraction

    for value, text in [
        (Fraction(1, 3), "0.3333333333"),
        (Fraction(-200, 3), "-66.66666667"),
        (Fraction(1, 8), "0.125"),
        (Fraction(123456789012, 10), "12345678901.2"),
        (Fraction(100), "100"),
        (Fraction(0), "0"),
    ]:
        assert written(value) == text


# Truth of what is generated.


def test_every_answer_is_what_the_users_words_ask_for(examples, readings):
    for example, reading in zip(examples, readings, strict=True):
        assert answer_of(reading) == example["answer"], example


@pytest.mark.parametrize(
    "settings",
    [
        TINY | {"decimal_rate": 1.0},
        {"max_rows": 6, "max_numbers": 12, "max_digits": 6, "max_decimals": 4, "decimal_rate": 1.0},
        {"condition_rate": 1.0, "negative_rate": 1.0, "min_columns": 3},
    ],
)
def test_answers_are_what_the_words_ask_for_in_other_settings_too(settings):
    for example in draw(1500, **settings):
        assert answer_of(read_words(words_of(example))) == example["answer"], example


def test_every_output_is_the_tools_and_the_last_words_repeat_it(examples):
    for example in examples:
        printed = TableSession().call("python", {"code": code_of(example)})
        assert example["messages"][2]["content"] == printed == example["answer"]
        assert example["messages"][3]["content"] == f"The answer is {printed}."


def test_metadata_and_difficulty_say_what_the_words_and_the_call_hold(examples, readings):
    for example, reading in zip(examples, readings, strict=True):
        kind = {"": "none", "==": "word"}.get(reading.comparison, "number")
        assert example["metadata"] == {
            "statistic": reading.statistic,
            "form": reading.form,
            "condition": kind,
        }
        if is_table(example):
            (_, *rows), _ = rows_of_table(code_of(example))
            num_cells = sum(len(row) for row in rows) + (kind != "none")
        else:
            num_cells = len(re.findall(NUMBER, code_of(example)))
        assert example["difficulty"] == num_cells, example


def test_the_call_repeats_the_table_as_it_is_shown_and_the_list_in_its_order(examples, readings):
    for example, reading in zip(examples, readings, strict=True):
        code = code_of(example)
        if is_table(example):
            lines, last = table_of(code)
            shown = "\n".join(lines)
            assert words_of(example).replace(shown, "").strip("\n").count("\n") == 0, example
        else:
            *lines, last = code.split("\n")
            assert len(lines) == (reading.comparison != "")
            numbers = re.search(r"\[(-?[0-9].*?)\]", code)[1].split(",")
            assert [written(value) for _, value, _ in reading.rows] == numbers
        assert last.startswith(f"{reading.statistic}(")


def test_a_table_is_the_same_tokens_in_the_question_and_in_the_call(examples):
    """Its first piece may differ: in the call a line's end is part of it."""
    from mixgen.encoding.tokenizer import PIECES

    for example in examples:
        if not is_table(example):
            continue
        shown = "\n".join(table_of(code_of(example))[0])
        asked, called = [re.findall(PIECES, text) for text in (words_of(example), code_of(example))]
        body = shown.partition("\n")[2]
        pieces = re.findall(PIECES, f"\n{body}")
        for text in (asked, called):
            assert any(
                text[at : at + len(pieces)] == pieces for at in range(len(text) - len(pieces) + 1)
            ), example


def test_every_statistic_form_condition_and_wording_occurs(examples, readings):
    total = len(examples)
    forms = Counter(reading.form for reading in readings)
    assert within_999(forms["list"], total, 0.5)
    assert all(within_999(forms[layout], total, 1 / 6) for layout in LAYOUTS)
    found = Counter((reading.form == "list", reading.statistic) for reading in readings)
    assert {name for is_list, name in found if is_list} == set(OF_LISTS)
    assert {name for is_list, name in found if not is_list} == set(OF_TABLES)
    for (is_list, _), count in found.items():
        assert within_999(count, total, 0.5 / len(OF_LISTS if is_list else OF_TABLES)), found
    compared = Counter(reading.comparison for reading in readings)
    assert min(compared[one] for one in ("==", ">", "<", ">=", "<=")) > total / 50, compared
    patterns = Counter(re.sub(rf"{NUMBER}|\n.*", "", words_of(e)) for e in examples)
    assert len(patterns) > 1000
    zeros = [r for r in readings if r.statistic == "count" and answer_of(r) == "0"]
    assert len(zeros) > 20


def test_a_third_of_the_tables_needs_words(examples):
    tables = [example["metadata"] for example in examples if is_table(example)]
    needy = [e for e in tables if e["condition"] == "word" or e["statistic"] in LABELLED]
    assert 0.29 < len(needy) / len(tables) < 0.37
    assert sum(e["condition"] == "word" for e in tables) > 0.09 * len(tables)


def test_which_rows_meet_a_condition_matters(readings):
    """A model that did not compare would be wrong: often some rows meet it and others do not."""
    shares = []
    for reading in readings:
        if reading.comparison and reading.statistic != "count":
            met = int(answer_of(reading._replace(statistic="count")))
            assert met > 0
            shares.append(met < len(reading.rows))
    assert sum(shares) > 0.6 * len(shares) > 1000


# Splits and keys.


def problems_and_keys(examples, readings):
    """The keys of each problem, and the wordings."""
    keys, words = {}, {}
    for example, reading in zip(examples, readings, strict=True):
        problem = key_of(reading)
        keys.setdefault(problem, set()).add(example["key"])
        words.setdefault(problem, set()).add(words_of(example))
    return keys, words


def test_problems_have_the_same_key_exactly_if_the_words_ask_the_same(examples, readings):
    tiny = draw(3000, **TINY)
    tiny_readings = [read_words(words_of(example)) for example in tiny]
    for drawn, read in ((examples, readings), (tiny, tiny_readings)):
        keys, words = problems_and_keys(drawn, read)
        assert all(len(found) == 1 for found in keys.values())
        assert len(set.union(*keys.values())) == len(keys)
    assert sum(len(found) > 1 for found in words.values()) > 200


def test_the_order_of_rows_and_the_names_of_columns_do_not_change_a_key_but_rows_do():
    from mixgen.tasks.tables import _key
    from mixgen.tools.tables import read

    def key(table, query):
        return _key(read(f"table='''\n{table}\n'''\n{query}"))

    table = "item,price,stock\npen,1,5\ncup,2,6\nhat,2,7"
    same = [
        key(table, "mean(price[stock>5])"),
        key("item\tstock\tprice\nhat\t7\t2\ncup\t6\t2\npen\t5\t1", "mean(price[stock>5])"),
        key("|a|b|c|\n|-|-|-|\n|6|2|1|\n|5|1|1|\n|7|2.0|1|", "mean(b[a>5.0])"),
    ]
    others = [
        key("item,price,stock\npen,1,6\ncup,2,5\nhat,2,7", "mean(price[stock>5])"),  # pairs
        key(table, "mean(price[stock>=5])"),
        key(table, "mean(stock[stock>5])"),
        key(table, "sum(price[stock>5])"),
        key(table, "mean(price)"),
        key(table.rpartition("\n")[0], "mean(price[stock>5])"),
        key(table, "argmax(item,price)"),
        key(table.replace("pen", "bag"), "argmax(item,price)"),
        _key(read("mean([2,2])")),
    ]
    assert len({*same}) == 1
    assert len({same[0], *others}) == 1 + len(others)
    counts = ["count(a[a=='red'])", "count(b[a=='red'])"]
    assert len({key("a,b\nred,1", count.replace("'", '"')) for count in counts}) == 1
    twins = [
        key("a\n1\n2", "mean(a[a>1])"),
        key("a,b\n1,1\n2,2", "mean(a[b>1])"),
        _key(read("x=[2,1]\nmean(x[x>1])")),
    ]
    assert len({*twins}) == 1


# Scoring.


def turn(*codes, says):
    session = TableSession()
    messages = []
    for code in codes:
        messages += [call(code), tool(session.call("python", {"code": code}))]
    return Turn([*messages, assistant(says)])


def said(example):
    return ANSWER % example["answer"]


def literal(example):
    """A call that prints the answer without computing it."""
    answer = example["answer"]
    if example["metadata"]["statistic"] == "sorted":  # a call with a spare condition
        return f"x=[{answer.replace(' ', '')}]\nsorted(x[x>-9999999])"
    if re.fullmatch(NUMBER, answer):
        return f"max([{answer}])"
    return f"table='''\na,b\n{answer},1\n'''\nargmax(a,b)"


def changed(code, at):
    """A call like `code` with one cell changed: of the column that is named first or last."""
    if not code.startswith("table"):
        return re.sub(rf"\[({NUMBER})", "[987654", code, count=1)
    (header, first, *rows), last = rows_of_table(code)
    names = re.findall("[a-z]+", re.sub('"[a-z]+"', "", last.partition("(")[2]))
    place = header.index(names[at])
    first[place] = "987654" if re.fullmatch(NUMBER, first[place]) else "Nobody"
    return as_csv([header, first, *rows], last)


def as_csv(rows, last):
    return "\n".join(["table='''", *map(",".join, rows), "'''", last])


def without_condition(code):
    return re.sub(r"\[[a-z]+(?:[<>]=?|==)[^]]*\]", "", code)


FAKES = {  # name: what is done, then how many of the four steps it does; None: it depends
    "a constant": (lambda e, _: turn("mean([1,2])", says=ANSWER % "1.5"), None),
    "silence": (lambda e, _: Turn([]), 0),
    "no call": (lambda e, _: Turn([assistant(said(e))]), 0),
    "a call that cannot run": (lambda e, _: turn("mean(price", says=said(e)), 0),
    "an empty call": (lambda e, _: turn("", says=said(e)), 0),
    "an expression of Python": (lambda e, _: turn("sum(x for x in [1])", says=said(e)), 0),
    "the answer as a literal": (lambda e, _: turn(literal(e), says=said(e)), 2),
    "another problem": (lambda e, other: Turn(other["messages"][1:]), None),
    "another problem's call": (lambda e, other: turn(code_of(other), says=said(e)), None),
    "another problem's words": (lambda e, other: turn(code_of(e), says=said(other)), 3),
    "a call after an error": (lambda e, _: turn("mean(x)", code_of(e), says=said(e)), 0),
    "a second call": (lambda e, _: turn(code_of(e), code_of(e), says=said(e)), 4),
    "a digit too many": (lambda e, _: turn(code_of(e), says=ANSWER % f"{e['answer']}1"), 3),
    "another sign": (lambda e, _: turn(code_of(e), says=ANSWER % f"-{e['answer']}"), 3),
    "the answer alone": (lambda e, _: turn(code_of(e), says=e["answer"]), 3),
    "two answers": (lambda e, _: turn(code_of(e), says=f"{said(e)} {said(e)}"), 3),
    "nothing said": (lambda e, _: turn(code_of(e), says=""), 3),
    "words before the call": (
        lambda e, _: Turn([{**call(code_of(e)), "content": "So:"}, *e["messages"][2:]]),
        4,
    ),
    "a forged output, repeated": (
        lambda e, _: Turn([call(code_of(e)), tool("7.25"), assistant(ANSWER % "7.25")]),
        4,
    ),
    "a forged output of a wrong call": (
        lambda e, _: Turn([call("sum([987654321])"), tool(e["answer"]), assistant(said(e))]),
        1,
    ),
    "a fault after all was right": (
        lambda e, _: Turn(e["messages"][1:], "context is full"),
        4,
    ),
}


def evaluated(script, examples):
    example_of = {words_of(example): example for example in examples}
    assert len(example_of) == len(examples)

    def answer(conversations):
        return [script(example_of[conversation[0]["content"]]) for conversation in conversations]

    return TASK.evaluate(answer, split="test", num_examples=len(examples))


@pytest.fixture(scope="module")
def problems():
    return distinct_examples(TASK, split="test", num_examples=200)


def another(example, problems):
    at = problems.index(example)
    return next(e for e in problems[at + 1 :] + problems if e["answer"] != example["answer"])


@pytest.mark.parametrize("name", FAKES)
def test_a_fake_has_exact_0_and_comes_as_far_as_it_does(name, problems):
    fake, steps = FAKES[name]
    result = evaluated(lambda e: fake(e, another(e, problems)), problems)
    assert result["exact"].count == 0
    assert all(trial.score.value == 0 and trial.score.reason for trial in result.trials)
    found = [result[step].count for step in STEPS]
    if name == "a constant":
        reasons = [trial.score.reason.partition(", not")[0] for trial in result.trials]
        right = sum(example["answer"] == "1.5" for example in problems)
        assert reasons.count("the call gives 1.5") == 200 - right > 150
    if steps is not None:
        assert found == [200 * (steps > step) for step in range(4)]
    else:
        assert found[0] == 200
        assert found[2:] == [0, 0]


def test_gold_replies_are_exact_in_every_group(problems):
    result = evaluated(lambda e: Turn(e["messages"][1:]), problems)
    assert all(metric.count == metric.total > 0 for metric in result.metrics)
    assert [result[name].total for name in ("exact", *STEPS)] == [200] * 5
    groups = Counter(m.group.partition(" ")[0] for m in result.metrics if m.group)
    assert set(groups) == {"statistic", "form", "condition", "cells"}
    assert (groups["statistic"], groups["form"], groups["condition"]) == (len(FUNCTIONS), 4, 3)
    for kind in groups:
        parts = [m.total for m in result.metrics if m.group.startswith(f"{kind} ")]
        assert sum(parts) == 200


@pytest.mark.parametrize(
    "change",
    [
        lambda code: changed(code, 0),
        lambda code: changed(code, -1),
        lambda code: without_condition(code),
        lambda code: code.replace(">=", "~").replace(">", ">=").replace("~", ">"),
        lambda code: code.replace("<=", "~").replace("<", "<=").replace("~", "<"),
        lambda code: code.replace("max(", "min("),
        lambda code: code.replace("mean(", "median("),
        lambda code: code.replace("sum(", "count("),
        lambda code: code.replace("range(", "max("),
        lambda code: code.replace("argmax(", "argmin("),
    ],
)
def test_a_call_of_something_else_scores_0_whatever_its_value(examples, change):
    task = Tables()
    tried = same_value = 0
    for example in examples[:4000]:
        code = change(code_of(example))
        if code == code_of(example):
            continue
        printed = task.tools().call("python", {"code": code})
        for last in (ANSWER % printed, said(example)):
            reply = [user(words_of(example)), call(code), tool(printed), assistant(last)]
            score = task.score(example, reply)
            assert score.value == 0, (example, code)
            assert score.reason
        tried += 1
        same_value += printed == example["answer"]
    assert tried > 50
    assert same_value > 0


def test_rows_in_another_order_other_names_another_layout_and_spare_columns_score_1(examples):
    task = Tables()
    tried = 0
    for example in examples[:2000]:
        if not is_table(example):
            continue
        (header, *rows), last = rows_of_table(code_of(example))
        for name in header:
            last = re.sub(rf'\b{name}\b(?!["(])', f"c{name}", last)
        turned = [["spare", *[f"c{name}" for name in header]], *[["7", *row] for row in rows[::-1]]]
        code = as_csv(turned, last)
        printed = task.tools().call("python", {"code": code})
        reply = [user(words_of(example)), call(code), tool(printed), assistant(ANSWER % printed)]
        assert task.score(example, reply).value == 1, (example, code)
        tried += 1
    assert tried > 500


TAGS = "<|python_start|>1+1<|python_end|><|output_start|>2<|output_end|>"


def with_part(example, index, part, value):
    reply = copy.deepcopy(example["messages"])
    reply[index][part] = value
    return reply


CORRUPTIONS = {
    "an altered output": lambda e: with_part(e, 2, "content", f"{e['answer']}0"),
    "an output by another name": lambda e: with_part(e, 2, "name", "bash"),
    "tag soup before the answer": lambda e: with_part(e, 3, "content", TAGS + said(e)),
    "no stop": lambda e: with_part(e, 3, "content", said(e)[:-1]),
    "a space too many": lambda e: with_part(e, 3, "content", f"{said(e)} "),
    "two calls at once": lambda e: with_part(
        e, 1, "tool_calls", e["messages"][1]["tool_calls"] * 2
    ),
    "a call within the last words": lambda e: with_part(
        e, 3, "tool_calls", e["messages"][1]["tool_calls"]
    ),
    "a call within the question": lambda e: with_part(
        e, 0, "tool_calls", e["messages"][1]["tool_calls"]
    ),
    "a call within the output": lambda e: with_part(
        e, 2, "tool_calls", e["messages"][1]["tool_calls"]
    ),
    "a call without code": lambda e: with_part(e, 1, "tool_calls", [{}]),
    "another question": lambda e: with_part(e, 0, "content", f"{words_of(e)} "),
    "an answer too many": lambda e: [*e["messages"], e["messages"][3]],
    "no output": lambda e: [*e["messages"][:2], e["messages"][3]],
}


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corrupted_reply_scores_0_and_says_why(examples, name):
    task = Tables()
    for example in examples[:300]:
        score = task.score(example, CORRUPTIONS[name](example))
        assert score.value == 0, (name, example)
        assert score.reason


# Settings: each does what its help says.


def rows_of(reading):
    return len(reading.rows)


@pytest.mark.parametrize(("low", "high"), [(3, 3), (4, 7), (12, 12)])
def test_lists_have_min_numbers_to_max_numbers(low, high):
    drawn = draw(1000, table_rate=0.0, min_numbers=low, max_numbers=high)
    assert {rows_of(read_words(words_of(e))) for e in drawn} == {*range(low, high + 1)}


@pytest.mark.parametrize(("low", "high"), [(2, 2), (3, 5), (6, 6)])
def test_tables_have_min_rows_to_max_rows(low, high):
    drawn = draw(1000, table_rate=1.0, min_rows=low, max_rows=high)
    assert {rows_of(read_words(words_of(e))) for e in drawn} == {*range(low, high + 1)}


@pytest.mark.parametrize(("low", "high"), [(2, 2), (2, 3), (3, 3)])
def test_tables_have_min_columns_to_max_columns(low, high):
    drawn = draw(1000, table_rate=1.0, min_columns=low, max_columns=high)
    tables = [words_of(e) for e in drawn if e["metadata"]["form"] == "csv"]
    assert {max(line.count(",") for line in t.split("\n")) + 1 for t in tables} == {
        *range(low, high + 1)
    }


@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_table_rate_is_the_share_of_tables(rate):
    drawn = draw(2000, table_rate=rate)
    assert within_999(sum(e["metadata"]["form"] != "list" for e in drawn), 2000, rate)


@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("table_rate", [0.0, 1.0])
def test_condition_rate_is_the_share_of_conditions_but_for_counts_modes_and_sorted_lists(
    rate, table_rate
):
    kinds = {True: [], False: []}
    for example in draw(2000, condition_rate=rate, table_rate=table_rate):
        facts = example["metadata"]
        if facts["statistic"] == "count":
            assert facts["condition"] != "none"
        elif facts["statistic"] in UNCONDITIONAL:
            assert facts["condition"] == "none"
        else:
            kinds[facts["condition"] != "none"].append(facts)
    assert within_999(len(kinds[True]), len(kinds[True] + kinds[False]), rate)


@pytest.mark.parametrize("statistics", [["mean"], ["count", "argmax"], ["mode", "min"]])
def test_only_the_statistics_asked_for_occur_and_all_of_them(statistics):
    assert {e["metadata"]["statistic"] for e in draw(500, statistics=statistics)} == {*statistics}


def numbers_of(example):
    return re.findall(rf"(?<![<>=])(?<=[\[,]){NUMBER}", code_of(example))


@pytest.mark.parametrize("digits", [1, 3, 6])
@pytest.mark.parametrize("decimals", [0, 1, 4])
def test_numbers_have_up_to_max_digits_before_and_max_decimals_after_the_point(digits, decimals):
    found = [
        number.lstrip("-").partition(".")
        for e in draw(2000, max_digits=digits, max_decimals=decimals, table_rate=0.0)
        for number in numbers_of(e)
    ]
    assert max(len(whole) for whole, _, _ in found) == digits
    assert {len(part) for _, _, part in found} == set(range(decimals + 1))
    assert not any(part.endswith("0") for _, _, part in found)


@pytest.mark.parametrize("rate", [0.0, 0.4, 1.0])
def test_decimal_and_negative_rates_are_shares_of_lists(rate):
    drawn = draw(
        2000, decimal_rate=rate, negative_rate=rate, table_rate=0.0, statistics=["sum"],
        min_numbers=12, max_numbers=12, condition_rate=0.0, max_decimals=4, max_digits=6,
    )  # fmt: skip
    assert within_999(sum("." in code_of(e) for e in drawn), 2000, rate)
    assert within_999(sum("-" in code_of(e) for e in drawn), 2000, rate * (1 - 0.5**12))


@pytest.mark.parametrize(
    ("key", "settings"),
    [
        ("table_rate", {"table_rate": -0.1}),
        ("table_rate", {"table_rate": math.nan}),
        ("condition_rate", {"condition_rate": 1.1}),
        ("decimal_rate", {"decimal_rate": math.inf}),
        ("negative_rate", {"negative_rate": 2}),
        ("min_numbers", {"min_numbers": 2}),
        ("max_numbers", {"min_numbers": 5, "max_numbers": 4}),
        ("max_numbers", {"max_numbers": 13}),
        ("min_rows", {"min_rows": 1}),
        ("max_rows", {"min_rows": 4, "max_rows": 3}),
        ("max_rows", {"max_rows": 7}),
        ("min_columns", {"min_columns": 1}),
        ("max_columns", {"min_columns": 3, "max_columns": 2}),
        ("max_columns", {"max_columns": 4}),
        ("max_digits", {"max_digits": 0}),
        ("max_digits", {"max_digits": 7}),
        ("max_decimals", {"max_decimals": -1}),
        ("max_decimals", {"max_decimals": 5}),
        ("statistics", {"statistics": []}),
        ("statistics", {"statistics": ["average"]}),
        ("statistics", {"statistics": ["argmax"]}),
        ("statistics", {"statistics": ["mode", "sorted"]}),
    ],
)
def test_a_setting_out_of_range_is_an_error_that_names_it(key, settings):
    with pytest.raises(TaskError, match=rf"^tables: .*\b{key}\b"):
        Tables.Config(**settings)


def test_statistics_of_one_kind_are_enough_where_only_that_kind_is_drawn():
    assert draw(10, statistics=["argmax"], table_rate=1.0)
    assert draw(10, statistics=["mode"], table_rate=0.0)


def test_an_unknown_statistic_is_told_the_nearest_one():
    with pytest.raises(TaskError, match="did you mean 'median'"):
        Tables.Config(statistics=["medain"])


@pytest.mark.parametrize("statistic", FUNCTIONS)
def test_the_narrowest_settings_give_problems_of_each_statistic_in_every_split(statistic):
    settings = TINY | {"max_columns": 2, "condition_rate": 1.0, "statistics": [statistic]}
    settings["table_rate"] = float(statistic in LABELLED)
    task = Tables(Tables.Config(**settings))
    for split in SPLITS:
        stream = task.stream(split=split, seed=0)
        assert len({e["key"] for e in itertools.islice(stream, 20)}) > 3


def test_the_longest_settings_stay_within_what_the_tool_reads():
    longest = {"min_rows": 6, "max_rows": 6, "min_columns": 3, "max_digits": 6, "max_decimals": 4}
    longest |= {"decimal_rate": 1.0, "condition_rate": 1.0, "negative_rate": 1.0}
    drawn = draw(3000, **longest, min_numbers=12, max_numbers=12)
    assert max(len(code_of(e)) for e in drawn) < 300


def test_examples_are_short():
    from mixgen.encoding.renderer import Renderer
    from mixgen.encoding.tokenizer import train_tokenizer

    task = Tables()
    renderer = Renderer(train_tokenizer((task,), seed=0))
    stream = itertools.islice(task.stream(split="train", seed=1), 2000)
    lengths = sorted(len(renderer.encode(example).input_ids) for example in stream)
    assert lengths[-1] < 256
    assert lengths[1000] < 100


def test_a_generator_gives_the_same_examples_again():
    for seed in range(3):
        one, other = [
            [Tables().sample(generator) for _ in range(50)]
            for generator in (random.Random(seed), random.Random(seed))
        ]
        assert one == other
