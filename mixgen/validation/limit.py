"""Limits on how long checks take: a slow task is checked by less, one that hangs is broken off."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

ITEMS_SECONDS: Final = 20.0  # for what a check goes through
LIMIT_SECONDS: Final = 120.0  # for a whole check

T = TypeVar("T")


class TookTooLongError(BaseException):
    """A task's own code ran for too long; its `except Exception` does not catch it."""


def in_time(items: Iterable[T]) -> Iterator[T]:
    """The first items, and more of them for `ITEMS_SECONDS`."""
    start = time.monotonic()
    for item in items:
        yield item
        if time.monotonic() - start > ITEMS_SECONDS:
            return


@contextmanager
def time_limit() -> Iterator[None]:
    """Breaks off Python code that runs for more than `LIMIT_SECONDS`.

    Without effect outside of the main thread, and on Windows.

    Raises:
        TookTooLongError: It did.
    """
    if (
        not hasattr(signal, "setitimer")
        or threading.current_thread() is not threading.main_thread()
    ):
        yield
        return

    def ring(*_: Any) -> None:
        raise TookTooLongError

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, LIMIT_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
