"""Rows of anyone's datasets as mixgen has them: conversations, and pieces of long texts."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from mixgen.tasks.messages import Message, assistant, call_of, tool, user

SPACE: Final = re.compile(r"\s")


def conversation(messages: Sequence[Mapping[str, Any]]) -> list[Message]:
    """Messages as the Hub's datasets have them, as ours: a system message goes before the user's.

    Raises:
        ValueError: They do not end with the assistant's words, or a role or call is of no use.
    """
    found: list[Message] = []
    system = called = ""
    for message in messages:
        role, content = message["role"], message.get("content") or ""
        if not isinstance(content, str):
            raise ValueError(f"content is no text: {content!r:.80}")
        calls = message.get("tool_calls") or []
        if role == "system":
            system = content
        elif role == "user":
            found.append(user(f"{system}\n\n{content}" if system else content))
            system = ""
        elif system:
            raise ValueError("a system message that no user's follows")
        elif role == "tool":
            found.append(tool(content, message.get("name") or called))
        elif role != "assistant":
            raise ValueError(f"role {role!r} is none of system, user, assistant, tool")
        elif not calls:
            found.append(assistant(content))
        elif len(calls) > 1:
            raise ValueError("a message with several calls")
        else:
            function = calls[0]["function"]
            called, arguments = function["name"], function["arguments"]
            given = json.loads(arguments) if isinstance(arguments, str) else dict(arguments)
            found.append(call_of(called, given, content))
    if not found or found[-1]["role"] != "assistant" or found[-1]["tool_calls"]:
        raise ValueError("it does not end with the assistant's words")
    return found


def cut_text(text: str, size: int, piece: int) -> str:
    """A piece of a text, cut at spaces near by; all pieces joined are the text.

    A piece has at most a quarter more than `size` characters.

    Examples:
        >>> [cut_text("One two three four five.", 12, piece) for piece in range(2)]
        ['One two three', ' four five.']
    """
    return text[_cut_at(text, size * piece, size) : _cut_at(text, size * (piece + 1), size)]


def _cut_at(text: str, at: int, size: int) -> int:
    """Where a piece begins: at the first space from `at` on, if one is near."""
    if not 0 < at < len(text):
        return min(at, len(text))
    found = SPACE.search(text, at, at + size // 4)
    return found.start() if found else at
