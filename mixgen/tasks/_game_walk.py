"""Tic-tac-toe against every opponent: the whole tree of games that a model's own moves leave open.

Every reply of the user is tried against each of the model's turns, so the counts have no sampling
noise. A *line* is one game from its first word to its end: won, drawn, lost, or broken off by a
turn that plays an illegal move, shows another board than the game's, or cannot be read. A claim
("I play center.", "Draw.") that does not fit the board is wrong, and the game goes on.

A line is *seen* if every position in which the model has the move is one for training.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from mixgen.tasks._game_tree import game_tree
from mixgen.tasks._game_words import CELLS, PRINT, Game, named_cell, opening_words, turn_messages
from mixgen.tasks.messages import Message, Score, user
from mixgen.tasks.trial import Answer, Metric, Trial, Turn
from mixgen.tools.board import EMPTY_BOARD, LINES, place, result, to_move, winner

_PLACED: Final = re.compile(r"board\[([0-2])\]\[([0-2])\]='([XO])'", re.ASCII)
FAULTS: Final = ("illegal", "wrong_boards", "unreadable")  # what breaks a line off


class Move(NamedTuple):
    """A decision of the model."""

    board: str  # before it, with the model to move
    cell: int | None  # None: no legal move came


@dataclass(frozen=True, kw_only=True)
class Line:
    """A game as far as it has come."""

    mark: str  # the model's
    messages: list[Message]
    board: str
    moves: tuple[Move, ...] = ()
    wrong_claims: tuple[str, ...] = ()
    ending: str = ""  # won, drawn, lost or one of `FAULTS`
    reason: str = ""

    @property
    def is_seen(self) -> bool:
        """Whether all of its decisions are in positions for training."""
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
    starts = [Game(mark, [cell], [], "") for cell in (range(9) if mark == "O" else [0])]
    going = [
        Line(
            mark=mark,
            messages=[user(opening_words(start, wording))],
            board=place(EMPTY_BOARD, start.cells[0], "X") if mark == "O" else EMPTY_BOARD,
        )
        for start in starts
    ]
    finished: list[Line] = []
    while going:
        turns = answer([line.messages for line in going])
        played = [_play(line, turn) for line, turn in zip(going, turns, strict=True)]
        finished += [line for line in played if line.ending]
        going = [
            replace(
                line,
                messages=[*line.messages, user(CELLS[cell])],
                board=place(line.board, cell, to_move(line.board)),
            )
            for line in played
            if not line.ending
            for cell in range(9)
            if line.board[cell] == "."
        ]
    return finished


def _play(line: Line, turn: Turn) -> Line:
    """A line after the model's turn."""
    mark, board = line.mark, line.board
    theirs = "O" if mark == "X" else "X"
    messages = [*line.messages, *turn.messages]
    is_over = bool(result(board))

    def broken(fault: str, reason: str) -> Line:
        moves = line.moves if is_over else (*line.moves, Move(board, None))
        return replace(line, messages=messages, moves=moves, ending=fault, reason=reason)

    if turn.fault or not turn.messages or turn.messages[-1]["role"] != "assistant":
        return broken("unreadable", turn.fault or "no last words")
    stones = _stones(turn.messages)
    if stones is None:
        return broken("wrong_boards", "a call does more than put down stones and print the board")
    said = named_cell(line.messages[-1]["content"]) if theirs in board else None
    if said is not None and (not stones or stones.pop(0) != (said, theirs)):
        return broken("wrong_boards", f"{theirs} at {CELLS[said]} is not what is put down first")
    if is_over and stones:
        return broken("illegal", "a move after the end of the game")
    if not is_over and (len(stones) != 1 or stones[0][1] != mark):
        return broken("wrong_boards", f"not one {mark} is put down")
    own = stones[0][0] if stones else None
    if own is not None and board[own] != ".":
        return broken("illegal", f"{CELLS[own]} is taken")
    before = board if said is None else place(board, said, ".")
    right = turn_messages(mark, said, own, before)
    if [_done(one) for one in turn.messages] != [_done(one) for one in right]:
        return broken("wrong_boards", "a call or its output is not what the game's is")
    wrong_claims = tuple(
        f"says {given['content']!r} where {expected['content']!r} is true"
        for given, expected in zip(turn.messages, right, strict=True)
        if given["content"] != expected["content"]
    )
    moves = line.moves
    if own is not None:
        moves = (*moves, Move(board, own))
        board = place(board, own, mark)
    return replace(
        line,
        messages=messages,
        board=board,
        moves=moves,
        wrong_claims=(*line.wrong_claims, *wrong_claims),
        ending={"": "drawn", mark: "won", theirs: "lost"}[winner(board)] if result(board) else "",
    )


