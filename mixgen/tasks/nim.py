"""Nim: a whole game, played move by move on heaps that live in the python tool.

    user       Let's play Nim with heaps of 3, 5 and 7. You start.
    assistant  python: heaps=[3,5,7]
                       print(heaps.bits)
    tool       ..X
               .XX
               X.X
               XXX
    assistant  python: heaps[0]-=1
                       print(heaps)
    tool       2 5 7
    assistant  I take 1 from the first heap.
    user       I take 3 from heap 2

Who takes the last stone wins. The first line of bits is the heaps' sum without carrying: a move
wins if it makes it 0, and of such moves the assistant plays the one in the first heap. In a lost
position it plays the first of the moves that leave the user most ways to go wrong: with up to three
heaps, one stone of the first that holds any. One user plays optimally, another at random. A game is
always played to its end, which the tool and the assistant both state.

As in tic-tac-toe, positions are held out, not games. `_nim_positions` solves the game.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Final, NamedTuple

from mixgen.errors import TaskError
from mixgen.tasks._nim_positions import position_of, users_move
from mixgen.tasks._nim_trial import (
    USERS,
    from_set_ups,
    game_metrics,
    games,
    move_metrics,
    set_ups,
    trials_of,
)
from mixgen.tasks._nim_words import MOVE_SAID, opening_words, said, tell
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
from mixgen.tasks.trial import Answer, Result, distinct_examples
from mixgen.tools.nim import (
    MAX_STONES,
    MOVE,
    NIM_SCHEMA,
    NUM_HEAPS,
    Move,
    NimSession,
    after,
    begun,
    is_legal,
    result,
)

MAX_GAMES: Final = 400
NOTE: Final = (
    "Whole games that begin as those of the split do; after {max_turns} turns of the model a game "
    "is judged by who wins it if both sides play well. From set-ups, one move each: positions of a "
    "split with no empty heap, in every order of their heaps ({set_ups})."
)


class _DrawnGame(NamedTuple):
    assistant_starts: bool
    heaps: tuple[int, ...]
    moves: list[Move]
    split: str


@register
class Nim(Task):
    """Games of Nim against a user who plays well or badly, never lost from a won position."""

    name = "nim"
    flag = "nim"
    schemas: ClassVar = [NIM_SCHEMA]
    split_rule: ClassVar = (
        "positions are held out (at least four stones in two heaps or more, the assistant to move, "
        "whatever the order of the heaps), by their hash. In a game of `test` the assistant moves "
        "in at least one position that no game of `train` has it move in; its other positions may "
        "occur in `train` too."
    )

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """How large the heaps are, and how the user plays."""

        num_heaps: int = field(default=3, metadata={"help": "Heaps of a game, 2 to 4."})
        max_stones: int = field(
            default=7, metadata={"help": "Most stones of a heap at the start, 5 to 15."}
        )
        max_turns: int = field(
            default=7,
            metadata={
                "help": "Most turns of the assistant in a game, num_heaps to 20; longer games are "
                "drawn again."
            },
        )
        assistant_starts_rate: float = field(
            default=0.5, metadata={"help": "Share of games the assistant starts, 0 to 1."}
        )
        optimal_user_rate: float = field(
            default=0.5,
            metadata={
                "help": "Share of games whose user plays a winning move whenever there is one; in "
                "the others it plays any move. 0 to 1."
            },
        )

        def __post_init__(self) -> None:
            """Rejects settings that no game satisfies."""
            ranges = {
                "num_heaps": NUM_HEAPS,
                "max_stones": (5, MAX_STONES),
                "max_turns": (self.num_heaps, 20),
                "assistant_starts_rate": (0, 1),
                "optimal_user_rate": (0, 1),
            }
            check_ranges("nim", self, ranges)

    def tools(self) -> NimSession:
        """See `Task.tools`."""
        return NimSession()

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
        """Plays games with an optimal and a random user, and tries single moves from set-ups.

        Args:
            answer: Gives the assistant's turns.
            split: Whose positions count as held out, and whose games give the openings.
            num_examples: Most games, at most `MAX_GAMES`, and most set-ups of each kind.
        """
        check_split(split)
        config = self.config
        num_games = max(1, min(num_examples, MAX_GAMES) // len(USERS))
        openings = distinct_examples(self, split=split, num_examples=num_games)
        played = {name: games(answer, openings, name, config.max_turns) for name in USERS}
        metrics = game_metrics(played)
        tried = {"held_out_": split, "seen_": "train"} if split != "train" else {"seen_": "train"}
        num_tried = {}
        for prefix, split_tried in tried.items():
            every = set_ups(split_tried, config.num_heaps, config.max_stones)
            chosen = every[:num_examples]
            num_tried[split_tried] = len(chosen)
            is_sample = len(chosen) < len(every)
            metrics += move_metrics(prefix, from_set_ups(answer, chosen), is_sample=is_sample)
        return Result(
            task=self.name,
            split=split,
            metrics=metrics,
            trials=[trial for one in played.values() for trial in trials_of(one)],
            note=NOTE.format(
                max_turns=config.max_turns,
                set_ups=", ".join(f"{number:,} of {name}" for name, number in num_tried.items()),
            ),
        )

    def _example(self, game: _DrawnGame, draw: Callable[[], float]) -> Example:
        assistant_starts, heaps, moves, split = game
        words = [opening_words(heaps, None if assistant_starts else moves[0], draw)]
        words += [said(move, draw) for move in moves[1 if assistant_starts else 2 :: 2]]
        listed = " ".join([f"{heap}-{count}" for heap, count in moves])
        return self.example(
            key=f"{'assistant' if assistant_starts else 'user'} {list(heaps)} {listed}",
            messages=tell(words, heaps, moves, assistant_starts),
            answer="I win." if len(moves) % 2 == assistant_starts else "You win.",
            difficulty=len(moves),
            metadata={
                "assistant_starts": assistant_starts,
                "heaps": list(heaps),
                "moves": [list(move) for move in moves],
            },
            split=split,
        )

    def _draw_game(self, draw: Callable[[], float]) -> _DrawnGame:
        for _ in range(MAX_REJECTIONS):
            game = self._draw_any_game(draw)
            if (len(game.moves) + game.assistant_starts + 1) // 2 <= self.config.max_turns:
                return game
        raise TaskError(f"nim: no game in {MAX_REJECTIONS:,} draws is as short as {self.config}")

    def _draw_any_game(self, draw: Callable[[], float]) -> _DrawnGame:
        config = self.config
        heaps = tuple(1 + int(draw() * config.max_stones) for _ in range(config.num_heaps))
        assistant_starts = is_assistants = draw() < config.assistant_starts_rate
        is_optimal = draw() < config.optimal_user_rate
        game = begun(heaps)
        moves: list[Move] = []
        splits = {"train"}
        while any(game.heaps):
            position = position_of(game.heaps)
            if is_assistants:
                splits.add(position.split)
                move = position.policy
            else:
                move = users_move(game.heaps, draw, is_optimal=is_optimal)
            game = after(game, move)
            moves.append(move)
            is_assistants = not is_assistants
        split = next(split for split in ("test", "validation", "train") if split in splits)
        return _DrawnGame(assistant_starts, heaps, moves, split)

    def score(self, example: Example, reply: Sequence[Message]) -> Score:
        """1 if the example's game is played to its end: legally, truthfully, no win given away.

        The user's moves must be the example's for as long as the assistant's are; after that any
        legal move will do.
        """
        return judge(_first_fault, example, reply)


def _first_fault(example: Example, reply: Sequence[Message]) -> str:
    """What is wrong with a game, if anything: it is read move by move and told again."""
    facts = example["metadata"]
    heaps, assistant_starts = facts["heaps"], facts["assistant_starts"]
    right_moves = [tuple(move) for move in facts["moves"]]
    right_words = [one["content"] for one in example["messages"] if one["role"] == "user"]
    words = [one["content"] for one in reply if one["role"] == "user"]
    if words[0] != right_words[0]:
        return "another game"
    game = begun(tuple(heaps))
    moves: list[Move] = []
    for move in _moves_of(reply):
        is_users = (len(moves) % 2 == 0) != assistant_starts
        if not is_legal(game, move):
            return f"illegal move {move}"
        if is_users:
            turn = (len(moves) + 1) // 2
            if moves == right_moves[: len(moves)]:
                if move != right_moves[len(moves)] or words[turn] != right_words[turn]:
                    return "another game"
            elif MOVE_SAID[words[turn]] != move:
                return f"the move {move} is not what the user says"
        elif (winning := position_of(game.heaps).winning) and move not in winning:
            return f"the move {move} gives a won position away"
        game = after(game, move)
        moves.append(move)
    if not result(game):
        return "the game is not played to its end"
    told = tell(words, heaps, moves, assistant_starts)
    for expected, given in zip(told, reply, strict=False):
        for part in ("role", "content", "tool_calls", "name"):
            if expected[part] != given[part]:
                return f"a message says {given[part]!r:.200} where {expected[part]!r} is true"
    return "" if len(told) == len(reply) else "messages beyond the game"


def _moves_of(reply: Sequence[Message]) -> list[Move]:
    """The moves that the calls of a conversation make; all else is compared when it is told."""
    moves = []
    for message in reply:
        for made in message["tool_calls"]:
            for statement in made["function"]["arguments"]["code"].split("\n"):
                if move := MOVE.fullmatch(statement):
                    moves.append((int(move[1]), int(move[2])))
    return moves
