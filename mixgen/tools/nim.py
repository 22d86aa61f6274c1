"""The referee of Nim: heaps that live in the python tool for a whole conversation.

In go statements, one a line: first `heaps=[3,5,7]`, once; then moves `heaps[1]-=3`, heaps counted
from 0, `print(heaps)` (how many stones each holds) and `print(heaps.bits)` (each heap in binary, X
for 1, and above them a line with an X where the column has an odd number of them: it comes first so
that who reads on knows at each heap what to do with it). What is printed ends with a line for the
result, empty until the game is over. A call with an illegal move changes nothing and says why.
Players take turns; who takes the last stone wins.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import reduce
from operator import xor
from typing import Any, Final, NamedTuple

from mixgen.tools.expression import ToolError
from mixgen.tools.session import code_of, python_schema

NUM_HEAPS: Final = (2, 4)  # fewest and most
MAX_STONES: Final = 15  # of a heap
MAX_SOURCE_CHARS: Final = 256
SET_UP: Final = re.compile(r"heaps=\[([1-9][0-9]?(?:,[1-9][0-9]?)*)\]")
MOVE: Final = re.compile(r"heaps\[([0-9])\]-=([1-9][0-9]?)")

NIM_SCHEMA: Final = python_schema(
    "Plays Nim on heaps that keep their stones between calls.",
    "statements heaps[heap]-=count, heaps counted from 0, print(heaps) and print(heaps.bits), a "
    "line each; first, once, heaps=[3,5,7]",
)

Move = tuple[int, int]  # the heap, from 0, and how many stones are taken from it


class Game(NamedTuple):
    """A game as far as it has come.

    Attributes:
        heaps: The stones of each heap.
        columns: Of `print(heaps.bits)`: 3, or 4 in a game that begins with a heap above 7.
        num_moves: How many moves were made.
    """

    heaps: tuple[int, ...]
    columns: int
    num_moves: int = 0


def begun(heaps: tuple[int, ...]) -> Game:
    """A game before its first move."""
    return Game(heaps, 4 if max(heaps) > 7 else 3)


def left(heaps: tuple[int, ...], move: Move) -> tuple[int, ...]:
    """The heaps after a move; it checks nothing."""
    heap, count = move
    return (*heaps[:heap], heaps[heap] - count, *heaps[heap + 1 :])


def after(game: Game, move: Move) -> Game:
    """The game after a move; it checks nothing."""
    return Game(left(game.heaps, move), game.columns, game.num_moves + 1)


def is_legal(game: Game, move: Move) -> bool:
    """Whether there is such a heap, and it holds as many stones."""
    heap, count = move
    return heap < len(game.heaps) and 1 <= count <= game.heaps[heap]


def nim_sum(heaps: tuple[int, ...]) -> int:
    """The heaps added in binary without carrying."""
    return reduce(xor, heaps)


def result(game: Game) -> str:
    """Who has won: the player who moved last. While the game goes on, the empty string."""
    if any(game.heaps):
        return ""
    return "first player wins" if game.num_moves % 2 else "second player wins"


def render(game: Game) -> str:
    """What `print(heaps)` shows.

    Examples:
        >>> render(begun((3, 5, 7)))
        '3 5 7\\n'
    """
    return " ".join(map(str, game.heaps)) + "\n" + result(game)


def render_bits(game: Game) -> str:
    """What `print(heaps.bits)` shows.

    Examples:
        >>> print(render_bits(begun((3, 5, 7))).rstrip())
        ..X
        .XX
        X.X
        XXX
    """
    numbers = (nim_sum(game.heaps), *game.heaps)
    return "".join([_BITS[game.columns][number] for number in numbers]) + result(game)


_BITS: Final = {
    columns: [
        f"{number:0{columns}b}\n".translate({ord("0"): ".", ord("1"): "X"})
        for number in range(2**columns)
    ]
    for columns in (3, 4)
}
PRINT_HEAPS: Final = "print(heaps)"
PRINT_BITS: Final = "print(heaps.bits)"
PRINTS: Final[Mapping[str, Callable[[Game], str]]] = {
    PRINT_HEAPS: render,
    PRINT_BITS: render_bits,
}


class NimSession:
    """`python(code)` for one game.

    Examples:
        >>> nim = NimSession()
        >>> nim.call("python", {"code": "heaps=[3,5,7]\\nheaps[1]-=3\\nprint(heaps)"})
        '3 2 7\\n'
        >>> nim.call("python", {"code": "heaps[1]-=3"})
        'error: heaps[1] holds 2'
    """

    def __init__(self) -> None:
        """Starts without heaps."""
        self.game: Game | None = None

    def call(self, name: str, arguments: Mapping[str, Any]) -> str:
        """See `ToolSession.call`. A call that fails on one statement changes nothing."""
        try:
            self.game, printed = _run(self.game, code_of(name, arguments))
        except ToolError as error:
            return f"error: {error}"
        return printed


def _run(game: Game | None, code: str) -> tuple[Game | None, str]:
    """The game after `code`, and what it prints."""
    if len(code) > MAX_SOURCE_CHARS:
        raise ToolError(f"code above {MAX_SOURCE_CHARS} characters")
    printed: list[str] = []
    for statement in code.split("\n"):
        set_up, move = SET_UP.fullmatch(statement), MOVE.fullmatch(statement)
        if not set_up and not move and statement not in PRINTS:
            allowed = ", ".join(["heaps[heap]-=count", *PRINTS, "first heaps=[3,5,7]"])
            raise ToolError(f"not a statement; allowed are {allowed}")
        if set_up:
            if game:
                raise ToolError("the heaps are there already")
            game = _game_of(set_up[1])
        elif not game:
            raise ToolError("there are no heaps yet: first heaps=[3,5,7]")
        elif move:
            game = _moved(game, (int(move[1]), int(move[2])))
        else:
            printed.append(PRINTS[statement](game))
    return game, "\n".join(printed)


def _game_of(listed: str) -> Game:
    heaps = tuple(map(int, listed.split(",")))
    fewest, most = NUM_HEAPS
    if not fewest <= len(heaps) <= most or max(heaps) > MAX_STONES:
        raise ToolError(f"there must be {fewest} to {most} heaps of 1 to {MAX_STONES} stones")
    return begun(heaps)


def _moved(game: Game, move: Move) -> Game:
    heap, _ = move
    if result(game):
        raise ToolError("the game is over")
    if heap >= len(game.heaps):
        raise ToolError(f"there is no heaps[{heap}]")
    if not is_legal(game, move):
        raise ToolError(f"heaps[{heap}] holds {game.heaps[heap]}")
    return after(game, move)
