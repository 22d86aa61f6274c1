"""Held-out positions of tic-tac-toe, each tried once, from a set-up one move of the user before it.

The whole tree of games from the start (`_game_walk`) comes to few of them: those that good play
leads to.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from mixgen.tasks._game_tree import game_tree, moves_to
from mixgen.tasks._game_walk import Line, Move, after_user, effect_of, play
from mixgen.tasks._game_words import NUM_WORDINGS, Game, tell
from mixgen.tasks.trial import Answer
from mixgen.tools.board import EMPTY_BOARD, place, to_move


def from_set_ups(answer: Answer, split: str) -> list[Move]:
    """The model's move in each position of `held_out_set_ups`.

    A model that does not carry out the set-up as the data does has made no legal move.
    """
    games = held_out_set_ups(split)
    told = [tell(game, number % NUM_WORDINGS) for number, game in enumerate(games)]
    lines = [
        Line(mark=game.mark, messages=messages[:1], board=game.boards[-2])
        for game, messages in zip(games, told, strict=True)
    ]
    going: dict[int, Line] = {}
    for at, turn in enumerate(answer([line.messages for line in lines])):
        opening = told[at][:4]
        if not turn.fault and list(map(effect_of, turn.messages)) == list(
            map(effect_of, opening[1:])
        ):
            going[at] = after_user(replace(lines[at], messages=opening), games[at].cells[-1])
    turns = answer([line.messages for line in going.values()])
    moves = [Move(game.boards[-1], None) for game in games]
    for (at, line), turn in zip(going.items(), turns, strict=True):
        (moves[at],) = play(line, turn).moves
    return moves


@cache
def held_out_set_ups(split: str) -> list[Game]:
    """A game to each held-out position of a split that is not lost."""
    return [
        _set_up(to_move(board), moves_to(board, lambda: 0.0))
        for board, position in game_tree().items()
        if position.split == split and position.value >= 0
    ]


def _set_up(mark: str, cells: list[int]) -> Game:
    boards = [EMPTY_BOARD]
    for cell in cells:
        boards.append(place(boards[-1], cell, to_move(boards[-1])))
    return Game(mark, cells, boards[1:], "", len(cells) - 1)
