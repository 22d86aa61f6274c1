"""Tables: a statistic of a list of numbers or of a small table, with one call of the python tool.

    user       What is the mean price of the items whose color is red?
               item,color,price
               pen,red,4
               cup,blue,2.5
               hat,red,7
    assistant  python: table='''
                       item,color,price
                       pen,red,4
                       cup,blue,2.5
                       hat,red,7
                       '''
                       mean(price[color=="red"])
    tool       5.5
    assistant  The answer is 5.5.

The model reads: it repeats the list or the table as it is shown, and finds what is asked of it. The
tool computes: it compares, orders and adds. A problem is the function, the condition and the rows
of the columns that these are of, in any order, whatever they are called and however they are shown.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Final

from mixgen.errors import TaskError, nearest
from mixgen.tasks._one_call import ANSWER, first_call, first_fault
from mixgen.tasks._tables_data import pick
from mixgen.tasks._tables_problems import of_list, of_table
from mixgen.tasks.base import (
    Example,
    Message,
    Score,
    Task,
    assistant,
    call,
    check_ranges,
    judge,
    tool,
    user,
)
from mixgen.tasks.registry import register
from mixgen.tasks.trial import Metric, Trial, tally
from mixgen.tools.expression import ToolError
from mixgen.tools.tables import (
    FUNCTIONS,
    LABELLED,
    TABLE_SCHEMA,
    Cell,
    Query,
    TableSession,
    format_decimal,
    read,
    run,
)

OF_LISTS: Final = tuple(name for name in FUNCTIONS if name not in LABELLED)
OF_TABLES: Final = tuple(name for name in FUNCTIONS if name not in ("mode", "sorted"))
UNCONDITIONAL: Final = ("mode", "sorted")
MAX_TRIES: Final = 10_000  # draws in a row that give no answer before the settings are impossible


@register
class Tables(Task):
    """Statistics of lists and small tables, with one call of the python tool."""

    name = "tables"
    flag = "tables"
    schemas: ClassVar = [TABLE_SCHEMA]
    split_rule: ClassVar = (
        "the hash of the function, its condition and the numbers and words that it is of, in any "
        "order, decides."
    )

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Which lists, tables and questions are drawn."""

        table_rate: float = field(
            default=0.5, metadata={"help": "Share of tables, 0 to 1; the others are lists."}
        )
        condition_rate: float = field(
            default=0.4,
            metadata={
                "help": "Share of questions that have a condition, 0 to 1; a count always has one, "
                "a mode and a sorted list never."
            },
        )
        statistics: list[str] = field(
            default_factory=lambda: list(FUNCTIONS),
            metadata={
                "help": f"Statistics; of tables only {', '.join(LABELLED)}, of lists only "
                f"{', '.join(UNCONDITIONAL)}."
            },
        )
        min_numbers: int = field(default=3, metadata={"help": "Fewest numbers of a list, 3 to 12."})
        max_numbers: int = field(default=5, metadata={"help": "Most numbers of a list, 3 to 12."})
        min_rows: int = field(default=2, metadata={"help": "Fewest rows of a table, 2 to 6."})
        max_rows: int = field(default=4, metadata={"help": "Most rows of a table, 2 to 6."})
        min_columns: int = field(default=2, metadata={"help": "Fewest columns of a table, 2 or 3."})
        max_columns: int = field(default=3, metadata={"help": "Most columns of a table, 2 or 3."})
        max_digits: int = field(
            default=3, metadata={"help": "Most digits before the point of a number, 1 to 6."}
        )
        max_decimals: int = field(
            default=2, metadata={"help": "Most digits after the point, 0 to 4; 0: no decimals."}
        )
        decimal_rate: float = field(
            default=0.2, metadata={"help": "Share of lists and columns with decimals, 0 to 1."}
        )
        negative_rate: float = field(
            default=0.2,
            metadata={"help": "Share of lists and temperatures with negative numbers, 0 to 1."},
        )

        def __post_init__(self) -> None:
            """Rejects settings that no problem satisfies."""
            ranges = {
                "table_rate": (0, 1),
                "condition_rate": (0, 1),
                "min_numbers": (3, 12),
                "max_numbers": (self.min_numbers, 12),
                "min_rows": (2, 6),
                "max_rows": (self.min_rows, 6),
                "min_columns": (2, 3),
                "max_columns": (self.min_columns, 3),
                "max_digits": (1, 6),
                "max_decimals": (0, 4),
                "decimal_rate": (0, 1),
                "negative_rate": (0, 1),
            }
            check_ranges("tables", self, ranges)
            for name in self.statistics:
                if name not in FUNCTIONS:
                    raise TaskError(
                        f"tables: unknown {name!r} in statistics: {nearest(name, FUNCTIONS)}"
                    )
            for what, share, known in (
                ("lists", 1 - self.table_rate, OF_LISTS),
                ("tables", self.table_rate, OF_TABLES),
            ):
                if share and not set(known).intersection(self.statistics):
                    raise TaskError(
                        f"tables: statistics must hold one of {', '.join(known)} for {what} "
                        f"(table_rate {self.table_rate}), got {self.statistics}"
                    )

    def __init__(self, config: Config | None = None) -> None:
        """Makes the task with its settings, the defaults if none are given."""
        super().__init__(config)
        statistics = self.config.statistics
        self._of_lists = [name for name in statistics if name in OF_LISTS]
        self._of_tables = [name for name in statistics if name in OF_TABLES]

    def tools(self) -> TableSession:
        """See `Task.tools`."""
        return TableSession()

    def sample(self, rng: random.Random) -> Example:
        """See `Task.sample`."""
        draw = rng.random
        config = self.config
        make, names = (
            (of_table, self._of_tables) if draw() < config.table_rate else (of_list, self._of_lists)
        )
        statistic = pick(draw, names)
        is_conditional = statistic == "count" or (
            statistic not in UNCONDITIONAL and draw() < config.condition_rate
        )
        for _ in range(MAX_TRIES):
            problem = make(draw, config, statistic, is_conditional)
            query = read(problem.code)
            try:
                answer = run(query)
                break
            except ToolError:  # a tie, no mode, or no row that meets the condition
                continue
        else:
            raise TaskError(f"tables: no {statistic} satisfies {config}")
        return self.example(
            key=_key(query),
            messages=[
                user(problem.words),
                call(problem.code),
                tool(answer),
                assistant(ANSWER % answer),
            ],
            answer=answer,
            difficulty=problem.num_cells,
            metadata={
                "statistic": statistic,
                "form": problem.form,
                "condition": problem.condition,
            },
        )

    def score(self, example: Example, reply: Sequence[Message]) -> Score:
        """1 if the call is the problem's, row for row, and the last message gives its output."""
        return judge(_first_fault, example, reply)

    def metrics(self, examples: Sequence[Example], trials: Sequence[Trial]) -> list[Metric]:
        """How many calls can be carried out, give the value, ask for it, and are repeated.

        `exact` is all of it, end to end: over all, by statistic, by form, by condition and by the
        number of cells of the list or table, and of the condition.
        """
        steps = [_steps_done(*pair) for pair in zip(examples, trials, strict=True)]
        groups = [
            [
                *(f"{kind} {fact}" for kind, fact in example["metadata"].items()),
                f"cells {example['difficulty']}",
            ]
            for example in examples
        ]
        return [
            *tally([trial.score.value == 1 for trial in trials], name="exact", groups=groups),
            *tally([done >= 1 for done in steps], name="call_runs"),
            *tally([done >= 2 for done in steps], name="value_right"),
            *tally([done >= 3 for done in steps], name="call_right"),
            *tally([done >= 4 for done in steps], name="answer_repeats_tool"),
        ]


