"""How a game of tic-tac-toe is told: the words of both sides, and the calls between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mixgen.tasks.messages import Message, assistant, call, tool, user
from mixgen.tools.board import (
    PRINT_BOARD,
    PRINT_LINES,
    opponent,
    place,
    render,
    render_lines,
    result,
    to_move,
)

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
# The user's first words, before the board that they show, in three wordings for each mark of the
# assistant.
OPENINGS: Final = {
    mark: (
        f"Tic-tac-toe. You are {mark}:\n",
        f"Let's play tic-tac-toe. You play {mark}:\n",
        f"Please play tic-tac-toe. Your mark is {mark}:\n",
    )
    for mark in "XO"
}
NUM_WORDINGS: Final = len(OPENINGS["X"])
PLACE: Final = {
    mark: [f"board[{cell // 3}][{cell % 3}]='{mark}'\n" for cell in range(9)] for mark in "XO"
}
I_PLAY: Final = [f"I play {name}." for name in CELLS]


def opening_words(board: str, wording: int) -> str:
    """What the user says first, with the board that the assistant has to move on."""
    return OPENINGS[to_move(board)][wording] + render(board)


def rows_code(board: str) -> str:
    """Code that sets a board, row by row, on an empty one."""
    return "".join([f"board[{row}]='{board[3 * row : 3 * row + 3]}'\n" for row in range(3)])


def last_words(mark: str, ending: str) -> str:
    """What the assistant says of a finished game."""
    return "Draw." if ending == "Draw" else "I win." if ending[0] == mark else "You win."


def claims(mark: str, cell: int | None, board: str) -> str:
    """What the assistant says after its turn; no cell if the user's move has ended the game."""
    words = [] if cell is None else [I_PLAY[cell]]
    if ending := result(board):
        words.append(last_words(mark, ending))
    return " ".join(words)


def turn_messages(mark: str, user_code: str, own: int | None, board: str) -> list[Message]:
    """The assistant's turn: it puts down what the user has shown or said, looks, and moves.

    Args:
        mark: The assistant's.
        user_code: What puts down the rows of the opening, or the user's move.
        own: The cell of its own move; none if the user's has ended the game.
        board: The board after `user_code`.
    """
    messages = [call(user_code + PRINT_LINES), tool(render_lines(board))]
    if own is not None:
        board = place(board, own, mark)
        messages += (call(PLACE[mark][own] + PRINT_BOARD), tool(render(board)))
    return [*messages, assistant(claims(mark, own, board))]


def tell(mark: str, opening: str, cells: Sequence[int], wording: int) -> list[Message]:
    """The conversation of a finished game.

    Args:
        mark: The assistant's.
        opening: The board that the user shows first, with the assistant to move.
        cells: The cell of each move after it.
        wording: Which of the wordings the user opens with.
    """
    theirs = opponent(mark)
    board = opening
    messages = [user(opening_words(board, wording))]
    user_code = rows_code(board)
    for at in range(0, len(cells) + 1, 2):  # moves made when the assistant's turn comes
        if at:
            messages.append(user(CELLS[cells[at - 1]]))
            board = place(board, cells[at - 1], theirs)
            user_code = PLACE[theirs][cells[at - 1]]
        own = cells[at] if at < len(cells) else None
        messages += turn_messages(mark, user_code, own, board)
        if own is not None:
            board = place(board, own, mark)
    return messages


def wording_of(opening: str, words: str) -> int:
    """Which of the wordings the user's first words are.

    Args:
        opening: The board that they show.
        words: The words.

    Raises:
        ValueError: They are none for this board.
    """
    return [opening_words(opening, number) for number in range(NUM_WORDINGS)].index(words)
