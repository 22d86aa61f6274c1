"""Nim over thousands of games, held to `nim_oracle`, which knows no XOR."""

from __future__ import annotations

import copy
import itertools
import random
import re
from collections import Counter

import pytest
from nim_oracle import (
    after,
    is_won,
    move_read,
    moves_of,
    opening_read,
    policy,
    split_of_position,
    told,
    winning,
)

from mixgen.encoding.renderer import Renderer
from mixgen.encoding.tokenizer import OUTPUT_START, PIECES, PYTHON_START, train_tokenizer
from mixgen.errors import TaskError
from mixgen.seeding import rng
from mixgen.tasks._nim_positions import position_of, position_split
from mixgen.tasks._nim_words import MOVE_SAID, OPENINGS, SAYINGS, USERS_MOVES, YOU_START
from mixgen.tasks.base import assistant, call, tool, user
from mixgen.tasks.nim import Nim

NUM_GAMES = 4000
MAX_TURNS = Nim.Config().max_turns


def draw_games(count, name, **settings):
    task = Nim(Nim.Config(**settings))
    generator = rng(0, "test nim", name)
    return [task.sample(generator) for _ in range(count)]


@pytest.fixture(scope="module")
def examples():
    return draw_games(NUM_GAMES, "default") + draw_games(
        500, "large", num_heaps=4, max_stones=15, max_turns=9
    )


def words_of(messages):
    return [message["content"] for message in messages if message["role"] == "user"]


def moves_in(example):
    return [tuple(move) for move in example["metadata"]["moves"]]


def turns_of(example):
    """The heaps before each move, the move, and whether it is the assistant's."""
    heaps = tuple(example["metadata"]["heaps"])
    is_assistants = example["metadata"]["assistant_starts"]
    found = []
    for move in moves_in(example):
        found.append((heaps, move, is_assistants))
        heaps = after(heaps, move)
        is_assistants = not is_assistants
    assert not any(heaps)
    return found


def assistants(example):
    return [(heaps, move) for heaps, move, is_assistants in turns_of(example) if is_assistants]


# What a game says.


def test_the_game_that_is_told_is_the_one_that_the_users_words_say(examples):
    """Read from the words alone, and the assistant's side played by the oracle."""
    for example in examples:
        first, *others = words_of(example["messages"])
        heaps, start = opening_read(first)
        moves = [start] if start else []
        said = [move_read(words) for words in others]
        for move in moves:
            heaps = after(heaps, move)
        while any(heaps):
            move = policy(heaps) if len(moves) % 2 == bool(start) else said.pop(0)
            moves.append(move)
            heaps = after(heaps, move)
        assert not said
        assert example["messages"] == told(first, moves, others)
        assert moves == moves_in(example)
        has_won = len(moves) % 2 != bool(start)
        assert example["answer"] == ("I win." if has_won else "You win.")
        assert example["messages"][-1]["content"].endswith(example["answer"])
        assert example["difficulty"] == len(moves)
        assert example["metadata"]["assistant_starts"] == (start is None)


def test_the_assistant_plays_the_first_winning_move_and_never_gives_a_won_position_away(examples):
    kinds = Counter()
    for example in examples:
        positions = assistants(example)
        for heaps, move in positions:
            kinds[is_won(heaps)] += 1
            if is_won(heaps):
                assert move == winning(heaps)[0]
            else:
                assert move == policy(heaps)
        if any(is_won(heaps) for heaps, _ in positions):
            assert example["answer"] == "I win."
    assert min(kinds.values()) > 500


def test_every_position_is_solved_as_a_search_solves_it():
    small = list(itertools.product(range(8), repeat=3))
    draw = random.Random(0)
    large = [tuple(draw.randint(0, 15) for _ in range(4)) for _ in range(300)]
    for heaps in small + large:
        assert position_split(heaps) == split_of_position(heaps)
        if any(heaps):
            position = position_of(heaps)
            assert list(position.legal) == moves_of(heaps)
            assert list(position.winning) == winning(heaps)
            assert position.policy == policy(heaps)
            assert position.split == split_of_position(heaps)


def test_in_a_lost_position_of_three_heaps_one_stone_of_the_first_leaves_most_ways_to_go_wrong():
    tried = 0
    for heaps in itertools.product(range(16), repeat=3):
        if any(heaps) and not position_of(heaps).winning:
            first = next(at for at, held in enumerate(heaps) if held)
            assert position_of(heaps).policy == (first, 1)
            tried += 1
    assert tried > 200


