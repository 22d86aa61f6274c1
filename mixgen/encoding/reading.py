"""Token ids -> messages: what `Renderer.encode` makes of a conversation, read back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mixgen.encoding import tokenizer as tk
from mixgen.encoding.renderer import Renderer
from mixgen.tasks.messages import Message, assistant, call_of, tool, user

BETWEEN: Final = {tk.BOS, tk.ASSISTANT_START, tk.PAD}  # they begin or end no text


def read_messages(ids: Sequence[int], renderer: Renderer) -> list[Message]:
    """The messages that ids hold, from wherever they begin.

    Text that has no end, as of a model that ran out of tokens, is a last message of role
    `"unfinished"`, so that no task takes it for an answer.

    Args:
        ids: Of a conversation or a part of it.
        renderer: The encoder of such conversations.

    Examples:
        >>> from mixgen.encoding.tokenizer import train_tokenizer
        >>> from mixgen.tasks.calculator import Calculator
        >>> task = Calculator()
        >>> renderer = Renderer(train_tokenizer((task,), seed=1, examples_per_task=200))
        >>> example = next(task.stream(split="train", seed=1))
        >>> read_messages(renderer.encode(example).input_ids, renderer) == example["messages"]
        True
    """
    markers = {number: token for token, number in renderer.special.items()}
    messages: list[Message] = []
    text: list[int] = []
    before_call = called = ""

    def taken() -> str:
        found = str(renderer.tokenizer.decode(text))
        text.clear()
        return found

    for token in map(int, ids):
        match markers.get(token):
            case None:
                text.append(token)
            case tk.USER_END:
                messages.append(user(taken()))
            case tk.PYTHON_START:
                before_call = taken()
            case tk.PYTHON_END:
                called, arguments = tk.read_call(taken())
                messages.append(call_of(called, arguments, before_call))
            case tk.OUTPUT_END:
                messages.append(tool(taken(), called))
            case tk.ASSISTANT_END:
                messages.append(assistant(taken()))
            case marker if marker not in BETWEEN:
                text.clear()  # a text begins
    if text:
        messages.append({**assistant(taken()), "role": "unfinished"})
    return messages
