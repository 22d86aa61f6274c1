"""What a units problem asks for: values, units, numbers and dates are drawn, then put into words.

In go the task's settings and `rng.random`, out comes the question with the call that answers it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, timedelta
from fractions import Fraction
from itertools import permutations
from typing import Any, Final, NamedTuple

from mixgen.tasks._units_words import (
    AFTER,
    APART,
    BEFORE,
    CONVERSIONS,
    OF_DEGREES,
    WEEKDAYS,
    conversion_words,
    date_question,
    rebase_words,
)
from mixgen.tools.units import PREFIXES, UNITS, Rebase

MAX_RATIO: Final = Fraction(10**6)  # of two units that are converted
COLDEST_DIGITS: Final = 2  # of a temperature below 0, which stays above absolute zero
BASE_PAIRS: Final = tuple(permutations(PREFIXES, 2))


class Problem(NamedTuple):
    """A problem: its words, its call, its canonical form, and the digits that the call copies."""

    question: str
    code: str
    key: str
    digits: int


def _pairs(kind: str) -> list[tuple[str, str]]:
    factors = {symbol: unit.factor for symbol, unit in UNITS.items() if unit.kind == kind}
    return [
        (source, target)
        for source, target in permutations(factors, 2)
        if 1 / MAX_RATIO <= factors[source] / factors[target] <= MAX_RATIO
    ]


PAIRS: Final = {kind: _pairs(kind) for kind in dict.fromkeys(u.kind for u in UNITS.values())}


def _conversion(kind: str, config: Any, draw: Callable[[], float]) -> Problem:
    source, target = PAIRS[kind][int(draw() * len(PAIRS[kind]))]
    is_negative = source in ("°C", "°F") and draw() < config.negative_rate
    digits = 1 + int(draw() * config.max_digits)
    decimals = 0
    if config.max_decimals and draw() < config.decimal_rate:
        decimals = 1 + int(draw() * config.max_decimals)
    if is_negative:
        digits = min(digits, COLDEST_DIGITS)
    least = 10 ** (digits - 1)
    if digits == 1:
        least = 0 if decimals else 1 + is_negative  # no -1, for it may be one degree or degrees
    value = str(least + int(draw() * (10**digits - least)))
    if decimals:
        tail = int(draw() * 10 ** (decimals - 1)) * 10 + 1 + int(draw() * 9)
        value = f"{value}.{tail:0{decimals}d}"
    if is_negative:
        value = f"-{value}"
    templates = OF_DEGREES if kind in ("temperature", "speed") else CONVERSIONS
    return Problem(
        conversion_words(draw, templates, value, source, target),
        f"convert({value},'{source}','{target}')",
        f"{value} {source} in {target}",
        digits + decimals,
    )


def _rebase(_: str, config: Any, draw: Callable[[], float]) -> Problem:
    source, target = BASE_PAIRS[int(draw() * len(BASE_PAIRS))]
    top = 1 << (2 + int(draw() * (config.max_bits - 2)))
    number = top + int(draw() * top)
    digits = Rebase(number, source).answer().removeprefix(PREFIXES[source])
    if draw() < 0.5:
        digits = digits.upper()
    return Problem(
        rebase_words(draw, PREFIXES[source], digits, source, target),
        f"base({PREFIXES[source]}{digits},{target})",
        f"{number} from base {source} in base {target}",
        len(digits),
    )


def _start(config: Any, draw: Callable[[], float]) -> date:
    first = date(config.min_year, 1, 1).toordinal()
    end = date(config.max_year + 1, 1, 1).toordinal()
    return date.fromordinal(first + int(draw() * (end - first)))


def _days(config: Any, draw: Callable[[], float]) -> int:
    """From 1 on, each number of digits about as often as any other."""
    return int((config.max_days + 1) ** draw())


def _shift(_: str, config: Any, draw: Callable[[], float]) -> Problem:
    start, days = _start(config, draw), _days(config, draw)
    sign, templates = ("+", AFTER) if draw() < 0.5 else ("-", BEFORE)
    return Problem(
        date_question(draw, templates, days, start=start),
        f"date('{start}'){sign}{days}",
        f"{start} {sign} {days} days",
        8 + len(str(days)),
    )


def _difference(_: str, config: Any, draw: Callable[[], float]) -> Problem:
    start = _start(config, draw)
    end = start + timedelta(_days(config, draw))
    return Problem(
        date_question(draw, APART, start=start, end=end),
        f"date('{end}')-date('{start}')",
        f"days from {start} to {end}",
        16,
    )


def _weekday(_: str, config: Any, draw: Callable[[], float]) -> Problem:
    day = _start(config, draw)
    return Problem(
        date_question(draw, WEEKDAYS, day=day), f"weekday('{day}')", f"weekday of {day}", 8
    )


KINDS: Final[Mapping[str, Callable[[str, Any, Callable[[], float]], Problem]]] = {
    **dict.fromkeys(PAIRS, _conversion),
    "base": _rebase,
    "date": _shift,
    "days": _difference,
    "weekday": _weekday,
}


def draw_problem(kind: str, config: Any, draw: Callable[[], float]) -> Problem:
    """A problem of one of `KINDS`.

    Args:
        kind: The kind.
        config: The settings, a `Units.Config`.
        draw: `rng.random`.
    """
    return KINDS[kind](kind, config, draw)
