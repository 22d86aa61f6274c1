"""Units: quantities in other units, numbers in other bases, and dates, with one call of the tool.

    user       How many kilometres are there in 12.5 miles?
    assistant  python: convert(12.5,'mi','km')
    tool       20.1168 km
    assistant  The answer is 20.1168 km.

    user       How many days after December 25, 2023, is March 1, 2024?
    assistant  python: date('2024-03-01')-date('2023-12-25')
    tool       67 days
    assistant  The answer is 67 days.

The assistant reads names and dates, and repeats what the tool prints; `mixgen.tools.units` says
which units there are, and how it rounds. Questions are put into words by `_units_words`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from mixgen.errors import TaskError, nearest
from mixgen.tasks._one_call import ANSWER, code_in, first_call, first_fault
from mixgen.tasks._units_problems import KINDS, draw_problem
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
from mixgen.tools.units import UNITS_SCHEMA, UnitsSession, read


@register
class Units(Task):
    """Units, bases and dates, with one call of the python tool."""

    name = "units"
    flag = "units"
    schemas: ClassVar = [UNITS_SCHEMA]

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Which questions are drawn, each kind as often as any other."""

        kinds: list[str] = field(
            default_factory=lambda: list(KINDS),
            metadata={"help": f"Kinds of questions: {', '.join(KINDS)}."},
        )
        max_digits: int = field(
            default=4, metadata={"help": "Most digits of a quantity before its point, 1 to 6."}
        )
        max_decimals: int = field(
            default=2, metadata={"help": "Most digits after the point, 0 to 4; 0: no decimals."}
        )
        decimal_rate: float = field(
            default=0.4, metadata={"help": "Share of quantities that are decimals, 0 to 1."}
        )
        negative_rate: float = field(
            default=0.3, metadata={"help": "Share of °C and °F that are negative, 0 to 1."}
        )
        max_bits: int = field(
            default=16, metadata={"help": "Most binary digits of a number in a base, 4 to 32."}
        )
        min_year: int = field(
            default=1900, metadata={"help": "First year of a question's first date, 1583 to 2999."}
        )
        max_year: int = field(
            default=2099, metadata={"help": "Last year of a question's first date."}
        )
        max_days: int = field(
            default=1000, metadata={"help": "Most days from one date to another, 1 to 99,999."}
        )

        def __post_init__(self) -> None:
            """Rejects settings that no question satisfies."""
            ranges = {
                "max_digits": (1, 6),
                "max_decimals": (0, 4),
                "decimal_rate": (0, 1),
                "negative_rate": (0, 1),
                "max_bits": (4, 32),
                "min_year": (1583, 2999),
                "max_year": (self.min_year, 2999),
                "max_days": (1, 99_999),
            }
            check_ranges("units", self, ranges)
            for kind in self.kinds:
                if kind not in KINDS:
                    raise TaskError(f"units: unknown {kind!r} in kinds: {nearest(kind, KINDS)}")
            if not self.kinds:
                raise TaskError("units: kinds must not be empty")

    def tools(self) -> UnitsSession:
        """See `Task.tools`."""
        return UnitsSession()

    def sample(self, rng: random.Random) -> Example:
        """See `Task.sample`."""
        draw = rng.random
        kinds = self.config.kinds
        kind = kinds[int(draw() * len(kinds))]
        problem = draw_problem(kind, self.config, draw)
        answer = read(problem.code).answer()
        return self.example(
            key=problem.key,
            messages=[
                user(problem.question),
                call(problem.code),
                tool(answer),
                assistant(ANSWER % answer),
            ],
            answer=answer,
            difficulty=problem.digits,
            metadata={"kind": kind},
        )

    def score(self, example: Example, reply: Sequence[Message]) -> Score:
        """1 if the call asks what the problem asks and the last message gives what it printed."""
        return judge(_first_fault, example, reply)

    def metrics(self, examples: Sequence[Example], trials: Sequence[Trial]) -> list[Metric]:
        """How many calls can be carried out, ask the problem, and how many answers repeat it.

        `exact` is all of it, end to end: over all, by kind and by the digits that the call copies.
        """
        steps = [_steps_done(*pair) for pair in zip(examples, trials, strict=True)]
        groups = [
            [f"kind {example['metadata']['kind']}", f"digits {example['difficulty']}"]
            for example in examples
        ]
        return [
            *tally([trial.score.value == 1 for trial in trials], name="exact", groups=groups),
            *tally([done >= 1 for done in steps], name="call_runs"),
            *tally([done >= 2 for done in steps], name="call_right"),
            *tally([done >= 3 for done in steps], name="answer_repeats_tool"),
        ]


def _steps_done(example: Example, trial: Trial) -> int:
    """How far a trial is right: 1 a call that can be carried out, 2 the right one, 3 the answer."""
    if not (called := first_call(trial)):
        return 0
    code, output = called
    if read(code) != read(code_in(example["messages"][1])):
        return 1
    return 3 if trial.messages[-1]["content"] == ANSWER % output else 2


def _carry_out(example: Example, code: str) -> tuple[str, str]:
    """A call with the right output may still be wrong: days between two other dates."""
    request = read(code)
    is_right = request == read(code_in(example["messages"][1]))
    return request.answer(), "" if is_right else f"the call asks for something else: {request}"


def _first_fault(example: Example, reply: Sequence[Message]) -> str:
    return first_fault(example, reply, _carry_out)
