"""Examples exported per second, against generating them alone, and what 10**9 tokens would take.

    python benchmarks/export.py [--rounds=5] [--memory] [--json=PATH]

The default recipe's mix. In each round, take turns:

- generate: examples drawn as an export draws them, and dropped;
- export: a shard of them written, mix and tasks; its compression runs in a thread of its own;
- export on one core: the same, pinned to one core;
- datasets: `load_mixture(...)` written with `datasets`, as `push_to_hub` would shard it.

`--memory` also exports 100,000 and 2,000,000 examples, a process each, and shows the peaks.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

from mixgen.encoding.renderer import Renderer
from mixgen.encoding.shares import measure_shares
from mixgen.encoding.tokenizer import train_tokenizer
from mixgen.load import load_mixture
from mixgen.mixture.sources import block_examples
from mixgen.mixture.tables import features
from mixgen.mixture.weights import configure_mix
from mixgen.publishing.export import run_export
from mixgen.publishing.plan import SHARD_EXAMPLES, Shard, make_plan, save_plan
from mixgen.publishing.shards import write_shard

GENERATE, EXPORT, PINNED, DATASETS = "generate", "export", "export on one core", "datasets"
WANTED = 1.25  # times what generating takes
SLOW_PART = 20  # `datasets` gets a 20th of the examples
BILLION = 10**9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, default=Path("outputs/benchmarks/export.json"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if args.peak:
            print(peak(Path(name), args.peak))
        else:
            report(Path(name), args)


def report(folder: Path, args: argparse.Namespace) -> None:
    mix = configure_mix(calculator=1.0, tictactoe=0.5)
    plan = make_plan(mix, splits={"train": SHARD_EXAMPLES})
    shard = Shard("train", 0)

    def generate() -> int:
        drawn = block_examples(mix, seed=plan.seed, block="export-0")
        return sum(1 for _ in islice(drawn, SHARD_EXAMPLES))

    def export() -> int:
        shutil.rmtree(folder / "shards", ignore_errors=True)
        write_shard(plan, mix, shard, folder / "shards")
        return SHARD_EXAMPLES

    def pinned() -> int:
        with one_core():
            return export()

    def plain() -> int:
        from datasets import Dataset

        rows = load_mixture(mix).take(SHARD_EXAMPLES // SLOW_PART)
        Dataset.from_generator(lambda: iter(rows), features=features(), cache_dir=str(folder / "c"))
        shutil.rmtree(folder / "c")
        return SHARD_EXAMPLES // SLOW_PART

    ways: dict[str, Callable[[], int]] = {
        GENERATE: generate,
        EXPORT: export,
        PINNED: pinned,
        DATASETS: plain,
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(args.rounds + 1):
        for name, way in ways.items():
            started = time.perf_counter()
            examples = way()
            if number:  # the first round fills caches
                found[name].append((time.perf_counter() - started) / examples)
    export()
    size = sum(path.stat().st_size for path in (folder / "shards").rglob("*.parquet"))
    shares = measure_shares(mix, Renderer(train_tokenizer(mix.active, seed=plan.seed)))
    tokens = sum(share.probability * share.mean_tokens for share in shares)

    print(
        f"median of {args.rounds} rounds of {SHARD_EXAMPLES:,} examples, {tokens:.1f} tokens each"
    )
    print(f"{'way':20} {'us/example':>10} {'of generate':>12} {'examples/s':>11} {'tokens/s':>11}")
    for name, times in found.items():
        ratio = statistics.median(
            one / base for one, base in zip(times, found[GENERATE], strict=True)
        )
        middle = statistics.median(times)
        print(
            f"{name:20} {middle * 1e6:>10.1f} {ratio:>12.2f} {1 / middle:>11,.0f}"
            f" {tokens / middle:>11,.0f}"
        )
    print(f"wanted: export at {WANTED} of generate")
    seconds = BILLION / tokens * statistics.median(found[PINNED])
    total = BILLION / tokens * size / SHARD_EXAMPLES
    print(
        f"{size / SHARD_EXAMPLES:.1f} bytes an example; 10**9 tokens: {BILLION / tokens:,.0f} "
        f"examples, {total / 1e9:.2f} GB (mix and tasks), {seconds / 60:.1f} min on one core, "
        f"{seconds / 60 / 64:.2f} min on 64 cores of any machines (shards need no other)"
    )
    peaks = {}
    if args.memory:
        for number in (100_000, 2_000_000):
            command = [sys.executable, __file__, f"--peak={number}"]
            peaks[number] = float(subprocess.check_output(command, text=True).split()[-1])
            print(f"peak memory of an export of {number:>9,}: {peaks[number]:.0f} MB")
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps({"seconds": found, "bytes": size, "peaks": peaks}, indent=2))


@contextmanager
def one_core() -> Iterator[None]:
    """Pins this process, with all of its threads, where the system can."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def peak(folder: Path, num_examples: int) -> float:
    """MB that this process holds at most while it exports."""
    mix = configure_mix(calculator=1.0, tictactoe=0.5)
    save_plan(make_plan(mix, splits={"train": num_examples}), folder)
    run_export(folder)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
