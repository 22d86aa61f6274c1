"""The tokenizer: trained on the mix's own text, byte-level BPE inside pieces that this file cuts.

What a piece is decides what a small model must learn. A number is cut into pairs of digits, and
every bracket around it is its own; a function keeps its opening bracket (`sqrt(`). What is decided
at once is one piece: a move (`board[1][2]='X'` or `heaps[0]-=3`, and the print after it), a row,
column or diagonal of a board, a phrase (`The answer is`). Tokens across words are an idea of
SuperBPE (Liu et al. 2025).

Bytes are the fallback, so any text can be encoded. It is deterministic, and the same for all
weights: each active task gives the same number of examples, whatever its share of the mix.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final

from mixgen.tasks.base import Example, Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

BOS: Final = "<|bos|>"
USER_START: Final = "<|user_start|>"
USER_END: Final = "<|user_end|>"
ASSISTANT_START: Final = "<|assistant_start|>"
ASSISTANT_END: Final = "<|assistant_end|>"
PYTHON_START: Final = "<|python_start|>"
PYTHON_END: Final = "<|python_end|>"
OUTPUT_START: Final = "<|output_start|>"
OUTPUT_END: Final = "<|output_end|>"
PAD: Final = "<|pad|>"
SPECIAL_TOKENS: Final = [
    BOS,
    USER_START,
    USER_END,
    ASSISTANT_START,
    ASSISTANT_END,
    PYTHON_START,
    PYTHON_END,
    OUTPUT_START,
    OUTPUT_END,
    PAD,
]
# The arguments of a tokenizer that name them.
SPECIAL_ROLES: Final[dict[str, Any]] = {
    "bos_token": BOS,
    "eos_token": ASSISTANT_END,
    "pad_token": PAD,
    "additional_special_tokens": SPECIAL_TOKENS[1:4] + SPECIAL_TOKENS[5:9],
}

# Alternatives in order. Together they match any text: its pieces join to the text itself.
PIECES: Final = "|".join(
    [
        # A move on what a tool keeps, or a row of it that is set, and the print after it.
        r"[a-z]+\[[0-9]\](?:\[[0-9]\])?(?:='[A-Z.]+'|-=[0-9]{1,2})"
        r"\n?(?:print\([a-z]+(?:\.[a-z]+)?\))?",
        r"\n(?=[a-z]+\[[0-9]\])",
        r"[XO.]{3}\n",  # a row, column or diagonal of a board
        r"[0-9]{1,2}",  # two digits of a number, from its start
        # A phrase: words and marks, and what ends them: a bracket, a stop and its line's end, or
        # the space before a number.
        r"[ \n]?[A-Za-z][a-z']*(?:[ -](?:[a-z']+|[XO](?![A-Za-z])))*"
        r"(?:[\[(]|[.?:,!](?![0-9])\n?| (?![^0-9]))?",
        r"[ \n]?\.(?![a-z])",  # a point, as of a decimal
        r" ?(?:\*\*|//|[+\-*/%^=×÷]) ?",  # an operator with the spaces around it
        r"[ \n]?\(",
        r"[\[\]='\"]+",  # brackets and quotes of code run together
        r"[\s\S]",
    ]
)  # A piece stays whole when it is cut alone: `Renderer` encodes each by itself.

MAX_CHARS: Final = 10_000_000  # of each task's text, that a tokenizer is trained on
MIN_FREQUENCY: Final = 15  # of what becomes a token

_NAMED_CALL: Final = re.compile(r"([A-Za-z_]\w*)\((\{.*\})\)", re.DOTALL)

# Gives the ids and the mask of `renderer.Renderer`; a test holds the two together.
CHAT_TEMPLATE: Final = (
    "{{- bos_token }}"
    "{%- for message in messages %}"
    "{%- if message.role == 'user' %}"
    "{{- '<|user_start|>' + message.content + '<|user_end|>' }}"
    "{%- elif message.role == 'tool' %}"
    "{{- '<|output_start|>' + message.content + '<|output_end|>' }}"
    "{%- elif message.role == 'assistant' %}"
    "{%- if loop.first or loop.previtem.role == 'user' %}{{- '<|assistant_start|>' }}{%- endif %}"
    "{%- generation %}"
    "{{- message.content }}"
    "{%- for call in message.tool_calls or [] %}"
    "{%- set f = call.function %}"
    "{{- '<|python_start|>' }}"
    "{%- if f.name == 'python' and f.arguments.code is string and f.arguments | length == 1 %}"
    "{{- f.arguments.code }}"
    "{%- else %}{{- f.name + '(' + f.arguments | tojson + ')' }}{%- endif %}"
    "{{- '<|python_end|>' }}"
    "{%- endfor %}"
    "{%- if not message.tool_calls %}{{- '<|assistant_end|>' }}{%- endif %}"
    "{%- endgeneration %}"
    "{%- else %}{{- raise_exception('unknown role ' + message.role) }}"
    "{%- endif %}"
    "{%- endfor %}"
    "{%- if add_generation_prompt and messages[-1].role == 'user' %}"
    "{{- '<|assistant_start|>' }}"
    "{%- endif %}"
)


def call_text(name: str, arguments: dict[str, object]) -> str:
    """A tool call as it stands between its markers: python's code, else `name({"a": 1})`."""
    code = arguments.get("code")
    if name == "python" and isinstance(code, str) and len(arguments) == 1:
        return code
    return f"{name}({json.dumps(arguments, ensure_ascii=False)})"


