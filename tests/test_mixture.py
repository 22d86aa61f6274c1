"""The mix: weights to probabilities, sources to one stream, the same wherever it is drawn."""

from __future__ import annotations

import itertools
import json
import math
import random

import numpy as np
import pytest
from datasets import Dataset, load_dataset

from mixgen import RecipeError, TaskError, configure_mix, load_mixture
from mixgen.encoding.rows import RowDataset
from mixgen.mixture.sources import block_examples, draw_order, interleaved
from mixgen.mixture.tables import features, table_of
from mixgen.mixture.weights import Mix
from mixgen.tasks.base import Task, assistant, user

WEIGHTS = [(1.0, 0.5), (1.0, 1.0), (2.0, 1.0), (1.0, 0.0), (0.3, 1.0)]


def within_99_9_percent(successes: int, draws: int, probability: float) -> bool:
    """Whether a count lies within the normal 99.9 % interval of a binomial."""
    spread = 3.2905 * math.sqrt(draws * probability * (1 - probability))
    return abs(successes - draws * probability) <= spread


@pytest.mark.parametrize(("calculator", "tictactoe"), WEIGHTS)
def test_probability_is_weight_over_sum_of_weights(calculator, tictactoe):
    mix = configure_mix(calculator=calculator, tictactoe=tictactoe)
    expected = [w / (calculator + tictactoe) for w in (calculator, tictactoe) if w]
    assert mix.probabilities == pytest.approx(expected, abs=1e-15)
    assert math.fsum(mix.probabilities) == pytest.approx(1.0, abs=1e-15)


@pytest.mark.parametrize(("calculator", "tictactoe"), WEIGHTS)
def test_measured_share_of_200_000_draws_is_the_probability(calculator, tictactoe):
    mix = configure_mix(calculator=calculator, tictactoe=tictactoe)
    probability = calculator / (calculator + tictactoe)
    one_block = list(itertools.islice(draw_order(mix), 200_000))
    many_blocks = [
        index
        for block in range(400)
        for index in itertools.islice(draw_order(mix, block=block), 500)
    ]
    for order in (one_block, many_blocks):
        assert len(order) == 200_000
        assert within_99_9_percent(order.count(0), len(order), probability)


def test_share_is_the_probability_on_every_rank_and_worker(mix, renderer):
    rows = RowDataset(mix, renderer, num_rows=2048, max_seq_len=1024)
    starts = np.array(
        [
            [((row.position_ids == 0) & (row.task_ids == task)).sum() for task in range(2)]
            for row in (rows[i] for i in range(len(rows)))
        ]
    )
    # accelerate gives rank r of W the batches r, r + W, ...; worker k of n takes every n-th of
    # those.
    for world, workers in ((1, 1), (4, 1), (8, 1), (2, 2), (4, 3)):
        batches = starts.reshape(-1, 4, 2)
        for rank in range(world):
            for worker in range(workers):
                mine = batches[rank::world][worker::workers].sum(axis=(0, 1))
                assert mine.sum() > 500
                assert within_99_9_percent(int(mine[0]), int(mine.sum()), 2 / 3)


def test_choice_of_task_is_uncorrelated_between_blocks(mix):
    orders = np.array(
        [list(itertools.islice(draw_order(mix, block=block), 4_000)) for block in range(8)]
    )
    correlations = np.corrcoef(orders)[np.triu_indices(8, k=1)]
    assert np.abs(correlations).max() < 4 / math.sqrt(4_000)


@pytest.mark.parametrize(
    "weights", [{"calculator": 1.0, "tictactoe": 0.5}, {"calculator": 0.0, "tictactoe": 2.0}]
)
def test_block_examples_are_what_interleave_datasets_yields(weights):
    mix = configure_mix(**weights)
    public = list(interleaved(mix, split="train", seed=7, block=3).take(1_500))
    fast = [example for _, example in itertools.islice(block_examples(mix, seed=7, block=3), 1_500)]
    assert public == fast


def test_sources_are_typed(mix):
    assert interleaved(mix).features == features()


def test_a_table_is_what_datasets_makes_of_the_same_examples(mix):
    drawn = [example for _, example in itertools.islice(block_examples(mix), 50)]
    # Values of type Json as text: `datasets` 5.2 does not encode all of them itself.
    encoded = [
        {
            **example,
            "messages": [
                {**message, "tool_calls": [json.dumps(call) for call in message["tool_calls"]]}
                for message in example["messages"]
            ],
            "tools": [json.dumps(tool) for tool in example["tools"]],
            "metadata": json.dumps(example["metadata"]),
        }
        for example in drawn
    ]
    ours, theirs = Dataset(table_of(drawn)), Dataset.from_list(encoded, features=features())
    assert ours.features == theirs.features == features()
    assert list(ours) == list(theirs) == drawn


class Plain(Task):
    """A task without tools or facts."""

    name = "plain"
    flag = "plain"

    def sample(self, rng):
        number = str(rng.randrange(10**6))
        return self.example(key=number, messages=[user(number), assistant(number)], answer=number)


