"""Random streams by name: everything random in mixgen comes from here.

A stream is named by what it is for, `rng(seed, "train", "calculator", block)`, and its seed is a
hash of the whole name. Numbers are never added up: with `Random(seed + index)` the stream of seed
43 is that of seed 42, shifted by one. Nothing reads or changes the global random state.
"""

from __future__ import annotations

import random
from hashlib import blake2b


def stream(seed: int, *name: str | int) -> int:
    """The 64-bit seed of the stream called `name` under the run's `seed`.

    Args:
        seed: The run's seed.
        name: What the stream is for, from general to particular.

    Returns:
        An integer in [0, 2**64), a pure function of the arguments.

    Examples:
        >>> stream(42, "mix", 0) == stream(42, "mix", 0)
        True
        >>> stream(42, "mix", 1) == stream(43, "mix", 0)
        False
    """
    text = repr((seed, *name)).encode()
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big")


def rng(seed: int, *name: str | int) -> random.Random:
    """A fresh generator for the stream called `name` (see `stream`)."""
    return random.Random(stream(seed, *name))
