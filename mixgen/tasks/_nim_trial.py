"""Nim against a model: whole games with two kinds of user, and single moves from set-ups.

A game ends won or lost, or is broken off by a turn that plays an illegal move, makes calls that are
not the game's, or cannot be read. A claim that does not fit the heaps ("I take 2", "I win.") is
wrong, and the game goes on. After `max_turns` turns of the model a game is judged by who wins it
if both sides play well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from random import Random
from typing import Final, NamedTuple

from mixgen.seeding import rng
from mixgen.tasks._game_turns import codes_of, have_same_effects, wrong_claims
from mixgen.tasks._nim_positions import is_trivial, position_of, position_split, users_move
from mixgen.tasks._nim_words import TAKE, opening_words, said, set_up_code, turn_messages
from mixgen.tasks.messages import Example, Message, Score, user
from mixgen.tasks.trial import SEED, Answer, Metric, Trial, Turn, tally
from mixgen.tools.nim import MOVE, PRINT_BITS, Game, Move, after, begun, is_legal, nim_sum, result

USERS: Final = {"optimal user": True, "random user": False}  # who plays a winning move if it can
FAULTS: Final = ("illegal", "wrong_calls", "unreadable")  # what breaks a game off


class Decision(NamedTuple):
    """A decision of the model."""

    heaps: tuple[int, ...]  # before it, with the model to move
    move: Move | None  # None: the turn broke the game off


@dataclass(frozen=True, kw_only=True)
class Play:
    """A game with a model as far as it has come."""

    messages: list[Message]
    game: Game
    code: str  # what enters what the user has just said
    decisions: tuple[Decision, ...] = ()
    num_turns: int = 0
    wrong_claims: tuple[str, ...] = ()
    ending: str = ""  # won, lost or one of `FAULTS`
    reason: str = ""

    @property
    def is_winnable(self) -> bool:
        """Whether the model has had the move in a won position."""
        return any(nim_sum(decision.heaps) for decision in self.decisions)

    @property
    def score(self) -> Score:
        """1 if no win was given away, all was said truthfully, and nothing broke it off."""
        reason = self.reason or "; ".join(self.wrong_claims)
        if self.ending == "lost" and self.is_winnable:
            reason = reason or "a won position was lost"
        return Score(value=0.0 if reason else 1.0, reason=reason)


def games(answer: Answer, examples: Sequence[Example], name: str, max_turns: int) -> list[Play]:
    """Games that begin as the examples do, against one kind of user.

    Args:
        answer: Gives the model's turns.
        examples: Only what the user says first is used.
        name: Of `USERS`.
        max_turns: Most turns of the model.
    """
    going = [
        (_opened(example), rng(SEED, "nim", name, number))
        for number, example in enumerate(examples)
    ]
    finished: list[Play] = []
    while going:
        turns = answer([one.messages for one, _ in going])
        played = [
            (_judged(play(one, turn), max_turns), random)
            for (one, random), turn in zip(going, turns, strict=True)
        ]
        finished += [one for one, _ in played if one.ending]
        going = [
            (_after_user(one, random, is_optimal=USERS[name]), random)
            for one, random in played
            if not one.ending
        ]
    return finished


def _opened(example: Example) -> Play:
    facts = example["metadata"]
    game = begun(tuple(facts["heaps"]))
    code = set_up_code(facts["heaps"])
    if not facts["assistant_starts"]:
        heap, count = facts["moves"][0]
        code += TAKE[heap, count]
        game = after(game, (heap, count))
    return Play(messages=example["messages"][:1], game=game, code=code)


def _after_user(one: Play, random: Random, *, is_optimal: bool) -> Play:
    move = users_move(one.game.heaps, random.random, is_optimal=is_optimal)
    words = user(said(move, random.random))
    return replace(
        one, messages=[*one.messages, words], game=after(one.game, move), code=TAKE[move]
    )


def _judged(one: Play, max_turns: int) -> Play:
    """A game that ends here if it has had its turns; the user would have the move."""
    if one.ending or one.num_turns < max_turns:
        return one
    return replace(one, ending="lost" if nim_sum(one.game.heaps) else "won")


def play(one: Play, turn: Turn) -> Play:
    """A game after the model's turn."""
    game = one.game
    is_over = bool(result(game))
    messages = [*one.messages, *turn.messages]

    def broken(fault: str, reason: str) -> Play:
        decisions = one.decisions if is_over else (*one.decisions, Decision(game.heaps, None))
        return replace(one, messages=messages, decisions=decisions, ending=fault, reason=reason)

    codes = list(codes_of(turn.messages))
    own = None
    if codes[:1] == [one.code + PRINT_BITS]:
        found = MOVE.fullmatch("".join(codes[1:2]).split("\n")[0])
        own = (int(found[1]), int(found[2])) if found else None
    # Before all else: what a model says after the referee's error is often unreadable.
    if own and not is_legal(game, own):
        return broken("illegal", f"a move that there is not: {TAKE.get(own, own)!r}")
    if turn.fault or not turn.messages or turn.messages[-1]["role"] != "assistant":
        return broken("unreadable", turn.fault or "no last words")
    if not own and not is_over:
        return broken("wrong_calls", "the calls are not the user's words and one move")
    right = turn_messages(one.code, own, game)
    if not have_same_effects(turn.messages, right):
        return broken("wrong_calls", "a call or its output is not what the game's is")
    decisions = one.decisions
    if own:
        decisions = (*decisions, Decision(game.heaps, own))
        game = after(game, own)
    return replace(
        one,
        messages=messages,
        game=game,
        decisions=decisions,
        num_turns=one.num_turns + 1,
        wrong_claims=(*one.wrong_claims, *wrong_claims(turn.messages, right)),
        ending="" if not result(game) else "won" if own else "lost",
    )


