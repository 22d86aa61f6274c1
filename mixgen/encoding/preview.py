"""An example as people read it: text with special tokens, who says it, and what is trained on."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Final, NamedTuple

from mixgen.encoding import tokenizer as tk
from mixgen.encoding.renderer import IGNORED, Renderer
from mixgen.tasks.base import Example

OPENS: Final = {tk.USER_START: "user", tk.OUTPUT_START: "tool", tk.PYTHON_START: "call"}
CLOSES: Final = {tk.USER_END, tk.OUTPUT_END, tk.PYTHON_END}


class Span(NamedTuple):
    """Tokens in a row with one speaker: `"user"`, `"assistant"`, `"call"` or `"tool"`."""

    speaker: str
    is_trained: bool
    text: str
    tokens: tuple[str, ...]  # each by itself, which of a part of a character shows a �


def spans(example: Example, renderer: Renderer) -> Iterator[Span]:
    """The text of an example in pieces; special tokens are part of it.

    Args:
        example: The example.
        renderer: The encoder of examples.
    """
    decode = renderer.tokenizer.decode
    markers = {number: token for token, number in renderer.special.items()}
    encoded = renderer.encode(example)
    speaker = "assistant"
    parts: list[tuple[tuple[str, bool], int]] = []
    for token, label in zip(*(ids.tolist() for ids in encoded), strict=True):
        marker = markers.get(token, "")
        speaker = OPENS.get(marker, speaker)
        parts.append(((speaker, label != IGNORED), token))
        if marker in CLOSES:
            speaker = "assistant"
    for (said_by, is_trained), run in groupby(parts, key=lambda part: part[0]):
        ids = [token for _, token in run]
        tokens = tuple(str(decode([token])) for token in ids)
        yield Span(said_by, is_trained, str(decode(ids)), tokens)


def render_example(
    example: Example, renderer: Renderer, marks: tuple[str, str] = ("«", "»")
) -> str:
    """The text of an example.

    Args:
        example: The example.
        renderer: The encoder of examples.
        marks: What stands before and after each run of trained tokens.
    """
    text = ""
    for is_trained, run in groupby(spans(example, renderer), key=lambda span: span.is_trained):
        part = "".join(span.text for span in run)
        text += f"{marks[0]}{part}{marks[1]}" if is_trained else part
    return text
