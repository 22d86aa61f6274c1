"""An export as a step of datatrove, for what outgrows one machine.

datatrove is what large datasets of this field are made with (FineWeb, SmolLM's), and its executors
run one step on Slurm, on Ray or on this machine alike, with logs, retries and what is done already.
A shard needs no other, so this step only says which are whose.

    from datatrove.executor import SlurmPipelineExecutor
    from mixgen.publishing.datatrove import ExportShards

    SlurmPipelineExecutor(
        job_name="mixgen", pipeline=[ExportShards("data/big")], tasks=400, time="01:00:00",
        partition="cpu",
    ).run()

`mixgen export ... --plan-only` makes `data/big` before, on a file system that all machines share;
the same command without that flag writes the card after the jobs. Needs the extra `cluster`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datatrove.pipeline.base import PipelineStep

from mixgen.publishing.export import export_unit, num_units
from mixgen.publishing.plan import read_plan


class ExportShards(PipelineStep):  # type: ignore[misc]
    """Writes a task's part of an export's shards; those that are there are passed over.

    Args:
        folder: The export's directory, with its plan.
    """

    name = "mixgen export"
    type = "WRITER"

    def __init__(self, folder: str | Path) -> None:
        super().__init__()
        self.folder = Path(folder).resolve()

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        """Writes every `world_size`-th unit from the one numbered `rank` on; yields no document."""
        with self.track_time():
            for number in range(rank, num_units(read_plan(self.folder)), world_size):
                export_unit(self.folder, number, self._count)
        yield from data or ()

    def _count(self, examples: int) -> None:
        self.stat_update("examples", value=examples)
