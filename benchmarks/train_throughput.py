"""Tokens/s of MixTrainer at the quickstart's size, beside a bare PyTorch loop and TRL's SFTTrainer.

    python benchmarks/train_throughput.py [--rounds=7] [--steps=20] [--device=cpu] [--json=PATH]

All train the model of recipes/quickstart.yaml (4 layers x 128, 16 rows of 384 tokens a step) from the
same initial weights, with the same AdamW, gradient clipping and precision: fp32 on a CPU, bf16
autocast on a GPU that has it. A round gives each of them a segment of `--steps` optimizer steps in
turn, so that the machine's drift cancels; the medians over rounds are quoted, and the ratios are
taken within a round. Tokens are real ones: padding never counts, users' and tools' tokens do. Each
segment starts with `WARM_UP` steps that are not measured, nor is anything else before or after.

MixTrainer    as run_train.py sets it up, with its callbacks and a log every 10 steps (its lines go
              nowhere). Examples are drawn, rendered, packed and collated *while* it is measured.
              Nothing is saved. `data_wait` is the share of the time that this takes.
bare loop     the least that trains the same: forward, loss, backward, clipping, AdamW, on the same
              rows, made and collated beforehand: no data cost, no logs, a constant learning rate.
SFTTrainer    on examples of the same mix, exported by `load_mixture`; it renders them by the chat
              template and packs them before it is measured (`packing`, `assistant_only_loss`). Its
              default computes entropy and accuracy too. Gradient checkpointing and bf16, which are
              its defaults, are set to MixTrainer's. Three ways, as TRL packs in two:
              bfd keeps examples apart by laying a batch out as one sequence, made for
              FlashAttention's kernels; without them (here: sdpa) attention pays for 16 x 384 tokens
              squared. "1 row x 16" is the same in 16 batches of one row a step. wrapped cuts
              examples at the ends of rows and lets them see each other: another training.
matmul        `torch.matmul` of two large square matrices in the training precision, as the peak.

Model FLOPs are counted as by PaLM (arXiv:2204.02311, appendix B; 6N is of Kaplan et al.,
arXiv:2001.08361), a token: 6 N + 12 L D T + 6 D V, with N the parameters without embeddings,
L layers, D width, T tokens in a row, V vocabulary (the tied lm_head). Attention counts in full: the
mask saves sdpa nothing on a CPU.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing here is on the Hub

import torch
from torch.nn.functional import cross_entropy
from transformers import PreTrainedTokenizerBase, Trainer, TrainerCallback

from mixgen.encoding.renderer import IGNORED, Renderer
from mixgen.encoding.rows import RowDataset
from mixgen.encoding.tokenizer import train_tokenizer
from mixgen.recipe import Recipe, load_mixture, parse_recipe
from mixgen.training.callbacks import MixProgressCallback, StopCallback
from mixgen.training.config import MixConfig
from mixgen.training.model import build_model
from mixgen.training.trainer import MixTrainer, collate
from mixgen.training.weights import WeightsCallback

RECIPE = Path(__file__).parents[1] / "recipes" / "quickstart.yaml"
WARM_UP = 4  # optimizer steps; even, as a block of rows is two steps
REQUIRED = 0.97  # of the bare loop's tokens/s
NO_TRL = (
    "SFTTrainer: not measured, trl is not installed (it is no dependency of mixgen). To have it:\n"
    "  pip install --no-deps --target build/trl trl    then run with PYTHONPATH=build/trl"
)

Segment = Callable[[], dict[str, float]]  # trains some steps: what it measured


class Clock(TrainerCallback):
    """The seconds between the ends of two optimizer steps, in each `train()`."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.marks: dict[int, tuple[float, int]] = {}  # seconds, tokens seen; by step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step in (WARM_UP, WARM_UP + self.steps):
            self.marks[state.global_step] = now(args.device), state.num_input_tokens_seen

    @property
    def seconds(self) -> float:
        return self.marks[WARM_UP + self.steps][0] - self.marks[WARM_UP][0]

    @property
    def tokens(self) -> int:
        return self.marks[WARM_UP + self.steps][1] - self.marks[WARM_UP][1]


