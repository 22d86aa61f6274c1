"""The units tool: exact by other arithmetic, refuses the rest quickly with a text, never raises."""

from __future__ import annotations

import itertools
import re
import time
from datetime import date, timedelta
from fractions import Fraction

import pytest
from attacks import ATTACKS
from hypothesis import given, settings
from hypothesis import strategies as st
from units_reader import KIND, SIZE, WEEKDAYS, converted, day_number, in_base, in_digits

from mixgen.tools.expression import ToolError
from mixgen.tools.units import FORMS, MAX_SOURCE_CHARS, UNITS, UNITS_SCHEMA, UnitsSession, read

FUZZ = settings(max_examples=200, deadline=None, derandomize=True, database=None)
MAX_SECONDS = 0.05  # for any text, the faster of two
ALL_ATTACKS = [code for kind in ATTACKS.values() for code in kind]
SAME_KIND = [pair for pair in itertools.product(KIND, KIND) if KIND[pair[0]] == KIND[pair[1]]]
NUMBERS = st.builds(
    lambda sign, whole, decimals: f"{sign}{whole}{decimals and f'.{decimals}'}",
    st.sampled_from(["", "-"]),
    st.integers(0, 10**12 - 1) | st.integers(0, 500),
    st.text("0123456789", max_size=3) | st.text("0123456789", max_size=12),
)
DATES = st.dates(min_value=date(1, 1, 1), max_value=date(9999, 12, 31))


def run(code):
    taken = []
    for _ in range(2):
        start = time.perf_counter()
        output = UnitsSession().call("python", {"code": code})
        taken.append(time.perf_counter() - start)
    assert min(taken) < MAX_SECONDS, (taken, code[:300])
    return output


# Units.


def test_every_unit_is_as_large_as_its_source_says_and_of_its_kind():
    assert set(UNITS) == set(KIND)
    for symbol, unit in UNITS.items():
        assert unit.kind == KIND[symbol]
    for source, target in SAME_KIND:
        for value in ("1", "-40", "300", "0.37"):
            if KIND[source] == "temperature" and Fraction(value) < 0 and source == "K":
                continue
            expected = f"{in_digits(converted(Fraction(value), source, target))} {target}"
            assert run(f"convert({value},'{source}','{target}')") == expected


@pytest.mark.parametrize(
    ("code", "output"),
    [
        ("convert(1,'mi','m')", "1609.344 m"),
        ("convert(1,'nmi','m')", "1852 m"),
        ("convert(1,'lb','g')", "453.59237 g"),
        ("convert(1,'st','lb')", "14 lb"),
        ("convert(1,'t','kg')", "1000 kg"),
        ("convert(1,'US gal','L')", "3.785411784 L"),
        ("convert(1,'imp gal','L')", "4.54609 L"),
        ("convert(1,'imp pt','imp fl oz')", "20 imp fl oz"),
        ("convert(1,'US liq qt','US fl oz')", "32 US fl oz"),
        ("convert(1,'ac','ft²')", "43560 ft²"),
        ("convert(1,'mi²','ac')", "640 ac"),
        ("convert(36,'km/h','m/s')", "10 m/s"),
        ("convert(1,'KiB','B')", "1024 B"),
        ("convert(1,'kB','B')", "1000 B"),
        ("convert(-40,'°C','°F')", "-40 °F"),
        ("convert(0,'K','°C')", "-273.15 °C"),
        ("convert(-459.67,'°F','K')", "0 K"),
        ("convert(0,'mi','km')", "0 km"),
        ("convert(-2.50,'m','cm')", "-250 cm"),
        ("convert(1,'km','mi')", "about 0.621371 mi"),
        ("convert(1,'°F','°C')", "about -17.2222 °C"),
        ("convert(2999999.9,'s','min')", "about 50000 min"),
        ("convert(1,'mm','km')", "0.000001 km"),
        ("convert(1,'mm','mi')", "about 0.000000621371 mi"),
        ("convert(100000001,'s','min')", "about 1666667 min"),
        ("convert(12345678901.5,'m','m')", "about 12345678902 m"),
        ("convert(12345678900.5,'m','m')", "about 12345678900 m"),
        ("convert(1234567890.5,'m','m')", "about 1234567890 m"),
        ("convert(123456789.5,'m','m')", "123456789.5 m"),
        ("convert(999999999999,'GiB','bit')", "8589934591991410065408 bit"),
        ("base(0xff,2)", "0b11111111"),
        ("base(0XFF,2)", "error"),
        ("base(0xFf,10)", "255"),
        ("base(0,16)", "0x0"),
        ("base(0o17,16)", "0xf"),
        ("base(007,2)", "error"),
        ("date('2024-02-28')+1", "2024-02-29"),
        ("date('2023-02-28')+1", "2023-03-01"),
        ("date('1900-02-28')+1", "1900-03-01"),
        ("date('2000-03-01')-1", "2000-02-29"),
        ("date('9999-12-31')+1", "error"),
        ("date('0001-01-01')-1", "error"),
        ("date('2024-03-01')-date('2023-12-25')", "67 days"),
        ("date('2024-03-01')-date('2024-02-29')", "1 day"),
        ("date('2024-02-29')-date('2024-03-01')", "-1 day"),
        ("date('2024-02-29')-date('2024-02-29')", "0 days"),
        ("weekday('2024-03-01')", "Friday"),
        ("weekday('2023-02-29')", "error"),
        ("weekday('2024-13-01')", "error"),
        ("weekday('0000-01-01')", "error"),
    ],
)
def test_known_answers(code, output):
    assert run(code) == output if output != "error" else run(code).startswith("error: ")


