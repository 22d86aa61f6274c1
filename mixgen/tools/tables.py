"""Statistics of a list, of a table's column or of its rows that meet a condition, computed exactly.

    table='''
    item,color,price
    pen,red,4
    cup,blue,2.5
    hat,red,7
    '''
    mean(price[color=="red"])

A table, or a list such as `x=[4,8]`, comes first; the last line is one function of `FUNCTIONS`. A
table has commas or tabs between its cells, or is Markdown (`|pen|red|4|`). What a model wrote is
read by regular expressions, never run. Decimals are exact; a mean that never ends is rounded to
`SIGNIFICANT` digits. A tie is refused: two modes, two rows with the largest value.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from decimal import Context, Decimal, Inexact, InvalidOperation, localcontext
from itertools import compress
from operator import eq, ge, gt, le, lt
from typing import Any, Final, NamedTuple, TypeAlias

from mixgen.tools.expression import ToolError
from mixgen.tools.session import code_of, python_schema

Cell: TypeAlias = Decimal | str  # a number, or a word

SIGNIFICANT: Final = 10  # digits of what has no exact decimal, as the calculator's
MAX_SOURCE_CHARS: Final = 512
# Sums of as many numbers as the source can hold have 27 digits, their means some 10 more.
EXACT: Final = Context(prec=60, traps=[Inexact, InvalidOperation])
ROUNDED: Final = Context(prec=SIGNIFICANT, traps=[])

_NUMBER: Final = r"-?(?:0|[1-9][0-9]{0,11})(?:\.[0-9]{1,12})?"
_WORD: Final = "[A-Za-z]{1,16}"
_NAME: Final = "[a-z]{1,16}"
_LIST: Final = rf"\[{_NUMBER}(?:,{_NUMBER})*\]"
_COMPARISON: Final = "==|[<>]=?"
_ROWS: Final = rf'{_NAME}(?:\[{_NAME}(?:{_COMPARISON})(?:{_NUMBER}|"{_WORD}")\])?'
NAME: Final = re.compile(_NAME)
NUMBER: Final = re.compile(_NUMBER)
WORD: Final = re.compile(_WORD)
NAMED_LIST: Final = re.compile(rf"({_NAME})=({_LIST})")
TABLE: Final = re.compile(r"table='''\n([^']*)\n'''")
ROWS: Final = re.compile(rf"({_NAME})(?:\[({_NAME})({_COMPARISON})(.*)\])?")
QUERY: Final = re.compile(rf"({_NAME})\((?:({_LIST})|({_ROWS})(?:,({_ROWS}))?)\)")

COMPARISONS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "==": eq,
    ">": gt,
    "<": lt,
    ">=": ge,
    "<=": le,
}

TABLE_SCHEMA: Final = python_schema(
    "Computes one statistic of a list, of a column, or of its rows that meet a condition; exactly, "
    f"or rounded to {SIGNIFICANT} significant digits where the decimals never end.",
    "a list such as x=[4,8], or a table's lines with a header between table=''' and '''; then one "
    'of sum mean median min max range mode sorted count (price), (price[color=="red"]), '
    "(price[price>3]) or ([4,8]), or argmax argmin (name,price)",
)


class Rows(NamedTuple):
    """The cells of a list or column, and the condition that its rows have to meet, if any."""

    cells: Sequence[Cell]
    tested: Sequence[Cell] = ()
    comparison: str = ""
    against: Cell = ""


class Query(NamedTuple):
    """What a call asks for: a function of the rows' values, or of labels by their values."""

    function: str
    values: Rows
    labels: Sequence[Cell] = ()


def _sum(numbers: Sequence[Decimal]) -> Decimal:
    return sum(numbers, Decimal())


def _mean(numbers: Sequence[Decimal]) -> Decimal:
    total, count = _sum(numbers), len(numbers)
    try:
        return EXACT.divide(total, count)
    except Inexact:
        return ROUNDED.divide(total, count)


def _median(numbers: Sequence[Decimal]) -> Decimal:
    ordered = sorted(numbers)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def _mode(numbers: Sequence[Decimal]) -> Decimal:
    (first, count), *others = Counter(numbers).most_common(2)
    if others and others[0][1] == count:
        raise ToolError("no number occurs more often than every other")
    return first


STATISTICS: Final[dict[str, Callable[[Sequence[Decimal]], Decimal]]] = {
    "sum": _sum,
    "mean": _mean,
    "median": _median,
    "min": min,
    "max": max,
    "range": lambda numbers: max(numbers) - min(numbers),
    "mode": _mode,
}
LABELLED: Final[dict[str, Callable[[Sequence[Decimal]], Decimal]]] = {"argmax": max, "argmin": min}
FUNCTIONS: Final = (*STATISTICS, "sorted", "count", *LABELLED)