def test_datasets_writes_a_stream_of_tasks_of_all_kinds(mix, tmp_path):
    tasks = (*mix.tasks, Plain())
    drawn = load_mixture(Mix(tasks=tasks, weights=(1.0, 1.0, 1.0)), seed=3).take(300)
    expected = list(drawn)
    assert {example["task"] for example in expected} == {task.name for task in tasks}
    drawn.to_parquet(tmp_path / "one.parquet")
    # As `push_to_hub` does.
    drawn.with_format("arrow").map(lambda table: table, batched=True).to_parquet(
        tmp_path / "two.parquet"
    )
    for name in ("one", "two"):
        file = str(tmp_path / f"{name}.parquet")
        assert list(load_dataset("parquet", data_files=file, split="train", streaming=True)) == (
            expected
        )
    assert [row["answer"] for row in drawn.select_columns(["answer"])] == [
        example["answer"] for example in expected
    ]
    assert len(list(drawn.map(lambda row: {"n": 1}, remove_columns=["messages"]))) == 300


def test_a_stream_goes_on_from_its_state(mix):
    stream = interleaved(mix, seed=5)
    rows = iter(stream)
    before = [next(rows) for _ in range(200)]
    state = stream.state_dict()
    after = [next(rows) for _ in range(5)]
    again = interleaved(mix, seed=5)
    again.load_state_dict(state)
    assert list(itertools.islice(again, 5)) == after
    assert before + after == list(interleaved(mix, seed=5).take(205))


def test_load_mixture_takes_weights_a_recipe_and_a_mix(mix, tmp_path):
    recipe = tmp_path / "small.yaml"
    recipe.write_text(
        "weights: {calculator: 1.0, tictactoe: 0.5}\ncalculator: {max_depth: 1}\ndepth: 2\n"
    )
    by_weights = list(load_mixture({"tictactoe": 0.5, "calculator": 1.0}, seed=3).take(20))
    assert by_weights == list(load_mixture(mix, seed=3).take(20))
    by_recipe = list(load_mixture(recipe, seed=3).take(60))
    assert {e["metadata"]["depth"] for e in by_recipe if e["task"] == "calculator"} == {1}
    assert {e["task"] for e in by_recipe} == {"calculator", "tictactoe"}


def test_splits_of_the_mix_share_no_problem(mix):
    keys = {
        split: {
            (e["task"], e["key"])
            for _, e in itertools.islice(block_examples(mix, split=split), 1_000)
        }
        for split in ("train", "validation", "test")
    }
    assert all(len(found) > 100 for found in keys.values())
    for one, other in itertools.combinations(keys.values(), 2):
        assert not one & other


def test_examples_of_a_task_do_not_depend_on_the_other_tasks_or_their_order(mix):
    def calculators(mix: Mix) -> list[object]:
        found = (e for _, e in block_examples(mix, seed=5) if e["task"] == "calculator")
        return list(itertools.islice(found, 50))

    alone = calculators(configure_mix(calculator=1.0))
    assert alone == calculators(mix)
    assert alone == calculators(configure_mix(tictactoe=0.5, calculator=3.0))


def test_order_of_weights_changes_nothing(mix):
    other = configure_mix(tictactoe=0.5, calculator=1.0)
    assert str(other) == str(mix) == "calculator=1.0, tictactoe=0.5"
    drawn = [list(itertools.islice(block_examples(m), 100)) for m in (mix, other)]
    assert drawn[0] == drawn[1]


def test_global_random_state_is_neither_read_nor_changed(mix):
    drawn = []
    for seed in (1, 2):
        random.seed(seed)  # noqa: TID251
        np.random.seed(seed)  # noqa: NPY002, TID251
        before = (random.getstate(), np.random.get_state()[1].tolist())  # noqa: NPY002
        drawn.append(list(itertools.islice(block_examples(mix), 50)))
        assert (random.getstate(), np.random.get_state()[1].tolist()) == before  # noqa: NPY002
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"calculator": -1.0}, "weight of calculator must be finite and not negative, got -1.0"),
        ({"calculator": float("nan")}, "got nan"),
        ({"calculator": float("inf")}, "got inf"),
        ({"calculator": "much"}, "weight of calculator must be a number, got 'much'"),
        ({"calculator": True}, "must be a number, got True"),
        ({"calculator": 0.0, "tictactoe": 0.0}, "all task weights are zero"),
        ({}, "all task weights are zero"),
    ],
)
def test_wrong_weights_are_refused(weights, message):
    with pytest.raises(RecipeError, match=message):
        configure_mix(**weights)


def test_an_unknown_task_is_refused_with_the_nearest():
    with pytest.raises(TaskError, match="unknown task 'calculater': did you mean 'calculator'"):
        configure_mix(calculater=1.0)


def test_huge_and_tiny_weights_still_give_probabilities():
    assert configure_mix(calculator=1e308, tictactoe=1e308).probabilities == [0.5, 0.5]
    assert configure_mix(calculator=5e-324, tictactoe=5e-324).probabilities == [0.5, 0.5]