def test_a_game_has_few_turns_and_nearly_none_would_have_more(examples):
    """Else a model that is tried meets, late in a game, positions that it was never trained on."""
    for example in examples[:NUM_GAMES]:
        assert len(words_of(example["messages"])) <= MAX_TURNS
    long = draw_games(1000, "turns", max_turns=20)
    share = sum(len(words_of(example["messages"])) <= MAX_TURNS for example in long) / len(long)
    assert 0.95 < share <= 1


# Wording.


def test_each_saying_is_of_one_move_and_is_read_as_that():
    assert len(MOVE_SAID) == len(SAYINGS) * len(USERS_MOVES) == 60 * 6
    for said, move in MOVE_SAID.items():
        assert move_read(said) == move == MOVE_SAID[said]


def test_all_wordings_occur(examples):
    openings, starts, sayings = Counter(), Counter(), Counter()
    for example in examples:
        first, *others = words_of(example["messages"])
        openings[next(one for one in OPENINGS if first.startswith(one.split("%s")[0]))] += 1
        starts.update([one for one in YOU_START if first.endswith(one)])
        sayings.update(SAYINGS[move_read(words)].index(words) for words in others)
    assert min(openings.values()) > 500 and len(openings) == len(OPENINGS)
    assert min(starts.values()) > 300 and len(starts) == len(YOU_START)
    assert min(sayings.values()) > 500 and len(sayings) == len(USERS_MOVES)


def test_every_heap_size_comes(examples):
    heaps = {tuple(example["metadata"]["heaps"]) for example in examples[:NUM_GAMES]}
    assert heaps == set(itertools.product(range(1, 8), repeat=3))
    large = [example["metadata"]["heaps"] for example in examples[NUM_GAMES:]]
    assert {len(one) for one in large} == {4}
    assert set(itertools.chain.from_iterable(large)) == set(range(1, 16))


def test_keys_are_the_problem_whatever_its_wording(examples):
    problems = {}
    for example in examples:
        problem = example["metadata"]
        assert problems.setdefault(example["key"], problem) == problem
    assert len(problems) == len({str(problem) for problem in problems.values()})
    wordings = {}
    for example in examples:
        wordings.setdefault(example["key"], set()).add(tuple(words_of(example["messages"])))
    assert max(map(len, wordings.values())) > 2


# How the sides play.


def test_the_user_wins_a_won_position_as_often_as_asked():
    for rate in (0.0, 1.0):
        moves = [
            (heaps, move)
            for example in draw_games(1000, f"rate {rate}", optimal_user_rate=rate, max_turns=20)
            for heaps, move, is_assistants in turns_of(example)
            if not is_assistants and is_won(heaps)
        ]
        assert len(moves) > 300
        right = [move in winning(heaps) for heaps, move in moves]
        assert all(right) if rate else sum(right) / len(right) < 0.6
        if rate:  # each of several winning moves is played
            several = [(heaps, move) for heaps, move in moves if len(winning(heaps)) > 1]
            assert {winning(heaps).index(move) for heaps, move in several} == {0, 1, 2}


def test_a_random_user_plays_every_legal_move():
    games = draw_games(4000, "random", optimal_user_rate=0.0, assistant_starts_rate=0.0)
    played = {}
    for heaps, move, _ in (turns_of(example)[0] for example in games):
        played.setdefault(heaps, set()).add(move)
    small = [heaps for heaps in played if sum(heaps) <= 3]
    assert small
    for heaps in small:
        assert played[heaps] <= set(moves_of(heaps))
    assert set().union(*played.values()) == {(h, c) for h in range(3) for c in range(1, 8)}


def test_the_assistant_starts_as_often_as_asked():
    for rate in (0.0, 0.25, 1.0):
        games = draw_games(2000, f"starts {rate}", assistant_starts_rate=rate, max_turns=20)
        count = sum(example["metadata"]["assistant_starts"] for example in games)
        assert abs(count / len(games) - rate) <= 3.2905 * (rate * (1 - rate) / len(games)) ** 0.5


