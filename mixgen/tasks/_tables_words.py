"""How the questions of the task `tables` are put into words, and how lists and tables are shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mixgen.tasks._tables_data import Condition, Draw, Table, pick

REQUESTS: Final = (
    "What is %s?",
    "Calculate %s.",
    "Compute %s.",
    "Find %s.",
    "Give %s.",
    "Work out %s.",
    "Tell me %s.",
)
LIST_PHRASES: Final = {
    "sum": ("the sum of %s", "the total of %s"),
    "mean": ("the mean of %s", "the average of %s"),
    "median": ("the median of %s",),
    "min": ("the lowest of %s", "the minimum of %s"),
    "max": ("the highest of %s", "the maximum of %s"),
    "range": ("the range of %s", "the difference between the highest and the lowest of %s"),
    "mode": ("the mode of %s", "the most frequent of %s"),
}
SORT_REQUESTS: Final = (
    "Sort %s in ascending order.",
    "Put %s in ascending order.",
    "Arrange %s from the lowest to the highest.",
)
COLUMN_PHRASES: Final = {
    "sum": ("the sum of the %s values", "the sum of all %s values"),
    "mean": ("the mean %s", "the average %s"),
    "median": ("the median %s", "the median of the %s values"),
    "min": ("the lowest %s", "the minimum %s"),
    "max": ("the highest %s", "the maximum %s"),
    "range": ("the range of the %s values", "the difference between the highest and the lowest %s"),
}
EXTREMES: Final = {"argmax": ("highest", "maximum"), "argmin": ("lowest", "minimum")}
COMPARED: Final = {
    "==": ("%s",),
    ">": ("above %s", "greater than %s", "more than %s"),
    "<": ("below %s", "less than %s"),
    ">=": ("at least %s", "%s or more"),
    "<=": ("at most %s", "%s or less"),
}
SEPARATORS: Final = {"csv": ",", "tabs": "\t"}
LAYOUTS: Final = (*SEPARATORS, "markdown")


def ask_of_list(
    draw: Draw, statistic: str, numbers: Sequence[str], condition: Condition | None
) -> str:
    """A question about a list, with its numbers in the sentence, before or after it."""
    is_inline = draw() < 0.4
    these = f"{', '.join(numbers[:-1])} and {numbers[-1]}" if is_inline else "these numbers"
    is_met = _is_met(draw, condition) if condition else ""
    if statistic == "count":
        question = pick(draw, ("How many of %s are %s?", "Count those of %s that are %s."))
        question %= these, is_met
    elif statistic == "sorted":
        question = pick(draw, SORT_REQUESTS) % these
    else:
        if condition:
            forms = ("those of %s that are %s", "the numbers among %s that are %s")
            these = pick(draw, forms[: 1 + is_inline]) % (these, is_met)
        question = pick(draw, REQUESTS) % (pick(draw, LIST_PHRASES[statistic]) % these)
    if is_inline:
        return question
    place = draw()
    if place < 1 / 3:
        return f"{question[:-1]}: {', '.join(numbers)}"
    # Spaces before a negative number would read as a subtraction.
    separators = (", ", "\n") if any(number[0] == "-" for number in numbers) else (", ", "\n", " ")
    shown = pick(draw, separators).join(numbers)
    return f"{question}\n{shown}" if place < 2 / 3 else f"{shown}\n{question}"


def ask_of_table(
    draw: Draw, statistic: str, table: Table, measure: str, condition: Condition | None
) -> str:
    """A question about a table's column, with the table before or after it.

    Args:
        draw: Uniform numbers in [0, 1).
        statistic: A function of the tool.
        table: The table.
        measure: The header of the column; not used by a count.
        condition: What the rows have to meet.
    """
    _, one, many, which, *_ = table.topic
    those = where = ""
    if condition:
        tested, is_met = condition.column.name, _is_met(draw, condition)
        those = f"{many} whose {tested} is {is_met}"
        where = f"where the {tested} is {is_met}"
    if statistic == "count":
        options = [
            pick(draw, REQUESTS) % f"the number of {those}",
            f"Count the {those}.",
            f"For how many {many} is the {tested} {is_met}?",
        ]
    elif statistic in EXTREMES:
        best = f"{pick(draw, EXTREMES[statistic])} {measure}"
        options = [
            f"Of the {those}, {which} has the {best}?" if those else f"{which} has the {best}?",
            f"Name the {one} with the {best}" + (f" among the {those}." if those else "."),
        ]
    else:
        phrase = pick(draw, COLUMN_PHRASES[statistic]) % measure
        request = pick(draw, REQUESTS)
        options = [
            request % (f"{phrase} of the {those}" if those else phrase),
            request % (f"{phrase} {where}" if those else phrase),
            f"For the {those}, what is {phrase}?" if those else request % phrase,
        ]
    question = pick(draw, options)
    return f"{question[0].upper()}{question[1:]}"


def show_table(layout: str, table: Table) -> str:
    """A table in one of `LAYOUTS`.

    Example:
        >>> from mixgen.tasks._tables_data import TOPICS, Column, Table
        >>> columns = [Column("item", ["pen", "cup"]), Column("price", ["4", "2.5"])]
        >>> print(show_table("csv", Table(TOPICS[0], columns)))
        item,price
        pen,4
        cup,2.5
        >>> print(show_table("markdown", Table(TOPICS[0], columns)))
        |item|price|
        |-|-|
        |pen|4|
        |cup|2.5|
    """
    rows = [*zip(*[[column.name, *column.cells] for column in table.columns], strict=True)]
    if layout != "markdown":
        return "\n".join(map(SEPARATORS[layout].join, rows))
    lines = [f"|{'|'.join(row)}|" for row in rows]
    lines.insert(1, "|-" * len(table.columns) + "|")
    return "\n".join(lines)


def _is_met(draw: Draw, condition: Condition) -> str:
    return pick(draw, COMPARED[condition.comparison]) % condition.against
