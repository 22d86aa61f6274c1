"""Reads the questions of the task `tables` as a person would, and answers them with `statistics`.

Written without the task's code: of a text that has not exactly one reading it raises.
"""

from __future__ import annotations

import re
import statistics
from fractions import Fraction
from typing import NamedTuple

NUMBER = r"-?[0-9]+(?:\.[0-9]+)?"
NAMES = {
    "sum": ["sum", "total"],
    "mean": ["mean", "average"],
    "median": ["median"],
    "min": ["lowest", "minimum"],
    "max": ["highest", "maximum"],
    "range": ["range", "difference between the highest and the lowest"],
    "mode": ["mode", "most frequent"],
}
STATISTIC = {name: statistic for statistic, names in NAMES.items() for name in names}
NAME = "|".join(STATISTIC)
CONDITIONS = {
    ">": rf"(?:above|greater than|more than) ({NUMBER})",
    "<": rf"(?:below|less than) ({NUMBER})",
    ">=": rf"at least ({NUMBER})|({NUMBER}) or more",
    "<=": rf"at most ({NUMBER})|({NUMBER}) or less",
    "==": r"([a-z]+)",
}
MET = rf"[a-z]+ than {NUMBER}|(?:above|below|at least|at most) {NUMBER}|{NUMBER} or (?:more|less)"
MET_WORD = rf"(?:{MET}|[a-z]+)"
REQUEST = r"(?:What is|Calculate|Compute|Find|Give|Work out|Tell me) "
THESE = rf"(?P<these>these numbers|(?:{NUMBER}, )*{NUMBER} and {NUMBER})"
ROWS = rf"(?:items|people|cities|pets) whose (?P<tested>[a-z]+) is (?P<met>{MET_WORD})"
LIST_QUESTIONS = [
    rf"{REQUEST}the (?P<name>{NAME}) of {THESE}",
    rf"{REQUEST}the (?P<name>{NAME}) of those of {THESE} that are (?P<met>{MET})",
    rf"{REQUEST}the (?P<name>{NAME}) of the numbers among {THESE} that are (?P<met>{MET})",
    rf"How many of {THESE} are (?P<met>{MET})",
    rf"Count those of {THESE} that are (?P<met>{MET})",
    rf"(?:Sort|Put) {THESE} in ascending order",
    rf"Arrange {THESE} from the lowest to the highest",
]
OF_COLUMN = (
    r"(?:(?P<name>mean|average|median|lowest|minimum|highest|maximum|"
    r"difference between the highest and the lowest) (?P<asked>[a-z]+)"
    r"|(?P<name2>sum|median|range) of the (?P<asked2>[a-z]+) values"
    r"|(?P<name3>sum) of all (?P<asked3>[a-z]+) values)"
)
WHICH = r"(?:who|which item|which city|which pet)"
BEST = r"the (?P<best>highest|maximum|lowest|minimum) (?P<asked>[a-z]+)"
TABLE_QUESTIONS = [
    rf"{REQUEST}the {OF_COLUMN}",
    rf"{REQUEST}the {OF_COLUMN} of the {ROWS}",
    rf"{REQUEST}the {OF_COLUMN} where the (?P<tested>[a-z]+) is (?P<met>{MET_WORD})",
    rf"For the {ROWS}, what is the {OF_COLUMN}",
    rf"{REQUEST}the number of {ROWS}",
    rf"Count the {ROWS}",
    rf"For how many [a-z]+ is the (?P<tested>[a-z]+) (?P<met>{MET_WORD})",
    rf"(?i:{WHICH}) has {BEST}",
    rf"Of the {ROWS}, {WHICH} has {BEST}",
    rf"Name the (?:item|person|city|pet) with {BEST}",
    rf"Name the (?:item|person|city|pet) with {BEST} among the {ROWS}",
]


PATTERNS = [re.compile(rf"(?:{pattern})[.?]") for pattern in LIST_QUESTIONS + TABLE_QUESTIONS]


class UnreadableError(Exception):
    """A text that has no reading, or more than one."""


class Reading(NamedTuple):
    """What is asked, and the rows that it is asked of: (label, value, tested cell)."""

    statistic: str
    rows: list[tuple]
    comparison: str
    against: Fraction | str | None
    form: str


def read_words(text):
    """The one reading of a question with its list or table."""
    readings = [*_readings(text)]
    if len(readings) != 1:
        raise UnreadableError(f"{len(readings)} readings of {text!r}: {readings}")
    return readings[0]


def _readings(text):
    first, _, after = text.partition("\n")
    before, _, last = text.rpartition("\n")
    parts = {(first, after), (last, before)}
    if "\n" not in text and ": " in text:
        question, _, shown = text.partition(": ")
        parts = {(f"{question}.", shown)}
    for question, shown in parts:
        for at, pattern in enumerate(PATTERNS):
            if match := pattern.fullmatch(question):
                read = _of_list if at < len(LIST_QUESTIONS) else _of_table
                yield read(question, match.groupdict(), shown)


