"""Weights that change over training: the mix of each optimizer step.

    weights: {calculator: 1.0, tictactoe: {0: 0.2, 500: 0.5, 0.5: 1.0}}

A weight is one number, or numbers by where they begin: an optimizer step, or below 1 a share of
training. Between two of them a task keeps the first (`step`) or goes straight from one to the next
(`linear`). Points that come to the same step replace each other.
A stage is a stretch of steps at whose ends the rule changes; rows are drawn in blocks
that never cross stages, so that a change comes exactly at its step.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from bisect import bisect_right
from collections.abc import Mapping
from functools import cached_property
from typing import Any, TypeAlias

from mixgen.errors import RecipeError
from mixgen.mixture.weights import Mix, check_weight
from mixgen.tasks.base import Task

# (from, weight) in ascending order; from a step, or from a share of training below 1
Points: TypeAlias = tuple[tuple[float, float], ...]


def read_points(name: str, weight: object) -> Points:
    """The weights of one task, as a recipe, a flag or Python gives them.

    Args:
        name: The task's name, for errors.
        weight: A number, a mapping of steps or shares of training to numbers, or text: `"0.2"`,
            or `"0.2:0,0.5:500"` for 0.2 from the start and 0.5 from step 500.

    Raises:
        RecipeError: It is none of these, does not begin at 0, or does not ascend.

    Examples:
        >>> read_points("tictactoe", "0.2:0,0.5:500")
        ((0, 0.2), (500, 0.5))
        >>> read_points("tictactoe", {0: 0.2, 0.5: 1.0})
        ((0, 0.2), (0.5, 1.0))
    """
    given: list[tuple[Any, Any]]
    if isinstance(weight, Mapping):
        given = list(weight.items())
    elif isinstance(weight, str):
        pairs = [part.partition(":") for part in weight.split(",")]
        given = [(_number(at or "0"), _number(value)) for value, _, at in pairs]
    else:
        given = [(0, weight)]
    for at, value in given:
        check_weight(name, value)
        if isinstance(at, bool) or not isinstance(at, int | float) or not 0 <= at < math.inf:
            raise RecipeError(f"weight of {name} must be given from a step, got {at!r}")
        if at >= 1 and isinstance(at, float):
            raise RecipeError(
                f"weight of {name} from {at}: a step is whole, a share of training is below 1"
            )
    if not given or given[0][0] != 0:
        raise RecipeError(f"weight of {name} must begin at step 0, such as {{0: 0.0, 500: 1.0}}")
    points = tuple((int(at) if at == int(at) else at, float(value)) for at, value in given)
    for (before, _), (after, _) in itertools.pairwise(points):
        if after == 0 or (after <= before and (before < 1) == (after < 1)):
            raise RecipeError(f"weight of {name}: {after} comes after {before}; steps must ascend")
    return points


def _number(text: str) -> float | str:
    """The number that a text is, or the text."""
    try:
        return int(text) if text.strip().isdigit() else float(text)
    except ValueError:
        return text


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedule:
    """The mix of each optimizer step of a run of known length.

    Attributes:
        tasks: Every configured task, ordered by name.
        points: The weights of each (see `read_points`).
        num_steps: Length of training in optimizer steps, which shares of training are of.
        linear: Whether weights go straight from one point to the next.

    Raises:
        RecipeError: Steps do not ascend, or all weights are zero at some step.
    """

    tasks: tuple[Task, ...]
    points: tuple[Points, ...]
    num_steps: int
    linear: bool = False

    def __post_init__(self) -> None:
        """Finds the steps of shares of training, and tries every stage."""
        for task, points in zip(self.tasks, self._points, strict=True):
            for (before, _), (after, _) in itertools.pairwise(points):
                if after < before:
                    raise RecipeError(
                        f"weight of {task.name}: step {after} comes after step {before} in "
                        f"{self.num_steps} steps of training; steps must ascend"
                    )
        for start in self.starts:
            try:
                self.mix_at(start)
            except RecipeError as error:
                where = f" at step {start}" if len(self.starts) > 1 else ""
                raise RecipeError(f"{error}{where}") from None

    @staticmethod
    def of(mix: Mix | Schedule) -> Schedule:
        """A schedule, or the same mix at every step."""
        if isinstance(mix, Schedule):
            return mix
        points = tuple(((0, float(weight)),) for weight in mix.weights)
        return Schedule(tasks=mix.tasks, points=points, num_steps=1)

    @cached_property
    def _points(self) -> list[list[tuple[int, float]]]:
        """The points, all from a step."""
        return [
            [(round(at * self.num_steps) if at < 1 else int(at), weight) for at, weight in points]
            for points in self.points
        ]

    @cached_property
    def starts(self) -> list[int]:
        """The first step of each stage, the first of them 0."""
        return sorted({at for points in self._points for at, _ in points})

    @property
    def active(self) -> tuple[Task, ...]:
        """The tasks that are drawn from at any step."""
        return tuple(
            task
            for task, points in zip(self.tasks, self.points, strict=True)
            if any(weight for _, weight in points)
        )

    @property
    def unreached(self) -> list[str]:
        """The points that come only after the end of training, for people."""
        return [
            f"{task.name}={weight} from step {at:,}"
            for task, points in zip(self.tasks, self._points, strict=True)
            for at, weight in points
            if at >= self.num_steps and len(points) > 1
        ]

    def stage(self, step: int) -> tuple[int, int | None]:
        """The stage of a step: its first step, and the first after it (None: it never ends)."""
        index = bisect_right(self.starts, step)
        return self.starts[index - 1], self.starts[index] if index < len(self.starts) else None

    def mix_at(self, step: int) -> Mix:
        """The mix that the rows of a step are drawn from."""
        return Mix(
            tasks=self.tasks,
            weights=tuple(self._weight_at(points, step) for points in self._points),
        )

    def _weight_at(self, points: list[tuple[int, float]], step: int) -> float:
        index = bisect_right([at for at, _ in points], step)
        start, weight = points[index - 1]
        if not self.linear or index == len(points):
            return weight
        end, next_weight = points[index]
        share = (step - start) / (end - start)
        return weight + share * (next_weight - weight)

    def __str__(self) -> str:
        """All weights: `calculator=1.0, tictactoe=0.2 (0.5 from step 500)`."""
        between = ", linear" if self.linear else ""
        parts = []
        for task, (first, *rest) in zip(self.tasks, self._points, strict=True):
            later = ", ".join(f"{weight} from step {at:,}" for at, weight in rest)
            parts.append(f"{task.name}={first[1]}" + (f" ({later}{between})" if later else ""))
        return ", ".join(parts)
