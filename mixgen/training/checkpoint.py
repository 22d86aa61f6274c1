"""Checkpoints that are whole or not there at all.

A checkpoint is written into a staging directory, synced to the disk and renamed: a kill at any
moment leaves the previous one as it was. `mixgen_state.json` is written last and is its completion
mark: it lists every file with its size, so that a copy that broke off, or one that was being
deleted, is told apart too. It also holds what the Trainer does not save: where the data goes on.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Set
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

from mixgen.errors import OutputError
from mixgen.files import sync

STATE_FILE: Final = "mixgen_state.json"
RECIPE_FILE: Final = "recipe.yaml"
STAGING: Final = ".saving"
STATE_KEYS: Final = {"step", "next_row", "fingerprint", "versions", "decisions"}
CHECKPOINT: Final = re.compile(r"checkpoint-(\d+)")
LIBRARIES: Final = (
    "mixgen",
    "torch",
    "transformers",
    "accelerate",
    "datasets",
    "tokenizers",
    "numpy",
)


class Checkpoint(NamedTuple):
    """A whole checkpoint."""

    path: Path
    state: dict[str, Any]  # see `ResumableTrainer`
    recipe: dict[str, Any] | None  # of the run that saved it


def library_versions() -> dict[str, str]:
    """The versions of what rows and training depend on."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # run from its folder, not installed
            found[name] = "unknown"
    return found


def seal(folder: Path, state: Mapping[str, Any]) -> None:
    """Marks a checkpoint as complete, and waits until all of it is on the disk.

    Args:
        folder: Where everything else is written already.
        state: What the mark holds besides the list of files.
    """
    files = {
        str(path.relative_to(folder)): path.stat().st_size
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    (folder / STATE_FILE).write_text(json.dumps({**state, "files": files}, indent=2) + "\n")
    for path in (*folder.rglob("*"), folder):
        sync(path)


def commit(folder: Path, final: Path) -> None:
    """Renames a sealed checkpoint to its place; one that is there is replaced."""
    if final.exists():  # an incomplete one, which a resumed run has come to again
        final.rename(folder.parent / "replaced")
    folder.rename(final)
    sync(final.parent)
    shutil.rmtree(folder.parent, ignore_errors=True)


def rotate(output_dir: Path, *, kept: Set[Path], limit: int | None) -> None:
    """Deletes the oldest complete checkpoints but `limit`; those `kept` stay.

    Incomplete ones do not count, and are left to the user.
    """
    if not limit or limit < 0:
        return
    complete = []
    for path in _checkpoints(output_dir).values():
        with suppress(OutputError):
            complete.append(read_checkpoint(path))
    others = sorted(one.state["step"] for one in complete if one.path not in kept)
    for step in others[: max(len(complete) - limit, 0)]:
        shutil.rmtree(output_dir / f"checkpoint-{step}", ignore_errors=True)


def _checkpoints(output_dir: Path) -> dict[int, Path]:
    """The directories of checkpoints, complete or not, by step."""
    return {
        int(match[1]): path
        for path in output_dir.iterdir()
        if (match := CHECKPOINT.fullmatch(path.name)) and path.is_dir()
    }


def newest_checkpoint(output_dir: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest whole checkpoint of a run.

    Returns:
        It, or None; and what is wrong with each newer one that was passed over.
    """
    found = _checkpoints(output_dir)
    passed_over: list[str] = []
    for step in sorted(found, reverse=True):
        try:
            return read_checkpoint(found[step]), passed_over
        except OutputError as error:
            passed_over.append(str(error))
    return None, passed_over


def read_checkpoint(path: Path) -> Checkpoint:
    """A checkpoint, if it is whole.

    Raises:
        OutputError: It is not; the error says why.
    """
    try:
        state = json.loads((path / STATE_FILE).read_text())
        files = dict(state["files"])
    except FileNotFoundError:
        raise OutputError(f"{path} is not complete: it has no {STATE_FILE}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OutputError(
            f"{path} is not complete: {STATE_FILE} cannot be read ({error})"
        ) from None
    if missing := STATE_KEYS - state.keys():
        names = ", ".join(sorted(missing))
        raise OutputError(f"{path} is of another version of mixgen: its {STATE_FILE} lacks {names}")
    for name, size in files.items():
        file = path / name
        if not file.is_file():
            raise OutputError(f"{path} is not complete: it has no {name}")
        if file.stat().st_size != size:
            raise OutputError(
                f"{path} is not complete: {name} has {file.stat().st_size:,} of {size:,} bytes"
            )
    return Checkpoint(path, state, read_recipe_file(path / RECIPE_FILE))


def read_recipe_file(path: Path) -> dict[str, Any] | None:
    """A resolved recipe that a run has written, or None if there is none."""
    try:
        found = yaml.safe_load(path.read_text())
    except (OSError, ValueError, yaml.YAMLError):
        return None
    return found if isinstance(found, dict) else None
