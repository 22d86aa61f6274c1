"""How a game of tic-tac-toe is told: the words of both sides, and the calls between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from mixgen.tasks.messages import Message, assistant, call, tool, user
from mixgen.tools.board import EMPTY_BOARD, opponent, place, render, result

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
SET_UP_STARTS: Final = (
    "Tic-tac-toe. So far: {}.",
    "Let's play tic-tac-toe on from {}.",
    "Tic-tac-toe, please. We had {}.",
)
NUM_WORDINGS: Final = len(SET_UP_STARTS)
YOUR_MOVE: Final = "Your move."
PLACE: Final = {
    mark: [f"board[{cell // 3}][{cell % 3}]='{mark}'\n" for cell in range(9)] for mark in "XO"
}
PRINT: Final = "print(board)"
I_PLAY: Final = [f"I play {name}." for name in CELLS]


class Game(NamedTuple):
    """A game, finished or not.

    Attributes:
        mark: The assistant's mark.
        cells: The cell of each move.
        boards: The board after each move.
        split: Where it belongs, or empty where that is not asked.
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
        return SET_UP_STARTS[wording].format(names)
    if game.mark == "X":
        return ASSISTANT_STARTS[wording]
    return USER_STARTS[wording].format(CELLS[game.cells[0]])


def last_words(mark: str, ending: str) -> str:
    """What the assistant says of a finished game."""
    return "Draw." if ending == "Draw" else "I win." if ending[0] == mark else "You win."


def claims(mark: str, cell: int | None, board: str) -> str:
    """What the assistant says after its turn; no cell if the user's move has ended the game."""
    words = [] if cell is None else [I_PLAY[cell]]
    if ending := result(board):
        words.append(last_words(mark, ending))
    return " ".join(words)


def turn_messages(mark: str, user_cell: int | None, own: int | None, board: str) -> list[Message]:
    """The assistant's turn: it puts down the user's stone, looks, and makes its own move.

    Args:
        mark: The assistant's.
        user_cell: The cell that the user has named, if any.
        own: The cell of its own move, if the game goes on.
        board: The board before both.
    """
    messages: list[Message] = []
    for cell, stone in ((user_cell, opponent(mark)), (own, mark)):
        if cell is not None:
            board = place(board, cell, stone)
            messages += (call(PLACE[stone][cell] + PRINT), tool(render(board)))
    return [*messages, assistant(claims(mark, own, board))]


def tell(game: Game, wording: int) -> list[Message]:
    """The conversation of a finished game."""
    mark, cells, boards, _, set_up = game
    messages = [user(opening_words(game, wording))]
    move = set_up
    if set_up:
        lines = [PLACE["XO"[at % 2]][cell] for at, cell in enumerate(cells[:set_up])]
        messages += (
            call("".join(lines) + PRINT),
            tool(render(boards[set_up - 1])),
            assistant(YOUR_MOVE),
        )
    elif mark == "X":
        messages += turn_messages(mark, None, cells[0], EMPTY_BOARD)
        move = 1
    while move < len(cells):
        if move:
            messages.append(user(CELLS[cells[move]]))
        own = cells[move + 1] if move + 1 < len(cells) else None
        before = boards[move - 1] if move else EMPTY_BOARD
        messages += turn_messages(mark, cells[move], own, before)
        move += 2
    return messages


def wording_of(game: Game, opening: str) -> int:
    """Which wording of a game's opening this is.

    Raises:
        ValueError: It opens another game.
    """
    wordings: Sequence[str] = [opening_words(game, number) for number in range(NUM_WORDINGS)]
    return wordings.index(opening)
