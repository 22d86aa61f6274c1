"""How a game of tic-tac-toe is told: the words of both sides, and the calls between them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from mixgen.tasks.messages import Message, assistant, call, tool, user
from mixgen.tools.board import render, result

CELLS: Final = (
    "top left",
    "top",
    "top right",
    "left",
    "center",
    "right",
    "bottom left",
    "bottom",
    "bottom right",
)
# The user's first words, in three wordings: where they start, where the assistant does, and where
# stones lie already.
USER_STARTS: Final = (
    "Tic-tac-toe. I'm X at {}.",
    "Let's play tic-tac-toe. I start at {}.",
    "Tic-tac-toe, please. My X is at {}.",
)
ASSISTANT_STARTS: Final = (
    "Tic-tac-toe. You start.",
    "Let's play tic-tac-toe. You're X.",
    "Tic-tac-toe, please. You go first.",
)
SET_UPS: Final = (
    "Tic-tac-toe. So far: {}.",
    "Let's play tic-tac-toe on from {}.",
    "Tic-tac-toe, please. We had {}.",
)
YOUR_MOVE: Final = "Your move."
PLACE: Final = {
    mark: [f"board[{cell // 3}][{cell % 3}]='{mark}'\n" for cell in range(9)] for mark in "XO"
}
PRINT: Final = "print(board)"
I_PLAY: Final = [f"I play {name}." for name in CELLS]


class Game(NamedTuple):
    """A finished game.

    Attributes:
        mark: The assistant's mark.
        cells: The cell of each move.
        boards: The board after each move.
        split: Where it belongs.
        set_up: How many of the moves had been made before the conversation.
    """

    mark: str
    cells: list[int]
    boards: list[str]
    split: str
    set_up: int = 0


def opening_words(game: Game, wording: int) -> str:
    """What the user says first."""
    if game.set_up:
        names = ", ".join([CELLS[cell] for cell in game.cells[: game.set_up]])
        return SET_UPS[wording].format(names)
    if game.mark == "X":
        return ASSISTANT_STARTS[wording]
    return USER_STARTS[wording].format(CELLS[game.cells[0]])


def named_cell(said: str) -> int:
    """The cell that the user names."""
    named = [cell for cell, name in enumerate(CELLS) if re.search(rf"\b{name}\b", said)]
    return max(named, key=lambda cell: len(CELLS[cell]))  # "top left" is not "top"


def last_words(mark: str, ending: str) -> str:
    """What the assistant says of a finished game."""
    return "Draw." if ending == "Draw" else "I win." if ending[0] == mark else "You win."


def claims(mark: str, cell: int | None, board: str) -> str:
    """What the assistant says after its turn; no cell if the user's move has ended the game."""
    words = [] if cell is None else [I_PLAY[cell]]
    if ending := result(board):
        words.append(last_words(mark, ending))
    return " ".join(words)


def tell(game: Game, wording: int) -> list[Message]:
    """The conversation of a finished game."""
    mark, cells, boards, _, set_up = game
    mine, theirs = PLACE[mark], PLACE["O" if mark == "X" else "X"]
    last = len(cells) - 1
    messages = [user(opening_words(game, wording))]
    turn = set_up
    if set_up:
        lines = [PLACE["XO"[at % 2]][cell] for at, cell in enumerate(cells[:set_up])]
        messages += (
            call("".join(lines) + PRINT),
            tool(render(boards[set_up - 1])),
            assistant(YOUR_MOVE),
        )
    elif mark == "X":
        messages += (
            call(mine[cells[0]] + PRINT),
            tool(render(boards[0])),
            assistant(I_PLAY[cells[0]]),
        )
        turn = 1
    while turn <= last:
        if turn:
            messages.append(user(CELLS[cells[turn]]))
        messages += (call(theirs[cells[turn]] + PRINT), tool(render(boards[turn])))
        answer = None
        if turn < last:
            turn += 1
            answer = cells[turn]
            messages += (call(mine[answer] + PRINT), tool(render(boards[turn])))
        messages.append(assistant(claims(mark, answer, boards[turn])))
        turn += 1
    return messages


def wording_of(game: Game, said: str) -> int:
    """Which wording of a game's opening this is.

    Raises:
        ValueError: It opens another game.
    """
    wordings: Sequence[str] = [opening_words(game, wording) for wording in range(len(SET_UPS))]
    return wordings.index(said)
