"""Kills a training run at random moments, goes on each time, and compares it with one left alone.

    python benchmarks/kill_test.py [--kills=20] [--steps=400] [--seed=0]

Each time the run starts on one or two processes (CPUs, gloo), by chance, and gets SIGKILL, all
processes at once: before it trains, some steps on, or while it writes a checkpoint. In the end its
log must be that of the uninterrupted run, entry for entry: the same rows (counts of tokens and
examples are equal), the same losses within 1e-4 (processes add up in another order, and
training amplifies the last digits).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).parent.parent
SAVE_STEPS = 5
LOGGING_STEPS = 3  # so that most checkpoints come between two logs
TOLERANCE = 1e-4  # relative, of losses; ten times as much of gradient norms


def command(world: int, steps: int, output_dir: Path) -> list[str]:
    launch = [sys.executable]
    if world > 1:
        torchrun = ["torch.distributed.run", "--standalone", f"--nproc_per_node={world}"]
        launch += ["-m", *torchrun]
    settings = {
        "depth": 1,
        "max_seq_len": 256,
        "per_device_train_batch_size": 2,
        "global_batch_size": 4,
        "max_steps": steps,
        "logging_steps": LOGGING_STEPS,
        "save_steps": SAVE_STEPS,
        "eval_steps": 0,
        "test_examples": 0,
        "output_dir": output_dir,
    }
    flags = [f"--{key}={value}" for key, value in settings.items()]
    return [*launch, "run_train.py", "recipes/quickstart.yaml", *flags]


def start(world: int, steps: int, output_dir: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(world, steps, output_dir),
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    """Waits for a run to end; all of its output."""
    shown, _ = process.communicate(timeout=600)
    if process.returncode or "Traceback" in shown:
        raise SystemExit(f"the run failed with status {process.returncode}:\n{shown}")
    return shown


def kill(
    process: subprocess.Popen[str], moment: str, output_dir: Path, chance: random.Random
) -> tuple[str, bool]:
    """Lets a run come to a moment and kills it.

    Returns:
        What it was doing, for people, and whether it was inside a save.
    """
    staging = output_dir / ".saving"
    assert process.stdout is not None
    shown = ""
    if moment == "start":
        time.sleep(chance.uniform(0.1, 3))
    else:
        lines = chance.randrange(1, 4 * SAVE_STEPS // LOGGING_STEPS)
        for line in process.stdout:
            shown += line
            lines -= line.startswith("step ")
            if not lines:
                break
    # torchrun puts each of its processes in a group of its own.
    family = [process, *psutil.Process(process.pid).children(recursive=True)]
    while moment == "save" and process.poll() is None and not staging.is_dir():
        time.sleep(0.0002)
    time.sleep(chance.uniform(0, 0.01))
    if process.poll() is not None:
        raise SystemExit(f"the run ended before it was killed:\n{process.communicate()}")
    for member in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    shown += process.communicate()[0]
    newest = max((int(path.name[11:]) for path in output_dir.glob("checkpoint-*")), default=0)
    how = "went on" if "Going on from" in shown else "began"
    inside = staging.is_dir() and "\nstep " in shown  # before that, it is another kill's
    return f"{how:8} newest checkpoint {newest:4}  {'inside a save' * inside}", inside


def log_of(output_dir: Path) -> list[dict[str, float]]:
    state = json.loads((output_dir / "trainer_state.json").read_text())
    return [entry for entry in state["log_history"] if "loss" in entry]


def largest_difference(one: list[dict[str, float]], other: list[dict[str, float]]) -> float:
    """The largest relative difference of a loss; gradient norms count a tenth."""
    largest = 0.0
    if len(one) != len(other):
        raise SystemExit(f"FAILED: {len(one)} and {len(other)} log entries")
    for a, b in zip(one, other, strict=True):
        if a.keys() != b.keys():
            raise SystemExit(f"FAILED: step {a['step']} logs {a.keys() ^ b.keys()} only once")
        for key, value in a.items():
            if key.startswith(("step", "tokens/", "examples/", "num_")) and value != b[key]:
                raise SystemExit(f"FAILED: step {a['step']} was trained on other rows ({key})")
            if key.startswith(("loss", "grad_norm")):
                scale = 10 if key == "grad_norm" else 1
                difference = abs(value - b[key]) / max(abs(value), 1e-12) / scale
                largest = max(largest, difference if math.isfinite(difference) else math.inf)
    return largest


def main(argv: list[str] | None = None) -> tuple[int, int]:
    """Returns how many kills were inside a save, and how many log entries were compared."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    chance = random.Random(args.seed)
    # Every third kill is in a save, and of every six one comes before training.
    moments = ["training", "save", "start", "training", "save", "training"]
    with tempfile.TemporaryDirectory() as folder:
        whole, killed = Path(folder, "whole"), Path(folder, "killed")
        finish(start(1, args.steps, whole))
        inside = 0
        for number in range(args.kills):
            world, moment = chance.choice((1, 2)), moments[number % len(moments)]
            what, saving = kill(start(world, args.steps, killed), moment, killed, chance)
            inside += saving
            print(f"kill {number + 1:2}  {world} process(es)  {moment:8}  {what}", flush=True)
        shown = finish(start(chance.choice((1, 2)), args.steps, killed))
        if "Going on from" not in shown:
            raise SystemExit("FAILED: the last run did not go on from a checkpoint")
        log = log_of(whole)
        difference = largest_difference(log, log_of(killed))
    print(f"{args.kills} kills, {inside} of them inside a save; {len(log)} log entries compared")
    print(f"largest relative difference of a loss: {difference:.1e} (allowed: {TOLERANCE:.0e})")
    if difference > TOLERANCE:
        raise SystemExit("FAILED: the losses differ")
    return inside, len(log)


if __name__ == "__main__":
    main()
