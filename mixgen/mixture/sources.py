"""Tasks as `datasets.IterableDataset`s, and the mix of them as `interleave_datasets` draws it.

`interleaved` is what everyone else gets (export, TRL, notebooks). Training draws the same examples
in the same order by `block_examples`, 15 times as fast (640 against 42 microseconds an example, in
one run): an interleaved dataset hands each example through a thread and its features through an
encoder, while the order itself is one `choice` a thousand. A test holds the two together.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from mixgen.mixture.weights import Mix
from mixgen.seeding import stream
from mixgen.tasks.base import Example, Task

if TYPE_CHECKING:
    from datasets import Features, IterableDataset


def features() -> Features:
    """The schema of every example (see `Example`); `Json` keeps tasks' tool arguments apart."""
    from datasets import Features, Json, List, Value

    text = Value("string")
    message = {"role": text, "content": text, "tool_calls": List(Json()), "name": text}
    return Features(
        {
            "id": text,
            "task": text,
            "split": text,
            "difficulty": Value("int64"),
            "key": text,
            "messages": List(message),
            "tools": List(Json()),
            "answer": text,
            "metadata": Json(),
        }
    )


def source(
    task: Task, *, split: str = "train", seed: int = 42, block: int | str = 0
) -> IterableDataset:
    """One task's endless stream (see `Task.stream`) as a typed `IterableDataset`."""
    from datasets import IterableDataset

    where: dict[str, Any] = {"task": task, "split": split, "seed": seed, "block": block}
    return IterableDataset.from_generator(_rows, gen_kwargs=where, features=features())


def _rows(task: Task, split: str, seed: int, block: int | str) -> Iterator[dict[str, Any]]:
    """Examples whose tool calls are JSON text already.

    datasets 5.2 encodes a list of structs only if that changes its first element; here that is the
    user's message, which calls nothing. Text passes through its encoder and comes out of its
    decoder as the call.
    """
    for example in task.stream(split=split, seed=seed, block=block):
        messages = [
            {**message, "tool_calls": [json.dumps(call) for call in message["tool_calls"]]}
            for message in example["messages"]
        ]
        yield {**example, "messages": messages}


def interleaved(
    mix: Mix, *, split: str = "train", seed: int = 42, block: int | str = 0
) -> IterableDataset:
    """The endless stream of the mix: each example is of one task, by the mix's probabilities.

    Args:
        mix: Tasks and weights.
        split: `"train"`, `"validation"` or `"test"`; no problem is in two of them.
        seed: The run's seed.
        block: Which of the seed's independent streams, by number or name; a block of training rows
            is drawn from the one with the number of its first row.
    """
    from datasets import interleave_datasets

    return interleave_datasets(
        [source(task, split=split, seed=seed, block=block) for task in mix.active],
        probabilities=mix.probabilities,
        seed=stream(seed, "mix", split, block),
    )


def draw_order(
    mix: Mix, *, split: str = "train", seed: int = 42, block: int | str = 0
) -> Iterator[int]:
    """The endless order in which `interleaved` draws from its sources: indices of `mix.active`."""
    generator = np.random.default_rng(stream(seed, "mix", split, block))
    probabilities = mix.probabilities
    while True:
        # 1,000 at a time, as `RandomlyCyclingMultiSourcesExamplesIterable` of datasets does
        yield from generator.choice(len(probabilities), size=1000, p=probabilities).tolist()


def block_examples(
    mix: Mix, *, split: str = "train", seed: int = 42, block: int | str = 0
) -> Iterator[tuple[int, Example]]:
    """What `interleaved` yields, without its threads.

    Yields:
        The index of the task among `mix.active`, and the example.
    """
    streams = [task.stream(split=split, seed=seed, block=block) for task in mix.active]
    for index in draw_order(mix, split=split, seed=seed, block=block):
        yield index, next(streams[index])