def _key(query: Query) -> str:
    """A problem in canonical form: its function, condition and rows, in order."""
    function, (values, tested, comparison, against), labels = query
    columns = [labels, values, tested]
    if function == "count":
        columns = [tested or values]
    elif tested == values:
        columns = [labels, values]
    rows = zip(*[map(_text, column) for column in columns if column], strict=True)
    condition = f"{comparison}{_text(against)}"
    return f"{function} {condition} {' '.join(sorted(map('/'.join, rows)))}"


def _text(cell: Cell) -> str:
    return cell if isinstance(cell, str) else format_decimal(cell)


def _steps_done(example: Example, trial: Trial) -> int:
    """How far a trial is right: 1 a call that runs, 2 its value, 3 all of it, 4 the answer."""
    if not (called := first_call(trial)):
        return 0
    code, output = called
    query = read(code)
    if run(query) != example["answer"]:
        return 1
    if _key(query) != example["key"]:
        return 2
    return 4 if trial.messages[-1]["content"] == ANSWER % output else 3


def _carry_out(example: Example, code: str) -> tuple[str, str]:
    query = read(code)
    printed = run(query)
    if printed != example["answer"]:
        return printed, f"the call gives {printed}, not {example['answer']}"
    is_right = _key(query) == example["key"]
    return printed, "" if is_right else "the call has the right value, but is not what was asked"


def _first_fault(example: Example, reply: Sequence[Message]) -> str:
    return first_fault(example, reply, _carry_out)
