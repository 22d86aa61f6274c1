"""The tool of the task `tables`, against Python's `statistics` of fractions, and under attack."""

from __future__ import annotations

import operator
import re
import statistics
import time
from collections import Counter
from decimal import ROUND_CEILING, Decimal, getcontext, localcontext
from fractions import Fraction

import pytest
from attacks import ATTACKS
from hypothesis import given, settings
from hypothesis import strategies as st
from tables_reader import written

from mixgen.tools.tables import FUNCTIONS, MAX_SOURCE_CHARS, TableSession

COMPARE = {
    "==": operator.eq,
    ">": operator.gt,
    "<": operator.lt,
    ">=": operator.ge,
    "<=": operator.le,
}
NUMBERS = st.builds(
    lambda value, places: f"{Decimal(value).scaleb(-places):f}",
    st.integers(-(10**6), 10**6),
    st.integers(0, 4),
)
LISTS = st.lists(NUMBERS, min_size=1, max_size=12)
WORDS = st.sampled_from(["red", "blue", "Ann", "Bob"])


LAYOUTS = ("csv", "tabs", "markdown")


def tabled(rows, query, layout="csv"):
    """A call of a table, whose first row is the header."""
    separator = {"csv": ",", "tabs": "\t", "markdown": "|"}[layout]
    lines = [separator.join(map(str, row)) for row in rows]
    if layout == "markdown":
        lines = [f"|{line}|" for line in lines]
        lines.insert(1, "|-" * len(rows[0]) + "|")
    return "\n".join(["table='''", *lines, "'''", query])


def printed(code):
    output = TableSession().call("python", {"code": code})
    assert isinstance(output, str)
    return output


def expected(function, values):
    """What a function of fractions prints, by `statistics`; an error for a tie of modes."""
    if function == "sorted":
        return ", ".join(map(written, sorted(values)))
    if function == "count":
        return str(len(values))
    if function == "mode":
        modes = statistics.multimode(values)
        return written(modes[0]) if len(modes) == 1 else "error"
    if function == "range":
        return written(max(values) - min(values))
    compute = {"sum": sum, "min": min, "max": max}.get(function) or getattr(statistics, function)
    return written(Fraction(compute(values)))


LISTED = [name for name in FUNCTIONS if not name.startswith("arg")]


@given(LISTS, st.sampled_from(LISTED))
@settings(max_examples=400, deadline=None)
def test_a_statistic_of_a_list_is_pythons_own(numbers, function):
    output = printed(f"{function}([{','.join(numbers)}])")
    right = expected(function, [Fraction(number) for number in numbers])
    assert output == right or (right == "error" and output.startswith("error: ")), output


@given(
    st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=6),
    st.sampled_from(LISTED),
    st.sampled_from(sorted(COMPARE)),
    st.sampled_from(LAYOUTS),
    st.data(),
)
@settings(max_examples=400, deadline=None)
def test_a_condition_keeps_the_rows_that_meet_it(rows, function, comparison, layout, data):
    limit = data.draw(st.sampled_from([row[1] for row in rows]) | NUMBERS)
    query = f"{function}(a[b{comparison}{limit}])"
    output = printed(tabled([("a", "b"), *rows], query, layout))
    kept = [
        Fraction(value)
        for value, cell in rows
        if COMPARE[comparison](Fraction(cell), Fraction(limit))
    ]
    if not kept and function != "count":
        assert output == "error: no row meets the condition"
    else:
        right = expected(function, kept)
        assert output == right or (right == "error" and output.startswith("error: ")), output


@given(
    st.lists(st.tuples(WORDS, st.integers(0, 9), WORDS), min_size=1, max_size=6),
    st.booleans(),
    WORDS,
    st.booleans(),
    st.sampled_from(LAYOUTS),
)
@settings(max_examples=300, deadline=None)
def test_argmax_and_argmin_give_the_only_best_rows_label_or_refuse(
    rows, is_max, word, has_where, layout
):
    where = f'[c=="{word}"]' if has_where else ""
    query = f"{'argmax' if is_max else 'argmin'}(a{where},b{where})"
    output = printed(tabled(["abc", *rows], query, layout))
    kept = [row for row in rows if not has_where or row[2] == word]
    best = [row for row in kept if row[1] == (max if is_max else min)(r[1] for r in kept)]
    assert output == best[0][0] if len(best) == 1 else output.startswith("error: ")


