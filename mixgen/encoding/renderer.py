"""Example -> `input_ids` and `labels`: what the chat template renders, many times as fast.

The label of a token is its own id where the model is trained on it (assistant text, tool calls with
their markers, `<|assistant_end|>`) and -100 elsewhere (users, tool output, `<|bos|>`,
`<|assistant_start|>`); models shift labels themselves. Text of users and tools is encoded so that
it can never become a special token.

Texts come from a small stock of pieces, and BPE never merges across pieces: so the ids of each
piece are looked up, and the tokenizer is asked only for pieces that are new. A test holds this to
the tokenizer's own output. Ids are kept as the bytes of int32 arrays, which join faster than lists.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, Generic, NamedTuple, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from mixgen.encoding import tokenizer as tk
from mixgen.errors import RecipeError
from mixgen.tasks.messages import Example, Message

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

IGNORED: Final = -100  # the label of a token that carries no loss
MAX_CACHED: Final = 20_000  # pieces, and segments; a cache starts again when it is full
Segment: TypeAlias = tuple[bytes, bytes]  # ids and labels
Value = TypeVar("Value")

# Kinds of text: the roles of messages, and more. Each with its markers, and whether it is trained.
BEGIN, TURN, BEFORE_CALL, CALL = "begin", "turn", "before call", "call"
FRAMES: Final = {
    BEGIN: (tk.BOS, "", False),
    "user": (tk.USER_START, tk.USER_END, False),
    TURN: (tk.ASSISTANT_START, "", False),
    BEFORE_CALL: ("", "", True),
    CALL: (tk.PYTHON_START, tk.PYTHON_END, True),
    "tool": (tk.OUTPUT_START, tk.OUTPUT_END, False),
    "assistant": ("", tk.ASSISTANT_END, True),  # the words that end its turn
}


class Encoded(NamedTuple):
    """An example of T tokens as token ids, and the label of each; both of shape (T,)."""

    input_ids: NDArray[np.int32]
    labels: NDArray[np.int32]


def _as_bytes(ids: list[int]) -> bytes:
    return np.array(ids, dtype=np.int32).tobytes()


def _as_list(ids: bytes) -> list[int]:
    found: list[int] = np.frombuffer(ids, dtype=np.int32).tolist()
    return found


IGNORED_BYTES: Final = _as_bytes([IGNORED])


class _Cache(dict[str, Value], Generic[Value]):
    """What `make` makes of each text, made once; it starts again when it is full."""

    def __init__(self, make: Callable[[str], Value]) -> None:
        self.make = make

    def __missing__(self, text: str) -> Value:
        if len(self) == MAX_CACHED:
            self.clear()
        value = self[text] = self.make(text)
        return value


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
        self._pieces = _Cache(self._piece_ids)
        marker = {token: _as_bytes([number]) for token, number in self.special.items()} | {"": b""}
        self._segments = {
            kind: _Cache(partial(self._segment, marker[start], marker[end], is_trained))
            for kind, (start, end, is_trained) in FRAMES.items()
        }

    def __reduce__(self) -> tuple[object, ...]:
        """Pickles as its tokenizer: a pickled backend forgets `encode_special_tokens`."""
        return Renderer, (self.tokenizer,)

    def encode(self, example: Example) -> Encoded:
        """The ids and labels of a whole conversation."""
        segments = self._segments_of(example["messages"])
        return Encoded(
            np.frombuffer(b"".join([ids for ids, _ in segments]), dtype=np.int32),
            np.frombuffer(b"".join([labels for _, labels in segments]), dtype=np.int32),
        )

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """The ids of a conversation that ends with the user's words, up to the turn that begins."""
        segments = [*self._segments_of(messages), self._segments[TURN][""]]
        return _as_list(b"".join([ids for ids, _ in segments]))

    def tool_ids(self, output: str) -> list[int]:
        """The ids of a tool's output with its markers."""
        return _as_list(self._segments["tool"][output][0])

    def _segments_of(self, messages: Sequence[Message]) -> list[Segment]:
        known = self._segments
        segments = [known[BEGIN][""]]
        previous = ""
        for message in messages:
            role, text = message["role"], message["content"]
            if role == "assistant" and previous in ("", "user"):
                segments.append(known[TURN][""])
            previous = role
            if message["tool_calls"]:
                if text:
                    segments.append(known[BEFORE_CALL][text])
                for tool_call in message["tool_calls"]:
                    function = tool_call["function"]
                    code = tk.call_text(function["name"], function["arguments"])
                    segments.append(known[CALL][code])
            else:
                segments.append(known[role][text])
        return segments

    def text_ids(self, text: str) -> list[int]:
        """The ids of plain text, none of them special."""
        return _as_list(self._text(text))

    def _text(self, text: str) -> bytes:
        return b"".join(map(self._pieces.__getitem__, self._cut(text)))

    def _piece_ids(self, piece: str) -> bytes:
        return _as_bytes(self._backend.encode(piece, add_special_tokens=False).ids)

    def _segment(self, start: bytes, end: bytes, is_trained: bool, text: str) -> Segment:
        """The ids and labels of a text between its markers."""
        ids = start + self._text(text) + end
        return ids, ids if is_trained else IGNORED_BYTES * (len(ids) // len(IGNORED_BYTES))


def _whole(text: str) -> list[str]:
    return [text]


def _cuts_our_pieces(backend: Tokenizer) -> bool:
    """Whether a tokenizer cuts text at `PIECES`; others are asked for whole texts."""
    steps = (json.loads(backend.to_str())["pre_tokenizer"] or {}).get("pretokenizers", [])
    return bool(steps) and steps[0].get("pattern") == {"Regex": tk.PIECES}
