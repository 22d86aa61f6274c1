"""Tic-tac-toe against a model: the board as the tool has it, drawn, and moves by number or name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mixgen.errors import RecipeError, nearest
from mixgen.tasks._tictactoe_words import CELLS, opening_words
from mixgen.tasks.messages import Message
from mixgen.tools.board import EMPTY_BOARD, BoardSession, opponent, place, result, to_move

HINT: Final = "Play by the number of a cell, or its name, such as top left."


class Game:
    """One game of a person against a model.

    Args:
        mark: The person's, X or O; X begins.

    Examples:
        >>> game = Game("X")
        >>> print(game.drawn)
         1 | 2 | 3
        ---+---+---
         4 | 5 | 6
        ---+---+---
         7 | 8 | 9
        >>> print(game.with_move("5")[1])
        Tic-tac-toe. You are O:
        ...
        .X.
        ...
        <BLANKLINE>
    """

    def __init__(self, mark: str) -> None:
        if mark not in ("X", "O"):
            raise RecipeError(f"the mark must be X or O, got {mark!r}")
        self.mark = mark
        self.board = EMPTY_BOARD

    @property
    def is_over(self) -> bool:
        """Whether there is a result."""
        return bool(result(self.board))

    @property
    def is_persons_turn(self) -> bool:
        """Whether the person has to move."""
        return not self.is_over and to_move(self.board) == self.mark

    @property
    def drawn(self) -> str:
        """The board, with the numbers of empty cells, and the result."""
        cells = [str(at + 1) if mark == "." else mark for at, mark in enumerate(self.board)]
        rows = [" " + " | ".join(cells[at : at + 3]) for at in (0, 3, 6)]
        lines = "\n---+---+---\n".join(rows)
        return f"{lines}\n{result(self.board)}." if self.is_over else lines

    def with_move(self, move: str) -> tuple[str, str]:
        """The board after a person's move, and what to say to the model.

        Args:
            move: A number from 1 to 9 or a cell's name; ignored before the model's first move.

        Raises:
            RecipeError: There is no such cell, or it is taken.
        """
        is_first = self.board == EMPTY_BOARD
        if is_first and self.mark == "O":
            return self.board, opening_words(self.board, 0)
        cell = _cell(move)
        if self.board[cell] != ".":
            raise RecipeError(f"{CELLS[cell]} is taken")
        board = place(self.board, cell, self.mark)
        return board, opening_words(board, 0) if is_first else CELLS[cell]

    def follow(self, messages: Sequence[Message]) -> str:
        """Takes over the model's move.

        Args:
            messages: The whole conversation, with the model's turn.

        Returns:
            What is wrong with the turn: the model has not played one legal move, or moved the
            stones that were there.
        """
        tools = BoardSession()
        for message in messages:
            for made in message["tool_calls"]:
                tools.call(made["function"]["name"], made["function"]["arguments"])
        legal = {
            place(self.board, cell, opponent(self.mark))
            for cell, mark in enumerate(self.board)
            if mark == "." and not self.is_over
        }
        if tools.board not in (legal or {self.board}):
            return "the model has not played one legal move on this board"
        self.board = tools.board
        return ""


def _cell(move: str) -> int:
    name = move.strip().lower().replace("centre", "center")
    if name in CELLS:
        return CELLS.index(name)
    if len(name) == 1 and name in "123456789":
        return int(name) - 1
    raise RecipeError(f"no cell {move!r}: 1 to 9, or {nearest(name, CELLS)}")
