"""An example as people read it: text with special tokens, marks around what is trained on."""

from __future__ import annotations

from itertools import groupby

from mixgen.encoding.renderer import IGNORED, Renderer
from mixgen.tasks.base import Example


def render_example(
    example: Example, renderer: Renderer, marks: tuple[str, str] = ("«", "»")
) -> str:
    """The text of an example.

    Args:
        example: The example.
        renderer: The encoder of examples.
        marks: What stands before and after each run of trained tokens.
    """
    encoded = renderer.encode(example)
    text = ""
    for ignored, run in groupby(
        zip(*(ids.tolist() for ids in encoded), strict=True), key=lambda token: token[1] == IGNORED
    ):
        part = str(renderer.tokenizer.decode([token for token, _ in run]))
        text += part if ignored else f"{marks[0]}{part}{marks[1]}"
    return text
