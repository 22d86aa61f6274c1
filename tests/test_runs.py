"""Whole runs of run_train.py, as users start them: on several processes, stopped, resumed, with a
task of their own.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import small_run
import yaml
from example_task import TASK
from transformers import AutoModelForCausalLM, AutoTokenizer

from mixgen.main import main
from mixgen.recipe import parse_recipe
from mixgen.training.checkpoint import commit, seal
from mixgen.training.run_dir import RunLock

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
SMALL = [
    "--depth=1",
    "--max_seq_len=256",
    "--per_device_train_batch_size=2",
    "--global_batch_size=4",
    "--test_examples=10",
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
LAUNCHED = [
    str(BIN / "accelerate"),
    "launch",
    "--num_processes=1",
    "--num_machines=1",
    "--mixed_precision=no",
    "--dynamo_backend=no",
    "run_train.py",
]
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


def test_a_directory_that_another_run_used_while_this_one_started_is_left_alone(
    tmp_path, monkeypatch, capsys
):
    acquire = RunLock.acquire

    def acquire_late(lock) -> None:  # the other run has just saved a checkpoint, and ended
        acquire(lock)
        staged = tmp_path / ".saving" / "checkpoint-5"
        staged.mkdir(parents=True)
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe.resolved))
        state = {"next_row": 20, "fingerprint": "", "versions": {}, "decisions": {}}
        seal(staged, {"step": 5, **state})
        commit(staged, tmp_path / "checkpoint-5")

    words = ["recipes/quickstart.yaml", *SMALL, "--max_steps=9", f"--output_dir={tmp_path}"]
    recipe = parse_recipe([*words, "--use_cpu"])
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(RunLock, "acquire", acquire_late)
    assert main([*words, "--use_cpu"]) == 2
    assert "another run was training in" in capsys.readouterr().err
    assert not (tmp_path / "model.safetensors").exists()


@pytest.mark.slow
def test_torchrun_trains_as_one_process_does(tmp_path):
    # `accelerate launch` of 1, 2 and 4 processes: test_elastic.
    words = ["recipes/quickstart.yaml", *SMALL, "--max_steps=6", "--logging_steps=2"]
    run(ONE, [*words, f"--output_dir={tmp_path / 'one'}"])
    shown = run(TORCHRUN, [*words, f"--output_dir={tmp_path / 'two'}"])
    assert "2 process(es)" in shown
    assert shown.count("Generator mix") == shown.count("step 6/6") == 1
    assert_same_run(tmp_path / "one", tmp_path / "two", rel=1e-5)


def stop(
    launch: list[str], words: list[str], number: int, whom: Callable[[int], int] = int
) -> tuple[str, str, int]:
    """Starts a run and sends a process, by default its first, a signal once it trains."""
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
    try:
        for line in process.stdout:
            shown += line
            if line.startswith("step "):
                os.kill(whom(process.pid), number)
                break
        rest, errors = process.communicate(timeout=120)
    finally:
        process.kill()
    return shown + rest, errors, process.returncode


@pytest.mark.slow
def test_a_signal_to_one_of_two_processes_stops_both(tmp_path):
    words = ["recipes/quickstart.yaml", *SMALL, "--max_steps=2000", "--logging_steps=5"]
    shown, errors, status = stop(
        TORCHRUN,
        [*words, f"--output_dir={tmp_path}"],
        signal.SIGTERM,
        whom=lambda pid: psutil.Process(pid).children()[-1].pid,
    )
    assert status == 0 and "Traceback" not in errors
    assert "which is saved. The same command goes on from there." in shown


def log_without_times(output_dir: Path) -> list[dict[str, float]]:
    return small_run.without_times(losses(output_dir))


@pytest.mark.slow
@pytest.mark.guard
def test_two_processes_share_an_evaluation_and_find_what_one_finds(tmp_path):
    out = tmp_path / "two"
    words = [*SMALL, "--max_steps=6", "--eval_steps=3", "--eval_examples=5", f"--output_dir={out}"]
    run(TWO, words)
    history = json.loads((out / "trainer_state.json").read_text())["log_history"]
    tried = [entry for entry in history if "eval_calculator/exact" in entry]
    assert [entry["step"] for entry in tried] == [3, 6]  # each once, not once a process
    command = [sys.executable, "-m", "mixgen.cli", "eval", str(out), "--num-examples=10"]
    run(command, ["--output", str(tmp_path / "one.json")])
    shared = json.loads((out / "evaluation.json").read_text())["results"]
    alone = json.loads((tmp_path / "one.json").read_text())["results"]
    assert shared == alone
    assert shared[0]["metrics"][0]["total"] == 10


@pytest.mark.slow
def test_an_evaluation_that_was_interrupted_is_made_up_for(tmp_path):
    words = [*SMALL, "--max_steps=2", f"--output_dir={tmp_path / 'out'}"]
    run(ONE, words)
    for name in ("report.html", "README.md", "evaluation.json"):
        (tmp_path / "out" / name).unlink()
    shown = run(ONE, words)
    assert "holds this run, finished" in shown and "Trying the trained model" in shown
    assert (tmp_path / "out/report.html").is_file() and (tmp_path / "out/README.md").is_file()
    assert "Trying the trained model" not in run(ONE, words)


@pytest.mark.slow
@pytest.mark.parametrize(
    "number", [pytest.param(signal.SIGTERM, marks=pytest.mark.guard), signal.SIGINT]
)
def test_a_stopped_run_goes_on_where_it_was_with_the_same_command(number, tmp_path):
    words = ["recipes/gradual_tictactoe.yaml", *SMALL, "--max_steps=200", "--logging_steps=5"]
    words.append("--eval_steps=0")
    run(ONE, [*words, f"--output_dir={tmp_path / 'whole'}"])
    words.append(f"--output_dir={tmp_path / 'stopped'}")
    shown, errors, status = stop(ONE, words, number)
    assert status == 0 and "Traceback" not in errors
    assert "which is saved. The same command goes on from there." in shown
    assert not (tmp_path / "stopped" / "model.safetensors").exists()
    again = run(ONE, words)
    assert "Going on from" in again and "step 100: weights are now" in again
    assert log_without_times(tmp_path / "stopped") == log_without_times(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize(
    "launch",
    [LAUNCHED, pytest.param(TWO, marks=pytest.mark.guard), TORCHRUN],
    ids=["one", "accelerate", "torchrun"],
)
def test_a_signal_to_the_launcher_saves_on_all_processes(launch, tmp_path):
    words = ["recipes/quickstart.yaml", *SMALL, "--max_steps=2000", "--logging_steps=5"]
    words.append(f"--output_dir={tmp_path}")
    shown, _, status = stop(launch, words, signal.SIGTERM)
    assert "which is saved. The same command goes on from there." in shown
    assert status != 0  # the launchers say that they were stopped
    (checkpoint,) = tmp_path.glob("checkpoint-*")
    step = int(checkpoint.name.removeprefix("checkpoint-"))
    shown = run(
        ONE,
        [*words[:-2], "--logging_steps=1", words[-1], f"--max_steps={step + 2}", "--resume_anyway"],
    )
    assert f"Going on from {checkpoint}." in shown
    assert [entry["step"] for entry in losses(tmp_path)][-2:] == [step + 1, step + 2]


@pytest.mark.slow
@pytest.mark.guard
def test_a_run_killed_at_any_moment_ends_as_one_left_alone(capsys):
    path = ROOT / "benchmarks" / "kill_test.py"
    spec = importlib.util.spec_from_file_location("kill_test", path)
    kill_test = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(kill_test)
    inside, compared = kill_test.main(["--kills=4", "--steps=60", "--seed=4"])
    assert inside >= 1 and compared == 20
    assert capsys.readouterr().out.count("went on") >= 2


# As run_train.py, but after its first checkpoint no file may grow over 50 kB: the optimizer's does.
FULL_AFTER_ONE_SAVE = """
import resource, runpy, sys
import mixgen.training.resumable as resumable

