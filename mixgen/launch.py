"""What a run of one or several processes needs beside its work: one voice, and a clean end."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from mixgen.errors import MixgenError

USER_ERROR: Final = 2  # exit status
INTERRUPTED: Final = 130
LAUNCHERS: Final = {
    "accelerate",
    "accelerate.commands.launch",
    "torchrun",
    "torch.distributed.run",
}
PR_SET_PDEATHSIG: Final = 1  # of prctl(2): the signal to get when the parent dies


def for_all(act: Callable[[], Any], is_main: bool) -> Any:
    """What the first process does for all; its error is everyone's."""
    from accelerate.utils import broadcast_object_list

    found: list[Any] = [None, None]
    if is_main:
        try:
            found[0] = act()
        except MixgenError as error:
            found[1] = error
    found = broadcast_object_list(found)
    if found[1]:
        raise found[1]
    return found[0]


def end_with_launcher() -> None:
    """Gets SIGTERM when the launcher dies, which `accelerate launch` does without passing it on.

    Else this process would train on, with nobody to stop it or to see what it prints.
    """
    parent = Path(f"/proc/{os.getppid()}/cmdline")
    if sys.platform == "linux" and parent.is_file():
        words = {Path(os.fsdecode(word)).name for word in parent.read_bytes().split(b"\0")[:3]}
        if words & LAUNCHERS:
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def leave_process_group() -> None:
    """Ends the process group; without it, processes on CPUs abort at exit now and then."""
    if "torch" in sys.modules:
        import torch.distributed as dist

        if dist.is_available() and dist.is_initialized():
            dist.destroy_process_group()
