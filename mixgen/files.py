"""Files that are whole or not there at all."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Writes a text file whole or not at all; of a link, the file that it leads to.

    Raises:
        OSError: It cannot be written; nothing of it is left.
    """
    path = Path(os.path.realpath(path))
    written = path.with_name(f".{path.name}.{os.getpid()}")  # several may write at once
    try:
        written.write_text(text, encoding="utf-8")
        replace(written, path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        with suppress(OSError):
            written.unlink(missing_ok=True)


def replace(written: Path, final: Path) -> None:
    """Renames a file that is written to its place, once it is on the disk."""
    sync(written)
    written.replace(final)
    sync(final.parent)


def sync(path: Path) -> None:
    """Waits until a file or directory is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:  # some file systems cannot sync directories
        if path.is_file():
            raise
    finally:
        os.close(descriptor)
