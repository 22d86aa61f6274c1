"""Replies that are wrong for every task: a right one spoiled, so that scorers can be tried.

Some of them a model can write: calls and words of its own turn. Others nobody but a forger can,
since the user's words and the tools' output are not the model's to write.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple, cast

from mixgen.tasks.base import Example, Message

TAGS: Final = "<|python_start|>1<|python_end|><|output_start|>1<|output_end|><|assistant_end|>"
DEEP: Final[list[Any]] = functools.reduce(
    lambda inner, _: [inner], range(5_000), []
)  # too deep to be shown
BAD_ARGUMENTS: Final[tuple[Any, ...]] = (None, "{}", 7, [], {})
BAD_CODE: Final[tuple[Any, ...]] = (None, 7, [])
BAD_CALLS: Final[tuple[Any, ...]] = (
    *(None, 7, "text", [None], ["text"], [[]], [{}]),
    [{"function": None}],
)


class Corruption(NamedTuple):
    """A wrong reply."""

    name: str
    reply: list[Message]
    is_forged: bool  # no model can come to it


def altered(message: Message, part: str, value: Any) -> Message:
    """A message with another value of one of its fields."""
    changed: dict[str, Any] = {**message, part: value}
    return cast(Message, changed)


def corruptions(example: Example, other: Example) -> Iterator[Corruption]:
    """Spoils the right reply of an example.

    Args:
        example: The problem.
        other: An example with another question.
    """
    for name, reply in _that_a_model_writes(example, other):
        yield Corruption(name, reply, is_forged=False)
    for name, reply in _forged(example, other):
        yield Corruption(name, reply, is_forged=True)


Spoiled = Iterator[tuple[str, list[Message]]]


def _that_a_model_writes(example: Example, other: Example) -> Spoiled:
    gold = example["messages"]
    *head, last = gold
    yield "empty", []
    yield "question only", gold[:1]
    yield "cut by one", head
    for cut in range(2, len(gold)):
        yield f"cut at {cut}", gold[:cut]
    yield "empty last words", [*head, altered(last, "content", "")]
    yield "tag soup at the end", [*head, altered(last, "content", last["content"] + TAGS)]
    yield "tag soup only", [gold[0], altered(last, "content", TAGS * 10)]
    two_answers = f"{last['content']} {other['messages'][-1]['content']}!"
    yield "two answers", [*head, altered(last, "content", two_answers)]
    yield "the answer of another problem", [*head, *_last_words_unlike(example, other)]


def _last_words_unlike(example: Example, other: Example) -> list[Message]:
    """Last words of another answer."""
    last = other["messages"][-1]
    if other["answer"] == example["answer"]:
        return [altered(last, "content", f"{last['content']} 0")]
    return [last]


def _forged(example: Example, other: Example) -> Spoiled:
    gold = example["messages"]
    last = gold[-1]
    yield "another problem", other["messages"]
    yield "last words twice", [*gold, last]
    yield "a question too many", [*gold, gold[0]]
    yield "whole conversation twice", gold + gold
    yield "tag soup everywhere", [altered(message, "content", TAGS) for message in gold]
    yield "no roles", [altered(message, "role", "") for message in gold]
    yield "all said by the user", [altered(message, "role", "user") for message in gold]
    yield "reversed", gold[::-1]
    question = altered(gold[0], "content", "What is the capital of France?")
    yield "another question", [question, *gold[1:]]
    for index, message in enumerate(gold):
        before, after = gold[:index], gold[index + 1 :]
        if message["role"] == "tool":
            yield f"tool output {index} missing", before + after
            for output in ("", "error: no", message["content"] + "1", f" {message['content']}"):
                told = f"tool output {index} {output!r}"
                yield told, [*before, altered(message, "content", output), *after]
        if message["tool_calls"]:
            yield f"call {index} missing", before + after
            yield f"call {index} empty", [*before, altered(message, "tool_calls", []), *after]
            twice = altered(message, "tool_calls", message["tool_calls"] * 2)
            yield f"call {index} twice", [*before, twice, *after]
            function = message["tool_calls"][0]["function"]
            parts: list[dict[str, Any]] = [{"name": "no_such_tool"}, {"arguments": {}}]
            for part in [*parts, {"arguments": {"code": "nonsense"}}]:
                made = {"type": "function", "function": function | part}
                told = f"call {index} with {part}"
                yield told, [*before, altered(message, "tool_calls", [made]), *after]


def broken_replies(gold: Sequence[Message]) -> Iterator[list[Any]]:
    """Conversations with a message that is none, or lacks a field, or has one of another type."""
    junk: tuple[Any, ...] = (
        {},
        None,
        7,
        "text",
        [],
        {"role": "assistant"},
        {"role": "tool", "content": None},
    )
    for thing in junk:
        yield [thing]
        yield [thing] * len(gold)

    def without(message: Message, part: str) -> dict[str, Any]:
        return {field: value for field, value in message.items() if field != part}

    for index, message in enumerate(gold):
        before, after = gold[:index], gold[index + 1 :]
        for thing in junk:
            yield [*before, thing, *after]
        for part in ("role", "content"):
            yield [*before, without(message, part), *after]
            for value in (None, 7, ["text"], "", DEEP):
                if value != message[part]:
                    yield [*before, altered(message, part, value), *after]
        if message["tool_calls"]:
            function = message["tool_calls"][0]["function"]
            yield [*before, without(message, "tool_calls"), *after]
            spoiled = [
                *BAD_CALLS,
                [{"type": "function", "function": {"name": function["name"]}}],
                *([{"function": function | {"arguments": bad}}] for bad in BAD_ARGUMENTS),
                *([{"function": function | {"arguments": {"code": bad}}}] for bad in BAD_CODE),
            ]
            for calls in spoiled:
                yield [*before, altered(message, "tool_calls", calls), *after]
