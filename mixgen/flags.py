"""Recipes and command lines as flags of one `HfArgumentParser`, so that types are checked once.

`sections` says which flag each key of a recipe's mappings stands for: `weights: {calculator: 1.0}`
is `--calc_weight=1.0`, and `calculator: {max_depth: 2}` is `--calc_max_depth=2`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import typing
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any, Final, NoReturn

from mixgen.errors import RecipeError, TaskError, nearest
from mixgen.tasks.base import Task

COMMAND_LINE: Final = "command line"
HELP: Final = "`run_train.py --help`"  # lists all keys and flags
WEIGHTS: Final = "weights"
USAGE: Final = "run_train.py [recipes/NAME.yaml] [--depth=12] [--calc_weight=1.0] [--KEY=VALUE ...]"
DESCRIPTION: Final = "Trains a language model on a weighted mix of tasks; see the README."

Sections = Mapping[str, Mapping[str, str]]


def sections(tasks: Mapping[str, type[Task]]) -> Sections:
    """The flag of each key in a recipe's mappings: `weights`, and one for each task's settings.

    Args:
        tasks: The known tasks by name.
    """
    found = {WEIGHTS: {name: f"{cls.flag}_weight" for name, cls in tasks.items()}}
    for name, cls in tasks.items():
        settings = dataclasses.fields(cls.Config)
        found[name] = {setting.name: f"{cls.flag}_{setting.name}" for setting in settings}
    return found


def task_files_on(words: Sequence[str]) -> list[str]:
    """The task files on a command line, before the parser that needs their flags can be made."""
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--task_files", "--task-files", nargs="+", default=[])
    return list(early.parse_known_args(words)[0].task_files)


def make_parser(tasks: Mapping[str, type[Task]], *dataclass_types: Any) -> argparse.ArgumentParser:
    """The parser of the tasks' flags and of the fields of `dataclass_types`."""
    from transformers import HfArgumentParser

    class Parser(HfArgumentParser):
        """Raises instead of printing its usage and leaving."""

        def error(self, message: str) -> NoReturn:
            raise RecipeError(message)

    parser = Parser([], allow_abbrev=False, usage=USAGE, description=DESCRIPTION)
    flags = [(cls, _flags_dataclass(cls)) for cls in tasks.values()]
    for dtype in dataclass_types:
        parser._add_dataclass_arguments(dtype)
    for cls, dtype in flags:
        try:
            parser._add_dataclass_arguments(dtype)
        except argparse.ArgumentError as error:
            raise TaskError(f"task {cls.name!r} cannot have flag {cls.flag!r}: {error}") from error
    return parser


def _flags_dataclass(cls: type[Task]) -> Any:
    """A dataclass of a task's flags: its weight and the fields of its `Config`."""
    words = f"Weight of {cls.name}; 0.2:0,0.5:500 is 0.2 from the start and 0.5 from step 500."
    weight = dataclasses.field(default="0", metadata={"help": words})
    fields: list[Any] = [(f"{cls.flag}_weight", str, weight)]
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


def flatten(
    content: Mapping[str, Any], source: str, known: Sections, keys: Set[str] = frozenset()
) -> Iterator[str]:
    """A recipe's content as flags.

    Args:
        content: The recipe.
        source: Its name, for errors.
        known: The mappings that it may hold.
        keys: The other keys that it may hold.

    Raises:
        RecipeError: A key is unknown, or a mapping stands where a value should or the reverse.
    """
    for key, value in content.items():
        if key in known:
            yield from _flatten_section(key, value, source, known[key])
        elif key in keys:
            yield from _flag(key, value)
        else:
            raise RecipeError(
                f"{source}: unknown key {key!r}: {nearest(key, {*keys, *known}, listed=HELP)}"
            )


def _flatten_section(
    section: str, content: Any, source: str, flags: Mapping[str, str]
) -> Iterator[str]:
    if not isinstance(content, dict):
        raise RecipeError(f"{source}: {section} must be a mapping, got {content!r}")
    for key, value in content.items():
        if key not in flags:
            what = "task" if section == WEIGHTS else "setting"
            near = nearest(str(key), flags, listed=HELP)
            raise RecipeError(f"{source}: unknown {what} {key!r} in {section}: {near}")
        if value is None or value == {}:
            raise RecipeError(f"{source}: {key!r} in {section} has no value")
        if section == WEIGHTS and isinstance(value, list):
            raise RecipeError(
                f"{source}: weight of {key} must be a number or {{STEP: WEIGHT, ...}}, got {value}"
            )
        if isinstance(value, dict):
            if section != WEIGHTS:
                raise RecipeError(f"{source}: {key!r} in {section} must be a value, not a mapping")
            value = ",".join(f"{weight}:{start}" for start, weight in value.items())
        yield from _flag(flags[key], value)


def _flag(key: str, value: Any) -> list[str]:
    if value is None:
        return []
    if isinstance(value, list):
        return [f"--{key}", *map(str, value)]
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # `6e6` for a number of tokens
    return [f"--{key}={json.dumps(value, default=str) if isinstance(value, dict) else value}"]


def parse_flags(parser: argparse.ArgumentParser, flags: list[str], source: str) -> dict[str, Any]:
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
            raise RecipeError(
                f"{source}: unknown flag {flag}: {nearest(flag, options, listed=HELP)}"
            )
        if source == COMMAND_LINE:
            raise RecipeError(f"{source}: unexpected {word!r} (a recipe comes before the flags)")
        raise RecipeError(f"{source}: {word!r} is one value too many: its key takes no list")
    return vars(namespace)
