"""What commands are told: tasks, task files and recipes, and what they take from these."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from mixgen.errors import RecipeError, TaskError, nearest

if TYPE_CHECKING:
    from mixgen.tasks.base import Task

RECIPE_SUFFIXES: Final = {".yaml", ".yml"}

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, an object a line.")]


def complete_task(incomplete: str) -> list[str]:
    """Names for the shell's completion."""
    from mixgen.tasks.registry import registered_tasks

    return [name for name in registered_tasks() if name.startswith(incomplete)]


def is_recipe(what: str) -> bool:
    """Whether a name is a recipe's."""
    return Path(what).suffix in RECIPE_SUFFIXES


def tasks_of(what: str, flags: Sequence[str] = ()) -> tuple[list[Task], list[Path]]:
    """The tasks of a task's name, a task file or a recipe, and the task files that they are in.

    Args:
        what: The name or the file.
        flags: Flags of the tasks, such as `--calc_max_depth=1`.

    Raises:
        TaskError: There is no such task.
        RecipeError: The recipe or a flag is wrong.
    """
    from mixgen.load import configured_tasks
    from mixgen.recipe import known_tasks, read_recipe
    from mixgen.tasks.registry import (
        is_adapted,
        load_task_file,
        registered_tasks,
        task_class,
    )

    path = Path(what)
    if is_recipe(what):
        found = configured_tasks(path, flags)
        if not found:
            raise RecipeError(f"{path} gives no task a weight above 0")
        return found, known_tasks(read_recipe(path), path)[1]
    if path.suffix == ".py":
        return _made(load_task_file(path), flags), [path]
    if not is_adapted(what) and what not in registered_tasks():
        names = [
            *registered_tasks(),
            *map(str, [*Path("recipes").glob("*.yaml"), *Path().glob("*.py")]),
        ]
        raise TaskError(f"unknown task {what!r}: {nearest(what, names)}; or name a file")
    return _made([task_class(what)], flags), []


def _made(classes: Sequence[type[Task]], flags: Sequence[str]) -> list[Task]:
    from mixgen.load import tasks_with

    return tasks_with(classes, flags) if flags else [make_task(cls) for cls in classes]


def make_task(cls: type[Task]) -> Task:
    """A task as it comes, with its default settings."""
    from mixgen.tasks.trial import blaming

    with blaming(cls.name, "__init__"):
        return cls()
