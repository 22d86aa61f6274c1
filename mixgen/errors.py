"""The errors that mixgen raises on purpose: one clear line each, with the nearest right name.

`MixgenError` is the root. Those that a user's input causes are `ValueError`s too, so that code
which calls the library needs to know nothing of mixgen. The two mains print them as one line and
exit with status 2.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Final

# What would move a terminal's cursor, change its colours or turn the direction of its text.
CONTROLS: Final = {
    code: f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
    for code in (*range(32), *range(127, 160), *range(0x2028, 0x202F), *range(0x2066, 0x206A))
    if chr(code) not in "\t\n"
}


class MixgenError(Exception):
    """Root of all errors that mixgen raises on purpose."""


class RecipeError(MixgenError, ValueError):
    """A recipe, a command-line flag or an argument is wrong."""


class TaskError(MixgenError, ValueError):
    """A task is defined wrongly, or cannot make what it is asked for."""


class OutputError(MixgenError, OSError):
    """An output directory cannot be used: it holds another run, or cannot be written."""


def nearest_path(path: Path, others: Iterable[Path]) -> str:
    """Words to end an error about a folder that is missing, or nothing when none is near.

    Args:
        path: What was given.
        others: The folders that would have been right.

    Examples:
        >>> nearest_path(Path("outputs/quickstrat"), [Path("outputs/quickstart")])
        ': did you mean outputs/quickstart?'
    """
    options = {str(other): other for other in others}
    match = difflib.get_close_matches(str(path), options, n=1, cutoff=0.6)
    return f": did you mean {match[0]}?" if match else ""


MAX_OPTIONS: Final = 20  # that an error lists


def nearest(name: str, allowed: Iterable[str], *, listed: str = "") -> str:
    """Words to end an error about the unknown `name`: the nearest allowed name, else all of them.

    Args:
        name: What was given.
        allowed: What would have been right.
        listed: What lists them, where they are too many for an error.

    Returns:
        `"did you mean 'weights'?"`, or `"allowed: 'a', 'b'"` when nothing is near and they are few.

    Examples:
        >>> nearest("calculater", ["calculator", "tictactoe"])
        "did you mean 'calculator'?"
        >>> nearest("chess", ["calculator", "tictactoe"])
        "allowed: 'calculator', 'tictactoe'"
    """
    options = sorted(set(allowed))
    match = difflib.get_close_matches(name, options, n=1, cutoff=0.6)
    if match:
        return f"did you mean {match[0]!r}?"
    if len(options) > MAX_OPTIONS and listed:
        return f"see {listed}"
    more = ", ..." if len(options) > MAX_OPTIONS else ""
    return "allowed: " + ", ".join(map(repr, options[:MAX_OPTIONS])) + more


def printable(text: str) -> str:
    r"""A text with its control characters made visible, but for tabs and new lines.

    Examples:
        >>> print(printable("red \x1b[31m"))
        red \x1b[31m
    """
    return text.translate(CONTROLS)


def one_line(error: BaseException) -> str:
    """An error of somebody else's code, with its class, as one line to quote.

    Examples:
        >>> one_line(ValueError("no\\nsuch size"))
        'ValueError: no such size'
    """
    return " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")