@pytest.mark.parametrize(
    ("settings", "shown"),
    [
        ({"num_heaps": 1}, "num_heaps must lie in 2 to 4, got 1"),
        ({"num_heaps": 5}, "num_heaps must lie in 2 to 4, got 5"),
        ({"max_stones": 4}, "max_stones must lie in 5 to 15, got 4"),
        ({"max_stones": 16}, "max_stones must lie in 5 to 15, got 16"),
        ({"max_turns": 2}, "max_turns must lie in 3 to 20, got 2"),
        ({"num_heaps": 4, "max_turns": 3}, "max_turns must lie in 4 to 20, got 3"),
        ({"max_turns": 21}, "max_turns must lie in 3 to 20, got 21"),
        ({"assistant_starts_rate": -0.1}, "assistant_starts_rate must lie in 0 to 1, got -0.1"),
        ({"optimal_user_rate": 1.1}, "optimal_user_rate must lie in 0 to 1, got 1.1"),
        ({"optimal_user_rate": float("nan")}, "optimal_user_rate must lie in 0 to 1, got nan"),
    ],
)
def test_a_setting_out_of_bounds_is_an_error_that_names_it(settings, shown):
    with pytest.raises(TaskError, match=f"nim: {shown}"):
        Nim.Config(**settings)


@pytest.mark.parametrize("num_heaps", [2, 3, 4])
@pytest.mark.parametrize("max_stones", [5, 6, 8, 15])
def test_at_its_boundaries_every_setting_makes_games_of_all_splits(num_heaps, max_stones):
    task = Nim(Nim.Config(num_heaps=num_heaps, max_stones=max_stones, max_turns=num_heaps))
    for split in ("train", "validation", "test"):
        for example in itertools.islice(task.stream(split=split, seed=0), 5):
            assert task.score(example, example["messages"]).value == 1
            assert max(example["metadata"]["heaps"]) <= max_stones
            assert len(example["metadata"]["heaps"]) == num_heaps


@pytest.mark.parametrize("starts", [0.0, 1.0])
@pytest.mark.parametrize("optimal", [0.0, 1.0])
def test_extreme_rates_make_games_of_all_splits(starts, optimal):
    task = Nim(Nim.Config(assistant_starts_rate=starts, optimal_user_rate=optimal, max_turns=3))
    for split in ("train", "validation", "test"):
        for example in itertools.islice(task.stream(split=split, seed=0), 20):
            assert example["metadata"]["assistant_starts"] == starts
            assert len(words_of(example["messages"])) <= 3


# Splits.


def test_a_game_is_for_training_exactly_when_no_assistant_position_in_it_is_held_out(examples):
    seen = Counter()
    for example in examples:
        splits = {split_of_position(heaps) for heaps, _ in assistants(example)}
        expected = next(one for one in ("test", "validation", "train") if one in splits | {"train"})
        assert example["split"] == expected
        seen[expected] += 1
    assert min(seen.values()) > 200


def test_the_train_stream_passes_through_no_held_out_position_in_any_order_of_heaps():
    def positions(split):
        stream = Nim().stream(split=split, seed=1)
        return [
            {tuple(sorted(filter(None, heaps))) for heaps, _ in assistants(example)}
            for example in itertools.islice(stream, 2000)
        ]

    trained = set().union(*positions("train"))
    assert len(trained) > 60
    for split in ("validation", "test"):
        held_out = {
            tuple(sorted(filter(None, heaps)))
            for heaps in itertools.product(range(8), repeat=3)
            if position_split(heaps) == split
        }
        assert not trained & held_out
        assert all(met & held_out for met in positions(split))
        assert set().union(*positions(split)) >= held_out


def test_validation_and_test_each_hold_4_to_16_percent_of_the_positions():
    for most, num_heaps in ((7, 3), (15, 3), (9, 4)):
        all_heaps = itertools.combinations_with_replacement(range(most + 1), num_heaps)
        counts = Counter(position_split(heaps) for heaps in all_heaps)
        for split in ("validation", "test"):
            assert 0.04 < counts[split] / sum(counts.values()) < 0.16, (most, num_heaps, counts)


# Scoring.


def played_on(heaps, moves, is_assistants, assistants_move):
    """Moves, and more of them to the end: the user takes whole heaps."""
    moves = list(moves)
    while any(heaps):
        whole = next((heap, held) for heap, held in enumerate(heaps) if held)
        move = assistants_move(heaps) if is_assistants else whole
        moves.append(move)
        heaps = after(heaps, move)
        is_assistants = not is_assistants
    return moves


