"""Tic-tac-toe solved: positions with their best moves and splits, games up to symmetry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import cache
from typing import Final, NamedTuple

from mixgen.tasks.base import split_of
from mixgen.tools.board import EMPTY_BOARD, opponent, place, result, to_move, winner

HELD_OUT_POSITION_SHARE: Final = 0.1  # of the positions, in validation and in test each
HELD_OUT_STONES: Final = 3  # fewest stones on a position that may be held out
SYMMETRIES: Final = tuple(
    tuple((3 * r + c) if not turned else (3 * c + r) for r in rows for c in columns)
    for rows in ((0, 1, 2), (2, 1, 0))
    for columns in ((0, 1, 2), (2, 1, 0))
    for turned in (False, True)
)
# For each symmetry the table that renumbers a move's cell.
_SPELLINGS: Final = [bytes.maketrans(bytes(cells), b"012345678") for cells in SYMMETRIES]


class Position(NamedTuple):
    """What the game tree knows about a board whose game goes on.

    Attributes:
        legal: The empty cells.
        value: For the side to move, if both play well: 1 a win, 0 a draw, -1 a loss.
        optimal: The moves that keep this value.
        best: Of these the ones that win soonest, draw, or lose latest.
        preferred: Of these the ones that do best against random replies.
        boards: The board after a move on each of the nine cells; empty where a stone lies.
        wins: The cells that complete a line of the side to move.
        blocks: The cells where its opponent would complete one.
        split: Its own. A game in which the assistant moves in several belongs to test if one does,
            else to validation if one does.
    """

    legal: tuple[int, ...]
    value: int
    optimal: tuple[int, ...]
    best: tuple[int, ...]
    preferred: tuple[int, ...]
    boards: tuple[str, ...]
    wins: tuple[int, ...]
    blocks: tuple[int, ...]
    split: str


def canonical_board(board: str) -> str:
    """The first in order of a board's eight symmetric images."""
    return min(_images(board))


def canonical_game(opening: str, cells: Sequence[int]) -> str:
    """The first in order of a game's eight spellings: the board it begins with, then its moves."""
    moves = bytes(cells)
    spelled = zip(_images(opening), _SPELLINGS, strict=True)
    return min([image + moves.translate(spelling).decode() for image, spelling in spelled])


@cache  # 5,478 boards
def _images(board: str) -> tuple[str, ...]:
    return tuple(["".join([board[cell] for cell in cells]) for cells in SYMMETRIES])


@cache
def game_tree() -> dict[str, Position]:
    """Every reachable board whose game goes on (4,520 of them), solved once by minimax."""
    values: dict[str, int] = {}  # a board comes after all that can follow from it

    def value(board: str) -> int:
        """The result for the side to move: positive for a win, and further from 0 if sooner."""
        if board not in values:
            if winner(board):
                values[board] = -1 - board.count(".")
            elif "." not in board:
                values[board] = 0
            else:
                values[board] = max(-value(after) for after in boards_after(board) if after)
        return values[board]

    def boards_after(board: str) -> tuple[str, ...]:
        mark = to_move(board)
        return tuple(place(board, cell, mark) if board[cell] == "." else "" for cell in range(9))

    value(EMPTY_BOARD)
    tree: dict[str, Position] = {}
    hopes: dict[str, dict[str, Fraction]] = {}  # each mark's mean result against random replies
    for board, worth in values.items():
        if result(board):
            won = {mark: Fraction(winner(board) == mark) for mark in "XO"}
            hopes[board] = {mark: won[mark] - won[opponent(mark)] for mark in "XO"}
            continue
        mark = to_move(board)
        boards = boards_after(board)
        legal = tuple(cell for cell in range(9) if boards[cell])
        best = tuple(cell for cell in legal if -values[boards[cell]] == worth)
        hope = max(hopes[boards[cell]][mark] for cell in best)
        hopes[board] = {
            mark: hope,
            opponent(mark): Fraction(
                sum(hopes[boards[cell]][opponent(mark)] for cell in legal), len(legal)
            ),
        }
        tree[board] = Position(
            legal=legal,
            value=_sign(worth),
            optimal=tuple(cell for cell in legal if _sign(-values[boards[cell]]) == _sign(worth)),
            best=best,
            preferred=tuple(cell for cell in best if hopes[boards[cell]][mark] == hope),
            boards=boards,
            wins=_completing(board, mark),
            blocks=_completing(board, opponent(mark)),
            split=position_split(board),
        )
    return tree


def _completing(board: str, mark: str) -> tuple[int, ...]:
    return tuple(
        cell for cell in range(9) if board[cell] == "." and winner(place(board, cell, mark))
    )


def _sign(value: int) -> int:
    return (value > 0) - (value < 0)


@cache
def set_ups(mark: str) -> list[list[list[str]]]:
    """The boards that a game of `mark` may go on from: it has the move and need not lose.

    They hold two stones at least: with fewer, it would be a game from the start.

    Returns:
        For each kind (`mark` can win at once; or else has to block; or neither) its boards, in one
        list for each number of stones.
    """
    kinds: list[dict[int, list[str]]] = [{}, {}, {}]
    for board, position in game_tree().items():
        if to_move(board) == mark and num_stones(board) >= 2 and position.value >= 0:
            kind = kinds[0 if position.wins else 1 if position.blocks else 2]
            kind.setdefault(num_stones(board), []).append(board)
    return [list(kind.values()) for kind in kinds]


def draw_set_up(mark: str, draw: Callable[[], float]) -> str:
    """One of `set_ups`: each kind is as likely, in it each number of stones, of these each board.

    Args:
        mark: Who has the move.
        draw: Uniform numbers in [0, 1).
    """
    kinds = set_ups(mark)
    by_stones = kinds[int(draw() * len(kinds))]
    boards = by_stones[int(draw() * len(by_stones))]
    return boards[int(draw() * len(boards))]


def num_stones(board: str) -> int:
    """How many stones lie on a board."""
    return 9 - board.count(".")


def position_split(board: str) -> str:
    """The split of a position with the assistant to move; early ones are all for training."""
    if num_stones(board) < HELD_OUT_STONES:
        return "train"
    return split_of("tictactoe", canonical_board(board), HELD_OUT_POSITION_SHARE)
