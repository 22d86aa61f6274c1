"""Nim solved: the winning moves of a position, what to play without one, and its split.

A position is lost for who has the move if the heaps' sum in binary without carrying is 0 (Bouton
1901), so a move wins if it makes it 0. Each heap has at most one such move.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Final, NamedTuple

from mixgen.tasks.base import split_of
from mixgen.tools.nim import Move, left, nim_sum

HELD_OUT_POSITION_SHARE: Final = 0.1  # of the positions, in validation and in test each
MIN_HELD_OUT_STONES: Final = (
    4  # fewest stones of a position that may be held out, in two heaps or more
)


class Position(NamedTuple):
    """What is known about heaps that are not all empty.

    Attributes:
        legal: Every move, by heap, then by how much it takes.
        winning: The moves that leave a lost position.
        policy: What the assistant plays: the first winning move, else the first of those that
            leave the user most ways to go wrong.
        split: Its own. A game in which the assistant moves in several belongs to test if one does,
            else to validation if one does.
    """

    legal: tuple[Move, ...]
    winning: tuple[Move, ...]
    policy: Move
    split: str


@cache  # of 2 to 4 heaps there are 69,885 positions
def position_of(heaps: tuple[int, ...]) -> Position:
    """Solves a position."""
    legal = tuple((heap, take) for heap, held in enumerate(heaps) for take in range(1, held + 1))
    winning = winning_moves(heaps)
    policy = winning[0] if winning else max(legal, key=lambda move: num_mistakes(left(heaps, move)))
    return Position(legal, winning, policy, position_split(heaps))


def winning_moves(heaps: tuple[int, ...]) -> tuple[Move, ...]:
    """The moves that make the sum 0, by heap."""
    total = nim_sum(heaps)
    return tuple(
        (heap, held - (held ^ total)) for heap, held in enumerate(heaps) if held ^ total < held
    )


def users_move(heaps: tuple[int, ...], draw: Callable[[], float], *, is_optimal: bool) -> Move:
    """What a user plays: any winning move, or any move at all.

    Args:
        heaps: Not all empty.
        draw: Uniform numbers in [0, 1).
        is_optimal: Whether it is a winning move, if there is one.
    """
    legal, winning, *_ = position_of(heaps)
    moves = winning if is_optimal and winning else legal
    return moves[int(draw() * len(moves))]


def num_mistakes(heaps: tuple[int, ...]) -> int:
    """How many of the moves in a position do not win; there is a move for each stone."""
    return sum(heaps) - len(winning_moves(heaps))


def position_split(heaps: tuple[int, ...]) -> str:
    """The split of a position with the assistant to move; trivial ones are all for training.

    The order of the heaps and empty ones make no difference.
    """
    if is_trivial(heaps):
        return "train"
    held = sorted(filter(None, heaps))
    return split_of("nim", " ".join(map(str, held)), HELD_OUT_POSITION_SHARE)


def is_trivial(heaps: tuple[int, ...]) -> bool:
    """Whether a position is too small to be held out."""
    return sum(heaps) < MIN_HELD_OUT_STONES or sum(map(bool, heaps)) < 2
