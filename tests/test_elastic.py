"""The same global batches on any number of processes, workers, and rows at a time."""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys
from collections import Counter
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import PartialState
from accelerate.state import AcceleratorState

from mixgen import MixConfig, MixTrainer, RecipeError
from mixgen.encoding.packing import Row
from mixgen.encoding.rows import RowDataset
from mixgen.training.model import build_model

ROOT = Path(__file__).parent.parent
STEPS = 4
GLOBAL_BATCH = 24


class NumberedRows(RowDataset):
    """Rows that hold nothing but their own number."""

    def __getitem__(self, index: int) -> Row:
        number = np.full(8, self.first_row + index, dtype=np.int32)
        return Row(number, number, number, np.zeros(8, dtype=np.int32))


@pytest.fixture
def one_of(monkeypatch):
    """Makes this process one of several, as far as accelerate and transformers can tell."""
    begin = PartialState.__init__

    def become(rank: int, world: int) -> None:
        def begin_as(self, *args, **kwargs):
            begin(self, *args, **kwargs)
            self.num_processes, self.process_index, self.local_process_index = world, rank, rank

        monkeypatch.setattr(PartialState, "__init__", begin_as)

    yield become
    monkeypatch.undo()
    AcceleratorState._reset_state(reset_partial_state=True)


