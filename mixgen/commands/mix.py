"""The command of `mixgen` that shows what a recipe's weights come to."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from mixgen.commands.arguments import AsJson
from mixgen.commands.console import make_console, print_records, say

if TYPE_CHECKING:
    from mixgen.encoding.renderer import Renderer
    from mixgen.mixture.schedule import Schedule

PLOT_COLUMNS: Final = 60


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
    from mixgen.load import tokenizer_for
    from mixgen.mixture.adaptive import AdaptiveSchedule
    from mixgen.recipe import parse_recipe

    found = parse_recipe([str(recipe), *context.args])
    schedule, config = found.schedule, found.config
    renderer = Renderer(tokenizer_for(schedule.active, config))
    starts = schedule.starts
    if isinstance(schedule, AdaptiveSchedule):
        first = 2 * schedule.config.every
        say(f"The weights are adaptive: from step {first:,} on they follow from the tasks' losses.")
        starts = starts[:1]  # the others are not decided yet
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