@cache
def set_ups(split: str, num_heaps: int, max_stones: int) -> list[tuple[int, ...]]:
    """The positions of a split that a game can begin with, in random order.

    Those that are trivial, which are all for training, are left out.
    """
    found = [
        heaps
        for heaps in product(range(1, max_stones + 1), repeat=num_heaps)
        if position_split(heaps) == split and not is_trivial(heaps)
    ]
    rng(SEED, "nim", "set-ups", split).shuffle(found)
    return found


def from_set_ups(answer: Answer, positions: Sequence[tuple[int, ...]]) -> list[Decision]:
    """The model's first move in each position; the wordings change by chance.

    A model that does not set the position up as the data does has made no legal move.
    """
    draw = rng(SEED, "nim", "set-ups").random
    opened = [
        Play(
            messages=[user(opening_words(heaps, None, draw))],
            game=begun(heaps),
            code=set_up_code(heaps),
        )
        for heaps in positions
    ]
    turns = answer([one.messages for one in opened])
    return [play(one, turn).decisions[0] for one, turn in zip(opened, turns, strict=True)]


def trials_of(played: Sequence[Play]) -> list[Trial]:
    """Games as trials, for people to read."""
    return [Trial(messages=one.messages, score=one.score) for one in played]


def game_metrics(played: dict[str, list[Play]]) -> list[Metric]:
    """What is counted of games: how many are faultless, and won where a win was to be had.

    Args:
        played: The games against each of `USERS`.
    """
    every = [one for games_of_one in played.values() for one in games_of_one]
    groups = [[name] for name, games_of_one in played.items() for _ in games_of_one]
    winnable = [at for at, one in enumerate(every) if one.is_winnable]
    kinds: dict[str, list[bool]] = {
        **{fault: [one.ending == fault for one in every] for fault in FAULTS},
        "wrong_claims": [bool(one.wrong_claims) for one in every],
    }
    found = [
        *tally([one.score.value == 1 for one in every], name="exact", groups=groups, unit="games"),
        *tally(
            [every[at].ending == "won" for at in winnable],
            name="won",
            groups=[groups[at] for at in winnable],
            unit="winnable games",
        ),
    ]
    for name, flags in kinds.items():
        found += tally(flags, name=name, unit="games", is_fault=True)
    return found


def move_metrics(prefix: str, decisions: Sequence[Decision], *, is_sample: bool) -> list[Metric]:
    """How many moves from set-ups are legal and, of those in won positions, keep the win.

    Args:
        prefix: `"held_out_"` or `"seen_"`.
        decisions: The moves.
        is_sample: Whether there are more positions than were tried.
    """
    won = [one for one in decisions if nim_sum(one.heaps)]
    legal = [one.move is not None for one in decisions]
    optimal = [one.move in position_of(one.heaps).winning for one in won]
    found: list[Metric] = []
    for name, flags in (("legal", legal), ("optimal", optimal)):
        found += tally(flags, name=prefix + name, unit="moves", is_sample=is_sample)
    return found
