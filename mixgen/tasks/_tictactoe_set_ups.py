"""Each held-out position of tic-tac-toe, tried once: a game opens with it, and one move counts.

The whole tree of games from the start (`_tictactoe_walk`) comes to few of them: those that good
play leads to.
"""

from __future__ import annotations

from functools import cache

from mixgen.tasks._tictactoe_tree import game_tree
from mixgen.tasks._tictactoe_walk import Move, opened, play
from mixgen.tasks._tictactoe_words import NUM_WORDINGS
from mixgen.tasks.trial import Answer


def from_set_ups(answer: Answer, split: str) -> list[Move]:
    """The model's move in each position of `held_out_set_ups`.

    A model that does not set the position up as the data does has made no legal move.
    """
    boards = held_out_set_ups(split)
    lines = [opened(board, number % NUM_WORDINGS) for number, board in enumerate(boards)]
    turns = answer([line.messages for line in lines])
    return [play(line, turn).moves[0] for line, turn in zip(lines, turns, strict=True)]


@cache
def held_out_set_ups(split: str) -> list[str]:
    """The held-out positions of a split that are not lost."""
    return [
        board
        for board, position in game_tree().items()
        if position.split == split and position.value >= 0
    ]
