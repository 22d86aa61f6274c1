"""What commands are told: tasks, task files and recipes, and what they take from these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


def check_flags(context: typer.Context, tasks: Mapping[str, type[Task]], *, hint: str = "") -> None:
    """Refuses what is neither an option of a command nor, perhaps, a flag of a task.

    Args:
        context: The command's, with the words that it has no option for.
        tasks: Whose flags it takes.
        hint: Ends the error of a word that is no flag.

    Raises:
        RecipeError: There is such a word.
    """
    from mixgen.flags import HELP, sections

    options = {option for parameter in context.command.params for option in parameter.opts}
    options |= {f"--{flag}" for flags in sections(tasks).values() for flag in flags.values()}
    for number, word in enumerate(context.args):
        flag = word.partition("=")[0]
        if not word.startswith("--") and (number == 0 or "=" in context.args[number - 1]):
            raise RecipeError(f"unexpected {word!r}{hint}")
        if word.startswith("--") and flag not in options:
            near = nearest(flag, options, listed=HELP)
            raise RecipeError(
                f"unknown flag {flag}: {near} (of a run's flags, those of tasks are taken)"
            )


def tasks_of(what: str, context: typer.Context) -> tuple[list[Task], list[Path]]:
    """The tasks of a task's name, a task file or a recipe, and the task files that they are in.

    Args:
        what: The name or the file.
        context: The command's, with flags of the tasks, such as `--calc_max_depth=1`.

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
        known, files = known_tasks(read_recipe(path), path, context.args)
        check_flags(context, known)
        found = configured_tasks(path, context.args)
        if not found:
            raise RecipeError(f"{path} gives no task a weight above 0")
        return found, files
    if path.suffix == ".py":
        return _made(load_task_file(path), context), [path]
    if not is_adapted(what) and what not in registered_tasks():
        names = [
            *registered_tasks(),
            *map(str, [*Path("recipes").glob("*.yaml"), *Path().glob("*.py")]),
        ]
        raise TaskError(f"unknown task {what!r}: {nearest(what, names)}; or name a file")
    return _made([task_class(what)], context), []


def _made(classes: Sequence[type[Task]], context: typer.Context) -> list[Task]:
    from mixgen.load import tasks_with

    check_flags(context, {cls.name: cls for cls in classes})
    if context.args:
        return tasks_with(classes, context.args)
    return [make_task(cls) for cls in classes]


def make_task(cls: type[Task]) -> Task:
    """A task as it comes, with its default settings."""
    from mixgen.tasks.trial import blaming

    with blaming(cls.name, "__init__"):
        return cls()
