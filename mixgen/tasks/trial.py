"""How a task tries a model: conversations are put to it, and what comes of them is counted.

A task knows nothing of models. It gets an `Answer`, which takes conversations that end with the
user's words and gives back the assistant's turn in each, with the tools really run. Scripted
players are answers too, which is how the metrics themselves are tested.
"""

from __future__ import annotations

import collections
import copy
import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from mixgen.errors import MixgenError, TaskError, one_line
from mixgen.tasks.messages import Example, Message, Score

if TYPE_CHECKING:
    from mixgen.tasks.base import Task

SEED: Final = 0  # of the problems that models are tried on: the same ones for every run
MAX_REPEATS: Final = 10_000  # draws in a row that give no new problem before there are no more
Z_95: Final = 1.959963984540054  # of the normal distribution, two-sided


class NoProblemError(TaskError):
    """A task has no problem in a split."""


@contextmanager
def blaming(task: str, part: str) -> Iterator[None]:
    """Says of what fails inside that it is a task's own code.

    Args:
        task: The task's name.
        part: Of its code: `"score"`.

    Raises:
        TaskError: Something inside raised an error that is not mixgen's own.
    """
    try:
        yield
    except MixgenError:
        raise
    except (Exception, SystemExit) as error:  # a user's own code may raise anything
        raise TaskError(f"task {task!r}: {part} fails ({one_line(error)})") from error


class Turn(NamedTuple):
    """What an assistant did with its turn: calls, the tools' output, its last words."""

    messages: list[Message]
    fault: str = ""  # why it came to no end
    forged: int = 0  # how often it would have written a tool's output itself


Conversation: TypeAlias = Sequence[Message]
Answer: TypeAlias = Callable[[Sequence[Conversation]], list[Turn]]


class Trial(NamedTuple):
    """One conversation with a model, to its end, and how good it was."""

    messages: list[Message]
    score: Score


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metric:
    """A count out of a total, such as 998 of 1,000 problems.

    Attributes:
        name: What is counted: `"exact"`.
        group: Of which part, such as `"depth 2"`; empty: of all.
        count: How many.
        total: Out of how many.
        unit: Of what: `"problems"`, `"lines"`, `"moves"`.
        is_fault: Whether fewer are better. Faults are told as counts, others as shares.
        is_sample: Whether the total is a sample of more, so that chance has a part in the share.
    """

    name: str
    count: int
    total: int
    group: str = ""
    unit: str = "problems"
    is_fault: bool = False
    is_sample: bool = True

    def __post_init__(self) -> None:
        """Makes the counts plain integers, and rejects a count that is no part of its total, and
        names that are no text of one line.
        """
        for key in ("name", "group", "unit"):
            text = getattr(self, key)
            if not isinstance(text, str) or not text.isprintable():
                raise TaskError(f"metric {self.name!r}: {key} must be text, got {text!r:.200}")
        given = self.count, self.total
        try:
            count, total = map(int, given)
            fits = (count, total) == given and 0 <= count <= total
        except (TypeError, ValueError, OverflowError):
            fits = False
        if not fits:
            raise TaskError(
                f"metric {self.name!r}: count must be an integer from 0 to total, "
                f"got {given[0]} of {given[1]}"
            )
        object.__setattr__(self, "count", count)
        object.__setattr__(self, "total", total)

    @property
    def rate(self) -> float:
        """The share, not a number where there is no total."""
        return self.count / self.total if self.total else math.nan

    @property
    def value(self) -> float:
        """What is logged: the count of a fault, else the share."""
        return float(self.count) if self.is_fault else self.rate

    @property
    def interval(self) -> tuple[float, float]:
        """The share's 95 % Wilson interval (Wilson 1927, as in Brown, Cai and DasGupta 2001).

        Examples:
            >>> low, high = Metric(name="exact", count=999, total=1000).interval
            >>> f"{low:.4f} to {high:.4f}"
            '0.9944 to 0.9998'
        """
        if not self.total:
            return 0.0, 1.0
        n, p, z = self.total, self.rate, Z_95
        middle = p + z * z / (2 * n)
        spread = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        scale = 1 + z * z / n
        low = (middle - spread) / scale if self.count else 0.0
        high = (middle + spread) / scale if self.count < n else 1.0
        return low, high


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """What came of trying a model on one task.

    Attributes:
        task: Its name.
        split: The split that was asked for.
        metrics: What was counted; the first tells most.
        trials: The conversations.
        note: What the figures are of, in a sentence for the reader of a report.
    """

    task: str
    split: str
    metrics: list[Metric]
    trials: list[Trial]
    note: str = ""

    def __post_init__(self) -> None:
        """Rejects metrics and trials that are none, metrics that occur twice, and other notes."""
        for key, kind in (("metrics", Metric), ("trials", Trial)):
            given = getattr(self, key)
            if not isinstance(given, list) or not all(isinstance(one, kind) for one in given):
                raise TaskError(
                    f"task {self.task!r}: {key} must be a list of {kind.__name__}, "
                    f"got {given!r:.200}"
                )
        counts = collections.Counter((metric.name, metric.group) for metric in self.metrics)
        if twice := [" of ".join(filter(None, key)) for key, n in counts.items() if n > 1]:
            raise TaskError(f"task {self.task!r}: metric {twice[0]!r} is given twice")
        if not isinstance(self.note, str):
            raise TaskError(f"task {self.task!r}: note must be text, got {self.note!r:.200}")

    def __getitem__(self, name: str) -> Metric:
        """The metric over all, or that of a group: `result["exact"]`, `result["exact/depth 2"]`."""
        found = {f"{one.name}/{one.group}": one for one in self.metrics}
        return found[name if "/" in name else f"{name}/"]


