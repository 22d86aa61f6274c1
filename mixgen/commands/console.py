"""How commands print: for people with colours and tables, for pipes one plain record a line."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from rich.console import Console

LONG_SECONDS: Final = 60.0


def make_console() -> Console:
    """The terminal; a pipe gets no colours, and lines as long as they are."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True, markup=False, emoji=False)


def print_records(records: Sequence[dict[str, Any]], *, as_json: bool = False) -> None:
    """Prints records as aligned lines below their names; or as JSON, an object a line.

    Args:
        records: With the same keys, which head the columns; floats have three digits.
        as_json: Whether programs read it.
    """
    if as_json:
        for record in records:
            print(json.dumps(record, ensure_ascii=False))
        return
    from rich.text import Text

    from mixgen.evaluation.results import aligned

    rows = [[_cell(value) for value in record.values()] for record in records]
    head, *lines = aligned([list(records[0]), *rows])
    console = make_console()
    console.print(Text(head, style="bold"))
    for line in lines:
        console.print(Text(line))


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def say(words: str) -> None:
    """Tells a person what goes on, on stderr."""
    print(words, file=sys.stderr, flush=True)


@contextmanager
def watching() -> Iterator[Callable[[str], None]]:
    """Says what takes long, so that nobody waits for what hangs without knowing for what.

    Gives a function that is told what begins, which ends what began before.
    """
    timer = threading.Timer(0, say)

    def begin(what: str) -> None:
        nonlocal timer
        timer.cancel()
        words = f"{what}: {LONG_SECONDS:.0f} s so far. Is it slow, or does it hang? Ctrl-C ends it."
        timer = threading.Timer(LONG_SECONDS, say, [words])
        timer.daemon = True
        timer.start()

    try:
        yield begin
    finally:
        timer.cancel()
