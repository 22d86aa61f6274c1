"""What a task promises, one check each: what is wrong with it, or a figure worth knowing.

A check raises `Fault` with what is wrong and `Doubt` with what may be; else it returns a few words.
"""

from __future__ import annotations

import itertools
import json
import random
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple, TypeVar

from mixgen.encoding.renderer import Renderer
from mixgen.encoding.tokenizer import train_tokenizer
from mixgen.mixture.tables import table_of
from mixgen.tasks.base import SPLITS, Example, Message, Task

NUM_DRAWS: Final = {"train": 5_000, "validation": 500, "test": 500}
NUM_AGAIN: Final = 200  # examples that are drawn again
NUM_SPOILED: Final = 100  # examples whose replies are spoiled
NUM_TRAINING_TOKENIZER: Final = 4_000  # as in a run
NUM_MEASURED: Final = 2_000  # examples whose tokens are counted
FEW_PROBLEMS: Final = 100
SECONDS: Final = 5.0  # for the examples of a split; a slow task is checked by fewer
CHECK_SECONDS: Final = 20.0  # for what a check goes through
LEAST: Final = 20  # of training examples
SLOW: Final = 1_000  # examples a second; training on a CPU takes some 300
FAST: Final = 10_000  # and on a GPU
ROLES: Final = ("user", "assistant", "tool")


T = TypeVar("T")


class Fault(Exception):
    """What is wrong with a task."""


class Doubt(Exception):
    """What may be wrong with a task."""


class Drawn(NamedTuple):
    """A task with the first examples of each split, and how fast it made those for training."""

    task: Task
    examples: dict[str, list[Example]]
    per_second: float

    @property
    def all(self) -> list[Example]:
        """Those of all splits."""
        return list(itertools.chain.from_iterable(self.examples.values()))

    @property
    def some(self) -> list[Example]:
        """A few of each split."""
        part = NUM_SPOILED // len(SPLITS)
        return [example for examples in self.examples.values() for example in examples[:part]]


def draw(task: Task) -> Drawn:
    """The examples that a task is checked by.

    Raises:
        TaskError: It cannot make them.
    """
    list(itertools.islice(task.stream(split="train", seed=1), 20))  # tables are made at first use
    examples: dict[str, list[Example]] = {}
    seconds = {}
    for split, number in NUM_DRAWS.items():
        examples[split] = []
        start = time.perf_counter()
        for example in itertools.islice(task.stream(split=split, seed=0), number):
            examples[split].append(example)
            seconds[split] = time.perf_counter() - start
            if seconds[split] > SECONDS and (split != "train" or len(examples[split]) >= LEAST):
                break
    return Drawn(task, examples, len(examples["train"]) / seconds["train"])


def in_time(items: Iterable[T]) -> Iterator[T]:
    """The first of what a check goes through, and more of it for `CHECK_SECONDS`."""
    start = time.monotonic()
    for item in items:
        yield item
        if time.monotonic() - start > CHECK_SECONDS:
            return


# --- form ---


def check_form(drawn: Drawn) -> str:
    """Fields, roles and turns are as `Example` and `Message` say."""
    for example in drawn.all:
        if wrong := _wrong_form(example):
            raise Fault(f"{wrong}, in {example['id']}")
    table_of(drawn.all)
    turns = [sum(one["role"] == "user" for one in example["messages"]) for example in drawn.all]
    calls = [sum(bool(one["tool_calls"]) for one in example["messages"]) for example in drawn.all]
    return f"turns of the user: {_span(turns)}; calls: {_span(calls)}"


def _span(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low}" if low == high else f"{low} to {high}"


def _wrong_form(example: Example) -> str:
    kinds = {"id": str, "task": str, "split": str, "difficulty": int, "key": str, "messages": list}
    kinds |= {"tools": list, "answer": str, "metadata": dict}
    for field, kind in kinds.items():
        if type(example.get(field)) is not kind:
            return f"{field} must be of type {kind.__name__}, got {example.get(field)!r:.80}"
    if not example["key"] or not example["answer"]:
        return "key and answer must not be empty"
    if json.loads(json.dumps(example)) != example:
        return "it is another one after a round trip through JSON"
    messages = example["messages"]
    if wrong := next(filter(None, map(_wrong_message, messages)), ""):
        return wrong
    if messages[-1]["role"] != "assistant" or messages[-1]["tool_calls"]:
        return "messages must end with the assistant's words"
    if messages[0]["role"] != "user" and len(messages) > 1:  # one alone is plain text
        return "messages must begin with the user's words"
    declared = [schema["function"]["name"] for schema in example["tools"]]
    return next(
        filter(None, (_wrong_order(*pair, declared) for pair in itertools.pairwise(messages))), ""
    )


def _wrong_message(message: Message) -> str:
    kinds = {"role": str, "content": str, "tool_calls": list, "name": str}
    is_whole = {key: type(value) for key, value in message.items()} == kinds
    if not is_whole or message["role"] not in ROLES:
        return f"not a message of user(), assistant(), call() or tool(): {message!r:.80}"
    return ""


