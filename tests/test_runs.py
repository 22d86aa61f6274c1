"""Whole runs of run_train.py, as users start them: on several processes, stopped, resumed, with a
task of their own.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from example_task import TASK
from transformers import AutoModelForCausalLM, AutoTokenizer

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
SMALL = [
    "--depth=1",
    "--max_seq_len=256",
    "--per_device_train_batch_size=2",
    "--global_batch_size=4",
]
ONE = [sys.executable, "run_train.py"]
TWO = [
    str(BIN / "accelerate"),
    "launch",
    "--config_file",
    "recipes/accelerate/cpu.yaml",
    "run_train.py",
]
TORCHRUN = [str(BIN / "torchrun"), "--standalone", "--nproc_per_node=2", "run_train.py"]
ENV = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


def run(launch: list[str], words: list[str], cwd: Path = ROOT) -> str:
    done = subprocess.run(
        [*launch, *words],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        env=ENV,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def losses(output_dir: Path) -> list[dict[str, float]]:
    history = json.loads((output_dir / "trainer_state.json").read_text())["log_history"]
    return [entry for entry in history if "loss" in entry]


def assert_same_run(one: Path, other: Path, rel: float) -> None:
    keys = (
        "step",
        "loss",
        "loss/calculator",
        "loss/tictactoe",
        "tokens/tictactoe",
        "examples/calculator",
    )
    ours, theirs = losses(one), losses(other)
    assert len(ours) == len(theirs) > 1
    for a, b in zip(ours, theirs, strict=True):
        for key in (*keys, "num_input_tokens_seen"):
            assert a[key] == pytest.approx(b[key], rel=rel)
        assert a["grad_norm"] == pytest.approx(b["grad_norm"], rel=10 * rel)


def test_a_run_says_what_it_does_and_leaves_what_it_promises(tmp_path):
    out = tmp_path / "run"
    words = [
        "recipes/quickstart.yaml",
        *SMALL,
        "--max_steps=6",
        "--logging_steps=2",
        f"--output_dir={out}",
    ]
    shown = run(ONE, words)
    assert "Generator mix: calculator=1.0, tictactoe=0.5\n" in shown
    assert "Probabilities: calculator=0.6667, tictactoe=0.3333" in shown
    assert "parameters" in shown and "steps of 1,024 tokens" in shown
    assert "«<|python_start|>" in shown
    assert "step 2/6" in shown and "calculator" in shown and " left" in shown
    promised = {
        "model.safetensors",
        "config.json",
        "tokenizer.json",
        "trainer_state.json",
        "recipe.yaml",
    }
    assert promised | {"loss_by_task.png"} <= {path.name for path in out.iterdir()}
    assert (out / "loss_by_task.png").read_bytes().startswith(b"\x89PNG")
    model, tokenizer = AutoModelForCausalLM.from_pretrained(out), AutoTokenizer.from_pretrained(out)
    assert model.config.vocab_size >= len(tokenizer)

    saved = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert "holds this run, finished" in run(ONE, words)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == saved
    assert "step 6/6" in run(ONE, [*words, "--overwrite"])


@pytest.mark.slow
@pytest.mark.parametrize("launch", [TWO, TORCHRUN], ids=["accelerate", "torchrun"])
def test_two_processes_train_as_one(launch, tmp_path):
    words = ["recipes/quickstart.yaml", *SMALL, "--max_steps=6", "--logging_steps=2"]
    run(ONE, [*words, f"--output_dir={tmp_path / 'one'}"])
    shown = run(launch, [*words, f"--output_dir={tmp_path / 'two'}"])
    assert "2 process(es)" in shown
    assert shown.count("Generator mix") == shown.count("step 6/6") == 1
    assert_same_run(tmp_path / "one", tmp_path / "two", rel=1e-5)


def stop(launch: list[str], words: list[str], number: int) -> str:
    """Starts a run and sends it a signal once it trains."""
    process = subprocess.Popen(
        [*launch, *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENV,
    )
    assert process.stdout is not None
    shown = ""
    for line in process.stdout:
        shown += line
        if line.startswith("step "):
            process.send_signal(number)
            break
    rest, errors = process.communicate(timeout=120)
    assert process.returncode == 0, shown + rest + errors
    assert "Traceback" not in errors
    return shown + rest


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_run_goes_on_where_it_was_with_the_same_command(number, tmp_path):
    words = ["recipes/quickstart.yaml", *SMALL, "--max_steps=60", "--logging_steps=5"]
    run(ONE, [*words, f"--output_dir={tmp_path / 'whole'}"])
    words.append(f"--output_dir={tmp_path / 'stopped'}")
    shown = stop(ONE, words, number)
    assert "which is saved. The same command goes on from there." in shown
    assert not (tmp_path / "stopped" / "model.safetensors").exists()
    assert "Going on from" in run(ONE, words)
    whole, stopped = losses(tmp_path / "whole"), losses(tmp_path / "stopped")
    assert whole[-1]["step"] == stopped[-1]["step"] == 60
    assert whole[-1]["num_input_tokens_seen"] == stopped[-1]["num_input_tokens_seen"]
    # The stopped run has one log more, and its next one starts there: compare those of the same
    # five steps.
    assert whole[-1]["loss/calculator"] == pytest.approx(stopped[-1]["loss/calculator"], rel=1e-5)
    for name in ("calculator", "tictactoe"):
        for key in ("tokens", "examples"):
            assert sum(e[f"{key}/{name}"] for e in whole) == sum(
                e[f"{key}/{name}"] for e in stopped
            )


@pytest.mark.slow
def test_a_run_killed_at_any_moment_goes_on_from_its_last_checkpoint(tmp_path):
    words = [
        "recipes/quickstart.yaml",
        *SMALL,
        "--max_steps=60",
        "--logging_steps=5",
        "--save_steps=5",
    ]
    run(ONE, [*words, f"--output_dir={tmp_path / 'whole'}"])
    words.append(f"--output_dir={tmp_path / 'killed'}")
    for delay in (0.0, 0.2):
        process = subprocess.Popen(
            [*ONE, *words],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=ENV,
        )
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("step "):
                time.sleep(delay)
                process.kill()
                break
        assert process.wait() == -signal.SIGKILL
    assert "Going on from" in run(ONE, words)
    assert_same_run(tmp_path / "whole", tmp_path / "killed", rel=1e-5)


def copy_of_the_project(folder: Path) -> Path:
    for name in ("mixgen", "recipes"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "run_train.py", folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("way", ["dropped into mixgen/tasks", "named by the recipe"])
def test_a_new_task_in_one_file_has_its_flag_loss_and_share(way, tmp_path):
    source = TASK.replace("NAME", "parity").replace("FLAG", "par")
    project = copy_of_the_project(tmp_path / "project")
    words = [
        *SMALL,
        "--max_steps=30",
        "--logging_steps=30",
        "--par_weight=2.5",
        "--par_largest=999",
    ]
    words = [*words, "--calc_weight=2", "--ttt_weight=0.5", f"--output_dir={tmp_path / 'run'}"]
    if way == "named by the recipe":
        (project / "parity.py").write_text(source)
        (project / "recipes" / "mine.yaml").write_text("task_files: [parity.py]\n")
        words = ["recipes/mine.yaml", *words]
    else:
        (project / "mixgen" / "tasks" / "parity.py").write_text(source)
    shown = run(ONE, words, cwd=project)
    assert "Generator mix: calculator=2.0, parity=2.5, tictactoe=0.5" in shown
    assert "Probabilities: calculator=0.4000, parity=0.5000, tictactoe=0.1000" in shown
    (entry,) = losses(tmp_path / "run")
    assert entry["loss/parity"] > 0
    drawn = {name: entry[f"examples/{name}"] for name in ("calculator", "parity", "tictactoe")}
    share = drawn["parity"] / sum(drawn.values())
    assert share == pytest.approx(0.5, abs=3.29 * (0.25 / sum(drawn.values())) ** 0.5)


@pytest.mark.slow
def test_a_short_training_learns_both_tasks(tmp_path):
    words = [
        "recipes/quickstart.yaml",
        "--max_steps=60",
        "--logging_steps=20",
        f"--output_dir={tmp_path / 'run'}",
    ]
    run(ONE, words)
    first, *_, last = losses(tmp_path / "run")
    assert last["loss/calculator"] < 2.6 < first["loss/calculator"]
    assert last["loss/tictactoe"] < 0.6 < first["loss/tictactoe"]
