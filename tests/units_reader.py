"""Reads a units question back from the user's words, and answers it, with code of its own.

Nothing of mixgen is used: names and sizes are typed in again from their sources, values are worked
out in fractions of the smallest unit, days are counted by hand, and what can be read in two ways
is refused.
"""

from __future__ import annotations

import re
from fractions import Fraction

F = Fraction
# name: kind, size in the kind's own unit, one, more than one, symbol
_ROWS = """
mm length 1 milli{m} milli{m}s mm
cm length 10 centi{m} centi{m}s cm
m length 1000 {m} {m}s m
km length 1000000 kilo{m} kilo{m}s km
in length 25.4 inch inches -
ft length 304.8 foot feet ft
yd length 914.4 yard yards yd
mi length 1609344 mile miles mi
nmi length 1852000 nautical_mile nautical_miles nmi
mg mass 1 milligram milligrams mg
g mass 1000 gram grams g
kg mass 1000000 kilogram kilograms kg
t mass 1000000000 {t} {t}s t
oz mass 28349.523125 ounce ounces oz
lb mass 453592.37 pound pounds lb
st mass 6350293.18 stone stone st
ms time 1 millisecond milliseconds ms
s time 1000 second seconds s
min time 60000 minute minutes min
h time 3600000 hour hours h
d time 86400000 day days d
wk time 604800000 week weeks wk
mL volume 1 milli{l} milli{l}s mL
cL volume 10 centi{l} centi{l}s cL
L volume 1000 {l} {l}s L
m³ volume 1000000 cubic_{m} cubic_{m}s m³
US_fl_oz volume 29.5735295625 US_fluid_ounce US_fluid_ounces US_fl_oz
US_liq_qt volume 946.352946 US_liquid_quart US_liquid_quarts US_liq_qt
US_gal volume 3785.411784 US_gallon US_gallons US_gal
imp_fl_oz volume 28.4130625 imperial_fluid_ounce imperial_fluid_ounces imp_fl_oz
imp_pt volume 568.26125 imperial_pint imperial_pints imp_pt
imp_gal volume 4546.09 imperial_gallon imperial_gallons imp_gal
cm² area 1 square_centi{m} square_centi{m}s cm²
m² area 10000 square_{m} square_{m}s m²
ha area 100000000 hectare hectares ha
km² area 10000000000 square_kilo{m} square_kilo{m}s km²
ft² area 929.0304 square_foot square_feet ft²
ac area 40468564.224 acre acres ac
mi² area 25899881103.36 square_mile square_miles mi²
m/s speed 3600 {m}_per_second {m}s_per_second m/s
km/h speed 1000 kilo{m}_per_hour kilo{m}s_per_hour km/h
ft/s speed 1097.28 foot_per_second feet_per_second ft/s
mph speed 1609.344 mile_per_hour miles_per_hour mph
kn speed 1852 knot knots kn
bit data 1 bit bits -
B data 8 byte bytes B
kB data 8000 decimal_kilobyte decimal_kilobytes decimal_kB
MB data 8000000 decimal_megabyte decimal_megabytes decimal_MB
GB data 8000000000 decimal_gigabyte decimal_gigabytes decimal_GB
KiB data 8192 kibibyte kibibytes KiB
MiB data 8388608 mebibyte mebibytes MiB
GiB data 8589934592 gibibyte gibibytes GiB
K temperature 1 kelvin kelvins K
°C temperature 1 degree_Celsius degrees_Celsius °C
°F temperature 1 degree_Fahrenheit degrees_Fahrenheit °F
"""
KIND: dict[str, str] = {}
SIZE: dict[str, Fraction] = {}
ONE: dict[str, str] = {}  # words: unit
MANY: dict[str, str] = {}
SYMBOL: dict[str, str] = {}
for _spelling in ({"m": "metre", "l": "litre", "t": "tonne"}, {"m": "meter", "l": "liter"}):
    for _row in _ROWS.format(**{"t": "metric_ton"} | _spelling).strip().split("\n"):
        _name, _kind, _size, *_words = _row.replace("_", "\0").split(" ")
        _name = _name.replace("\0", " ")
        KIND[_name], SIZE[_name] = _kind, F(_size)
        for _words_of, _text in zip((ONE, MANY, SYMBOL), _words, strict=True):
            assert _words_of.setdefault(_text.replace("\0", " "), _name) == _name or _text == "-"
