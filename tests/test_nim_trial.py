"""Nim's evaluation, tried with scripted players whose figures are known beforehand.

A player reads the user's words, chooses by a policy (a function from heaps to a move), runs the
real tool and speaks the truth, unless a test spoils its turn.
"""

from __future__ import annotations

import itertools
from collections import Counter
from functools import cache

import pytest
from nim_oracle import (
    after,
    is_won,
    move_read,
    moves_of,
    opening_read,
    policy,
    say,
    split_of_position,
    winning,
)

from mixgen.errors import TaskError
from mixgen.tasks.base import assistant, call, tool
from mixgen.tasks.nim import MAX_GAMES, Nim
from mixgen.tasks.trial import Turn, distinct_examples

MAX_TURNS = Nim.Config().max_turns
FAULTS = ("illegal", "wrong_calls", "unreadable", "wrong_claims")


def codes_of(messages):
    calls = itertools.chain.from_iterable(message["tool_calls"] for message in messages)
    return [made["function"]["arguments"]["code"] for made in calls]


def heaps_after(conversation):
    """The heaps with the user's last words, the code that enters these, and the tool before it."""
    session = Nim().tools()
    for code in codes_of(conversation):
        session.call("python", {"code": code})
    heaps, move = opening_read(conversation[0]["content"])
    entered = [f"heaps=[{','.join(map(str, heaps))}]"]
    if len(conversation) > 1:
        heaps, entered, move = session.game.heaps, [], move_read(conversation[-1]["content"])
    if move:
        entered.append(f"heaps[{move[0]}]-={move[1]}")
        heaps = after(heaps, move)
    return heaps, entered, session


def player(choose, spoil=lambda heaps, turn: turn):
    """An answer by a policy; `spoil` changes what has been carried out."""

    def turn_of(conversation):
        heaps, entered, session = heaps_after(conversation)

        def run(*statements):
            code = "\n".join(statements)
            return [call(code), tool(session.call("python", {"code": code}))]

        messages = run(*entered, "print(heaps.bits)")
        words = "You win."
        if any(heaps):
            heap, count = choose(heaps)
            messages += run(f"heaps[{heap}]-={count}", "print(heaps)")
            words = say((heap, count))
            if session.game.heaps == (0,) * len(heaps):
                words += " I win."
        return spoil(heaps, Turn([*messages, assistant(words)]))

    return lambda conversations: [turn_of(conversation) for conversation in conversations]


def last_winning(heaps):
    return (winning(heaps) or moves_of(heaps))[-1]


def blunder(heaps):
    """Never wins: takes what leaves a won position, if any move does."""
    bad = [move for move in moves_of(heaps) if move not in winning(heaps)]
    return (bad or moves_of(heaps))[0]


def figures(result):
    return {(metric.name, metric.group): (metric.count, metric.total) for metric in result.metrics}


@cache
def result_of(choose, split="test", num_examples=400, **settings):
    task = Nim(Nim.Config(**settings))
    return task.evaluate(player(choose), split=split, num_examples=num_examples)


def assert_all(found, *names):
    for (name, group), (count, total) in found.items():
        if name in names:
            assert count == total > 0, (name, group)


@pytest.mark.parametrize("choose", [policy, last_winning])
@pytest.mark.parametrize("split", ["test", "validation", "train"])
def test_who_always_plays_a_winning_move_is_found_perfect(choose, split):
    result = result_of(choose, split)
    found = figures(result)
    assert_all(found, "exact", "won", "held_out_legal", "seen_legal", "seen_optimal")
    assert_all(found, "held_out_optimal")
    assert [found[name, ""][0] for name in FAULTS] == [0] * 4
    assert found["exact", ""][1] == len(result.trials) == 400
    assert ("held_out_legal", "") in found or split == "train"
    assert all(trial.score.value == 1 for trial in result.trials)
    assert result.metrics[0].name == "exact"
    assert result["won"].total < 400  # of lost games some begin lost
    assert result["won/random user"].total + result["won/optimal user"].total == result["won"].total


def test_large_games_are_tried_too():
    found = figures(result_of(last_winning, num_heaps=4, max_stones=15, num_examples=60))
    assert_all(found, "exact", "won", "held_out_legal", "held_out_optimal", "seen_optimal")
    assert found["held_out_legal", ""] == (60, 60)


def test_who_gives_every_won_position_away_wins_nothing_from_an_optimal_user():
    result = result_of(blunder)
    found = figures(result)
    assert found["won", "optimal user"][0] < 0.1 * found["won", "optimal user"][1]
    assert (
        found["exact", ""][0] == found["exact", ""][1] - found["won", ""][1] + found["won", ""][0]
    )
    assert found["held_out_optimal", ""][0] == found["seen_optimal", ""][0] == 0
    assert_all(found, "held_out_legal", "seen_legal")
    reasons = {trial.score.reason for trial in result.trials}
    assert reasons == {"", "a won position was lost"}


