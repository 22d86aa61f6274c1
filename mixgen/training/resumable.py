"""ResumableTrainer: a `Trainer` whose checkpoints are whole, and say where the rows go on."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Final

import torch
from safetensors import SafetensorError
from transformers import Trainer, TrainerState
from transformers.trainer import TRAINER_STATE_NAME, TRAINING_ARGS_NAME

from mixgen.encoding.rows import RowDataset
from mixgen.errors import OutputError, RecipeError, one_line
from mixgen.files import replace
from mixgen.mixture.adaptive import AdaptiveSchedule
from mixgen.training.checkpoint import (
    RECIPE_FILE,
    STAGING,
    commit,
    library_versions,
    newest_checkpoint,
    read_checkpoint,
    rotate,
    seal,
)
from mixgen.training.config import MixConfig

# What a full disk or a directory that is gone is raised as: by Python, torch.save and safetensors.
SAVE_ERRORS: Final = (OSError, RuntimeError, SafetensorError)
# Some are of another kind, and say so themselves.
NOT_OF_FILES: Final = (torch.OutOfMemoryError, torch.distributed.DistError)


@contextmanager
def _fitting(checkpoint: str | None) -> Iterator[None]:
    """Turns a checkpoint of another model, or one that is damaged, into one clear error."""
    try:
        yield
    except NOT_OF_FILES:
        raise
    except (*SAVE_ERRORS, ValueError, KeyError, TypeError, EOFError, UnpicklingError) as error:
        raise OutputError(
            f"{checkpoint} does not fit this run, or is damaged ({one_line(error)[:300]}): "
            "give another --output_dir, or go on from an earlier one without it"
        ) from error


class ResumableTrainer(Trainer):
    """Saves checkpoints whole or not at all, and goes on from them on any number of processes.

    `mixgen_state.json` in a checkpoint holds what the Trainer does not save: `step`, `next_row`,
    `seed`, `max_seq_len`, `rows_per_block`, `global_batch_size`, `weights`, the `decisions` of
    adaptive ones, the `fingerprint` of the rows, the `versions` of libraries, and what
    `running_state` gives.
    """

    args: MixConfig
    train_dataset: RowDataset
    _staging: Path | None = None  # while a checkpoint is written

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        rows, config = self.train_dataset, self.args
        rows.rows_per_step = config.rows_per_step
        if isinstance(rows.schedule, AdaptiveSchedule):
            ahead = math.ceil(config.rows_ahead / config.rows_per_step) + 1
            if rows.schedule.config.every < ahead:
                raise RecipeError(
                    f"adaptive: every must be at least {ahead}, got {rows.schedule.config.every}: "
                    "rows are made that many steps ahead"
                )

    def running_state(self) -> dict[str, Any]:
        """What a subclass saves too; every process calls it."""
        return {}

    def load_running_state(self, state: dict[str, Any]) -> None:
        """Sets what `running_state` gave, in whole or in part; what is missing begins anew."""

    def train(
        self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any
    ) -> Any:
        """Trains, from a checkpoint on if there is one (see `Trainer.train`).

        Raises:
            OutputError: The checkpoint is not complete, or its rows were other rows.
        """
        if resume_from_checkpoint is True:
            found, _ = newest_checkpoint(Path(str(self.args.output_dir)))
            resume_from_checkpoint = str(found.path) if found else None
        if self.args.process_index == 0:  # what a kill inside a save has left
            shutil.rmtree(Path(str(self.args.output_dir)) / STAGING, ignore_errors=True)
        if resume_from_checkpoint:
            self._resume_from(Path(str(resume_from_checkpoint)))
        else:
            self.train_dataset.start_at(row=0, step=0)
            self.load_running_state({})
        return super().train(resume_from_checkpoint, *args, **kwargs)

    def _resume_from(self, path: Path) -> None:
        """Takes up the rows, the decisions and the sums of a checkpoint."""
        state, rows = read_checkpoint(path).state, self.train_dataset
        with _fitting(str(path)):
            TrainerState.load_from_json(str(path / TRAINER_STATE_NAME))
        if state["fingerprint"] != rows.fingerprint and not self.args.resume_anyway:
            before, now = {**state, **state["versions"]}, {**self._sizes(), **library_versions()}
            changed = [
                f"{key} {before[key]} -> {value}"
                for key, value in now.items()
                if key in before and before[key] != value
            ]
            reason = ", ".join(changed) or "a task's code or settings"
            raise OutputError(
                f"{path} was trained on other rows than this recipe gives now (changed: {reason}): "
                "undo that, or --resume_anyway"
            )
        rows.start_at(row=state["next_row"], step=state["step"])
        if isinstance(rows.schedule, AdaptiveSchedule):
            rows.schedule.load_state_dict(state["decisions"], state["step"])
        self.load_running_state(state)

    def _init_training_state(self, max_steps: int, *args: Any) -> Any:
        started = super()._init_training_state(max_steps, *args)
        # A checkpoint's logging_steps and save_steps would hold, not those that are asked for now.
        self.state.compute_steps(self.args, max_steps)
        self._find_best()
        return started

    def _find_best(self) -> Path | None:
        """Sets where the best checkpoint is: not where it was written, nor before a move."""
        best = Path(str(self.args.output_dir)) / f"checkpoint-{self.state.best_global_step}"
        is_there = best.is_dir() or self.state.best_global_step == self.state.global_step
        self.state.best_model_checkpoint = str(best) if is_there else None
        return best if is_there else None

    def _load_rng_state(self, checkpoint: str | None) -> None:
        with _fitting(checkpoint):
            super()._load_rng_state(checkpoint)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        with _fitting(resume_from_checkpoint):
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        with _fitting(checkpoint):
            super()._load_optimizer_and_scheduler(checkpoint)
            if checkpoint and (optimizer := self.optimizer) is not None:
                saved = optimizer.param_groups[0].keys()
                if missing := optimizer.defaults.keys() - saved:
                    raise ValueError(f"another optimizer saved it, without {min(missing)}")

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._staging or self.args.output_dir)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Saves a checkpoint whole or not at all (see `checkpoint`).

        Raises:
            OutputError: It cannot be written; the one before is as it was.
        """
        output_dir, step = Path(str(self.args.output_dir)), self.state.global_step
        name = f"checkpoint-{step}"
        staged = output_dir / STAGING / name
        state = self._state()
        error: Exception | None = None
        self._staging = staged.parent
        try:
            super()._save_checkpoint(model, trial)
        except SAVE_ERRORS as caught:
            if self.is_fsdp_enabled:  # the others are in the middle of a collective of their own
                raise self._cannot_save(step, caught) from caught
            error = caught
        finally:
            self._staging = None
        self._agree_on(step, error)  # all have written
        best = self._find_best()
        try:
            if self.args.should_save:
                self.state.save_to_json(str(staged / TRAINER_STATE_NAME))
                recipe = output_dir / RECIPE_FILE
                if recipe.is_file():
                    shutil.copy(recipe, staged)
                seal(staged, state)
                commit(staged, output_dir / name)
        except SAVE_ERRORS as caught:
            error = caught
        self._agree_on(step, error)
        if self.args.should_save:
            kept = {output_dir / name} | ({best} if best else set())
            rotate(output_dir, kept=kept, limit=self.args.save_total_limit)

    def _agree_on(self, step: int, error: Exception | None) -> None:
        """Fails on all processes if saving failed on one."""
        failed = torch.tensor(float(error is not None), device=self.args.device)
        if self.accelerator.reduce(failed, reduction="sum").item():
            raise self._cannot_save(step, error) from error

    def _cannot_save(self, step: int, error: Exception | None) -> OutputError:
        output_dir = Path(str(self.args.output_dir))
        if self.args.should_save:
            shutil.rmtree(output_dir / STAGING, ignore_errors=True)
        reason = " ".join(str(error or "another process could not write").split())
        return OutputError(
            f"step {step} cannot be saved in {output_dir}: {reason[:300]}; earlier checkpoints are "
            "as they were, and the same command goes on from the last"
        )

    def _sizes(self) -> dict[str, int]:
        rows = self.train_dataset
        return {
            "seed": rows.seed,
            "max_seq_len": rows.max_seq_len,
            "rows_per_block": rows.rows_per_block,
        }

    def _state(self) -> dict[str, Any]:
        """What the Trainer does not save: where the data goes on, and how it came to be."""
        rows, schedule = self.train_dataset, self.train_dataset.schedule
        return {
            "step": self.state.global_step,
            "next_row": rows.row_of(self.state.global_step),
            **self._sizes(),
            "global_batch_size": self.args.rows_per_step,
            "weights": str(schedule),
            "decisions": schedule.state_dict() if isinstance(schedule, AdaptiveSchedule) else {},
            "fingerprint": rows.fingerprint,
            "versions": library_versions(),
            **self.running_state(),
        }

    def save_state(self) -> None:
        """Writes `trainer_state.json`, whole or not at all: with it the run is finished."""
        if self.args.should_save:
            path = Path(str(self.args.output_dir)) / TRAINER_STATE_NAME
            written = path.with_name(f".{path.name}")
            self.state.save_to_json(str(written))
            replace(written, path)

    def _save(
        self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None
    ) -> None:
        """Saves without `training_args.bin`: a pickle, which would hold the Hub token;
        `recipe.yaml` says it all.
        """
        super()._save(output_dir, state_dict)
        (Path(output_dir or str(self.args.output_dir)) / TRAINING_ARGS_NAME).unlink(missing_ok=True)

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        """Warns of keys that a checkpoint lacks, but for tied ones, which are saved once."""
        tied = set(getattr(self.model, "_tied_weights_keys", None) or ())
        if set(load_result.missing_keys) - tied or load_result.unexpected_keys:
            super()._issue_warnings_after_load(load_result)
        else:
            self.model.tie_weights()  # type: ignore[union-attr, operator]
