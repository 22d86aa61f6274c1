"""What every registered task promises: write a task, and these are its first tests."""

from __future__ import annotations

import copy
import itertools
import json
import random

import pytest

from mixgen.errors import TaskError
from mixgen.seeding import rng, stream
from mixgen.tasks.base import (
    SPLITS,
    Example,
    Message,
    Score,
    split_of,
)
from mixgen.tasks.registry import registered_tasks, task_class
from mixgen.validation.corruptions import broken_replies, corruptions

TASKS = sorted(registered_tasks())
NUM_DRAWS = {"train": 5000, "validation": 1000, "test": 1000}
MIN_DISTINCT = {
    "calculator": 4500,
    "nim": 3000,
    "units": 4800,
    "tables": 4900,
}  # keys in train; tictactoe has some 150: its assistant plays one policy
ROLES = ("user", "assistant", "tool")

pytestmark = pytest.mark.parametrize("name", TASKS)


def make(name):
    return task_class(name)()


def take(name, count=100, *, split="train", seed=0, block=0):
    return list(itertools.islice(make(name).stream(split=split, seed=seed, block=block), count))


@pytest.fixture(scope="module")
def drawn():
    """The first examples of every task's splits, in seed 0."""
    return {
        (name, split): take(name, NUM_DRAWS[split], split=split)
        for name in TASKS
        for split in SPLITS
    }


@pytest.fixture(scope="module")
def few(drawn):
    return {
        name: [example for split in SPLITS for example in drawn[name, split][:100]]
        for name in TASKS
    }


def test_the_built_in_tasks_are_registered(name):
    assert {"calculator", "tictactoe"} <= set(TASKS)
    assert registered_tasks()[name] is task_class(name)
    assert task_class(name).name == name


def test_every_example_has_all_fields_of_the_schema_with_their_types(name, drawn):
    kinds = {"id": str, "task": str, "split": str, "difficulty": int, "key": str, "messages": list}
    kinds |= {"tools": list, "answer": str, "metadata": dict}
    assert set(kinds) == set(Example.__annotations__)
    for split in SPLITS:
        for example in drawn[name, split]:
            assert {field: type(value) for field, value in example.items()} == kinds
            assert example["task"] == name
            assert example["split"] == split
            assert example["key"]
            assert example["answer"]


def test_every_message_has_all_four_fields_and_its_turn(name, drawn):
    for split in SPLITS:
        for example in drawn[name, split]:
            messages = example["messages"]
            assert messages[0]["role"] == "user"
            assert messages[-1]["role"] == "assistant"
            for message, following in itertools.pairwise([*messages, None]):
                assert set(message) == set(Message.__annotations__)
                assert message["role"] in ROLES
                assert isinstance(message["content"], str)
                assert isinstance(message["tool_calls"], list)
                assert isinstance(message["name"], str)
                if message["tool_calls"]:
                    assert message["role"] == "assistant"
                    assert [following["role"], len(message["tool_calls"])] == ["tool", 1]
                elif message["role"] != "tool":
                    assert message["content"]
                    assert not following or following["role"] != "tool"
                if message["role"] == "user":
                    assert following["role"] == "assistant"


def test_the_last_words_state_the_answer(name, drawn):
    for split in SPLITS:
        for example in drawn[name, split]:
            assert (
                example["messages"][-1]["content"]
                .removesuffix(".")
                .endswith(example["answer"].removesuffix("."))
            )


def test_every_example_survives_json(name, few):
    for example in few[name]:
        assert json.loads(json.dumps(example)) == example


def test_every_call_is_of_a_tool_that_the_example_declares(name, few):
    for example in few[name]:
        declared = {
            schema["function"]["name"]: schema["function"]["parameters"]
            for schema in example["tools"]
        }
        for message in example["messages"]:
            for made in message["tool_calls"]:
                assert made["type"] == "function"
                parameters = declared[made["function"]["name"]]
                given = set(made["function"]["arguments"])
                assert set(parameters["required"]) <= given <= set(parameters["properties"])


