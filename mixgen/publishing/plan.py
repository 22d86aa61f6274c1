"""What an export is: the mix, the seed, and how many examples in how many shards.

A plan is all that a process needs to write any shard, so it is saved with the export
(`.export.json`): every process, array job or machine reads it there, and an export that was broken
off goes on only as what it was.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import re
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, NamedTuple

from mixgen.cards import CARD_FILE
from mixgen.errors import OutputError, RecipeError, nearest, one_line
from mixgen.files import write_whole
from mixgen.mixture.sources import block_examples
from mixgen.mixture.weights import Mix
from mixgen.tasks._finite import FiniteTask
from mixgen.tasks.base import SPLITS
from mixgen.tasks.registry import load_task_file, task_class

PLAN_FILE: Final = ".export.json"
PLOT_FILE: Final = "lengths.png"
RECIPE_FILE: Final = "recipe.yaml"
CARD_FILES: Final = {CARD_FILE, PLOT_FILE, RECIPE_FILE}  # written last
MIX: Final = "mix"  # the dataset config that holds all tasks
SHARD_EXAMPLES: Final = 50_000  # one to three seconds of one process
FINGERPRINT_EXAMPLES: Final = 200
MAX_SHARDS: Final = 100_000  # of a split: their numbers have five digits


class Shard(NamedTuple):
    """One file of each dataset config."""

    split: str
    number: int  # from 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """An export.

    Attributes:
        weights: The weight of each task, by name.
        settings: The settings of each task that is drawn from.
        task_files: Absolute paths of users' own tasks.
        seed: The seed of all that is drawn.
        splits: How many examples of the mix each split has.
        shard_examples: How many of them are in a shard; the last of a split may have fewer.
        distinct: The tasks none of whose problems comes twice in a split.
        configs: The dataset configs to write: `MIX` and names of tasks.
        fingerprint: A hash of what the tasks make (see `fingerprint_of`).
    """

    weights: dict[str, float]
    settings: dict[str, dict[str, Any]]
    task_files: list[str]
    seed: int
    splits: dict[str, int]
    shard_examples: int
    distinct: list[str]
    configs: list[str]
    fingerprint: str

    def mix(self) -> Mix:
        """The tasks with their settings, and their weights."""
        for file in self.task_files:
            load_task_file(file)
        made = []
        for name in self.weights:
            cls = task_class(name)
            made.append(cls(cls.Config(**self.settings.get(name, {}))))
        mix = Mix(tasks=tuple(made), weights=tuple(self.weights.values()))
        for task, probability in zip(mix.active, mix.probabilities, strict=True):
            if isinstance(task, FiniteTask):
                task.pace = probability * self.shard_examples
        return mix

    def num_shards(self, split: str) -> int:
        """How many shards a split has."""
        return math.ceil(self.splits[split] / self.shard_examples)

    def num_examples(self, shard: Shard) -> int:
        """How many examples of the mix a shard has."""
        return min(
            self.shard_examples, self.splits[shard.split] - shard.number * self.shard_examples
        )

    def shards(self) -> Iterator[Shard]:
        """All shards, in order."""
        for split in self.splits:
            for number in range(self.num_shards(split)):
                yield Shard(split, number)

    def path(self, config: str, shard: Shard) -> Path:
        """Where a shard of a dataset config is, relative to the export's directory."""
        total = self.num_shards(shard.split)
        return Path(config_of(config)) / f"{shard.split}-{shard.number:05d}-of-{total:05d}.parquet"


def config_of(task: str) -> str:
    """The name of a task's dataset config and directory: neither may hold a colon.

    Examples:
        >>> config_of("calculator"), config_of("reasoning_gym:chain_sum")
        ('calculator', 'reasoning_gym-chain_sum')
    """
    return re.sub(r"[^\w.-]", "-", task)


def make_plan(
    mix: Mix,
    *,
    splits: dict[str, int],
    seed: int = 42,
    task_files: list[str] | None = None,
    shard_examples: int = SHARD_EXAMPLES,
    distinct: list[str] | None = None,
    configs: list[str] | None = None,
) -> Plan:
    """Plans the export of a mix.

    Args:
        mix: Tasks and weights.
        splits: How many examples of the mix each split is to have.
        seed: The seed of all that is drawn.
        task_files: Users' own task files that the mix needs.
        shard_examples: How many examples are in a shard.
        distinct: The tasks none of whose problems may come twice in a split.
        configs: The dataset configs to write; by default one for the mix and one for each task.

    Raises:
        RecipeError: A split, number or name is wrong.
        TaskError: A task cannot make an example.
    """
    names = [task.name for task in mix.active]
    if MIX in names:
        raise RecipeError(f"a task called {MIX!r} cannot be exported: that is the whole mix's name")
    for name, other in itertools.combinations(names, 2):
        if (
            config_of(name).casefold() == config_of(other).casefold()
        ):  # directories, on some systems
            raise RecipeError(
                f"tasks {name!r} and {other!r} would both be dataset config {config_of(name)!r}: "
                "export one without the other"
            )
    for split, number in splits.items():
        if split not in SPLITS:
            raise RecipeError(f"unknown split {split!r}: {nearest(split, SPLITS)}")
        if number < 1:
            raise RecipeError(f"split {split!r} needs at least 1 example, got {number}")
        if math.ceil(number / max(shard_examples, 1)) > MAX_SHARDS:
            raise RecipeError(
                f"split {split!r} of {number:,} examples has more than {MAX_SHARDS:,} shards of "
                f"{shard_examples:,}: larger ones are fewer"
            )
    if configs is not None and not configs:
        raise RecipeError("no dataset config to write")
    if not splits:
        raise RecipeError(f"no split to export: allowed: {', '.join(SPLITS)}")
    if shard_examples < 1:
        raise RecipeError(f"a shard needs at least 1 example, got {shard_examples}")
    chosen = list(dict.fromkeys(distinct or []))
    written = list(dict.fromkeys(configs or [MIX, *names]))
    for what, given, allowed in (("distinct", chosen, names), ("configs", written, [MIX, *names])):
        for name in given:
            if name not in allowed:
                raise RecipeError(f"{what}: unknown {name!r}: {nearest(name, allowed)}")
    if MIX not in written and (left := [name for name in chosen if name not in written]):
        raise RecipeError(f"distinct: {left[0]!r} is in none of the configs ({', '.join(written)})")
    weights = dict(zip([task.name for task in mix.tasks], mix.weights, strict=True))
    return Plan(
        weights={name: weight for name, weight in weights.items() if weight},
        settings={task.name: dataclasses.asdict(task.config) for task in mix.active},
        task_files=[str(Path(file).resolve()) for file in task_files or []],
        seed=seed,
        splits={split: splits[split] for split in SPLITS if split in splits},
        shard_examples=shard_examples,
        distinct=chosen,
        configs=written,
        fingerprint=fingerprint_of(mix, seed),
    )


