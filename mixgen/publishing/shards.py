"""Shards: Parquet files, each a pure function of the plan, its split and its number.

A shard draws from streams that are named by its number, so no shard needs another, and any number
of processes or machines writes the same bytes. It is drawn once, as a piece of the mix; each task's
own config gets that task's examples of it. Files are written under a temporary name and renamed:
whatever is there is whole.

Only a split with `distinct` tasks is written shard after shard: each passes over the problems of
those before it.
"""

from __future__ import annotations

import gc
import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mixgen.errors import TaskError
from mixgen.files import replace
from mixgen.mixture.sources import draw_order
from mixgen.mixture.tables import schema, table_of
from mixgen.mixture.weights import Mix
from mixgen.publishing.plan import MIX, Plan, Shard
from mixgen.tasks.base import Example, Task
from mixgen.tasks.trial import MAX_REPEATS, NoProblemError

BATCH: Final = 200  # examples that are Python objects at once
ROW_GROUP: Final = 10_000  # rows

Seen = dict[str, set[bytes]]  # hashes of the problems of each distinct task


class OutOfProblemsError(TaskError):
    """A task has no more distinct problems."""


def write_shard(
    plan: Plan,
    mix: Mix,
    shard: Shard,
    folder: Path,
    *,
    seen: Seen | None = None,
    on_written: Callable[[int], None] = lambda _: None,
) -> None:
    """Writes a shard of each config, unless it is there.

    Args:
        plan: The export.
        mix: Its mix (`plan.mix()`).
        shard: Which.
        folder: The export's directory.
        seen: The problems of the shards before it, where the plan has distinct tasks; those of this
            one are added.
        on_written: Is told how many examples have been written since it was called last.

    Raises:
        TaskError: A task cannot make an example, or has no more distinct problems.
        OSError: The disk is full or the like; nothing half-written is left.
    """
    paths = {config: folder / plan.path(config, shard) for config in plan.configs}
    if all(map(is_whole, paths.values())):
        if seen is not None:
            _add_written_keys(plan, paths, seen)
        on_written(plan.num_examples(shard))
        return
    drawn = _draw(plan, mix, shard, {} if seen is None else seen)
    with _without_collector(), _ShardWriter(paths) as writer:
        while batch := list(islice(drawn, BATCH)):
            writer.write(table_of(batch))
            on_written(len(batch))
        writer.finish()


@contextmanager
def _without_collector() -> Iterator[None]:
    """Turns garbage collection off: examples have no cycles, and looking for them takes longer
    than making them.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def is_whole(path: Path) -> bool:
    """Whether a Parquet file is there and has its end, which a copy that broke off has not."""
    try:
        pq.read_metadata(path)
    except (OSError, pa.ArrowInvalid):
        return False
    return True


def _draw(plan: Plan, mix: Mix, shard: Shard, seen: Seen) -> Iterator[Example]:
    """The examples of a shard."""
    where: dict[str, Any] = {
        "split": shard.split,
        "seed": plan.seed,
        "block": f"export-{shard.number}",
    }
    streams = [
        _unseen(task, task.stream(**where), seen.setdefault(task.name, set()), shard.split)
        if task.name in plan.distinct
        else task.stream(**where)
        for task in mix.active
    ]
    order = islice(draw_order(mix, **where), plan.num_examples(shard))
    for number, index in enumerate(order):
        try:
            example = next(streams[index])
        except OutOfProblemsError as error:
            done = shard.number * plan.shard_examples + number
            raise OutOfProblemsError(
                f"{error}. The {shard.split} split can have {done:,} examples: --splits "
                f"{shard.split}={done} asks for them, with --overwrite for what is written"
            ) from None
        yield example


def _unseen(
    task: Task, stream: Iterator[Example], seen: set[bytes], split: str
) -> Iterator[Example]:
    """The examples of a stream whose problems are new."""
    repeats = 0
    while repeats < MAX_REPEATS:
        try:
            example = next(stream)
        except NoProblemError:
            break
        key = _hashed(example["key"])
        repeats = repeats + 1 if key in seen else 0
        if not repeats:
            seen.add(key)
            yield example
    raise OutOfProblemsError(
        f"task {task.name!r} has run out of distinct {split} problems: it has {len(seen):,}, and "
        f"{MAX_REPEATS:,} draws in a row gave no other"
    )


def _hashed(key: str) -> bytes:
    return blake2b(key.encode(), digest_size=8).digest()


def _add_written_keys(plan: Plan, paths: dict[str, Path], seen: Seen) -> None:
    """Adds the problems of a shard that is written."""
    for name in plan.distinct:
        path = paths.get(name, paths.get(MIX))
        assert path is not None, "an export with distinct tasks has a config that holds them"
        table = pq.read_table(path, columns=["task", "key"])
        keys = zip(table["task"].to_pylist(), table["key"].to_pylist(), strict=True)
        seen.setdefault(name, set()).update(_hashed(key) for task, key in keys if task == name)


class _ShardWriter:
    """Writes the files of a shard under temporary names, and renames them once they are whole.

    A thread compresses one group of rows, which takes no lock of Python's, while the next is drawn.
    """

    def __init__(self, paths: Mapping[str, Path]) -> None:
        self.paths = paths
        self.buffer: list[pa.Table] = []
        self.num_buffered = 0
        self.writers: dict[str, pq.ParquetWriter] = {}
        self.thread = ThreadPoolExecutor(1)
        self.going: Future[None] | None = None

    def __enter__(self) -> _ShardWriter:
        for config, path in self.paths.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            # Chunks by content: what a later version has in common is stored once on the Hub.
            self.writers[config] = pq.ParquetWriter(
                _unfinished(path),
                schema(),
                compression="zstd",
                use_content_defined_chunking=True,
                write_page_index=True,
            )
        return self

    def __exit__(self, *exception: object) -> None:
        self.thread.shutdown()
        for config, writer in self.writers.items():
            with suppress(OSError):  # a full disk has said so already
                writer.close()
            with suppress(OSError):
                _unfinished(self.paths[config]).unlink(missing_ok=True)

    def write(self, table: pa.Table) -> None:
        self.buffer.append(table)
        self.num_buffered += len(table)
        if self.num_buffered >= ROW_GROUP:
            self._flush()

    def finish(self) -> None:
        """Puts the files in their places, and deletes what others left of them that were killed."""
        self._flush()
        self._wait()
        for writer in self.writers.values():
            writer.close()
        for path in self.paths.values():
            try:
                replace(_unfinished(path), path)
            except FileNotFoundError:
                if not is_whole(path):  # else another process has written it meanwhile
                    raise
            for left in path.parent.glob(f".{path.name}.*"):
                left.unlink(missing_ok=True)

    def _flush(self) -> None:
        self._wait()
        self.going = self.thread.submit(self._write_group, self.buffer)
        self.buffer, self.num_buffered = [], 0

    def _wait(self) -> None:
        if self.going:
            self.going.result()

    def _write_group(self, tables: Sequence[pa.Table]) -> None:
        if not tables:
            return
        group = pa.concat_tables(tables)
        for config, writer in self.writers.items():
            mine = group if config == MIX else group.filter(pc.equal(group["task"], config))
            if len(mine):  # `datasets` (5.2) fails on groups without rows, not on files without any
                writer.write_table(mine)


def _unfinished(path: Path) -> Path:
    """Where a file is written before it is whole."""
    return path.with_name(f".{path.name}.{platform.node()}.{os.getpid()}")
