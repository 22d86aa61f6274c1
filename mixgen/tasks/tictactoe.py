"""Tic-tac-toe: a whole game, played move by move on a board that lives in the python tool.

    user       Tic-tac-toe. I'm X at center.
    assistant  python: board[1][1]='X'
                       board[0][0]='O'
                       print(board)
    tool       O..
               .X.
               ...
    assistant  I play top left.

The assistant plays minimax-optimal moves (by default always the same one among equals), the user a
mixture of random and optimal ones. A game is always played to its end, which the tool and the
assistant both state.

Most positions of a test game would also occur in training games, so positions are held out, not
games: those with at least three stones and the assistant to move, up to symmetry, by the hash of
the position. A game through one of them is not for training. `_game_tree` solves the game.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Final, NamedTuple

from mixgen.errors import TaskError
from mixgen.tasks._game_tree import canonical_moves, game_tree
from mixgen.tasks._game_walk import Line, Words, metrics_of, trials_of, walk
from mixgen.tasks.base import (
    MAX_REJECTIONS,
    Example,
    Message,
    Score,
    Task,
    assistant,
    call,
    judge,
    tool,
    user,
)
from mixgen.tasks.registry import register
from mixgen.tasks.trial import Answer, Result
from mixgen.tools.board import (
    BOARD_SCHEMA,
    EMPTY_BOARD,
    BoardSession,
    place,
    render,
    result,
    to_move,
    winner,
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
_PLACE: Final = {
    mark: [f"board[{cell // 3}][{cell % 3}]='{mark}'\n" for cell in range(9)] for mark in "XO"
}
_PRINT: Final = "print(board)"
_I_PLAY: Final = [f"I play {name}." for name in CELLS]


class Game(NamedTuple):
    """A finished game: the assistant's mark, each move's cell and the board after it, the split."""

    mark: str
    cells: list[int]
    boards: list[str]
    split: str


@register
class TicTacToe(Task):
    """Whole games of tic-tac-toe against a user who plays well or badly, never lost."""

    name = "tictactoe"
    flag = "ttt"
    schemas: ClassVar = [BOARD_SCHEMA]

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """How the two sides play."""

        assistant_starts_rate: float = field(
            default=0.5, metadata={"help": "Share of games the assistant starts."}
        )
        user_optimal_rate: float = field(
            default=0.5, metadata={"help": "Share of the user's moves that are optimal."}
        )
        random_ties: bool = field(
            default=False,
            metadata={"help": "Let the assistant choose at random among equally good moves."},
        )

        def __post_init__(self) -> None:
            """Rejects what is no share."""
            for key in ("assistant_starts_rate", "user_optimal_rate"):
                if not 0 <= getattr(self, key) <= 1:
                    raise TaskError(
                        f"tictactoe: {key} must lie in 0 to 1, got {getattr(self, key)}"
                    )

    def tools(self) -> BoardSession:
        """See `Task.tools`."""
        return BoardSession()

    def sample(self, rng: random.Random) -> Example:
        """See `Task.sample`."""
        return self._example(self._play(rng.random), rng.random)

    def sample_from(self, split: str, rng: random.Random) -> Example:
        """See `Task.sample_from`; only games of `split` are put into words."""
        for _ in range(MAX_REJECTIONS):
            game = self._play(rng.random)
            if game.split == split:
                return self._example(game, rng.random)
        raise TaskError(
            f"tictactoe with {self.config} made no {split} game in {MAX_REJECTIONS:,} draws"
        )

    def evaluate(self, answer: Answer, *, split: str = "test", num_examples: int = 1000) -> Result:
        """Plays every game that the model's moves leave open, on both sides (see `_game_walk`).

        Args:
            answer: Gives the assistant's turns.
            split: `"validation"` or `"test"`: whose positions count as held out.
            num_examples: From 1,000 on all wordings of the opening are tried, below that one.
        """
        lines: list[Line] = []
        for mark, openings in (("X", ASSISTANT_STARTS), ("O", USER_STARTS)):
            for opening in openings if num_examples >= 1000 else openings[:1]:
                words = Words(opening=opening, cells=CELLS, claims=_claims)
                lines += walk(answer, mark, words)
        metrics = metrics_of(lines, split)
        return Result(task=self.name, split=split, metrics=metrics, trials=trials_of(lines))

    def _example(self, game: Game, draw: Callable[[], float]) -> Example:
        ending = result(game.boards[-1])
        last_words = _last_words(game.mark, ending)
        return self.example(
            key=game.mark + canonical_moves(game.cells),
            messages=_messages(game, int(draw() * len(USER_STARTS)), last_words),
            answer=last_words,
            difficulty=len(game.cells),
            metadata={"assistant": game.mark, "moves": game.cells, "result": ending},
            split=game.split,
        )

    def _play(self, draw: Callable[[], float]) -> Game:
        tree = game_tree()
        config = self.config
        mark = "X" if draw() < config.assistant_starts_rate else "O"
        assistant_moves = mark == "X"
        board = EMPTY_BOARD
        cells: list[int] = []
        boards: list[str] = []
        split = "train"
        while position := tree.get(board):
            if assistant_moves:
                if position.split != "train" and split != "test":
                    split = position.split
                options = position.optimal
                cell = options[int(draw() * len(options))] if config.random_ties else options[0]
            else:
                options = position.optimal if draw() < config.user_optimal_rate else position.legal
                cell = options[int(draw() * len(options))]
            board = position.boards[cell]
            cells.append(cell)
            boards.append(board)
            assistant_moves = not assistant_moves
        return Game(mark, cells, boards, split)

    def score(self, example: Example, reply: Sequence[Message]) -> Score:
        """1 if the example's opening is played on to the end: legally, truthfully and not lost.

        The user's moves must be the example's for as long as the assistant's are; after that any
        legal move will do.
        """
        return judge(_first_fault, example, reply)


def _last_words(mark: str, ending: str) -> str:
    return "Draw." if ending == "Draw" else "I win." if ending[0] == mark else "You win."


def _claims(mark: str, cell: int | None, board: str) -> str:
    """What the assistant says after its turn; no cell if the user's move has ended the game."""
    words = [] if cell is None else [_I_PLAY[cell]]
    if ending := result(board):
        words.append(_last_words(mark, ending))
    return " ".join(words)


