"""What a task is: one class that makes conversations, runs their tools and scores replies.

A task says `sample(rng) -> Example`; everything else (streams, splits, mixing, encoding, flags)
follows from that. The split of an example is decided by its problem, never by its seed:
`blake2b(task | key)` puts a problem into train, validation or test, and a stream of one split
passes over the problems of the others.
"""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any, ClassVar, Final

from mixgen.errors import TaskError, nearest
from mixgen.seeding import rng
from mixgen.tasks.messages import Example as Example
from mixgen.tasks.messages import Message as Message
from mixgen.tasks.messages import Score as Score
from mixgen.tasks.messages import assistant as assistant
from mixgen.tasks.messages import call as call
from mixgen.tasks.messages import tool as tool
from mixgen.tasks.messages import user as user
from mixgen.tasks.trial import (
    Answer,
    Metric,
    NoProblemError,
    Result,
    Trial,
    blaming,
    distinct_examples,
    roll_out,
    tally,
)
from mixgen.tools.session import NoTools, ToolSession

SPLITS: Final = ("train", "validation", "test")
HELD_OUT_SHARE: Final = 0.02  # of the problems, in validation and in test each
MAX_REJECTIONS: Final = 100_000  # draws in a row outside the wanted split before a stream gives up


def split_of(task: str, key: str, held_out_share: float = HELD_OUT_SHARE) -> str:
    """The split of a problem, by its hash.

    Args:
        task: The task's name.
        key: The problem, in its canonical form.
        held_out_share: The share of validation and of test each; the rest is train.
    """
    digest = blake2b(f"{task}|{key}".encode(), digest_size=8).digest()
    position = int.from_bytes(digest, "big") / 2**64
    if position >= 2 * held_out_share:
        return "train"
    return "validation" if position >= held_out_share else "test"


def check_split(split: str) -> None:
    """Raises a `TaskError` for a split that there is not."""
    if split not in SPLITS:
        raise TaskError(f"unknown split {split!r}: {nearest(split, SPLITS)}")


def check_ranges(task: str, config: Any, ranges: Mapping[str, tuple[float, float]]) -> None:
    """Makes sure that settings are numbers, or integers as their defaults are, in their ranges.

    Args:
        task: The task's name.
        config: Its settings.
        ranges: The least and the most that each may be.

    Raises:
        TaskError: One is not; the error names it, what is allowed and what was given.
    """
    for key, (low, high) in ranges.items():
        value = getattr(config, key)
        is_whole = isinstance(getattr(type(config), key), int)  # the default, of a dataclass
        if isinstance(value, bool) or not isinstance(value, int if is_whole else int | float):
            what = "an integer" if is_whole else "a number"
            raise TaskError(f"{task}: {key} must be {what}, got {value!r}")
        if not low <= value <= high:
            raise TaskError(f"{task}: {key} must lie in {low} to {high}, got {value}")


def judge(
    first_fault: Callable[[Example, Sequence[Message]], str],
    example: Example,
    reply: Sequence[Message],
) -> Score:
    """Scores a reply by the first fault that is found in it.

    Args:
        first_fault: Says what is wrong, or the empty string. It may take the reply's form for
            granted: the errors that follow where the form is wrong are faults too.
        example: The problem.
        reply: The whole conversation, untrusted.
    """
    try:
        reason = first_fault(example, reply)
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        reason = f"not a reply that can be read: {error!r}"
    return Score(value=0.0 if reason else 1.0, reason=reason)


