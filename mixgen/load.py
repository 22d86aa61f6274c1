"""A recipe's tasks and their mix, for everything but training."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mixgen.errors import RecipeError
from mixgen.flags import COMMAND_LINE, WEIGHTS, flatten, make_parser, parse_flags, sections
from mixgen.mixture.schedule import Points
from mixgen.mixture.sources import interleaved
from mixgen.mixture.weights import Mix, configure_mix
from mixgen.recipe import known_tasks, list_of_files, make_tasks, read_recipe
from mixgen.tasks.base import Task
from mixgen.training.limits import check_range

if TYPE_CHECKING:
    from datasets import IterableDataset
    from transformers import PreTrainedTokenizerBase

    from mixgen.training.config import MixConfig


def load_mixture(
    recipe_or_weights: str | Path | Mapping[str, float] | Mix,
    *,
    split: str = "train",
    seed: int = 42,
) -> IterableDataset:
    """The mix as an endless `datasets.IterableDataset`, for any use beside mixgen's own training.

    Args:
        recipe_or_weights: A recipe file, task weights by name, or a `Mix`.
        split: `"train"`, `"validation"` or `"test"`; no problem is in two of them.
        seed: The seed of all that is drawn.

    Returns:
        Examples with the fields of `mixgen.Example`.

    Raises:
        RecipeError: The recipe or a weight is wrong.
        TaskError: A task or one of its settings is wrong.

    Examples:
        >>> dataset = load_mixture({"calculator": 1.0, "tictactoe": 0.5})
        >>> sorted({example["task"] for example in dataset.take(20)})
        ['calculator', 'tictactoe']
    """
    if isinstance(recipe_or_weights, Mix):
        mix = recipe_or_weights
    elif isinstance(recipe_or_weights, Mapping):
        mix = configure_mix(**recipe_or_weights)
    else:
        mix = mix_of_recipe(Path(recipe_or_weights))
    return interleaved(mix, split=split, seed=seed)


@dataclasses.dataclass(kw_only=True)
class TokenConfig:
    """What of a run's settings (`MixConfig`) decides about its tokens, with the same defaults."""

    seed: int = 42
    vocab_size: int = 1024
    max_seq_len: int = 1024
    model_name_or_path: str | None = None
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        """Rejects what a run rejects."""
        for key in ("seed", "vocab_size", "max_seq_len"):
            check_range(key, getattr(self, key))


def token_config(recipe: Path | None, seed: int | None = None) -> TokenConfig:
    """What a recipe, if there is one, says of its run's tokens.

    Args:
        recipe: The file.
        seed: Wins over the recipe's.

    Raises:
        RecipeError: The recipe cannot be read, or a value is wrong.
    """
    given: dict[str, Any] = {}
    if recipe is not None:
        keys = {field.name for field in dataclasses.fields(TokenConfig)}
        content = {key: value for key, value in read_recipe(recipe).items() if key in keys}
        flags = list(flatten(content, str(recipe), {}, keys))
        given = parse_flags(make_parser({}, TokenConfig), flags, str(recipe))
    try:
        config = TokenConfig(**given)
    except RecipeError as error:
        raise RecipeError(f"{recipe}: {error}") from None
    return config if seed is None else dataclasses.replace(config, seed=seed)


def tokenizer_for(
    tasks: Sequence[Task], config: TokenConfig | MixConfig
) -> PreTrainedTokenizerBase:
    """The tokenizer of a run: that of its checkpoint, or one trained on its tasks.

    Raises:
        RecipeError: The checkpoint's cannot be loaded.
    """
    if config.model_name_or_path:
        from mixgen.training.model import load_tokenizer

        return load_tokenizer(config.model_name_or_path, trust_remote_code=config.trust_remote_code)
    from mixgen.encoding.tokenizer import train_tokenizer

    return train_tokenizer(tuple(tasks), seed=config.seed, vocab_size=config.vocab_size)


def tasks_with(classes: Sequence[type[Task]], flags: Sequence[str]) -> list[Task]:
    """Tasks with the settings that flags give, such as `--calc_max_depth=1`.

    Raises:
        RecipeError: A flag is unknown, or its value is wrong.
        TaskError: A setting is wrong.
    """
    tasks = {cls.name: cls for cls in classes}
    given = {f"{cls.flag}_weight": "1" for cls in classes}
    given |= parse_flags(make_parser(tasks), list(flags), COMMAND_LINE)
    made, _, _ = make_tasks(tasks, given, dict.fromkeys(given, COMMAND_LINE))
    return made


def configured_tasks(
    path: Path, flags: Sequence[str] = (), *, trust_remote_code: bool = True
) -> list[Task]:
    """The tasks that a recipe ever draws from, with its settings.

    Args:
        path: The recipe.
        flags: Tasks' flags, which win over it.
        trust_remote_code: Whether to run its task files; False for what comes with a model.

    Raises:
        RecipeError: The recipe is wrong, or names task files that are not to be run.
        TaskError: A task or one of its settings is wrong.
    """
    if not trust_remote_code and list_of_files(read_recipe(path), path):
        raise RecipeError(
            f"{path} names task_files, Python that comes with the model: --trust-remote-code runs "
            "it (also for a model of your own), or --recipe names a recipe of your own"
        )
    made, points = _tasks_of_recipe(path, flags)
    return [
        task
        for task, weights in zip(made, points, strict=True)
        if any(weight for _, weight in weights)
    ]


def mix_of_recipe(path: Path, flags: Sequence[str] = ()) -> Mix:
    """The mix of a recipe with constant weights.

    Args:
        path: The recipe.
        flags: Tasks' flags of a command line, such as `--calc_weight=1.0`, which win over it.

    Raises:
        RecipeError: The recipe, a weight or a flag is wrong, or a weight is a schedule.
        TaskError: A task or one of its settings is wrong.
    """
    made, points = _tasks_of_recipe(path, flags)
    for task, weights in zip(made, points, strict=True):
        if len(weights) > 1:
            raise RecipeError(
                f"{path}: the weight of {task.name} is a schedule, and a stream has no steps: "
                f"give a weight instead, such as {{{task.name!r}: {weights[0][1]}}} or "
                f"--{task.flag}_weight={weights[0][1]}"
            )
    return Mix(tasks=tuple(made), weights=tuple(weights[0][1] for weights in points))


def _tasks_of_recipe(path: Path, flags: Sequence[str] = ()) -> tuple[list[Task], list[Points]]:
    content = read_recipe(path)
    if WEIGHTS not in content:
        raise RecipeError(f"{path}: no weights")
    tasks, _ = known_tasks(content, path, flags)
    known = sections(tasks)
    content = {key: value for key, value in content.items() if key in known}
    parser = make_parser(tasks)
    given: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for words, source in (
        (flatten(content, str(path), known), str(path)),
        (flags, COMMAND_LINE),
    ):
        found = parse_flags(parser, list(words), source)
        given |= found
        sources |= dict.fromkeys(found, source)
    made, points, _ = make_tasks(tasks, given, sources)
    return made, points
