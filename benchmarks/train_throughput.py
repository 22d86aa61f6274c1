"""Tokens/s of MixTrainer at the quickstart's size, beside a bare PyTorch loop and TRL's SFTTrainer.

    python benchmarks/train_throughput.py [--rounds=5] [--steps=10] [--device=cpu] [--json=PATH]

All train the mix of recipes/quickstart.yaml on 4 layers x 128, 16 rows of 384 tokens a step, from
the same weights, with the same AdamW, gradient clipping and precision: fp32 on a CPU, bf16 autocast
on a GPU that has it. In each round they take turns, `--steps` optimizer steps each after `WARM_UP`
that are not measured, so that the machine's drift cancels; medians are quoted, and ratios are taken
within a round. Tokens are real ones: all but padding, with loss or without.

MixTrainer    as run_train.py sets it up, with its callbacks and a log every 10 steps (the lines go
              nowhere), but saving nothing. Its examples are drawn, rendered, packed and collated
              while it is measured.
bare loop     the least that trains the same: forward, loss, backward, clipping, AdamW, on the same
              rows, made and collated beforehand: no data cost, no logs, a constant learning rate.
SFTTrainer    on examples of the same mix from `load_mixture`, rendered by the chat template and
              packed before it is measured (`packing`, `assistant_only_loss`). bf16 and gradient
              checkpointing, on by default, are as in MixTrainer; it logs entropy and accuracy too.
              `bfd`, its default packing, keeps examples apart, but lays the rows of a batch out as
              one, for FlashAttention's kernels: with sdpa, attention costs (16 x 384) squared. So
              it is measured too with one row at once and 16 accumulated, and with `wrapped`, which
              cuts examples at the ends of rows and lets them see those before them: another
              training, and one that needs no mask.
matmul        `torch.matmul` of two large square matrices in the training's precision: the peak.

Model FLOPs of a token are those of PaLM (arXiv:2204.02311, appendix B; its 6 N is from Kaplan et
al., arXiv:2001.08361) and of the lm_head: 6 N + 12 L D T + 6 D V, with N parameters without
embeddings, L layers, D width, T tokens in a row, V vocabulary. Padding does not count; what the
attention's mask hides does.

Two disturbances on a CPU are larger than what is measured. glibc hands memory back and faults it in
again, up to 13 % of a step by luck of the heap: here it keeps its memory. And other processes on
the same cores slow a segment up to fivefold: where this process had less than `UNDISTURBED` of the
cores that it had in another round, the segment is left out, and counted.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import io
import json
import math
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing here is on the Hub

import torch
from torch.nn.functional import cross_entropy, pad
from transformers import PreTrainedTokenizerBase, Trainer, TrainerCallback

from mixgen.encoding.renderer import IGNORED, Renderer
from mixgen.encoding.rows import RowDataset
from mixgen.encoding.tokenizer import train_tokenizer
from mixgen.load import load_mixture
from mixgen.recipe import Recipe, parse_recipe
from mixgen.training.callbacks import MixProgressCallback, StopCallback
from mixgen.training.mix_callback import MixCallback
from mixgen.training.model import build_model
from mixgen.training.trainer import MixTrainer, collate

RECIPE = Path(__file__).parents[1] / "recipes" / "quickstart.yaml"
WARM_UP = 2  # optimizer steps; even, since a block of rows is two steps
REQUIRED = 0.97  # of the bare loop's tokens/s
UNDISTURBED = 0.95
TOKENS_PER_EXAMPLE = 60  # at least; 93 on average
MIX, BARE, MATMUL = "MixTrainer", "bare loop", "matmul"
NO_TRL = """SFTTrainer is not measured: trl is not installed (mixgen does not need it). To have it:
  pip install --no-deps --target outputs/trl trl
  PYTHONPATH=outputs/trl python benchmarks/train_throughput.py"""


class Mark(NamedTuple):
    """A moment in training."""

    wall: float  # seconds
    cpu: float  # seconds, of all threads of this process
    tokens: int = 0  # seen until then, if a Trainer counts them

    @classmethod
    def now(cls, device: torch.device, tokens: int = 0) -> Mark:
        """This moment, once the device has done what it was given."""
        if device.type == "cuda":
            torch.cuda.synchronize()
        return cls(time.perf_counter(), time.process_time(), tokens)


class Clock(TrainerCallback):
    """Marks where the measured steps of a Trainer begin and end."""

    def __init__(self) -> None:
        self.marks: list[Mark] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step in (WARM_UP, state.max_steps):
            self.marks.append(Mark.now(args.device, state.num_input_tokens_seen))


# Trains some steps: how many tokens it measured (FLOPs of matmul), since when and until when.
Segment = Callable[[], tuple[float, Mark, Mark]]


class Run(NamedTuple):
    """What all train on."""

    recipe: Recipe
    tokenizer: PreTrainedTokenizerBase
    rows: RowDataset
    batches: list[dict[str, torch.Tensor]]  # made of the rows
    tokens: int  # in the measured ones


def prepare(device: str, steps: int, output_dir: str) -> Run:
    """Reads the recipe, trains the tokenizer and makes the rows, as `mixgen.main.train` does."""
    flags = ["--report_to=none", "--save_strategy=no", f"--output_dir={output_dir}"]
    flags += ["--depth=4", "--aspect_ratio=32", "--optim=adamw_torch_fused", "--weight_decay=0"]
    flags += ["--per_device_train_batch_size=16", "--global_batch_size=16", "--eval_steps=0"]
    recipe = parse_recipe([str(RECIPE), *flags, *(["--use_cpu"] if device == "cpu" else [])])
    config, tasks = recipe.config, recipe.schedule.active
    config.max_steps = WARM_UP + steps
    tokenizer = train_tokenizer(
        tasks, seed=config.seed, vocab_size=config.vocab_size, model_max_length=config.max_seq_len
    )
    size = config.rows_per_step
    rows = RowDataset(
        recipe.schedule,
        Renderer(tokenizer),
        num_rows=(config.max_steps + 1) * size,  # the last step too fetches a batch ahead
        max_seq_len=config.max_seq_len,
        rows_per_block=config.rows_per_block,
        seed=config.seed,
        rows_per_step=size,
    )
    firsts = range(0, config.max_steps * size, size)
    batches = [collate([rows[first + row] for row in range(size)]) for first in firsts]
    tokens = sum(int((batch["task_ids"] >= 0).sum()) for batch in batches[WARM_UP:])
    return Run(recipe, tokenizer, rows, batches, tokens)


def train_silently(trainer: Trainer) -> None:
    """Trains from step 0 on; what is printed goes nowhere."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        trainer.train()


