"""Makes the Hub's clients in this process talk to another server than the one they were born with.

They read their environment when they are imported. Here their constants are computed again, so that
no test needs a process of its own.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib.util import module_from_spec
from pathlib import Path
from typing import Any
from unittest.mock import patch


@contextmanager
def connected_to(url: str, environment: Mapping[str, str], home: Path) -> Iterator[None]:
    """Points `huggingface_hub`, `datasets` and `transformers` at a server.

    Args:
        url: The server's.
        environment: What a process of its own would be given.
        home: The folder of their caches.
    """
    import datasets.config
    import transformers.utils.hub
    from huggingface_hub import HfFileSystem, close_session, constants, hf_api, hf_file_system

    changes = [
        ("HF_MODULES_CACHE", transformers.utils.hub.HF_MODULES_CACHE, str(home / "modules")),
        ("USE_PARQUET_EXPORT", True, False),  # of another server
    ]
    with ExitStack() as stack:
        stack.enter_context(patch.dict(os.environ, environment))
        stack.callback(lambda: _replace([(name, new, old) for name, old, new in changes]))
        for module in (constants, datasets.config):
            changes += _computed_again(module)
            _replace(changes)
        # It is made when it is first used, and kept.
        stack.enter_context(patch.object(transformers.utils.hub, "_hf_api", None))
        for client in (hf_api.api, hf_file_system.hffs, hf_file_system.hffs._api):
            stack.enter_context(patch.object(client, "endpoint", url))
        for forget in (close_session, HfFileSystem.clear_instance_cache):
            forget()
            stack.callback(forget)
        yield


def _computed_again(module: Any) -> list[tuple[str, Any, Any]]:
    """The constants of a module that the environment changes: name, value now, value to be."""
    fresh = module_from_spec(module.__spec__)
    module.__spec__.loader.exec_module(fresh)
    now = vars(module)
    return [
        (name, now[name], value)
        for name, value in vars(fresh).items()
        if isinstance(value, str | bool | Path | frozenset) and value != now[name]
    ]


def _replace(changes: list[tuple[str, Any, Any]]) -> None:
    """Sets constants wherever a module of the clients holds them, or a copy of them."""
    for key, module in list(sys.modules.items()):
        if key.split(".")[0] in ("huggingface_hub", "datasets", "transformers"):
            for name, old, new in changes:
                if name in vars(module) and vars(module)[name] == old:
                    setattr(module, name, new)