def _messages(game: Game, opening: int, last_words: str) -> list[Message]:
    """The conversation of a finished game."""
    mark, cells, boards, _ = game
    mine, theirs = _PLACE[mark], _PLACE["O" if mark == "X" else "X"]
    last = len(cells) - 1
    messages: list[Message] = []
    turn = 0
    if mark == "X":
        messages += (
            user(ASSISTANT_STARTS[opening]),
            call(mine[cells[0]] + _PRINT),
            tool(render(boards[0])),
            assistant(_I_PLAY[cells[0]]),
        )
        turn = 1
    while turn <= last:
        cell = cells[turn]
        messages.append(user(CELLS[cell] if turn else USER_STARTS[opening].format(CELLS[cell])))
        if turn == last:
            messages += (
                call(theirs[cell] + _PRINT),
                tool(render(boards[turn])),
                assistant(last_words),
            )
            break
        answer = cells[turn + 1]
        messages += (
            call(theirs[cell] + mine[answer] + _PRINT),
            tool(render(boards[turn + 1])),
            assistant(_I_PLAY[answer] if turn + 1 < last else f"{_I_PLAY[answer]} {last_words}"),
        )
        turn += 2
    return messages


def _first_fault(example: Example, reply: Sequence[Message]) -> str:
    """What is wrong with a game, if anything: it is read move by move and told again."""
    mark, right_moves = example["metadata"]["assistant"], example["metadata"]["moves"]
    if reply[0]["content"] != example["messages"][0]["content"]:
        return "another game"
    opening_text = reply[0]["content"]
    cells: list[int] = []
    board = EMPTY_BOARD
    boards: list[str] = []
    for message in reply:
        if not message["tool_calls"]:
            continue
        (tool_call,) = message["tool_calls"]
        *lines, last_line = tool_call["function"]["arguments"]["code"].split("\n")
        if last_line != _PRINT:
            return "a call does not end with print(board)"
        for line in lines:
            cell = _PLACE[to_move(board)].index(f"{line}\n")
            if board[cell] != "." or result(board):
                return f"illegal move {line}"
            if (
                to_move(board) != mark
                and cells == right_moves[: len(cells)]
                and cell != right_moves[len(cells)]
            ):
                return "another game"
            board = place(board, cell, to_move(board))
            cells.append(cell)
            boards.append(board)
    if not result(board):
        return "the game is not played to its end"
    if winner(board) not in ("", mark):
        return "lost"
    last_words = "I win." if winner(board) else "Draw."
    openings = (
        ASSISTANT_STARTS if mark == "X" else [text.format(CELLS[cells[0]]) for text in USER_STARTS]
    )
    told = _messages(Game(mark, cells, boards, ""), list(openings).index(opening_text), last_words)
    for expected, given in zip(told, reply, strict=False):
        for part in ("role", "content", "tool_calls"):
            if expected[part] != given[part]:
                return f"a message says {given[part]!r} where {expected[part]!r} is true"
    return "" if len(told) == len(reply) else "messages beyond the game"
