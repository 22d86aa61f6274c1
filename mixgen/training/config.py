"""MixConfig: everything about a training run but the tasks and their weights."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Final, Literal

import torch
import yaml
from transformers import TrainingArguments
from transformers.training_args import OptimizerNames

from mixgen.errors import RecipeError
from mixgen.mixture.adaptive import AdaptiveConfig
from mixgen.training.limits import check_best_is_saved, check_limits

MUON: Final = "muon"


@dataclasses.dataclass
class MixConfig(TrainingArguments):
    """`TrainingArguments` with the model's size, the rows and the length of training.

    Every field is a key of a recipe and a flag of `run_train.py`. Those of
    `TrainingArguments` that are declared again have another default here.
    """

    depth: int = dataclasses.field(
        default=12,
        metadata={
            "help": "The one dial of the model's size: its number of layers. 12 is GPT-2's shape."
        },
    )
    aspect_ratio: int = dataclasses.field(
        default=64, metadata={"help": "Width of the model per layer: width = depth x aspect_ratio."}
    )
    head_dim: int = dataclasses.field(
        default=64,
        metadata={
            "help": "Width of an attention head; the model's width is rounded up to a multiple."
        },
    )
    model_name_or_path: str | None = dataclasses.field(
        default=None,
        metadata={
            "help": "Start from this causal language model, not from a random one of `depth`."
        },
    )
    trust_remote_code: bool = dataclasses.field(
        default=False, metadata={"help": "Run code that comes with `model_name_or_path`."}
    )
    attn_implementation: str = dataclasses.field(
        default="sdpa",
        metadata={"help": "Attention kernel: sdpa, eager, flash_attention_2 or flash_attention_3."},
    )
    max_seq_len: int = dataclasses.field(
        default=1024, metadata={"help": "Tokens in a training row."}
    )
    rows_per_block: int = dataclasses.field(
        default=16,
        metadata={
            "help": "Rows that are drawn and packed together; another value gives other rows, and "
            "fewer lose more at their ends."
        },
    )
    vocab_size: int = dataclasses.field(
        default=1024,
        metadata={"help": "Most tokens of the tokenizer; ignored with `model_name_or_path`."},
    )
    train_tokens: int | None = dataclasses.field(
        default=None,
        metadata={
            "help": "Length of training in tokens of rows; without it and max_steps, 100 million."
        },
    )
    global_batch_size: int | None = dataclasses.field(
        default=None,
        metadata={
            "help": "Rows in an optimizer step, over all processes; sets gradient accumulation."
        },
    )
    ddp_find_unused_parameters: bool | None = dataclasses.field(
        default=False, metadata={"help": "Let DDP look for parameters without a gradient."}
    )
    task_files: list[str] = dataclasses.field(
        default_factory=list, metadata={"help": "Python files with tasks of your own."}
    )
    weight_interpolation: Literal["step", "linear"] = dataclasses.field(
        default="step",
        metadata={"help": "Between two weights of a schedule: keep the first, or go straight."},
    )
    adaptive: dict[str, Any] | str | None = dataclasses.field(
        default=None,
        metadata={
            "help": "Let weights follow from the losses of the tasks: true, or a mapping of every "
            "(steps), rate and smoothing."
        },
    )
    max_task_share: float = dataclasses.field(
        default=0.9,
        metadata={"help": "Warn when a task has more than this share of the tokens or the loss."},
    )
    eval_examples: int = dataclasses.field(
        default=200,
        metadata={
            "help": "Problems of each task in an evaluation during training, of the validation "
            "split (see num-examples of `mixgen eval`); eval_steps says how often."
        },
    )
    test_examples: int = dataclasses.field(
        default=1000,
        metadata={
            "help": "Problems of each task, of the test split, that the trained model is tried on "
            "for the report; 0: none."
        },
    )
    per_device_eval_batch_size: int = dataclasses.field(
        default=128, metadata={"help": "Conversations at once when a model is tried."}
    )
    eval_strategy: str | None = dataclasses.field(  # type: ignore[assignment]
        default=None,
        metadata={"help": "steps or no: whether to evaluate; by default if there are eval_steps."},
    )
    resume: bool | None = dataclasses.field(
        default=None,
        metadata={
            "help": "Go on with the run in output_dir: by default if there is one; true: fail if "
            "there is none; false: fail if there is one."
        },
    )
    resume_anyway: bool = dataclasses.field(
        default=False,
        metadata={"help": "Go on with the run in output_dir although its recipe differs."},
    )
    overwrite: bool = dataclasses.field(
        default=False,
        metadata={"help": "Replace the run that output_dir holds; its files are deleted."},
    )

    learning_rate: float = dataclasses.field(default=1e-3, metadata={"help": "Peak learning rate."})
    adam_beta2: float = dataclasses.field(
        default=0.95, metadata={"help": "AdamW's second decay rate."}
    )
    lr_scheduler_type: str = dataclasses.field(
        default="cosine", metadata={"help": "Learning-rate schedule."}
    )
    warmup_steps: float = dataclasses.field(
        default=0.02, metadata={"help": "Steps of linear warmup; below 1, a share of training."}
    )
    optim: str = dataclasses.field(
        default="adamw_torch_fused",
        metadata={"help": "Optimizer: muon (with AdamW for what is no matrix), or transformers'."},
    )
    bf16: bool | None = dataclasses.field(  # type: ignore[assignment]
        default=None, metadata={"help": "Train in bfloat16; by default where the GPU has it."}
    )
    logging_steps: float = dataclasses.field(
        default=10, metadata={"help": "Optimizer steps between two log lines."}
    )
    save_steps: float = dataclasses.field(
        default=500, metadata={"help": "Optimizer steps between two checkpoints."}
    )
    save_total_limit: int | None = dataclasses.field(
        default=2, metadata={"help": "Checkpoints to keep."}
    )
    hub_strategy: str = dataclasses.field(
        default="end", metadata={"help": "What push_to_hub pushes: the trained model alone."}
    )
    # It would ask the GPU after every batch whether the loss is finite, and train on regardless.
    logging_nan_inf_filter: bool = dataclasses.field(
        default=False, metadata={"help": "Leave losses that are not finite out of Trainer's mean."}
    )
    # The rows of a resumed run start where they should: there is nothing to skip.
    ignore_data_skip: bool = dataclasses.field(
        default=True,
        metadata={"help": "Must stay on: a resumed run's rows begin where it stopped."},
    )
    # Rows come in an order of their own, and the collator needs every column of theirs.
    train_sampling_strategy: str = dataclasses.field(
        default="sequential",
        metadata={"help": "Rows are drawn at random already: only sequential is allowed."},
    )
    remove_unused_columns: bool = dataclasses.field(
        default=False, metadata={"help": "Must stay off: rows are arrays, not columns."}
    )

    def __post_init__(self) -> None:
        """Checks mixgen's own fields, and derives gradient accumulation and the number of steps.

        Raises:
            RecipeError: A field is out of its range, or two contradict each other.
        """
        check_limits(self)
        if self.train_sampling_strategy != "sequential" or self.remove_unused_columns:
            raise RecipeError(
                "train_sampling_strategy must be sequential and remove_unused_columns off"
            )
        if self.hub_strategy != "end":
            raise RecipeError("hub_strategy must be end: checkpoints are not pushed")
        if not self.ignore_data_skip:
            raise RecipeError("ignore_data_skip must stay on: rows begin where a run stopped")
        if self.overwrite and (self.resume or self.resume_anyway):
            raise RecipeError("overwrite replaces a run, and resume goes on with it: give one")
        self.adaptive = _read_adaptive(self.adaptive)
        self._check_evaluation()
        if self.max_steps == 0 or self.max_steps < -1:
            raise RecipeError(f"max_steps must be a positive integer, got {self.max_steps}")
        for key in ("dataloader_persistent_workers", "dataloader_multiprocessing_context"):
            if getattr(self, key) and not self.dataloader_num_workers:
                raise RecipeError(f"{key} needs dataloader_num_workers above 0")
        if self.task_files and self.dataloader_multiprocessing_context not in (None, "fork"):
            raise RecipeError(
                "dataloader_multiprocessing_context must be fork with task_files: "
                "new processes do not know the tasks in them"
            )
        if self.train_tokens is not None and self.max_steps > 0:
            raise RecipeError(
                "train_tokens and max_steps both set the length of training: give one"
            )
        if self.bf16 is None:
            self.bf16 = (
                not (self.use_cpu or self.fp16)
                and torch.cuda.is_available()
                and torch.cuda.is_bf16_supported()
            )
        if not torch.accelerator.is_available():
            # Else several processes without GPUs would form no group, and train alone each.
            self.use_cpu = True
            self.dataloader_pin_memory = False
        self.muon_args()
        is_muon = self.optim == MUON
        if is_muon:  # which TrainingArguments does not know; `MixTrainer` makes it
            self.optim = OptimizerNames.ADAMW_TORCH.value
        super().__post_init__()  # type: ignore[no-untyped-call]
        if is_muon:
            self.optim = MUON
        if self.n_gpu > 1:
            # Else the Trainer takes DataParallel: one process for all GPUs, with a batch for each.
            self._n_gpu = 1
        if self.global_batch_size is not None:
            self.gradient_accumulation_steps = self._accumulation(self.global_batch_size)
        if self.max_steps <= 0:
            self.max_steps = math.ceil((self.train_tokens or 100_000_000) / self.tokens_per_step)
        check_best_is_saved(self)

    def muon_args(self) -> dict[str, float]:
        """What `optim_args` says to Muon: `matrix_lr=6e-3`.

        Raises:
            RecipeError: It says something else, or this to another optimizer.
        """
        key, _, value = (self.optim_args or "").partition("=")
        is_rate = key.strip() == "matrix_lr"
        if self.optim != MUON and is_rate:
            raise RecipeError(
                f"optim_args matrix_lr needs optim muon (--optim_args= clears it), got {self.optim}"
            )
        if self.optim != MUON or not self.optim_args:
            return {}
        try:
            if is_rate and 0 < float(value) < math.inf:
                return {"matrix_lr": float(value)}
        except ValueError:
            pass
        raise RecipeError(f"optim_args of muon must be matrix_lr=NUMBER, got {self.optim_args!r}")

    def _check_evaluation(self) -> None:
        """Settles when models are tried, and by which metric the best one is found."""
        if self.eval_strategy is None:
            self.eval_strategy = "steps" if self.eval_steps else "no"
        if self.eval_strategy not in ("no", "steps"):
            raise RecipeError(f"eval_strategy must be no or steps, got {self.eval_strategy}")
        if name := self.metric_for_best_model:
            for prefix in ("eval_", "eval/"):
                name = name.removeprefix(prefix)
            self.metric_for_best_model = name
        best = self.load_best_model_at_end or self.save_strategy == "best"
        if best and not (self.metric_for_best_model and self.eval_strategy == "steps"):
            which = (
                "load_best_model_at_end" if self.load_best_model_at_end else "save_strategy best"
            )
            raise RecipeError(
                f"{which} needs eval_steps, and metric_for_best_model such as calculator/exact"
            )

    @property
    def rows_per_step(self) -> int:
        """Rows in an optimizer step, over all processes."""
        return int(
            self.per_device_train_batch_size * self.gradient_accumulation_steps * self.world_size
        )

    @property
    def tokens_per_step(self) -> int:
        """Tokens of rows in an optimizer step, over all processes."""
        return self.rows_per_step * self.max_seq_len

    @property
    def rows_ahead(self) -> int:
        """Most rows, over all processes, that are made before training needs them."""
        batches = 1 + self.dataloader_num_workers * (self.dataloader_prefetch_factor or 2)
        return int(batches * self.per_device_train_batch_size * self.world_size)

    def _accumulation(self, global_batch_size: int) -> int:
        batch, world = self.per_device_train_batch_size, self.world_size
        rows = batch * world
        if global_batch_size % rows:
            below = global_batch_size // rows * rows
            nearest = f"{below} or {below + rows}" if below else f"{rows}"
            if global_batch_size % world == 0:
                share = global_batch_size // world
                fits = max(size for size in range(1, batch + 1) if share % size == 0)
                nearest += f"; or per_device_train_batch_size {fits}"
            raise RecipeError(
                f"global_batch_size {global_batch_size} is no multiple of the {rows} rows that "
                f"{world} process(es) of per_device_train_batch_size {batch} take at once: "
                f"nearest: {nearest}"
            )
        return global_batch_size // int(rows)


def _read_adaptive(given: Any) -> dict[str, Any] | None:
    """The settings of adaptive weights, all of them; None if weights do not adapt."""
    if isinstance(given, str):
        try:
            given = yaml.safe_load(given)
        except yaml.YAMLError:
            raise RecipeError(f"adaptive must be true or a mapping, got {given!r}") from None
    if given is None or given is False:
        return None
    if given is not True and not isinstance(given, dict):
        raise RecipeError(f"adaptive must be true or a mapping, got {given!r}")
    return dataclasses.asdict(AdaptiveConfig.read({} if given is True else given))