def test_games_are_counted_as_they_are_replayed_from_their_messages():
    """Who has won, or would win, and whether the model ever had a won position."""
    for choose in (policy, last_winning, blunder):
        result = result_of(choose)
        won = winnable = 0
        for trial in result.trials:
            heaps, start = opening_read(trial.messages[0]["content"])
            if start:
                heaps = after(heaps, start)
            was_won = False
            for message in trial.messages[1:]:
                if message["role"] == "user":
                    heaps = after(heaps, move_read(message["content"]))
                elif message["role"] == "assistant" and message["content"].startswith("I take"):
                    was_won |= is_won(heaps)
                    heaps = after(heaps, move_read(message["content"].removesuffix(" I win.")))
            has_ended = not any(heaps)
            last_words = trial.messages[-1]["content"]
            holds = last_words.endswith("I win.") if has_ended else not is_won(heaps)
            turns = sum(message["role"] == "user" for message in trial.messages)
            assert turns <= MAX_TURNS and (has_ended or turns == MAX_TURNS)
            won += was_won and holds
            winnable += was_won
        assert (result["won"].count, result["won"].total) == (won, winnable)


def test_set_ups_are_every_position_without_an_empty_heap():
    asked = []

    def answer(conversations):
        asked.append([opening_read(one[0]["content"]) for one in conversations if len(one) == 1])
        return player(policy)(conversations)

    for split in ("test", "validation"):
        asked.clear()
        result = Nim().evaluate(answer, split=split, num_examples=400)
        every = list(itertools.product(range(1, 8), repeat=3))
        held_out = [heaps for heaps in every if split_of_position(heaps) == split]
        *_, tried, seen = asked
        assert Counter(heaps for heaps, _ in tried) == Counter(held_out)
        assert all(start is None for _, start in (*tried, *seen))
        training = [heaps for heaps in every if split_of_position(heaps) == "train"]
        assert Counter(heaps for heaps, _ in seen) == Counter(h for h in training if sum(h) > 3)
        assert f"({len(tried)} of {split}, {len(seen)} of train)" in result.note
        assert not result["held_out_legal"].is_sample and not result["seen_legal"].is_sample
        assert result["held_out_legal"].total == len(held_out) > 20
        assert result["held_out_optimal"].total == sum(map(is_won, held_out))


def test_of_many_set_ups_a_sample_is_tried():
    result = Nim().evaluate(player(policy), num_examples=10)
    assert result["held_out_legal"].total == result["seen_legal"].total == 10
    assert result["held_out_legal"].is_sample and result["seen_optimal"].is_sample


def test_no_set_up_is_too_small_to_be_held_out():
    found = Nim().evaluate(player(policy), split="train", num_examples=400)
    every = [heaps for heaps in itertools.product(range(1, 8), repeat=3) if sum(heaps) >= 4]
    expected = [heaps for heaps in every if split_of_position(heaps) == "train"]
    assert found["seen_legal"].total == len(expected)
    assert found["seen_optimal"].total == sum(map(is_won, expected))