def _done(message: Message) -> tuple[str, object]:
    """What a message does, whatever it says: a call's code, a tool's output."""
    codes = [made["function"]["arguments"] for made in message["tool_calls"]]
    return message["role"], message["content"] if message["role"] == "tool" else codes


def _stones(messages: Sequence[Message]) -> list[tuple[int, str]] | None:
    """The stones that a turn's calls put down, in order, each a cell and a mark."""
    found = []
    for message in messages:
        for made in message["tool_calls"]:
            code = made["function"]["arguments"].get("code")
            for line in code.split("\n") if isinstance(code, str) else [""]:
                if placed := _PLACED.fullmatch(line):
                    found.append((3 * int(placed[1]) + int(placed[2]), placed[3]))
                elif line != PRINT:
                    return None
    return found


def trials_of(lines: Sequence[Line]) -> list[Trial]:
    """Lines as trials, for people to read."""
    return [Trial(messages=line.messages, score=line.score) for line in lines]


def metrics_of(lines: Sequence[Line], split: str) -> list[Metric]:
    """What is counted of all lines: how they end, and how the single moves are.

    Args:
        lines: All lines of the games tried.
        split: `"test"` or `"validation"`: whose positions count as held out.
    """
    found: list[Metric] = []
    parts = {
        "": list(lines),
        "seen": [line for line in lines if line.is_seen],
        "as X": [line for line in lines if line.mark == "X"],
        "as O": [line for line in lines if line.mark == "O"],
    }
    for group, part in parts.items():

        def count(name: str, flags: Sequence[bool], *, is_fault: bool, group: str = group) -> None:
            found.append(
                Metric(
                    name=name,
                    group=group,
                    count=sum(flags),
                    total=len(flags),
                    unit="lines",
                    is_fault=is_fault,
                    is_sample=False,
                )
            )

        count("exact", [line.score.value == 1 for line in part], is_fault=False)
        count("won", [line.ending == "won" for line in part], is_fault=False)
        count("drawn", [line.ending == "drawn" for line in part], is_fault=False)
        count("losses", [line.ending == "lost" for line in part], is_fault=True)
        for fault in FAULTS:
            count(fault, [line.ending == fault for line in part], is_fault=True)
        count("wrong_claims", [bool(line.wrong_claims) for line in part], is_fault=True)
    # A move belongs to every line that goes on from it: it is counted once.
    moves: dict[tuple[str, ...], Move] = {}
    for line in lines:
        history = [line.messages[0]["content"]]
        for move in line.moves:
            history.append(move.board)
            moves[tuple(history)] = move
    found += _move_metrics(list(moves.values()), split)
    return found


def _move_metrics(moves: Sequence[Move], split: str) -> list[Metric]:
    tree = game_tree()
    found = []
    for prefix, wanted in (("", "train"), ("held_out_", split)):
        part = [move for move in moves if tree[move.board].split == wanted]
        wins = [_completing(move.board, to_move(move.board)) for move in part]
        blocks = [_completing(move.board, _other(to_move(move.board))) for move in part]
        threats = [[] if win else block for win, block in zip(wins, blocks, strict=True)]
        for name, options in (
            ("legal", [tree[move.board].legal for move in part]),
            ("optimal", [tree[move.board].best for move in part]),
            ("wins_taken", wins),
            ("blocks_made", threats),
        ):
            flags = [move.cell in cells for move, cells in zip(part, options, strict=True) if cells]
            found.append(
                Metric(
                    name=prefix + name,
                    count=sum(flags),
                    total=len(flags),
                    unit="moves",
                    is_sample=False,
                )
            )
    return found


def _other(mark: str) -> str:
    return "O" if mark == "X" else "X"


def _completing(board: str, mark: str) -> list[int]:
    """The empty cells that would give a mark three in a row."""
    return [
        cell
        for line in LINES
        for cell in line
        if board[cell] == "." and sum(board[other] == mark for other in line) == 2
    ]