def fingerprint_of(mix: Mix, seed: int) -> str:
    """A hash of examples that no shard holds: other ones mean that a task's code has changed."""
    digest = blake2b(digest_size=8)
    drawn = block_examples(mix, seed=seed, block="fingerprint")
    for _, example in itertools.islice(drawn, FINGERPRINT_EXAMPLES):
        digest.update(json.dumps(example, default=str).encode())
    return digest.hexdigest()


def save_plan(plan: Plan, folder: Path, *, overwrite: bool = False) -> None:
    """Begins an export, or goes on with the one that is there.

    Args:
        plan: The export.
        folder: Its directory.
        overwrite: Whether to put the plan in the place of another export's.

    Raises:
        OutputError: The directory holds another export or other files, or cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is no directory: --output names one")
    path = folder / PLAN_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        names = {one.name for one in folder.iterdir() if not one.name.startswith(".")}
        is_new = not path.exists()  # looked at last: another job may have begun meanwhile
        if (overwrite and not is_new) or (is_new and not names - CARD_FILES):
            _write_plan(plan, path)
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error.strerror or error}") from error
    if not is_new:
        found = read_plan(folder)
        _check_same(plan, found, folder)
        if found.task_files != plan.task_files:  # they have moved
            _write_plan(plan, path)
    elif names - CARD_FILES:
        raise OutputError(
            f"{folder} holds files that are no export: --output names another directory"
        )


def _write_plan(plan: Plan, path: Path) -> None:
    write_whole(path, json.dumps(dataclasses.asdict(plan), indent=1) + "\n")


def _check_same(plan: Plan, found: Plan, folder: Path) -> None:
    before, now = dataclasses.asdict(found), dataclasses.asdict(plan)
    before["task_files"], now["task_files"] = [], []  # where they lie does not matter
    differing = [key for key in now if before[key] != now[key]]
    if differing == ["fingerprint"]:
        raise OutputError(
            f"{folder} was begun with tasks that make other examples than today's: "
            "--overwrite deletes it, --output names another directory"
        )
    if differing:
        changes = "; ".join(
            change
            for key in differing
            if key != "fingerprint"
            for change in _changes(key, before[key], now[key])
        )
        raise OutputError(
            f"{folder} holds another export ({changes}): --overwrite deletes it, --output names "
            "another directory"
        )


def _changes(key: str, before: Any, now: Any) -> Iterator[str]:
    """What differs, as `calculator.max_depth 3 there, 2 asked for`."""
    if isinstance(before, dict) and isinstance(now, dict):
        for part in dict.fromkeys([*before, *now]):
            if before.get(part) != now.get(part):
                yield from _changes(f"{key}.{part}", before.get(part), now.get(part))
    else:
        yield f"{key} {before} there, {now} asked for"


def read_plan(folder: Path) -> Plan:
    """The plan of an export.

    Raises:
        OutputError: There is none, or it cannot be read.
    """
    path = folder / PLAN_FILE
    try:
        plan = Plan(**json.loads(path.read_text(encoding="utf-8")))
        _check_read(plan)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise OutputError(f"{folder} holds no export: mixgen export makes one") from error
    except OSError as error:
        raise OutputError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise OutputError(
            f"{path} is damaged, or of another version of mixgen ({one_line(error)[:100]}): "
            "delete it to begin again"
        ) from error
    return plan


def _check_read(plan: Plan) -> None:
    """Raises a `ValueError` for what no plan is, so that no file elsewhere is touched."""
    for name in plan.configs:
        if not isinstance(name, str) or not config_of(name).strip("."):
            raise ValueError(f"config {name!r}")
    numbers = [plan.shard_examples, *plan.splits.values()]
    if not all(type(number) is int and number > 0 for number in numbers):
        raise ValueError(f"sizes {numbers}")
    if not set(plan.splits) <= set(SPLITS) or not plan.splits or not plan.configs:
        raise ValueError(f"splits {list(plan.splits)}")
