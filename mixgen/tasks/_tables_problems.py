"""Draws the problems of the task `tables`: a question, and the call that answers it.

Whether there is an answer is the tool's to say: it refuses ties and selections without a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from mixgen.tasks._tables_data import (
    Column,
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
    num_cells: int  # that the call holds


def of_list(draw: Draw, settings: Settings, statistic: str, is_conditional: bool) -> Problem:
    """A question about a list of numbers."""
    count = between(draw, settings.min_numbers, settings.max_numbers)
    numbers = draw_numbers(draw, count, LIST, settings)
    if statistic == "mode":
        one, other = distinct(draw, range(count), 2)
        numbers.cells[one] = numbers.cells[other]
    condition = draw_condition(draw, numbers) if is_conditional else None
    words = ask_of_list(draw, statistic, numbers.cells, condition)
    if condition:
        return _problem(words, "list", statistic, [numbers], condition)
    return Problem(words, f"{statistic}({_code(numbers)})", "list", "none", count)


def of_table(draw: Draw, settings: Settings, statistic: str, is_conditional: bool) -> Problem:
    """A question about a column of a table."""
    table = draw_table(draw, settings)
    labels, *others = table.columns
    measure = pick(draw, [column for column in others if not column.words])
    condition = draw_condition(draw, pick(draw, others)) if is_conditional else None
    used = [labels, measure] if statistic in LABELLED else [measure]
    if condition and statistic == "count":
        used = [condition.column]
    layout = pick(draw, LAYOUTS)
    question = ask_of_table(draw, statistic, table, measure.name, condition)
    parts = [question, show_table(layout, table)]
    words = "\n".join(parts if draw() < 0.5 else parts[::-1])
    return _problem(words, layout, statistic, used, condition)


def _problem(
    words: str, form: str, statistic: str, used: Sequence[Column], condition: Condition | None
) -> Problem:
    """The problem whose call holds the columns that are needed, those of the condition first."""
    columns = list(used)
    suffix = kind = ""
    if condition:
        tested = condition.column
        kind = "word" if tested.words else "number"
        against = f"'{condition.against}'" if tested.words else condition.against
        suffix = f"[{tested.name}{condition.comparison}{against}]"
        if tested not in used:
            columns.insert(0, tested)
    lines = [f"{column.name}={_code(column)}" for column in columns]
    lines.append(f"{statistic}({','.join([column.name + suffix for column in used])})")
    num_cells = sum([len(column.cells) for column in columns]) + bool(condition)
    return Problem(words, "\n".join(lines), form, kind or "none", num_cells)


def _code(column: Column) -> str:
    """A column's cells as a list of the tool's language."""
    if column.words:
        return str(column.cells).replace(" ", "")
    return f"[{','.join(column.cells)}]"
