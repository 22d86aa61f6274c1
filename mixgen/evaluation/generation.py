"""Conversations -> the model's turns: batched generation with tools in the loop.

The model writes; when it closes a call, the task's tool runs, its output is put in, and the model
goes on. Many conversations at different points share one batch and one cache: a logits processor in
transformers' own `generate` forces the tokens of a tool's output one by one where a call has been
closed, while the other rows go on writing. The model itself cannot write the markers of tool
output: they are masked, and how often it would have is counted.

A batch ends when going on with its last rows would cost more than to read them in again beside new
ones. So a row that finds no end costs little.

Tools are run again from the start of a conversation, as its messages tell, so a conversation is
nothing but its messages.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import torch
from tqdm import tqdm
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)

from mixgen.encoding import tokenizer as tk
from mixgen.encoding.renderer import Renderer
from mixgen.seeding import stream
from mixgen.tasks.messages import Message, assistant, call_of, tool
from mixgen.tasks.trial import Conversation, Turn
from mixgen.tools.session import ToolSession

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# B rows, T tokens, V vocabulary

MASKED: Final = (tk.OUTPUT_START, tk.OUTPUT_END)
IN_TURNS: Final = {tk.PYTHON_START, tk.PYTHON_END, tk.ASSISTANT_END}  # what a model may write
READING: Final = 8  # tokens that are read in at the cost of one that is written, about
NO_CONTEXT: Final = 1_000_000  # tokens, of a model that names no limit
MAX_OUTPUT: Final = 4_096  # tokens of what a tool prints


class Generator:
    """Gives the turns of one model; see `Answer`.

    Args:
        model: Any causal language model, trained on mixgen's conversations.
        renderer: The renderer of its tokenizer.
        batch_size: Conversations at once.
        max_new_tokens: Most tokens that the model may write in a turn.
        max_calls: Most calls in a turn.
        temperature: 0 takes the likeliest token; else tokens are drawn.
        seed: Seed of sampling, at a temperature above 0.
        show_progress: Whether to show a bar of turns, where there is a terminal.

    Raises:
        ValueError: The batch size is below 1.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        renderer: Renderer,
        *,
        batch_size: int = 128,
        max_new_tokens: int = 256,
        max_calls: int = 8,
        temperature: float = 0.0,
        seed: int = 42,
        show_progress: bool = False,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be a positive integer, got {batch_size}")
        self.model = model
        self.renderer = renderer
        self.batch_size = batch_size
        self.max_new_tokens = max_new_tokens
        self.max_calls = max_calls
        self.temperature = temperature
        self.seed = seed
        self.show_progress = show_progress
        self.context: int = getattr(model.config, "max_position_embeddings", None) or NO_CONTEXT
        self.special_names = {number: token for token, number in renderer.special.items()}
        self.known_ids = frozenset(renderer.tokenizer.get_vocab().values())  # a model may have more
        self._num_batches = 0

    def turns(
        self, conversations: Sequence[Conversation], tools: Callable[[], ToolSession]
    ) -> list[Turn]:
        """The model's turn in each conversation.

        Args:
            conversations: Each ends with the user's words.
            tools: Makes the tools of one conversation, such as `task.tools`.
        """
        rows = [_Row(self, conversation, tools) for conversation in conversations]
        was_training, settings = self.model.training, self.model.generation_config
        self.model.eval()
        # `generate` would fill what a config leaves open from the model's own: penalties, beams.
        special = self.renderer.special
        self.model.generation_config = GenerationConfig(
            bos_token_id=special[tk.BOS],
            eos_token_id=special[tk.ASSISTANT_END],
            pad_token_id=special[tk.PAD],
        )
        try:
            self._finish(rows)
        finally:
            self.model.generation_config = settings
            self.model.train(was_training)
        return [Turn(row.messages, row.fault, row.forged) for row in rows]

    def _finish(self, rows: list[_Row]) -> None:
        """Generates batch after batch until all rows are done."""
        # Rows of like length share a batch, which wastes least on padding.
        waiting = sorted((row for row in rows if not row.done), key=lambda row: len(row.ids))
        # disable=None: no bar where the output is no terminal
        disable = None if self.show_progress else True
        with tqdm(total=len(rows), unit="turn", leave=False, disable=disable) as bar:
            while waiting:
                batch, waiting = waiting[: self.batch_size], waiting[self.batch_size :]
                self._generate(batch)
                waiting = [row for row in batch if not row.done] + waiting
                bar.update(len(rows) - len(waiting) - bar.n)

    def _generate(self, rows: list[_Row]) -> None:
        """Goes on with some rows until all or most of them are done."""
        pad_id = self.renderer.special[tk.PAD]
        longest = max(len(row.ids) for row in rows)
        padding = [longest - len(row.ids) for row in rows]
        ids_BT = torch.tensor(
            [[pad_id] * n + row.ids for row, n in zip(rows, padding, strict=True)]
        )
        mask_BT = torch.tensor([[0] * n + [1] * (longest - n) for n in padding])
        settings: dict[str, Any] = {"do_sample": False}
        if self.temperature:
            settings = {"do_sample": True, "temperature": self.temperature, "top_k": 0}
        self._num_batches += 1
        device = self.model.device
        devices = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(devices, enabled=bool(self.temperature)):
            if self.temperature:
                torch.manual_seed(stream(self.seed, "generation", self._num_batches))
            self.model.generate(  # type: ignore[operator]
                input_ids=ids_BT.to(device),
                attention_mask=mask_BT.to(device),
                generation_config=GenerationConfig(
                    max_new_tokens=min(row.room for row in rows), **settings
                ),
                logits_processor=LogitsProcessorList([_Ruling(rows, self.renderer.special)]),
                stopping_criteria=StoppingCriteriaList([_Listening(rows)]),
            )