def test_every_tool_message_is_what_the_tasks_own_tools_print(name, drawn):
    for split in SPLITS:
        for example in drawn[name, split]:
            calls = [message for message in example["messages"] if message["tool_calls"]]
            outputs = [message for message in example["messages"] if message["role"] == "tool"]
            if not calls:
                assert not outputs
                continue
            session = make(name).tools()
            for message, output in zip(calls, outputs, strict=True):
                function = message["tool_calls"][0]["function"]
                assert output["content"] == session.call(function["name"], function["arguments"])
                assert output["name"] == function["name"]
                assert not output["content"].startswith("error")


# Scoring.


def test_gold_replies_score_1(name, drawn):
    task = make(name)
    for split in SPLITS:
        for example in drawn[name, split]:
            score = task.score(example, example["messages"])
            assert score == Score(value=1.0), example


def test_scoring_changes_neither_example_nor_reply(name, few):
    task = make(name)
    for example in few[name]:
        before = copy.deepcopy(example)
        task.score(example, example["messages"])
        task.score(example, example["messages"][:2])
        assert example == before


def test_corrupted_replies_score_below_1_and_say_why(name, few):
    task = make(name)
    accepted = {}
    tried = 0
    for example, other in itertools.pairwise(few[name]):
        if example["messages"][0] == other["messages"][0]:
            continue
        for corruption, reply, _ in corruptions(example, other):
            score = task.score(example, reply)
            if not 0 <= score.value < 1 or not score.reason:
                accepted.setdefault(corruption, reply)
            tried += 1
    assert tried > 1000
    assert not accepted, list(accepted)


def test_a_reply_that_is_no_conversation_scores_0_and_raises_nothing(name, few):
    task = make(name)
    raised = {}
    accepted = []
    tried = 0
    for example in few[name][:20]:
        for reply in broken_replies(example["messages"]):
            tried += 1
            try:
                score = task.score(example, reply)
            except Exception as error:
                raised.setdefault(repr(error), reply)
                continue
            if score.value != 0 or not score.reason:
                accepted.append(reply)
    assert tried > 1000
    assert not raised, list(raised)
    assert not accepted, accepted[0]


# Streams.


def test_a_stream_is_a_pure_function_of_split_seed_and_block(name):
    for split, seed, block in itertools.product(SPLITS, (0, 42), (0, 7)):
        first = take(name, 30, split=split, seed=seed, block=block)
        assert take(name, 30, split=split, seed=seed, block=block) == first
        assert take(name, 10, split=split, seed=seed, block=block) == first[:10]


def test_the_global_random_state_neither_changes_a_stream_nor_is_changed_by_it(name):
    quiet = take(name, 200)
    noisy = []
    examples = make(name).stream(split="train", seed=0)
    for index in range(200):
        random.seed(index)  # noqa: TID251 - the noise that must not matter
        random.random()  # noqa: TID251
        noisy.append(next(examples))
    assert noisy == quiet
    random.seed(5)  # noqa: TID251
    before = random.getstate()
    take(name, 200)
    assert random.getstate() == before


def test_interleaved_streams_do_not_disturb_each_other(name):
    alone = [take(name, 50, seed=seed) for seed in (1, 2)]
    task = make(name)
    streams = [task.stream(split="train", seed=seed) for seed in (1, 2)]
    together = [[], []]
    for _ in range(50):
        for drawn_now, examples in zip(together, streams, strict=True):
            drawn_now.append(next(examples))
    assert together == alone


