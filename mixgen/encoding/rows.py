"""The training data: an endless list of rows, row i a pure function of mix, tokenizer, seed and i.

Rows come in blocks of fixed size; a block draws its own examples from its own random streams and
packs them. Nothing depends on the rank, the worker, the number of processes or what was drawn
before, so that resuming needs one number, costs nothing, and every number of processes sees the
same global batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Final

from mixgen.encoding.packing import FILLS, Row, choose_fill, draw_block, pack
from mixgen.encoding.renderer import Encoded, Renderer
from mixgen.encoding.tokenizer import PAD
from mixgen.mixture.sources import block_examples
from mixgen.mixture.weights import Mix

TRIAL_BLOCKS: Final = 8


class RowDataset(Sequence[Row]):
    """The first `num_rows` rows, as a map-style dataset.

    Keeps the last block it made: rows that are asked for in order cost one block each
    `rows_per_block` rows.

    Args:
        mix: Tasks and weights.
        renderer: The encoder of examples.
        num_rows: How many rows there are.
        max_seq_len: Tokens in a row.
        rows_per_block: Rows in a block; another value gives other rows.
        split: The split that examples are drawn from.
        seed: The run's seed.
    """

    def __init__(
        self,
        mix: Mix,
        renderer: Renderer,
        *,
        num_rows: int,
        max_seq_len: int = 1024,
        rows_per_block: int = 16,
        split: str = "train",
        seed: int = 42,
    ) -> None:
        self.mix = mix
        self.renderer = renderer
        self.num_rows = num_rows
        self.max_seq_len = max_seq_len
        self.rows_per_block = rows_per_block
        self.split = split
        self.seed = seed
        self._last: tuple[int, list[Row]] = (-1, [])

    @property
    def task_names(self) -> list[str]:
        """What a row's `task_ids` stand for."""
        return [task.name for task in self.mix.active]

    def __len__(self) -> int:
        """The number of rows."""
        return self.num_rows

    def __getitem__(self, index: int) -> Row:  # type: ignore[override]
        """Row `index`, from 0 on."""
        if not 0 <= index < self.num_rows:
            raise IndexError(f"row {index} of {self.num_rows}")
        block, offset = divmod(index, self.rows_per_block)
        if self._last[0] != block:
            self._last = (block, self.make_block(block))
        return self._last[1][offset]

    def make_block(self, block: int) -> list[Row]:
        """All rows of one block."""
        examples = self._draw(block, self.fill)
        return pack(
            examples,
            num_rows=self.rows_per_block,
            max_seq_len=self.max_seq_len,
            pad_token_id=self.renderer.special[PAD],
        )

    @cached_property
    def fill(self) -> float:
        """How full a block is drawn, found on blocks that no row is made of."""
        trials = [self._draw(block, FILLS[0]) for block in range(-TRIAL_BLOCKS, 0)]
        return choose_fill(
            [[len(example.input_ids) for _, example in trial] for trial in trials],
            num_rows=self.rows_per_block,
            max_seq_len=self.max_seq_len,
        )

    def _draw(self, block: int, fill: float) -> list[tuple[int, Encoded]]:
        drawn = block_examples(self.mix, split=self.split, seed=self.seed, block=block)
        return draw_block(
            ((task, self.renderer.encode(example)) for task, example in drawn),
            num_tokens=fill * self.rows_per_block * self.max_seq_len,
        )
