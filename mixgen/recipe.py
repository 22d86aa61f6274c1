"""Recipe: a YAML file and a command line -> the mix and the configuration of a run.

    weights:
      calculator: 1.0
      tictactoe: 0.5
    calculator:
      max_depth: 2
    depth: 4

The command line wins over the recipe, and the recipe over the constants at the top of run_train.py.
All three become flags (`--calc_weight=1.0 --calc_max_depth=2 --depth=4`) and are read by one
`HfArgumentParser`, so that types are checked once; each is read by itself first, so that an error
names where it comes from. A recipe's `weights` replace the constants as a whole.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import re
import typing
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import yaml

from mixgen.errors import RecipeError, TaskError, nearest
from mixgen.mixture.sources import interleaved
from mixgen.mixture.weights import Mix, make_mix
from mixgen.tasks.base import Task, load_task_file, registered_tasks

if TYPE_CHECKING:
    from datasets import IterableDataset

    from mixgen.training.config import MixConfig

COMMAND_LINE: Final = "command line"
CONSTANTS: Final = "run_train.py"
USAGE: Final = "run_train.py [recipes/NAME.yaml] [--depth=12] [--calc_weight=1.0] [--KEY=VALUE ...]"
DESCRIPTION: Final = "Trains a language model on a weighted mix of tasks; see the README."
SECRET: Final = {"hub_token"}
# What a resolved recipe leaves to the next run.
MACHINE: Final = {"bf16", "overwrite", "output_dir"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """A run, fully specified.

    Attributes:
        name: The recipe file's name without its ending; `"run"` without a recipe.
        mix: Tasks and weights.
        config: Everything else.
        resolved: All of it as the content of a recipe file that makes this run again.
    """

    name: str
    mix: Mix
    config: MixConfig
    resolved: dict[str, Any]


def read_recipe(path: str | Path) -> dict[str, Any]:
    """The content of a recipe file.

    Raises:
        RecipeError: There is no such file, or it is no YAML mapping.
    """
    path = Path(path)
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: TID251
    except OSError as error:
        others = (
            sorted(str(found) for found in path.parent.glob("*.y*ml"))
            if path.parent.is_dir()
            else []
        )
        hint = f": {nearest(str(path), others)}" if others else ""
        raise RecipeError(f"recipe {path} cannot be read ({error.strerror}){hint}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise RecipeError(
            f"recipe {path} is not valid YAML: {' '.join(str(error).split())}"
        ) from error
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise RecipeError(f"recipe {path} must be a mapping of keys to values")
    return content


class _Loader(yaml.SafeLoader):
    """The safe loader, which also refuses a key that is given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if repeated := [key for index, key in enumerate(keys) if key in keys[:index]]:
            raise RecipeError(f"key {repeated[0]!r} is given twice{node.start_mark}")
        return super().construct_mapping(node, deep)


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

    Example:
        >>> dataset = load_mixture({"calculator": 1.0, "tictactoe": 0.5})
        >>> sorted({example["task"] for example in dataset.take(20)})
        ['calculator', 'tictactoe']
    """
    if isinstance(recipe_or_weights, Mix):
        mix = recipe_or_weights
    elif isinstance(recipe_or_weights, Mapping):
        mix = make_mix(recipe_or_weights)
    else:
        mix = _mix_of_recipe(Path(recipe_or_weights))
    return interleaved(mix, split=split, seed=seed)


def _mix_of_recipe(path: Path) -> Mix:
    content = read_recipe(path)
    for file in _list_of_files(content, path):
        load_task_file(_find_task_file(file, path))
    tasks = registered_tasks()
    if "weights" not in content:
        raise RecipeError(f"{path}: no weights")
    content = {key: value for key, value in content.items() if key == "weights" or key in tasks}
    given = _parse(_parser(tasks), list(_flatten(content, str(path), tasks)), str(path))
    return _make_mix(tasks, given, dict.fromkeys(given, str(path)))


def parse_recipe(argv: Sequence[str], constants: Mapping[str, float] | None = None) -> Recipe:
    """Reads the command line of run_train.py.

    Args:
        argv: A recipe file, if any, then flags; a bare `--` is ignored.
        constants: Task weights by name that hold where neither the recipe nor the command line
            gives any.

    Raises:
        RecipeError: A key, flag or value is wrong; the error names it, its source and the nearest
            match.
        TaskError: A task file or a task's setting is wrong.
    """
    words = [word for word in argv if word != "--"]
    path = Path(words.pop(0)) if words and not words[0].startswith("-") else None
    content = read_recipe(path) if path else {}
    task_files = [_find_task_file(file, path) for file in _list_of_files(content, path)]
    task_files += [Path(file).resolve() for file in _task_files_on(words)]
    for file in task_files:
        load_task_file(file)

    from mixgen.training.config import MixConfig

    tasks = registered_tasks()
    if "-h" in words or "--help" in words:
        _parser(tasks, MixConfig).print_help()
        raise SystemExit(0)
    parser = _parser(tasks, MixConfig)
    keys = {field.name for field in dataclasses.fields(MixConfig) if field.init}
    if taken := sorted(tasks.keys() & {*keys, "weights"}):
        raise TaskError(f"task {taken[0]!r} has the name of a recipe's key: rename it")
    weights = {} if "weights" in content else dict(constants or {})
    given: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for flags, source in (
        (_flatten({"weights": weights}, CONSTANTS, tasks), CONSTANTS),
        (_flatten(content, str(path), tasks, keys), str(path)),
        (words, COMMAND_LINE),
    ):
        found = _parse(parser, list(flags), source)
        # The two ways to set the length of training replace each other.
        for key, other in (("train_tokens", "max_steps"), ("max_steps", "train_tokens")):
            if key in found and other not in found:
                given.pop(other, None)
        given |= found
        sources |= dict.fromkeys(found, source)

    name = path.stem if path else "run"
    mix = _make_mix(tasks, given, sources)
    config = _make_config({key: given[key] for key in given if key in keys}, sources, name)
    return Recipe(
        name=name, mix=mix, config=config, resolved=_resolve(mix, config, given, task_files)
    )


def _list_of_files(content: Mapping[str, Any], path: Path | None) -> list[str]:
    files = content.get("task_files") or []
    if not isinstance(files, list) or not all(isinstance(file, str) for file in files):
        raise RecipeError(f"{path}: task_files must be a list of Python files, got {files!r}")
    return files


def _find_task_file(file: str, recipe: Path | None) -> Path:
    """A task file that a recipe names, relative to the user's folder, else to the recipe's."""
    if recipe is not None and not Path(file).exists():
        return (recipe.parent / file).resolve()
    return Path(file).resolve()


def _task_files_on(words: Sequence[str]) -> list[str]:
    """The task files on a command line, before the parser that needs their flags can be made."""
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--task_files", "--task-files", nargs="+", default=[])
    return list(early.parse_known_args(words)[0].task_files)


def _parser(tasks: Mapping[str, type[Task]], *dataclass_types: Any) -> argparse.ArgumentParser:
    """The parser of the tasks' flags and of the fields of `dataclass_types`."""
    from transformers import HfArgumentParser

    class Parser(HfArgumentParser):
        """Raises instead of printing its usage and leaving."""

        def error(self, message: str) -> NoReturn:
            raise RecipeError(message)

    parser = Parser([], allow_abbrev=False, usage=USAGE, description=DESCRIPTION)
    flags = [(cls, _flags_of(cls)) for cls in tasks.values()]
    for dtype in dataclass_types:
        parser._add_dataclass_arguments(dtype)
    for cls, dtype in flags:
        try:
            parser._add_dataclass_arguments(dtype)
        except argparse.ArgumentError as error:
            raise TaskError(f"task {cls.name!r} cannot have flag {cls.flag!r}: {error}") from error
    return parser


