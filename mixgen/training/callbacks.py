"""What a run shows while it trains, and how it stops when it is asked to."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
from tqdm import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

ECHO_SECONDS = 1.0
STOPPING = b"\nStopping after this step, which will be saved; once more stops at once.\n"


class MixProgressCallback(TrainerCallback):
    """One readable line a log, and under it a progress bar where there is a terminal."""

    def __init__(self, task_names: list[str]) -> None:
        """Takes the names of the tasks, in the order to show them."""
        self.task_names = task_names
        self.bar: tqdm[Any] | None = None
        self.started = 0.0
        self.first_step = 0
        self.first_tokens = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Starts the bar."""
        self.started = time.monotonic()
        self.first_step = state.global_step
        self.first_tokens = state.num_input_tokens_seen
        if state.is_world_process_zero:
            # disable=None: no bar where the output is no terminal
            self.bar = tqdm(
                total=state.max_steps,
                initial=state.global_step,
                unit="step",
                disable=None,
                leave=False,
            )

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Moves the bar."""
        if self.bar is not None:
            self.bar.update(1)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Prints the line."""
        if self.bar is None or not logs or "loss" not in logs:
            return
        seconds = time.monotonic() - self.started
        steps = max(state.global_step - self.first_step, 1)
        tasks = "  ".join(
            f"{name} {logs[f'loss/{name}']:.4f} "
            f"({logs[f'examples/{name}']:,} ex, {logs[f'tokens/{name}']:,} tok)"
            for name in self.task_names
            if f"loss/{name}" in logs
        )
        remaining = seconds / steps * (state.max_steps - state.global_step)
        tqdm.write(
            f"step {state.global_step}/{state.max_steps}  loss {logs['loss']:.4f}  {tasks}  "
            f"lr {logs['learning_rate']:.1e}  {tokens_text(state.num_input_tokens_seen)} tokens, "
            f"{tokens_text((state.num_input_tokens_seen - self.first_tokens) / seconds)}/s, "
            f"{logs['data_wait']:.0%} waiting for data, {clock_text(remaining)} left",
            file=sys.stdout,
        )
        sys.stdout.flush()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Closes the bar, and says how long it took and whether the best model is missing."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None
            seconds = time.monotonic() - self.started
            tokens = state.num_input_tokens_seen - self.first_tokens
            print(
                f"Trained {state.global_step - self.first_step:,} steps, "
                f"{tokens_text(tokens)} tokens in {clock_text(seconds)} "
                f"({tokens_text(tokens / seconds)} tokens/s).",
                flush=True,
            )
            is_done = state.global_step >= state.max_steps
            if args.load_best_model_at_end and is_done and not state.best_model_checkpoint:
                print(
                    f"warning: no checkpoint is the best by {args.metric_for_best_model}: "
                    "the model is that of the last step",
                    flush=True,
                )


class StopCallback(TrainerCallback):
    """After SIGTERM or Ctrl-C, saves and ends at the next step; a second one ends at once.

    A launcher passes on to its processes what the terminal has sent them already, so what comes
    within `ECHO_SECONDS` of the first is still the first.
    """

    def __init__(self) -> None:
        """Not asked to stop yet."""
        self.asked_at: float | None = None
        self.stopped = False
        self._group: Any = None  # processes agree on their CPUs: asking GPUs would wait for them

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Takes SIGTERM and SIGINT for the time of training."""
        before = {
            number: signal.signal(number, self._ask) for number in (signal.SIGTERM, signal.SIGINT)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.asked_at is not None and now - self.asked_at > ECHO_SECONDS:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        if self.asked_at is None:
            self.asked_at = now
            if os.environ.get("RANK", "0") == "0":
                with suppress(OSError):  # who asked may have closed the terminal
                    os.write(1, STOPPING)  # `print` may be under way where the signal came

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Forms the group."""
        if args.world_size > 1:
            self._group = dist.new_group(backend="gloo")

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """All processes stop at the same step, also when only one of them was asked."""
        asked = torch.tensor(float(self.asked_at is not None))
        if args.world_size > 1:
            dist.all_reduce(asked, op=dist.ReduceOp.MAX, group=self._group)
        if asked and state.global_step < state.max_steps:
            self.stopped = True
            control.should_save = control.should_training_stop = True
            control.should_evaluate = False  # who asked to stop does not wait for it


def tokens_text(number: float) -> str:
    """A number of tokens in three digits.

    Examples:
        >>> tokens_text(950), tokens_text(12_345), tokens_text(6_000_000)
        ('950', '12.3k', '6M')
    """
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"


def clock_text(seconds: float) -> str:
    """Seconds as `1:02:03` or `2:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
