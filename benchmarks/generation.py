"""Examples generated per second on one core, beside the tokenizer's own speed in the same run.

    python benchmarks/generation.py [--rounds=9]

A complete example has its key, split, messages and answer. Machines differ and drift, so the two
kinds of work take turns, the medians are quoted, and each rate is also given for a core on which
bare `encode_batch_fast` does 1 M tokens/s.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"

from mixgen.encoding.tokenizer import texts, train_tokenizer
from mixgen.mixture.weights import configure_mix

EXAMPLES = 4_000  # of each task, in a round
WANTED = {"calculator": (40_000, 60_000), "tictactoe": (20_000, 40_000)}  # required, wanted


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

    mix = configure_mix(calculator=1.0, tictactoe=0.5)
    tokenizer = train_tokenizer(mix.active, seed=0).backend_tokenizer
    streams = {task.name: task.stream(split="train", seed=0) for task in mix.active}
    corpus = [
        "\n".join(texts(example))
        for stream in streams.values()
        for example in itertools.islice(stream, 500)
    ]
    rates: dict[str, list[float]] = {name: [] for name in streams}
    tokens: list[float] = []
    for _ in range(rounds):
        started = time.perf_counter()
        count = sum(len(encoding.ids) for encoding in tokenizer.encode_batch_fast(corpus))
        tokens.append(count / (time.perf_counter() - started))
        for name, stream in streams.items():
            started = time.perf_counter()
            for _ in itertools.islice(stream, EXAMPLES):
                pass
            rates[name].append(EXAMPLES / (time.perf_counter() - started))

    reference = statistics.median(tokens)
    print(f"encode_batch_fast  {reference:>10,.0f} tokens/s (median of {rounds} rounds)")
    print(
        f"{'task':<18} {'examples/s':>10} {'min':>9} {'max':>9} {'at 1 M tokens/s':>16}"
        f"  {'required':>8}  {'wanted':>6}"
    )
    for name, found in rates.items():
        rate = statistics.median(found)
        # Each round against the tokenizer's speed in the same round: the machine's drift cancels.
        normal = statistics.median(r / t * 1e6 for r, t in zip(found, tokens, strict=True))
        required, wanted = WANTED[name]
        print(
            f"{name:<18} {rate:>10,.0f} {min(found):>9,.0f} {max(found):>9,.0f} {normal:>16,.0f}"
            f"  {required:>8,}  {wanted:>6,}"
        )


if __name__ == "__main__":
    main()
