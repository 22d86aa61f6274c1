"""What values the settings of a run may have, and which of the Trainer's mixgen does without."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Final

from mixgen.errors import RecipeError

if TYPE_CHECKING:
    from transformers import TrainingArguments

RANGES: Final = {
    "depth": (1, 1_000),
    "aspect_ratio": (1, 10_000),
    "head_dim": (1, 10_000),
    "max_seq_len": (1, 1_000_000),
    "rows_per_block": (1, 4_096),
    "train_tokens": (1, math.inf),
    "global_batch_size": (1, math.inf),
    "per_device_train_batch_size": (1, 1_000_000),
    "per_device_eval_batch_size": (1, 1_000_000),
    "gradient_accumulation_steps": (1, 1_000_000),
    "vocab_size": (300, 1_000_000),  # 256 bytes, special tokens and a little text
    "seed": (0, 2**32 - 1),
    "learning_rate": (0, math.inf),
    "weight_decay": (0, math.inf),
    "adam_beta1": (0, 1),
    "adam_beta2": (0, 1),
    "max_grad_norm": (0, math.inf),
    "logging_steps": (0, math.inf),
    "save_steps": (0, math.inf),
    "eval_steps": (0, math.inf),
    "eval_delay": (0, math.inf),
    "eval_examples": (1, 1_000_000),
    "test_examples": (0, 1_000_000),
    "max_task_share": (0, 1),
    "dataloader_num_workers": (0, 1_024),
    "dataloader_prefetch_factor": (1, 1_024),
}
# What `TrainingArguments` knows and mixgen would ignore or get wrong, and what to do instead.
UNSUPPORTED: Final = {
    "num_train_epochs": "the data has no end; set train_tokens or max_steps",
    "resume_from_checkpoint": "the same command goes on by itself from the output_dir's run",
    "save_only_model": "such checkpoints cannot be gone on from",
    "data_seed": "set seed",
    "label_smoothing_factor": "the loss is the plain cross entropy",
    "dataloader_drop_last": "no batch is incomplete",
    "accelerator_config": "batches are dealt out by rows",
    "auto_find_batch_size": "set per_device_train_batch_size",
    "do_eval": "set eval_steps",
    "do_predict": "set test_examples",
    "eval_accumulation_steps": "set per_device_eval_batch_size",
    "prediction_loss_only": "the model is tried on problems, not for its loss",
    "batch_eval_metrics": "each task counts its own metrics",
    "greater_is_better": "each metric knows whether fewer are better",
    "save_on_each_node": "all machines share the output_dir",
    "include_num_input_tokens_seen": "tokens are counted as they are",
}


def check_range(key: str, value: float | None) -> None:
    """Makes sure that a setting, if it is given, is in its range.

    Raises:
        RecipeError: It is not; the error names it and what is allowed.
    """
    low, high = RANGES[key]
    if value is None or (low <= value <= high and value < math.inf):
        return
    bound = "a positive integer" if low == 1 else f"at least {low:,}"
    if value > high:
        bound += f", at most {high:,}"
    elif value == math.inf:
        bound += " and finite"
    raise RecipeError(f"{key} must be {bound}, got {value}")


def check_limits(config: TrainingArguments) -> None:
    """Makes sure that every setting is in its range, and none that mixgen would ignore is set.

    Raises:
        RecipeError: One is not; the error names it and what is allowed.
    """
    from transformers import SchedulerType, TrainingArguments

    for key in RANGES:
        check_range(key, getattr(config, key))
    for key, instead in UNSUPPORTED.items():
        default = TrainingArguments.__dataclass_fields__[key].default
        if getattr(config, key) not in (default, None):
            raise RecipeError(f"{key} is not supported: {instead}")
    if config.lr_scheduler_type == SchedulerType.REDUCE_ON_PLATEAU:
        raise RecipeError(
            "lr_scheduler_type reduce_lr_on_plateau is not supported: it needs the loss on "
            "held-out rows, and none is measured"
        )


def check_best_is_saved(config: TrainingArguments) -> None:
    """Makes sure that whichever evaluation finds the best model, a checkpoint holds that model.

    Args:
        config: Its `max_steps` is known: steps below 1 are shares of it.

    Raises:
        RecipeError: Some evaluations are at steps that are not saved.
    """
    from transformers.trainer_utils import SaveStrategy

    if not config.load_best_model_at_end or config.save_strategy == SaveStrategy.BEST:
        return
    save, evaluate = (
        math.ceil(steps * config.max_steps) if steps < 1 else int(steps)
        for steps in (config.save_steps, config.eval_steps or config.logging_steps)
    )
    if save != evaluate:
        raise RecipeError(
            "load_best_model_at_end needs save_steps like eval_steps (or save_strategy best), so "
            f"that the best model is saved, got {save:,} and {evaluate:,}"
        )


def check_devices(*, use_cpu: bool) -> None:
    """Refuses a launch for more GPUs than this machine has, before it trains on what it has not.

    Args:
        use_cpu: Whether the CPU was asked for.

    Raises:
        RecipeError: More processes were started here than there are GPUs, and not for the CPU.
    """
    import torch

    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    num_gpus = torch.cuda.device_count()
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "0").startswith("-1")
    # torchrun without a GPU means the CPU; `accelerate launch` sets this, and means GPUs.
    by_accelerate = "ACCELERATE_MIXED_PRECISION" in os.environ
    if use_cpu or hidden or processes <= max(num_gpus, 1) or not (num_gpus or by_accelerate):
        return
    raise RecipeError(
        f"{processes} processes were launched on a machine with {num_gpus} GPUs: launch with "
        f"--num_processes {max(num_gpus, 1)}, or with --config_file recipes/accelerate/cpu.yaml"
    )