def now(device: torch.device) -> float:
    """Seconds, when the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def mix_trainer(
    recipe: Recipe, tokenizer: PreTrainedTokenizerBase, rows: RowDataset, steps: int
) -> Segment:
    """MixTrainer, as `mixgen.main.train` makes it."""
    config, clock = recipe.config, Clock(steps)
    trainer = MixTrainer(
        model=build_model(config, tokenizer),
        args=config,
        train_dataset=rows,
        processing_class=tokenizer,
        callbacks=[
            StopCallback(),
            MixProgressCallback(rows.task_names),
            WeightsCallback(recipe.schedule, config.max_task_share),
            clock,
        ],
    )
    measured = rows_of_steps(rows, config, steps)
    tokens = sum(int((row.task_ids >= 0).sum()) for row in measured)

    def segment() -> dict[str, float]:
        train_silently(trainer)
        waits = [log["data_wait"] for log in trainer.state.log_history if "data_wait" in log]
        return {"rate": tokens / clock.seconds, "data_wait": statistics.median(waits)}

    return segment


def rows_of_steps(rows: RowDataset, config: MixConfig, steps: int) -> list[Any]:
    """The rows of the measured steps."""
    size = config.rows_per_step
    return [rows[index] for index in range(WARM_UP * size, (WARM_UP + steps) * size)]


def bare_loop(
    config: MixConfig, tokenizer: PreTrainedTokenizerBase, rows: RowDataset, steps: int
) -> Segment:
    """The same training in plain PyTorch."""
    device, size = config.device, config.rows_per_step
    model = build_model(config, tokenizer).to(device).train()
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=config.learning_rate,
        betas=(config.adam_beta1, config.adam_beta2),
        eps=config.adam_epsilon,
        weight_decay=config.weight_decay,
        fused=config.optim == "adamw_torch_fused",
    )
    num_rows = (WARM_UP + steps) * size
    batches = []
    for first in range(0, num_rows, size):
        batch = collate([rows[index] for index in range(first, first + size)])
        batches.append({field: tensor.to(device) for field, tensor in batch.items()})
    tokens = sum(int((batch["task_ids"] >= 0).sum()) for batch in batches[WARM_UP:])

    def step(batch: dict[str, torch.Tensor]) -> None:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bool(config.bf16)):
            logits = model(
                input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False
            ).logits
        loss = cross_entropy(
            logits[:, :-1].float().flatten(0, 1),
            batch["labels"][:, 1:].flatten(),
            ignore_index=IGNORED,
        )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()

    def segment() -> dict[str, float]:
        for batch in batches[:WARM_UP]:
            step(batch)
        started = now(device)
        for batch in batches[WARM_UP:]:
            step(batch)
        return {"rate": tokens / (now(device) - started)}

    return segment


def sft_trainer(
    config: MixConfig, tokenizer: PreTrainedTokenizerBase, steps: int, strategy: str, size: int
) -> Segment:
    """TRL's trainer, with `size` rows in a batch and as many batches in a step as MixTrainer's."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    num_steps = WARM_UP + steps
    wanted = (num_steps + 1) * config.tokens_per_step
    args = SFTConfig(
        output_dir=config.output_dir,
        max_steps=num_steps,
        max_length=config.max_seq_len,
        packing=True,
        packing_strategy=strategy,
        assistant_only_loss=True,
        per_device_train_batch_size=size,
        gradient_accumulation_steps=config.rows_per_step // size,
        gradient_checkpointing=False,
        include_num_input_tokens_seen="non_padding",  # what `Clock` reads
        save_strategy="no",
        disable_tqdm=True,
        **{
            field: getattr(config, field)
            for field in (
                *("use_cpu", "bf16", "seed", "report_to", "logging_steps", "optim"),
                *("learning_rate", "lr_scheduler_type", "warmup_steps", "weight_decay"),
                *("adam_beta1", "adam_beta2", "adam_epsilon", "max_grad_norm"),
            )
        },
    )
    clock = Clock(steps)
    trainer = SFTTrainer(
        model=build_model(config, tokenizer),
        args=args,
        train_dataset=Dataset.from_list(list(export(tokenizer, config.seed, wanted))),
        processing_class=tokenizer,
        callbacks=[clock],
    )

    def segment() -> dict[str, float]:
        train_silently(trainer)
        return {"rate": clock.tokens / clock.seconds}

    return segment


def export(
    tokenizer: PreTrainedTokenizerBase, seed: int, num_tokens: int
) -> Iterator[dict[str, Any]]:
    """Examples of the mix, as TRL takes them, until they have `num_tokens`."""
    renderer = Renderer(tokenizer)
    for example in load_mixture(RECIPE, seed=seed):
        yield {"messages": example["messages"], "tools": example["tools"]}
        num_tokens -= len(renderer.encode(example).input_ids)
        if num_tokens <= 0:
            return


def train_silently(trainer: Trainer) -> None:
    """Trains from step 0 on; the lines go nowhere, though they are made."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        trainer.train()


def matmul(config: MixConfig) -> Segment:
    """FLOP/s of one large matrix product."""
    device, dtype = config.device, torch.bfloat16 if config.bf16 else torch.float32
    size, times = (8192, 20) if device.type == "cuda" else (2048, 5)
    left, right = torch.randn(2, size, size, device=device, dtype=dtype).unbind()

    def segment() -> dict[str, float]:
        torch.matmul(left, right)
        started = now(device)
        for _ in range(times):
            torch.matmul(left, right)
        return {"rate": times * 2 * size**3 / (now(device) - started)}

    return segment
