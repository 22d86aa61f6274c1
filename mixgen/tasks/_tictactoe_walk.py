"""Tic-tac-toe against every opponent: the whole tree of games that a model's own moves leave open.

Every reply of the user is tried against each of the model's turns, so the counts have no sampling
noise. A *line* is one game from its first word to its end: won, drawn, lost, or broken off by a
turn that plays an illegal move, makes calls that are not the game's, or cannot be read; a line that
is broken off is lost too. A claim ("I play center.", "Draw.") that does not fit the board is wrong,
and the game goes on.

A line is *seen* if no position in which the model has the move is held out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from mixgen.tasks._game_turns import codes_of, have_same_effects, wrong_claims
from mixgen.tasks._tictactoe_tree import game_tree
from mixgen.tasks._tictactoe_words import (
    CELLS,
    PLACE,
    opening_words,
    rows_code,
    turn_messages,
)
from mixgen.tasks.messages import Message, Score, user
from mixgen.tasks.trial import Answer, Metric, Trial, Turn, tally
from mixgen.tools.board import (
    EMPTY_BOARD,
    MOVE,
    PRINTS,
    opponent,
    place,
    result,
    to_move,
    winner,
)

FAULTS: Final = ("illegal", "wrong_boards", "unreadable")  # what breaks a line off: a loss too


class Move(NamedTuple):
    """A decision of the model."""

    board: str  # before it, with the model to move
    cell: int | None  # None: the turn broke the line off


@dataclass(frozen=True, kw_only=True)
class Line:
    """A game as far as it has come."""

    mark: str  # the model's
    messages: list[Message]
    board: str
    user_code: str  # what puts down what the user has just shown or said
    moves: tuple[Move, ...] = ()
    wrong_claims: tuple[str, ...] = ()
    ending: str = ""  # won, drawn, lost or one of `FAULTS`
    reason: str = ""

    @property
    def is_seen(self) -> bool:
        """Whether none of its decisions is in a position that is held out."""
        return all(game_tree()[move.board].split == "train" for move in self.moves)

    @property
    def score(self) -> Score:
        """1 if it is neither lost nor faulty."""
        reason = self.reason or "; ".join(self.wrong_claims)
        if self.ending == "lost":
            reason = "lost"
        return Score(value=0.0 if reason else 1.0, reason=reason)


def walk(answer: Answer, mark: str, wording: int) -> list[Line]:
    """All lines of play against a model.

    Args:
        answer: Gives the model's turns.
        mark: The model's mark; X moves first.
        wording: Which of the wordings the user opens with.
    """
    starts = [EMPTY_BOARD]
    if mark == "O":
        starts = [place(EMPTY_BOARD, cell, "X") for cell in range(9)]
    going = [opened(board, wording) for board in starts]
    finished: list[Line] = []
    while going:
        turns = answer([line.messages for line in going])
        played = [play(line, turn) for line, turn in zip(going, turns, strict=True)]
        finished += [line for line in played if line.ending]
        going = [
            _after_user(line, cell)
            for line in played
            if not line.ending
            for cell in range(9)
            if line.board[cell] == "."
        ]
    return finished


def opened(board: str, wording: int) -> Line:
    """A line that the user opens with a board on which the model has the move."""
    return Line(
        mark=to_move(board),
        messages=[user(opening_words(board, wording))],
        board=board,
        user_code=rows_code(board),
    )


def _after_user(line: Line, cell: int) -> Line:
    """A line after the user's move."""
    theirs = opponent(line.mark)
    return replace(
        line,
        messages=[*line.messages, user(CELLS[cell])],
        board=place(line.board, cell, theirs),
        user_code=PLACE[theirs][cell],
    )