def mix_trainer(run: Run) -> Segment:
    """MixTrainer, made as `mixgen.main.train` makes it."""
    config, schedule, clock = run.recipe.config, run.recipe.schedule, Clock()
    trainer = MixTrainer(
        model=build_model(config, run.tokenizer),
        args=config,
        train_dataset=run.rows,
        processing_class=run.tokenizer,
        callbacks=[
            StopCallback(),
            MixProgressCallback(run.rows.task_names),
            MixCallback(schedule, config.max_task_share),
            clock,
        ],
    )

    def segment() -> tuple[float, Mark, Mark]:
        train_silently(trainer)
        return run.tokens, *clock.marks[-2:]

    return segment


def bare_loop(run: Run) -> Segment:
    """The same training in plain PyTorch."""
    config, device = run.recipe.config, run.recipe.config.device
    model = build_model(config, run.tokenizer).to(device).train()
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=config.learning_rate,
        betas=(config.adam_beta1, config.adam_beta2),
        eps=config.adam_epsilon,
        weight_decay=config.weight_decay,
        fused=config.optim == "adamw_torch_fused",
    )
    names = ("input_ids", "position_ids", "labels")
    batches = [[batch[name].to(device) for name in names] for batch in run.batches]

    def train(batches: list[list[torch.Tensor]]) -> Mark:
        for ids, positions, labels in batches:
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bool(config.bf16)):
                logits = model(input_ids=ids, position_ids=positions, use_cache=False).logits
            targets = pad(labels, (0, 1), value=IGNORED)[:, 1:].flatten()
            loss = cross_entropy(logits.float().flatten(0, 1), targets, ignore_index=IGNORED)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad()
        return Mark.now(device)

    return lambda: (run.tokens, train(batches[:WARM_UP]), train(batches[WARM_UP:]))


