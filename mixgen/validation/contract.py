"""Holds a task to the contract: every check in turn, and what each has found."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias

from mixgen.errors import TaskError, one_line
from mixgen.tasks.base import Task
from mixgen.tasks.registry import load_task_file, task_class
from mixgen.tasks.trial import blaming
from mixgen.validation import checks, score_checks
from mixgen.validation.checks import NUM_AGAIN, Doubt, Drawn, Fault

Status: TypeAlias = Literal["ok", "doubt", "fault"]
OK: Final = "ok"
DOUBT: Final = "doubt"
FAULT: Final = "fault"
OF_SCORE: Final = {  # checks that need one
    "right replies",
    "wrong replies",
    "forged replies",
    "broken replies",
    "evaluation",
}
ELSEWHERE: Final = (
    "import sys; from mixgen.validation.contract import digest_of; print(digest_of(*sys.argv[1:]))"
)


class Finding(NamedTuple):
    """What a check has found."""

    check: str
    status: Status
    words: str


def validate(
    task: Task,
    *,
    max_seq_len: int = 1024,
    vocab_size: int = 1024,
    task_files: Sequence[Path] = (),
    begin: Callable[[str], None] = lambda check: None,
) -> Iterator[Finding]:
    """Checks a task, from its messages to its speed: seconds, or minutes if it is slow.

    Args:
        task: The task, with its settings.
        max_seq_len: What its longest example must fit into, in tokens.
        vocab_size: Most tokens of the tokenizer that it is measured with.
        task_files: The files that other processes need to know it.
        begin: Is told the name of each check that begins.

    Yields:
        Each finding as it is made. A task that cannot make examples has one fault alone.

    Examples:
        >>> from mixgen.tasks.calculator import Calculator
        >>> findings = list(validate(Calculator()))
        >>> [finding for finding in findings if finding.status == "fault"]
        []
    """
    begin("examples")
    try:
        drawn = checks.draw(task)
    except TaskError as error:
        yield Finding("examples", FAULT, str(error))
        return
    has_score = type(task).score is not Task.score
    if not has_score:
        yield Finding("score", FAULT, "it is not defined: what replies are right?")
    for name, check in _all_checks(max_seq_len, vocab_size, task_files):
        if name in OF_SCORE and not has_score:
            continue
        begin(name)
        yield _finding(name, check, drawn)


def _all_checks(
    max_seq_len: int, vocab_size: int, task_files: Sequence[Path]
) -> Iterator[tuple[str, Callable[[Drawn], str]]]:
    """Every check with its name, in the order in which a task's author mends things."""

    def fit(drawn: Drawn) -> str:
        return checks.check_lengths(drawn, max_seq_len, vocab_size)

    yield "messages", checks.check_form
    yield "tool outputs", checks.check_truth
    yield "answers", checks.check_answers
    yield "streams", checks.check_purity
    yield "splits", checks.check_splits
    yield "distinct problems", checks.check_problems
    yield "right replies", score_checks.check_right
    yield "wrong replies", score_checks.check_wrong
    yield "forged replies", score_checks.check_forged
    yield "broken replies", score_checks.check_scorer
    yield "evaluation", score_checks.check_evaluation
    yield "lengths", fit
    yield "speed", checks.check_speed
    yield "other processes", lambda drawn: _check_processes(drawn, task_files)


def _finding(name: str, check: Callable[[Drawn], str], drawn: Drawn) -> Finding:
    try:
        return Finding(name, OK, check(drawn))
    except Doubt as doubt:
        return Finding(name, DOUBT, str(doubt))
    except Fault as fault:
        return Finding(name, FAULT, str(fault))
    except (Exception, SystemExit) as error:  # a user's own code may raise anything
        return Finding(name, FAULT, one_line(error)[:200])


def _check_processes(drawn: Drawn, task_files: Sequence[Path]) -> str:
    """A process that hashes text otherwise makes the same examples."""
    settings = json.dumps(dataclasses.asdict(drawn.task.config))
    number = min(NUM_AGAIN, len(drawn.examples["train"]))
    words = [drawn.task.name, settings, str(number), *map(str, task_files)]
    found = {digest_of(*words)}
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", ELSEWHERE, *words],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise Fault(f"another process cannot make it: {done.stderr.strip()[-200:]}")
        found.add(done.stdout.strip())
    if len(found) > 1:
        raise Fault("they make other examples: does `sample` depend on a set's order, or `hash`?")
    return "make the same examples"


def digest_of(name: str, settings: str, number: str, *task_files: str) -> str:
    """A hash of the first examples of a task with settings (JSON), made in this process."""
    for file in task_files:
        load_task_file(file)
    cls = task_class(name)
    digest = blake2b(digest_size=8)
    with blaming(name, "Config"):
        task = cls(cls.Config(**json.loads(settings)))
    for example in itertools.islice(task.stream(split="train", seed=0), int(number)):
        digest.update(json.dumps(example).encode())
    return digest.hexdigest()
