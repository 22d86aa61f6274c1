"""The commands of `mixgen` for trained models: try one, and make reports of runs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mixgen.commands.console import say
from mixgen.errors import MixgenError, OutputError, RecipeError, nearest, printable

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from mixgen.tasks.base import Task

MIN_TEMPERATURE = 0.01  # logits divided by much less are infinite


def evaluate(
    checkpoint: Annotated[str, typer.Argument(help="A run's folder, a checkpoint, or a Hub name.")],
    tasks: Annotated[
        str | None,
        typer.Option(
            help="Names separated by commas; by default those of its recipe, or (as for a Hub "
            "name) all."
        ),
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option(help="Where tasks have their settings; by default the folder's.")
    ] = None,
    split: Annotated[str, typer.Option(help="test, validation or train.")] = "test",
    num_examples: Annotated[
        int,
        typer.Option(
            min=1,
            help="Problems of each task; tictactoe plays its whole tree, below 1000 in one wording "
            "and without set-ups, nim at most 400 games.",
        ),
    ] = 1000,
    failures: Annotated[int, typer.Option(min=0, help="Failures of each task to show.")] = 3,
    output: Annotated[
        Path | None,
        typer.Option(
            help="JSON file; by default evaluation-SPLIT.json in the folder (for a Hub name, in "
            "the current one)."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, no tables.")] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Conversations at once.")] = 128,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Most tokens in a turn.")] = 256,
    max_calls: Annotated[int, typer.Option(min=0, help="Most tool calls in a turn.")] = 8,
    temperature: Annotated[
        float, typer.Option(min=0.0, max=100.0, help="0: the likeliest token; else 0.01 to 100.")
    ] = 0.0,
    seed: Annotated[
        int,
        typer.Option(
            min=0, help="Seed of sampling at a temperature; another batch size draws otherwise."
        ),
    ] = 42,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run Python that comes with the model.")
    ] = False,
) -> None:
    """Try a trained model on tasks, with the tools really run.

    Example: mixgen eval outputs/quickstart --tasks calculator --num-examples 200
    """
    from mixgen.tasks.base import SPLITS

    if split not in SPLITS:
        raise RecipeError(f"unknown split {split!r}: {nearest(split, SPLITS)}")
    check_temperature(temperature)
    where = Path(checkpoint) if Path(checkpoint).is_dir() else Path()
    path = output or where / f"evaluation-{split}.json"
    _check_output(path, ".json")
    chosen = tasks_to_try(checkpoint, recipe, tasks, trust_remote_code)
    say("Loading ...")

    import torch

    from mixgen.evaluation.evaluate import Evaluator
    from mixgen.evaluation.loading import load_checkpoint
    from mixgen.evaluation.results import (
        conversation_text,
        machine_facts,
        result_json,
        result_table,
        save_evaluation,
        summary_line,
    )

    model, tokenizer = load_checkpoint(checkpoint, trust_remote_code=trust_remote_code)
    model = on_gpu(model)
    evaluator = Evaluator(
        chosen,
        tokenizer,
        split=split,
        num_examples=num_examples,
        on_task=lambda *done: say(summary_line(*done)),
        show_progress=True,
        batch_size=batch_size,
        max_new_tokens=max_new_tokens,
        max_calls=max_calls,
        temperature=temperature,
        seed=seed,
    )
    try:
        results = evaluator.results(model)
    except torch.OutOfMemoryError as error:
        raise RecipeError("too little memory: --batch-size=16 takes less") from error
    facts = {
        **machine_facts(model),
        "checkpoint": checkpoint,
        "split": split,
        "num_examples": num_examples,
        "temperature": temperature,
        **({"seed": seed, "batch_size": batch_size} if temperature else {}),
    }
    failure: OSError | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_evaluation(results, facts, path)
    except OSError as error:  # what took an hour is shown first
        failure = error
    if as_json:
        print(json.dumps([result_json(result) for result in results], ensure_ascii=False))
    for result in [] if as_json else results:
        found = result_json(result, max_trials=failures)
        print(f"\n{result_table(found)}")
        for number, trial in enumerate(found["failures"][:failures], start=1):
            print(f"\n{result.task}, failure {number} of {found['num_failures']:,}: ", end="")
            print(f"{printable(trial['reason'])}\n{conversation_text(trial['messages'])}")
    if failure:
        raise OutputError(f"{path} cannot be written: {failure.strerror}") from failure
    if not as_json:
        print(f"\nWritten to {path}.")


def check_temperature(temperature: float) -> None:
    """Raises a `RecipeError` for a temperature that no logits can be divided by."""
    if 0 < temperature < MIN_TEMPERATURE:
        raise RecipeError(f"temperature must be 0 or at least {MIN_TEMPERATURE}, got {temperature}")


def on_gpu(model: PreTrainedModel) -> PreTrainedModel:
    """The model on the GPU, if there is one."""
    import torch

    return model.to("cuda") if torch.cuda.is_available() else model  # type: ignore[arg-type]


def report(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs.")],
    output: Annotated[
        Path | None,
        typer.Option(
            help="The page; by default report.html in the folder of one run, and "
            "comparison.html of several."
        ),
    ] = None,
) -> None:
    """Make the report of a run again; of several, one table, and their curves on one plot.

    Example: mixgen report outputs/default outputs/heavy_tictactoe
    """
    from mixgen.evaluation.report import comparison_rows, write_comparison, write_report
    from mixgen.evaluation.results import aligned
    from mixgen.evaluation.run_files import read_run
    from mixgen.training.run_dir import REPORT_FILE

    path = output or (runs[0] / REPORT_FILE if len(runs) == 1 else Path("comparison.html"))
    if output:
        _check_output(output, ".html")
    try:
        if output:
            output.parent.mkdir(parents=True, exist_ok=True)
        if len(runs) == 1:
            if left := write_report(runs[0], output):
                print(f"{left} is not mixgen's, and was left as it is.")
        else:
            found = [read_run(folder) for folder in runs]
            print("\n".join(aligned(comparison_rows(found))) + "\n")
            write_comparison(found, path)
    except MixgenError:
        raise
    except OSError as error:
        where = error.filename or path
        raise OutputError(f"{where} cannot be written: {error.strerror or error}") from error
    print(f"Written to {path}.")


def _check_output(path: Path, ending: str) -> None:
    """Refuses what could not or should not be written, before work is done for it.

    Raises:
        OutputError: It has another ending, is no file or a run's own, or its directory cannot be
            made or written.
    """
    from mixgen.training.run_dir import is_of_run

    folder = next(one for one in path.absolute().parents if one.exists())
    if path.is_dir():
        why = "it is a directory"
    elif path.suffix != ending:
        why = f"its name must end in {ending}"
    elif path.exists() and not path.is_file():
        why = "it is no file"
    elif is_of_run(path):
        why = "it is a file of the run or model there"
    elif not folder.is_dir():
        why = f"{folder} is a file"
    elif not os.access(folder, os.W_OK | os.X_OK):
        why = f"{folder} is not writable"
    else:
        return
    raise OutputError(f"{path} cannot be written: {why}; --output names another file")


def tasks_to_try(
    checkpoint: str, recipe: Path | None, names: str | None, trust_remote_code: bool
) -> list[Task]:
    """The tasks to try a model on, with the settings that it was trained with."""
    from mixgen.load import configured_tasks
    from mixgen.tasks.registry import registered_tasks, task_class
    from mixgen.training.checkpoint import RECIPE_FILE

    trusted = trust_remote_code or recipe is not None
    if recipe is None and (Path(checkpoint) / RECIPE_FILE).is_file():
        recipe = Path(checkpoint) / RECIPE_FILE
    found: dict[str, Any] = {}
    if recipe is not None:
        tasks = configured_tasks(recipe, trust_remote_code=trusted)
        found = {task.name: task for task in tasks}
        if not (found or names):
            raise RecipeError(f"{recipe} gives no task a weight above 0: --tasks names some")
    elif names is None:
        found = {name: cls() for name, cls in registered_tasks().items()}
    given = dict.fromkeys(name.strip() for name in (names or "").split(",") if name.strip())
    if names is not None and not given:
        raise RecipeError(f"--tasks {names!r} names no task")
    wanted = given or found
    return [found[name] if name in found else task_class(name)() for name in wanted]
