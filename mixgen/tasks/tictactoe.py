"""Tic-tac-toe: a whole game, played move by move on a board that lives in the python tool.

    user       Tic-tac-toe. You are O:
               ...
               .X.
               ...
    assistant  python: board[0]='...'
                       board[1]='.X.'
                       board[2]='...'
                       print(board.lines)
    tool       (its three rows, three columns and two diagonals)
    assistant  python: board[0][0]='O'
                       print(board)
    tool       O..
               .X.
               ...
    assistant  I play top left.
    user       bottom

The assistant puts down what the user shows or says, looks, and plays a minimax-optimal move; it
wins as soon as it can, and of equals takes any of those that do best against random replies, but
opens on any cell (`random_ties`: any of equals, always). The user mixes random and optimal moves. A
game is always played to its end, which the tool and the assistant both state. Some games
(`set_up_rate`) go on from a position with more stones, any that is not lost.

Most positions of a test game would also occur in training games, so positions are held out, not
games: those with at least three stones and the assistant to move, up to symmetry, by the hash of
the position. A game in which the assistant moves in one is not for training. `_tictactoe_tree`
solves the game.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Final, NamedTuple

from mixgen.tasks._tictactoe_set_ups import from_set_ups
from mixgen.tasks._tictactoe_tree import Position, canonical_game, draw_set_up, game_tree
from mixgen.tasks._tictactoe_walk import Line, metrics_of, trials_of, walk
from mixgen.tasks._tictactoe_words import (
    NUM_WORDINGS,
    PLACE,
    last_words,
    tell,
    wording_of,
)
from mixgen.tasks.base import (
    MAX_REJECTIONS,
    Example,
    Message,
    Score,
    Task,
    check_ranges,
    check_split,
    judge,
)
from mixgen.tasks.registry import register
from mixgen.tasks.trial import Answer, Result
from mixgen.tools.board import (
    BOARD_SCHEMA,
    EMPTY_BOARD,
    PRINTS,
    BoardSession,
    place,
    result,
    to_move,
    winner,
)

WHOLE: Final = 1000  # examples asked for, from which on all wordings and the set-ups are tried
NOTE: Final = (
    "Every game from the first move on, against every reply of the user; most of these games also "
    "occur in training. Held out are moves in positions in which no training game has the "
    "assistant to move, up to symmetry; seen are moves in positions for training, and lines of "
    "such moves alone."
)
SET_UP_NOTE: Final = " From set-ups: {} held-out positions, one move each."


class _DrawnGame(NamedTuple):
    mark: str  # the assistant's
    opening: str  # the board that the user's first words show, with the assistant to move
    cells: list[int]  # of each move after it
    ending: str  # what `result` says of the last board
    split: str


@register
class TicTacToe(Task):
    """Games of tic-tac-toe against a user who plays well or badly, never lost."""

    name = "tictactoe"
    flag = "ttt"
    schemas: ClassVar = [BOARD_SCHEMA]
    split_rule: ClassVar = (
        "positions are held out (three stones or more, the assistant to move, up to symmetry), by "
        "their hash. In a game of `test` the assistant moves in at least one position that no game "
        "of `train` has it move in; its other positions may occur in `train` too."
    )

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """How the two sides play."""

        assistant_starts_rate: float = field(
            default=0.5, metadata={"help": "Share of games the assistant starts."}
        )
        user_optimal_rate: float = field(
            default=0.7, metadata={"help": "How often the user plays a best move; else any."}
        )
        set_up_rate: float = field(
            default=0.5,
            metadata={
                "help": "Share of games that go on from a random position, among all games: of "
                "those for training it is more, since fewer of them come to a held-out position."
            },
        )
        random_ties: bool = field(
            default=False,
            metadata={
                "help": "Play any best move, also one that does less well against random users; "
                "as an opening it does always."
            },
        )

        def __post_init__(self) -> None:
            """Rejects what is no share."""
            rates = ("assistant_starts_rate", "user_optimal_rate", "set_up_rate")
            check_ranges("tictactoe", self, dict.fromkeys(rates, (0, 1)))

    def tools(self) -> BoardSession:
        """See `Task.tools`."""
        return BoardSession()

    def sample(self, rng: random.Random) -> Example:
        """See `Task.sample`."""
        return self._example(self._draw_game(rng.random), rng.random)

    def sample_from(self, split: str, rng: random.Random) -> Example:
        """See `Task.sample_from`; only games of `split` are put into words."""
        for _ in range(MAX_REJECTIONS):
            game = self._draw_game(rng.random)
            if game.split == split:
                return self._example(game, rng.random)
        raise self.no_problem(split)

    def evaluate(self, answer: Answer, *, split: str = "test", num_examples: int = 1000) -> Result:
        """Plays every game that the model's moves leave open, on both sides.

        See `_tictactoe_walk`.

        Args:
            answer: Gives the assistant's turns.
            split: Whose positions count as held out.
            num_examples: From `WHOLE` on all wordings of the opening are tried and, from set-ups,
                held-out positions one by one; below that, one wording.
        """
        check_split(split)
        is_whole = num_examples >= WHOLE
        lines: list[Line] = []
        for mark in "XO":
            for wording in range(NUM_WORDINGS if is_whole else 1):
                lines += walk(answer, mark, wording)
        moves = from_set_ups(answer, split) if is_whole and split != "train" else []
        return Result(
            task=self.name,
            split=split,
            metrics=metrics_of(lines, moves, split),
            trials=trials_of(lines),
            note=NOTE + (SET_UP_NOTE.format(len(moves)) if moves else ""),
        )

    def _example(self, game: _DrawnGame, draw: Callable[[], float]) -> Example:
        mark, opening, cells, ending, split = game
        return self.example(
            key=mark + canonical_game(opening, cells),
            messages=tell(mark, opening, cells, int(draw() * NUM_WORDINGS)),
            answer=last_words(mark, ending),
            difficulty=len(cells),
            metadata={"assistant": mark, "opening": opening, "moves": cells, "result": ending},
            split=split,
        )

    def _draw_game(self, draw: Callable[[], float]) -> _DrawnGame:
        tree = game_tree()
        config = self.config

        def users_move(position: Position) -> int:
            options = position.best if draw() < config.user_optimal_rate else position.legal
            return options[int(draw() * len(options))]

        mark = "X" if draw() < config.assistant_starts_rate else "O"
        opening = EMPTY_BOARD
        if draw() < config.set_up_rate:
            opening = draw_set_up(mark, draw)
        elif mark == "O":
            start = tree[EMPTY_BOARD]
            opening = start.boards[users_move(start)]
        board = opening
        cells: list[int] = []
        splits = {"train"}
        while position := tree.get(board):
            if to_move(board) == mark:
                splits.add(position.split)
                # From the corners alone, which do best, no game for training has a fifth move of X.
                is_any = config.random_ties or board == EMPTY_BOARD
                options = position.best if is_any else position.preferred
                cell = options[int(draw() * len(options))]
            else:
                cell = users_move(position)
            board = position.boards[cell]
            cells.append(cell)
        split = next(split for split in ("test", "validation", "train") if split in splits)
        return _DrawnGame(mark, opening, cells, result(board), split)

    def score(self, example: Example, reply: Sequence[Message]) -> Score:
        """1 if the example's opening is played on to the end: legally, truthfully and not lost.

        The user's moves must be the example's for as long as the assistant's are; after that any
        legal move will do.
        """
        return judge(_first_fault, example, reply)


def _first_fault(example: Example, reply: Sequence[Message]) -> str:
    """What is wrong with a game, if anything: it is read move by move and told again."""
    facts = example["metadata"]
    mark, opening, right_cells = facts["assistant"], facts["opening"], facts["moves"]
    if reply[0]["content"] != example["messages"][0]["content"]:
        return "another game"
    board = opening
    cells: list[int] = []
    for message in [one for one in reply if one["tool_calls"]][1:]:  # the first sets the board
        (tool_call,) = message["tool_calls"]
        *statements, last = tool_call["function"]["arguments"]["code"].split("\n")
        if last not in PRINTS:
            return "a call does not end with a print of the board"
        for statement in statements:
            cell = PLACE[to_move(board)].index(f"{statement}\n")
            if board[cell] != "." or result(board):
                return f"illegal move {statement}"
            is_users = to_move(board) != mark
            if is_users and cells == right_cells[: len(cells)] and cell != right_cells[len(cells)]:
                return "another game"
            board = place(board, cell, to_move(board))
            cells.append(cell)
    if not result(board):
        return "the game is not played to its end"
    if winner(board) not in ("", mark):
        return "lost"
    told = tell(mark, opening, cells, wording_of(opening, reply[0]["content"]))
    for expected, given in zip(told, reply, strict=False):
        for part in ("role", "content", "tool_calls", "name"):
            if expected[part] != given[part]:
                return f"a message says {given[part]!r:.200} where {expected[part]!r} is true"
    return "" if len(told) == len(reply) else "messages beyond the game"
