"""The commands of `mixgen` that show what is trained on: tasks, conversations and mixes."""

from __future__ import annotations

import dataclasses
import itertools
import json
import time
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from mixgen.commands.console import make_console, print_records, say
from mixgen.errors import RecipeError, TaskError, nearest

if TYPE_CHECKING:
    from mixgen.encoding.renderer import Renderer
    from mixgen.mixture.schedule import Schedule
    from mixgen.tasks.base import Example, Task

RECIPE_SUFFIXES: Final = {".yaml", ".yml"}
TIMED_SECONDS: Final = 0.1
PLOT_COLUMNS: Final = 60
DEFAULT_SEED: Final = 42
DEFAULT_VOCAB_SIZE: Final = 1024
STYLES: Final = {"user": "cyan", "assistant": "green", "call": "green", "tool": "yellow"}


def complete_task(incomplete: str) -> list[str]:
    """Names for the shell's completion."""
    from mixgen.tasks.registry import registered_tasks

    return [name for name in registered_tasks() if name.startswith(incomplete)]


AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, an object a line.")]


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
                "examples_per_second": round(_examples_per_second(_made(cls))),
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


def _setting(value: Any) -> Any:
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
    as_json: AsJson = False,
) -> None:
    """Show conversations, with who says what, what is trained on, and how many tokens it is.

    Tokens are of the tokenizer that a run on these tasks would train: of one task, on it alone.

    Example: mixgen preview tictactoe -n 1
    """
    from mixgen.recipe import read_recipe

    chosen, _ = tasks_of(what)
    content = read_recipe(what) if Path(what).suffix in RECIPE_SUFFIXES else {}
    if seed is None:
        seed = content.get("seed", DEFAULT_SEED)
    examples = [
        example
        for task in chosen
        for example in itertools.islice(task.stream(split=split, seed=seed), number)
    ]
    if as_json:
        for example in examples:
            print(json.dumps(example, ensure_ascii=False))
        return
    from mixgen.encoding.renderer import Renderer
    from mixgen.encoding.tokenizer import train_tokenizer

    vocab_size = content.get("vocab_size", DEFAULT_VOCAB_SIZE)
    renderer = Renderer(train_tokenizer(tuple(chosen), seed=seed, vocab_size=vocab_size))
    for example in examples:
        _show(example, renderer)


def _show(example: Example, renderer: Renderer) -> None:
    from rich.text import Text

    from mixgen.encoding.preview import spans

    console = make_console()
    found = list(spans(example, renderer))
    total = sum(span.num_tokens for span in found)
    trained = sum(span.num_tokens for span in found if span.is_trained)
    head = f"{example['id']}, key {example['key']}: {total} tokens, {trained} of them trained on"
    text = Text()
    for is_trained, run in groupby(found, key=lambda span: span.is_trained):
        weight = "bold " if is_trained else ""
        text.append("«" if is_trained else "")
        for span in run:
            text.append(span.text, style=f"{weight}{STYLES[span.speaker]}")
        text.append("»" if is_trained else "")
    console.print(Text(head, style="dim"))
    console.print(text, end="\n\n")


def mix(
    context: typer.Context,
    recipe: Annotated[Path, typer.Argument(help="A recipe.")],
    number: Annotated[
        int, typer.Option("--number", "-n", min=1, help="Examples that are drawn and measured.")
    ] = 5_000,
    as_json: AsJson = False,
) -> None:
    """Show what a recipe's weights come to: shares of examples and of tokens, lengths, schedule.

    Flags of run_train.py win over the recipe.

    Example: mixgen mix recipes/heavy_tictactoe.yaml --calc_weight=1.0
    """
    say("Loading ...")
    from mixgen.encoding.renderer import Renderer
    from mixgen.encoding.shares import check_lengths, measure_shares
    from mixgen.encoding.tokenizer import train_tokenizer
    from mixgen.recipe import parse_recipe

    found = parse_recipe([str(recipe), *context.args])
    schedule, config = found.schedule, found.config
    renderer = Renderer(
        train_tokenizer(schedule.active, seed=config.seed, vocab_size=config.vocab_size)
    )
    starts = schedule.starts
    for start in starts:
        if len(starts) > 1 and not as_json:
            print(f"From step {start:,}:")
        records = _shares(schedule, start, renderer, config.seed, number)
        print_records(
            [{"step": start, **record} for record in records] if as_json else records,
            as_json=as_json,
        )
        if not as_json:
            print()
    if len(starts) > 1 and not as_json:
        _plot(schedule)
    check_lengths(measure_shares(schedule, renderer, seed=config.seed), config.max_seq_len)


def _shares(
    schedule: Schedule, step: int, renderer: Renderer, seed: int, number: int
) -> list[dict[str, Any]]:
    """What is asked for at a step, and what examples drawn by it have."""
    from mixgen.mixture.sources import block_examples

    drawn = schedule.mix_at(step)
    lengths: dict[int, list[int]] = {index: [] for index in range(len(drawn.active))}
    for index, example in itertools.islice(
        block_examples(drawn, seed=seed, block="mix command"), number
    ):
        lengths[index].append(len(renderer.encode(example).input_ids))
    total = sum(map(sum, lengths.values()))
    weights = dict(zip([task.name for task in drawn.tasks], drawn.weights, strict=True))
    return [
        {
            "task": task.name,
            "weight": weights[task.name],
            "asked_share": round(drawn.probabilities[index], 4),
            "drawn_share": round(len(found) / number, 4),
            "token_share": round(sum(found) / total, 4),
            "mean_length": round(sum(found) / max(len(found), 1), 1),
            "p99": sorted(found)[len(found) * 99 // 100] if found else 0,
            "longest": max(found, default=0),
        }
        for index, (task, found) in enumerate(zip(drawn.active, lengths.values(), strict=True))
    ]


def _plot(schedule: Schedule) -> None:
    """The share of each task's examples over training, a column a stretch of steps."""
    from rich.text import Text

    bars = " ▁▂▃▄▅▆▇█"
    columns = min(PLOT_COLUMNS, schedule.num_steps)
    width = max(len(task.name) for task in schedule.active)
    console = make_console()
    for task in schedule.active:
        line = ""
        for column in range(columns):
            at = schedule.mix_at(column * schedule.num_steps // columns)
            shares = dict(zip(at.active, at.probabilities, strict=True))
            line += bars[round(shares.get(task, 0.0) * (len(bars) - 1))]
        console.print(Text(f"{task.name.ljust(width)} |{line}|"))
    console.print(Text(f"{' ' * width}  step 0 to {schedule.num_steps:,}; full: all examples"))


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
    if path.suffix in RECIPE_SUFFIXES:
        found = configured_tasks(path)
        if not found:
            raise RecipeError(f"{path} gives no task a weight above 0")
        return found, known_tasks(read_recipe(path), path)[1]
    if path.suffix == ".py":
        return [_made(cls) for cls in load_task_file(path)], [path]
    if not is_adapted(what) and what not in registered_tasks():
        names = [
            *registered_tasks(),
            *map(str, [*Path("recipes").glob("*.yaml"), *Path().glob("*.py")]),
        ]
        raise TaskError(f"unknown task {what!r}: {nearest(what, names)}; or name a file")
    return [_made(task_class(what))], []


def _made(cls: type[Task]) -> Task:
    from mixgen.tasks.trial import blaming

    with blaming(cls.name, "__init__"):
        return cls()