def test_games_begin_as_those_of_the_split_do_half_with_either_user():
    for num_examples, num_openings in ((40, 20), (1, 1), (10_000, MAX_GAMES // 2)):
        result = Nim().evaluate(player(policy), num_examples=num_examples)
        examples = distinct_examples(Nim(), split="test", num_examples=num_openings)
        first = Counter(example["messages"][0]["content"] for example in examples)
        played = Counter(trial.messages[0]["content"] for trial in result.trials)
        assert played == first + first
        assert result["exact/random user"].total == result["exact/optimal user"].total


def test_an_optimal_user_plays_every_winning_move_it_has_and_a_random_one_does_not():
    kept = Counter()
    result = result_of(blunder)
    for number, trial in enumerate(result.trials):
        name = "optimal" if number < 200 else "random"
        heaps, start = opening_read(trial.messages[0]["content"])
        heaps = after(heaps, start) if start else heaps
        for message in trial.messages[1:]:
            if message["role"] == "user":
                move = move_read(message["content"])
                kept[name, move in winning(heaps)] += is_won(heaps)
                heaps = after(heaps, move)
            elif message["content"].startswith("I take"):
                heaps = after(heaps, move_read(message["content"].removesuffix(" I win.")))
    assert kept["optimal", False] == 0 < kept["optimal", True]
    assert kept["random", False] > 50


def test_evaluation_is_the_same_every_time_and_an_unknown_split_is_an_error():
    again = Nim().evaluate(player(policy), num_examples=400)
    assert again == result_of(policy)
    with pytest.raises(TaskError, match="did you mean 'test'"):
        Nim().evaluate(player(policy), split="tset")


# Spoiled turns.


def with_call(turn, at, code):
    messages = list(turn.messages)
    messages[at] = call(code)
    return Turn(messages)


def with_words(turn, words):
    return Turn([*turn.messages[:-1], assistant(words)])


def with_output(turn, at):
    messages = list(turn.messages)
    messages[at] = tool(messages[at]["content"].replace("X", ".", 1) + "0")
    return Turn(messages)


def last_code(turn):
    return codes_of(turn.messages)[-1]


def two_moves(turn):
    code = last_code(turn)
    return with_call(turn, 2, code.split("\n")[0] + "\n" + code)


def another_print(turn):
    return with_call(turn, 2, last_code(turn).replace("heaps)", "heaps.bits)"))


def other_heaps(turn):
    return with_call(turn, 0, f"heaps=[1,1]\n{codes_of(turn.messages)[0]}")


def illegal_and_silent(turn):
    return Turn(with_call(turn, 2, "heaps[0]-=9\nprint(heaps)").messages[:3], "too long")


def words_beside_a_call(turn):
    return Turn([{**turn.messages[0], "content": "Hm."}, *turn.messages[1:]])


def claims_a_win(turn):
    return with_words(turn, f"{turn.messages[-1]['content']} I win.")


SPOILS = {
    "takes too many": ("illegal", lambda turn: with_call(turn, 2, "heaps[0]-=9\nprint(heaps)")),
    "no such heap": ("illegal", lambda turn: with_call(turn, 2, "heaps[7]-=1\nprint(heaps)")),
    "illegal and silent": ("illegal", illegal_and_silent),
    "no end": ("unreadable", lambda turn: Turn(turn.messages, "too many tokens in one turn")),
    "no last words": ("unreadable", lambda turn: Turn(turn.messages[:-1])),
    "silent": ("unreadable", lambda turn: Turn([])),
    "words alone": ("wrong_calls", lambda turn: Turn(turn.messages[-1:])),
    "looks only": ("wrong_calls", lambda turn: Turn([*turn.messages[:2], turn.messages[-1]])),
    "other heaps": ("wrong_calls", other_heaps),
    "another print": ("wrong_calls", another_print),
    "two moves": ("wrong_calls", two_moves),
    "forged bits": ("wrong_calls", lambda turn: with_output(turn, 1)),
    "forged heaps": ("wrong_calls", lambda turn: with_output(turn, 3)),
    "another claim": ("wrong_claims", lambda turn: with_words(turn, "I take 8 from heap 1.")),
    "claims a win": ("wrong_claims", claims_a_win),
    "words beside a call": ("wrong_claims", words_beside_a_call),
}


@pytest.mark.parametrize("name", SPOILS)
def test_a_spoiled_turn_is_counted_as_its_fault_alone(name):
    """Where there are more than four stones, so that the game is not over."""
    fault, spoil = SPOILS[name]

    def spoiled(heaps, turn):
        return spoil(turn) if sum(heaps) > 4 else turn

    result = Nim().evaluate(player(policy, spoiled), num_examples=100)
    found = figures(result)
    assert found[fault, ""][0] > 80
    assert [found[one, ""][0] for one in FAULTS if one != fault] == [0] * 3
    assert found["exact", ""][0] == found["exact", ""][1] - found[fault, ""][0]
    if fault == "wrong_claims":  # the game goes on
        assert_all(found, "won", "held_out_legal", "held_out_optimal")
    else:
        assert found["won", ""][0] < 20
        assert found["held_out_optimal", ""][0] < 3
    assert {trial.score.value for trial in result.trials} <= {0, 1}
    assert all(bool(trial.score.reason) != trial.score.value for trial in result.trials)


def test_a_false_verdict_is_a_wrong_claim_and_changes_no_ending():
    def spoil(heaps, turn):
        words = turn.messages[-1]["content"]
        return with_words(turn, words.replace("I win.", "You win."))

    found = figures(Nim().evaluate(player(policy, spoil), num_examples=100))
    assert_all(found, "won")
    assert found["wrong_claims", ""][0] > 50


def test_a_move_after_the_end_is_illegal():
    def spoil(heaps, turn):
        if any(heaps):
            return turn
        code = "heaps[0]-=1\nprint(heaps)"
        return Turn(
            [*turn.messages[:2], call(code), tool("error: the game is over"), assistant("!")]
        )

    found = figures(Nim().evaluate(player(blunder, spoil), num_examples=100))
    assert found["illegal", ""][0] > 10
    assert [found[one, ""][0] for one in FAULTS[1:]] == [0] * 3


def test_a_constant_and_garbage_get_nothing():
    def constant(conversations):
        messages = [call("heaps=[1,1]\nprint(heaps)"), tool("1 1\n"), assistant("I win.")]
        return [Turn(messages) for _ in conversations]

    def garbage(conversations):
        return [Turn([assistant("<|python_start|>" * 5)]) for _ in conversations]

    for answer in (constant, garbage):
        found = figures(Nim().evaluate(answer, num_examples=100))
        for name in ("exact", "won", "held_out_legal", "held_out_optimal", "seen_legal"):
            assert found[name, ""][0] == 0 < found[name, ""][1]