del SYMBOL["-"]  # an inch and a bit have none

NUMBER = r"(?:minus |-)?(?:0|[1-9][0-9]*)(?:\.[0-9]*[1-9])?"
_QUANTITY, _UNIT = rf"(?P<value>{NUMBER}) (?P<unit>[^?]+?)", "(?P<target>[^?]+?)"
_CONVERSIONS = [
    rf"Convert {_QUANTITY} to {_UNIT}\.",
    rf"Please convert {_QUANTITY} into {_UNIT}\.",
    rf"What is {_QUANTITY} in {_UNIT}\?",
    rf"Express {_QUANTITY} in {_UNIT}\.",
    rf"Change {_QUANTITY} into {_UNIT}\.",
    rf"Give {_QUANTITY} in {_UNIT}\.",
    rf"How many {_UNIT} is {_QUANTITY}\?",
    rf"How many {_UNIT} equal {_QUANTITY}\?",
    rf"How many {_UNIT} are there in {_QUANTITY}\?",
    rf"How much is {_QUANTITY} in {_UNIT}\?",
]
BASES = {"binary": 2, "octal": 8, "decimal": 10, "hexadecimal": 16}
BASES |= {f"base {base}": base for base in BASES.values()}
PREFIX = {2: "0b", 8: "0o", 10: "", 16: "0x"}
DIGITS = {2: "[01]+", 8: "[0-7]+", 10: "[0-9]+", 16: "[0-9a-f]+|[0-9A-F]+"}
_BASE = "(?P<target>binary|octal|decimal|hexadecimal|base [0-9]+)"
_N, _B = "(?P<digits>[0-9a-fA-F]+)", "(?P<base>binary|octal|decimal|hexadecimal|base [0-9]+)"
_NUMBERS = [
    "(?P<prefix>0[box])(?P<digits>[0-9a-fA-F]+)",
    f"(?P<base>decimal) {_N}",
    f"the (?P<base>binary|octal|decimal|hexadecimal) number {_N}",
    rf"{_N} \((?P<base>base [0-9]+)\)",
]
_REBASES = [
    rf"Convert {_N} from {_B} to {_BASE}\.",
    *(
        pattern.replace("#", f"{number}")
        for number in _NUMBERS
        for pattern in (
            rf"Convert # to {_BASE}\.",
            rf"Please convert # into {_BASE}\.",
            rf"What is # in {_BASE}\?",
            rf"(?:Write|Express|Give) # in {_BASE}\.",
            rf"How do you write # in {_BASE}\?",
        )
    ),
]
MONTHS = "January February March April May June July August September October November December"
_MONTH_NUMBER = {name: at + 1 for at, name in enumerate(MONTHS.split())}
_MONTH_NUMBER |= {name[:3]: number for name, number in _MONTH_NUMBER.items()}
_NAME = "|".join(_MONTH_NUMBER)
_ISO, _BRITISH = "[0-9]{4}-[0-9]{2}-[0-9]{2}", f"[1-9][0-9]? (?:{_NAME}) [0-9]{{4}}"
_AMERICAN = f"(?:{_NAME}) [1-9][0-9]?, [0-9]{{4}}"


def _date(name: str, *, goes_on: bool = False) -> str:
    """An American date has a comma after its year where the sentence goes on; others have none."""
    return f"(?P<{name}>{_ISO}|{_BRITISH}|{_AMERICAN}{',' if goes_on else ''})"


