"""The referee of tic-tac-toe: a board that lives in the python tool for a whole conversation.

In go statements `board[r][c]='X'`, `board[r][c]='O'` and `print(board)`, one a line; out comes what
a `print` shows: three rows of three characters, and the result once the game is over. An illegal
move changes nothing and says why. A board is a string of nine characters, row by row: `X`, `O` or
`.` for an empty cell.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from mixgen.tools.expression import ToolError
from mixgen.tools.session import code_of, python_schema

EMPTY_BOARD: Final = "." * 9
LINES: Final = (
    (0, 1, 2),
    (3, 4, 5),
    (6, 7, 8),
    (0, 3, 6),
    (1, 4, 7),
    (2, 5, 8),
    (0, 4, 8),
    (2, 4, 6),
)
MAX_SOURCE_CHARS: Final = 256
STATEMENT: Final = re.compile(r"board\[([0-2])\]\[([0-2])\]='([XO])'", re.ASCII)

BOARD_SCHEMA: Final = python_schema(
    "Plays on a tic-tac-toe board that keeps its stones between calls.",
    "lines of board[row][column]='X' or 'O', rows and columns 0 to 2, and print(board)",
)


@cache  # 5,478 boards
def winner(board: str) -> str:
    """`"X"`, `"O"` or, where nobody has three in a row, the empty string."""
    for a, b, c in LINES:
        if board[a] != "." and board[a] == board[b] == board[c]:
            return board[a]
    return ""


@cache
def to_move(board: str) -> str:
    """Whose move it is: X moves first."""
    return "X" if board.count("X") == board.count("O") else "O"


def opponent(mark: str) -> str:
    """The other mark."""
    return "O" if mark == "X" else "X"


@cache
def result(board: str) -> str:
    """`"X wins"`, `"O wins"`, `"Draw"` or, while the game goes on, the empty string."""
    if mark := winner(board):
        return f"{mark} wins"
    return "" if "." in board else "Draw"


@cache
def render(board: str) -> str:
    """What `print(board)` shows.

    Example:
        >>> print(render("XOXXOOOXX"))
        XOX
        XOO
        OXX
        Draw
    """
    rows = [board[:3], board[3:6], board[6:]]
    return "\n".join([*rows, result(board)] if result(board) else rows)


def place(board: str, cell: int, mark: str) -> str:
    """The board after a legal or illegal move; it checks nothing."""
    return f"{board[:cell]}{mark}{board[cell + 1 :]}"


class BoardSession:
    """`python(code)` for the moves of one game.

    Example:
        >>> game = BoardSession()
        >>> game.call("python", {"code": "board[1][1]='X'\\nprint(board)"})
        '...\\n.X.\\n...'
        >>> game.call("python", {"code": "board[1][1]='O'"})
        'error: board[1][1] is taken'
    """

    def __init__(self) -> None:
        """Starts with an empty board."""
        self.board = EMPTY_BOARD

    def call(self, name: str, arguments: Mapping[str, Any]) -> str:
        """See `ToolSession.call`. A call that fails on one line changes nothing."""
        try:
            self.board, printed = _run(self.board, code_of(name, arguments))
        except ToolError as error:
            return f"error: {error}"
        return printed


def _run(board: str, code: str) -> tuple[str, str]:
    """The board after `code`, and what it prints."""
    if len(code) > MAX_SOURCE_CHARS:
        raise ToolError(f"code above {MAX_SOURCE_CHARS} characters")
    printed: list[str] = []
    for line in code.split("\n"):
        if line == "print(board)":
            printed.append(render(board))
            continue
        statement = STATEMENT.fullmatch(line)
        if not statement:
            raise ToolError("not board[row][column]='X', board[row][column]='O' or print(board)")
        row, column, mark = int(statement[1]), int(statement[2]), statement[3]
        if result(board):
            raise ToolError("the game is over")
        if board[3 * row + column] != ".":
            raise ToolError(f"board[{row}][{column}] is taken")
        if mark != to_move(board):
            raise ToolError(f"it is {to_move(board)}'s move")
        board = place(board, 3 * row + column, mark)
    return board, "\n".join(printed)
