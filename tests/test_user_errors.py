"""Every mistake of a user ends in one clear line and exit status 2.

Most are made in this process, since libraries take seconds to load; some as the user makes them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from example_task import TASK

from mixgen.main import main

ROOT = Path(__file__).parent.parent
AS_USERS_DO = ["typo in a flag", "a row too short for a task", "an unknown tracker"]
QUICK = "recipes/quickstart.yaml"

# name: (content of recipe.yaml or None, command line, parts of the one line)
MISTAKES: dict[str, tuple[str | None, str, list[str]]] = {
    "typo in a flag": (None, "--dept=8", ["command line", "--dept", "did you mean '--depth'?"]),
    "typo in a weight's flag": (None, "--calk_weight=1", ["--calk_weight", "'--calc_weight'"]),
    "an abbreviated flag": (None, "--learning=1", ["unknown flag --learning"]),
    "typo in a key": ("depht: 4", "", ["recipe.yaml", "'depht'", "'depth'"]),
    "typo in a task": (
        "weights: {calculater: 1}",
        "",
        ["recipe.yaml", "'calculater'", "'calculator'"],
    ),
    "typo in a task's section": (
        "tictactoo: {}",
        "",
        ["recipe.yaml", "'tictactoo'", "'tictactoe'"],
    ),
    "typo in a setting": (
        "calculator: {max_dept: 2}",
        "",
        ["recipe.yaml", "'max_dept' in calculator", "'max_depth'"],
    ),
    "a setting out of range": (
        "calculator: {max_depth: 9}",
        "",
        ["recipe.yaml", "max_depth", "1 to 3", "got 9"],
    ),
    "an unknown operator": (None, "--calc_operators + x", ["command line", "'x'", "'**'"]),
    "a setting of the wrong type": (
        "calculator: {max_depth: two}",
        "",
        ["recipe.yaml", "calc_max_depth", "invalid int value: 'two'"],
    ),
    "a negative weight": (None, "--ttt_weight=-1", ["command line", "tictactoe", "negative", "-1"]),
    "a negative weight in a recipe": ("weights: {tictactoe: -0.5}", "", ["recipe.yaml", "-0.5"]),
    "a weight that is NaN": ("weights: {calculator: .nan}", "", ["recipe.yaml", "finite", "nan"]),
    "a weight that is infinite": (None, "--calc_weight=inf", ["command line", "finite", "inf"]),
    "a weight that is no number": (
        None,
        "--calc_weight=lots",
        ["weight of calculator must be a number, got 'lots'"],
    ),
    "all weights zero": (
        None,
        "--calc_weight=0 --ttt_weight=0",
        ["command line", "all task weights are zero (calculator, tictactoe)"],
    ),
    "weights that are no mapping": ("weights: 3", "", ["recipe.yaml", "weights must be a mapping"]),
    "a depth of zero": (None, "--depth=0", ["command line", "depth must be a positive integer"]),
    "a depth that is no integer": (None, "--depth=2.5", ["--depth", "invalid int value: '2.5'"]),
    "a negative depth in a recipe": ("depth: -3", "", ["recipe.yaml", "positive integer, got -3"]),
    "an unknown schedule": (None, "--lr_scheduler_type=cosin", ["'cosin'", "'cosine'"]),
    "a row too short for a task": (
        None,
        "--depth=1 --max_seq_len=100 --calc_weight=0 --output_dir={tmp}/run",
        ["max_seq_len 100", "'tictactoe'", "144 tokens"],
    ),
    "an impossible batch": (
        None,
        "--global_batch_size=12 --per_device_train_batch_size=8",
        ["command line", "global_batch_size 12", "nearest: 8 or 16"],
    ),
    "a key given twice": ("depth: 1\ndepth: 2", "", ["recipe.yaml", "'depth' is given twice"]),
    "a list for a number": ("depth: [1, 2]", "", ["recipe.yaml", "'2'", "takes no list"]),
    "a weight that is a mapping": (
        "weights: {calculator: {a: 1}}",
        "",
        ["recipe.yaml", "weight of calculator must be given from a step, got 'a'"],
    ),
    "an unknown attention": (
        None,
        "--depth=1 --attn_implementation=foo --output_dir={tmp}/run",
        ["do not work together", "foo"],
    ),
    "an unknown tracker": (
        None,
        "--depth=1 --report_to=foo --output_dir={tmp}/run",
        ["do not work together", "foo"],
    ),
    "two lengths": (None, "--max_steps=3 --train_tokens=9", ["train_tokens and max_steps"]),
    "a recipe that is not there": (None, "recipes/quikstart.yaml", ["'recipes/quickstart.yaml'"]),
    "a recipe that is no YAML": ("a: [1", "", ["recipe.yaml", "not valid YAML"]),
    "a recipe after the flags": (None, f"--depth=4 {QUICK}", ["a recipe comes before the flags"]),
    "a task file that is not there": (None, "--task_files mine.py", ["mine.py", "exists"]),
    "a task file with a mistake": (
        None,
        "--task_files {tmp}/broken.py",
        ["broken.py", "fails to import", "ModuleNotFoundError"],
    ),
    "a model that is not there": (
        None,
        "--model_name_or_path=no/such --output_dir={tmp}/run",
        ["model_name_or_path 'no/such'", "cannot be loaded"],
    ),
    "an output directory that is a file": (
        "depth: 1",
        "--output_dir={tmp}/recipe.yaml",
        ["is a file, not a directory"],
    ),
    "an output directory under a file": (
        None,
        "--output_dir={tmp}/broken.py/run",
        ["output_dir", "cannot be made"],
    ),
    "a weight that is a list": (
        "weights: {calculator: [1]}",
        "",
        ["recipe.yaml", "weight of calculator must be a number or {STEP: WEIGHT", "got [1]"],
    ),
    "a weight that is an empty mapping": (
        "weights: {calculator: {}}",
        "",
        ["recipe.yaml", "'calculator' in weights has no value"],
    ),
    "steps that do not ascend": (
        None,
        "--ttt_weight=0.2:0,0.5:500,1:400",
        ["command line", "weight of tictactoe", "400 comes after 500", "must ascend"],
    ),
    "an unknown setting of adaptive weights": (
        "adaptive: {evry: 3}",
        "",
        ["recipe.yaml", "'evry'", "'every'"],
    ),
    "an output directory with other files": (
        "depth: 1",
        "--output_dir={tmp}",
        ["not empty", "holds no mixgen run"],
    ),
}


def run(words: list[str], **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "run_train.py", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", **env},
    )


def assert_one_line(done: subprocess.CompletedProcess[str], parts: list[str]) -> None:
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: ")
    for part in parts:
        assert part in line


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_clear_line(name, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(ROOT)
    words, parts = prepared(name, tmp_path)
    status = main(words, weights={"calculator": 1.0, "tictactoe": 0.5})
    assert_one_line(subprocess.CompletedProcess(words, status, *capfd.readouterr()), parts)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", AS_USERS_DO)
def test_a_users_mistake_is_one_clear_line(name, tmp_path):
    words, parts = prepared(name, tmp_path)
    assert_one_line(run(words), parts)
    assert not (tmp_path / "run").exists()


def prepared(name: str, tmp_path: Path) -> tuple[list[str], list[str]]:
    """The command line of a mistake, with the files it needs, and what must be said of it."""
    recipe, flags, parts = MISTAKES[name]
    (tmp_path / "broken.py").write_text("import no_such_module\n")
    words = flags.replace("{tmp}", str(tmp_path)).split()
    if recipe is not None:
        (tmp_path / "recipe.yaml").write_text(recipe)
        words = [str(tmp_path / "recipe.yaml"), *words]
    if name == "an output directory with other files":
        (tmp_path / "recipe.yaml").rename(tmp_path / "mine.yaml")
        words[0] = str(tmp_path / "mine.yaml")
    return words, parts


def test_more_gpu_processes_than_gpus_is_one_clear_line():
    # What `accelerate launch --config_file accelerate_config.yaml` sets for the first of its 8
    # processes.
    env = {
        "ACCELERATE_MIXED_PRECISION": "bf16",
        "LOCAL_WORLD_SIZE": "8",
        "WORLD_SIZE": "8",
        "RANK": "0",
    }
    done = run([QUICK], **env, CUDA_VISIBLE_DEVICES="")
    assert_one_line(done, ["8 processes", "0 GPUs", "recipes/accelerate/cpu.yaml"])


def test_a_task_that_cannot_be_scored_is_refused_before_training(tmp_path):
    task, _, _ = TASK.partition("    def score")
    (tmp_path / "mine.py").write_text(task.replace("NAME", "unscored").replace("FLAG", "unscored"))
    words = ["--task_files", str(tmp_path / "mine.py"), "--unscored_weight=1", "--depth=1"]
    done = run([*words, f"--output_dir={tmp_path / 'run'}"])
    assert_one_line(done, ["task 'unscored': score fails (NotImplementedError)"])
    assert not (tmp_path / "run").exists()


def test_another_run_in_the_output_directory_is_one_clear_line_and_stays(tmp_path):
    words = [
        QUICK,
        "--depth=1",
        "--max_steps=1",
        "--test_examples=0",
        f"--output_dir={tmp_path / 'run'}",
    ]
    assert run(words).returncode == 0
    saved = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    done = run([*words, "--calc_weight=0.3"])
    assert_one_line(done, ["holds another run", "weights", "--overwrite"])
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")} == saved


def test_going_on_to_a_step_that_is_passed_is_one_clear_line_and_all_stays(tmp_path):
    words = [
        QUICK,
        "--depth=1",
        "--max_steps=2",
        "--test_examples=0",
        f"--output_dir={tmp_path / 'run'}",
    ]
    assert run(words).returncode == 0
    saved = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    done = run([*words, "--max_steps=1", "--resume_anyway"])
    assert_one_line(done, ["checkpoint-2", "training ends at step 1,"])
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")} == saved


def test_help_names_every_tasks_flags():
    done = run(["--help"])
    assert done.returncode == 0
    for flag in ("--calc_weight", "--ttt_weight", "--calc_max_depth", "--depth", "--train_tokens"):
        assert flag in done.stdout
