"""Checkpoints: whole or not there; a run that goes on from one is the run that never stopped."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import small_run
import torch
import yaml
from transformers import TrainerCallback

from mixgen import MixTrainer, OutputError, RecipeError, configure_mix
from mixgen.cards import BEGIN, END, card_text
from mixgen.encoding.rows import RowDataset
from mixgen.files import write_whole
from mixgen.mixture.adaptive import AdaptiveConfig, AdaptiveSchedule, next_weights
from mixgen.mixture.schedule import Schedule
from mixgen.training.callbacks import ECHO_SECONDS, StopCallback
from mixgen.training.checkpoint import commit, newest_checkpoint, rotate, seal
from mixgen.training.mix_callback import MixCallback, mean_losses
from mixgen.training.model import build_model
from mixgen.training.run_dir import RunLock, inspect_run_dir, prepare_run_dir

STEPS = {
    "per_device_train_batch_size": 2,
    "max_steps": 12,
    "logging_steps": 3,
    "save_steps": 4,
    "save_total_limit": 9,
}


def trainer_of(mix, renderer, output_dir, **settings) -> MixTrainer:
    trainer = small_run.trainer_of(mix, renderer, output_dir, **{**STEPS, **settings})
    trainer.add_callback(MixCallback(trainer.train_dataset.schedule, max_task_share=1.0))
    return trainer


def history(trainer) -> list[dict[str, float]]:
    return small_run.without_times([e for e in trainer.state.log_history if "loss" in e])


@pytest.fixture(scope="module")
def whole(mix, renderer, tmp_path_factory):
    """A run that nothing interrupted, with checkpoints at steps 4, 8 and 12."""
    trainer = trainer_of(mix, renderer, tmp_path_factory.mktemp("whole"))
    trainer.train()
    return trainer


# --- going on ---


@pytest.mark.parametrize("step", [4, 8])
def test_a_resumed_run_logs_and_ends_exactly_as_the_uninterrupted_one(
    step, whole, mix, renderer, tmp_path
):
    resumed = trainer_of(mix, renderer, tmp_path)
    resumed.train(resume_from_checkpoint=f"{whole.args.output_dir}/checkpoint-{step}")
    assert [entry["step"] for entry in history(whole)] == [3, 6, 9, 12]
    assert history(resumed) == history(whole)  # also the entry that step falls into
    for one, other in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(("batch", "accumulation"), [(1, 4), (4, 1)])
def test_a_run_goes_on_in_other_batches(batch, accumulation, mix, renderer, tmp_path):
    first = trainer_of(mix, renderer, tmp_path / "a", gradient_accumulation_steps=2)
    first.train()
    settings = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulation}
    other = trainer_of(mix, renderer, tmp_path / "b", **settings)
    other.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-8"))
    for one, two in zip(history(first), history(other), strict=True):
        assert one.keys() == two.keys()
        for key, value in one.items():
            assert two[key] == pytest.approx(value, rel=1e-4 if key == "grad_norm" else 1e-5)


def test_resuming_makes_no_block_but_those_that_are_trained_on(
    whole, mix, renderer, tmp_path, monkeypatch
):
    made = []
    make = RowDataset.make_block
    monkeypatch.setattr(
        RowDataset, "make_block", lambda self, block: made.append(block) or make(self, block)
    )
    resumed = trainer_of(mix, renderer, tmp_path)
    resumed.train(resume_from_checkpoint=f"{whole.args.output_dir}/checkpoint-8")
    # Rows 16 to 23 are left, of the block of rows 16 to 31; -1 is the fingerprint's.
    assert [block.first_row for block in made] == [-1, 16]


def test_time_to_the_first_step_does_not_grow_with_the_steps_done(whole, mix, renderer, tmp_path):
    def seconds_to_first_row(step: int) -> float:
        trainer = trainer_of(mix, renderer, tmp_path / str(step), max_steps=2 * step)
        folder = tmp_path / f"checkpoint-{step}"
        shutil.copytree(f"{whole.args.output_dir}/checkpoint-8", folder)
        for name in ("trainer_state.json", "mixgen_state.json"):
            state = json.loads((folder / name).read_text())
            changed = {
                "global_step": step,
                "step": step,
                "next_row": 2 * step,
                "max_steps": 2 * step,
            }
            state |= {key: value for key, value in changed.items() if key in state}
            state.get("files", {}).pop("trainer_state.json", None)
            (folder / name).write_text(json.dumps(state))
        trainer.add_callback(StopAtOnce())
        rows = trainer.train_dataset
        rows.fill_at(0, 16), rows.fingerprint
        started = time.perf_counter()
        trainer.train(resume_from_checkpoint=str(folder))
        assert trainer.state.global_step == step + 1
        assert min(rows._last_rows) <= 2 * step < max(rows._last_rows)
        return time.perf_counter() - started

    seconds_to_first_row(10)  # warm
    few, many = seconds_to_first_row(1_000), seconds_to_first_row(1_000_000)
    assert many < 2 * few + 0.25


class StopAtOnce(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = True


def test_a_resumed_run_logs_and_saves_as_it_is_asked_now(whole, mix, renderer, tmp_path):
    resumed = trainer_of(mix, renderer, tmp_path, save_steps=1, logging_steps=1)
    resumed.train(resume_from_checkpoint=f"{whole.args.output_dir}/checkpoint-8")
    assert len(list(tmp_path.glob("checkpoint-*"))) == 4
    assert [entry["step"] for entry in history(resumed)] == [3, 6, 9, 10, 11, 12]


def test_a_schedule_goes_on_where_it_was(renderer, tmp_path):
    tasks = configure_mix(calculator=1.0, tictactoe=1.0).tasks
    points = (((0, 1.0),), ((0, 0.0), (5, 1.0), (9, 3.0)))
    schedule = Schedule(tasks=tasks, points=points, num_steps=12)
    first = trainer_of(schedule, renderer, tmp_path / "a", per_device_train_batch_size=4)
    first.train()
    resumed = trainer_of(schedule, renderer, tmp_path / "b", per_device_train_batch_size=4)
    resumed.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-4"))
    assert history(resumed) == history(first)
    assert [entry["examples/tictactoe"] > 0 for entry in history(first)] == [
        False,
        True,
        True,
        True,
    ]


def test_adaptive_weights_go_on_where_they_were(renderer, tmp_path, capsys):
    mix = configure_mix(calculator=1.0, tictactoe=1.0)

    def trainer(folder) -> MixTrainer:
        schedule = AdaptiveSchedule(
            tasks=mix.tasks,
            points=tuple(((0, weight),) for weight in mix.weights),
            num_steps=12,
            config=AdaptiveConfig(every=3, rate=5.0),
        )
        return trainer_of(schedule, renderer, folder, logging_steps=2, learning_rate=1e-2)

    first = trainer(tmp_path / "a")
    first.train()
    said = capsys.readouterr().out
    assert "step 3: weights from step 6 on will be calculator=" in said
    decisions = first.train_dataset.schedule.decisions
    assert decisions[0] == decisions[1] == [1.0, 1.0] != decisions[2] != decisions[3]
    stage = [entry for entry in history(first) if 3 < entry["step"] <= 6]  # decides the fourth
    losses = mean_losses(stage, ["calculator", "tictactoe"]).values()
    assert decisions[3] == next_weights(decisions[2], list(losses), rate=5.0, smoothing=0.1)
    for step in (4, 8):  # between decisions
        resumed = trainer(tmp_path / str(step))
        resumed.train(resume_from_checkpoint=str(tmp_path / "a" / f"checkpoint-{step}"))
        assert history(resumed) == history(first)
        assert resumed.train_dataset.schedule.decisions == decisions


def test_a_checkpoint_says_where_the_data_goes_on(whole):
    state = newest_checkpoint(Path(whole.args.output_dir))[0].state
    assert (state["step"], state["next_row"], state["global_batch_size"]) == (12, 24, 2)
    assert (state["seed"], state["rows_per_block"], state["max_seq_len"]) == (42, 16, 256)
    assert state["weights"] == "calculator=1.0, tictactoe=0.5"
    assert state["versions"].keys() >= {"mixgen", "torch", "numpy", "datasets"}


def test_other_rows_are_refused_unless_they_are_wanted(whole, renderer, tmp_path):
    checkpoint = f"{whole.args.output_dir}/checkpoint-8"
    other = configure_mix(calculator=1.0)
    with pytest.raises(OutputError, match=r"other rows than this recipe gives now.*a task's code"):
        trainer_of(other, renderer, tmp_path).train(resume_from_checkpoint=checkpoint)
    anyway = trainer_of(other, renderer, tmp_path, resume_anyway=True)
    anyway.train(resume_from_checkpoint=checkpoint)
    assert anyway.state.global_step == 12


def test_another_batch_size_goes_on_at_the_next_row(whole, mix, renderer, tmp_path, monkeypatch):
    seen = []
    get = RowDataset.__getitem__
    monkeypatch.setattr(
        RowDataset,
        "__getitem__",
        lambda self, index: seen.append(self.first_row + index) or get(self, index),
    )
    wider = trainer_of(mix, renderer, tmp_path, per_device_train_batch_size=3, resume_anyway=True)
    wider.train(resume_from_checkpoint=f"{whole.args.output_dir}/checkpoint-8")
    assert seen[:12] == list(range(16, 28))  # 8 steps of 2 rows are done, 4 of 3 are left


def test_a_checkpoint_of_another_model_or_a_damaged_one_is_one_error(
    whole, mix, renderer, tmp_path
):
    checkpoint = f"{whole.args.output_dir}/checkpoint-8"
    wider = trainer_of(mix, renderer, tmp_path / "a", aspect_ratio=64, resume_anyway=True)
    with pytest.raises(OutputError, match=r"checkpoint-8 does not fit this run.*size mismatch"):
        wider.train(resume_from_checkpoint=checkpoint)
    other = trainer_of(mix, renderer, tmp_path / "c", optim="sgd", resume_anyway=True)
    with pytest.raises(OutputError, match="another optimizer saved it"):
        other.train(resume_from_checkpoint=checkpoint)
    for name in (
        "model.safetensors",
        "optimizer.pt",
        "scheduler.pt",
        "rng_state.pth",
        "trainer_state.json",
        "mixgen_state.json",
    ):
        damaged = tmp_path / name / "checkpoint-8"
        shutil.copytree(checkpoint, damaged)
        (damaged / name).write_bytes(b"\0" * (damaged / name).stat().st_size)
        with pytest.raises(OutputError, match=r"is damaged|cannot be read"):
            trainer_of(mix, renderer, tmp_path / "b").train(resume_from_checkpoint=str(damaged))


def test_weights_that_adapt_within_what_is_made_ahead_are_refused(mix, renderer, tmp_path):
    points = tuple(((0, weight),) for weight in mix.weights)
    schedule = AdaptiveSchedule(
        tasks=mix.tasks, points=points, num_steps=12, config=AdaptiveConfig(every=3)
    )
    trainer_of(schedule, renderer, tmp_path)
    with pytest.raises(RecipeError, match="every must be at least 6, got 3: rows are made that"):
        trainer_of(schedule, renderer, tmp_path, dataloader_num_workers=2)


def test_training_again_begins_with_the_first_row(whole, mix, renderer, tmp_path):
    trainer = trainer_of(mix, renderer, tmp_path)
    trainer.train(resume_from_checkpoint=f"{whole.args.output_dir}/checkpoint-8")
    trainer.model.load_state_dict(build_model(trainer.args, renderer.tokenizer).state_dict())
    trainer.optimizer = None
    trainer.train()
    assert [e["num_input_tokens_seen"] for e in history(trainer)] == [
        e["num_input_tokens_seen"] for e in history(whole)
    ]


# --- saving ---


STATE = {"step": 5, "next_row": 10, "fingerprint": "", "versions": {}, "decisions": {}}


def folder_of(tmp_path, step=5):
    folder = tmp_path / "run" / ".saving" / f"checkpoint-{step}"
    (folder / "sub").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"x" * 1000)
    (folder / "sub" / "part").write_bytes(b"y" * 10)
    return folder


def test_a_kill_at_any_moment_of_a_save_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    run = tmp_path / "run"
    seal(folder_of(tmp_path, 5), {**STATE, "step": 5})
    commit(run / ".saving" / "checkpoint-5", run / "checkpoint-5")
    calls = [(os, "fsync"), (Path, "rename"), (Path, "write_text")]
    cut_off = 0
    for owner, name in calls:
        real = getattr(owner, name)
        for number in range(9):
            count = iter(range(99))

            def killed(*args, _real=real, _number=number, _count=count):
                if next(_count) == _number:
                    raise KeyboardInterrupt
                return _real(*args)

            folder = folder_of(tmp_path, 6)
            with monkeypatch.context() as patched:
                patched.setattr(owner, name, killed)
                try:
                    seal(folder, {**STATE, "step": 6})
                    commit(folder, run / "checkpoint-6")
                except KeyboardInterrupt:
                    cut_off += 1
            newest, passed_over = newest_checkpoint(run)
            assert newest.path.name in ("checkpoint-5", "checkpoint-6")
            assert not passed_over
            shutil.rmtree(run / ".saving", ignore_errors=True)
            shutil.rmtree(run / "checkpoint-6", ignore_errors=True)
    assert cut_off > 6


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (lambda folder: (folder / "model.safetensors").write_bytes(b"x"), "has 1 of 1,000 bytes"),
        (lambda folder: (folder / "sub" / "part").unlink(), "it has no sub/part"),
        (lambda folder: (folder / "mixgen_state.json").unlink(), "it has no mixgen_state.json"),
        (lambda folder: (folder / "mixgen_state.json").write_text("{"), "cannot be read"),
        (lambda folder: (folder / "mixgen_state.json").write_text("[]"), "cannot be read"),
    ],
)
def test_a_broken_checkpoint_is_passed_over_with_the_reason(harm, reason, tmp_path):
    run = tmp_path / "run"
    for step in (5, 40, 7):
        seal(folder_of(tmp_path, step), {**STATE, "step": step})
        commit(run / ".saving" / f"checkpoint-{step}", run / f"checkpoint-{step}")
    (run / "checkpoint-best").mkdir()
    harm(run / "checkpoint-40")
    newest, passed_over = newest_checkpoint(run)
    assert newest.path == run / "checkpoint-7"
    assert len(passed_over) == 1
    assert "checkpoint-40 is not complete" in passed_over[0] and reason in passed_over[0]


def test_a_checkpoint_comes_to_its_place_by_one_rename(tmp_path):
    staged, final = folder_of(tmp_path), tmp_path / "run" / "checkpoint-5"
    seal(staged, {**STATE, "step": 5})
    number = staged.stat().st_ino
    commit(staged, final)
    assert final.stat().st_ino == number  # the same directory: at no time was it there in part
    assert not staged.parent.exists()


def test_a_broken_checkpoint_is_replaced_when_the_run_comes_by_again(tmp_path):
    run = tmp_path / "run"
    (run / "checkpoint-5").mkdir(parents=True)
    (run / "checkpoint-5" / "junk").write_text("")
    seal(folder_of(tmp_path, 5), {**STATE, "step": 5})
    commit(run / ".saving" / "checkpoint-5", run / "checkpoint-5")
    assert not (run / "checkpoint-5" / "junk").exists()
    assert {path.name for path in run.iterdir()} == {"checkpoint-5"}


@pytest.mark.parametrize("failing", ["optimizer", "model", "mark"])
def test_a_full_disk_is_one_error_and_the_last_checkpoint_stays(
    failing, mix, renderer, tmp_path, monkeypatch
):
    trainer = trainer_of(mix, renderer, tmp_path)

    def full(*args, **kwargs):
        if trainer.state.global_step > 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*args, **kwargs)

    owner, name = {
        "optimizer": (torch, "save"),
        "model": (type(trainer.model), "save_pretrained"),
        "mark": (Path, "write_text"),
    }[failing]
    real = getattr(owner, name)
    monkeypatch.setattr(owner, name, full)
    with pytest.raises(OutputError, match=r"step 8 cannot be saved in .*No space left on device"):
        trainer.train()
    monkeypatch.undo()
    newest, passed_over = newest_checkpoint(tmp_path)
    assert newest.path.name == "checkpoint-4" and not passed_over
    assert not (tmp_path / ".saving").exists()
    again = trainer_of(mix, renderer, tmp_path)
    again.train(resume_from_checkpoint=True)
    assert again.state.global_step == 12


def test_a_text_file_that_cannot_be_written_is_named_and_leaves_nothing(tmp_path, monkeypatch):
    def full(written, final):
        raise OSError(errno.ENOSPC, "No space left on device", str(written))

    monkeypatch.setattr("mixgen.files.replace", full)
    with pytest.raises(OSError, match="No space left") as caught:
        write_whole(tmp_path / "report.html", "text")
    assert caught.value.filename == str(tmp_path / "report.html")
    assert not list(tmp_path.iterdir())


def test_old_checkpoints_are_deleted_only_when_a_new_one_is_in_its_place(mix, renderer, tmp_path):
    trainer_of(mix, renderer, tmp_path, save_steps=2, save_total_limit=2).train()
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == [
        "checkpoint-10",
        "checkpoint-12",
    ]
    assert not (tmp_path / ".saving").exists()


@pytest.mark.parametrize("limit", [1, 2])
def test_incomplete_checkpoints_never_crowd_out_complete_ones(limit, tmp_path):
    run = tmp_path / "run"
    for step in (20, 30, 40, 45):
        seal(folder_of(tmp_path, step), {**STATE, "step": step})
        commit(run / ".saving" / f"checkpoint-{step}", run / f"checkpoint-{step}")
    for step in (40, 45):
        (run / f"checkpoint-{step}" / "model.safetensors").write_bytes(b"")
    seal(folder_of(tmp_path, 35), {**STATE, "step": 35})
    commit(run / ".saving" / "checkpoint-35", run / "checkpoint-35")
    rotate(run, kept={run / "checkpoint-35"}, limit=limit)
    newest, passed_over = newest_checkpoint(run)
    assert newest.path == run / "checkpoint-35" and len(passed_over) == 2
    assert (run / "checkpoint-30").exists() == (limit == 2)
    assert not (run / "checkpoint-20").exists()


# --- the output directory ---


RECIPE = {
    "weights": {"calculator": 1.0, "tictactoe": {0: 0.2, 0.5: 1.0}},
    "depth": 4,
    "max_seq_len": 256,
    "rows_per_block": 16,
    "global_batch_size": 8,
    "save_steps": 10,
}


def add_checkpoint(run, step, recipe=RECIPE):
    staged = run / ".saving" / f"checkpoint-{step}"
    staged.mkdir(parents=True)
    (staged / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    seal(staged, {**STATE, "step": step})
    commit(staged, run / f"checkpoint-{step}")


def test_an_output_directory_tells_this_run_from_another(tmp_path):
    run = tmp_path / "run"
    assert inspect_run_dir(run, RECIPE) == (None, False, [], [])
    prepare_run_dir(run, RECIPE, overwrite=False)
    assert yaml.safe_load((run / "recipe.yaml").read_text()) == RECIPE
    # Nothing is saved yet, so nothing can be lost.
    assert inspect_run_dir(run, RECIPE | {"depth": 5}) == (None, False, [], [])
    add_checkpoint(run, 5)
    assert inspect_run_dir(run, RECIPE | {"save_steps": 20}).checkpoint == run / "checkpoint-5"
    deeper = RECIPE | {"depth": 5}
    with pytest.raises(OutputError, match=r"holds another run \(depth 4 -> 5\).*--resume_anyway"):
        inspect_run_dir(run, deeper)
    assert inspect_run_dir(run, deeper, resume_anyway=True).checkpoint == run / "checkpoint-5"
    (run / "trainer_state.json").write_text("{}")
    assert inspect_run_dir(run, RECIPE).finished
    assert inspect_run_dir(run, deeper, overwrite=True) == (None, False, [], [])
    assert inspect_run_dir(run, RECIPE).step == 5
    longer = inspect_run_dir(run, RECIPE | {"train_tokens": 9}, resume_anyway=True)
    assert longer == (run / "checkpoint-5", False, [], ["train_tokens unset -> 9"])


def test_a_finished_run_without_checkpoints_is_not_started_again_by_resuming(tmp_path):
    prepare_run_dir(tmp_path, RECIPE, overwrite=False)
    (tmp_path / "trainer_state.json").write_text("{}")
    assert inspect_run_dir(tmp_path, RECIPE, resume_anyway=True).finished
    with pytest.raises(OutputError, match="a finished run without a checkpoint to go on from"):
        inspect_run_dir(tmp_path, RECIPE | {"train_tokens": 9}, resume_anyway=True)


def test_a_checkpoint_knows_the_recipe_it_was_trained_by(tmp_path):
    prepare_run_dir(tmp_path, RECIPE, overwrite=False)
    add_checkpoint(tmp_path, 5)
    changed = RECIPE | {"learning_rate": 1.0}
    prepare_run_dir(tmp_path, changed, overwrite=False)  # with --resume_anyway, then killed
    with pytest.raises(OutputError, match=r"learning_rate unset -> 1\.0"):
        inspect_run_dir(tmp_path, changed)
    assert inspect_run_dir(tmp_path, RECIPE).checkpoint


def test_resume_can_be_demanded_and_forbidden(tmp_path):
    with pytest.raises(OutputError, match="holds no run to go on with"):
        inspect_run_dir(tmp_path, RECIPE, resume=True)
    prepare_run_dir(tmp_path, RECIPE, overwrite=False)
    (tmp_path / "checkpoint-5").mkdir()
    with pytest.raises(OutputError, match=r"to go on with \(.*checkpoint-5 is not complete"):
        inspect_run_dir(tmp_path, RECIPE, resume=True)
    assert inspect_run_dir(tmp_path, RECIPE, resume=False).checkpoint is None
    add_checkpoint(tmp_path, 5)
    assert inspect_run_dir(tmp_path, RECIPE, resume=True).checkpoint
    with pytest.raises(OutputError, match="holds a run already"):
        inspect_run_dir(tmp_path, RECIPE, resume=False)


def test_going_on_with_another_optimizer_is_refused_before_anything_is_written(tmp_path):
    recipe = RECIPE | {"optim": "muon"}
    prepare_run_dir(tmp_path, recipe, overwrite=False)
    add_checkpoint(tmp_path, 5, recipe)
    other = recipe | {"optim": "adamw_torch"}
    for finished in (False, True):
        if finished:
            (tmp_path / "trainer_state.json").write_text("{}")
        with pytest.raises(OutputError, match=r"saved by optim muon.*--optim=muon goes on"):
            inspect_run_dir(tmp_path, other, resume_anyway=True)
    assert inspect_run_dir(tmp_path, recipe | {"depth": 5}, resume_anyway=True).checkpoint


def test_going_on_deletes_the_report_of_the_model_before_but_no_card_of_others(tmp_path):
    prepare_run_dir(tmp_path, RECIPE, overwrite=False)
    for name in ("report.html", "evaluation.json", "evaluation-test.json", "notes.txt"):
        (tmp_path / name).write_text("")
    ours = card_text({"tags": ["mixgen"]}, "# The model before")
    for card, left in (
        (ours, None),
        (f"{ours}\nMine.\n", f"---\ntags:\n- mixgen\n---\n{BEGIN}\n\n{END}\n\nMine.\n"),
        ("# Mine", "# Mine"),
    ):
        (tmp_path / "README.md").write_text(card)
        prepare_run_dir(tmp_path, RECIPE, overwrite=False)
        path = tmp_path / "README.md"
        assert (path.read_text() if path.exists() else None) == left
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"recipe.yaml", "notes.txt", "README.md"}


def test_overwrite_deletes_what_a_run_writes_and_nothing_else(tmp_path):
    prepare_run_dir(tmp_path, RECIPE, overwrite=False)
    add_checkpoint(tmp_path, 5)
    for name in ("model.safetensors", "config.json", "tokenizer.json", "trainer_state.json"):
        (tmp_path / name).write_text("")
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "checkpoint-best").mkdir()
    prepare_run_dir(tmp_path, RECIPE | {"depth": 5}, overwrite=True)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"recipe.yaml", "notes.txt", "checkpoint-best"}


def test_an_overwrite_that_is_killed_can_be_done_again(tmp_path, monkeypatch):
    prepare_run_dir(tmp_path, RECIPE, overwrite=False)
    add_checkpoint(tmp_path, 5)
    (tmp_path / "model.safetensors").write_text("")

    def killed(path, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Path, "unlink", killed)
        prepare_run_dir(tmp_path, RECIPE | {"depth": 5}, overwrite=True)
    assert inspect_run_dir(tmp_path, RECIPE | {"depth": 5}, overwrite=True).checkpoint is None
    (tmp_path / "fresh").mkdir()
    for name in (".lock", ".recipe.yaml.123"):  # all that a kill before training leaves
        (tmp_path / "fresh" / name).write_text("")
    assert inspect_run_dir(tmp_path / "fresh", RECIPE) == (None, False, [], [])
    prepare_run_dir(tmp_path / "fresh", RECIPE, overwrite=False)
    assert sorted(path.name for path in (tmp_path / "fresh").iterdir()) == [".lock", "recipe.yaml"]


def test_a_recipe_of_another_kind_is_no_run(tmp_path):
    (tmp_path / "recipe.yaml").write_text("cake: flour")
    for overwrite in (False, True):
        with pytest.raises(OutputError, match="holds no mixgen run"):
            inspect_run_dir(tmp_path, RECIPE, overwrite=overwrite)
    prepare_run_dir(tmp_path / "sub", RECIPE, overwrite=True)


def test_a_directory_with_other_peoples_files_is_never_touched(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(OutputError, match="holds no mixgen run"):
            inspect_run_dir(tmp_path, {}, overwrite=overwrite)
    with pytest.raises(OutputError, match="is a file"):
        inspect_run_dir(tmp_path / "thesis.tex", {})


def test_two_runs_never_train_in_one_directory(tmp_path, monkeypatch):
    monkeypatch.setattr("mixgen.training.run_dir.LOCK_SECONDS", 0.1)
    hold = (
        "import pathlib, sys, time; from mixgen.training.run_dir import RunLock;"
        "lock = RunLock(pathlib.Path(sys.argv[1])); lock.acquire();"
        "print('held', flush=True); time.sleep(60)"
    )
    words = [sys.executable, "-c", hold, str(tmp_path)]
    other = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(OutputError, match="another run is training in output_dir"):
            RunLock(tmp_path).acquire()
    finally:
        other.kill()
        other.communicate()
    RunLock(tmp_path).acquire()  # a killed run leaves no lock behind
    assert inspect_run_dir(tmp_path, RECIPE).checkpoint is None


# --- signals ---


def test_a_signal_that_a_launcher_passes_on_is_not_a_second_one(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    stop = StopCallback()
    with stop.watching():
        signal.raise_signal(signal.SIGINT)
        now[0] += ECHO_SECONDS / 2
        signal.raise_signal(signal.SIGTERM)
        assert stop.asked_at == 100.0
        now[0] += ECHO_SECONDS
        monkeypatch.setattr(signal, "SIG_DFL", signal.default_int_handler)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