def _wrong_order(message: Message, following: Message, declared: Sequence[str]) -> str:
    after_call = following["role"] == "tool"
    if bool(message["tool_calls"]) != after_call:
        return "each call, and nothing else, must be followed by its tool's message"
    if message["role"] == "user" and following["role"] != "assistant":
        return "the assistant must answer the user"
    for made in message["tool_calls"]:
        if made["function"]["name"] not in declared:
            return f"tool {made['function']['name']!r} is not in `schemas`"
    return ""


def check_truth(drawn: Drawn) -> str:
    """Tool messages are what the task's own tools print."""
    number = 0
    for example in in_time(drawn.all):
        session = drawn.task.tools()
        for message, output in itertools.pairwise(example["messages"]):
            for made in message["tool_calls"]:
                function = made["function"]
                printed = session.call(function["name"], function["arguments"])
                number += 1
                if (output["content"], output["name"]) != (printed, function["name"]):
                    raise Fault(
                        f"the tool's message says {output['content']!r:.80}, the tool prints "
                        f"{printed!r:.80}, in {example['id']}"
                    )
                if printed.startswith("error"):
                    raise Doubt(f"a right reply calls what fails: {printed!r:.80}")
    return f"{number:,} outputs printed again" if number else "no tool is called"


def check_answers(drawn: Drawn) -> str:
    """The last words end with the answer."""
    for example in drawn.all:
        last = example["messages"][-1]["content"]
        if not last.removesuffix(".").endswith(example["answer"].removesuffix(".")):
            raise Doubt(f"{last!r:.80} does not end with the answer {example['answer']!r:.80}")
    return "the last words end with them"


# --- streams ---


def check_purity(drawn: Drawn) -> str:
    """The same stream gives the same examples, whatever else is random."""
    again = []
    stream = drawn.task.stream(split="train", seed=0)
    before = random.getstate()
    try:
        for number in range(min(NUM_AGAIN, len(drawn.examples["train"]))):
            random.seed(number)  # noqa: TID251 - the noise that must not matter
            again.append(next(stream))
    finally:
        random.setstate(before)
    if again != drawn.examples["train"][:NUM_AGAIN]:
        raise Fault("the same stream drawn again gives other examples: draw from `rng` alone")
    other = list(itertools.islice(drawn.task.stream(split="train", seed=1), len(again)))
    if [one["messages"] for one in other] == [one["messages"] for one in again]:
        raise Fault("every seed gives the same examples: draw from the `rng` of `sample`")
    return "the same examples again, others by another seed"


def check_splits(drawn: Drawn) -> str:
    """No problem is in two splits."""
    keys = {split: {one["key"] for one in found} for split, found in drawn.examples.items()}
    said = {
        split: {json.dumps(one["messages"]) for one in found}
        for split, found in drawn.examples.items()
    }
    for one, other in itertools.combinations(SPLITS, 2):
        if common := keys[one] & keys[other]:
            raise Fault(f"{min(common)!r:.80} is in {one} and in {other}")
        if common := said[one] & said[other]:
            raise Fault(f"one conversation has two keys, in {one} and {other}: {min(common):.120}")
    return "no problem in two of them"


def check_problems(drawn: Drawn) -> str:
    """There are enough distinct problems."""
    counts = {split: len({one["key"] for one in drawn.examples[split]}) for split in SPLITS}
    told = ", ".join(
        f"{counts[split]:,} of {len(drawn.examples[split]):,} {split}" for split in SPLITS
    )
    if counts["train"] < min(FEW_PROBLEMS, len(drawn.examples["train"])):
        raise Doubt(f"few are distinct: {told}")
    return told


# --- size and speed ---


def check_lengths(drawn: Drawn, max_seq_len: int, vocab_size: int) -> str:
    """Examples fit into a row of a model."""
    number = min(NUM_TRAINING_TOKENIZER, len(drawn.examples["train"]))
    tokenizer = train_tokenizer(
        (drawn.task,), seed=0, vocab_size=vocab_size, examples_per_task=number
    )
    renderer = Renderer(tokenizer)
    examples = drawn.examples["train"][:NUM_MEASURED]
    lengths = sorted(len(renderer.encode(example).input_ids) for example in examples)
    p99 = lengths[len(lengths) * 99 // 100]
    told = f"p50 {lengths[len(lengths) // 2]}, p99 {p99}, max {lengths[-1]} tokens"
    if lengths[-1] > max_seq_len:
        raise Fault(f"{told}: more than max_seq_len {max_seq_len}, which they must fit into")
    return f"{told}, of {max_seq_len}"


def check_speed(drawn: Drawn) -> str:
    """Examples are made fast enough."""
    told = f"{drawn.per_second:,.0f} examples/s"
    if drawn.per_second < SLOW:
        raise Doubt(f"{told}: below {SLOW:,}, training may wait for them")
    return told if drawn.per_second >= FAST else f"{told}, which a fast GPU may wait for"