def _condition(words):
    if not words:
        return "", None
    for comparison, pattern in CONDITIONS.items():
        if match := re.fullmatch(pattern, words):
            (found,) = filter(None, match.groups())
            return comparison, found if comparison == "==" else Fraction(found)
    raise UnreadableError(words)


def _of_list(question, found, shown):
    these = found["these"]
    is_inline = these != "these numbers"
    if is_inline == bool(shown):
        raise UnreadableError(f"no list, or two: {question!r}")
    text = these.replace(" and ", ", ") if is_inline else shown
    separator = next((one for one in (", ", "\n", " ") if one in text), None)
    numbers = text.split(separator)
    if not all(re.fullmatch(NUMBER, number) for number in numbers):
        raise UnreadableError(text)
    if separator == " " and "-" in text:
        raise UnreadableError("a subtraction?")
    values = [Fraction(number) for number in numbers]
    verb = question.split(" ")[0]
    statistic = {"How": "count", "Count": "count"}.get(verb, "sorted")
    if found.get("name"):
        statistic = STATISTIC[found["name"]]
    comparison, against = _condition(found.get("met"))
    rows = [("", value, value if comparison else None) for value in values]
    return Reading(statistic, rows, comparison, against, "list")


def read_table(shown):
    """The form of a table and its rows, as a dict of texts each; the first is the label."""
    lines = shown.split("\n")
    form = "markdown" if lines[0][0] == "|" else "tabs" if "\t" in lines[0] else "csv"
    if form == "markdown":
        assert all(line[0] == line[-1] == "|" for line in lines)
        head, rule, *body = [line[1:-1].split("|") for line in lines]
        assert rule == ["-"] * len(head)
    else:
        head, *body = [line.split("," if form == "csv" else "\t") for line in lines]
    return form, [dict(zip(["", *head[1:]], row, strict=True)) for row in body]


def _cell(text):
    return Fraction(text) if re.fullmatch(NUMBER, text) else text


def _of_table(question, found, shown):
    if "\n" not in shown:
        raise UnreadableError(f"no table: {shown!r}")
    form, table = read_table(shown)
    if len({row[""] for row in table}) < len(table) or len({tuple(row) for row in table}) > 1:
        raise UnreadableError(f"rows that cannot be told apart: {shown!r}")
    asked = found.get("asked") or found.get("asked2") or found.get("asked3")
    name = found.get("name") or found.get("name2") or found.get("name3")
    comparison, against = _condition(found.get("met"))
    statistic = STATISTIC[name] if name else "count"
    if best := found.get("best"):
        statistic = "argmax" if best in NAMES["max"] else "argmin"
    tested = found.get("tested")
    rows = [
        (
            row[""] if best else "",
            _cell(row[asked]) if asked else "",
            _cell(row[tested]) if tested else None,
        )
        for row in table
    ]
    return Reading(statistic, rows, comparison, against, form)


def _meets(cell, comparison, against):
    if comparison == "==":
        return cell == against
    if comparison in (">", ">="):
        return cell > against or (comparison == ">=" and cell == against)
    return cell < against or (comparison == "<=" and cell == against)


def answer_of(reading):
    """The answer, as it is to be printed; ties and empty selections but for counts are errors."""
    statistic, rows, comparison, against, _ = reading
    if comparison:
        rows = [row for row in rows if _meets(row[2], comparison, against)]
    values = [value for _, value, _ in rows]
    if statistic == "count":
        return str(len(rows))
    if not rows or not all(isinstance(value, Fraction) for value in values):
        raise UnreadableError(f"nothing to answer: {reading}")
    if statistic == "sorted":
        return ", ".join(map(written, sorted(values)))
    if statistic in ("argmax", "argmin"):
        best = max(values) if statistic == "argmax" else min(values)
        ((label, _, _),) = [row for row in rows if row[1] == best]
        return label
    if statistic == "mode":
        (found,) = statistics.multimode(values)
        return written(found)
    compute = {
        "sum": sum,
        "mean": statistics.mean,
        "median": statistics.median,
        "min": min,
        "max": max,
        "range": lambda numbers: max(numbers) - min(numbers),
    }
    return written(Fraction(compute[statistic](values)))


def written(value):
    """A fraction as a decimal: exact where it ends, else to ten significant digits."""
    sign, size = "-" if value < 0 else "", abs(value)
    places = next((n for n in range(60) if (size * 10**n).denominator == 1), None)
    if places is None:
        exponent = next(n for n in range(40, -40, -1) if size >= Fraction(10) ** n)
        places = 9 - exponent
        size = round(size * Fraction(10) ** places) / Fraction(10) ** places
    whole, rest = divmod(size * 10**places, 10**places)
    digits = f"{int(rest):0{places}d}".rstrip("0") if places else ""
    return f"{sign}{whole}.{digits}" if digits else f"{sign}{whole}"


def key_of(reading):
    """The problem without its words and the order of its rows."""
    statistic, rows, comparison, against, _ = reading
    if statistic == "count":
        rows = [("", "", tested) for _, _, tested in rows]
    elif all(value == tested for _, value, tested in rows):
        rows = [(label, value, None) for label, value, _ in rows]
    return statistic, comparison, against, tuple(sorted(rows, key=repr))