class _Row:
    """One conversation's turn, token by token."""

    def __init__(
        self,
        generator: Generator,
        conversation: Conversation,
        tools: Callable[[], ToolSession],
    ) -> None:
        self.renderer = generator.renderer
        self.ids = self.renderer.prompt_ids(conversation)  # all that stands there so far
        self.messages: list[Message] = []
        self.fault = ""
        self.forged = 0
        self.room = generator.context - len(self.ids)  # tokens, of the model and of tools
        self.tokens_left = generator.max_new_tokens
        self.calls_left = generator.max_calls
        self.forced: deque[int] = deque()
        self.done = False
        self._written: list[int] = []  # text that is not yet a message
        self._before_call: str | None = None  # what was said before the call that is open
        self._tools = tools()
        for message in conversation:
            for made in message["tool_calls"]:
                function = made["function"]
                self._tools.call(function["name"], function["arguments"])
        self._special = generator.special_names
        self._known = generator.known_ids
        if self.room <= 0:
            self._stop(f"the conversation leaves no room in a context of {generator.context}")

    def accept(self, token: int) -> None:
        """Takes the token that was written last."""
        self.ids.append(token)
        self.room -= 1
        if self.forced:
            self.forced.popleft()
        else:
            self.tokens_left -= 1
            self._write(token)
        if not self.done and self.room - len(self.forced) <= 0:
            self._stop("the model's context is full")
        elif not self.done and not self.forced and self.tokens_left <= 0:
            self._stop("too many tokens in one turn")

    def _write(self, token: int) -> None:
        name = self._special.get(token)
        in_call = self._before_call is not None
        if token not in self._known:
            self._stop("writes what is no token")
        elif name is None:
            self._written.append(token)
        elif name not in IN_TURNS:
            self._stop(f"writes {name} in its turn")
        elif name == tk.PYTHON_START and not in_call:
            self._before_call = self._text()
        elif name == tk.PYTHON_END and in_call:
            self._call(self._text())
        elif name == tk.ASSISTANT_END and not in_call:
            self.messages.append(assistant(self._text()))
            self.done = True
        else:
            self._stop(f"writes {name} {'inside' if in_call else 'outside'} a call")

    def _text(self) -> str:
        text = str(self.renderer.tokenizer.decode(self._written))
        self._written = []
        return text

    def _call(self, code: str) -> None:
        if not self.calls_left:
            self._stop("too many calls in one turn")
            return
        self.calls_left -= 1
        name, arguments = tk.read_call(code)
        self.messages.append(call_of(name, arguments, self._before_call or ""))
        self._before_call = None
        output = self._tools.call(name, arguments).encode(errors="replace").decode()
        ids = self.renderer.tool_ids(output)
        if len(ids) > MAX_OUTPUT:
            self._stop("the tool's output is too long")
            return
        self.messages.append(tool(output, name))
        self.forced.extend(ids)

    def _stop(self, fault: str) -> None:
        self.fault = fault
        self.done = True
        if self._written:
            self.messages.append(assistant(self._text()))


class _Listening(StoppingCriteria):
    """Hands each row the token that was just written; ends the batch when it idles too much."""

    def __init__(self, rows: list[_Row]) -> None:
        self.rows = rows
        self.idle = 0  # tokens that were written for rows that are done

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        for row, token in zip(self.rows, input_ids[:, -1].tolist(), strict=True):
            if row.done:
                self.idle += 1
            else:
                row.accept(token)
        to_read = sum(len(row.ids) for row in self.rows if not row.done)
        return torch.full(
            (len(self.rows),), READING * self.idle >= to_read, device=input_ids.device
        )


class _Ruling(LogitsProcessor):
    """Forces what tools printed, and masks what only tools may write."""

    def __init__(self, rows: list[_Row], special: dict[str, int]) -> None:
        self.rows = rows
        self.masked = [special[token] for token in MASKED]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        forced = [(index, row.forced[0]) for index, row in enumerate(self.rows) if row.forced]
        for row, wanted in zip(self.rows, scores.argmax(dim=-1).tolist(), strict=True):
            if wanted in self.masked and not (row.done or row.forced):
                row.forged += 1
        scores_BV = scores.clone()
        scores_BV[:, self.masked] = -torch.inf
        if forced:
            rows, ids = map(list, zip(*forced, strict=True))
            scores_BV[rows] = -torch.inf
            scores_BV[rows, ids] = 0.0
        return scores_BV