def test_other_seeds_blocks_and_splits_give_other_streams(name):
    said = {
        (split, seed, block): [
            example["messages"] for example in take(name, 60, split=split, seed=seed, block=block)
        ]
        for split, seed, block in itertools.product(SPLITS, (0, 1, 42, 43), (0, 1, 2))
    }
    for (first, one), (second, other) in itertools.combinations(said.items(), 2):
        for shift in range(-20, 21):
            mine = one[max(0, shift) : len(one) + min(0, shift)]
            theirs = other[max(0, -shift) : len(other) + min(0, -shift)]
            assert mine != theirs, (first, second, shift)


def test_seed_43_is_not_seed_42_shifted(name):
    numbers = {
        seed: {rng(seed, "train", name, block).random() for block in range(1000)}
        for seed in (42, 43)
    }
    assert len(numbers[42]) == len(numbers[43]) == 1000
    assert not numbers[42] & numbers[43]
    long = [rng(seed, "train", name, 0) for seed in (42, 43)]
    series = [{generator.random() for _ in range(20_000)} for generator in long]
    assert not series[0] & series[1]
    names = [
        ("train", name, 1),
        ("train", name, "1"),
        ("train", f"{name}1"),
        (name, "train", 1),
        ("train", name, 11),
    ]
    assert len({stream(seed, *parts) for seed in (42, 43, -42, 421) for parts in names}) == 20


def test_ids_are_unique_and_name_task_split_and_position(name, drawn):
    ids = [example["id"] for split in SPLITS for example in drawn[name, split]]
    for seed, block in [(0, 1), (1, 0), (1, 1), (10, 0), (0, 10)]:
        ids += [example["id"] for example in take(name, 50, seed=seed, block=block)]
    assert len(set(ids)) == len(ids) == sum(NUM_DRAWS.values()) + 250
    for split in SPLITS:
        for index, example in enumerate(drawn[name, split]):
            assert example["id"].startswith(f"{name}-{split}-")
            assert example["id"].endswith(f"-{index}")


def test_an_unknown_split_is_an_error_that_names_the_nearest(name):
    with pytest.raises(TaskError, match="did you mean 'train'"):
        next(make(name).stream(split="trian", seed=0))


# Splits.


def test_splits_share_no_key_and_hold_enough_distinct_problems(name, drawn):
    keys = {split: {example["key"] for example in drawn[name, split]} for split in SPLITS}
    for one, other in itertools.combinations(SPLITS, 2):
        assert not keys[one] & keys[other], (one, other)
    assert len(keys["train"]) >= MIN_DISTINCT.get(name, 50)
    assert min(len(keys[split]) for split in SPLITS) >= 10


def test_a_problem_is_in_one_split_whatever_seed_or_configuration_draws_it(name, drawn):
    split_of_key = {example["key"]: split for split in SPLITS for example in drawn[name, split]}
    task = make(name)
    met = 0
    for seed in range(20):
        generator = rng(seed, "contract", name)
        for _ in range(1000):
            example = task.sample(generator)
            met += example["key"] in split_of_key
            assert split_of_key.setdefault(example["key"], example["split"]) == example["split"]
    assert met > 10


def test_no_question_of_the_test_split_is_answered_in_training(name, drawn):
    """The whole conversation of an evaluation problem never occurs in training."""
    trained = {json.dumps(example["messages"]) for example in drawn[name, "train"]}
    for split in ("validation", "test"):
        assert not trained & {json.dumps(example["messages"]) for example in drawn[name, split]}


def test_split_of_puts_each_share_of_keys_where_it_says(name):
    keys = [f"problem {number}" for number in range(100_000)]
    for share in (0.0, 0.02, 0.1, 0.5):
        counts = dict.fromkeys(SPLITS, 0)
        for key in keys:
            counts[split_of(name, key, share)] += 1
        for split in ("validation", "test"):
            assert (
                abs(counts[split] / len(keys) - share)
                <= 3.2905 * (share * (1 - share) / len(keys)) ** 0.5
            )
    assert [split_of(name, key) for key in keys[:1000]] != [
        split_of(f"{name}x", key) for key in keys[:1000]
    ]
