"""The training data: an endless list of rows, row i a pure function of mix, tokenizer, seed and i.

Rows come in blocks; a block draws its own examples from its own random streams and packs them.
Nothing depends on the rank, the worker, the number of processes or what was drawn before, so that
resuming needs one number, costs nothing, and every number of processes sees the same global
batches. Where weights change (`Schedule`), a block ends early and another begins. (Weights that
adapt follow from losses too: `adaptive`.)

A process that reads a part of a block makes all of it: with fewer rows at a time on a process than
`rows_per_block`, several processes or workers make the same blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from hashlib import blake2b
from typing import Final, NamedTuple

from mixgen.encoding.packing import FILLS, Row, choose_fill, draw_block, pack
from mixgen.encoding.renderer import Encoded, Renderer
from mixgen.encoding.tokenizer import PAD
from mixgen.mixture.schedule import Schedule
from mixgen.mixture.sources import block_examples
from mixgen.mixture.weights import Mix

TRIAL_BLOCKS: Final = 8


class Block(NamedTuple):
    """Rows that are drawn and packed together."""

    first_row: int  # also the name of its random streams
    num_rows: int
    mix: Mix
    fill: float  # share of its tokens that examples are drawn for


class RowDataset(Sequence[Row]):
    """The first `num_rows` rows, or those after `start_at`, as a map-style dataset.

    Keeps the last block it made: rows that are asked for in order cost one block each
    `rows_per_block` rows.

    Args:
        mix: Tasks and weights, or a schedule of them.
        renderer: The encoder of examples.
        num_rows: How many rows there are.
        max_seq_len: Tokens in a row.
        rows_per_block: Most rows in a block; another value gives other rows.
        split: The split that examples are drawn from.
        seed: The run's seed.
        rows_per_step: Rows in an optimizer step, which the schedule counts in; MixTrainer sets it.
    """

    def __init__(
        self,
        mix: Mix | Schedule,
        renderer: Renderer,
        *,
        num_rows: int,
        max_seq_len: int = 1024,
        rows_per_block: int = 16,
        split: str = "train",
        seed: int = 42,
        rows_per_step: int = 1,
    ) -> None:
        self.schedule = Schedule.of(mix)
        self.renderer = renderer
        self.num_rows = num_rows
        self.max_seq_len = max_seq_len
        self.rows_per_block = rows_per_block
        self.split = split
        self.seed = seed
        self.rows_per_step = rows_per_step
        self.first_row = 0
        self.first_step = 0
        self.task_names = [task.name for task in self.schedule.active]
        self._fills: dict[tuple[int, int], float] = {}  # by the stage's first step, and rows
        self._last_rows: dict[int, Row] = {}  # of the last block, by number

    def __len__(self) -> int:
        """The number of rows."""
        return self.num_rows

    def __getitem__(self, index: int) -> Row:  # type: ignore[override]
        """The row at `index`, from 0 on."""
        if not 0 <= index < self.num_rows:
            raise IndexError(f"row {index} of {self.num_rows}")
        row = self.first_row + index
        if row not in self._last_rows:
            block = self.block_of(row)
            self._last_rows = dict(enumerate(self.make_block(block), start=block.first_row))
        return self._last_rows[row]

    def start_at(self, row: int, step: int) -> None:
        """Makes index 0 stand for `row`, which optimizer step `step` trains on."""
        self.first_row, self.first_step = row, step

    def row_of(self, step: int) -> int:
        """The first row that an optimizer step trains on, counted from 0."""
        return max(self.first_row + (step - self.first_step) * self.rows_per_step, 0)

    def block_of(self, row: int) -> Block:
        """The block that holds a row. Blocks begin anew with each stage of the schedule."""
        start, end = self.schedule.stage(self._step_of(row))
        stage_row = self.row_of(start)
        first_row = row - (row - stage_row) % self.rows_per_block
        num_rows = self.rows_per_block
        if end is not None:
            num_rows = min(num_rows, self.row_of(end) - first_row)
        mix = self.schedule.mix_at(max(self._step_of(first_row), start))
        return Block(first_row, num_rows, mix, self.fill_at(start, num_rows))

    def make_block(self, block: Block) -> list[Row]:
        """All rows of one block."""
        num_tokens = block.fill * block.num_rows * self.max_seq_len
        return pack(
            self._draw(block.mix, block.first_row, num_tokens),
            num_rows=block.num_rows,
            max_seq_len=self.max_seq_len,
            pad_token_id=self.renderer.special[PAD],
        )

    def fill_at(self, step: int, num_rows: int) -> float:
        """How full blocks of a step's stage are drawn, found on blocks that no row is made of.

        Where weights change from step to step, both ends of the stage are tried.
        """
        start, end = self.schedule.stage(step)
        if (start, num_rows) not in self._fills:
            mixes = {self.schedule.mix_at(at) for at in (start, end - 1 if end else start)}
            self._fills[start, num_rows] = min(self._choose_fill(mix, num_rows) for mix in mixes)
        return self._fills[start, num_rows]

    @cached_property
    def fingerprint(self) -> str:
        """A hash of rows that follow from all that makes rows: tasks, code, tokenizer, settings.

        Two datasets of one recipe differ in it when a task's code or a library makes other
        examples than before. The rows are of no block, and of every active task alike.
        """
        tasks = self.schedule.active
        mix = Mix(tasks=tasks, weights=(1.0,) * len(tasks))
        digest = blake2b(digest_size=16)
        for row in self.make_block(Block(-1, self.rows_per_block, mix, FILLS[0])):
            for array in row:
                digest.update(array.tobytes())
        return digest.hexdigest()

    def _step_of(self, row: int) -> int:
        return max(self.first_step + (row - self.first_row) // self.rows_per_step, 0)

    def _choose_fill(self, mix: Mix, num_rows: int) -> float:
        most = FILLS[0] * num_rows * self.max_seq_len
        trials = [self._draw(mix, -1 - trial, most) for trial in range(TRIAL_BLOCKS)]
        return choose_fill(
            [[len(example.input_ids) for _, example in trial] for trial in trials],
            num_rows=num_rows,
            max_seq_len=self.max_seq_len,
        )

    def _draw(self, mix: Mix, block: int, num_tokens: float) -> list[tuple[int, Encoded]]:
        """A block's examples; their task is an index into `task_names`."""
        tasks = [self.task_names.index(task.name) for task in mix.active]
        drawn = block_examples(mix, split=self.split, seed=self.seed, block=block)
        return draw_block(
            ((tasks[task], self.renderer.encode(example)) for task, example in drawn),
            num_tokens=num_tokens,
        )
