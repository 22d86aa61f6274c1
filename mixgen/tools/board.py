"""The referee of tic-tac-toe: a board that lives in the python tool for a whole conversation.

In go statements, one a line: moves `board[r][c]='X'` or `'O'`, `print(board)` (three rows) and
`print(board.lines)` (three rows, three columns, two diagonals). What is printed ends with a line
for the result, empty until the game is over. A call with an illegal move changes nothing and says
why. To go on from a position, statements `board[r]='X.O'` come first, on an empty board. A board is
a string of nine characters, row by row: `X`, `O` or `.` for an empty cell.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import takewhile
from typing import Any, Final

from mixgen.tools.expression import ToolError
from mixgen.tools.session import code_of, python_schema

EMPTY_BOARD: Final = "." * 9
LINES: Final = (  # rows, columns and diagonals, as `print(board.lines)` shows them
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
MOVE: Final = re.compile(r"board\[([0-2])\]\[([0-2])\]='([XO])'")
ROW: Final = re.compile(r"board\[([0-2])\]='([XO.]{3})'")

BOARD_SCHEMA: Final = python_schema(
    "Plays on a tic-tac-toe board that keeps its stones between calls.",
    "statements board[row][column]='X' or 'O', rows and columns 0 to 2, print(board) and "
    "print(board.lines), a line each; first, on an empty board, board[row]='X.O'",
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

    Examples:
        >>> print(render("XOXXOOOXX"))
        XOX
        XOO
        OXX
        Draw
    """
    return "\n".join([board[:3], board[3:6], board[6:], result(board)])


@cache
def render_lines(board: str) -> str:
    """What `print(board.lines)` shows: three rows, three columns, two diagonals and the result.

    Examples:
        >>> render_lines("XOXXOOOXX").split("\\n")
        ['XOX', 'XOO', 'OXX', 'XXO', 'OOX', 'XOX', 'XOX', 'XOO', 'Draw']
    """
    lines = ["".join([board[cell] for cell in cells]) for cells in LINES]
    return "\n".join([*lines, result(board)])


PRINT_BOARD: Final = "print(board)"
PRINT_LINES: Final = "print(board.lines)"
PRINTS: Final[Mapping[str, Callable[[str], str]]] = {
    PRINT_BOARD: render,
    PRINT_LINES: render_lines,
}


def place(board: str, cell: int, mark: str) -> str:
    """The board after a legal or illegal move; it checks nothing."""
    return f"{board[:cell]}{mark}{board[cell + 1 :]}"


class BoardSession:
    """`python(code)` for one game: the position it opens with, if any, and its moves.

    Examples:
        >>> game = BoardSession()
        >>> game.call("python", {"code": "board[1][1]='X'\\nprint(board)"})
        '...\\n.X.\\n...\\n'
        >>> game.call("python", {"code": "board[1][1]='O'"})
        'error: board[1][1] is taken'
    """

    def __init__(self) -> None:
        """Starts with an empty board."""
        self.board = EMPTY_BOARD

    def call(self, name: str, arguments: Mapping[str, Any]) -> str:
        """See `ToolSession.call`. A call that fails on one statement changes nothing."""
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
    statements = code.split("\n")
    rows = list(takewhile(ROW.fullmatch, statements))
    if rows:
        board = _with_rows(board, rows)
    for statement in statements[len(rows) :]:
        if statement in PRINTS:
            printed.append(PRINTS[statement](board))
            continue
        if ROW.fullmatch(statement):
            raise ToolError("rows are set before all else")
        move = MOVE.fullmatch(statement)
        if not move:
            allowed = ", ".join(
                ["board[row][column]='X' or 'O'", *PRINTS, "first board[row]='X.O'"]
            )
            raise ToolError(f"not a statement; allowed are {allowed}")
        row, column, mark = int(move[1]), int(move[2]), move[3]
        if result(board):
            raise ToolError("the game is over")
        if board[3 * row + column] != ".":
            raise ToolError(f"board[{row}][{column}] is taken")
        if mark != to_move(board):
            raise ToolError(f"it is {to_move(board)}'s move")
        board = place(board, 3 * row + column, mark)
    return board, "\n".join(printed)


def _with_rows(board: str, statements: Sequence[str]) -> str:
    """An empty board with some rows set, to a position that moves in turn can come to."""
    if board != EMPTY_BOARD:
        raise ToolError("rows can be set on an empty board only")
    for row, stones in ROW.findall("\n".join(statements)):
        board = board[: 3 * int(row)] + stones + board[3 * int(row) + 3 :]
    if board.count("X") - board.count("O") not in (0, 1) or result(board):
        raise ToolError("no game that goes on comes to these rows")
    return board