@pytest.mark.parametrize(
    ("code", "output"),
    [
        ("mean([4,8,15,16])", "10.75"),
        ("mean([1,2,2])", "1.666666667"),
        ("mean([-1,-2,-2])", "-1.666666667"),
        ("mean([0.01,0.01,0.02])", "0.01333333333"),
        ("mean([999999999999,999999999999,999999999998])", "1000000000000"),
        ("mean([0.1,0.2])", "0.15"),
        ("sum([0.1,0.2])", "0.3"),
        ("sum([123456789.25,0.000001])", "123456789.250001"),
        ("median([3,1])", "2"),
        ("median([10,2,30])", "10"),
        ("min([0.50,2])", "0.5"),
        ("max([-0,-1])", "0"),
        ("sum([100,200])", "300"),
        ("range([5])", "0"),
        ("sorted([10,9,-1,2.50])", "-1, 2.5, 9, 10"),
        ("mode([1,1.0,2])", "1"),
        ("x=[1,2]\ncount(x[x>5])", "0"),
        ("x=[1,2]\nsum(x)", "3"),
        (tabled(["a", ("red",), ("blue",)], 'count(a[a=="red"])'), "1"),
        (tabled(["a", ("red",), ("blue",)], "count(a)"), "2"),
        (tabled(["ab", ("Ann", 3), ("Bob", 5)], "argmax(a,b)"), "Bob"),
        (tabled(["ab", (7, 3), (8, 5)], "argmin(a,b)"), "7"),
        (tabled(["ab", (7, 3)], "sum(a)", "tabs"), "7"),
    ],
)  # fmt: skip
def test_values_are_exact_and_printed_in_one_way(code, output):
    assert printed(code) == output


SHAPE = "a table has a header, and rows with as many cells as it"
HEADERS = "the headers of a table are different words of small letters"
CELLS = "a column has numbers alone, or words alone"
MARKDOWN = "lines of Markdown begin and end with |, and the second is such as |-|-|"
ONE_LIST = "argmax and argmin take labels and numbers, other functions one list"
NEITHER = "neither a list such as x=[4,8] nor a table between table=''' and '''"


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("mode([1,2])", "no number occurs more often than every other"),
        (tabled(["ab", ("Ann", 5), ("Bob", 5)], "argmax(a,b)"), "a tie"),
        ("x=[1,2]\nmean(x[x>5])", "no row meets the condition"),
        (tabled(["a", ("red",)], "mean(a)"), "mean of words"),
        (tabled(["a", ("red",)], "sorted(a)"), "sorted of words"),
        (tabled(["ab", (1, "x")], "argmax(a,b)"), "argmax of words"),
        ("mean(price)", "there is no column price"),
        (tabled([("price",), (1,)], "mean(price[stock>1])"), "there is no column stock"),
        ("x=[1,2]\nmean(y)", "there is no column y"),
        (tabled(["ab", (1, 2), (3,)], "mean(a)"), SHAPE),
        (tabled(["ab", (1, 2), (3, 4, 5)], "mean(a)"), SHAPE),
        (tabled(["ab"], "mean(a)"), SHAPE),
        (tabled(["ab", (1, "2\t3")], "mean(b)"), CELLS),
        (tabled(["ab", ("1,2",)], "mean(a)", "tabs"), SHAPE),
        (tabled(["aa", (1, 2)], "mean(a)"), HEADERS),
        (tabled(["aB", (1, 2)], "mean(a)"), HEADERS),
        (tabled([("a", ""), (1, 2)], "mean(a)"), HEADERS),
        (tabled(["ab", (1, "")], "mean(a)"), CELLS),
        (tabled(["ab", (1, " 2")], "mean(a)"), CELLS),
        (tabled(["ab", (1, "2\n")], "mean(a)"), SHAPE),
        (tabled(["a", (1,), ("red",)], "count(a)"), CELLS),
        (tabled(["a", ("red-hot",)], "count(a)"), CELLS),
        ("table='''\n|a|b|\n|1|2|\n'''\nmax(b)", MARKDOWN),
        ("table='''\n|a|b|\n|-|-|\n|1|2\n'''\nmax(b)", MARKDOWN),
        ("table='''\n|a|b|\n|-|-|\n1|2|\n'''\nmax(b)", MARKDOWN),
        ("table='''\n|a|b|\n|-|-|-|\n|1|2|\n'''\nmax(b)", MARKDOWN),
        ("table='''\n|a|b|\n'''\nmax(b)", MARKDOWN),
        ("table='''\n|a|b|\n|-|-|\n'''\nmax(b)", SHAPE),
        (tabled(["a", ("red",)], "count(a[a>1])"), "a cannot be compared with 1"),
        (tabled(["a", ("red",)], 'count(a[a>"blue"])'), 'a cannot be compared with "blue"'),
        ('x=[1]\ncount(x[x=="red"])', 'x cannot be compared with "red"'),
        (
            tabled(["ab", ("x", 1), ("y", 2)], "argmax(a[b>1],b[b>=2])"),
            "argmax takes labels and numbers of the same rows",
        ),
        ("x=[1,2]\nargmax(x)", ONE_LIST),
        ("argmax([1,2])", ONE_LIST),
        (tabled(["ab", (1, 2)], "max(a,b)"), ONE_LIST),
        ("x = [1]\nmean(x)", NEITHER),
        ("x=['red']\ncount(x)", NEITHER),
        ("mean([1])\nmean([1])", NEITHER),
        ("x=[1]\ny=[1]\nmean(x)", NEITHER),
        ("a,b\n1,2\nmean(a)", NEITHER),
        ("table='''a,b\n1,2\n'''\nmean(a)", NEITHER),
        ("\nmean([1])", NEITHER),
        ("variance([1,2])", f"the last line is no call of {', '.join(FUNCTIONS)}"),
        ("mean([])", f"the last line is no call of {', '.join(FUNCTIONS)}"),
        ("mean([01])", f"the last line is no call of {', '.join(FUNCTIONS)}"),
        ("mean([1e5])", f"the last line is no call of {', '.join(FUNCTIONS)}"),
        ("mean([1234567890123])", f"the last line is no call of {', '.join(FUNCTIONS)}"),
        ("max([1],[2])", f"the last line is no call of {', '.join(FUNCTIONS)}"),
        ("max(['red'])", f"the last line is no call of {', '.join(FUNCTIONS)}"),
        ("x=[1]\n", f"the last line is no call of {', '.join(FUNCTIONS)}"),
        ("", f"the last line is no call of {', '.join(FUNCTIONS)}"),
        (f"sum([{'1,' * 300}1])", f"code above {MAX_SOURCE_CHARS} characters"),
    ],
)
def test_what_cannot_be_computed_is_an_error_that_says_why(code, error):
    assert printed(code) == f"error: {error}"


