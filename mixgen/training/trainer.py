"""MixTrainer: the `Trainer`, with the loss of each task in its logs."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy, pad
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    ProgressCallback,
    TrainerCallback,
)

from mixgen.encoding.packing import Row
from mixgen.encoding.renderer import IGNORED
from mixgen.encoding.rows import RowDataset
from mixgen.errors import RecipeError
from mixgen.training.config import MUON, MixConfig
from mixgen.training.muon import MuonWithAdamW
from mixgen.training.resumable import ResumableTrainer

# B rows, T tokens, V vocabulary, K tasks

LOSS, TRAINED, EXAMPLES, TOKENS = range(4)  # what is summed up for each task between two logs


def collate(rows: list[Row]) -> dict[str, torch.Tensor]:
    """Rows to a batch: `input_ids`, `labels`, `position_ids`, `task_ids`, each of shape (B, T)."""
    return {
        field: torch.from_numpy(np.stack([getattr(row, field) for row in rows]).astype(np.int64))
        for field in Row._fields
    }


# Advice to pass an `attention_mask`: in rows, positions keep padding apart. And a warning that a
# resumed run saves at other steps or in other batches: it may.
_UNFOUNDED = ("since your input_ids may be padded", "do not match the ones in the `trainer_state")


def _is_founded(record: logging.LogRecord) -> bool:
    return not any(words in record.getMessage() for words in _UNFOUNDED)


def _optimizer(args: MixConfig) -> tuple[Any, dict[str, Any]] | None:
    """What the Trainer calls a factory and its arguments; None for its own optimizers."""
    if args.optim != MUON:
        return None
    return lambda: MuonWithAdamW, {
        "lr": args.learning_rate,
        "weight_decay": args.weight_decay,
        "betas": (args.adam_beta1, args.adam_beta2),
        "eps": args.adam_epsilon,
        **args.muon_args(),
    }


class MixTrainer(ResumableTrainer):
    """Trains on rows of a mix, and logs what each task has to do with it.

    Beside the Trainer's own entries, each log has `loss/<task>`, `tokens/<task>` (tokens that carry
    loss) and `examples/<task>` for the steps since the last log, summed over processes and
    accumulation steps. `loss` is the mean over those tokens: the mean of the task losses weighted
    by the task tokens. `num_input_tokens_seen` counts all tokens but padding, and
    `tokens_per_second` how fast they came since the last log. `data_wait` is the share of that time
    that this process spent waiting for rows.

    Args:
        model: Any causal language model that takes `position_ids`.
        args: The run's settings.
        train_dataset: The rows.
        processing_class: The tokenizer, saved with each checkpoint.
        callbacks: Further callbacks.
        evaluator: Tries the model every `eval_steps`; what it gives is logged after `eval_`, which
            trackers show as `eval/...`. Every process calls it.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        args: MixConfig,
        train_dataset: RowDataset,
        processing_class: PreTrainedTokenizerBase,
        callbacks: list[TrainerCallback] | None = None,
        evaluator: Callable[[PreTrainedModel], Mapping[str, float]] | None = None,
    ) -> None:
        super().__init__(
            model=model,
            args=args,
            train_dataset=train_dataset,
            eval_dataset=[] if evaluator else None,  # the Trainer asks for one
            processing_class=processing_class,
            data_collator=collate,
            callbacks=callbacks,
            optimizer_cls_and_kwargs=_optimizer(args),
        )
        if evaluator and args.eval_strategy != "no" and self.is_fsdp_enabled:
            raise RecipeError(
                "eval_steps does not work with FSDP: the trained model is tried at the end"
            )
        # Theirs print raw dictionaries; mixgen's own is among `callbacks`.
        self.remove_callback(ProgressCallback)
        self.remove_callback(PrinterCallback)
        for name in ("modeling_utils", "trainer_utils"):
            logging.getLogger(f"transformers.{name}").addFilter(_is_founded)
        # `compute_loss` divides by `num_items_in_batch` itself, and turns the cache off for each
        # call; the saved model keeps it on for generation.
        self.model_accepts_loss_kwargs = True
        model.config.use_cache = True
        self.evaluator = evaluator
        self.task_names = train_dataset.task_names
        # float64 counts tokens exactly and adds losses up without drift; MPS has no such type
        dtype = torch.float32 if self.args.device.type == "mps" else torch.float64
        self._sums_K4 = torch.zeros(len(self.task_names), 4, dtype=dtype, device=self.args.device)
        self._waited = 0.0  # seconds since the last log
        self._logged_at = 0.0  # on the clock of `time.perf_counter`

    def get_batch_samples(self, epoch_iterator: Iterator[Any], *args: Any) -> Any:
        """See `Trainer.get_batch_samples`; counts the time that the rows take to come."""
        self._logged_at = self._logged_at or time.perf_counter()  # the first step begins
        return super().get_batch_samples(self._timed(epoch_iterator), *args)

    def _timed(self, batches: Iterator[Any]) -> Iterator[Any]:
        while True:
            started = time.perf_counter()
            batch = next(batches, None)
            self._waited += time.perf_counter() - started
            if batch is None:
                return
            yield batch

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """The mean loss over a step's trained tokens, on all processes; adds up each task's sums.

        The cache is off, because with one transformers does not build the mask that keeps examples
        apart.
        """
        outputs = model(
            input_ids=inputs["input_ids"], position_ids=inputs["position_ids"], use_cache=False
        )
        # The token at t is predicted at t - 1. An example's first token has no label, so none
        # crosses examples.
        labels_BT = pad(inputs["labels"], (0, 1), value=IGNORED)[:, 1:]
        losses_BT = cross_entropy(
            outputs.logits.float().flatten(0, 1),
            labels_BT.flatten(),
            ignore_index=IGNORED,
            reduction="none",
        ).view_as(labels_BT)
        if model.training:
            self._add_up(inputs, losses_BT.detach(), labels_BT)
        if num_items_in_batch is None:
            loss = losses_BT.sum() / (labels_BT != IGNORED).sum()
        else:
            loss = losses_BT.sum() / num_items_in_batch
            if self.args.average_tokens_across_devices:
                loss = loss * self.accelerator.num_processes  # DDP takes the mean over processes
        return (loss, outputs) if return_outputs else loss

    def _add_up(
        self, inputs: dict[str, torch.Tensor], losses_BT: torch.Tensor, labels_BT: torch.Tensor
    ) -> None:
        # A loss stands at the token that predicts, which is of the same example as its target.
        tasks_BT = inputs["task_ids"]
        counts_BT4 = torch.stack(
            [
                losses_BT.to(self._sums_K4.dtype),
                labels_BT != IGNORED,
                (inputs["position_ids"] == 0) & (tasks_BT >= 0),
                tasks_BT >= 0,
            ],
            dim=-1,
        )
        sums = self._sums_K4.new_zeros(len(self.task_names) + 1, 4)  # the first row is padding's
        self._sums_K4 += sums.index_add_(0, tasks_BT.flatten() + 1, counts_BT4.flatten(0, 1))[1:]

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Has `evaluator` try the model, and logs what it gives."""
        if self.evaluator is None:
            raise RecipeError("evaluate: this trainer was given no evaluator")
        started = time.perf_counter()
        metrics = {f"eval_{name}": value for name, value in self.evaluator(self.model).items()}  # type: ignore[arg-type]
        seconds = time.perf_counter() - started
        self.log(
            {
                **metrics,
                "num_input_tokens_seen": self.state.num_input_tokens_seen,
                "eval_seconds": seconds,
            }
        )
        self._logged_at += seconds * bool(self._logged_at)  # it is no time of training
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        """A metric may have nothing to count yet, as moves in positions that no game came to."""
        if f"eval_{self.args.metric_for_best_model}" not in metrics:
            return False
        return bool(super()._determine_best_metric(metrics, trial))

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        # Tokens are counted when losses are logged, and skill is shown over tokens.
        self.control.should_log |= (
            self.state.global_step >= self.state.max_steps or self.control.should_evaluate
        )
        super()._maybe_log_save_evaluate(*args, **kwargs)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """See `Trainer.log`; every process calls it at the same steps."""
        if "loss" in logs:
            sums = self.accelerator.reduce(self._sums_K4, reduction="sum").tolist()
            self._sums_K4.zero_()
            logs["loss"] = sum(task[LOSS] for task in sums) / max(
                sum(task[TRAINED] for task in sums), 1
            )
            for name, task in zip(self.task_names, sums, strict=True):
                if task[TRAINED]:
                    logs[f"loss/{name}"] = task[LOSS] / task[TRAINED]
                logs[f"tokens/{name}"] = int(task[TRAINED])
                logs[f"examples/{name}"] = int(task[EXAMPLES])
            self.state.num_input_tokens_seen += int(sum(task[TOKENS] for task in sums))
            logs["num_input_tokens_seen"] = self.state.num_input_tokens_seen
            now = time.perf_counter()
            seconds = max(now - self._logged_at, 1e-9)
            logs["tokens_per_second"] = sum(task[TOKENS] for task in sums) / seconds
            logs["data_wait"] = self._waited / seconds
            self._logged_at, self._waited = now, 0.0
        # The Trainer counts from where this process began, and there is but one epoch.
        self.state.epoch = self.state.global_step / max(self.state.max_steps, 1)
        super().log(logs, start_time)

    def running_state(self) -> dict[str, Any]:
        """The sums since the last log, of all processes, but of tokens seen: those go into the
        Trainer's own state.
        """
        sums = self.accelerator.reduce(self._sums_K4, reduction="sum")
        self.state.num_input_tokens_seen += int(sums[:, TOKENS].sum())
        self._sums_K4[:, TOKENS] = sums[:, TOKENS] = 0
        sums = sums.tolist()
        return {"sums": dict(zip(self.task_names, sums, strict=True))}

    def load_running_state(self, state: dict[str, Any]) -> None:
        """Goes on adding to the sums of a checkpoint, which one process takes for all."""
        self._sums_K4.zero_()
        self._logged_at = self._waited = 0.0
        if self.args.process_index == 0:
            for index, name in enumerate(self.task_names):
                sums = state.get("sums", {}).get(name, [0.0] * 4)
                self._sums_K4[index] = self._sums_K4.new_tensor(sums)
