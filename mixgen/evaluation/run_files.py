"""What a finished run has left in its folder: all that its report tells, read back from files."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from mixgen.errors import OutputError, nearest_path
from mixgen.evaluation.results import DAMAGES, FACTS, read_evaluation
from mixgen.training.checkpoint import RECIPE_FILE, newest_checkpoint, read_recipe_file
from mixgen.training.run_dir import FINISHED_FILE

SEEN: Final = "num_input_tokens_seen"
NUMBERS: Final = {"loss", "tokens_per_second", SEEN}  # and all with a slash: what is used of a log


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskMix:
    """One task's part of a run; shares are of all tasks."""

    name: str
    weight: str  # as the recipe gives it: a number, or a schedule of them
    asked: float  # share of the examples by the weights at the start
    examples: int
    example_share: float
    tokens: int  # that carried loss
    token_share: float
    last_loss: float | None  # nats a trained token


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """A run as its files tell it.

    Attributes:
        folder: Its output directory.
        recipe: The resolved recipe.
        log_history: The Trainer's logs.
        results: The final evaluation, as `results.result_json` gives it.
        facts: About the machine, the model and its evaluation (see `results.FACTS`); None where
            the files do not tell.
    """

    folder: Path
    recipe: dict[str, Any]
    log_history: list[dict[str, Any]]
    results: list[dict[str, Any]]
    facts: dict[str, Any]

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.resolve().name

    @property
    def losses(self) -> list[dict[str, Any]]:
        """The log entries of training."""
        return [entry for entry in self.log_history if "loss" in entry]

    @property
    def tokens(self) -> int:
        """Tokens that were trained on, but for padding."""
        return int(self.losses[-1][SEEN]) if self.losses else 0

    @property
    def tokens_per_second(self) -> float:
        """The median over the logs."""
        speeds = sorted(entry.get("tokens_per_second", 0.0) for entry in self.losses)
        return float(speeds[len(speeds) // 2]) if speeds else 0.0

    @property
    def seconds(self) -> float:
        """The time that training took, without evaluation and saving."""
        total, before = 0.0, 0
        for entry in self.losses:
            seen = entry[SEEN]
            if entry.get("tokens_per_second"):
                total += (seen - before) / entry["tokens_per_second"]
            before = seen
        return total

    def skill(self) -> dict[str, list[tuple[int, float]]]:
        """The share of exact replies over tokens, as evaluated during training, by task."""
        found: dict[str, list[tuple[int, float]]] = {}
        for entry in self.log_history:
            for key, value in entry.items():
                task, _, name = key.removeprefix("eval_").partition("/")
                if key.startswith("eval_") and name == "exact":
                    found.setdefault(task, []).append((entry[SEEN], value))
        return found

    @property
    def mix(self) -> list[TaskMix]:
        """Each task's part, asked for and measured."""
        weights: Mapping[str, Any] = self.recipe.get("weights", {})
        sums = {
            name: (self._sum(f"examples/{name}"), self._sum(f"tokens/{name}")) for name in weights
        }
        first = {name: _first_weight(weight) for name, weight in weights.items()}
        last: dict[str, float] = {}
        for entry in self.losses:
            last |= {name: entry[f"loss/{name}"] for name in weights if f"loss/{name}" in entry}
        totals = [max(sum(column), 1) for column in zip(*sums.values(), strict=True)] or [1, 1]
        return [
            TaskMix(
                name=name,
                weight=str(weight),
                asked=first[name] / (sum(first.values()) or 1.0),
                examples=sums[name][0],
                example_share=sums[name][0] / totals[0],
                tokens=sums[name][1],
                token_share=sums[name][1] / totals[1],
                last_loss=last.get(name),
            )
            for name, weight in weights.items()
        ]

    def _sum(self, key: str) -> int:
        return sum(entry.get(key, 0) for entry in self.losses)


def _first_weight(weight: Any) -> float:
    points = list(weight.values()) if isinstance(weight, dict) else [weight]
    return float(points[0])


def read_run(folder: Path) -> Run:
    """Reads a run's folder; of one that goes on yet, its newest checkpoint.

    Raises:
        OutputError: It holds no run, or a file of it is damaged.
    """
    recipe = read_recipe_file(folder / RECIPE_FILE)
    if (folder / RECIPE_FILE).exists():
        _check_recipe(recipe, folder / RECIPE_FILE)
    if recipe is None:
        hint = nearest_path(folder, [at.parent for at in folder.parent.glob(f"*/{RECIPE_FILE}")])
        raise OutputError(f"{folder} holds no run ({RECIPE_FILE} is missing){hint}")
    state = folder / FINISHED_FILE
    if not state.is_file():
        found, _ = newest_checkpoint(folder)
        if found is None:
            raise OutputError(f"{folder} holds a run that has saved nothing yet")
        state = found.path / FINISHED_FILE
    try:
        log_history = json.loads(state.read_text())["log_history"]
        for entry in log_history:
            _check_entry(entry)
    except DAMAGES as error:
        raise OutputError(f"{state} cannot be read: {error!r}") from error
    results, facts = read_evaluation(folder)
    facts = dict.fromkeys(FACTS) | facts
    return Run(folder=folder, recipe=recipe, log_history=log_history, results=results, facts=facts)


def _check_recipe(recipe: dict[str, Any] | None, path: Path) -> None:
    if recipe is None:
        raise OutputError(f"{path} cannot be read: it is no YAML mapping")
    try:
        for weight in recipe["weights"].values():
            _first_weight(weight)
    except DAMAGES as error:
        raise OutputError(f"{path} cannot be read: its weights are wrong ({error!r})") from error


def _check_entry(entry: Mapping[str, Any]) -> None:
    used = {key: value for key, value in entry.items() if "/" in key or key in NUMBERS}
    if wrong := [key for key, value in used.items() if not isinstance(value, int | float)]:
        raise TypeError(f"{wrong[0]} is {used[wrong[0]]!r}")
    if used and SEEN not in used:
        raise KeyError(SEEN)