def forks(examples, choose):
    """Games in which one move of the assistant is another: `choose` gives it from the heaps."""
    for example in examples:
        for at, (heaps, move, is_assistants) in enumerate(turns_of(example)):
            if is_assistants and (other := choose(heaps, move)):
                moves = [*moves_in(example)[:at], other]
                moves = played_on(after(heaps, other), moves, False, policy)
                first, *said = words_of(example["messages"])
                yield example, told(first, moves, said[: at // 2])


def test_another_winning_move_and_any_move_from_a_lost_position_score_1(examples):
    def another(heaps, move):
        options = winning(heaps) or moves_of(heaps)
        return next((one for one in reversed(options) if one != move), None)

    tried = Counter()
    for example, reply in forks(examples[:600], another):
        score = Nim().score(example, reply)
        assert score.value == 1, (score.reason, reply)
        tried[reply[-1]["content"].endswith("I win.")] += 1
    assert min(tried.values()) > 20


def test_a_move_that_gives_a_won_position_away_scores_below_1_even_if_the_game_is_won(examples):
    def bad(heaps, move):
        options = [one for one in moves_of(heaps) if one not in winning(heaps)]
        return options[-1] if winning(heaps) and options else None

    endings = Counter()
    for example, reply in forks(examples[:600], bad):
        score = Nim().score(example, reply)
        assert score.value == 0
        assert "gives a won position away" in score.reason
        endings[reply[-1]["content"].endswith("I win.")] += 1
    assert min(endings.values()) > 20


def test_a_user_who_moves_otherwise_before_the_assistant_does_is_another_game(examples):
    tried = 0
    for example in examples[:600]:
        for at, (heaps, move, is_assistants) in enumerate(turns_of(example)):
            if is_assistants or not at:
                continue
            other = next((one for one in moves_of(heaps) if one != move), None)
            if not other:
                continue
            moves = played_on(after(heaps, other), [*moves_in(example)[:at], other], True, policy)
            num_said = (at - (not example["metadata"]["assistant_starts"])) // 2
            words = words_of(example["messages"])
            reply = told(words[0], moves, words[1 : 1 + num_said])
            assert Nim().score(example, reply).reason == "another game"
            tried += 1
    assert tried > 300


def test_a_user_whose_words_alone_are_others_is_another_game(examples):
    tried = 0
    for example in examples[:200]:
        for at, message in enumerate(example["messages"]):
            if at and message["role"] == "user":
                reply = copy.deepcopy(example["messages"])
                sayings = SAYINGS[move_read(message["content"])]
                reply[at]["content"] = next(one for one in sayings if one != message["content"])
                assert Nim().score(example, reply).value == 0
                tried += 1
    assert tried > 100


def test_a_call_that_takes_other_than_the_user_said_scores_below_1(examples):
    """After the assistant has left the example too."""
    tried = Counter()
    for example in examples[:600]:
        for at, (heaps, move, is_assistants) in enumerate(turns_of(example)):
            if is_assistants or not at:
                continue
            other = next((one for one in moves_of(heaps) if one != move), None)
            if not other:
                continue
            moves = played_on(after(heaps, other), [*moves_in(example)[:at], other], True, policy)
            reply = told(words_of(example["messages"])[0], moves, words_of(example["messages"])[1:])
            assert Nim().score(example, reply).value == 0
            tried["as the example"] += 1

    def another(heaps, move):
        return next((one for one in reversed(winning(heaps)) if one != move), None)

    for example, reply in forks(examples[:1500], another):
        later = [at for at, message in enumerate(reply) if message["role"] == "user"]
        wrong = copy.deepcopy(reply)
        if wrong[later[-1]]["content"] == words_of(example["messages"])[-1] or len(later) < 2:
            continue
        heap, count = move_read(wrong[later[-1]]["content"])
        for said in (SAYINGS[heap, count + 1][0], SAYINGS[(heap + 1) % 3, count][1], "Hm."):
            wrong[later[-1]]["content"] = said
            assert Nim().score(example, wrong).value == 0
            tried["after another move"] += 1
    assert min(tried.values()) > 50


def with_part(messages, at, part, value):
    return [*messages[:at], {**messages[at], part: value}, *messages[at + 1 :]]


def code_at(messages, at):
    return messages[at]["tool_calls"][0]["function"]["arguments"]["code"]


def swapped_print(code):
    plain = code.replace("print(heaps.bits)", "print(heaps)")
    return plain if plain != code else code.replace("print(heaps)", "print(heaps.bits)")


def corruptions(example):
    gold = example["messages"]
    *head, last = gold
    win, lose = "I win.", "You win."
    theirs = lose if example["answer"] == win else win
    swapped = last["content"].removesuffix(example["answer"]) + theirs
    yield "the other has won", [*head, assistant(swapped)]
    yield "no verdict", [*head, assistant(last["content"].removesuffix(example["answer"]).strip())]
    yield "more words", [*head, assistant(last["content"] + " Well played!")]
    yield "verdict alone said before", [*head, assistant(example["answer"]), last]
    yield "a call after the end", [*gold, call("print(heaps)"), tool(gold[-2]["content"]), last]
    yield "other first words", with_part(gold, 0, "content", gold[0]["content"] + " Please.")
    for at, message in enumerate(gold):
        if at and message["role"] == "user":
            yield f"cut before the turn at {at}", gold[:at]
    yield "goes on", [*gold, user("Again?"), assistant("No.")]
    for at, message in enumerate(gold):
        if message["tool_calls"]:
            code = code_at(gold, at)
            for name, other in (
                ("prints twice", code + "\nprint(heaps)"),
                ("prints nothing", code.rsplit("\n", 1)[0]),
                ("space", code + " "),
                ("a move more", code.replace("print", "heaps[0]-=1\nprint")),
            ):
                yield f"{name} at {at}", [*gold[:at], call(other), *gold[at + 1 :]]
            yield f"words before the call at {at}", with_part(gold, at, "content", "Let me see.")
            merged = code + "\n" + code
            yield f"call repeated at {at}", [*gold[:at], call(merged), *gold[at + 1 :]]
            yield f"call twice at {at}", [*gold[:at], message, *gold[at:]]
        elif message["role"] == "tool":
            text = message["content"]
            for other in (text.replace("X", ".", 1), text.replace("1", "2", 1), text + "\n", ""):
                if other != text:
                    yield f"forged output at {at}", with_part(gold, at, "content", other)
            yield f"forged name at {at}", with_part(gold, at, "name", "")
        elif message["role"] == "assistant" and at < len(gold) - 1:
            yield f"wrong claim at {at}", with_part(gold, at, "content", message["content"][:-1])
            claim = message["content"] + " I win."
            yield f"win claimed too early at {at}", with_part(gold, at, "content", claim)


def test_corrupted_games_score_below_1_and_say_why(examples):
    kinds = Counter()
    for example in [*examples[:60], *[one for one in examples if one["answer"] == "You win."][:20]]:
        assert Nim().score(example, example["messages"]).value == 1
        for name, reply in corruptions(example):
            score = Nim().score(example, reply)
            assert score.value == 0 and score.reason, (name, reply)
            kinds[name.split(" at ")[0]] += 1
    assert len(kinds) == 19


def test_an_illegal_move_is_named(examples):
    for example in examples[:50]:
        gold = example["messages"]
        at = next(
            at
            for at, one in enumerate(gold)
            if one["tool_calls"] and ".bits" not in code_at(gold, at)
        )
        for move in ("heaps[0]-=99", "heaps[9]-=1"):
            reply = [*gold[:at], call(f"{move}\nprint(heaps)"), *gold[at + 1 :]]
            assert "illegal move" in Nim().score(example, reply).reason


def test_pieces_are_moves_of_any_heap_and_number_with_their_print():
    for move in ("heaps[3]-=15", "heaps[0]-=1", "piles[1]-=9", "board[1][2]='X'"):
        for shown in ("", "\nprint(heaps)", "\nprint(heaps.bits)"):
            pieces = re.findall(PIECES, f"heaps=[3,5]\n{move}{shown}")
            assert pieces[-2:] == ["\n", move + shown]


@pytest.mark.parametrize("seed", [42, 43, 44])
def test_a_move_with_its_print_is_one_token_and_games_are_told_at_few_places(seed):
    """Each place is one more for learned positions to learn (docs/architecture.md)."""
    task = Nim()
    renderer = Renderer(train_tokenizer((task,), seed=seed))
    moves = [f"heaps[{heap}]-={count}" for heap in range(3) for count in range(1, 8)]
    for move, shown in itertools.product(moves, ("print(heaps)", "print(heaps.bits)")):
        assert len(renderer.text_ids(f"{move}\n{shown}")) == 1, move
    start, called = renderer.special[OUTPUT_START], renderer.special[PYTHON_START]
    places = Counter()
    for example in itertools.islice(task.stream(split="train", seed=3), 1500):
        ids = renderer.encode(example).input_ids.tolist()
        assert len(ids) <= 256
        places.update((token, at) for at, token in enumerate(ids) if token in (start, called))
    for token in (start, called):
        assert 3 * MAX_TURNS < sum(one == token for one, _ in places) <= 4 * MAX_TURNS
