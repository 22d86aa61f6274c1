"""The output directory of a run: what it holds already, and whether this run may go on there."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

from mixgen.errors import OutputError

RECIPE_FILE: Final = "recipe.yaml"
# What does not change the result of a run: two recipes that differ only here are the same run.
IRRELEVANT: Final = {
    "output_dir",
    "overwrite",
    "report_to",
    "run_name",
    "project",
    "disable_tqdm",
    "save_steps",
    "save_strategy",
    "save_total_limit",
    "dataloader_num_workers",
    "dataloader_prefetch_factor",
    "dataloader_persistent_workers",
    "hub_model_id",
    "hub_private_repo",
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
    if output_dir.exists() and not output_dir.is_dir():
        raise OutputError(f"output_dir {output_dir} is a file, not a directory")
    if not output_dir.exists() or not any(output_dir.iterdir()):
        return fresh
    found = _read_recipe(output_dir)
    if found is None:
        raise OutputError(
            f"output_dir {output_dir} is not empty and holds no mixgen run: "
            "give another --output_dir"
        )
    if overwrite:
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
    checkpoints = sorted(
        (
            path
            for path in output_dir.glob("checkpoint-*")
            if (path / "trainer_state.json").is_file()
        ),
        key=lambda path: int(path.name.rpartition("-")[2]),
    )
    finished = (output_dir / "trainer_state.json").is_file() and (
        output_dir / "model.safetensors"
    ).is_file()
    return RunState(checkpoint=checkpoints[-1] if checkpoints else None, finished=finished)


def prepare_run_dir(output_dir: Path, recipe: Mapping[str, Any], *, overwrite: bool) -> None:
    """Makes the directory and writes the resolved recipe; `overwrite` deletes the run before it.

    Raises:
        OutputError: The directory cannot be written.
    """
    try:
        if overwrite and _read_recipe(output_dir) is not None:
            shutil.rmtree(output_dir)
        output_dir.mkdir(parents=True, exist_ok=True)
        (output_dir / RECIPE_FILE).write_text(yaml.safe_dump(dict(recipe), sort_keys=False))
    except OSError as error:
        raise OutputError(f"output_dir {output_dir} cannot be written: {error.strerror}") from error


def _read_recipe(output_dir: Path) -> dict[str, Any] | None:
    try:
        found = yaml.safe_load((output_dir / RECIPE_FILE).read_text())
    except (OSError, yaml.YAMLError):
        return None
    return found if isinstance(found, dict) else None
