"""Recipe: a YAML file and a command line -> the mix and the configuration of a run.

    weights:
      calculator: 1.0
      tictactoe: 0.5
    calculator:
      max_depth: 2
    depth: 4

The command line wins over the recipe, and the recipe over the constants at the top of run_train.py.
All three become flags (`--calc_weight=1.0 --calc_max_depth=2 --depth=4`, see `flags`); each is read
by itself first, so that an error names where it comes from. A recipe's `weights` replace the
constants as a whole.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from mixgen.errors import RecipeError, TaskError, nearest
from mixgen.flags import (
    COMMAND_LINE,
    WEIGHTS,
    flatten,
    make_parser,
    parse_flags,
    sections,
    task_files_on,
)
from mixgen.mixture.adaptive import AdaptiveConfig, AdaptiveSchedule
from mixgen.mixture.schedule import Points, Schedule, read_points
from mixgen.tasks.base import Task
from mixgen.tasks.registry import (
    adapted_on,
    is_adapted,
    load_task_file,
    registered_tasks,
    task_class,
)

if TYPE_CHECKING:
    from mixgen.training.config import MixConfig

CONSTANTS: Final = "run_train.py"
SECRET: Final = {"hub_token"}
# What a resolved recipe leaves to the next run, unless it is given.
UNRESOLVED: Final = {"bf16", "output_dir"}
# What is meant for one start of a run, and never repeated.
ONCE: Final = {"overwrite", "resume", "resume_anyway"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """A run, fully specified.

    Attributes:
        name: The recipe file's name without its ending; `"run"` without a recipe.
        schedule: Tasks and their weights at each step.
        config: Everything else.
        resolved: All of it as the content of a recipe file that makes this run again.
    """

    name: str
    schedule: Schedule
    config: MixConfig
    resolved: dict[str, Any]


def read_recipe(path: str | Path) -> dict[str, Any]:
    """The content of a recipe file.

    Raises:
        RecipeError: There is no such file, or it is no YAML mapping.
    """
    path = Path(path)
    try:
        content = _Loader(path.read_text(encoding="utf-8")).get_single_data()
    except OSError as error:
        others = [] if path.exists() else list(recipes_near(path))
        hint = f": {nearest(str(path), others)}" if others else ""
        raise RecipeError(f"recipe {path} cannot be read ({error.strerror}){hint}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise RecipeError(
            f"recipe {path} is not valid YAML: {' '.join(str(error).split())}"
        ) from error
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise RecipeError(f"recipe {path} must be a mapping of keys to values")
    return content


def recipes_near(path: Path) -> Iterator[str]:
    """The recipes in a file's directory and in `recipes/`, told by their weights."""
    for folder in {path.parent, Path("recipes")}:
        for found in sorted(folder.glob("[!.]*.y*ml")):
            with suppress(OSError, ValueError):
                if re.search(rf"^{WEIGHTS}:", found.read_text(encoding="utf-8"), re.MULTILINE):
                    yield str(found)


class _Loader(yaml.SafeLoader):
    """The safe loader, which also refuses a key that is given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if repeated := [key for index, key in enumerate(keys) if key in keys[:index]]:
            raise RecipeError(f"key {repeated[0]!r} is given twice{node.start_mark}")
        return super().construct_mapping(node, deep)


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
    tasks, task_files = known_tasks(content, path, words, constants or {})

    from mixgen.training.config import MixConfig

    parser = make_parser(tasks, MixConfig)
    if "-h" in words or "--help" in words:
        parser.print_help()
        raise SystemExit(0)
    known = sections(tasks)
    keys = {field.name for field in dataclasses.fields(MixConfig) if field.init}
    if taken := sorted(tasks.keys() & {*keys, WEIGHTS}):
        raise TaskError(f"task {taken[0]!r} has the name of a recipe's key: rename it")
    defaults = {} if WEIGHTS in content else {WEIGHTS: dict(constants or {})}
    given: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for flags, source in (
        (flatten(defaults, CONSTANTS, known), CONSTANTS),
        (flatten(content, str(path), known, keys), str(path)),
        (words, COMMAND_LINE),
    ):
        found = parse_flags(parser, list(flags), source)
        # The two ways to set the length of training replace each other.
        for key, other in (("train_tokens", "max_steps"), ("max_steps", "train_tokens")):
            if key in found and other not in found:
                given.pop(other, None)
        given |= found
        sources |= dict.fromkeys(found, source)

    name = path.stem if path else "run"
    made, points, source = make_tasks(tasks, given, sources)
    config = _make_config({key: given[key] for key in given if key in keys}, sources, name)
    schedule = _make_schedule(made, points, source, config)
    resolved = _resolve(schedule, config, given, task_files)
    return Recipe(name=name, schedule=schedule, config=config, resolved=resolved)


def known_tasks(
    content: Mapping[str, Any],
    path: Path | None,
    words: Sequence[str] = (),
    constants: Collection[str] = (),
) -> tuple[Mapping[str, type[Task]], list[Path]]:
    """All tasks that may be named, those of task files and adapters too, before flags are made.

    Args:
        content: A recipe's content.
        path: Its file.
        words: The flags of a command line.
        constants: More names of tasks.

    Returns:
        The tasks by name, and the task files.

    Raises:
        RecipeError: `task_files` is no list.
        TaskError: A task file is wrong, or an adapter has no task of a name.
    """
    task_files = [find_task_file(file, path) for file in list_of_files(content, path)]
    task_files += [Path(file).resolve() for file in task_files_on(words)]
    for file in task_files:
        load_task_file(file)
    weights = content.get(WEIGHTS)
    named = [*content, *(weights if isinstance(weights, Mapping) else ())]
    for names, source in (
        (constants, CONSTANTS),
        (named, str(path)),
        (adapted_on(words), COMMAND_LINE),
    ):
        try:
            for name in names:
                if is_adapted(name):
                    task_class(name)
        except TaskError as error:
            raise TaskError(f"{source}: {error}") from error
    return registered_tasks(), task_files


def list_of_files(content: Mapping[str, Any], path: Path | None) -> list[str]:
    """The task files that a recipe's content names."""
    files = content.get("task_files") or []
    if not isinstance(files, list) or not all(isinstance(file, str) for file in files):
        raise RecipeError(f"{path}: task_files must be a list of Python files, got {files!r}")
    return files


