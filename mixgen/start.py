"""What a run tells before its first step: what is trained on what, and from where it goes on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

from mixgen.tasks._finite import FiniteTask

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from mixgen.encoding.rows import RowDataset
    from mixgen.encoding.shares import TaskShare
    from mixgen.recipe import Recipe
    from mixgen.training.run_dir import RunState
    from mixgen.training.trainer import MixTrainer

MAX_SHOWN = 400  # characters of an example


def print_start(recipe: Recipe, trainer: MixTrainer, shares: list[TaskShare]) -> None:
    """What is about to be trained on what."""
    from mixgen.encoding.preview import render_example

    config, schedule = recipe.config, recipe.schedule
    model, rows = cast("PreTrainedModel", trainer.model), trainer.train_dataset
    renderer = rows.renderer
    print(f"Generator mix: {schedule}")
    print("Probabilities: " + ", ".join(f"{task.name}={task.probability:.4f}" for task in shares))
    lengths = (
        f"{task.name}={task.token_share:.4f} ({task.mean_tokens:.0f} each)" for task in shares
    )
    print("Shares of tokens: " + ", ".join(lengths))
    fill = rows.fill_at(0, rows.rows_per_block)
    origin = config.model_name_or_path or f"depth {config.depth}, width {model.config.hidden_size}"
    print(
        f"Model: {model.num_parameters():,} parameters, {type(model).__name__} ({origin}), "
        f"vocabulary {len(renderer.tokenizer):,}"
    )
    print(
        f"Training: {config.max_steps:,} steps of {config.tokens_per_step:,} tokens "
        f"({config.rows_per_step} rows of {config.max_seq_len}, {fill:.0%} full), "
        f"{config.world_size} process(es) on {config.device.type}, into {config.output_dir}"
    )
    for task in schedule.active:
        print(f"\nOne example of {task.name}; trained on «what stands between these marks»:")
        example = next(task.stream(split="train", seed=config.seed))
        text = render_example(example, renderer)
        shown = text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]} ..."
        print("  " + shown.replace("\n", "\n  "))
    print(flush=True)
    for line in _passes(rows):
        print(line, flush=True)
    for point in schedule.unreached:
        print(f"warning: {point} is never reached: training has {config.max_steps:,} steps")


def _passes(rows: RowDataset) -> Iterator[str]:
    """How often the rows of finite tasks come."""
    for task in rows.schedule.active:
        if isinstance(task, FiniteTask) and task.pace is not None:
            size = task.num_examples(rows.split)
            yield f"{task.name}: {size:,} examples, {task.pace * rows.num_rows / size:.3g} passes"


def print_state(state: RunState) -> None:
    """What the run goes on from, if it does."""
    for reason in state.passed_over:
        print(f"Passed over: {reason}.")
    if state.differing:
        print(f"Going on although the recipe differs: {', '.join(state.differing)}.")
    if state.checkpoint:
        print(f"Going on from {state.checkpoint}.", flush=True)