def sft_trainer(run: Run, packing: str, at_once: int, steps: int) -> Segment:
    """TRL's trainer, with as many rows a step as MixTrainer, `at_once` of them in a batch."""
    from datasets import Dataset, disable_progress_bars
    from trl import SFTConfig, SFTTrainer

    config, clock, num_steps = run.recipe.config, Clock(), WARM_UP + steps
    same = (
        *("use_cpu", "bf16", "seed", "report_to", "save_strategy", "logging_steps", "optim"),
        *("learning_rate", "lr_scheduler_type", "warmup_steps", "weight_decay", "max_grad_norm"),
        *("adam_beta1", "adam_beta2", "adam_epsilon", "output_dir"),
    )
    num_examples = num_steps * config.tokens_per_step // TOKENS_PER_EXAMPLE
    examples = [
        {"messages": example["messages"], "tools": example["tools"]}
        for example in load_mixture(RECIPE, seed=config.seed).take(num_examples)
    ]
    disable_progress_bars()
    trainer = SFTTrainer(
        model=build_model(config, run.tokenizer),
        args=SFTConfig(
            **{field: getattr(config, field) for field in same},
            max_steps=num_steps,
            max_length=config.max_seq_len,
            packing=True,
            packing_strategy=packing,
            assistant_only_loss=True,
            per_device_train_batch_size=at_once,
            gradient_accumulation_steps=config.rows_per_step // at_once,
            activation_checkpointing=False,
            include_num_input_tokens_seen="non_padding",
            disable_tqdm=True,
        ),
        train_dataset=Dataset.from_list(examples),
        processing_class=run.tokenizer,
        callbacks=[clock],
    )

    def segment() -> tuple[float, Mark, Mark]:
        train_silently(trainer)
        first, last = clock.marks[-2:]
        return last.tokens - first.tokens, first, last

    return segment


def matmul(run: Run) -> Segment:
    """A large matrix product, a few times."""
    device, bf16 = run.recipe.config.device, run.recipe.config.bf16
    size, times = (8192, 20) if device.type == "cuda" else (2048, 5)
    dtype = torch.bfloat16 if bf16 else torch.float32
    left, right = torch.randn(2, size, size, device=device, dtype=dtype).unbind()

    def multiply(times: int) -> Mark:
        for _ in range(times):
            torch.matmul(left, right)
        return Mark.now(device)

    return lambda: (times * 2 * size**3, multiply(1), multiply(times))


def flops_per_token(run: Run) -> int:
    """Of forward and backward, as the docstring above counts them."""
    model = build_model(run.recipe.config, run.tokenizer)
    width, num_tokens = model.config.n_embd, run.recipe.config.max_seq_len
    attention = 12 * model.config.n_layer * width * num_tokens
    lm_head = 6 * width * model.config.vocab_size
    return 6 * model.num_parameters(exclude_embeddings=True) + attention + lm_head


def measure(segments: dict[str, Segment], rounds: int, on_cpu: bool) -> list[dict[str, float]]:
    """For each round the rate of each, by name, but for disturbed ones."""
    rates: list[dict[str, float]] = []
    cores: list[dict[str, float]] = []  # CPU seconds a second
    for number in range(rounds):
        rates.append({})
        cores.append({})
        for name in list(segments)[:: -1 if number % 2 else 1]:  # so that none is always first
            amount, first, last = segments[name]()
            rates[-1][name] = amount / (last.wall - first.wall)
            cores[-1][name] = (last.cpu - first.cpu) / (last.wall - first.wall)
        print(f"round {number + 1} of {rounds} done", file=sys.stderr, flush=True)
    least = {name: UNDISTURBED * on_cpu * max(had[name] for had in cores) for name in segments}
    return [
        {name: rate for name, rate in found.items() if had[name] >= least[name]}
        for found, had in zip(rates, cores, strict=True)
    ]


