"""Skill per token: what a model of the quickstart has learned, lever by lever.

    python benchmarks/skill.py                          # every setting, one seed
    python benchmarks/skill.py --settings final --seeds 42 43 44
    python benchmarks/skill.py --settings final "adamw 3e-3" --tokens 3_000_000 --jobs 2

Each setting is the quickstart with a lever turned, trained by run_train.py and evaluated on the
same held-out problems and the whole game tree. Of several seeds the median and the worst are told.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from mixgen.evaluation.results import percent

ROOT = Path(__file__).parent.parent
RECIPE = "recipes/quickstart.yaml"
# Each lever as flags that win over the recipe; `final` is the recipe itself.
SETTINGS: dict[str, list[str]] = {
    "final": [],
    "adamw 3e-3": ["--optim=adamw_torch_fused", "--learning_rate=3e-3"],
    "16 rows a step": ["--per_device_train_batch_size=16", "--global_batch_size=16"],
    "4 rows a step": ["--per_device_train_batch_size=4", "--global_batch_size=4"],
    "no set-ups": ["--ttt_set_up_rate=0"],
    "any of equal moves": ["--ttt_random_ties=true"],
    "no weight decay": ["--weight_decay=0"],
    "4 layers x 160": ["--depth=4", "--aspect_ratio=40"],
    "learning rate 6e-3": ["--learning_rate=6e-3"],
    "1.5e-3 but for the matrices": ["--learning_rate=1.5e-3", "--optim_args=matrix_lr=4e-3"],
    "linear decay": ["--lr_scheduler_type=linear"],
    "full calculator": ["--calc_max_depth=3"],
}
BAR = 0.99  # of the validation problems, for tokens to skill
# Where a column's figure is among the results: task, metric, group.
COLUMNS = {
    "calculator exact": ("calculator", "exact", ""),
    "seen lines exact": ("tictactoe", "exact", "seen"),
    "seen losses": ("tictactoe", "losses", "seen"),
    "seen illegal": ("tictactoe", "illegal", "seen"),
    "seen wrong boards": ("tictactoe", "wrong_boards", "seen"),
    "seen wrong claims": ("tictactoe", "wrong_claims", "seen"),
    "held-out legal": ("tictactoe", "held_out_legal", ""),
    "held-out optimal": ("tictactoe", "held_out_optimal", ""),
    "set-ups legal": ("tictactoe", "held_out_legal", "set-ups"),
    "set-ups optimal": ("tictactoe", "held_out_optimal", "set-ups"),
}
TASKS = ("calculator", "tictactoe")


class Figure(NamedTuple):
    """What one run reached, in one column; figures order from the worst to the best."""

    goodness: float
    text: str


def train(setting: str, seed: int, tokens: int | None, threads: int, folder: Path) -> Path:
    """Trains one model and returns its directory; run_train.py passes over one that is there."""
    out = folder / f"{setting.replace(' ', '_')}-{tokens or 'recipe'}-{seed}"
    words = [sys.executable, "run_train.py", RECIPE, f"--output_dir={out}", f"--seed={seed}"]
    words += ["--save_strategy=no", *SETTINGS[setting]]
    words += [f"--train_tokens={tokens}"] if tokens else []
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    out.parent.mkdir(parents=True, exist_ok=True)
    with Path(f"{out}.log").open("a") as log:
        subprocess.run(words, cwd=ROOT, env=environment, stdout=log, stderr=log, check=True)
    return out


def measure(out: Path) -> dict[str, Figure]:
    """What a run has learned."""
    results = {
        result["task"]: {(m["name"], m["group"]): m for m in result["metrics"]}
        for result in json.loads((out / "evaluation.json").read_text())["results"]
    }
    found = {}
    for column, (task, *key) in COLUMNS.items():
        if metric := results[task].get(tuple(key)):  # none is kept where nothing was met
            share = metric["count"] / metric["total"]
            counts = f"{metric['count']:,} of {metric['total']:,}"
            is_fault = metric["is_fault"]
            text = counts if is_fault else percent(share)
            found[column] = Figure(-share if is_fault else share, text)
    history = json.loads((out / "trainer_state.json").read_text())["log_history"]
    for task in TASKS:
        reached = [
            entry["num_input_tokens_seen"]
            for entry in history
            if entry.get(f"eval_{task}/exact", 0.0) >= BAR
        ]
        tokens = min(reached, default=math.inf)
        text = f"{tokens / 1e6:.1f} M" if reached else "not reached"
        found[f"tokens to {task}"] = Figure(-tokens, text)
    return found


def table(found: Mapping[str, list[dict[str, Figure]]]) -> str:
    """A row a setting: the median and the worst of its seeds."""
    columns = [*COLUMNS, *(f"tokens to {task}" for task in TASKS)]
    lines = [
        "| setting | seeds | " + " | ".join(columns) + " |",
        "|---|---:|" + "---:|" * len(columns),
    ]
    for setting, runs in found.items():
        cells = []
        for column in columns:
            figures = sorted(run[column] for run in runs if column in run)
            if not figures:
                cells.append("none met")
            elif len(figures) == 1:
                cells.append(figures[0].text)
            else:
                cells.append(f"{statistics.median_low(figures).text} ({figures[0].text})")
        lines.append(f"| {setting} | {len(runs)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=SETTINGS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[42])
    parser.add_argument("--tokens", type=int, help="by default the recipe's")
    parser.add_argument("--jobs", type=int, default=1, help="runs at once, which share the cores")
    parser.add_argument("--folder", type=Path, default=ROOT / "outputs" / "skill")
    given = parser.parse_args()
    threads = max(len(os.sched_getaffinity(0)) // given.jobs, 1)
    jobs = [(setting, seed) for setting in given.settings for seed in given.seeds]

    def run(job: tuple[str, int]) -> dict[str, Figure] | None:
        try:
            measured = measure(train(*job, given.tokens, threads, given.folder.resolve()))
        except (subprocess.CalledProcessError, OSError, KeyError) as error:
            print(f"{job[0]}, seed {job[1]}: failed ({error})", file=sys.stderr, flush=True)
            return None
        texts = ", ".join(f"{column} {figure.text}" for column, figure in measured.items())
        print(f"{job[0]}, seed {job[1]}: {texts}", file=sys.stderr, flush=True)
        return measured

    found: dict[str, list[dict[str, Figure]]] = {}
    with ThreadPoolExecutor(given.jobs) as pool:
        for (setting, _), measured in zip(jobs, pool.map(run, jobs), strict=True):
            if measured:
                found.setdefault(setting, []).append(measured)
    print("Median of the seeds, and in brackets the worst.\n")
    print(table(found))
    if sum(map(len, found.values())) < len(jobs):
        sys.exit("some runs failed: see the .log files beside their folders")


if __name__ == "__main__":
    main()