_COUNT = "(?P<count>1 day|(?:[2-9]|[1-9][0-9]+) days)"
_SHIFTS = [
    (+1, rf"(?:What date is|Which date comes) {_COUNT} after {_date('start')}\?"),
    (-1, rf"(?:What date is|Which date comes) {_COUNT} before {_date('start')}\?"),
    (+1, rf"Find the date {_COUNT} after {_date('start')}\."),
    (-1, rf"Find the date {_COUNT} before {_date('start')}\."),
    (+1, rf"Add {_COUNT} to {_date('start')}\."),
    (-1, rf"Subtract {_COUNT} from {_date('start')}\."),
    (+1, rf"What is the date {_COUNT} later than {_date('start')}\?"),
    (-1, rf"What is the date {_COUNT} earlier than {_date('start')}\?"),
    (+1, rf"{_date('start')}, plus {_COUNT}: which date is that\?"),
    (-1, rf"{_date('start')}, minus {_COUNT}: which date is that\?"),
]
_FROM, _TO = _date("start"), _date("end")
_FROM_ON, _TO_ON = _date("start", goes_on=True), _date("end", goes_on=True)
_APARTS = [
    rf"How many days (?:after|later than) {_FROM_ON} is {_TO}\?",
    rf"How many days (?:before|earlier than) {_TO_ON} is {_FROM}\?",
    rf"How many days does it take to get from {_FROM_ON} to {_TO}\?",
    rf"How many days must be added to {_FROM_ON} to get {_TO}\?",
    rf"By how many days does {_TO_ON} follow {_FROM}\?",
    rf"By how many days does {_FROM_ON} precede {_TO}\?",
]
_WEEKDAYS = [
    rf"(?:What|Which) day of the week is {_date('start')}\?",
    rf"On which day of the week does {_date('start', goes_on=True)} fall\?",
    rf"(?:Find|Tell me|Name) the day of the week of {_date('start')}\.",
]
WEEKDAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]


class UnreadableError(Exception):
    """A question that can be read in no way, or in several."""


def read_question(text: str) -> tuple:
    """The problem that a question states: the same tuple for all wordings of it."""
    found = {*_conversions(text), *_rebases(text), *_dates(text)}
    if len(found) != 1:
        raise UnreadableError(f"{text!r} can be read in {len(found)} ways: {found}")
    return found.pop()


def _conversions(text):
    for pattern in _CONVERSIONS:
        if not (match := re.fullmatch(pattern, text)):
            continue
        value, unit, target = match["value"], match["unit"], match["target"]
        sources = {
            words[unit] for words in (SYMBOL, ONE if value == "1" else MANY) if unit in words
        }
        targets = {words[target] for words in (SYMBOL, MANY) if target in words}
        for source in sources:
            for other in targets:
                is_counted = "are there" in text or "How much" in text
                if is_counted and KIND[source] in ("temperature", "speed"):
                    continue
                if KIND[source] == KIND[other]:
                    yield "convert", F(value.replace("minus ", "-")), source, other


def _rebases(text):
    for pattern in _REBASES:
        if not (match := re.fullmatch(pattern, text)):
            continue
        named = match.groupdict()
        base = {"0b": 2, "0o": 8, "0x": 16}.get(named.get("prefix")) or BASES.get(named["base"])
        target = BASES.get(match["target"])
        if base and target and re.fullmatch(DIGITS[base], match["digits"]):
            yield "base", int(match["digits"], base), base, target


def _dates(text):
    for sign, pattern in _SHIFTS:
        if match := re.fullmatch(pattern, text):
            yield "date", day_of(match["start"]), sign * int(match["count"].split()[0])
    for pattern in _APARTS:
        if match := re.fullmatch(pattern, text):
            yield "days", day_of(match["start"]), day_of(match["end"])
    for pattern in _WEEKDAYS:
        if match := re.fullmatch(pattern, text):
            yield "weekday", day_of(match["start"])