class Task:
    """A source of conversations: subclass it, and decorate the class with `registry.register`.

    Attributes:
        name: The task's one name, in recipes, logs and datasets.
        flag: Its short name on the command line: `calc` gives `--calc_weight`, `--calc_max_depth`.
        schemas: JSON schemas of the tools that its conversations may call.
        split_rule: In a sentence for the reader of a dataset card, what is held out.
        config: A frozen `Config`; its fields are the task's keys in a recipe.
    """

    name: ClassVar[str]
    flag: ClassVar[str]
    schemas: ClassVar[list[dict[str, Any]]] = []
    split_rule: ClassVar[str] = "the hash of the problem decides its split."

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config:
        """The task's settings, each with a default; `metadata={"help": ...}` is its flag's help."""

    def __init__(self, config: Any = None) -> None:
        """Makes the task with its settings, the defaults if none are given."""
        self.config: Any = self.Config() if config is None else config

    def sample(self, rng: random.Random) -> Example:
        """Draws one example, of whichever split, with no other source of randomness than `rng`.

        Build the result with `self.example(...)`. The messages end with the assistant's last words,
        and each tool message holds exactly what `self.tools()` prints for the call before it.
        """
        raise NotImplementedError

    def sample_from(self, split: str, rng: random.Random) -> Example:
        """Draws until an example of `split` comes.

        Raises:
            NoProblemError: None came in `MAX_REJECTIONS` draws.
        """
        for _ in range(MAX_REJECTIONS):
            example = self.sample(rng)
            if example["split"] == split:
                return example
        raise self.no_problem(split)

    def no_problem(self, split: str) -> NoProblemError:
        """The error of a `sample_from` that has drawn `MAX_REJECTIONS` times."""
        return NoProblemError(
            f"task {self.name!r} with {self.config} made no {split} example in "
            f"{MAX_REJECTIONS:,} draws: its settings leave too few distinct problems"
        )

    def tools(self) -> ToolSession:
        """A fresh tool session for one conversation; it has no tools unless a task says so."""
        return NoTools()

    def score(self, example: Example, reply: Sequence[Message]) -> Score:
        """Scores a reply to `example`.

        Args:
            example: The problem, with its right answer.
            reply: The whole conversation as it went, from the first user message on; untrusted.
                Tool messages are what `self.tools()` printed, and are checked again here.

        Returns:
            1 if all of it is right. What cannot be parsed scores 0; nothing raises.
        """
        raise NotImplementedError

    def evaluate(self, answer: Answer, *, split: str = "test", num_examples: int = 1000) -> Result:
        """Tries a model on this task.

        By default, the user's words of distinct problems are put to the model, turn by turn. Say in
        `metrics` what is counted; replace this method where the user answers the model's moves.

        Args:
            answer: Gives the assistant's turns.
            split: The split that problems are of.
            num_examples: How many problems; fewer if there are no more. They are the same ones in
                every run.

        Raises:
            TaskError: No such split, or the task's own code fails.
        """
        check_split(split)
        examples = distinct_examples(self, split=split, num_examples=num_examples)
        trials = roll_out(self, answer, examples)
        with blaming(self.name, "metrics"):
            metrics = self.metrics(examples, trials)
        return Result(task=self.name, split=split, metrics=metrics, trials=trials)

    def metrics(self, examples: Sequence[Example], trials: Sequence[Trial]) -> list[Metric]:
        """What is counted of trials: how many score 1, over all and by difficulty."""
        right = [trial.score.value == 1 for trial in trials]
        groups = [[f"difficulty {example['difficulty']}"] for example in examples]
        return list(tally(right, name="exact", groups=groups))

    def example(
        self,
        *,
        key: str,
        messages: list[Message],
        answer: str,
        difficulty: int = 0,
        metadata: dict[str, Any] | None = None,
        split: str | None = None,
    ) -> Example:
        """An `Example` of this task; its split follows from `key` unless the task decides it."""
        return {
            "id": "",
            "task": self.name,
            "split": split or split_of(self.name, key),
            "difficulty": difficulty,
            "key": key,
            "messages": messages,
            "tools": self.schemas,
            "answer": answer,
            "metadata": metadata or {},
        }

    def stream(self, *, split: str, seed: int, block: int | str = 0) -> Iterator[Example]:
        """The endless stream of one split: a pure function of the arguments and the settings.

        Args:
            split: `"train"`, `"validation"` or `"test"`.
            seed: The run's seed.
            block: Which of the seed's streams, by number or name; each is independent of the
                others.

        Raises:
            TaskError: No such split, or the task has no problem in it.
        """
        check_split(split)
        generator = rng(seed, split, self.name, block)
        prefix = f"{self.name}-{split}-{seed}-{block}-"
        with blaming(self.name, "sample"):
            for index in itertools.count():
                example = self.sample_from(split, generator)
                example["id"] = f"{prefix}{index}"
                yield example
