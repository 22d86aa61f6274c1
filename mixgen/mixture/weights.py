"""The mix: tasks and weights. `probability = weight / sum(all weights)`, per example drawn."""

from __future__ import annotations

import dataclasses
import math

from mixgen.errors import RecipeError
from mixgen.tasks.base import Task
from mixgen.tasks.registry import task_class


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mix:
    """Tasks and their weights, ordered by name: no result depends on the order they are given in.

    Attributes:
        tasks: Every configured task, also those of weight 0.
        weights: The weight of each, at least one of them above 0.
    """

    tasks: tuple[Task, ...]
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        """Rejects weights that no probability follows from."""
        for task, weight in zip(self.tasks, self.weights, strict=True):
            check_weight(task.name, weight)
        if not any(self.weights):
            names = ", ".join(task.name for task in self.tasks) or "none configured"
            raise RecipeError(f"all task weights are zero ({names}): at least one must be above 0")

    @property
    def active(self) -> tuple[Task, ...]:
        """The tasks that are drawn from: those of weight above 0."""
        return tuple(task for task, weight in zip(self.tasks, self.weights, strict=True) if weight)

    @property
    def probabilities(self) -> list[float]:
        """The probability of each active task; they sum to 1."""
        largest = max(self.weights)
        shares = [weight / largest for weight in self.weights if weight]  # no sum can overflow
        return [share / math.fsum(shares) for share in shares]

    def __str__(self) -> str:
        """All configured weights: `calculator=1.0, tictactoe=0.5`."""
        return ", ".join(
            f"{task.name}={float(weight)}"
            for task, weight in zip(self.tasks, self.weights, strict=True)
        )


def check_weight(name: str, weight: float) -> None:
    """Makes sure that a task's weight is a finite number, not below 0.

    Args:
        name: The task's name.
        weight: What was given, of any type.

    Raises:
        RecipeError: It is none.
    """
    if isinstance(weight, bool) or not isinstance(weight, int | float):
        raise RecipeError(f"weight of {name} must be a number, got {weight!r}")
    if not math.isfinite(weight) or weight < 0:
        raise RecipeError(f"weight of {name} must be finite and not negative, got {weight!r}")


def configure_mix(**weights: float) -> Mix:
    """A mix of tasks with their default settings.

    Args:
        **weights: The weight of each task, by name.

    Raises:
        TaskError: A task is unknown; the error names the nearest.
        RecipeError: A weight is no number, negative or not finite, or all are zero.

    Examples:
        >>> mix = configure_mix(calculator=1.0, tictactoe=0.5)
        >>> print(mix)
        calculator=1.0, tictactoe=0.5
        >>> [round(probability, 3) for probability in mix.probabilities]
        [0.667, 0.333]
    """
    names = sorted(weights)
    return Mix(
        tasks=tuple(task_class(name)() for name in names),
        weights=tuple(weights[name] for name in names),
    )