def then_full(folder, final):
    commit(folder, final)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

commit, resumable.commit = resumable.commit, then_full
sys.argv = sys.argv[1:]
runpy.run_path("run_train.py", run_name="__main__")
"""


@pytest.mark.slow
def test_a_disk_that_is_full_is_one_line_and_the_checkpoint_before_is_gone_on_from(tmp_path):
    words = ["recipes/quickstart.yaml", *SMALL, "--max_steps=20", "--save_steps=10"]
    words.append(f"--output_dir={tmp_path}")
    done = subprocess.run(
        [sys.executable, "-c", FULL_AFTER_ONE_SAVE, "run_train.py", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=ENV,
    )
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: step 20 cannot be saved in ")
    assert "File too large" in line and "goes on from the last" in line
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-10"]
    assert f"Going on from {tmp_path / 'checkpoint-10'}." in run(ONE, words)


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
@pytest.mark.guard
def test_a_short_training_learns_both_tasks(tmp_path):
    words = [
        "recipes/quickstart.yaml",
        "--max_steps=60",
        "--logging_steps=20",
        "--eval_steps=30",
        "--eval_examples=10",
        "--test_examples=10",
        f"--output_dir={tmp_path / 'run'}",
    ]
    run(ONE, words)
    assert (tmp_path / "run/report.html").is_file()
    first, *_, last = losses(tmp_path / "run")
    for task, bound in (("calculator", 63), ("tictactoe", 27)):  # nats an example, however cut
        started, ended = (
            entry[f"loss/{task}"] * entry[f"tokens/{task}"] / entry[f"examples/{task}"]
            for entry in (first, last)
        )
        assert ended < bound < started