def day_of(text: str) -> tuple[int, int, int]:
    """The year, month and day of a date in one of its written forms."""
    if re.fullmatch(_ISO, text):
        year, month, day = (int(part) for part in text.split("-"))
    else:
        year = int(re.search("[0-9]{4}", text)[0])
        month = _MONTH_NUMBER[re.search("[A-Z][a-z]+", text)[0]]
        day = int(re.search(r"\b[0-9]{1,2}\b", text)[0])
    assert 1 <= day <= month_length(year, month), text
    return year, month, day


def is_leap(year: int) -> bool:
    """The Gregorian rule."""
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def month_length(year: int, month: int) -> int:
    """How many days a month has."""
    return (31, 29 if is_leap(year) else 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)[month - 1]


def day_number(day: tuple[int, int, int]) -> int:
    """Days since 1 January of the year 1, which was a Monday."""
    year, month, day_of_month = day
    past = year - 1
    leaps = past // 4 - past // 100 + past // 400
    return (
        365 * past
        + leaps
        + sum(month_length(year, earlier) for earlier in range(1, month))
        + day_of_month
        - 1
    )


def moved(day: tuple[int, int, int], days: int) -> tuple[int, int, int]:
    """The date some days on, month by month."""
    year, month, day_of_month = day
    day_of_month += days
    while day_of_month > month_length(year, month):
        day_of_month -= month_length(year, month)
        year, month = (year, month + 1) if month < 12 else (year + 1, 1)
    while day_of_month < 1:
        year, month = (year, month - 1) if month > 1 else (year - 1, 12)
        day_of_month += month_length(year, month)
    return year, month, day_of_month


def in_base(number: int, base: int) -> str:
    """A number's digits, by division."""
    digits = ""
    while number or not digits:
        number, digit = divmod(number, base)
        digits = "0123456789abcdef"[digit] + digits
    return PREFIX[base] + digits


def converted(value: Fraction, source: str, target: str) -> Fraction:
    """A value in another unit."""
    if KIND[source] != "temperature":
        return value * SIZE[source] / SIZE[target]
    celsius = {
        "°C": lambda: value,
        "K": lambda: value - F("273.15"),
        "°F": lambda: (value - 32) * 5 / 9,
    }[source]()
    return {
        "°C": lambda: celsius,
        "K": lambda: celsius + F("273.15"),
        "°F": lambda: celsius * 9 / 5 + 32,
    }[target]()


def in_digits(value: Fraction) -> str:
    """A value as the tool's documentation says: by long division, with no decimal of Python's."""
    sign, size = "-" if value < 0 else "", abs(value)
    whole, rest = divmod(size.numerator, size.denominator)
    if not rest:
        return f"{sign}{whole}"
    digits = ""
    while rest and len(digits) < 40:
        digit, rest = divmod(10 * rest, size.denominator)
        digits += str(digit)
    if not rest and len(f"{whole}{digits}".lstrip("0")) <= 10:
        return f"{sign}{whole}.{digits}"
    places = 0
    while size * 10**places < 10**5:
        places += 1
    scaled = round(size * 10**places)  # half to even; six digits, or the whole number
    if not places:
        return f"about {sign}{scaled}"
    text = str(scaled).zfill(places + 1)
    return f"about {sign}{f'{text[:-places]}.{text[-places:]}'.rstrip('0').rstrip('.')}"


def answer_of(problem: tuple) -> str:
    """The answer of what `read_question` gives."""
    match problem:
        case "convert", value, source, target:
            return f"{in_digits(converted(value, source, target))} {target}"
        case "base", number, _, target:
            return in_base(number, target)
        case "date", start, days:
            return "{:04}-{:02}-{:02}".format(*moved(start, days))
        case "days", start, end:
            days = day_number(end) - day_number(start)
            return f"{days} day{'' if days == 1 else 's'}"
        case "weekday", day:
            return WEEKDAYS[day_number(day) % 7]
    raise AssertionError(problem)
