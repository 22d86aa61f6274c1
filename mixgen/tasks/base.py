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
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from typing import Any, ClassVar, Final, TypedDict

from mixgen.errors import TaskError, nearest
from mixgen.seeding import rng
from mixgen.tools.session import ToolSession

SPLITS: Final = ("train", "validation", "test")
HELD_OUT_SHARE: Final = 0.02  # of the problems, in validation and in test each
MAX_REJECTIONS: Final = 100_000  # draws in a row outside the wanted split before a stream gives up


class Message(TypedDict):
    """One message; all four fields are always there, so that every task's rows have one schema."""

    role: str
    content: str
    tool_calls: list[dict[str, Any]]
    name: str


class Example(TypedDict):
    """One conversation of a task with its problem's facts: the schema of every published dataset.

    `id` names the stream position, `key` the problem independent of its wording, `answer` what a
    right reply ends with; `tools` holds JSON schemas and `metadata` the task's own facts.
    """

    id: str
    task: str
    split: str
    difficulty: int
    key: str
    messages: list[Message]
    tools: list[dict[str, Any]]
    answer: str
    metadata: dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Score:
    """How good a reply is: `value` in [0, 1], 1 only if all is right, else with a `reason`."""

    value: float
    reason: str = ""


def user(content: str) -> Message:
    """A user's message."""
    return {"role": "user", "content": content, "tool_calls": [], "name": ""}


def assistant(content: str) -> Message:
    """What the assistant says at the end of its turn."""
    return {"role": "assistant", "content": content, "tool_calls": [], "name": ""}


def call(code: str) -> Message:
    """The assistant's call of `python(code)`; its turn goes on after the tool's message."""
    function = {"name": "python", "arguments": {"code": code}}
    return {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"type": "function", "function": function}],
        "name": "",
    }


def tool(content: str) -> Message:
    """What the python tool printed."""
    return {"role": "tool", "content": content, "tool_calls": [], "name": "python"}


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
    except (IndexError, KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"not a reply that can be read: {error!r}"
    return Score(value=0.0 if reason else 1.0, reason=reason)


class Task:
    """A source of conversations: subclass it, and decorate the class with `registry.register`.

    Attributes:
        name: The task's one name, in recipes, logs and datasets.
        flag: Its short name on the command line: `calc` gives `--calc_weight`, `--calc_max_depth`.
        schemas: JSON schemas of the tools that its conversations may call.
        config: A frozen `Config`; its fields are the task's keys in a recipe.
    """

    name: ClassVar[str]
    flag: ClassVar[str]
    schemas: ClassVar[list[dict[str, Any]]] = []

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
            TaskError: None came in `MAX_REJECTIONS` draws.
        """
        for _ in range(MAX_REJECTIONS):
            example = self.sample(rng)
            if example["split"] == split:
                return example
        raise TaskError(
            f"task {self.name!r} with {self.config} made no {split} example "
            f"in {MAX_REJECTIONS:,} draws: "
            "its settings leave too few distinct problems"
        )

    def tools(self) -> ToolSession:
        """A fresh tool session for one conversation."""
        raise TaskError(f"task {self.name!r} has no tools")

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

    def stream(self, *, split: str, seed: int, block: int = 0) -> Iterator[Example]:
        """The endless stream of one split: a pure function of the arguments and the settings.

        Args:
            split: `"train"`, `"validation"` or `"test"`.
            seed: The run's seed.
            block: Which of the seed's streams; each is independent of the others.

        Raises:
            TaskError: No such split, or the task has no problem in it.
        """
        if split not in SPLITS:
            raise TaskError(f"unknown split {split!r}: {nearest(split, SPLITS)}")
        generator = rng(seed, split, self.name, block)
        prefix = f"{self.name}-{split}-{seed}-{block}-"
        for index in itertools.count():
            example = self.sample_from(split, generator)
            example["id"] = f"{prefix}{index}"
            yield example
