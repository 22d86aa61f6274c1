"""What follows training: the saved model is tried, its report written, and both are pushed."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mixgen.cards import CARD_FILE
from mixgen.errors import MixgenError, OutputError, RecipeError, one_line

if TYPE_CHECKING:
    from mixgen.recipe import Recipe
    from mixgen.training.config import MixConfig


UNPUSHED = ("_", ".", "checkpoint-")  # how files and folders begin that stay here


def evaluate_and_report(recipe: Recipe) -> None:
    """Evaluates the saved model on the test split, writes the report and the card, and pushes."""
    import torch
    from accelerate import PartialState

    from mixgen.evaluation.evaluate import Evaluator
    from mixgen.evaluation.loading import load_checkpoint
    from mixgen.evaluation.report import write_report
    from mixgen.evaluation.results import machine_facts, save_evaluation, say_result
    from mixgen.training.run_dir import RESULTS_FILE

    config = recipe.config
    output_dir = Path(str(config.output_dir))
    is_main = config.process_index == 0
    PartialState().wait_for_everyone()  # the first process has saved it
    model, tokenizer = load_checkpoint(output_dir, trust_remote_code=config.trust_remote_code)
    results = []
    facts = {"command": _command(config, recipe.name), **machine_facts(model, config.device)}
    if config.test_examples:
        if is_main:
            print("Trying the trained model on the test split ...", flush=True)
        evaluator = Evaluator(
            recipe.schedule.active,
            tokenizer,
            split="test",
            num_examples=config.test_examples,
            batch_size=config.per_device_eval_batch_size,
            on_task=say_result if is_main else None,
            show_progress=is_main,
        )
        facts |= {"split": "test", "num_examples": config.test_examples, "temperature": 0.0}
        try:
            results = evaluator.results(model.to(config.device))  # type: ignore[arg-type]
        except torch.OutOfMemoryError as error:
            raise RecipeError(
                f"the model is saved in {output_dir}, but there is too little memory to try it: "
                "the same command with a smaller --per_device_eval_batch_size does, and "
                "--test_examples=0 leaves it out"
            ) from error
    if is_main:
        with saving_clearly(f"the model is saved in {output_dir}, but its report cannot be"):
            save_evaluation(results, facts, output_dir / RESULTS_FILE)
            if left := write_report(output_dir):
                print(f"{left} is not mixgen's, and was left as it is.")
        if config.push_to_hub:
            push_model(config)


def prepare_push(config: MixConfig) -> None:
    """Makes the repository that the trained model goes to: better refused now than in the end.

    Raises:
        OutputError: The token may not, or there is no connection.
    """
    from mixgen.publishing.hub import prepare_repository

    prepare_repository(_repository_name(config), **_repository_settings(config))


def push_model(config: MixConfig) -> None:
    """Pushes the model with its card and report to the Hub; the Trainer would push it without.

    Raises:
        OutputError: It cannot be pushed; it is saved.
    """
    from mixgen.publishing.hub import push_folder, push_summary

    output_dir = Path(str(config.output_dir))
    files = [
        path.relative_to(output_dir)
        for path in sorted(output_dir.rglob("*"))
        if path.is_file() and path.name != CARD_FILE
    ]
    name = _repository_name(config)
    print(f"Pushing to {name} ...", flush=True)
    try:
        pushed = push_folder(
            output_dir,
            [str(path) for path in files if not path.parts[0].startswith(UNPUSHED)],
            name,
            message="Trained by mixgen",
            **_repository_settings(config),
        )
    except OutputError as error:
        raise OutputError(f"the model is saved, but {error}") from error
    print(push_summary(pushed))


def _repository_name(config: MixConfig) -> str:
    return config.hub_model_id or Path(str(config.output_dir)).resolve().name


def _repository_settings(config: MixConfig) -> dict[str, Any]:
    return {
        "repo_type": "model",
        "token": config.hub_token,
        "private": config.hub_private_repo,
        "revision": config.hub_revision,
        "say": lambda words: print(words, flush=True),
    }


def _command(config: MixConfig, name: str) -> str:
    """What makes this run again from its resolved recipe."""
    launch = "python"
    if config.world_size > 1:
        launch = "accelerate launch"
        if config.device.type == "cpu":  # without it, only one process starts
            launch += " --config_file recipes/accelerate/cpu.yaml"
        launch += f" --num_processes={config.world_size}"
        if int(os.environ.get("LOCAL_WORLD_SIZE", config.world_size)) < config.world_size:
            launch += " --num_machines=NUMBER"  # and on each its rank: the reader's to say
    return f"{launch} run_train.py recipe.yaml --output_dir={shlex.quote(f'outputs/{name}-again')}"


@contextmanager
def saving_clearly(what: str) -> Iterator[None]:
    """Turns a full disk and the like into one clear error.

    Args:
        what: How the error begins: what cannot be saved.
    """
    from mixgen.training.resumable import NOT_OF_FILES, SAVE_ERRORS

    try:
        yield
    except (MixgenError, *NOT_OF_FILES):
        raise
    except SAVE_ERRORS as error:
        raise OutputError(f"{what} ({one_line(error)}): the same command tries again") from error
