"""What a task's `score` and evaluation promise, one check each (see `checks`)."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence

from mixgen.errors import one_line
from mixgen.tasks.base import Example, Message, Score, Task
from mixgen.tasks.trial import Trial, Turn
from mixgen.validation.checks import Doubt, Drawn, Fault, in_time
from mixgen.validation.corruptions import broken_replies, corruptions


def check_right(drawn: Drawn) -> str:
    """Right replies score 1."""
    number = 0
    for example in in_time(drawn.all):
        number += 1
        before = json.dumps(example)
        score = drawn.task.score(example, example["messages"])
        if json.dumps(example) != before:
            raise Fault(f"score changes example {example['id']}")
        if score.value != 1:
            raise Fault(
                f"{example['id']} scores {score.value}: {score.reason or 'no reason given'}"
            )
    return f"{number:,} score 1"


def check_wrong(drawn: Drawn) -> str:
    """Wrong replies that a model can write score below 1."""
    return _check_spoiled(drawn, is_forged=False)


def check_forged(drawn: Drawn) -> str:
    """Wrong replies that only a forger can write score below 1."""
    try:
        return _check_spoiled(drawn, is_forged=True)
    except Fault as error:
        raise Doubt(*error.args) from error


def _check_spoiled(drawn: Drawn, *, is_forged: bool) -> str:
    accepted: dict[str, None] = {}
    number = 0
    spoiled = (
        (example, *corrupted)
        for example, other in itertools.pairwise(drawn.some)
        if example["messages"][0] != other["messages"][0]
        for corrupted in corruptions(example, other)
    )
    for example, name, reply, forged in in_time(spoiled):
        if forged == is_forged and reply != example["messages"]:
            number += 1
            if _scored(drawn.task, example, reply, name).value == 1:
                accepted[name] = None
    if accepted:
        names = list(accepted)
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise Fault(f"score 1: {'; '.join(names[:3])}{more}")
    return f"{number:,} score less"


def check_scorer(drawn: Drawn) -> str:
    """What is no conversation scores 0, and raises nothing."""
    number = 0
    pairs = (
        (example, reply)
        for example in drawn.some[:20]
        for reply in broken_replies(example["messages"])
    )
    for example, reply in in_time(pairs):
        number += 1
        if _scored(drawn.task, example, reply, "no conversation").value == 1:
            raise Fault(f"scores 1: {reply!r:.80}")
    return f"{number:,} score less, none raises"


def _scored(task: Task, example: Example, reply: Sequence[Message], name: str) -> Score:
    try:
        return task.score(example, reply)
    except (Exception, SystemExit) as error:  # a user's own scorer may raise anything
        why = f"score raises {one_line(error)} ({name}): `judge` makes a fault of it"
        raise Fault(why) from error


def check_evaluation(drawn: Drawn) -> str:
    """Its metrics count right replies as right, and a silent model's as wrong."""
    task = drawn.task
    if not any(one["role"] == "user" for example in drawn.some for one in example["messages"]):
        return "nothing is asked"
    examples = drawn.examples["test"][:50]
    right = [Trial(one["messages"], task.score(one, one["messages"])) for one in examples]
    if type(task).evaluate is Task.evaluate:
        first, *_ = task.metrics(examples, right)
        if first.rate != 1:
            raise Fault(f"right replies have {first.name} {first.count} of {first.total}")
    result = task.evaluate(_silent, num_examples=min(20, len(drawn.examples["test"])))
    if not result.metrics or result.metrics[0].count:
        raise Fault(f"a model that says nothing has {result.metrics[:1]}")
    return ", ".join(dict.fromkeys(metric.name for metric in result.metrics))


def _silent(conversations: Sequence[Sequence[Message]]) -> list[Turn]:
    return [Turn([], fault="nothing was said") for _ in conversations]