def _flags_of(cls: type[Task]) -> Any:
    """A dataclass of a task's flags: its weight and the fields of its `Config`."""
    weight = dataclasses.field(default=0.0, metadata={"help": f"Weight of {cls.name}."})
    fields: list[Any] = [(f"{cls.flag}_weight", float, weight)]
    hints = typing.get_type_hints(cls.Config)
    for setting in dataclasses.fields(cls.Config):
        default: dict[str, Any] = {
            "default": setting.default,
            "default_factory": setting.default_factory,
        }
        default = {key: value for key, value in default.items() if value is not dataclasses.MISSING}
        text = str(setting.metadata.get("help", f"Setting of {cls.name}."))
        help_text = {"help": text.replace("%", "%%")}  # argparse formats help
        field = dataclasses.field(**default, metadata=help_text)
        fields.append((f"{cls.flag}_{setting.name}", hints[setting.name], field))
    made = dataclasses.make_dataclass(f"{cls.__name__}Flags", fields)
    made._argument_group_name = f"task {cls.name}"  # type: ignore[attr-defined]
    return made


def _flatten(
    content: Mapping[str, Any],
    source: str,
    tasks: Mapping[str, type[Task]],
    keys: Set[str] = frozenset(),
) -> Iterator[str]:
    """A recipe's content as flags; unknown keys are errors."""
    for key, value in content.items():
        if key in tasks or key == "weights":
            if not isinstance(value, dict):
                raise RecipeError(f"{source}: {key} must be a mapping, got {value!r}")
            if nested := [name for name, inner in value.items() if isinstance(inner, dict)]:
                raise RecipeError(
                    f"{source}: {nested[0]!r} in {key} must be a value, not a mapping"
                )
            allowed = (
                set(tasks)
                if key == "weights"
                else {field.name for field in dataclasses.fields(tasks[key].Config)}
            )
            for name, inner in value.items():
                if inner is None:
                    raise RecipeError(f"{source}: {name!r} in {key} has no value")
                if name not in allowed:
                    what = "task" if key == "weights" else "setting"
                    raise RecipeError(
                        f"{source}: unknown {what} {name!r} in {key}: {nearest(str(name), allowed)}"
                    )
                flag = (
                    f"{tasks[name].flag}_weight"
                    if key == "weights"
                    else f"{tasks[key].flag}_{name}"
                )
                yield from _flag(flag, inner)
        elif key in keys:
            yield from _flag(key, value)
        else:
            raise RecipeError(
                f"{source}: unknown key {key!r}: {nearest(key, {*keys, *tasks, 'weights'})}"
            )


