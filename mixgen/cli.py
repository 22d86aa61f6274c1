"""The `mixgen` command: what is done with models once they are trained.

Libraries are imported where they are needed, so that `mixgen --help` is quick.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mixgen.errors import MixgenError, OutputError, RecipeError, nearest
from mixgen.launch import INTERRUPTED, USER_ERROR

if TYPE_CHECKING:
    from mixgen.tasks.base import Task

app = typer.Typer(
    help="Language models trained on generated tasks: try them, and compare runs.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def main() -> int:
    """Runs one command; a user's mistake ends in one line on stderr."""
    try:
        app(standalone_mode=True)
    except MixgenError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return USER_ERROR
    except BrokenPipeError:  # as of `mixgen eval ... | head`
        sys.stderr.close()
        return 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr, flush=True)
        return INTERRUPTED
    return 0


@app.callback()
def _commands() -> None:
    """Makes typer keep commands apart, however many there are."""


@app.command("eval")
def evaluate(
    checkpoint: Annotated[str, typer.Argument(help="A run's folder, a checkpoint, or a Hub name.")],
    tasks: Annotated[
        str, typer.Option(help="Names with commas between; by default those it was trained on.")
    ] = "",
    recipe: Annotated[
        Path | None, typer.Option(help="Where tasks have their settings; by default its own.")
    ] = None,
    split: Annotated[str, typer.Option(help="test, validation or train.")] = "test",
    num_examples: Annotated[int, typer.Option(min=1, help="Problems of each task.")] = 1000,
    failures: Annotated[int, typer.Option(min=0, help="Failures to show in full, a task.")] = 3,
    output: Annotated[
        Path | None, typer.Option(help="JSON file; by default evaluation-SPLIT.json beside it.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, no tables.")] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Conversations at once.")] = 128,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Most tokens in a turn.")] = 256,
    max_calls: Annotated[int, typer.Option(min=0, help="Most tool calls in a turn.")] = 8,
    temperature: Annotated[float, typer.Option(min=0.0, help="0: the likeliest token.")] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Of what is drawn at a temperature.")] = 42,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run code that comes with the model.")
    ] = False,
) -> None:
    """Try a trained model on tasks, with the tools really run.

    Example: mixgen eval outputs/quickstart --tasks calculator --num-examples 200
    """
    from mixgen.tasks.base import SPLITS

    if split not in SPLITS:
        raise RecipeError(f"unknown split {split!r}: {nearest(split, SPLITS)}")
    chosen = _tasks_of(checkpoint, recipe, tasks)
    print("Loading ...", file=sys.stderr, flush=True)

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
    if torch.cuda.is_available():
        model = model.to("cuda")  # type: ignore[arg-type]
    evaluator = Evaluator(
        chosen,
        tokenizer,
        split=split,
        num_examples=num_examples,
        on_task=lambda *done: print(summary_line(*done), file=sys.stderr, flush=True),
        show_progress=True,
        batch_size=batch_size,
        max_new_tokens=max_new_tokens,
        max_calls=max_calls,
        temperature=temperature,
        seed=seed,
    )
    results = evaluator.results(model)
    where = Path(checkpoint) if Path(checkpoint).is_dir() else Path()
    path = output or where / f"evaluation-{split}.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_evaluation(results, machine_facts(model), path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}") from error
    if as_json:
        print(json.dumps([result_json(result) for result in results], ensure_ascii=False))
        return
    for result in results:
        found = result_json(result, max_trials=failures)
        print(f"\n{result_table(found)}")
        for number, trial in enumerate(found["failures"][:failures], start=1):
            print(f"\n{result.task}, failure {number} of {found['num_failures']:,}: ", end="")
            print(f"{trial['reason']}\n{conversation_text(trial['messages'])}")
    print(f"\nWritten to {path}.")


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs.")],
    output: Annotated[Path, typer.Option(help="The page that compares several runs.")] = Path(
        "comparison.html"
    ),
) -> None:
    """Make the report of a run again; of several, one table, and their curves on one plot.

    Example: mixgen report outputs/default outputs/extra_tictactoe
    """
    from mixgen.evaluation.report import comparison_rows, write_comparison, write_report
    from mixgen.evaluation.results import REPORT_FILE, aligned
    from mixgen.evaluation.run_files import read_run

    try:
        if len(runs) == 1:
            write_report(runs[0])
            print(f"Written to {runs[0] / REPORT_FILE}.")
            return
        found = [read_run(folder) for folder in runs]
        write_comparison(found, output)
    except MixgenError:
        raise
    except OSError as error:
        raise OutputError(f"{error.filename} cannot be written: {error.strerror}") from error
    print("\n".join(aligned(comparison_rows(found))))
    print(f"\nWritten to {output}.")


def _tasks_of(checkpoint: str, recipe: Path | None, names: str) -> list[Task]:
    """The tasks to try a model on, with the settings that it was trained with."""
    from mixgen.load import configured_tasks
    from mixgen.tasks.registry import registered_tasks, task_class
    from mixgen.training.checkpoint import RECIPE_FILE

    if recipe is None and (Path(checkpoint) / RECIPE_FILE).is_file():
        recipe = Path(checkpoint) / RECIPE_FILE
    found: dict[str, Any] = {}
    if recipe is not None:
        found = {task.name: task for task in configured_tasks(recipe)}
    elif not names:
        found = {name: cls() for name, cls in registered_tasks().items()}
    wanted = [name.strip() for name in names.split(",") if name.strip()] or list(found)
    return [found[name] if name in found else task_class(name)() for name in wanted]


if __name__ == "__main__":
    sys.exit(main())
