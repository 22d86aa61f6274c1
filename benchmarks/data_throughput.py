"""Tokens of training rows made per second by one process on one core, and what that is against.

    python benchmarks/data_throughput.py [--rounds=9] [--json=PATH]

Three ways to the default recipe's tokens (1024 a row) take turns in each round, so that the
machine's drift cancels:

- rows: `RowDataset`, all of it: examples are generated, mixed, encoded with labels, and packed;
- plain: the same examples as text in the plain `datasets` way, `from_generator`,
  `interleave_datasets`, and a batched `map` that encodes and cuts the joined ids into rows; no
  labels, no positions, and examples cut apart at row ends;
- encode: the bare `encode_batch_fast` of tokenizers over the same text, generated before.

Only tokens of examples count, not padding. Quoted are medians, and medians of each round's ratio.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"

from datasets import Features, IterableDataset, Value, interleave_datasets

from mixgen.encoding.renderer import Renderer
from mixgen.encoding.rows import RowDataset
from mixgen.encoding.tokenizer import train_tokenizer
from mixgen.mixture.sources import block_examples
from mixgen.mixture.weights import configure_mix
from mixgen.tasks.base import Task

ROWS, PLAIN, ENCODE = "rows", "plain", "encode"
REQUIRED, WANTED = 1.5, 2.5  # times the tokens/s of `encode`
MAX_SEQ_LEN = 1024
BLOCKS = 20  # of 16 rows, in a round


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument(
        "--json", type=Path, default=Path("outputs/benchmarks/data_throughput.json")
    )
    args = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

    mix = configure_mix(calculator=1.0, tictactoe=0.5)
    tokenizer = train_tokenizer(mix.active, seed=42)
    renderer = Renderer(tokenizer)
    backend = tokenizer.backend_tokenizer
    dataset = RowDataset(mix, renderer, num_rows=10**9, max_seq_len=MAX_SEQ_LEN)
    encoded = [
        renderer.encode(example)
        for _, example in itertools.islice(block_examples(mix, block=-99), 3_000)
    ]
    corpus = [tokenizer.decode(example.input_ids.tolist()) for example in encoded]
    # The same text gives the same tokens, so the three are compared on the same work.
    for example, encoding in zip(encoded, backend.encode_batch_fast(corpus), strict=True):
        assert encoding.ids == example.input_ids.tolist()
    next_row = itertools.count()
    plain = plain_rows(mix.active, mix.probabilities, renderer)

    def rows() -> int:
        numbers = itertools.islice(next_row, BLOCKS * dataset.rows_per_block)
        return sum(int((dataset[number].task_ids >= 0).sum()) for number in numbers)

    def plain_way() -> int:
        return sum(len(next(plain)["input_ids"]) for _ in range(BLOCKS * dataset.rows_per_block))

    def encode() -> int:
        return sum(len(encoding.ids) for encoding in backend.encode_batch_fast(corpus))

    ways: dict[str, Callable[[], int]] = {ROWS: rows, PLAIN: plain_way, ENCODE: encode}
    found: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(args.rounds + 1):
        for name, way in ways.items():
            started = time.perf_counter()
            tokens = way()
            if number:  # the first round fills caches and buffers
                found[name].append(tokens / (time.perf_counter() - started))
    report(found, args.json)


def plain_rows(
    tasks: tuple[Task, ...], probabilities: list[float], renderer: Renderer
) -> Iterator[dict[str, Any]]:
    """Rows as the documentation of `datasets` would have them made."""
    tokenizer = renderer.tokenizer
    backend = tokenizer.backend_tokenizer

    def texts(task: Task) -> Iterator[dict[str, str]]:
        for example in task.stream(split="train", seed=42, block=-98):
            yield {"text": conversation(example["messages"])}

    def to_rows(batch: dict[str, list[str]]) -> dict[str, list[list[int]]]:
        ids: list[int] = []
        for encoding in backend.encode_batch_fast(batch["text"]):
            ids += encoding.ids
        ends = range(MAX_SEQ_LEN, len(ids) + 1, MAX_SEQ_LEN)
        return {"input_ids": [ids[end - MAX_SEQ_LEN : end] for end in ends]}

    features = Features({"text": Value("string")})
    sources = [
        IterableDataset.from_generator(texts, gen_kwargs={"task": task}, features=features)
        for task in tasks
    ]
    mixed = interleave_datasets(sources, probabilities=probabilities, seed=42)
    return iter(mixed.map(to_rows, batched=True, batch_size=1_000, remove_columns=["text"]))


def conversation(messages: list[Any]) -> str:
    """A conversation as text, by hand: the chat template is several times slower."""
    text = "<|bos|>"
    previous = ""
    for message in messages:
        role, content = message["role"], message["content"]
        if role == "user":
            text += f"<|user_start|>{content}<|user_end|>"
        elif role == "tool":
            text += f"<|output_start|>{content}<|output_end|>"
        else:
            if previous in ("", "user"):
                text += "<|assistant_start|>"
            text += content
            for call in message["tool_calls"]:
                text += f"<|python_start|>{call['function']['arguments']['code']}<|python_end|>"
            if not message["tool_calls"]:
                text += "<|assistant_end|>"
        previous = role
    return text


def report(found: dict[str, list[float]], path: Path) -> None:
    machine = f"{platform.processor() or platform.machine()}, Python {platform.python_version()}"
    print(f"one core ({machine}), median of {len(found[ROWS])} rounds")
    print(f"{'way':8} {'tokens/s':>12} {'min':>12} {'max':>12} {'of encode':>10}")
    table = {}
    for name, rates in found.items():
        ratios = [rate / base for rate, base in zip(rates, found[ENCODE], strict=True)]
        table[name] = {
            "tokens_per_second": statistics.median(rates),
            "of_encode": statistics.median(ratios),
        }
        print(
            f"{name:8} {statistics.median(rates):>12,.0f} {min(rates):>12,.0f} {max(rates):>12,.0f}"
            f" {statistics.median(ratios):>10.2f}"
        )
    print(f"required: rows at {REQUIRED} of encode; wanted: {WANTED}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": machine, "rounds": found, "median": table}, indent=2))


if __name__ == "__main__":
    main()