def read(code: str) -> Query:
    """Reads a call.

    Args:
        code: A list or a table if need be, and a function, in the syntax of the module's docstring.

    Raises:
        ToolError: It is none, or what it names is not there.
    """
    if len(code) > MAX_SOURCE_CHARS:
        raise ToolError(f"code above {MAX_SOURCE_CHARS} characters")
    *given, last = code.rsplit("\n", 1)
    columns = _columns(given[0]) if given else {}
    query = QUERY.fullmatch(last)
    if not query or query[1] not in FUNCTIONS:
        raise ToolError(f"the last line is no call of {', '.join(FUNCTIONS)}")
    function, numbers, *names = query.groups()
    if (function in LABELLED) != bool(names[1]):
        raise ToolError("argmax and argmin take labels and numbers, other functions one list")
    if numbers:
        return Query(function, Rows(_cells(numbers[1:-1].split(","))))
    first, *second = [_rows(columns, text) for text in names if text]
    if not second:
        return Query(function, first)
    (values,) = second
    if first[1:] != values[1:]:
        raise ToolError(f"{function} takes labels and numbers of the same rows")
    return Query(function, values, first.cells)


def _columns(text: str) -> dict[str, list[Cell]]:
    """The columns of a table, or a list as its only one, by their names."""
    if named := NAMED_LIST.fullmatch(text):
        return {named[1]: _cells(named[2][1:-1].split(","))}
    table = TABLE.fullmatch(text)
    if not table:
        raise ToolError("neither a list such as x=[4,8] nor a table between table=''' and '''")
    header, *rows = _split(table[1].split("\n"))
    if not rows or any(len(row) != len(header) for row in rows):
        raise ToolError("a table has a header, and rows with as many cells as it")
    if len({*header}) < len(header) or not all(map(NAME.fullmatch, header)):
        raise ToolError("the headers of a table are different words of small letters")
    return {name: _cells(cells) for name, *cells in zip(header, *rows, strict=True)}


def _split(lines: Sequence[str]) -> list[list[str]]:
    """The cells of a table's lines: Markdown, or between tabs, or between commas."""
    if not lines[0].startswith("|"):
        separator = "\t" if "\t" in lines[0] else ","
        return [line.split(separator) for line in lines]
    rule = "|-" * (lines[0].count("|") - 1) + "|"
    if rule not in lines[1:2] or any(line[:1] + line[-1:] != "||" for line in lines):
        raise ToolError("lines of Markdown begin and end with |, and the second is such as |-|-|")
    return [line[1:-1].split("|") for line in (lines[0], *lines[2:])]


def _cells(texts: Sequence[str]) -> list[Cell]:
    """The cells of a list or column: numbers alone, or words alone."""
    if all(map(NUMBER.fullmatch, texts)):
        return [Decimal(text) for text in texts]
    if all(map(WORD.fullmatch, texts)):
        return [*texts]
    raise ToolError("a column has numbers alone, or words alone")


def _rows(columns: Mapping[str, Sequence[Cell]], text: str) -> Rows:
    """A column or a selection of its rows, by its text."""
    name, tested, comparison, against = ROWS.findall(text)[0]
    for column in (name, tested or name):
        if column not in columns:
            raise ToolError(f"there is no column {column}")
    if not tested:
        return Rows(columns[name])
    is_word = against[0] == '"'
    if is_word != isinstance(columns[tested][0], str) or (is_word and comparison != "=="):
        raise ToolError(f"{tested} cannot be compared with {against}")
    limit = against[1:-1] if is_word else Decimal(against)
    return Rows(columns[name], columns[tested], comparison, limit)


def run(query: Query) -> str:
    """What a call prints.

    Raises:
        ToolError: No row meets the condition, words where numbers are needed, or a tie.

    Example:
        >>> run(read("mean([4,8,15,16])")), run(read("mean([1,2,2])"))
        ('10.75', '1.666666667')
    """
    function, (values, tested, comparison, against), labels = query
    if comparison:
        compare = COMPARISONS[comparison]
        is_met = [compare(cell, against) for cell in tested]
        values, labels = [*compress(values, is_met)], [*compress(labels, is_met)]
    if function == "count":
        return str(len(values))
    if not values:
        raise ToolError("no row meets the condition")
    numbers = [value for value in values if isinstance(value, Decimal)]
    if not numbers:
        raise ToolError(f"{function} of words")
    if function == "sorted":
        return ", ".join(map(format_decimal, sorted(numbers)))
    if function in STATISTICS:
        with localcontext(EXACT):
            return format_decimal(STATISTICS[function](numbers))
    best = LABELLED[function](numbers)
    if numbers.count(best) > 1:
        raise ToolError("a tie")
    label = labels[numbers.index(best)]
    return label if isinstance(label, str) else format_decimal(label)


def format_decimal(value: Decimal) -> str:
    """A number without an exponent, a zero after its last decimal, or a sign before zero.

    Example:
        >>> [format_decimal(Decimal(text)) for text in ("2.50", "1200", "-0.0")]
        ['2.5', '1200', '0']
    """
    text = f"{value:f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


class TableSession:
    """`python(code)` for one statistic a call; keeps nothing between calls.

    Example:
        >>> session = TableSession()
        >>> code = "table='''\\nname,score\\nAnn,3\\nBob,5\\n'''\\nargmax(name,score)"
        >>> session.call("python", {"code": code})
        'Bob'
        >>> session.call("python", {"code": "max(score)"})
        'error: there is no column score'
    """

    def call(self, name: str, arguments: Mapping[str, Any]) -> str:
        """See `ToolSession.call`."""
        try:
            return run(read(code_of(name, arguments)))
        except ToolError as error:
            return f"error: {error}"
