"""The output directory of a run: what it holds already, and whether this run may go on there."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml
from filelock import FileLock, Timeout

from mixgen.cards import CARD_FILE, is_ours, read_card, without_generated
from mixgen.errors import OutputError
from mixgen.files import write_whole
from mixgen.training.checkpoint import (
    CHECKPOINT,
    RECIPE_FILE,
    STAGING,
    STATE_FILE,
    newest_checkpoint,
    read_recipe_file,
)

FINISHED_FILE: Final = "trainer_state.json"  # written last
LOCK_FILE: Final = ".lock"
# What a run that is killed before it trains may leave.
NEGLIGIBLE: Final = (LOCK_FILE, STAGING, f".{RECIPE_FILE}.*")
LOCK_SECONDS: Final = 10.0  # a killed run's DataLoader workers outlive it by some seconds
# What every resolved recipe has: a file without it is not ours.
RECIPE_KEYS: Final = {"weights", "max_seq_len", "rows_per_block", "global_batch_size"}
RESULTS_FILE: Final = "evaluation.json"
LATER_FILE: Final = "evaluation-test.json"  # of `mixgen eval`
REPORT_FILE: Final = "report.html"
# What tells of the model that a run ended with: wrong once it goes on.
REPORT_FILES: Final = (REPORT_FILE, RESULTS_FILE, LATER_FILE)
# What a run writes into its directory, and `overwrite` may delete.
RUN_FILES: Final = (
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "evaluation*.json",
    "loss_by_task.png",
    REPORT_FILE,
    "skill.png",
    "model*.safetensors*",
    "tokenizer*.json",
)
# What does not change the result of a run: two recipes that differ only here are the same run.
IRRELEVANT: Final = {
    "output_dir",
    "overwrite",
    "resume",
    "resume_anyway",
    "max_task_share",
    "eval_delay",
    "eval_examples",
    "eval_on_start",
    "eval_steps",
    "eval_strategy",
    "test_examples",
    "per_device_eval_batch_size",
    "report_to",
    "run_name",
    "project",
    "disable_tqdm",
    "log_level",
    "logging_steps",
    "save_steps",
    "save_strategy",
    "save_total_limit",
    "use_cpu",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "dataloader_num_workers",
    "dataloader_pin_memory",
    "dataloader_prefetch_factor",
    "dataloader_persistent_workers",
    "ddp_timeout",
    "hub_model_id",
    "hub_private_repo",
    "hub_strategy",
    "push_to_hub",
}


class RunState(NamedTuple):
    """What an output directory holds of this very run."""

    checkpoint: Path | None  # to go on from
    finished: bool
    passed_over: list[str]  # why newer checkpoints are no use
    differing: list[str]  # what of the recipe is not as it was

    @property
    def step(self) -> int:
        """The steps that are done."""
        return int(self.checkpoint.name.rpartition("-")[2]) if self.checkpoint else 0


def inspect_run_dir(
    output_dir: Path,
    recipe: Mapping[str, Any],
    *,
    overwrite: bool = False,
    resume: bool | None = None,
    resume_anyway: bool = False,
) -> RunState:
    """Looks for an earlier start of this run; changes nothing.

    Args:
        output_dir: Where the run saves.
        recipe: The resolved recipe of this run.
        overwrite: Whether another run that is there may be replaced.
        resume: True if there must be a run to go on with, False if there must be none.
        resume_anyway: Whether to go on with a run whose recipe differs.

    Raises:
        OutputError: The directory holds another run or something else, or cannot be a directory.
    """
    fresh = RunState(checkpoint=None, finished=False, passed_over=[], differing=[])
    try:
        if output_dir.exists() and not output_dir.is_dir():
            raise OutputError(f"output_dir {output_dir} is a file, not a directory")
        empty = not output_dir.exists() or all(
            any(map(path.match, NEGLIGIBLE)) for path in output_dir.iterdir()
        )
        checkpoint, passed_over = (None, []) if empty else newest_checkpoint(output_dir)
    except (OSError, ValueError) as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(f"output_dir {output_dir} cannot be used: {error}") from error
    if empty and not resume:
        return fresh
    found = _run_recipe(output_dir)
    if not empty and found is None:
        raise OutputError(
            f"output_dir {output_dir} is not empty and holds no mixgen run: "
            "give another --output_dir"
        )
    finished = (output_dir / FINISHED_FILE).is_file()
    if not (finished or checkpoint) or found is None:
        if resume:
            why = f" ({'; '.join(passed_over)})" if passed_over else ""
            raise OutputError(f"output_dir {output_dir} holds no run to go on with{why}")
        return fresh if overwrite else fresh._replace(passed_over=passed_over)
    if overwrite:
        return fresh
    if resume is False:
        raise OutputError(
            f"output_dir {output_dir} holds a run already: "
            "give another --output_dir, or --overwrite to replace it"
        )
    if checkpoint and not finished and checkpoint.recipe:
        found = checkpoint.recipe
    differing = differing_keys(found, recipe)
    if differing and not resume_anyway:
        rows = found.get("global_batch_size")
        if rows != recipe.get("global_batch_size"):
            differing.append(f"--global_batch_size={rows} keeps that")
        raise OutputError(
            f"output_dir {output_dir} holds another run ({', '.join(differing)}): give another "
            "--output_dir, --overwrite to replace it, or --resume_anyway to go on with it"
        )
    before, now = found.get("optim"), recipe.get("optim")
    if checkpoint and before and before != now:
        raise OutputError(
            f"{checkpoint.path} was saved by optim {before}, whose state {now} cannot take up: "
            f"--optim={before} goes on with it, --overwrite starts again"
        )
    if differing and not checkpoint:
        raise OutputError(
            f"output_dir {output_dir} holds a finished run without a checkpoint to go on from: "
            "--overwrite to start again"
        )
    return RunState(
        checkpoint=checkpoint.path if checkpoint else None,
        finished=finished and not differing,
        passed_over=passed_over,
        differing=differing,
    )


def differing_keys(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """What makes two resolved recipes different runs, as `depth 4 -> 5`."""
    return [
        f"{key} {one.get(key, 'unset')} -> {other.get(key, 'unset')}"
        for key in sorted({*one, *other} - IRRELEVANT)
        if one.get(key) != other.get(key)
    ]


class RunLock:
    """Keeps other runs out of an output directory until it is released or this process ends."""

    def __init__(self, output_dir: Path) -> None:
        self.output_dir = output_dir
        self._lock = FileLock(output_dir / LOCK_FILE)

    def acquire(self) -> None:
        """Makes the directory and locks it.

        Raises:
            OutputError: The directory cannot be written, or another run is training in it.
        """
        where = f"output_dir {self.output_dir}"
        try:
            self.output_dir.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=LOCK_SECONDS)
        except Timeout:
            raise OutputError(f"another run is training in {where}") from None
        except OSError as error:
            raise OutputError(f"{where} cannot be written: {error.strerror}") from error

    def release(self) -> None:
        """Lets other runs in."""
        self._lock.release()


def prepare_run_dir(output_dir: Path, recipe: Mapping[str, Any], *, overwrite: bool) -> None:
    """Makes the directory and writes the resolved recipe; `overwrite` deletes the run before it.

    Only files that a run writes are deleted; others stay. A run that goes on loses its report, its
    final evaluation and its card: they tell of the model that it had.

    Raises:
        OutputError: The directory cannot be written.
    """
    try:
        (output_dir / FINISHED_FILE).unlink(missing_ok=True)
        for name in REPORT_FILES:
            (output_dir / name).unlink(missing_ok=True)
        _clear_card(output_dir / CARD_FILE)
        if overwrite and _run_recipe(output_dir) is not None:
            # The recipe stays until the new one replaces it: without, this is no run's directory.
            for path in output_dir.iterdir():
                if CHECKPOINT.fullmatch(path.name) and path.is_dir():
                    shutil.rmtree(path)
            for pattern in RUN_FILES:
                for path in output_dir.glob(pattern):
                    path.unlink()
        output_dir.mkdir(parents=True, exist_ok=True)
        for left in output_dir.glob(f".{RECIPE_FILE}.*"):  # by a run that was killed
            left.unlink(missing_ok=True)
        write_whole(output_dir / RECIPE_FILE, yaml.safe_dump(dict(recipe), sort_keys=False))
    except OSError as error:
        raise OutputError(f"output_dir {output_dir} cannot be written: {error.strerror}") from error


def is_of_run(path: Path) -> bool:
    """Whether a file is one of a run or a model that no later evaluation may replace."""
    later = {"evaluation*.json", REPORT_FILE}
    names = {*RUN_FILES, RECIPE_FILE, RESULTS_FILE, FINISHED_FILE, STATE_FILE} - later
    return path.exists() and any(map(path.match, names))


def is_own_card(path: Path) -> bool:
    """Whether mixgen may write a model card: there is none, or it wrote a part of it."""
    return not path.exists() or is_ours(path.read_text(encoding="utf-8", errors="replace"))


def _clear_card(path: Path) -> None:
    """Takes from a card what tells of the model before."""
    if path.exists() and is_own_card(path):
        if left := without_generated(read_card(path)):
            write_whole(path, left)
        else:
            path.unlink()


def _run_recipe(output_dir: Path) -> dict[str, Any] | None:
    """The recipe of the run in a directory, or None if there is no mixgen run."""
    found = read_recipe_file(output_dir / RECIPE_FILE)
    return found if found is not None and found.keys() >= RECIPE_KEYS else None
