"""Tasks of data that comes to an end: passes over shuffled rows, each addressed by number.

Example k of all that are ever drawn of a split is row `order(pass)[k mod N]` of `pass = k // N`, so
nothing has to be remembered. A block cannot know how many examples the blocks before it have drawn,
but about how many: it begins `pace` examples after the block before it. Where blocks take a few
more or fewer, a few rows come twice or wait for the next pass.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mixgen.seeding import rng, stream
from mixgen.tasks.base import SPLITS, Example, Task, check_split
from mixgen.tasks.trial import NoProblemError

MAX_ORDERS: Final = 3  # each takes 8 bytes a row


class FiniteTask(Task):
    """A task whose examples are numbered.

    Attributes:
        pace: Examples between the starts of two streams whose numbers differ by 1; None as long as
            nobody knows it: each stream then begins anywhere.
    """

    def __init__(self, config: Any = None) -> None:
        """Makes the task with its settings."""
        super().__init__(config)
        self.pace: float | None = None
        self._orders: dict[tuple[str, int, int], NDArray[np.int64]] = {}  # the last few passes

    def num_examples(self, split: str) -> int:
        """How many there are in a split."""
        raise NotImplementedError

    def example_at(self, split: str, number: int) -> Example:
        """One of them; its `id` is empty."""
        raise NotImplementedError

    def no_problem(self, split: str) -> NoProblemError:
        """See `Task.no_problem`."""
        return NoProblemError(f"{self.name} has no rows in the {split} split")

    def sample(self, rng: random.Random) -> Example:
        """See `Task.sample`; of a split by its size."""
        sizes = {split: self.num_examples(split) for split in SPLITS}
        (split,) = rng.choices(list(sizes), list(sizes.values()))
        return self.sample_from(split, rng)

    def sample_from(self, split: str, rng: random.Random) -> Example:
        """See `Task.sample_from`."""
        if not self.num_examples(split):
            raise self.no_problem(split)
        return self.example_at(split, rng.randrange(self.num_examples(split)))

    def stream(self, *, split: str, seed: int, block: int | str = 0) -> Iterator[Example]:
        """See `Task.stream`; passes over the split's rows, each pass in an order of its own."""
        check_split(split)
        if not (size := self.num_examples(split)):
            raise self.no_problem(split)
        prefix = f"{self.name}-{split}-{seed}-{block}-"
        for index in itertools.count():
            turn, at = divmod(self._start(split, seed, block) + index, size)
            example = self.example_at(split, int(self._order(size, split, seed, turn)[at]))
            example["id"] = f"{prefix}{index}"
            yield example

    def _start(self, split: str, seed: int, block: int | str) -> int:
        """The number of a stream's first example."""
        number = re.search(r"\d+$", str(block))  # below 0 are blocks that no row is made of
        if self.pace is None or number is None or str(block).startswith("-"):
            return rng(seed, split, self.name, block).randrange(2**40)
        return round(int(number[0]) * self.pace)

    def _order(self, size: int, split: str, seed: int, turn: int) -> NDArray[np.int64]:
        """The order of a pass."""
        key = (split, seed, turn)
        if key not in self._orders:
            if len(self._orders) >= MAX_ORDERS:
                self._orders.clear()
            names = ("pass", self.name, split, turn)
            self._orders[key] = np.random.default_rng(stream(seed, *names)).permutation(size)
        return self._orders[key]
