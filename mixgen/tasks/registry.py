"""Which tasks there are: those in `mixgen/tasks`, of installed packages, and of users' task files.

A package brings tasks by an entry point of the group `mixgen.tasks`, which names a module or class:

    [project.entry-points."mixgen.tasks"]
    chess = "my_package.chess"

A name with a colon, such as `reasoning_gym:chain_sum`, belongs to an adapter, which makes the task
when it is first asked for.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import keyword
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from hashlib import blake2b
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from types import UnionType
from typing import Final, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from mixgen.errors import TaskError, nearest, one_line
from mixgen.tasks.base import Task

ENTRY_POINTS: Final = "mixgen.tasks"
# What stands before the colon -> a module with `make(name)`, which gives the class of a task, and
# perhaps `named_by(flag)`, which gives the name that a flag without its prefix begins with, if any.
ADAPTERS: Final = {
    "hub": "mixgen.tasks._hub",
    "reasoning_gym": "mixgen.tasks._reasoning_gym",
}

RESERVED: Final = ("weights", "task_files", "mix")  # of recipes, and of exports

_REGISTRY: dict[str, type[Task]] = {}
_OF_FILES: dict[str, list[type[Task]]] = {}  # by the name of a task file's module
TaskClass = TypeVar("TaskClass", bound=type[Task])


def register(cls: TaskClass) -> TaskClass:
    """Class decorator that makes a task known by its name.

    Raises:
        TaskError: The name or flag is missing, is no identifier, or belongs to another task; a
            setting has no default.
    """
    where = f"task {cls.__name__} in {file_of(cls)}"
    for attribute in ("name", "flag"):
        value = getattr(cls, attribute, None)
        if attribute == "name" and cls.__module__ in ADAPTERS.values():
            continue
        if (
            not isinstance(value, str)
            or not value.isidentifier()
            or keyword.iskeyword(value)
            or value.startswith("_")
        ):
            raise TaskError(
                f"{where}: {attribute} must be a Python identifier without _ in front, "
                f"got {value!r}"
            )
    if cls.name in RESERVED:
        raise TaskError(f"{where}: {cls.name!r} is a word of recipes or exports: rename it")
    for other in _REGISTRY.values():
        taken = {other.name, other.flag} & {cls.name, cls.flag}
        if taken and not (
            other.__qualname__ == cls.__qualname__ and file_of(other) == file_of(cls)
        ):
            raise TaskError(
                f"{where}: {taken.pop()!r} is the name or flag of the task in {file_of(other)}"
            )
    _check_config(cls, where)
    _REGISTRY[cls.name] = cls
    return cls


def _check_config(cls: type[Task], where: str) -> None:
    """Makes sure that every setting of a task can be a flag and a recipe's value."""
    if not dataclasses.is_dataclass(cls.Config):
        raise TaskError(f"{where}: Config must be a dataclass")
    try:
        kinds = get_type_hints(cls.Config)
        cls.Config()
    except Exception as error:  # a user's own Config may raise anything
        raise TaskError(
            f"{where}: Config() must work without arguments ({one_line(error)})"
        ) from error
    for field in dataclasses.fields(cls.Config):
        kind = kinds[field.name]
        if get_origin(kind) in (list, Union, UnionType):
            kinds_inside = [part for part in get_args(kind) if part is not type(None)]
            kind = kinds_inside[0] if len(kinds_inside) == 1 else kind
        if field.name == "weight" or (
            kind not in (int, float, bool, str) and get_origin(kind) is not Literal
        ):
            raise TaskError(
                f"{where}: setting {field.name!r} must be an int, float, bool, str or Literal, "
                "a list or Optional of one, and not called 'weight'"
            )


def file_of(cls: type[Task]) -> str:
    """The file that a task is defined in."""
    return getattr(sys.modules.get(cls.__module__), "__file__", None) or cls.__module__


def load_task_file(path: str | Path) -> list[type[Task]]:
    """Imports a user's task file, which registers the tasks in it.

    Returns:
        Those tasks, also when the file is named again.

    Raises:
        TaskError: There is no such file, it fails to import, or it registers no task.
    """
    path = Path(path).resolve()
    digest = blake2b(str(path).encode(), digest_size=4).hexdigest()
    module_name = f"mixgen_task_file_{path.stem}_{digest}"
    if module_name in sys.modules:
        return _OF_FILES[module_name]
    spec = importlib.util.spec_from_file_location(module_name, path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise TaskError(f"task file {path} is not a Python file that exists")
    registered_tasks()  # whose names are taken
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses look their module up there
    before = dict(_REGISTRY)
    try:
        with _failing_clearly(f"task file {path}"):
            spec.loader.exec_module(module)
    except TaskError:
        del sys.modules[module_name]
        raise
    new = [cls for name, cls in _REGISTRY.items() if before.get(name) is not cls]
    if not new:
        del sys.modules[module_name]
        raise TaskError(f"task file {path} registers no task: decorate its class with @register")
    return _OF_FILES.setdefault(module_name, new)


@contextmanager
def _failing_clearly(what: str) -> Iterator[None]:
    """Turns whatever goes wrong in somebody's tasks into one clear error."""
    try:
        yield
    except TaskError:
        raise
    except (Exception, SystemExit) as error:
        raise TaskError(f"{what} fails to import: {one_line(error)}") from error


def registered_tasks() -> Mapping[str, type[Task]]:
    """All known tasks by name, but for those of task files that have not been loaded.

    Raises:
        TaskError: A file in `mixgen/tasks` or an installed package's tasks fail to import.
    """
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if not path.name.startswith("_"):
            with _failing_clearly(f"task file {path}"):
                import_module(f"mixgen.tasks.{path.stem}")
    _load_installed()
    return dict(_REGISTRY)


@cache
def _load_installed() -> None:
    for point in entry_points(group=ENTRY_POINTS):
        package = point.dist.name if point.dist else "an installed package"
        with _failing_clearly(f"task {point.name!r} of {package} ({point.value})"):
            point.load()


def is_adapted(name: object) -> bool:
    """Whether a name belongs to an adapter, such as `reasoning_gym:chain_sum`."""
    return isinstance(name, str) and ":" in name and name.partition(":")[0] in ADAPTERS


def adapted_on(words: Iterable[str]) -> Iterator[str]:
    """The names of adapters' tasks whose flags are on a command line.

    Raises:
        TaskError: An adapter knows no task with such a flag.
    """
    for word in words:
        flag = re.sub(r"\W", "_", word.removeprefix("--").partition("=")[0])
        for prefix, module in ADAPTERS.items():
            if word.startswith("--") and flag.startswith(f"{prefix}_"):
                named_by = getattr(import_module(module), "named_by", None)
                found = named_by and named_by(flag.removeprefix(f"{prefix}_"))
                if found:
                    yield f"{prefix}:{found}"


def task_class(name: str) -> type[Task]:
    """The task called `name`; that of an adapter is made and registered.

    Raises:
        TaskError: There is none; the error names the nearest.
    """
    if is_adapted(name) and name not in _REGISTRY:
        prefix, _, rest = name.partition(":")
        made: type[Task] = import_module(ADAPTERS[prefix]).make(rest)
        return register(made)
    known = registered_tasks()
    if name not in known:
        raise TaskError(f"unknown task {name!r}: {nearest(name, known)}")
    return known[name]
