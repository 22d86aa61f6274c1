"""A training run from the command line to a saved model, told top to bottom."""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mixgen.errors import MixgenError, OutputError, RecipeError, nearest, one_line, printable
from mixgen.finish import evaluate_and_report, prepare_push, push_model, saving_clearly
from mixgen.launch import (
    INTERRUPTED,
    USER_ERROR,
    end_with_launcher,
    for_all,
    leave_process_group,
)
from mixgen.start import print_start, print_state

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from mixgen.encoding.shares import TaskShare
    from mixgen.recipe import Recipe
    from mixgen.training.callbacks import StopCallback
    from mixgen.training.run_dir import RunState
    from mixgen.training.trainer import MixTrainer


def main(argv: Sequence[str] | None = None, weights: Mapping[str, float] | None = None) -> int:
    """Runs one training; a user's mistake ends in one line on stderr.

    Args:
        argv: The command line without the program's name; `sys.argv` by default.
        weights: Task weights by name, the lowest in precedence (the constants of run_train.py).

    Returns:
        The exit status: 0, also when the run was stopped and saved; 2 after a user's mistake or a
        full disk; 130 after Ctrl-C before or after training.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # DataLoader workers fork
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where a launcher ignores it
    end_with_launcher()
    try:
        train(sys.argv[1:] if argv is None else argv, weights or {})
    except MixgenError as error:
        if os.environ.get("RANK", "0") != "0":
            # The launcher ends all processes once one has failed: let the first say why, once.
            time.sleep(10)
        print(f"error: {printable(str(error))}", file=sys.stderr, flush=True)
        return USER_ERROR
    except KeyboardInterrupt:  # before training, or once the model is saved
        print("interrupted", file=sys.stderr, flush=True)
        return INTERRUPTED
    finally:
        leave_process_group()
    return 0


def train(argv: Sequence[str], weights: Mapping[str, float]) -> None:
    """Trains the run that the command line describes, and saves it in its output directory.

    Args:
        argv: The command line without the program's name.
        weights: Task weights by name, the lowest in precedence.

    Raises:
        MixgenError: The command line, recipe, tasks or output directory are wrong.
        KeyboardInterrupt: The run was asked to stop before its first step or after its last.
    """
    if os.environ.get("RANK", "0") == "0" and not {"-h", "--help"} & set(argv):
        print("Loading libraries ...", flush=True)
    from mixgen.recipe import parse_recipe

    recipe = parse_recipe(argv, weights)

    import torch
    from transformers.utils.logging import disable_progress_bar

    from mixgen.training.run_dir import REPORT_FILE, RunLock, inspect_run_dir, prepare_run_dir

    disable_progress_bar()  # a bar for each file that is saved
    config = recipe.config
    output_dir = Path(config.output_dir or "")
    is_main = config.process_index == 0
    inspect = partial(
        inspect_run_dir,
        output_dir,
        recipe.resolved,
        overwrite=config.overwrite,
        resume=config.resume,
        resume_anyway=config.resume_anyway,
    )
    state = for_all(inspect, is_main)  # another process may see files later, or not at all
    if state.differing and state.checkpoint and state.step >= config.max_steps:
        raise OutputError(
            f"training ends at step {config.max_steps:,}, and {state.checkpoint} is not before it: "
            "give more --train_tokens or --max_steps, or --overwrite"
        )
    if state.finished:
        if is_main:
            print(f"{output_dir} holds this run, finished. To train it again, add --overwrite.")
        if not for_all((output_dir / REPORT_FILE).is_file, is_main):
            evaluate_and_report(recipe)
        elif config.push_to_hub and is_main:
            push_model(config)
        return

    lock = RunLock(output_dir)

    def prepare() -> None:
        lock.acquire()
        if inspect() != state:
            raise OutputError(
                f"another run was training in output_dir {output_dir} until now: start again"
            )
        prepare_run_dir(output_dir, recipe.resolved, overwrite=config.overwrite)

    if not _train_and_save(recipe, state, prepare):
        return
    gc.collect()  # the model that was trained, and its optimizer
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    evaluate_and_report(recipe)
    if is_main:
        lock.release()
        print(f"Done. The model, its tokenizer, recipe.yaml and report.html are in {output_dir}.")


def _train_and_save(recipe: Recipe, state: RunState, prepare: Callable[[], None]) -> bool:
    """Trains, from a checkpoint on if there is one, and saves the model; False if it was stopped.

    Args:
        recipe: The run.
        state: What its output directory holds.
        prepare: Makes the directory ready, once nothing is left to be refused.

    Raises:
        KeyboardInterrupt: The run was asked to stop after its last step; the model is saved.
    """
    from accelerate.utils import gather_object

    from mixgen.training.callbacks import StopCallback

    output_dir = Path(str(recipe.config.output_dir))
    is_main = recipe.config.process_index == 0
    stop = StopCallback()
    if recipe.config.push_to_hub:
        for_all(partial(prepare_push, recipe.config), is_main)
    trainer, shares = _make_trainer(recipe, state.checkpoint, stop)
    for_all(prepare, is_main)  # only now, when nothing is left to be refused
    if is_main:
        print_start(recipe, trainer, shares)
        print_state(state)
    with stop.watching():
        trainer.train(resume_from_checkpoint=str(state.checkpoint) if state.checkpoint else None)
    if stop.stopped:
        if is_main:
            step = trainer.state.global_step
            print(f"Stopped at step {step}, which is saved. The same command goes on from there.")
        return False
    with saving_clearly(f"the trained model cannot be saved in {output_dir}"):
        trainer.save_model(_internal_call=True)  # which leaves pushing to `evaluate_and_report`
        trainer.save_state()
    if any(gather_object([stop.asked_at is not None])):  # while the model was tried at last
        if is_main:
            print(f"The model is saved in {output_dir}. The same command makes its report.")
        raise KeyboardInterrupt
    return True


def _make_trainer(
    recipe: Recipe, checkpoint: Path | None, stop: StopCallback
) -> tuple[MixTrainer, list[TaskShare]]:
    """The run's trainer, and each task's share of its data.

    Args:
        recipe: The run; the direction of its `metric_for_best_model` is settled.
        checkpoint: Whose tokenizer the run goes on with, if any.
        stop: The callback that ends training at a signal.

    Raises:
        MixgenError: The tasks, the model or the settings do not work, alone or together.
    """
    from mixgen.encoding.renderer import Renderer
    from mixgen.encoding.rows import RowDataset
    from mixgen.encoding.shares import check_lengths, measure_shares, set_paces
    from mixgen.evaluation.evaluate import Evaluator
    from mixgen.evaluation.results import say_result
    from mixgen.training.callbacks import MixProgressCallback
    from mixgen.training.mix_callback import MixCallback
    from mixgen.training.trainer import MixTrainer

    config, schedule = recipe.config, recipe.schedule
    with _refusing_clearly():
        model, tokenizer = _model_and_tokenizer(recipe, checkpoint)
    renderer = Renderer(tokenizer)
    shares = measure_shares(schedule, renderer, seed=config.seed)
    check_lengths(shares, config.max_seq_len)
    set_paces(schedule, shares, config.max_seq_len)
    dataset = RowDataset(
        schedule,
        renderer,
        num_rows=config.max_steps * config.rows_per_step,
        max_seq_len=config.max_seq_len,
        rows_per_block=config.rows_per_block,
        seed=config.seed,
    )
    evaluator = Evaluator(
        schedule.active,
        tokenizer,
        split="validation",
        num_examples=config.eval_examples,
        batch_size=config.per_device_eval_batch_size,
        on_task=say_result if config.process_index == 0 else None,
    )
    metric = config.metric_for_best_model
    if metric is not None or config.eval_strategy != "no" or config.test_examples:
        kinds = evaluator.metric_kinds()  # which also finds tasks that cannot be tried
        if metric is not None and metric not in kinds:
            raise RecipeError(f"unknown metric_for_best_model {metric!r}: {nearest(metric, kinds)}")
        if metric is not None:
            config.greater_is_better = not kinds[metric]
    callbacks = [
        stop,
        MixProgressCallback(dataset.task_names),
        MixCallback(schedule, config.max_task_share),
    ]
    with _refusing_clearly(str(config.output_dir)):
        trainer = MixTrainer(
            model=model,
            args=config,
            train_dataset=dataset,
            processing_class=tokenizer,
            callbacks=callbacks,
            evaluator=evaluator,
        )
    return trainer, shares


@contextmanager
def _refusing_clearly(output_dir: str = "") -> Iterator[None]:
    """Turns a setting that a library refuses, or a directory, into one clear error."""
    try:
        yield
    except MixgenError:
        raise
    except (ValueError, ImportError, OSError, MemoryError) as error:
        if output_dir and isinstance(error, OSError) and output_dir in str(error.filename):
            raise OutputError(
                f"output_dir {output_dir} cannot be made: {error.strerror}"
            ) from error
        raise RecipeError(
            f"these settings do not work together here: {one_line(error)[:500]}"
        ) from error


def _model_and_tokenizer(
    recipe: Recipe, checkpoint: Path | None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A fresh model and a tokenizer that one process trains for all, or a checkpoint's two."""
    from transformers import AutoTokenizer

    from mixgen.encoding.tokenizer import train_tokenizer
    from mixgen.training.model import build_model, load_pretrained

    config = recipe.config
    if config.model_name_or_path:
        return load_pretrained(config)
    if checkpoint:
        # The weights were trained with this one, whatever the tasks would give today.
        try:
            tokenizer = AutoTokenizer.from_pretrained(checkpoint)
        except Exception as error:  # the library raises what its parsers do
            raise OutputError(f"the tokenizer in {checkpoint} is damaged: {error}") from error
        return build_model(config, tokenizer), tokenizer
    make = partial(
        train_tokenizer,
        recipe.schedule.active,
        seed=config.seed,
        vocab_size=config.vocab_size,
        model_max_length=config.max_seq_len,
    )
    tokenizer = for_all(make, config.process_index == 0)
    return build_model(config, tokenizer), tokenizer
