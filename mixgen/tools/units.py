"""Units, bases and dates for text that a model wrote: one call at a time, computed exactly.

In goes one of five calls, read by a regular expression each, out comes its answer:

    convert(12.5,'mi','km')                   20.1168 km
    base(0xff,2)                              0b11111111
    date('2024-03-01')+45                     2024-04-15
    date('2024-03-01')-date('2023-12-25')     67 days
    weekday('2024-03-01')                     Friday

Units are defined exactly, so values are fractions and never floats. A value is printed in full if
it is whole or needs at most ten significant digits; else it is `about` that value, rounded half to
even to six significant digits or, from a million on, to a whole number. Exponents are never used.

Sources of the definitions: SI Brochure, 9th edition (BIPM 2019), for metric units and those used
with them; the international yard and pound of 1959 (0.9144 m, 0.45359237 kg); NIST Handbook 44,
appendix C, for US volumes (a gallon is 231 cubic inches); the UK's Weights and Measures Act 1985
(an imperial gallon is 4.54609 L); IEC 80000-13 for data (a kB is 1000 bytes, a KiB 1024). Dates
are those of the Gregorian calendar, also before 1582.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date, timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal
from fractions import Fraction
from functools import cache
from typing import Any, Final, NamedTuple, Protocol

from mixgen.tools.expression import ToolError
from mixgen.tools.session import code_of, python_schema

MAX_SOURCE_CHARS: Final = 128
MAX_EXACT_DIGITS: Final = 10
ROUNDED_DIGITS: Final = 6


class Unit(NamedTuple):
    """A unit in terms of its kind's base unit: `factor * value + zero`."""

    kind: str
    factor: Fraction
    zero: Fraction


def _table() -> dict[str, Unit]:
    inch, pound = Fraction("0.0254"), Fraction("0.45359237")
    us_gallon, imperial_gallon = 231 * inch**3 * 1000, Fraction("4.54609")
    foot, mile = 12 * inch, 63_360 * inch
    kinds: dict[str, dict[str, Fraction | int | str]] = {
        "length": {
            **{"mm": "0.001", "cm": "0.01", "m": 1, "km": 1000},
            **{"in": inch, "ft": foot, "yd": 3 * foot, "mi": mile, "nmi": 1852},
        },
        "mass": {
            **{"mg": "0.000001", "g": "0.001", "kg": 1, "t": 1000},
            **{"oz": pound / 16, "lb": pound, "st": 14 * pound},
        },
        "time": {"ms": "0.001", "s": 1, "min": 60, "h": 3600, "d": 86_400, "wk": 604_800},
        "volume": {
            **{"mL": "0.001", "cL": "0.01", "L": 1, "m³": 1000},
            **{"US fl oz": us_gallon / 128, "US liq qt": us_gallon / 4, "US gal": us_gallon},
            "imp fl oz": imperial_gallon / 160,
            **{"imp pt": imperial_gallon / 8, "imp gal": imperial_gallon},
        },
        "area": {
            **{"cm²": "0.0001", "m²": 1, "ha": 10_000, "km²": 1_000_000},
            **{"ft²": foot**2, "ac": 43_560 * foot**2, "mi²": mile**2},
        },
        "speed": {
            **{"m/s": 1, "km/h": Fraction(1000, 3600)},
            **{"ft/s": foot, "mph": mile / 3600, "kn": Fraction(1852, 3600)},
        },
        "data": {
            **{"bit": 1, "B": 8, "kB": 8 * 10**3, "MB": 8 * 10**6, "GB": 8 * 10**9},
            **{"KiB": 8 * 2**10, "MiB": 8 * 2**20, "GiB": 8 * 2**30},
        },
    }
    units = {
        symbol: Unit(kind, Fraction(factor), Fraction(0))
        for kind, factors in kinds.items()
        for symbol, factor in factors.items()
    }
    for symbol, factor, zero in (
        ("K", Fraction(1), Fraction(0)),
        ("°C", Fraction(1), Fraction("273.15")),
        ("°F", Fraction(5, 9), Fraction("459.67") * 5 / 9),
    ):
        units[symbol] = Unit("temperature", factor, zero)
    return units