def steps_of_rank(rows_class, mix, renderer, tmp_path, *, start=0, **settings) -> list[list[Row]]:
    """The batches of each optimizer step, as the Trainer's own loader gives them to this rank."""
    config = MixConfig(
        output_dir=str(tmp_path),
        max_steps=STEPS,
        global_batch_size=GLOBAL_BATCH,
        depth=1,
        aspect_ratio=32,
        head_dim=32,
        max_seq_len=256,
        report_to="none",
        use_cpu=True,
        **settings,
    )
    rows = rows_class(mix, renderer, num_rows=STEPS * config.rows_per_step, max_seq_len=256)
    trainer = MixTrainer(
        model=build_model(config, renderer.tokenizer),
        args=config,
        train_dataset=rows,
        processing_class=renderer.tokenizer,
    )
    rows.start_at(row=start, step=start // config.rows_per_step)
    batches = list(trainer.get_train_dataloader())
    accumulation = config.gradient_accumulation_steps
    return [batches[at : at + accumulation] for at in range(0, len(batches), accumulation)]


@pytest.mark.parametrize("workers", [0, 1, 2, 3])
@pytest.mark.parametrize("world", [1, 2, 4, 8])
def test_every_step_trains_on_the_same_rows_whatever_the_cluster(
    world, workers, one_of, mix, renderer, tmp_path
):
    for batch in {1, 3, GLOBAL_BATCH // world} if world > 2 else {2, 4, 12}:
        if GLOBAL_BATCH % (batch * world):
            continue
        seen: list[list[int]] = [[] for _ in range(STEPS)]
        for rank in range(world):
            one_of(rank, world)
            steps = steps_of_rank(
                NumberedRows,
                mix,
                renderer,
                tmp_path,
                per_device_train_batch_size=batch,
                dataloader_num_workers=workers,
            )
            assert len(steps) == STEPS
            for step, batches in enumerate(steps):
                seen[step] += [row for b in batches for row in b["input_ids"][:, 0].tolist()]
        for step, numbers in enumerate(seen):
            first = step * GLOBAL_BATCH
            assert sorted(numbers) == list(range(first, first + GLOBAL_BATCH))


def test_rows_go_on_from_any_step_on_another_number_of_processes(one_of, mix, renderer, tmp_path):
    numbers = []
    for rank in range(4):
        one_of(rank, 4)
        steps = steps_of_rank(
            NumberedRows, mix, renderer, tmp_path, start=48, per_device_train_batch_size=3
        )
        numbers += [row for b in steps[0] for row in b["input_ids"][:, 0].tolist()]
    assert sorted(numbers) == list(range(48, 48 + GLOBAL_BATCH))


def test_a_batch_that_no_processes_can_share_is_refused_with_the_nearest(one_of, tmp_path):
    one_of(0, 4)
    settings = {"output_dir": str(tmp_path), "use_cpu": True, "max_steps": 1}
    with pytest.raises(
        RecipeError, match=r"global_batch_size 100 .* 4 process.*nearest: 96 or 128"
    ):
        MixConfig(global_batch_size=100, per_device_train_batch_size=8, **settings)
    with pytest.raises(RecipeError, match=r"; or per_device_train_batch_size 5$"):
        MixConfig(global_batch_size=100, per_device_train_batch_size=8, **settings)
    with pytest.raises(RecipeError, match=r"nearest: 32$"):
        MixConfig(global_batch_size=3, per_device_train_batch_size=8, **settings)


# --- the choice of task on several ranks ---


def games_by_rank(world: int, steps: int, mix, renderer) -> np.ndarray:
    """Games among the examples of each rank's batches of 16 rows, shape (world, steps)."""
    rows = RowDataset(mix, renderer, num_rows=16 * world * steps, max_seq_len=256)
    games = [
        int(((row.position_ids == 0) & (row.task_ids == 1)).sum())
        for row in (rows[index] for index in range(len(rows)))
    ]
    return np.array(games).reshape(steps, world, 16).sum(axis=2).T


def most_correlated(games: np.ndarray) -> float:
    world = len(games)
    return float(np.abs(np.corrcoef(games)[np.triu_indices(world, k=1)]).max())


def test_ranks_choose_tasks_independently_of_each_other(mix, renderer):
    steps = 150
    assert most_correlated(games_by_rank(4, steps, mix, renderer)) < 3.5 / math.sqrt(steps)


def test_the_plain_way_would_fail_that_test(mix):
    """Shards of an interleaved dataset: every rank draws the same sequence of tasks."""
    from datasets import IterableDataset, interleave_datasets

    def names(name, blocks):  # several shards, or only one rank would have anything to read
        for _ in blocks:
            for _ in range(500):
                yield {"task": name}

    plain = interleave_datasets(
        [
            IterableDataset.from_generator(
                names, gen_kwargs={"name": task.name, "blocks": list(range(4))}
            )
            for task in mix.active
        ],
        probabilities=mix.probabilities,
        seed=42,
    )
    games = []
    for rank in range(4):
        shard = plain.shard(num_shards=4, index=rank).take(16 * 20)
        tasks = [example["task"] == "tictactoe" for example in shard]
        games.append(np.array(tasks).reshape(20, 16).sum(axis=1))
    assert most_correlated(np.array(games)) == pytest.approx(1.0)


# --- rows that never change ---


GOLDEN = {
    0: "8f5eb6f3289d0e3e",
    1: "847c77af323f66a9",
    10**9: "9796d0462867fae1",
}


def digest_of(row: Row) -> str:
    digest = blake2b(digest_size=8)
    for array in row:
        digest.update(array.tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize("index", GOLDEN)
def test_rows_of_the_default_mix_are_what_they_always_were(index, mix, renderer):
    # Whoever changes these changes the data of every run: say so in the log.
    for noise in (1, 2):
        random.seed(noise)  # noqa: TID251
        np.random.seed(noise)  # noqa: NPY002, TID251
        torch.manual_seed(noise)
        rows = RowDataset(mix, renderer, num_rows=index + 1)
        assert digest_of(rows[index]) == GOLDEN[index]


# --- real processes ---


def recorded_run(world: int, tmp_path: Path) -> tuple[list[dict], list[Counter], list[set]]:
    """The log, the rows of each step, and the rows of each rank of a run on `world` processes."""
    folder = tmp_path / f"rows-{world}"
    folder.mkdir()
    words = [
        str(Path(sys.executable).parent / "accelerate"),
        "launch",
        "--config_file=recipes/accelerate/cpu.yaml",
        f"--num_processes={world}",
        "tests/recording_run.py",
        "recipes/quickstart.yaml",
        "--depth=1",
        "--max_seq_len=256",
        "--per_device_train_batch_size=2",
        "--global_batch_size=8",
        "--max_steps=6",
        "--logging_steps=1",
        f"--output_dir={tmp_path}/run-{world}",
    ]
    environment = {**os.environ, "ROWS_FOLDER": str(folder), "OMP_NUM_THREADS": "1"}
    environment |= {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    state = json.loads((tmp_path / f"run-{world}" / "trainer_state.json").read_text())
    steps = [Counter() for _ in range(6)]
    ranks = []
    for file in sorted(folder.iterdir()):
        lines = [line.split() for line in file.read_text().splitlines()]
        ranks.append({digest for _, digest in lines})
        for step, digest in lines:
            steps[int(step)][digest] += 1
    return [entry for entry in state["log_history"] if "loss" in entry], steps, ranks


@pytest.mark.slow
@pytest.mark.guard
def test_one_two_and_four_processes_train_as_one(tmp_path):
    alone, rows_of_steps, _ = recorded_run(1, tmp_path)
    assert [sum(rows.values()) for rows in rows_of_steps] == [8] * 6
    assert len(alone) == 6
    for world in (2, 4):
        log, steps, ranks = recorded_run(world, tmp_path)
        assert steps == rows_of_steps
        assert len(ranks) == world
        assert sum(map(len, ranks)) == len(set().union(*ranks)) == 48
        for one, other in zip(alone, log, strict=True):
            for key in ("step", "loss", "loss/calculator", "loss/tictactoe", "examples/tictactoe"):
                assert other[key] == pytest.approx(one[key], rel=1e-5)
            assert other["grad_norm"] == pytest.approx(one["grad_norm"], rel=1e-4)