def summarize(
    names: list[str], rounds: list[dict[str, float]], peak: float
) -> dict[str, dict[str, Any]]:
    """Median, minimum and maximum over rounds; `peak` is in tokens/s too."""
    results = {}
    for name in names:
        found = [rates[name] for rates in rounds if name in rates]
        ratios = [rates[name] / rates[BARE] for rates in rounds if {name, BARE} <= {*rates}]
        results[name] = {
            "tokens_per_second": [median(found), min(found), max(found)],
            "of_bare_loop": [median(ratios), min(ratios), max(ratios)] if ratios else None,
            "of_matmul": median(found) / peak,
            "rounds_left_out": len(rounds) - len(found),
        }
    return results


def show(results: dict[str, dict[str, Any]]) -> None:
    """Prints the table."""
    print(
        f"{'':<29} {'tokens/s':>8} {'(min':>7} {'max)':>7} {'of bare loop':>13} {'(min':>6}"
        f" {'max)':>6} {'of matmul':>10} {'rounds left out':>16}"
    )
    for name, found in results.items():
        rates, ratios = found["tokens_per_second"], found["of_bare_loop"] or [math.nan] * 3
        print(
            f"{name:<29} {rates[0]:>8,.0f} {rates[1]:>7,.0f} {rates[2]:>7,.0f}"
            f" {ratios[0]:>13.3f} {ratios[1]:>6.3f} {ratios[2]:>6.3f}"
            f" {found['of_matmul']:>10.1%} {found['rounds_left_out']:>16}"
        )
    print(f"Required: {MIX} at {REQUIRED} of the bare loop.")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10, help="optimizer steps in a segment; even")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--json", type=Path, default="outputs/benchmarks/train_throughput.json")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch finds no CUDA device here")
    if hasattr(libc := ctypes.CDLL(None), "mallopt"):  # glibc; see mallopt(3)
        libc.mallopt(-3, 2**30)  # M_MMAP_THRESHOLD, bytes
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD, bytes
    with tempfile.TemporaryDirectory() as output_dir:
        run = prepare(options.device, options.steps, output_dir)
        segments = {BARE: bare_loop(run), MIX: mix_trainer(run), MATMUL: matmul(run)}
        libraries = ["torch", "transformers", "accelerate"]
        if find_spec("trl"):
            libraries.append("trl")
            whole = run.recipe.config.rows_per_step
            few = max(2, options.steps // 5)  # on a CPU a step takes seconds
            segments[f"SFTTrainer bfd, {whole} at once"] = sft_trainer(run, "bfd", whole, few)
            segments["SFTTrainer bfd, 1 at once"] = sft_trainer(run, "bfd", 1, options.steps)
            segments["SFTTrainer wrapped"] = sft_trainer(run, "wrapped", whole, options.steps)
        rounds = measure(segments, options.rounds, on_cpu=options.device == "cpu")
    flops = flops_per_token(run)
    peak = median(rates[MATMUL] for rates in rounds if MATMUL in rates)
    about = {
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPU cores",
        "device": torch.cuda.get_device_name() if options.device == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "precision": "bf16 autocast" if run.recipe.config.bf16 else "fp32",
        "versions": ", ".join(f"{name} {version(name)}" for name in libraries),
        "segments": f"{options.rounds} rounds of {options.steps} optimizer steps",
        "matmul": f"{peak / 1e9:,.0f} GFLOP/s",
        "model": f"{flops / 1e6:.2f} MFLOP a token",
    }
    results = summarize([name for name in segments if name != MATMUL], rounds, peak / flops)
    print("\n".join(f"{key:<10} {value}" for key, value in about.items()), end="\n\n")
    show(results)
    if not find_spec("trl"):
        print(NO_TRL)
    content = {**about, "results": results, "by_round": rounds}
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(content, indent=2) + "\n")
    print(f"Written to {options.json}.")


if __name__ == "__main__":
    main()
