"""Weights that follow from the losses of the tasks, decided while the run trains.

The rule is the update of Group DRO, `w <- w * exp(rate * loss)` (Sagawa et al. 2020,
"Distributionally Robust Neural Networks", arXiv:1911.08731, algorithm 1), with the smoothing of
DoReMi, which mixes the probabilities with uniform ones (Xie et al. 2023, arXiv:2305.10429,
algorithm 1): a task whose loss is higher is drawn more often, and none dies out.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from multiprocessing import RawArray
from typing import Any

from mixgen.errors import RecipeError, nearest
from mixgen.mixture.schedule import Schedule
from mixgen.mixture.weights import Mix


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdaptiveConfig:
    """How weights adapt.

    Attributes:
        every: Optimizer steps from one decision to the next.
        rate: How far one decision goes: a task whose loss is 1 nat above another's gains
            a factor of `exp(rate)` on it.
        smoothing: Share of the examples that is dealt out evenly, whatever the losses.
    """

    every: int = 100
    rate: float = 0.2
    smoothing: float = 0.1

    def __post_init__(self) -> None:
        """Checks the ranges."""
        for key, low, high in (("every", 1, math.inf), ("rate", 0, 100), ("smoothing", 0, 1)):
            value = getattr(self, key)
            number = isinstance(value, int if key == "every" else int | float)
            if not number or isinstance(value, bool) or not low <= value <= high:
                kind = "a whole number" if key == "every" else "a number"
                bound = f" and at most {high:g}" if high < math.inf else ""
                raise RecipeError(
                    f"adaptive: {key} must be {kind}, at least {low}{bound}, got {value!r}"
                )

    @classmethod
    def read(cls, settings: Mapping[str, Any]) -> AdaptiveConfig:
        """Takes a recipe's mapping.

        Raises:
            RecipeError: A key is unknown or a value out of its range.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        for key in settings:
            if key not in known:
                raise RecipeError(f"adaptive: unknown key {key!r}: {nearest(str(key), known)}")
        return cls(**settings)


def next_weights(
    weights: Sequence[float], losses: Sequence[float | None], *, rate: float, smoothing: float
) -> list[float]:
    """The weights that follow from those before and from losses.

    Args:
        weights: The probabilities that the change comes on top of.
        losses: The mean loss of each task, in nats a token; None where it was not drawn, which
            counts as the mean of the others.
        rate: See `AdaptiveConfig`.
        smoothing: See `AdaptiveConfig`.

    Returns:
        Probabilities, rounded to four digits, at least 0.0001. Losses differ in their last digits
        between numbers of processes: rounding makes it unlikely, not impossible, that rows do too.

    Examples:
        >>> next_weights([0.5, 0.5], [2.0, 1.0], rate=1.0, smoothing=0.0)
        [0.7311, 0.2689]
    """
    measured = [loss for loss in losses if loss is not None]
    middle = math.fsum(measured) / len(measured) if measured else 0.0
    exponents = [rate * (middle if loss is None else loss) for loss in losses]
    highest = max(exponents)  # taken off, so that nothing overflows
    raised = [w * math.exp(e - highest) for w, e in zip(weights, exponents, strict=True)]
    total = math.fsum(raised)
    return [
        round((1 - smoothing) * value / total + smoothing / len(raised), 4) or 1e-4
        for value in raised
    ]


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdaptiveSchedule(Schedule):
    """Stages of `config.every` steps, whose weights are decided one after the other.

    What is decided at the end of one stage is in force from the end of the next: rows are made
    ahead of training, and by other processes (DataLoader workers). Those see a decision because
    the weights lie in memory that they share. A stage that is not decided yet cannot be drawn.

    Attributes:
        config: How weights adapt.
    """

    config: AdaptiveConfig

    def __post_init__(self) -> None:
        """Gives the first two stages the weights to begin with."""
        if any(len(points) > 1 for points in self.points):
            raise RecipeError("adaptive weights begin with one number a task, not with a schedule")
        self.load_state_dict({}, step=0)
        self.mix_at(0)

    @cached_property
    def starts(self) -> list[int]:
        """The first step of each stage."""
        return list(range(0, max(self.num_steps, 1), self.config.every))

    @cached_property
    def _decided(self) -> Any:
        """The weights of each stage, NaN until they are decided."""
        return RawArray("d", [math.nan] * len(self.tasks) * (len(self.starts) + 2))

    def mix_at(self, step: int) -> Mix:
        """The mix that the rows of a step are drawn from.

        Raises:
            RuntimeError: It is not decided yet: rows are drawn further ahead than `every` steps.
        """
        stage = step // self.config.every
        width = len(self.tasks)
        weights = tuple(self._decided[stage * width : (stage + 1) * width])
        if any(map(math.isnan, weights)):
            raise RuntimeError(f"the weights of step {step} are drawn before they are decided")
        return Mix(tasks=self.tasks, weights=weights)

    def is_decision(self, step: int) -> bool:
        """Whether weights are decided after `step` steps."""
        return step > 0 and step % self.config.every == 0

    def decide(self, stage: int, weights: Sequence[float]) -> None:
        """Sets the weights of a stage: one of each of `tasks`."""
        width = len(self.tasks)
        self._decided[stage * width : (stage + 1) * width] = list(weights)

    def weights_after(self, step: int, losses: Mapping[str, float]) -> list[float]:
        """What to decide at the end of a stage, for `stage_after(step)`; one weight a task.

        Args:
            step: The steps that are done, a multiple of `config.every`.
            losses: The mean loss of each task in the stage that ended, by name.
        """
        now = self.mix_at(step)  # of the stage between, on top of which the change comes
        found = next_weights(
            now.probabilities,
            [losses.get(task.name) for task in now.active],
            rate=self.config.rate,
            smoothing=self.config.smoothing,
        )
        by_name = dict(zip((task.name for task in now.active), found, strict=True))
        return [by_name.get(task.name, 0.0) for task in self.tasks]

    def stage_after(self, step: int) -> int:
        """The stage that is decided after `step` steps: not the next one but the one after."""
        return step // self.config.every + 1

    def state_dict(self) -> dict[str, Any]:
        """Every decision, for a checkpoint."""
        names = [task.name for task in self.tasks]
        return {"every": self.config.every, "tasks": names, "weights": self.decisions}

    def load_state_dict(self, state: Mapping[str, Any], step: int) -> None:
        """Goes on after `step` steps with a checkpoint's decisions.

        They may be of another `every` and other tasks: a stage has the weights that its first step
        had, a task that is new its first weight.
        """
        first = {
            task.name: points[0][1] for task, points in zip(self.tasks, self.points, strict=True)
        }
        for stage in range(step // self.config.every + 2):
            weights = first
            if decided := state.get("weights"):
                index = min(stage * self.config.every // state["every"], len(decided) - 1)
                known = dict(zip(state["tasks"], decided[index], strict=True))
                weights = {name: known.get(name, weight) for name, weight in first.items()}
            self.decide(stage, list(weights.values()))

    @property
    def decisions(self) -> list[list[float]]:
        """The weights of every stage that is decided."""
        width = len(self.tasks)
        stages = [
            list(self._decided[at : at + width]) for at in range(0, len(self._decided), width)
        ]
        return [weights for weights in stages if not any(map(math.isnan, weights))]
