"""What commands are told: tasks, task files and recipes, and what they take from these."""

from __future__ import annotations

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


def tasks_of(what: str) -> tuple[list[Task], list[Path]]:
    """The tasks of a task's name, a task file or a recipe, and the task files that they are in.

    Raises:
        TaskError: There is no such task.
        RecipeError: The recipe is wrong.
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
        found = configured_tasks(path)
        if not found:
            raise RecipeError(f"{path} gives no task a weight above 0")
        return found, known_tasks(read_recipe(path), path)[1]
    if path.suffix == ".py":
        return [make_task(cls) for cls in load_task_file(path)], [path]
    if not is_adapted(what) and what not in registered_tasks():
        names = [
            *registered_tasks(),
            *map(str, [*Path("recipes").glob("*.yaml"), *Path().glob("*.py")]),
        ]
        raise TaskError(f"unknown task {what!r}: {nearest(what, names)}; or name a file")
    return [make_task(task_class(what))], []


def make_task(cls: type[Task]) -> Task:
    """A task as it comes, with its default settings."""
    from mixgen.tasks.trial import blaming

    with blaming(cls.name, "__init__"):
        return cls()