def play(line: Line, turn: Turn) -> Line:
    """A line after the model's turn."""
    mark, board = line.mark, line.board
    theirs = opponent(mark)
    messages = [*line.messages, *turn.messages]
    is_over = bool(result(board))

    def broken(fault: str, reason: str) -> Line:
        moves = line.moves if is_over else (*line.moves, Move(board, None))
        return replace(line, messages=messages, moves=moves, ending=fault, reason=reason)

    statements = [one for one in _statements(turn.messages) if one not in PRINTS]
    users = line.user_code.splitlines()
    found = [MOVE.fullmatch(one) for one in statements[len(users) :]]
    placed = [(3 * int(one[1]) + int(one[2]), one[3]) for one in found if one]
    is_begun = statements[: len(users)] == users
    # Before all else: what a model says after the referee's error is often unreadable.
    if is_begun and any(found[:1]) and placed[0][1] == mark:
        if is_over:
            return broken("illegal", "a move after the end of the game")
        if board[placed[0][0]] != ".":
            return broken("illegal", f"{CELLS[placed[0][0]]} is taken")
    if turn.fault or not turn.messages or turn.messages[-1]["role"] != "assistant":
        return broken("unreadable", turn.fault or "no last words")
    if not is_begun:
        return broken("wrong_boards", f"{line.user_code!r} is not what is put down first")
    if None in found:
        return broken("wrong_boards", "a statement is no move and no print of the board")
    if [stone for _, stone in placed] != ([] if is_over else [mark]):
        return broken("wrong_boards", f"not {'no' if is_over else 'one'} {mark} is put down")
    own = placed[0][0] if placed else None
    right = turn_messages(mark, line.user_code, own, board)
    if not have_same_effects(turn.messages, right):
        return broken("wrong_boards", "a call or its output is not what the game's is")
    moves = line.moves
    if own is not None:
        moves = (*moves, Move(board, own))
        board = place(board, own, mark)
    return replace(
        line,
        messages=messages,
        board=board,
        moves=moves,
        wrong_claims=(*line.wrong_claims, *wrong_claims(turn.messages, right)),
        ending={"": "drawn", mark: "won", theirs: "lost"}[winner(board)] if result(board) else "",
    )


def _statements(messages: Sequence[Message]) -> list[str]:
    """The statements of a turn's calls, in order."""
    return [line for code in codes_of(messages) for line in code.split("\n")]


def trials_of(lines: Sequence[Line]) -> list[Trial]:
    """Lines as trials, for people to read."""
    return [Trial(messages=line.messages, score=line.score) for line in lines]


def metrics_of(lines: Sequence[Line], moves: Sequence[Move], split: str) -> list[Metric]:
    """What is counted: how all lines end, and how single moves are.

    Args:
        lines: All lines of the games tried.
        moves: Of `_tictactoe_set_ups.from_set_ups`.
        split: `"test"` or `"validation"`, whose positions count as held out, or `"train"`.
    """
    groups = [[f"as {line.mark}", *(["seen"] if line.is_seen else [])] for line in lines]
    kinds: dict[str, list[bool]] = {
        "exact": [line.score.value == 1 for line in lines],
        "won": [line.ending == "won" for line in lines],
        "drawn": [line.ending == "drawn" for line in lines],
        "losses": [line.ending not in ("won", "drawn") for line in lines],
        **{fault: [line.ending == fault for line in lines] for fault in FAULTS},
        "wrong_claims": [bool(line.wrong_claims) for line in lines],
    }
    found: list[Metric] = []
    for name, flags in kinds.items():
        is_fault = name in ("losses", "wrong_claims", *FAULTS)
        found += tally(
            flags, name=name, groups=groups, unit="lines", is_fault=is_fault, is_sample=False
        )
    # A move belongs to every line that goes on from it: it is counted once.
    in_tree: dict[tuple[str, ...], Move] = {}
    for line in lines:
        history = [line.messages[0]["content"]]
        for move in line.moves:
            history.append(move.board)
            in_tree[tuple(history)] = move
    held_out = {} if split == "train" else {"held_out_": split}
    for prefix, wanted in {"seen_": "train", **held_out}.items():
        part = [m for m in in_tree.values() if game_tree()[m.board].split == wanted]
        found += _move_metrics(prefix, part)
    if moves:
        found += _move_metrics("held_out_", moves, "set-ups")
    return found


def _move_metrics(prefix: str, moves: Sequence[Move], group: str = "") -> list[Metric]:
    positions = [game_tree()[move.board] for move in moves]
    right: dict[str, list[Sequence[int]]] = {
        "legal": [position.legal for position in positions],
        # Every move keeps the value of a lost position: nothing to count.
        "optimal": [position.optimal if position.value >= 0 else [] for position in positions],
        "wins_taken": [position.wins for position in positions],
        "blocks_made": [() if position.wins else position.blocks for position in positions],
    }
    found = []
    for name, options in right.items():
        flags = [move.cell in cells for move, cells in zip(moves, options, strict=True) if cells]
        found.append(
            Metric(
                name=prefix + name,
                group=group,
                count=sum(flags),
                total=len(flags),
                unit="moves",
                is_sample=False,
            )
        )
    return found
