"""What a mix amounts to in tokens: weights count examples, and some tasks have longer ones."""

from __future__ import annotations

import dataclasses

from mixgen.encoding.renderer import Renderer
from mixgen.errors import RecipeError
from mixgen.mixture.schedule import Schedule
from mixgen.mixture.weights import Mix
from mixgen.tasks._finite import FiniteTask


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskShare:
    """One active task's part of the mix; lengths are in tokens, of whole examples."""

    name: str
    probability: float  # share of the examples, at the start of training
    token_share: float  # share of the tokens, at the start of training
    mean_tokens: float
    max_tokens: int


def measure_shares(
    mix: Mix | Schedule, renderer: Renderer, *, seed: int = 42, num_examples: int = 1_000
) -> list[TaskShare]:
    """Measures the lengths of each active task's examples.

    Args:
        mix: Tasks and weights, or a schedule of them.
        renderer: The encoder of examples.
        seed: The run's seed; the examples are those of the first training block.
        num_examples: How many examples of each task are encoded.
    """
    schedule = Schedule.of(mix)
    first = schedule.mix_at(0)
    drawn = dict(zip(first.active, first.probabilities, strict=True))
    probabilities = [drawn.get(task, 0.0) for task in schedule.active]
    means: list[float] = []
    longest: list[int] = []
    for task in schedule.active:
        examples = task.stream(split="train", seed=seed)
        lengths = [len(renderer.encode(next(examples)).input_ids) for _ in range(num_examples)]
        means.append(sum(lengths) / num_examples)
        longest.append(max(lengths))
    tokens = [probability * mean for probability, mean in zip(probabilities, means, strict=True)]
    return [
        TaskShare(
            name=task.name,
            probability=probabilities[index],
            token_share=tokens[index] / sum(tokens),
            mean_tokens=means[index],
            max_tokens=longest[index],
        )
        for index, task in enumerate(schedule.active)
    ]


def set_paces(mix: Mix | Schedule, shares: list[TaskShare], tokens: float) -> None:
    """Tells finite tasks how many of their examples a number of tokens has, about.

    Args:
        mix: Tasks and weights, or a schedule of them; of its stages, that with most counts.
        shares: Of its active tasks.
        tokens: Between two streams whose numbers differ by 1: those of a row.
    """
    schedule = Schedule.of(mix)
    means = {share.name: share.mean_tokens for share in shares}
    for task in schedule.active:
        if isinstance(task, FiniteTask):
            task.pace = max(
                drawn.probabilities[drawn.active.index(task)]
                * tokens
                / sum(
                    probability * means[one.name]
                    for one, probability in zip(drawn.active, drawn.probabilities, strict=True)
                )
                for drawn in map(schedule.mix_at, schedule.starts)
                if task in drawn.active
            )


def check_lengths(shares: list[TaskShare], max_seq_len: int) -> None:
    """Makes sure that every task's examples fit into a row.

    Raises:
        RecipeError: One does not; the error names the task and the length that it needs.
    """
    for share in shares:
        if share.max_tokens > max_seq_len:
            raise RecipeError(
                f"max_seq_len {max_seq_len} is too short for task {share.name!r}: "
                f"its examples have up to {share.max_tokens} tokens (fewer with a larger "
                "vocab_size, if that has no room for all words)"
            )