def read_call(text: str) -> tuple[str, dict[str, Any]]:
    """The name and arguments of a call, from what stands between its markers.

    Arguments that are no JSON in UTF-8 (`1e999`, half a surrogate pair) are code like any other,
    and python's code that looks like a call with JSON is one.

    Examples:
        >>> read_call("1+1"), read_call('search({"query": "owls"})')
        (('python', {'code': '1+1'}), ('search', {'query': 'owls'}))
    """
    if named := _NAMED_CALL.fullmatch(text):
        try:
            arguments = json.loads(named[2])
            json.dumps(arguments, ensure_ascii=False, allow_nan=False).encode()
        except (ValueError, RecursionError):
            arguments = None
        if isinstance(arguments, dict):
            return named[1], arguments
    return "python", {"code": text}


def texts(example: Example) -> Iterator[str]:
    """The texts of an example, as they are encoded: contents and calls, without special tokens."""
    for message in example["messages"]:
        if message["content"]:
            yield message["content"]
        for tool_call in message["tool_calls"]:
            function = tool_call["function"]
            yield call_text(function["name"], function["arguments"])


def train_tokenizer(
    tasks: tuple[Task, ...],
    *,
    seed: int,
    vocab_size: int = 1024,
    examples_per_task: int = 4_000,
    model_max_length: int = 1024,
) -> PreTrainedTokenizerFast:
    """Trains the tokenizer on the training split of `tasks`; a pure function of its arguments.

    Args:
        tasks: The tasks of the mix; their order does not matter.
        seed: The run's seed.
        vocab_size: Most tokens, special ones included; a mix of few words gives fewer.
        examples_per_task: How many examples of each task it sees; fewer if they are very long.
        model_max_length: The model's longest sequence, in tokens.

    Returns:
        A tokenizer with the special tokens and the chat template.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    counts: dict[str, int] = {}
    find_pieces = re.compile(PIECES).findall
    for task in tasks:
        examples = islice(task.stream(split="train", seed=seed, block=0), examples_per_task)
        num_chars = 0
        for text in chain.from_iterable(map(texts, examples)):
            for piece in find_pieces(text):
                counts[piece] = counts.get(piece, 0) + 1
            num_chars += len(text)
            if num_chars > MAX_CHARS:
                break
    # Of a phrase that is rare the words are learned: else merges across them come before words.
    for piece in [piece for piece, count in counts.items() if count < MIN_FREQUENCY]:
        count = counts.pop(piece)
        for word in re.findall(r" ?[^ ]+| ", piece):
            counts[word] = counts.get(word, 0) + count

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        min_frequency=MIN_FREQUENCY,
        show_progress=False,
    )
    # The trainer takes text, not counts, and 200 occurrences rank a piece as well as more do.
    corpus = (piece for piece in sorted(counts) for _ in range(min(counts[piece], 200)))
    backend.train_from_iterator(corpus, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        **SPECIAL_ROLES,
        model_max_length=model_max_length,
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )
