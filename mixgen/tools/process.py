"""A task's own tool, run in a process of its own with limits; every call starts anew.

    def tools(self):
        return ProcessTools(Path(__file__).with_name("my_tool.py"))

The tool is the task author's Python file. It gets a call as JSON on its standard input,
`{"name": "python", "arguments": {"code": "1+1"}}`, and what it prints is the tool's output.

This is no sandbox. The process has limits of time and memory, no token in its environment, an empty
directory to begin in, and Python's isolated mode; but it runs as the same user: it may read that
user's files and processes (on Linux mixgen's own environment, in /proc), reach the network, and
leave processes behind that have gone into the background. If the file runs what a model wrote, the
model may do so too. So nothing runs unless `MIXGEN_RUN_TOOLS=1` is set by who starts mixgen.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from mixgen.errors import TaskError

ALLOWED: Final = "MIXGEN_RUN_TOOLS"
KEPT: Final = ("PATH", "LANG", "LC_ALL", "SYSTEMROOT")  # of the environment; no token is there
MEGABYTE: Final = 2**20
MAX_FILE: Final = 1 * MEGABYTE  # that the tool may write
MAX_REASON: Final = 2_000  # bytes, at the end of its output, that may say why it failed
# Sets limits to the process that it is, and becomes the tool. (Between a fork and the new program,
# in a process with threads, Python code could hang.)
LIMITED: Final = """
import resource, runpy, sys
_, memory, seconds, size, file = sys.argv
for kind, most in (("AS", memory), ("CPU", seconds), ("FSIZE", size), ("CORE", 0)):
    resource.setrlimit(getattr(resource, "RLIMIT_" + kind), (int(most), int(most)))
sys.argv = [file]
runpy.run_path(file, run_name="__main__")
"""


class ProcessTools:
    """Tools of a Python file; see `ToolSession`.

    Args:
        file: The author's Python file.
        seconds: What a call may take, of the clock and of the processor.
        megabytes: The memory that it may use.
        max_chars: Of what it prints; the rest is cut off.

    Raises:
        TaskError: Who starts mixgen has not allowed it, or there is no such file.
    """

    def __init__(
        self,
        file: str | Path,
        *,
        seconds: float = 2.0,
        megabytes: int = 512,
        max_chars: int = 4_000,
    ) -> None:
        if os.environ.get(ALLOWED) != "1":
            raise TaskError(
                f"{file} runs as a tool on what a model writes, with your rights (no sandbox): "
                f"set {ALLOWED}=1 to allow it"
            )
        if not Path(file).is_file():
            raise TaskError(f"there is no tool {file}")
        self.file = Path(file).resolve()
        self.seconds = seconds
        self.megabytes = megabytes
        self.max_chars = max_chars

    def call(self, name: str, arguments: Mapping[str, Any]) -> str:
        """See `ToolSession.call`."""
        asked = json.dumps({"name": name, "arguments": arguments}, default=str)
        limits = [str(self.megabytes * MEGABYTE), str(int(self.seconds) + 1), str(MAX_FILE)]
        with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as output:
            process = subprocess.Popen(
                [sys.executable, "-I", "-B", "-c", LIMITED, *limits, str(self.file)],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env={key: os.environ[key] for key in KEPT if key in os.environ},
                start_new_session=True,
            )
            try:
                process.communicate(asked.encode(errors="replace"), timeout=self.seconds)
            except subprocess.TimeoutExpired:
                return f"error: it took more than {self.seconds:g} s"
            finally:
                _end(process)
            output.seek(0)
            printed = output.read(4 * self.max_chars).decode(errors="replace")
            end = max(output.seek(0, os.SEEK_END) - MAX_REASON, 0)
            output.seek(end)
            last = output.read().decode(errors="replace").strip().rpartition("\n")[2]
        if process.returncode:
            why = last or f"it ended with status {process.returncode}"
            return f"error: {why[-200:]}"
        return printed.replace("\r\n", "\n").removesuffix("\n")[: self.max_chars]


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kills a process with all that it has started."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