@FUZZ
@given(NUMBERS, st.sampled_from(SAME_KIND))
def test_every_conversion_is_exact_or_about_the_value_by_long_division(value, units):
    source, target = units
    output = run(f"convert({value},'{source}','{target}')")
    number = Fraction(value)
    if KIND[source] == "temperature" and converted(number, source, "K") < 0:
        assert output == "error: below absolute zero"
        return
    exact = converted(number, source, target)
    assert output == f"{in_digits(exact)} {target}"
    printed = output.removesuffix(f" {target}")
    assert re.fullmatch(r"(?:about )?-?(?:0|[1-9][0-9]*)(?:\.[0-9]*[1-9])?", printed)
    if not printed.startswith("about "):
        assert Fraction(printed) == exact
        return
    rounded = Fraction(printed.removeprefix("about "))
    assert rounded != exact
    assert abs(rounded - exact) <= abs(exact) * Fraction(5, 10**6)


def test_sizes_of_the_reader_are_consistent_among_themselves():
    """The oracle is checked by facts that neither table states."""
    assert SIZE["mi"] == 5280 * SIZE["ft"] == 1760 * SIZE["yd"]
    assert SIZE["lb"] == 16 * SIZE["oz"]
    assert SIZE["st"] == 14 * SIZE["lb"]
    assert SIZE["US gal"] == 128 * SIZE["US fl oz"] == 4 * SIZE["US liq qt"]
    assert SIZE["US gal"] * 1000 == 231 * SIZE["in"] ** 3
    assert SIZE["imp gal"] == 160 * SIZE["imp fl oz"] == 8 * SIZE["imp pt"]
    assert SIZE["ac"] == 4840 * 9 * SIZE["ft²"]
    assert SIZE["mi²"] == 640 * SIZE["ac"]
    assert SIZE["ft²"] * 100 == SIZE["ft"] ** 2
    assert SIZE["ft/s"] * 1000 == SIZE["ft"] * 3600
    assert SIZE["wk"] == 168 * SIZE["h"]


# Bases and dates.


@FUZZ
@given(st.integers(0, 10**12 - 1), st.sampled_from([2, 8, 10, 16]), st.sampled_from([2, 8, 10, 16]))
def test_every_number_in_every_base_is_what_division_says_and_leads_back(number, base, target):
    output = run(f"base({in_base(number, base)},{target})")
    assert output == in_base(number, target)
    assert int(output, 0) == number


@FUZZ
@given(DATES, st.integers(-9_999_999, 9_999_999))
def test_dates_move_as_datetime_says_or_leave_the_calendar(day, days):
    output = run(f"date('{day}'){days:+}")
    try:
        expected = str(day + timedelta(days))
    except OverflowError:
        expected = "error: not in the years 1 to 9999"
    assert output == expected


@FUZZ
@given(DATES, DATES)
def test_days_apart_and_days_of_the_week_are_counted_right(first, second):
    numbers = [day_number((day.year, day.month, day.day)) for day in (first, second)]
    days = numbers[1] - numbers[0]
    assert run(f"date('{second}')-date('{first}')") == f"{days} day{'s' * (abs(days) != 1)}"
    assert run(f"weekday('{first}')") == WEEKDAYS[numbers[0] % 7] == first.strftime("%A")


