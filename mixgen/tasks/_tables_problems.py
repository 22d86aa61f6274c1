"""Draws the problems of the task `tables`: a question, and the call that answers it.

Whether there is an answer is the tool's to say: it refuses ties and selections without a row.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from mixgen.tasks._tables_data import (
    Condition,
    Draw,
    Measure,
    Settings,
    between,
    distinct,
    draw_condition,
    draw_numbers,
    draw_table,
    pick,
)
from mixgen.tasks._tables_words import LAYOUTS, ask_of_list, ask_of_table, show_table
from mixgen.tools.tables import LABELLED

LIST: Final = Measure("x", max_digits=6, is_signed=True)  # what a list is called in a call


class Problem(NamedTuple):
    """A question and the call that answers it."""

    words: str
    code: str
    form: str  # "list", or the table's layout
    condition: str  # on a "number" or a "word", or "none"
    num_cells: int  # of the list or table without its header, and of the condition


def of_list(draw: Draw, settings: Settings, statistic: str, is_conditional: bool) -> Problem:
    """A question about a list of numbers."""
    count = between(draw, settings.min_numbers, settings.max_numbers)
    numbers = draw_numbers(draw, count, LIST, settings)
    if statistic == "mode":
        one, other = distinct(draw, range(count), 2)
        numbers.cells[one] = numbers.cells[other]
    condition = draw_condition(draw, numbers) if is_conditional else None
    words = ask_of_list(draw, statistic, numbers.cells, condition)
    code = f"[{','.join(numbers.cells)}]"
    if condition:
        code = f"{LIST.name}={code}\n{statistic}({LIST.name}{_where(condition)})"
        return Problem(words, code, "list", "number", count + 1)
    return Problem(words, f"{statistic}({code})", "list", "none", count)


def of_table(draw: Draw, settings: Settings, statistic: str, is_conditional: bool) -> Problem:
    """A question about a column of a table."""
    table = draw_table(draw, settings)
    labels, *others = table.columns
    measure = pick(draw, [column for column in others if not column.words])
    condition = None
    if is_conditional:
        # Words are learned from fewer columns than numbers.
        words = [column for column in others if column.words]
        condition = draw_condition(draw, pick(draw, words if words and draw() < 0.5 else others))
    used = [labels, measure] if statistic in LABELLED else [measure]
    if condition and statistic == "count":
        used = [condition.column]
    where = _where(condition) if condition else ""
    layout = pick(draw, LAYOUTS)
    shown = show_table(layout, table)
    parts = [ask_of_table(draw, statistic, table, measure.name, condition), shown]
    asked = ",".join([column.name + where for column in used])
    return Problem(
        "\n".join(parts if draw() < 0.5 else parts[::-1]),
        f"table='''\n{shown}\n'''\n{statistic}({asked})",
        layout,
        ("word" if condition.column.words else "number") if condition else "none",
        len(table.columns) * len(labels.cells) + bool(condition),
    )


def _where(condition: Condition) -> str:
    """A condition in the tool's language."""
    column, comparison, against = condition
    return f"[{column.name}{comparison}" + (f'"{against}"]' if column.words else f"{against}]")
