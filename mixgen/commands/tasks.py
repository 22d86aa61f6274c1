"""The commands of `mixgen` that show tasks and their conversations."""

from __future__ import annotations

import dataclasses
import itertools
import json
import time
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from mixgen.commands.arguments import (
    AsJson,
    complete_task,
    is_recipe,
    make_task,
    tasks_of,
)
from mixgen.commands.console import make_console, print_records
from mixgen.errors import RecipeError, printable

if TYPE_CHECKING:
    from mixgen.encoding.renderer import Renderer
    from mixgen.tasks.base import Example, Task

TIMED_SECONDS: Final = 0.1
TOKEN_END: Final = "·"
STYLES: Final = {"user": "cyan", "assistant": "green", "call": "green", "tool": "yellow"}


def tasks(
    name: Annotated[
        str | None,
        typer.Argument(
            help="A task or task file, to list its settings.", autocompletion=complete_task
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the tasks that there are, or the settings of one.

    Example: mixgen tasks calculator
    """
    from mixgen.tasks.registry import load_task_file, registered_tasks, task_class

    if name is not None:
        classes = load_task_file(name) if name.endswith(".py") else [task_class(name)]
        for cls in classes:
            _print_settings(cls, as_json=as_json)
        return
    print_records(
        [
            {
                "task": cls.name,
                "flag": f"--{cls.flag}_weight",
                "settings": len(dataclasses.fields(cls.Config)),
                "examples_per_second": round(_examples_per_second(make_task(cls))),
                "description": (cls.__doc__ or "").strip().split("\n")[0],
            }
            for cls in registered_tasks().values()
        ],
        as_json=as_json,
    )


def _print_settings(cls: type[Task], *, as_json: bool) -> None:
    fields = dataclasses.fields(cls.Config)
    if not fields and not as_json:
        print(f"{cls.name} has no settings.")
        return
    defaults = cls.Config()
    records = []
    for field in fields:
        default = getattr(defaults, field.name)
        records.append(
            {
                "setting": field.name,
                "flag": f"--{cls.flag}_{field.name}",
                "default": default if as_json else _setting(default),
                "help": str(field.metadata.get("help", "")),
            }
        )
    print_records(records, as_json=as_json)


def _setting(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _examples_per_second(task: Task) -> float:
    stream = task.stream(split="train", seed=0)
    list(itertools.islice(stream, 20))  # tables are made at first use
    number, start = 0, time.perf_counter()
    while time.perf_counter() - start < TIMED_SECONDS:
        next(stream)
        number += 1
    return number / (time.perf_counter() - start)


def preview(
    context: typer.Context,
    what: Annotated[
        str,
        typer.Argument(
            help="A task, a task file or a recipe.",
            metavar="FILE|TASK|RECIPE",
            autocompletion=complete_task,
        ),
    ],
    number: Annotated[
        int, typer.Option("--number", "-n", min=1, help="Examples of each task.")
    ] = 3,
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "train",
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of every random draw; the recipe's, else 42.")
    ] = None,
    tokens: Annotated[
        bool, typer.Option("--tokens", help=f"Put {TOKEN_END} after each token.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show conversations, with who says what, what is trained on, and how many tokens it is.

    Takes the tasks' flags, such as --calc_max_depth=1. Tokens are of the tokenizer that a run would
    train: on all tasks of a recipe, or on a task alone.

    Example: mixgen preview tictactoe -n 1
    """
    if tokens and as_json:
        raise RecipeError("--json shows examples as they are, without tokens: leave one out")
    from mixgen.load import token_config, tokenizer_for

    chosen, _ = tasks_of(what, context)
    config = token_config(Path(what) if is_recipe(what) else None, seed)
    examples = [
        example
        for task in chosen
        for example in itertools.islice(task.stream(split=split, seed=config.seed), number)
    ]
    if as_json:
        for example in examples:
            print(json.dumps(example, ensure_ascii=False))
        return
    from mixgen.encoding.renderer import Renderer

    renderer = Renderer(tokenizer_for(chosen, config))
    for example in examples:
        _show(example, renderer, token_end=TOKEN_END if tokens else "")


def _show(example: Example, renderer: Renderer, token_end: str) -> None:
    from rich.text import Text

    from mixgen.encoding.preview import spans

    console = make_console()
    found = list(spans(example, renderer))
    total = sum(len(span.tokens) for span in found)
    trained = sum(len(span.tokens) for span in found if span.is_trained)
    head = f"{example['id']}, key {example['key']}: {total} tokens, {trained} of them trained on"
    text = Text()
    for is_trained, run in groupby(found, key=lambda span: span.is_trained):
        weight = "bold " if is_trained else ""
        text.append("«" if is_trained else "")
        for span in run:
            said = token_end.join(span.tokens) + token_end if token_end else span.text
            text.append(printable(said), style=f"{weight}{STYLES[span.speaker]}")
        text.append("»" if is_trained else "")
    console.print(Text(printable(head), style="dim"))
    console.print(text, end="\n\n")