@pytest.mark.parametrize("kind", ATTACKS)
def test_no_attack_is_carried_out_or_takes_long(kind):
    start = time.perf_counter()
    for text in ATTACKS[kind]:
        for code in (
            text,
            f"mean([{text}])",
            f"x=[1]\n{text}",
            f"x=[{text}]\nmean(x)",
            tabled(["ab", (1, text)], "mean(b)"),
        ):
            output = printed(code)
            is_number = re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", text)
            assert output.startswith("error: ") or is_number, (code, output)
    assert time.perf_counter() - start < 5


PARTS = st.sampled_from(
    [
        *FUNCTIONS,
        *"()[],\n=<>'-.01",
        "==",
        ">=",
        "x",
        "x=[1,2]\n",
        "table='''\n",
        "\n'''\n",
        "x,y\n",
        "|x|y|\n|-|-|\n",
        "|",
        "\t",
        '"red"',
        "mean([1,2])",
        "12",
        "é",
    ]
)


@given(st.lists(PARTS, max_size=30).map("".join) | st.text(max_size=60))
@settings(max_examples=800, deadline=None)
def test_any_text_gives_an_output_and_raises_nothing(code):
    output = printed(code)
    assert output
    assert len(output) <= 2 * MAX_SOURCE_CHARS


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("bash", {"code": "mean([1])"}),
        ("python", {}),
        ("python", {"code": 7}),
        ("python", {"code": None}),
        ("python", None),
        ("python", "mean([1])"),
        ("", {"code": "mean([1])"}),
    ],
)
def test_a_call_of_something_else_is_refused(name, arguments):
    assert TableSession().call(name, arguments) == "error: the only tool is python(code)"


def test_a_call_keeps_nothing_for_the_next():
    session = TableSession()
    assert session.call("python", {"code": "x=[1,2]\nsum(x)"}) == "3"
    assert session.call("python", {"code": "sum(x)"}) == "error: there is no column x"


def test_the_decimal_context_of_the_caller_neither_matters_nor_changes():
    codes = [f"{name}([123456.789,0.25,0.25])" for name in LISTED]
    before = [printed(code) for code in codes]
    with localcontext() as context:
        context.prec = 2
        context.rounding = ROUND_CEILING
        flags = Counter(context.flags)
        assert [printed(code) for code in codes] == before
        assert Counter(getcontext().flags) == flags
        assert getcontext().prec == 2


def test_the_largest_sums_and_means_are_exact():
    numbers = ["999999999999.999999999999"] * 19
    total = 19 * Fraction(numbers[0])
    assert printed(f"sum([{','.join(numbers)}])") == written(total)
    assert printed(f"mean([{','.join(numbers)}])") == numbers[0]
    assert printed(f"mean([{','.join(['0.000000000001'] + ['0'] * 127)}])") == written(
        Fraction(1, 128 * 10**12)
    )