UNITS: Final[Mapping[str, Unit]] = _table()
PREFIXES: Final = {2: "0b", 8: "0o", 10: "", 16: "0x"}
WEEKDAYS: Final = (*("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),)
FORMS: Final = (
    "convert(12.5,'mi','km')",
    "base(0xff,2)",
    "date('2024-03-01')+45",
    "date('2024-03-01')-date('2023-12-25')",
    "weekday('2024-03-01')",
)

UNITS_SCHEMA: Final = python_schema(
    "Converts units and bases, and counts days. Prints a value with its unit, exact or else about "
    "it; a number with its base's prefix; a date; days; a day of the week.",
    f"one of {', '.join(FORMS)}; or - for +. Bases are 2, 8, 10, 16 with 0b, 0o, nothing, 0x "
    f"before the number. Units are {', '.join(UNITS)}",
)


class Request(Protocol):
    """What a call asks for, however it is spelled: requests that are equal ask the same."""

    def answer(self) -> str:
        """What the tool prints."""
        ...


class Conversion(NamedTuple):
    """A value in one unit that is asked for in another."""

    value: Fraction
    source: str
    target: str

    def answer(self) -> str:
        """See `Request.answer`."""
        ratio, shift, least = _line(self.source, self.target)
        value = ratio * self.value
        if least is not None:
            if self.value < least:
                raise ToolError("below absolute zero")
            value += shift
        return f"{format_fraction(value)} {self.target}"


class Rebase(NamedTuple):
    """A whole number that is asked for in a base."""

    number: int
    base: int

    def answer(self) -> str:
        """See `Request.answer`."""
        return f"{self.number:{'#' if self.base != 10 else ''}{_FORMATS[self.base]}}"


class Shift(NamedTuple):
    """The date that comes some days after another, or before."""

    start: date
    days: int

    def answer(self) -> str:
        """See `Request.answer`."""
        try:
            return (self.start + timedelta(self.days)).isoformat()
        except OverflowError:
            raise ToolError("not in the years 1 to 9999") from None


class Difference(NamedTuple):
    """The days from one date to another."""

    end: date
    start: date

    def answer(self) -> str:
        """See `Request.answer`."""
        days = (self.end - self.start).days
        return f"{days} day" if abs(days) == 1 else f"{days} days"


class Weekday(NamedTuple):
    """The day of the week that a date is."""

    day: date

    def answer(self) -> str:
        """See `Request.answer`."""
        return WEEKDAYS[self.day.weekday()]


@cache  # 413 pairs
def _line(source: str, target: str) -> tuple[Fraction, Fraction, Fraction | None]:
    """How a value becomes another, `ratio * value + shift`, and the least there is, if any."""
    (kind, factor, zero), (_, target_factor, target_zero) = UNITS[source], UNITS[target]
    least = -zero / factor if kind == "temperature" else None
    return factor / target_factor, (zero - target_zero) / target_factor, least


_FORMATS: Final = {2: "b", 8: "o", 10: "d", 16: "x"}
_CONTEXTS: Final = tuple(
    Context(prec=digits, rounding=ROUND_HALF_EVEN) for digits in (MAX_EXACT_DIGITS, ROUNDED_DIGITS)
)


def format_fraction(value: Fraction) -> str:
    """A value in full, or `about` it.

    Examples:
        >>> [format_fraction(Fraction(*pair)) for pair in [(7, 1), (-1, 8), (2, 3), (10**8, 3)]]
        ['7', '-0.125', 'about 0.666667', 'about 33333333']
    """
    numerator, denominator = value.as_integer_ratio()
    if denominator == 1:
        return str(numerator)
    exact, rounded = (
        context.divide(Decimal(numerator), Decimal(denominator)) for context in _CONTEXTS
    )
    if exact.as_integer_ratio() == (numerator, denominator):
        return _plain(exact)
    return f"about {round(value) if abs(value) >= 10**ROUNDED_DIGITS else _plain(rounded)}"


def _plain(number: Decimal) -> str:
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _conversion(value: str, source: str, target: str) -> Conversion:
    for symbol in (source, target):
        if symbol not in UNITS:
            raise ToolError(f"unknown unit {symbol!r}")
    if UNITS[source].kind != UNITS[target].kind:
        kinds = f"{source} measures {UNITS[source].kind}, {target} {UNITS[target].kind}"
        raise ToolError(kinds)
    return Conversion(Fraction(value), source, target)


def _rebase(number: str, base: str) -> Rebase:
    if int(base) not in PREFIXES:
        raise ToolError("bases are 2, 8, 10 and 16")
    return Rebase(int(number, 0), int(base))


def _shift(start: str, sign: str, days: str) -> Shift:
    return Shift(_date(start), int(sign + days))


def _difference(end: str, start: str) -> Difference:
    return Difference(_date(end), _date(start))


def _weekday(day: str) -> Weekday:
    return Weekday(_date(day))


def _date(text: str) -> date:
    try:
        return date(int(text[:4]), int(text[5:7]), int(text[8:]))
    except ValueError:
        raise ToolError(f"no such date: {text}") from None


_WHOLE: Final = r"(?:0|[1-9][0-9]{0,11})"
_DATE: Final = r"'([0-9]{4}-[0-9]{2}-[0-9]{2})'"
_READERS: Final[tuple[tuple[re.Pattern[str], Callable[..., Request]], ...]] = tuple(
    (re.compile(pattern), reader)
    for pattern, reader in (
        (rf"convert\((-?{_WHOLE}(?:\.[0-9]{{1,12}})?),'([^']+)','([^']+)'\)", _conversion),
        (rf"base\((0b[01]+|0o[0-7]+|0x[0-9a-fA-F]+|{_WHOLE}),([0-9]{{1,2}})\)", _rebase),
        (rf"date\({_DATE}\)([+-])([0-9]{{1,7}})", _shift),
        (rf"date\({_DATE}\)-date\({_DATE}\)", _difference),
        (rf"weekday\({_DATE}\)", _weekday),
    )
)


def read(code: str) -> Request:
    """What a call asks for.

    Raises:
        ToolError: It is no such call, or one of what there is not.

    Examples:
        >>> read("base(0xFF,2)") == read("base(255,2)")
        True
    """
    if len(code) > MAX_SOURCE_CHARS:
        raise ToolError(f"code above {MAX_SOURCE_CHARS} characters")
    for pattern, reader in _READERS:
        if found := pattern.fullmatch(code):
            return reader(*found.groups())
    raise ToolError(f"not a call; allowed are {', '.join(FORMS)}")


class UnitsSession:
    """`python(code)` for one call at a time; keeps nothing between calls.

    Examples:
        >>> UnitsSession().call("python", {"code": "convert(1,'km','mi')"})
        'about 0.621371 mi'
        >>> UnitsSession().call("python", {"code": "convert(1,'km','kg')"})
        'error: km measures length, kg mass'
    """

    def call(self, name: str, arguments: Mapping[str, Any]) -> str:
        """See `ToolSession.call`."""
        try:
            return read(code_of(name, arguments)).answer()
        except ToolError as error:
            return f"error: {error}"
