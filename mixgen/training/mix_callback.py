"""What a run says about its mix while it trains, and weights that adapt to the tasks' losses."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import Any

from accelerate.utils import broadcast_object_list
from tqdm import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from mixgen.mixture.adaptive import AdaptiveSchedule
from mixgen.mixture.schedule import Schedule
from mixgen.mixture.weights import Mix


class MixCallback(TrainerCallback):
    """Says when weights change and when one task dominates; decides weights that adapt.

    Args:
        schedule: The weights at each step.
        max_task_share: Warn when a task has more than this share of the tokens or of the loss.
    """

    def __init__(self, schedule: Schedule, max_task_share: float) -> None:
        self.schedule = schedule
        self.max_task_share = max_task_share
        self.warned: set[tuple[str, str]] = set()
        self.logged_at = 0  # step of the last log

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Asks for a log where adaptive weights are decided; says what changes at this step."""
        step = state.global_step
        start, _ = self.schedule.stage(step)
        if isinstance(self.schedule, AdaptiveSchedule):
            control.should_log |= self.schedule.is_decision(step)  # what a decision follows from
        elif step == start and step < state.max_steps and state.is_world_process_zero:
            _say(f"step {step}: weights are now {mix_text(self.schedule.mix_at(step))}")

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Warns of a task that dominates, and decides adaptive weights."""
        if not logs or "loss" not in logs:
            return
        schedule, step = self.schedule, state.global_step
        if isinstance(schedule, AdaptiveSchedule):
            if schedule.is_decision(step):
                self._decide(schedule, state)
        elif state.is_world_process_zero and self.logged_at >= schedule.stage(step - 1)[0]:
            self._warn(schedule.mix_at(step - 1), logs)
        self.logged_at = step

    def _decide(self, schedule: AdaptiveSchedule, state: TrainerState) -> None:
        step, every = state.global_step, schedule.config.every
        # Log entries are in every checkpoint: a resumed run decides from the same ones.
        entries = [
            entry
            for entry in state.log_history
            if "loss" in entry and step - every < entry["step"] <= step
        ]
        losses = mean_losses(entries, [task.name for task in schedule.active])
        weights = schedule.weights_after(step, losses)
        weights = broadcast_object_list([weights])[0]  # one process decides for all
        stage = schedule.stage_after(step)
        schedule.decide(stage, weights)
        if state.is_world_process_zero and stage * every < state.max_steps:
            now = mix_text(schedule.mix_at(stage * every))
            _say(f"step {step}: weights from step {stage * every} on will be {now}")

    def _warn(self, mix: Mix, logs: Mapping[str, Any]) -> None:
        names = [task.name for task in mix.active]
        weights = dict(zip((task.name for task in mix.tasks), mix.weights, strict=True))
        tokens = {name: float(logs.get(f"tokens/{name}", 0)) for name in names}
        losses = {name: tokens[name] * logs.get(f"loss/{name}", 0.0) for name in names}
        for what, amounts in (("trained tokens", tokens), ("loss", losses)):
            name, share, weight = even_weight(amounts, weights)
            if share > self.max_task_share and (name, what) not in self.warned:
                self.warned.add((name, what))
                line = f"warning: {name} has {share:.0%} of the {what}"
                # No weight where nothing of the others was drawn; nor for a loss, which may be
                # chance that no model can learn: which of equal moves is played.
                if weight and what == "trained tokens":
                    line += f"; a weight of {weight:.2g} instead of {weights[name]:.4g}"
                    line += " would even it out"
                _say(line)


def mix_text(mix: Mix) -> str:
    """Weights and probabilities: `calculator=1.0 (0.6667), tictactoe=0.5 (0.3333)`."""
    probabilities = dict(zip(mix.active, mix.probabilities, strict=True))
    return ", ".join(
        f"{task.name}={weight:.4g} ({probabilities.get(task, 0.0):.4f})"
        for task, weight in zip(mix.tasks, mix.weights, strict=True)
    )


def mean_losses(entries: list[dict[str, Any]], names: list[str]) -> dict[str, float]:
    """The mean loss of each task over log entries, in nats a trained token."""
    means = {}
    for name in names:
        seen = [entry for entry in entries if math.isfinite(entry.get(f"loss/{name}", math.nan))]
        tokens = sum(entry[f"tokens/{name}"] for entry in seen)
        if tokens:
            total = sum(entry[f"loss/{name}"] * entry[f"tokens/{name}"] for entry in seen)
            means[name] = total / tokens
    return means


def even_weight(
    amounts: Mapping[str, float], weights: Mapping[str, float]
) -> tuple[str, float, float]:
    """The task with most of something, its share, and the weight that would give it an even one.

    Amounts grow with weights, and the others' stay as they are.

    Examples:
        >>> even_weight({"calculator": 1.0, "tictactoe": 9.0}, {"calculator": 1.0, "tictactoe": 3})
        ('tictactoe', 0.9, 0.3333333333333333)
    """
    name = max(amounts, key=amounts.__getitem__)
    total = sum(amounts.values())
    if len(amounts) < 2 or not total:
        return name, 0.0, weights[name]
    others = (total - amounts[name]) / (len(amounts) - 1)  # an even share
    return name, amounts[name] / total, weights[name] * others / amounts[name]


def _say(line: str) -> None:
    tqdm.write(line, file=sys.stdout)
    sys.stdout.flush()
