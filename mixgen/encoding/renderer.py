"""Example -> `input_ids` and `labels`: what the chat template renders, over ten times as fast.

The label of a token is its own id where the model is trained on it (assistant text, tool calls with
their markers, `<|assistant_end|>`) and -100 elsewhere (users, tool output, `<|bos|>`,
`<|assistant_start|>`); models shift labels themselves. Text of users and tools is encoded so that
it can never become a special token.

Texts come from a small stock of pieces, and BPE never merges across pieces: so the ids of each
piece are looked up, and the tokenizer is asked only for pieces that are new. A test holds this to
the tokenizer's own output.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from mixgen.encoding import tokenizer as tk
from mixgen.errors import RecipeError
from mixgen.tasks.base import Example

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

IGNORED: Final = -100  # the label of a token that carries no loss
MAX_CACHED: Final = 20_000  # pieces, and texts; a cache starts again when it is full


class Encoded(NamedTuple):
    """An example as token ids, and the label of each."""

    input_ids: list[int]
    labels: list[int]


class Renderer:
    """Encodes examples for one tokenizer.

    Args:
        tokenizer: One that knows the special tokens: mixgen's own, or another that
            `add_chat_tokens` has been given.

    Raises:
        RecipeError: The tokenizer lacks one of the special tokens.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        from tokenizers import Tokenizer

        vocabulary = tokenizer.get_vocab()
        for token in tk.SPECIAL_TOKENS:
            if token not in vocabulary:
                raise RecipeError(f"the tokenizer lacks {token}: give it to `add_chat_tokens`")
        self.special = {token: vocabulary[token] for token in tk.SPECIAL_TOKENS}
        self._backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())  # ours to change
        self._backend.encode_special_tokens = True
        self._cut: Callable[[str], list[str]] = (
            re.compile(tk.PIECES).findall if _cuts_our_pieces(self._backend) else _whole
        )
        self.tokenizer = tokenizer
        self._piece_ids: dict[str, list[int]] = {}
        self._text_ids: dict[str, list[int]] = {}

    def __reduce__(self) -> tuple[object, ...]:
        """Pickles as its tokenizer: a pickled backend forgets `encode_special_tokens`."""
        return Renderer, (self.tokenizer,)

    def encode(self, example: Example) -> Encoded:
        """The ids and labels of a whole conversation, both of the same length, in tokens."""
        special = self.special
        input_ids = [special[tk.BOS]]
        labels = [IGNORED]
        previous = ""
        for message in example["messages"]:
            role = message["role"]
            if role == "assistant":
                if previous in ("", "user"):
                    input_ids.append(special[tk.ASSISTANT_START])
                    labels.append(IGNORED)
                ids = self.text_ids(message["content"]) if message["content"] else []
                for tool_call in message["tool_calls"]:
                    function = tool_call["function"]
                    code = tk.call_text(function["name"], function["arguments"])
                    ids = [
                        *ids,
                        special[tk.PYTHON_START],
                        *self.text_ids(code),
                        special[tk.PYTHON_END],
                    ]
                if not message["tool_calls"]:
                    ids = [*ids, special[tk.ASSISTANT_END]]
                input_ids += ids
                labels += ids
            else:
                start, end = _MARKERS[role]
                ids = self.text_ids(message["content"])
                input_ids += (special[start], *ids, special[end])
                labels += [IGNORED] * (len(ids) + 2)
            previous = role
        return Encoded(input_ids, labels)

    def text_ids(self, text: str) -> list[int]:
        """The ids of plain text, none of them special; the list is the cache's own."""
        ids = self._text_ids.get(text)
        if ids is not None:
            return ids
        pieces = self._piece_ids
        ids = []
        for piece in self._cut(text):
            piece_ids = pieces.get(piece)
            if piece_ids is None:
                if len(pieces) == MAX_CACHED:
                    pieces.clear()
                piece_ids = pieces[piece] = self._backend.encode(
                    piece, add_special_tokens=False
                ).ids
            ids += piece_ids
        if len(self._text_ids) == MAX_CACHED:
            self._text_ids.clear()
        self._text_ids[text] = ids
        return ids


_MARKERS: Final = {"user": (tk.USER_START, tk.USER_END), "tool": (tk.OUTPUT_START, tk.OUTPUT_END)}


def _whole(text: str) -> list[str]:
    return [text]


def _cuts_our_pieces(backend: Tokenizer) -> bool:
    """Whether a tokenizer cuts text at `PIECES`; others are asked for whole texts."""
    steps = (json.loads(backend.to_str())["pre_tokenizer"] or {}).get("pretokenizers", [])
    return bool(steps) and steps[0].get("pattern") == {"Regex": tk.PIECES}
