"""What a conversation is: messages, the example that they make up, and the score of a reply."""

from __future__ import annotations

import dataclasses
from typing import Any, TypedDict

from mixgen.errors import TaskError


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

    def __post_init__(self) -> None:
        """Rejects what is no number from 0 to 1, such as NaN, and a reason that is no text."""
        if not isinstance(self.reason, str):
            raise TaskError(f"the reason of a score must be text, got {self.reason!r:.200}")
        if not 0 <= self.value <= 1:
            raise TaskError(f"the value of a score must lie in 0 to 1, got {self.value}")
        object.__setattr__(self, "value", float(self.value))  # numpy's are no JSON


def user(content: str) -> Message:
    """A user's message."""
    return {"role": "user", "content": content, "tool_calls": [], "name": ""}


def assistant(content: str) -> Message:
    """What the assistant says at the end of its turn."""
    return {"role": "assistant", "content": content, "tool_calls": [], "name": ""}


def call(code: str) -> Message:
    """The assistant's call of `python(code)`; its turn goes on after the tool's message."""
    return call_of("python", {"code": code})


def call_of(name: str, arguments: dict[str, Any], content: str = "") -> Message:
    """The assistant's call of any tool, and what it says before."""
    function = {"name": name, "arguments": arguments}
    return {
        "role": "assistant",
        "content": content,
        "tool_calls": [{"type": "function", "function": function}],
        "name": "",
    }


def tool(content: str, name: str = "python") -> Message:
    """What a tool printed."""
    return {"role": "tool", "content": content, "tool_calls": [], "name": name}
