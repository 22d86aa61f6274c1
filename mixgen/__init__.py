"""mixgen: train small language models on a weighted mix of generated tasks that can be checked.

The public names are imported when they are first used: `import mixgen` and writing a task never
import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mixgen.errors import MixgenError as MixgenError
    from mixgen.errors import OutputError as OutputError
    from mixgen.errors import RecipeError as RecipeError
    from mixgen.errors import TaskError as TaskError
    from mixgen.load import load_mixture as load_mixture
    from mixgen.mixture.weights import Mix as Mix
    from mixgen.mixture.weights import configure_mix as configure_mix
    from mixgen.tasks.base import Example as Example
    from mixgen.tasks.base import Message as Message
    from mixgen.tasks.base import Score as Score
    from mixgen.tasks.base import Task as Task
    from mixgen.tasks.registry import register as register
    from mixgen.training.config import MixConfig as MixConfig
    from mixgen.training.trainer import MixTrainer as MixTrainer

__version__ = "0.1.0"

_MODULES = {
    "errors": ("MixgenError", "OutputError", "RecipeError", "TaskError"),
    "mixture.weights": ("Mix", "configure_mix"),
    "load": ("load_mixture",),
    "tasks.base": ("Example", "Message", "Score", "Task"),
    "tasks.registry": ("register",),
    "training.config": ("MixConfig",),
    "training.trainer": ("MixTrainer",),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'mixgen' has no attribute {name!r}")
    return getattr(import_module(f"mixgen.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