def find_task_file(file: str, recipe: Path | None) -> Path:
    """A task file that a recipe names, relative to the user's folder, else to the recipe's."""
    if recipe is not None and not Path(file).exists():
        return (recipe.parent / file).resolve()
    return Path(file).resolve()


def make_tasks(
    tasks: Mapping[str, type[Task]], given: Mapping[str, Any], sources: Mapping[str, str]
) -> tuple[list[Task], list[Points], str]:
    """The tasks that were given a weight with their settings, their weights, and whence the last.

    Errors name their source.
    """
    known = sections(tasks)
    weights = {name: flag for name, flag in sorted(known[WEIGHTS].items()) if flag in given}
    made: list[Task] = []
    points: list[Points] = []
    for name, flag in weights.items():
        try:
            points.append(read_points(name, given[flag]))
        except RecipeError as error:
            raise RecipeError(f"{sources[flag]}: {error}") from None
        cls, flags = tasks[name], known[name]
        settings = {key: given[flags[key]] for key in flags if flags[key] in given}
        try:
            made.append(cls(cls.Config(**settings)))
        except Exception as error:  # a user's own Config may raise anything
            culprit = next((flags[key] for key in settings if key in str(error)), "")
            source = sources.get(culprit, "default settings")
            raise TaskError(f"{source}: {error or type(error).__name__}") from error
    return made, points, sources[list(weights.values())[-1]] if weights else ""


def _make_schedule(
    made: Sequence[Task], points: Sequence[Points], source: str, config: MixConfig
) -> Schedule:
    settings: dict[str, Any] = {"tasks": tuple(made), "points": tuple(points)}
    settings["num_steps"] = config.max_steps
    try:
        if isinstance(config.adaptive, dict):
            adaptive = AdaptiveConfig(**config.adaptive)
            if config.weight_interpolation == "linear":
                raise RecipeError("adaptive weights are not interpolated: leave linear out")
            return AdaptiveSchedule(**settings, config=adaptive)
        return Schedule(**settings, linear=config.weight_interpolation == "linear")
    except RecipeError as error:
        raise RecipeError(f"{source}: {error}" if source else str(error)) from None


def _make_config(given: dict[str, Any], sources: Mapping[str, str], name: str) -> MixConfig:
    from mixgen.training.config import MixConfig
    from mixgen.training.limits import check_devices

    check_devices(use_cpu=bool(given.get("use_cpu")))
    try:
        return MixConfig(**{"output_dir": f"outputs/{name}", **given})
    except (ValueError, TypeError, ImportError) as error:
        raise RecipeError(_explain(error, given, sources)) from error


def _explain(error: Exception, given: Mapping[str, Any], sources: Mapping[str, str]) -> str:
    """The message of a refused configuration, with its source and, for a choice, the nearest."""
    from mixgen.training.config import MUON

    message = " ".join(str(error).split())
    key = message.partition(" ")[0].rstrip(":")
    if choice := re.fullmatch(r"(\S+) is not a valid \w+, please select one of \[(.*)\]", message):
        key = next((key for key, value in given.items() if str(value) == choice[1]), key)
        options = re.findall(r"[\w-]+", choice[2]) + ([MUON] if key == "optim" else [])
        message = f"{key} cannot be {choice[1]!r}: {nearest(choice[1], options)}"
    return f"{sources[key]}: {message}" if key in sources else message


def _resolve(
    schedule: Schedule, config: MixConfig, given: Mapping[str, Any], task_files: Sequence[Path]
) -> dict[str, Any]:
    """This run as a recipe: weights, task settings, mixgen's own keys and all that were given."""
    resolved: dict[str, Any] = {
        "weights": {
            task.name: points[0][1] if len(points) == 1 else dict(points)
            for task, points in zip(schedule.tasks, schedule.points, strict=True)
        }
    }
    for task in schedule.tasks:
        settings = dataclasses.asdict(task.config)
        if given_ones := {key: value for key, value in settings.items() if value is not None}:
            resolved[task.name] = given_ones
    own = [key for key in type(config).__annotations__ if key not in UNRESOLVED]
    fields = {field.name: field for field in dataclasses.fields(config)}
    given = {**given, "adaptive": config.adaptive}  # all of its settings
    for key in dict.fromkeys([*own, *given]):
        if key not in fields or key in SECRET | ONCE:
            continue
        value = given.get(key, getattr(config, key))
        # A default that is given is no other run than one that is not.
        if value is not None and (key in own or value != fields[key].default):
            resolved[key] = getattr(value, "value", value)
    # Whatever sets it here, so that the run is the same on other processes.
    resolved["global_batch_size"] = config.rows_per_step
    resolved["task_files"] = [str(file) for file in task_files]
    plain: dict[str, Any] = _plain(resolved)
    return plain


def _plain(value: Any) -> Any:
    """What YAML reads back as it was written: tuples become lists."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value
