"""Exports a plan: its shards, by as many processes as are asked for, here or elsewhere.

Work is cut into units that need nothing of each other: a shard, or all shards of a split in which
some task's problems are distinct. An array job takes every n-th unit; what is written already is
passed over, so that an export that was stopped goes on where it was.
"""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from tqdm import tqdm

from mixgen.errors import OutputError, one_line
from mixgen.mixture.weights import Mix
from mixgen.publishing.plan import PLAN_FILE, Plan, Shard, config_of, read_plan
from mixgen.publishing.shards import Seen, is_whole, write_shard

POLL_SECONDS = 0.2


class Stopped(Exception):
    """Another process has failed, or the user has stopped the export."""


def units_of(plan: Plan) -> list[list[Shard]]:
    """The shards of a plan, as pieces of work that do not need each other."""
    return [_unit(plan, number) for number in range(num_units(plan))]


def num_units(plan: Plan) -> int:
    """How many pieces of work a plan has."""
    return len(plan.splits) if plan.distinct else sum(map(plan.num_shards, plan.splits))


def _unit(plan: Plan, number: int) -> list[Shard]:
    if plan.distinct:
        split = list(plan.splits)[number]
        return [Shard(split, index) for index in range(plan.num_shards(split))]
    for split in plan.splits:
        if number < plan.num_shards(split):
            return [Shard(split, number)]
        number -= plan.num_shards(split)
    raise IndexError(f"no unit {number}")


def export_unit(
    folder: Path, number: int, on_written: Callable[[int], None] = lambda _: None
) -> None:
    """Writes one unit of the export that was begun in a directory, unless it is there.

    This is what any engine has to run, for each number below `num_units(plan)`: in any order,
    on any machine, as often as it likes.

    Args:
        folder: The directory, with the plan in it.
        number: Which unit.
        on_written: Is told how many examples have been written since it was called last.

    Raises:
        TaskError: A task cannot make an example, or has no more distinct problems.
        OutputError: The directory cannot be written.
    """
    plan = read_plan(folder)
    mix = _mix_of(json.dumps(dataclasses.asdict(plan)))  # its tasks are loaded once
    seen: Seen | None = {} if plan.distinct else None
    for shard in _unit(plan, number):
        try:
            write_shard(plan, mix, shard, folder, seen=seen, on_written=on_written)
        except OSError as error:
            where = error.filename or folder / plan.path(plan.configs[0], shard)
            raise OutputError(
                f"{where} cannot be written ({error.strerror or one_line(error)}): what is written "
                "is kept, and the same command goes on"
            ) from error


def missing_shards(plan: Plan, folder: Path) -> int:
    """How many shards of an export are not there yet."""
    return sum(
        not all(is_whole(folder / plan.path(config, shard)) for config in plan.configs)
        for shard in plan.shards()
    )


def delete_shards(folder: Path) -> None:
    """Deletes the shards of an export; the plan and the card stay, and what a person put there.

    Raises:
        OutputError: The plan cannot be read, or a file cannot be deleted.
    """
    if not (folder / PLAN_FILE).exists():
        return
    plan = read_plan(folder)
    try:
        for config in plan.configs:
            directory = folder / config_of(config)
            for path in directory.glob(".*.parquet.*"):  # that a kill has left
                path.unlink()
            for shard in plan.shards():
                (folder / plan.path(config, shard)).unlink(missing_ok=True)
            with suppress(OSError):  # it holds something else
                directory.rmdir()
    except OSError as error:
        raise OutputError(f"{error.filename} cannot be deleted: {error.strerror}") from error


@cache
def _mix_of(plan: str) -> Mix:
    return Plan(**json.loads(plan)).mix()


def run_export(
    folder: Path, *, num_proc: int = 1, part: tuple[int, int] = (0, 1), show_progress: bool = False
) -> int:
    """Writes the shards of the export that was begun in a directory.

    Args:
        folder: The directory, with the plan in it.
        num_proc: How many processes write.
        part: `(3, 16)` writes every 16th unit, from the one numbered 3 on.
        show_progress: Whether to show a bar.

    Returns:
        How many examples of the mix are written in this part.

    Raises:
        TaskError: A task cannot make an example, or has no more distinct problems.
        OutputError: The directory cannot be written, or a process was killed.
    """
    plan = read_plan(folder)
    units = units_of(plan)
    index, total = part
    numbers = list(range(index, len(units), total))
    num_examples = sum(plan.num_examples(shard) for number in numbers for shard in units[number])
    with tqdm(
        total=num_examples, unit=" examples", unit_scale=True, disable=not show_progress
    ) as bar:
        if min(num_proc, len(numbers)) > 1:
            _in_processes(folder, numbers, min(num_proc, len(numbers)), bar)
        else:
            for number in numbers:
                export_unit(folder, number, bar.update)
    return num_examples


def _in_processes(folder: Path, numbers: list[int], num_proc: int, bar: tqdm[Any]) -> None:
    # Spawned: a fork would take over the locks of Arrow's threads as they happen to be.
    context = multiprocessing.get_context("spawn")
    written = context.Value("q", 0)
    stop = context.Event()
    with ProcessPoolExecutor(
        num_proc, mp_context=context, initializer=_begin_worker, initargs=(written, stop)
    ) as pool:
        going = {pool.submit(_work, folder, number) for number in numbers}
        try:
            while going:
                done, going = wait(going, POLL_SECONDS, return_when=FIRST_EXCEPTION)
                bar.update(written.value - bar.n)
                for future in done:
                    future.result()
        except BrokenProcessPool as error:
            raise OutputError(
                "a process was killed from outside, perhaps for lack of memory: what is written is "
                "kept, and the same command goes on"
            ) from error
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)


# --- in a worker ---

_worker: dict[str, Any] = {}


def _begin_worker(written: Any, stop: Any) -> None:
    """Leaves Ctrl-C to the parent, and ends when the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _worker.update(written=written, stop=stop)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _work(folder: Path, number: int) -> None:
    def count(examples: int) -> None:
        if _worker["stop"].is_set():
            raise Stopped
        with _worker["written"].get_lock():
            _worker["written"].value += examples

    export_unit(folder, number, count)