# What is refused, and how.


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("convert(1,'mile','km')", "unknown unit 'mile'"),
        ("convert(1,'km','M')", "unknown unit 'M'"),
        ("convert(1,'km','kg')", "km measures length, kg mass"),
        ("convert(1,'gal','L')", "unknown unit 'gal'"),
        ("convert(-1,'K','°C')", "below absolute zero"),
        ("base(0b12,10)", "not a call"),
        ("base(12,3)", "bases are 2, 8, 10 and 16"),
        ("base(0xfg,2)", "not a call"),
        ("base(-5,2)", "not a call"),
        ("base(0b,2)", "not a call"),
        ("date('2023-02-29')+1", "no such date: 2023-02-29"),
        ("date('2024-3-1')+1", "not a call"),
        ("date('2024-03-01')", "not a call"),
        ("date('2024-03-01')+date('2024-03-01')", "not a call"),
        ("date('2024-03-01')+-1", "not a call"),
        ("date('2024-03-01')+99999999", "not a call"),
        ("date('２０２４-03-01')+1", "not a call"),
        ("convert(1e3,'km','mi')", "not a call"),
        ("convert(.5,'km','mi')", "not a call"),
        ("convert(1.,'km','mi')", "not a call"),
        ("convert(٣,'km','mi')", "not a call"),
        ("convert(1, 'km', 'mi')", "not a call"),
        ("convert(1,'km','mi')\n", "not a call"),
        ("convert(1,'km','mi')\nconvert(1,'km','mi')", "not a call"),
        ("convert(1000000000000,'km','mi')", "not a call"),
        ("weekday('2024-03-01')" + " " * MAX_SOURCE_CHARS, "code above 128 characters"),
    ],
)
def test_what_is_not_a_call_is_refused_with_its_reason(code, error):
    assert run(code).startswith(f"error: {error}")


@pytest.mark.parametrize("code", ALL_ATTACKS)
def test_every_attack_is_refused(code):
    assert run(code).startswith("error: ")


def test_a_call_of_something_else_is_refused():
    for name, arguments in (("bash", {"code": FORMS[0]}), ("python", {}), ("python", {"code": 7})):
        output = UnitsSession().call(name, arguments)
        assert output == "error: the only tool is python(code)"


@FUZZ
@given(st.text(max_size=200))
def test_any_text_is_answered_with_a_text(code):
    assert run(code).startswith("error: ")


@FUZZ
@given(st.sampled_from(FORMS), st.data())
def test_a_call_with_characters_changed_is_answered_with_a_text(form, data):
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(form)))
        new = data.draw(st.text("0123456789.-+'(),bxoaefFmik²°é\0\n ", max_size=3))
        form = form[:at] + new + form[at + data.draw(st.integers(0, 3)) :]
    output = run(form)
    assert isinstance(output, str)
    assert output


@FUZZ
@given(
    st.sampled_from(["convert({},'{}','{}')", "base(0x{},{})", "date('{}-{}-01')+{}"]),
    st.lists(st.text("0123456789abcdef.-", max_size=60), min_size=3, max_size=3),
)
def test_a_call_with_any_numbers_in_it_is_answered_with_a_text(form, parts):
    assert isinstance(run(form.format(*parts)), str)


# What a call asks for.


def test_calls_are_equal_if_and_only_if_they_ask_the_same():
    same = [
        ["convert(12.5,'mi','km')", "convert(12.50,'mi','km')"],
        ["convert(12.5,'mi','m')"],
        ["convert(20.1168,'km','km')"],
        ["convert(12.4,'mi','km')"],
        ["base(0xff,2)", "base(255,2)", "base(0b11111111,2)", "base(0xFF,2)"],
        ["base(255,8)"],
        ["date('2024-03-01')+45", "date('2024-03-01')+045"],
        ["date('2024-03-01')-45"],
        ["date('2024-03-02')+44"],
        ["date('2024-03-01')-date('2023-12-25')"],
        ["date('2024-03-02')-date('2023-12-26')"],
        ["date('2023-12-25')-date('2024-03-01')"],
        ["weekday('2024-03-01')"],
        ["weekday('2024-03-08')"],
    ]
    asked = [[read(code) for code in group] for group in same]
    for (i, group), (j, other) in itertools.product(enumerate(asked), enumerate(asked)):
        for one, two in itertools.product(group, other):
            assert (one == two) == (i == j), (one, two)
    with pytest.raises(ToolError):
        read("nonsense")


def test_the_schema_names_every_form_and_every_unit():
    said = UNITS_SCHEMA["function"]["parameters"]["properties"]["code"]["description"]
    for form in FORMS:
        assert form in said
        assert not run(form).startswith("error")
    assert said.split("Units are ")[1].split(", ") == list(UNITS)