def _flag(key: str, value: Any) -> list[str]:
    if value is None:
        return []
    if isinstance(value, list):
        return [f"--{key}", *map(str, value)]
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # `6e6` for a number of tokens
    return [f"--{key}={json.dumps(value) if isinstance(value, dict) else value}"]


def _parse(parser: argparse.ArgumentParser, flags: list[str], source: str) -> dict[str, Any]:
    """What the flags of one source give, and nothing else: no defaults."""
    from transformers.hf_argparser import string_to_bool

    for action in parser._actions:
        action.default = argparse.SUPPRESS
        if action.nargs == "+":
            action.nargs = "*"  # an empty list is a list
        elif action.type is string_to_bool and action.nargs is None:
            action.nargs, action.const = "?", True  # `--bf16` as `--fp16`
    try:
        namespace, rest = parser.parse_known_args(flags)
    except RecipeError as error:
        raise RecipeError(f"{source}: {error}") from None
    for word in rest:
        if word.startswith("--"):
            flag = word.partition("=")[0]
            options = [option for action in parser._actions for option in action.option_strings]
            raise RecipeError(f"{source}: unknown flag {flag}: {nearest(flag, options)}")
        if source == COMMAND_LINE:
            raise RecipeError(f"{source}: unexpected {word!r} (a recipe comes before the flags)")
        raise RecipeError(f"{source}: {word!r} is one value too many: its key takes no list")
    return vars(namespace)


