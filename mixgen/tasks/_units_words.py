"""How users name units, numbers in a base and dates, and what they ask about them.

Each wording can be read in one way only. Where a name has several meanings, the words say which: US
or imperial, metric tons, decimal kilobytes (a kibibyte is binary by its name). Ounces without
`fluid` are of mass. An inch has no symbol here, which would read as the word in. Questions that
count days ask how many days one date lies after or before another, never how many there are
between two.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Final, NamedTuple


class Name(NamedTuple):
    """A unit in words, for one and for more, and its symbol, if a user would write it."""

    one: str
    many: str
    symbol: str


def _name(one: str, symbol: str, many: str = "") -> Name:
    return Name(one, many or f"{one}s", symbol)


def _data(prefix: str, symbol: str) -> Name:
    return _name(f"decimal {prefix}byte", f"decimal {symbol}")


def _squared(name: Name) -> Name:
    return Name(f"square {name.one}", f"square {name.many}", f"{name.symbol}²")


def _per(name: Name, one: str, symbol: str) -> Name:
    return Name(f"{name.one} per {one}", f"{name.many} per {one}", symbol)


def _names(metre: str, litre: str, ton: str) -> dict[str, Name]:
    """The names of all units, with British or American spelling."""
    lengths = {
        "mm": _name(f"milli{metre}", "mm"),
        "cm": _name(f"centi{metre}", "cm"),
        "m": _name(metre, "m"),
        "km": _name(f"kilo{metre}", "km"),
        "in": _name("inch", "", "inches"),
        "ft": _name("foot", "ft", "feet"),
        "yd": _name("yard", "yd"),
        "mi": _name("mile", "mi"),
        "nmi": _name("nautical mile", "nmi"),
    }
    return {
        **lengths,
        "mg": _name("milligram", "mg"),
        "g": _name("gram", "g"),
        "kg": _name("kilogram", "kg"),
        "t": _name(ton, "t"),
        "oz": _name("ounce", "oz"),
        "lb": _name("pound", "lb"),
        "st": _name("stone", "st", "stone"),
        "ms": _name("millisecond", "ms"),
        "s": _name("second", "s"),
        "min": _name("minute", "min"),
        "h": _name("hour", "h"),
        "d": _name("day", "d"),
        "wk": _name("week", "wk"),
        "mL": _name(f"milli{litre}", "mL"),
        "cL": _name(f"centi{litre}", "cL"),
        "L": _name(litre, "L"),
        "m³": _name(f"cubic {metre}", "m³"),
        "US fl oz": _name("US fluid ounce", "US fl oz"),
        "US liq qt": _name("US liquid quart", "US liq qt"),
        "US gal": _name("US gallon", "US gal"),
        "imp fl oz": _name("imperial fluid ounce", "imp fl oz"),
        "imp pt": _name("imperial pint", "imp pt"),
        "imp gal": _name("imperial gallon", "imp gal"),
        "cm²": _squared(lengths["cm"]),
        "m²": _squared(lengths["m"]),
        "ha": _name("hectare", "ha"),
        "km²": _squared(lengths["km"]),
        "ft²": _squared(lengths["ft"]),
        "ac": _name("acre", "ac"),
        "mi²": _squared(lengths["mi"]),
        "m/s": _per(lengths["m"], "second", "m/s"),
        "km/h": _per(lengths["km"], "hour", "km/h"),
        "ft/s": _per(lengths["ft"], "second", "ft/s"),
        "mph": _per(lengths["mi"], "hour", "mph"),
        "kn": _name("knot", "kn"),
        "bit": _name("bit", ""),
        "B": _name("byte", "B"),
        "kB": _data("kilo", "kB"),
        "MB": _data("mega", "MB"),
        "GB": _data("giga", "GB"),
        "KiB": _name("kibibyte", "KiB"),
        "MiB": _name("mebibyte", "MiB"),
        "GiB": _name("gibibyte", "GiB"),
        "K": _name("kelvin", "K"),
        "°C": _name("degree Celsius", "°C", "degrees Celsius"),
        "°F": _name("degree Fahrenheit", "°F", "degrees Fahrenheit"),
    }


SPELLINGS: Final = (
    _names("metre", "litre", "tonne"),
    _names("meter", "liter", "metric ton"),
)

# What is asked of a quantity (%(is)s) and another unit (%(in)s).
CONVERSIONS: Final = (
    "Convert %(is)s to %(in)s.",
    "Please convert %(is)s into %(in)s.",
    "What is %(is)s in %(in)s?",
    "Express %(is)s in %(in)s.",
    "Change %(is)s into %(in)s.",
    "Give %(is)s in %(in)s.",
    "How many %(in)s is %(is)s?",
    "How many %(in)s equal %(is)s?",
    "How many %(in)s are there in %(is)s?",
    "How much is %(is)s in %(in)s?",
)
OF_DEGREES: Final = CONVERSIONS[:-2]  # of a temperature or a speed there is no how much


def conversion_words(
    draw: Callable[[], float], templates: tuple[str, ...], value: str, source: str, target: str
) -> str:
    """A question for a value in one unit as a value in another."""
    names = SPELLINGS[draw() < 0.5]
    one, many, symbol = names[source]
    if symbol and draw() < 0.5:
        quantity = f"{value} {symbol}"
    else:
        quantity = f"{value} {one if value == '1' else many}"
        if value[0] == "-" and draw() < 0.5:
            quantity = f"minus {quantity[1:]}"
    _, many, symbol = names[target]
    asked = symbol if symbol and draw() < 0.5 else many
    return templates[int(draw() * len(templates))] % {"is": quantity, "in": asked}


BASE_NAMES: Final = {
    2: ("binary", "base 2"),
    8: ("octal", "base 8"),
    10: ("decimal", "base 10"),
    16: ("hexadecimal", "base 16"),
}
REBASES: Final = (
    "Convert %s to %s.",
    "Please convert %s into %s.",
    "What is %s in %s?",
    "Write %s in %s.",
    "Express %s in %s.",
    "Give %s in %s.",
    "How do you write %s in %s?",
)
FROM_BASE: Final = "Convert %s from %s to %s."


def rebase_words(draw: Callable[[], float], prefix: str, digits: str, source: int, to: int) -> str:
    """A question for a number, written with the digits of one base, in another."""
    names = BASE_NAMES[source]
    asked = BASE_NAMES[to][draw() < 0.5]
    form = int(draw() * 4)
    if form == 0:
        return FROM_BASE % (digits, names[draw() < 0.5], asked)
    number = (
        f"{prefix}{digits}" if prefix else f"decimal {digits}",
        f"the {names[0]} number {digits}",
        f"{digits} ({names[1]})",
    )[form - 1]
    return REBASES[int(draw() * len(REBASES))] % (number, asked)


MONTHS: Final = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
NUM_DATE_FORMS: Final = 5
AFTER: Final = (
    "What date is %(days)s after %(start)s?",
    "Which date comes %(days)s after %(start)s?",
    "Find the date %(days)s after %(start)s.",
    "Add %(days)s to %(start)s.",
    "What is the date %(days)s later than %(start)s?",
    "%(start)s, plus %(days)s: which date is that?",
)
BEFORE: Final = (
    "What date is %(days)s before %(start)s?",
    "Which date comes %(days)s before %(start)s?",
    "Find the date %(days)s before %(start)s.",
    "Subtract %(days)s from %(start)s.",
    "What is the date %(days)s earlier than %(start)s?",
    "%(start)s, minus %(days)s: which date is that?",
)
# A date of the American form has a comma after its year too, where the sentence goes on.
APART: Final = (
    "How many days after %(start,)s is %(end)s?",
    "How many days before %(end,)s is %(start)s?",
    "How many days later than %(start,)s is %(end)s?",
    "How many days earlier than %(end,)s is %(start)s?",
    "How many days does it take to get from %(start,)s to %(end)s?",
    "How many days must be added to %(start,)s to get %(end)s?",
    "By how many days does %(end,)s follow %(start)s?",
    "By how many days does %(start,)s precede %(end)s?",
)
WEEKDAYS: Final = (
    "What day of the week is %(day)s?",
    "Which day of the week is %(day)s?",
    "On which day of the week does %(day,)s fall?",
    "Find the day of the week of %(day)s.",
    "Tell me the day of the week of %(day)s.",
    "Name the day of the week of %(day)s.",
)


def date_words(day: date, form: int) -> str:
    """A date as a user may write it."""
    month = MONTHS[day.month - 1]
    if form == 0:
        return day.isoformat()
    if form == 1:
        return f"{day.day} {month} {day.year}"
    if form == 2:
        return f"{month} {day.day}, {day.year}"
    if form == 3:
        return f"{day.day} {month[:3]} {day.year}"
    return f"{month[:3]} {day.day}, {day.year}"


def date_question(
    draw: Callable[[], float], templates: tuple[str, ...], days: int = 0, **dates: date
) -> str:
    """A question about dates, all in one form."""
    form = int(draw() * NUM_DATE_FORMS)
    words = {"days": "1 day" if days == 1 else f"{days} days"}
    for name, day in dates.items():
        words[name] = written = date_words(day, form)
        words[f"{name},"] = f"{written}," if "," in written else written
    return templates[int(draw() * len(templates))] % words
