"""Calculator: arithmetic in words, symbols or both, worked out with one call of the python tool.

    user       What is (7 plus 5) times 3?
    assistant  python: (7+5)*3
    tool       36
    assistant  The answer is 36.

The expression is put into words by `_wording`, and grown by `_expressions`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Final

from mixgen.errors import TaskError, nearest
from mixgen.tasks._expressions import Grower
from mixgen.tasks._one_call import ANSWER, first_call, first_fault
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
from mixgen.tools.expression import BINARY, FUNCTIONS, Number, evaluate, format_value
from mixgen.tools.session import EXPRESSION_SCHEMA, ExpressionSession

PHRASINGS: Final = (
    "What is %s?",
    "Calculate %s.",
    "Compute %s.",
    "Evaluate %s.",
    "How much is %s?",
    "Work out %s.",
    "Find the value of %s.",
    "%s = ?",
    "Tell me %s.",
    "Please compute %s.",
)
MAX_TRIES: Final = 10_000  # expressions given up in a row before the settings are called impossible


@register
class Calculator(Task):
    """Arithmetic on integers, decimals and functions, with one call of the python tool."""

    name = "calculator"
    flag = "calc"
    schemas: ClassVar = [EXPRESSION_SCHEMA]

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Which expressions are drawn; a depth of 1 is one operator on two numbers."""

        min_depth: int = field(
            default=1, metadata={"help": "Smallest depth of an expression tree."}
        )
        max_depth: int = field(default=3, metadata={"help": "Largest depth of an expression tree."})
        max_digits: int = field(
            default=4, metadata={"help": "Most digits of a whole operand, 1 to 4."}
        )
        max_decimals: int = field(
            default=4, metadata={"help": "Most digits after the point, 0 to 4; 0: no decimals."}
        )
        decimal_rate: float = field(
            default=0.25, metadata={"help": "Share of operands that are decimals, 0 to 1."}
        )
        negative_rate: float = field(
            default=0.15, metadata={"help": "Share of operands that are negative, 0 to 1."}
        )
        function_rate: float = field(
            default=0.3, metadata={"help": "Share of nodes that are functions, 0 to 1."}
        )
        operators: list[str] = field(
            default_factory=lambda: list(BINARY), metadata={"help": "Binary operators."}
        )
        functions: list[str] = field(
            default_factory=lambda: list(FUNCTIONS), metadata={"help": "Functions."}
        )

        def __post_init__(self) -> None:
            """Rejects settings that no expression satisfies."""
            ranges = {
                "min_depth": (1, 3),
                "max_depth": (self.min_depth, 3),
                "max_digits": (1, 4),
                "max_decimals": (0, 4),
                "decimal_rate": (0, 1),
                "negative_rate": (0, 1),
                "function_rate": (0, 1),
            }
            check_ranges("calculator", self, ranges)
            for key, known in (("operators", BINARY), ("functions", FUNCTIONS)):
                for symbol in getattr(self, key):
                    if symbol not in known:
                        raise TaskError(
                            f"calculator: unknown {symbol!r} in {key}: {nearest(symbol, known)}"
                        )
            if not self.operators:
                raise TaskError("calculator: operators must not be empty")

    def __init__(self, config: Config | None = None) -> None:
        """Makes the task with its settings, the defaults if none are given."""
        super().__init__(config)
        self._grower = Grower(self.config)

    def tools(self) -> ExpressionSession:
        """See `Task.tools`."""
        return ExpressionSession()

    def sample(self, rng: random.Random) -> Example:
        """See `Task.sample`."""
        draw = rng.random
        config = self.config
        depth = config.min_depth + int(draw() * (config.max_depth - config.min_depth + 1))
        style = int(draw() * 3)
        wordiness = (0.0, 1.0, 0.5)[style]
        used: list[str] = []
        for _ in range(MAX_TRIES):
            if node := self._grower.grow(draw, depth, wordiness, used):
                break
            used.clear()
        else:
            raise TaskError(f"calculator: no expression of depth {depth} satisfies {config}")
        answer = format_value(node.value)
        return self.example(
            key=node.key,
            messages=[
                user(PHRASINGS[int(draw() * len(PHRASINGS))] % node.prompt),
                call(node.code),
                tool(answer),
                assistant(ANSWER % answer),
            ],
            answer=answer,
            difficulty=len(used),
            metadata={"depth": depth, "operators": used},
        )

    def score(self, example: Example, reply: Sequence[Message]) -> Score:
        """1 if the call computes the problem's value and the last message gives what it printed."""
        return judge(_first_fault, example, reply)

    def metrics(self, examples: Sequence[Example], trials: Sequence[Trial]) -> list[Metric]:
        """How many calls can be carried out, compute the value, and how many answers repeat it.

        `exact` is all of it, end to end: over all, by operator, by depth and by the digits of the
        longest number.
        """
        steps = [_steps_done(*pair) for pair in zip(examples, trials, strict=True)]
        groups = [_groups(example) for example in examples]
        return [
            *tally([trial.score.value == 1 for trial in trials], name="exact", groups=groups),
            *tally([done >= 1 for done in steps], name="call_runs"),
            *tally([done >= 2 for done in steps], name="value_right"),
            *tally([done >= 3 for done in steps], name="answer_repeats_tool"),
        ]


def _steps_done(example: Example, trial: Trial) -> int:
    """How far a trial is right: 1 a call that can be carried out, 2 its value, 3 the answer."""
    if not (called := first_call(trial)):
        return 0
    code, output = called
    if not _is_value(evaluate(code), example["answer"]):
        return 1
    return 3 if trial.messages[-1]["content"] == ANSWER % output else 2


def _groups(example: Example) -> list[str]:
    """What a problem is counted under."""
    code = example["messages"][1]["tool_calls"][0]["function"]["arguments"]["code"]
    numbers = re.findall(r"[0-9]+(?:\.[0-9]+)?", code)
    digits = max((len(number.replace(".", "")) for number in numbers), default=0)
    return [
        f"depth {example['metadata']['depth']}",
        f"digits {digits}",
        *(f"operator {name}" for name in set(example["metadata"]["operators"])),
    ]


def _is_value(value: Number, answer: str) -> bool:
    """Whether a value is the right one: whole numbers exactly, ten digits of a decimal."""
    right = evaluate(answer)
    if isinstance(right, int):
        return format_value(value) == answer
    return abs(value - right) <= 1e-9 * max(abs(value), abs(right))


def _carry_out(example: Example, code: str) -> tuple[str, str]:
    value = evaluate(code)
    printed = format_value(value)
    is_right = _is_value(value, example["answer"])
    return printed, "" if is_right else f"the call computes {printed}, not {example['answer']}"


def _first_fault(example: Example, reply: Sequence[Message]) -> str:
    return first_fault(example, reply, _carry_out)