def _make_mix(
    tasks: Mapping[str, type[Task]], given: Mapping[str, Any], sources: Mapping[str, str]
) -> Mix:
    weights: dict[str, float] = {}
    settings: dict[str, dict[str, Any]] = {}
    for name, cls in tasks.items():
        key = f"{cls.flag}_weight"
        if key not in given:
            continue
        weight = weights[name] = given[key]
        if not math.isfinite(weight) or weight < 0:
            raise RecipeError(
                f"{sources[key]}: weight of {name} must be finite and not negative, got {weight}"
            )
        fields = {
            field.name: f"{cls.flag}_{field.name}" for field in dataclasses.fields(cls.Config)
        }
        settings[name] = {field: given[flag] for field, flag in fields.items() if flag in given}
        try:
            cls.Config(**settings[name])
        except Exception as error:  # a user's own Config may raise anything
            culprit = next((field for field in settings[name] if field in str(error)), "")
            source = sources.get(fields.get(culprit, ""), "default settings")
            raise TaskError(f"{source}: {error or type(error).__name__}") from error
    try:
        return make_mix(weights, settings)
    except RecipeError as error:  # no weight is above 0
        where = [sources[f"{tasks[name].flag}_weight"] for name in weights]
        raise RecipeError(f"{where[-1]}: {error}" if where else str(error)) from error


def _make_config(given: dict[str, Any], sources: Mapping[str, str], name: str) -> MixConfig:
    from mixgen.training.config import MixConfig, check_devices

    check_devices(use_cpu=bool(given.get("use_cpu")))
    try:
        return MixConfig(**{"output_dir": f"outputs/{name}", **given})
    except (ValueError, TypeError, ImportError) as error:
        raise RecipeError(_explain(error, given, sources)) from error


def _explain(error: Exception, given: Mapping[str, Any], sources: Mapping[str, str]) -> str:
    """The message of a refused configuration, with its source and, for a choice, the nearest."""
    message = " ".join(str(error).split())
    key = message.partition(" ")[0]
    if choice := re.fullmatch(r"(\S+) is not a valid \w+, please select one of \[(.*)\]", message):
        key = next((key for key, value in given.items() if str(value) == choice[1]), key)
        options = re.findall(r"[\w-]+", choice[2])
        message = f"{key} cannot be {choice[1]!r}: {nearest(choice[1], options)}"
    return f"{sources[key]}: {message}" if key in sources else message


def _resolve(
    mix: Mix, config: MixConfig, given: Mapping[str, Any], task_files: Sequence[Path]
) -> dict[str, Any]:
    """This run as a recipe: weights, task settings, mixgen's own keys and all that were given."""
    resolved: dict[str, Any] = {
        "weights": {
            task.name: float(weight) for task, weight in zip(mix.tasks, mix.weights, strict=True)
        }
    }
    for task in mix.tasks:
        if settings := dataclasses.asdict(task.config):
            resolved[task.name] = settings
    own = [key for key in type(config).__annotations__ if key not in MACHINE or key in given]
    for key in [
        *own,
        *sorted({field.name for field in dataclasses.fields(config)} & given.keys() - set(own)),
    ]:
        if key in SECRET:
            continue
        value = given.get(key, getattr(config, key))
        if value is not None:
            resolved[key] = getattr(value, "value", value)
    # Whatever sets it here, so that the run is the same on other processes.
    resolved["global_batch_size"] = config.rows_per_step
    resolved["task_files"] = [str(file) for file in task_files]
    plain: dict[str, Any] = json.loads(json.dumps(resolved))  # tuples become lists
    return plain