def roll_out(task: Task, answer: Answer, examples: Sequence[Example]) -> list[Trial]:
    """Puts the user's words of examples to a model, turn by turn, and scores what comes.

    Args:
        task: The task of the examples.
        answer: Gives the assistant's turns.
        examples: The problems; of each, only what the user says is used.

    Raises:
        TaskError: The task's `score` fails, or gives no `Score`.
    """
    talks = converse(answer, [said_by_user(example["messages"]) for example in examples])
    return [
        Trial(
            messages=messages,
            score=Score(value=0.0, reason=fault) if fault else _score(task, example, messages),
        )
        for example, (messages, fault) in zip(examples, talks, strict=True)
    ]


def said_by_user(messages: Conversation) -> list[Message]:
    """The user's messages of a conversation."""
    return [message for message in messages if message["role"] == "user"]


def converse(answer: Answer, asked: Sequence[Conversation]) -> list[tuple[list[Message], str]]:
    """Whole conversations, and why each was broken off; empty if it was not.

    Args:
        answer: Gives the assistant's turns.
        asked: What the user says in each, turn by turn, whatever the assistant does; one whose turn
            comes to no end stops there.
    """
    talks: list[list[Message]] = [[] for _ in asked]
    faults = [""] * len(asked)
    for turn in range(max(map(len, asked), default=0)):
        going = [i for i, said in enumerate(asked) if turn < len(said) and not faults[i]]
        for i in going:
            talks[i].append(asked[i][turn])
        for i, answered in zip(going, answer([talks[i] for i in going]), strict=True):
            talks[i] += answered.messages
            faults[i] = answered.fault
    return list(zip(talks, faults, strict=True))


def _score(task: Task, example: Example, messages: list[Message]) -> Score:
    with blaming(task.name, "score"):
        score: object = task.score(example, messages)
    if not isinstance(score, Score):
        raise TaskError(f"task {task.name!r}: score must give a Score, got {score!r}")
    return score


def distinct_examples(task: Task, *, split: str, num_examples: int) -> list[Example]:
    """The first distinct problems of a split, the same in every run; fewer if there are no more.

    Raises:
        TaskError: No such split, or the task cannot make an example.
    """
    return copy.deepcopy(_draw_distinct(task, split, num_examples))


@functools.lru_cache(maxsize=32)  # where problems are few, it takes `MAX_REPEATS` draws to know
def _draw_distinct(task: Task, split: str, num_examples: int) -> list[Example]:
    found: dict[str, Example] = {}
    repeats = 0
    stream = task.stream(split=split, seed=SEED)
    while len(found) < num_examples and repeats < MAX_REPEATS:
        try:
            example = next(stream)
        except NoProblemError:
            break
        repeats = repeats + 1 if example["key"] in found else 0
        found.setdefault(example["key"], example)
    return list(found.values())


def tally(
    flags: Sequence[bool], *, name: str, groups: Sequence[Sequence[str]] = (), **settings: Any
) -> Iterator[Metric]:
    """The metric over all, then that of each group in order of its name.

    Args:
        flags: Whether each trial counts.
        name: The metric's name.
        groups: The groups that each trial belongs to.
        **settings: More fields of `Metric`.
    """
    yield Metric(name=name, count=sum(flags), total=len(flags), **settings)
    for group in sorted(set(itertools.chain.from_iterable(groups))):
        chosen = [flag for flag, names in zip(flags, groups, strict=True) if group in names]
        yield Metric(name=name, group=group, count=sum(chosen), total=len(chosen), **settings)
