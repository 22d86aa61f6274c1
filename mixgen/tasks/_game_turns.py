"""What a model's turn in a game is held to: the turn that the game would have told."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from mixgen.tasks.messages import Message


def codes_of(messages: Sequence[Message]) -> Iterator[str]:
    """The code of each call; the empty string of one that has none."""
    for message in messages:
        for made in message["tool_calls"]:
            code: Any = made["function"]["arguments"].get("code")
            yield code if isinstance(code, str) else ""


def have_same_effects(turn: Sequence[Message], right: Sequence[Message]) -> bool:
    """Whether two turns make the same calls, with the same outputs, whatever they say."""
    return [_effect_of(message) for message in turn] == [_effect_of(message) for message in right]


def _effect_of(message: Message) -> tuple[object, ...]:
    output = message["content"] if message["role"] == "tool" else ""
    return message["role"], message["name"], message["tool_calls"], output


def wrong_claims(turn: Sequence[Message], right: Sequence[Message]) -> tuple[str, ...]:
    """What a turn says otherwise than the right one, which has the same effects."""
    return tuple(
        f"says {given['content']!r} where {expected['content']!r} is true"
        for given, expected in zip(turn, right, strict=True)
        if given["content"] != expected["content"]
    )
