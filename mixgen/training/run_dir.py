"""The output directory of a run: what it holds already, and whether this run may go on there."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

from mixgen.errors import OutputError

RECIPE_FILE: Final = "recipe.yaml"
# What every resolved recipe has: a file without it is not ours.
RECIPE_KEYS: Final = {"weights", "max_seq_len", "rows_per_block", "global_batch_size"}
# What a run writes into its directory, and `overwrite` may delete.
RUN_FILES: Final = (
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "loss_by_task.png",
    "model*.safetensors*",
    "tokenizer*.json",
    "trainer_state.json",
    RECIPE_FILE,
)
CHECKPOINT: Final = re.compile(r"checkpoint-(\d+)")
# What does not change the result of a run: two recipes that differ only here are the same run.
IRRELEVANT: Final = {
    "output_dir",
    "overwrite",
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


def inspect_run_dir(output_dir: Path, recipe: Mapping[str, Any], *, overwrite: bool) -> RunState:
    """Looks for an earlier start of this run; changes nothing.

    Args:
        output_dir: Where the run saves.
        recipe: The resolved recipe of this run.
        overwrite: Whether another run that is there may be replaced.

    Raises:
        OutputError: The directory holds another run or something else, or cannot be a directory.
    """
    fresh = RunState(checkpoint=None, finished=False)
    try:
        if output_dir.exists() and not output_dir.is_dir():
            raise OutputError(f"output_dir {output_dir} is a file, not a directory")
        if not output_dir.exists() or not any(output_dir.iterdir()):
            return fresh
        checkpoints = _complete_checkpoints(output_dir)
    except (OSError, ValueError) as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(f"output_dir {output_dir} cannot be used: {error}") from error
    found = _read_recipe(output_dir)
    if found is None:
        raise OutputError(
            f"output_dir {output_dir} is not empty and holds no mixgen run: "
            "give another --output_dir"
        )
    finished = (output_dir / "trainer_state.json").is_file()
    if overwrite or not (finished or checkpoints):
        return fresh
    differing = [
        f"{key} {found.get(key, 'unset')} -> {recipe.get(key, 'unset')}"
        for key in sorted({*found, *recipe} - IRRELEVANT)
        if found.get(key) != recipe.get(key)
    ]
    if differing:
        raise OutputError(
            f"output_dir {output_dir} holds another run ({', '.join(differing)}): "
            "give another --output_dir, or --overwrite to replace it"
        )
    return RunState(checkpoint=checkpoints[-1] if checkpoints else None, finished=finished)


def prepare_run_dir(output_dir: Path, recipe: Mapping[str, Any], *, overwrite: bool) -> None:
    """Makes the directory and writes the resolved recipe; `overwrite` deletes the run before it.

    Only files that a run writes are deleted; others stay.

    Raises:
        OutputError: The directory cannot be written.
    """
    try:
        if overwrite and _read_recipe(output_dir) is not None:
            for pattern in RUN_FILES:
                for path in output_dir.glob(pattern):
                    path.unlink()
            for path in output_dir.iterdir():
                if CHECKPOINT.fullmatch(path.name) and path.is_dir():
                    shutil.rmtree(path)
        output_dir.mkdir(parents=True, exist_ok=True)
        written = output_dir / f".{RECIPE_FILE}"
        written.write_text(yaml.safe_dump(dict(recipe), sort_keys=False))
        written.replace(output_dir / RECIPE_FILE)  # other processes see all of it or none
    except OSError as error:
        raise OutputError(f"output_dir {output_dir} cannot be written: {error.strerror}") from error


def _complete_checkpoints(output_dir: Path) -> list[Path]:
    """The checkpoints that a run can go on from, oldest first; broken ones are passed over."""
    found: dict[int, Path] = {}
    for path in output_dir.iterdir():
        step = CHECKPOINT.fullmatch(path.name)
        if not step or not any(path.glob("optimizer*")) or not (path / "scheduler.pt").is_file():
            continue
        try:
            json.loads((path / "trainer_state.json").read_text())["global_step"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        found[int(step[1])] = path
    return [found[step] for step in sorted(found)]


def _read_recipe(output_dir: Path) -> dict[str, Any] | None:
    """The recipe of the run in a directory, or None if there is no mixgen run."""
    try:
        found = yaml.safe_load((output_dir / RECIPE_FILE).read_text())
    except (OSError, ValueError, yaml.YAMLError):
        return None
    return found if isinstance(found, dict) and found.keys() >= RECIPE_KEYS else None
