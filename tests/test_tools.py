"""The tools: values are Python's own, the rest is refused quickly with a text, nothing raises."""

from __future__ import annotations

import builtins
import itertools
import json
import math
import operator
import os
import re
import subprocess
import sys
import threading
import time
import tracemalloc
import warnings
from pathlib import Path

import pytest
from attacks import ATTACKS
from expression_reader import read_code
from hypothesis import given, settings
from hypothesis import strategies as st

from mixgen.tasks._tictactoe_tree import game_tree
from mixgen.tools import board, expression, session
from mixgen.tools.board import EMPTY_BOARD, BoardSession
from mixgen.tools.expression import (
    BINARY,
    FUNCTIONS,
    MAX_DEPTH,
    MAX_EXPONENT,
    MAX_FACTORIAL,
    MAX_INT_BITS,
    MAX_SOURCE_CHARS,
    ToolError,
    evaluate,
    format_value,
)
from mixgen.tools.session import ExpressionSession

MAX_SECONDS = 0.01  # for any refusal, the fastest of three
MAX_BYTES = 10_000_000  # more than before, for any refusal
MAX_FUZZ_SECONDS = 0.05  # for any text, the faster of two
FUZZ = settings(max_examples=600, deadline=None, derandomize=True, database=None)

ALL_ATTACKS = [code for kind in ATTACKS.values() for code in kind]
ERRORS = {
    "expression above 256 characters",
    "expression nested above 32",
    "not an arithmetic expression",
    "number above 256 bits",
    "exponent above 64",
    "factorial above 30",
    "factorial of a number that is negative or not whole",
    "division by zero",
    "argument outside the function's domain",
    "result is not a real number",
    "result is not finite",
    "result too large",
}


def run(code):
    return ExpressionSession().call("python", {"code": code})


def run_on_board(code):
    return BoardSession().call("python", {"code": code})


def in_time(call, code, *, seconds=MAX_SECONDS, tries=3):
    """What `call(code)` gives; the fastest of some tries must take less than `seconds`."""
    taken = []
    for _ in range(tries):
        start = time.perf_counter()
        output = call(code)
        taken.append(time.perf_counter() - start)
        if taken[-1] < seconds:
            return output
    raise AssertionError((taken, code[:300]))


def refusal(code):
    """The error text for `code`, which must come quickly."""
    output = in_time(run, code)
    assert isinstance(output, str)
    assert output.startswith("error: "), (code[:300], output)
    assert output.removeprefix("error: ") in ERRORS
    return output.removeprefix("error: ")


@pytest.mark.parametrize(
    ("code", "value"),
    [
        ("1+2*3", 1 + 2 * 3),
        ("(1+2)*3", (1 + 2) * 3),
        ("2**3**2", 2**3**2),
        ("-2**2", -(2**2)),
        ("(-2)**2", (-2) ** 2),
        ("2**-1", 2**-1),
        ("--3", 3),
        ("-+-3", 3),
        ("+7", 7),
        ("7//2", 7 // 2),
        ("-7//2", -7 // 2),
        ("7//-2", 7 // -2),
        ("7%3", 7 % 3),
        ("-7%3", -7 % 3),
        ("7%-3", 7 % -3),
        ("7.5//2", 7.5 // 2),
        ("-7.5%2", -7.5 % 2),
        ("7/2", 7 / 2),
        ("6/3", 6 / 3),
        ("1/3*3", 1 / 3 * 3),
        ("8/4/2", 8 / 4 / 2),
        ("8-4-2", 8 - 4 - 2),
        ("2-3*4+5", 2 - 3 * 4 + 5),
        ("2*3%4", 2 * 3 % 4),
        ("0.1+0.2", 0.1 + 0.2),
        ("1e3+1", 1e3 + 1),
        ("1.5e-3*2", 1.5e-3 * 2),
        (".5+5.", 0.5 + 5.0),
        ("0**0", 0**0),
        ("4**0.5", 4**0.5),
        ("10**60", 10**60),
        ("2**64*2**64*2**64*2**63", 2**255),
        ("sqrt(16)+7//2", math.sqrt(16) + 7 // 2),
        ("exp(1)", math.exp(1)),
        ("log(10)", math.log(10)),
        ("sin(1)**2+cos(1)**2", math.sin(1) ** 2 + math.cos(1) ** 2),
        ("tan(0.5)", math.tan(0.5)),
        ("asin(1)", math.asin(1)),
        ("acos(-1)", math.acos(-1)),
        ("atan(-3)", math.atan(-3)),
        ("abs(-3)", 3),
        ("abs(-3.5)", 3.5),
        ("factorial(0)", 1),
        ("factorial(30)", math.factorial(30)),
        ("factorial(5.0)", 120),
        ("-factorial(3)**2", -36),
        ("sqrt(abs(-16)) * 2", 8.0),
        (" 1 + 1 ", 2),
        ("12345678901234567890*10", 123456789012345678900),
    ],
)
def test_values_are_pythons_own(code, value):
    computed = evaluate(code)
    assert computed == value
    assert type(computed) is type(value)
    assert run(code) == format_value(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3, "3"),
        (-3, "-3"),
        (0, "0"),
        (10**30, "1" + "0" * 30),
        (3.0, "3"),
        (-3.0, "-3"),
        (0.0, "0"),
        (-0.0, "0"),
        (0.1 + 0.2, "0.3"),
        (2 / 3, "0.6666666667"),
        (-1 / 3, "-0.3333333333"),
        (0.5, "0.5"),
        (100.25, "100.25"),
        (1234567890.5, "1234567890"),
        (1234567891.5, "1234567892"),
        (123456.789012345, "123456.789"),
        (1.00000000049, "1"),
        (0.99999999999, "1"),
        (0.0001234567890123, "0.000123456789"),
        (0.00001, "1e-05"),
        (1e14, "100000000000000"),
        (123456789012345.0, "123456789012345"),
        (1e15, "1e+15"),
        (1e300, "1e+300"),
    ],
)
def test_values_are_printed_whole_or_to_ten_significant_digits(value, text):
    assert format_value(value) == text


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("1" * (MAX_SOURCE_CHARS + 1), "256 characters"),
        ("1+" * 200 + "1", "256 characters"),
        (" " * 300, "256 characters"),
        ("1" * 10_000_000, "256 characters"),
        ("(" * 5_000_000, "256 characters"),
        ("-" * MAX_DEPTH + "1", "nested above 32"),
        ("-" * 255 + "1", "nested above 32"),
        ("+" * 255 + "1", "nested above 32"),
        ("1" + "+1" * MAX_DEPTH, "nested above 32"),
        ("1" + "**1" * 60, "nested above 32"),
        ("abs(" * 40 + "1" + ")" * 40, "nested above 32"),
        ("9" * 78, "256 bits"),
        (str(2**MAX_INT_BITS), "256 bits"),
        ("2**64*2**64*2**64*2**64", "256 bits"),
        ("99999**63", "256 bits"),
        ("(10**30)**9", "256 bits"),
        ("10**60*10**60", "256 bits"),
        (f"2**{MAX_EXPONENT + 1}", "exponent above 64"),
        ("2**-65", "exponent above 64"),
        ("1.5**64.5", "exponent above 64"),
        ("9**9**9", "exponent above 64"),
        ("9**9**9**9**9**9", "exponent above 64"),
        ("1**1e308", "exponent above 64"),
        ("0**99999999", "exponent above 64"),
        (f"factorial({MAX_FACTORIAL + 1})", "factorial above 30"),
        ("factorial(1e308)", "factorial above 30"),
        ("factorial(factorial(30))", "factorial above 30"),
        ("factorial(-1)", "negative or not whole"),
        ("factorial(2.5)", "negative or not whole"),
        ("1e308*10", "not finite"),
        ("1e999", "not finite"),
        ("1e999-1e999", "not finite"),
        ("1e308+1e308", "not finite"),
        ("1e300**9", "too large"),
        ("exp(1000)", "too large"),
        ("10.0**64**1*1e300", "not finite"),
        ("1/0", "division by zero"),
        ("1//0", "division by zero"),
        ("1%0", "division by zero"),
        ("1.5%0.0", "division by zero"),
        ("0**-1", "division by zero"),
        ("sqrt(-1)", "domain"),
        ("log(0)", "domain"),
        ("log(-1)", "domain"),
        ("asin(2)", "domain"),
        ("acos(-1.0001)", "domain"),
        ("(-8)**0.5", "not a real number"),
        ("(-8.5)**0.5", "not a real number"),
    ],
)
def test_each_cap_is_refused_quickly_and_names_itself(code, reason):
    assert reason in refusal(code)


@pytest.mark.parametrize(
    "code",
    [
        "1" + "0" * 77,
        f"{2**MAX_INT_BITS - 1}",
        "2**64",
        "2**-64",
        f"factorial({MAX_FACTORIAL})",
        "-" * (MAX_DEPTH - 1) + "1",
        "1" + "+1" * (MAX_DEPTH - 1),
        "1" + " " * (MAX_SOURCE_CHARS - 1),
        "1e308",
    ],
)
def test_what_just_reaches_a_cap_is_computed(code):
    assert not run(code).startswith("error")


@pytest.mark.parametrize("kind", ATTACKS)
def test_every_attack_is_refused_quickly(kind):
    for code in ATTACKS[kind]:
        assert refusal(code)


@pytest.mark.parametrize("kind", ATTACKS)
def test_every_attack_on_a_board_is_refused_quickly_and_changes_nothing(kind):
    for code in ATTACKS[kind]:
        assert_refused(BoardSession(), code, "")
        assert_refused(after_moves(4, 0), code, "")


def test_at_least_200_different_attacks_meet_every_refusal_there_is():
    assert len(set(ALL_ATTACKS)) == len(ALL_ATTACKS) >= 200
    assert {refusal(code) for code in ALL_ATTACKS} == ERRORS
    assert min(len(kind) for kind in ATTACKS.values()) >= 5


@pytest.mark.parametrize("call", [run, run_on_board])
def test_no_attack_takes_10_mb_of_memory(call):
    def peak(function, code):
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        function(code)
        return tracemalloc.get_traced_memory()[1] - before

    tracemalloc.start()
    try:
        assert peak(lambda code: code * MAX_BYTES, "1") >= MAX_BYTES  # it would be seen
        peaks = {code: peak(call, code) for code in ALL_ATTACKS}
    finally:
        tracemalloc.stop()
    worst = max(peaks, key=peaks.get)
    assert 0 < peaks[worst] < MAX_BYTES, (peaks[worst], worst[:300])


def surroundings():
    """What code that escapes could leave changed; files and processes are audited."""
    return {
        "builtins": dict(vars(builtins)),
        "modules": dict(sys.modules),
        "math": dict(vars(math)),
        "tools": [dict(vars(module)) for module in (board, expression, session)],
        "tables": [dict(BINARY), dict(FUNCTIONS)],
        "environment": dict(os.environ),
        "folder": Path.cwd(),
        "limits": (sys.getrecursionlimit(), sys.get_int_max_str_digits(), sys.getswitchinterval()),
        "warnings": list(warnings.filters),
    }


AT_START = surroundings()


def audit(codes, escape=None):
    """Prints what a fresh process does beyond answering; `escape` is done as if by the last."""
    heard = set()
    listening = False

    def hear(event, arguments):
        if listening:
            heard.add(event)

    def call(function, code):
        nonlocal listening
        listening = True
        output = function(code)
        if code is codes[-1] and escape:
            escape()
        listening = False
        return output

    before = surroundings()
    sys.addaudithook(hear)
    accepted = [code for code in codes if not call(run, code).startswith("error: ")]
    accepted += [code for code in codes if not call(run_on_board, code).startswith("error: ")]
    changed = [key for key, value in surroundings().items() if value != before[key]]
    changed += ["threads"] * (threading.active_count() > 1)
    print(json.dumps([len(codes), sorted(heard), changed, accepted]))


def audited_in_a_fresh_process(words, folder):
    """What `audit` finds where no attack has been tried before, and the files that are left."""
    done = subprocess.run(
        [sys.executable, "-B", "-c", f"import test_tools as t; t.audit({words})"],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), sorted(path.name for path in folder.iterdir())


def test_no_attack_runs_imports_opens_or_changes_anything(tmp_path):
    found, files = audited_in_a_fresh_process("t.ALL_ATTACKS", tmp_path)
    assert found == [len(ALL_ATTACKS), ["compile"], [], []]  # a text is compiled to its tree only
    assert not files


@pytest.mark.parametrize(
    ("escape", "event", "changed"),
    [
        ("open('escaped', 'w').close()", "open", []),
        ("__import__('wave')", "import", ["modules"]),
        ("__import__('os').system('true')", "os.system", []),
        ("exec('1')", "exec", []),
        ("setattr(t.builtins, 'escaped', 1)", "", ["builtins"]),
        ("t.threading.Thread(target=t.time.sleep, args=[3], daemon=True).start()", "", ["threads"]),
        ("t.FUNCTIONS.update(escaped=abs)", "", ["tables"]),
        ("setattr(t.expression, 'MAX_DEPTH', 99)", "", ["tools"]),
    ],
)
def test_what_an_attack_that_escapes_does_would_be_seen(escape, event, changed, tmp_path):
    words = f"t.ALL_ATTACKS[:9], lambda: {escape}"
    (count, events, differences, _), files = audited_in_a_fresh_process(words, tmp_path)
    assert count == 9
    assert not event or event in events
    assert differences == changed
    assert files == (["escaped"] if event == "open" else [])


@pytest.mark.parametrize(
    "code", ["1.if 1 else 2", "1.or 2", "(1)(2)", "1 is 1", "1if 1else 2", "0x1for x in y", "1_a"]
)
def test_a_refused_expression_warns_nobody(code):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert run(code).startswith("error: ")
    assert not seen, [str(warning.message) for warning in seen]


CALLS_THAT_ARE_NONE = [
    ("python", {}),
    ("python", {"code": None}),
    ("python", {"code": 5}),
    ("python", {"code": 1.5}),
    ("python", {"code": True}),
    ("python", {"code": b"1+1"}),
    ("python", {"code": ["1+1"]}),
    ("python", {"code": {"code": "1+1"}}),
    ("python", {"Code": "1+1"}),
    ("python", {"source": "1+1"}),
    ("python", None),
    ("python", "1+1"),
    ("python", '{"code": "1+1"}'),
    ("python", ["code"]),
    ("python", 7),
    ("bash", {"code": "1+1"}),
    ("", {"code": "1+1"}),
    ("Python", {"code": "1+1"}),
    (None, {"code": "1+1"}),
    (["python"], {"code": "1+1"}),
    ({}, {"code": "1+1"}),
]


@pytest.mark.parametrize("session", [ExpressionSession, BoardSession])
@pytest.mark.parametrize(("name", "arguments"), CALLS_THAT_ARE_NONE)
def test_another_tool_and_arguments_without_code_give_an_error_text(session, name, arguments):
    assert session().call(name, arguments).startswith("error: ")


A_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?(e[+-][0-9]+)?")
NO_ARITHMETIC = re.compile(r"[^-+*/%() \n0-9.]+")


def assert_contained(code):
    """A text is answered in time with an error or a number, the latter only if it is arithmetic."""
    output = in_time(run, code, seconds=MAX_FUZZ_SECONDS, tries=2)
    assert isinstance(output, str)
    if output.startswith("error: "):
        assert output.removeprefix("error: ") in ERRORS
    else:
        assert A_NUMBER.fullmatch(output), output
        assert set(NO_ARITHMETIC.findall(code)) <= {*FUNCTIONS, "e"}, code
        assert len(code) <= MAX_SOURCE_CHARS


PIECES = st.sampled_from(
    [
        *"0123456789.+-*/%() e\nx_",
        *("**", "//", "sqrt(", "exp(", "log(", "tan(", "asin(", "factorial(", "abs("),
        *("1e308", "1e-308", "64", "30", "2**", "(-", "0.5", "if"),
    ]
)
ARITHMETIC_LIKE = st.lists(PIECES, max_size=40).map("".join)
SHORT_ATTACKS = st.sampled_from([code for code in ALL_ATTACKS if len(code) <= MAX_SOURCE_CHARS])


@st.composite
def variations(draw):
    """An attack in which some of another, or of arithmetic, or any text is put."""
    attack = draw(SHORT_ATTACKS)
    start, end = sorted(draw(st.tuples(*[st.integers(0, len(attack))] * 2)))
    put = draw(st.one_of(SHORT_ATTACKS, ARITHMETIC_LIKE, st.text(max_size=20)))
    return attack[:start] + put + attack[end:]


@FUZZ
@given(st.text(max_size=300))
def test_no_text_escapes_hangs_or_raises(code):
    assert_contained(code)


@FUZZ
@given(ARITHMETIC_LIKE)
def test_no_arithmetic_like_text_escapes_hangs_or_raises(code):
    assert_contained(code)


@FUZZ
@given(variations())
def test_no_variation_of_an_attack_escapes_hangs_or_raises(code):
    assert_contained(code)


def test_no_text_that_is_tried_changes_anything():
    counts = {"error": 0, "number": 0}

    @FUZZ
    @given(st.one_of(st.text(max_size=300), ARITHMETIC_LIKE, variations()))
    def try_texts(code):
        before = surroundings()
        counts["error" if run(code).startswith("error: ") else "number"] += 1
        assert isinstance(run_on_board(code), str)
        assert surroundings() == before

    try_texts()
    for part in ("tools", "tables"):
        assert surroundings()[part] == AT_START[part]
    assert counts["error"] > 100
    assert counts["number"] > 5


def test_pieces_of_python_put_together_never_keep_the_parser_busy():
    """The parser of some versions of Python takes exponential time for a few nested pieces."""
    pieces = ["1", "a", "(", ")", "-", "*", "**", ".", " if ", " else ", " for ", " in ", " not "]
    pieces += [" lambda ", " await ", " yield ", "print ", "exec ", "abs(", "e5", "\n", " "]
    tried = 0
    for parts in itertools.chain.from_iterable(
        itertools.product(pieces, repeat=number) for number in (1, 2, 3)
    ):
        unit = "".join(parts)
        code = (unit * MAX_SOURCE_CHARS)[:MAX_SOURCE_CHARS]
        in_time(run, code, seconds=MAX_FUZZ_SECONDS, tries=2)
        tried += 1
    assert tried > 10_000


NUMBERS = st.one_of(
    st.integers(0, 10**6).map(str),
    st.floats(0, 1e6, allow_nan=False, allow_subnormal=False)
    .map(repr)
    .filter(lambda text: "e" not in text),
)


def compound(inner):
    operators = st.sampled_from(["+", "-", "*", "/", "//", "%", "**"])
    functions = st.sampled_from(
        ["sqrt", "exp", "log", "sin", "cos", "tan", "asin", "acos", "atan", "abs", "factorial"]
    )
    return st.one_of(
        st.tuples(inner, operators, inner).map(lambda parts: f"({''.join(parts)})"),
        st.tuples(functions, inner).map(lambda parts: f"{parts[0]}({parts[1]})"),
        inner.map(lambda text: f"(-{text})"),
    )


PYTHON_OPERATORS = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
    "**": operator.pow,
}


def python_says(tree):
    """What Python's own operators and functions make of a tree, without any cap."""
    match tree:
        case ("number", text):
            return float(text) if "." in text else int(text)
        case ("negative", operand):
            return -python_says(operand)
        case ("call", "abs", argument):
            return abs(python_says(argument))
        case ("call", "factorial", argument):
            value = python_says(argument)
            assert value == int(value)
            return math.factorial(int(value))
        case ("call", name, argument):
            return getattr(math, name)(python_says(argument))
        case (_, symbol, left, right):
            return PYTHON_OPERATORS[symbol](python_says(left), python_says(right))


@FUZZ
@given(st.recursive(NUMBERS, compound, max_leaves=6))
def test_any_expression_has_pythons_own_value_or_an_error_text(code):
    output = run(code)
    try:
        value = evaluate(code)
    except ToolError as error:
        assert output == f"error: {error}"
    else:
        assert value == python_says(read_code(code))
        assert math.isfinite(value)
        assert output == format_value(value)


# The board.

SHOW = "print(board)"


def move(cell, mark):
    return f"board[{cell // 3}][{cell % 3}]='{mark}'"


def after_moves(*cells):
    """A session with these moves played, X first."""
    session = BoardSession()
    for number, cell in enumerate(cells):
        assert session.call("python", {"code": move(cell, "XO"[number % 2])}) == ""
    return session


def state(session):
    return session.call("python", {"code": SHOW})


def assert_refused(session, code, reason):
    """`code` gives an error text and leaves the board as it was."""
    before, stones = state(session), session.board
    assert not before.startswith("error")
    output = in_time(lambda code: session.call("python", {"code": code}), code)
    assert output.startswith("error: "), (code[:300], output)
    assert reason in output
    assert session.board == stones
    assert state(session) == before


def test_a_board_keeps_its_stones_between_calls_and_shows_them():
    session = BoardSession()
    assert state(session) == "...\n...\n...\n"
    assert session.call("python", {"code": f"{move(4, 'X')}\n{SHOW}"}) == "...\n.X.\n...\n"
    assert (
        session.call("python", {"code": f"{move(0, 'O')}\n{move(8, 'X')}\n{SHOW}"})
        == "O..\n.X.\n..X\n"
    )
    assert (
        session.call("python", {"code": f"{SHOW}\n{move(1, 'O')}\n{SHOW}"})
        == "O..\n.X.\n..X\n\nOO.\n.X.\n..X\n"
    )
    assert BoardSession().board == EMPTY_BOARD == "." * 9


def test_the_schema_of_a_board_names_every_print():
    assert all(one in json.dumps(board.BOARD_SCHEMA) for one in board.PRINTS)


def test_the_lines_of_a_board_are_its_rows_columns_and_diagonals():
    session = after_moves(0, 1, 2, 3, 7)
    lines = ["XOX", "O..", ".X.", "XO.", "O.X", "X..", "X..", "X..", ""]
    assert session.call("python", {"code": "print(board.lines)"}) == "\n".join(lines)
    rest = "\n".join(move(cell, mark) for cell, mark in zip((8, 4, 5, 6), "OXOX", strict=True))
    lines = ["XOX", "OXO", "XXO", "XOX", "OXX", "XOO", "XXO", "XXX", "X wins"]
    code = f"{rest}\nprint(board.lines)"
    assert session.call("python", {"code": code}) == "\n".join(lines)


@pytest.mark.parametrize(
    ("cells", "shown"),
    [
        ((0, 3, 1, 4, 2), "XXX\nOO.\n...\nX wins"),
        ((0, 2, 1, 4, 3, 6), "XXO\nXO.\nO..\nO wins"),
        ((0, 1, 2, 4, 3, 5, 7, 6, 8), "XOX\nXOO\nOXX\nDraw"),
        ((0, 1, 2, 3, 4, 5, 7, 6, 8), "XOX\nOXO\nOXX\nX wins"),
    ],
)
def test_a_finished_game_shows_its_result_and_takes_no_further_move(cells, shown):
    session = after_moves(*cells)
    assert state(session) == shown
    for cell in range(9):
        for mark in "XO":
            assert_refused(session, move(cell, mark), "the game is over")


def test_a_taken_cell_is_refused_for_either_side():
    session = after_moves(4, 0)
    for cell in (4, 0):
        assert_refused(session, move(cell, "X"), f"board[{cell // 3}][{cell % 3}] is taken")
        assert_refused(session, move(cell, "O"), "")


def test_a_move_out_of_turn_is_refused():
    assert_refused(BoardSession(), move(4, "O"), "it is X's move")
    assert_refused(after_moves(4), move(0, "X"), "it is O's move")
    assert_refused(BoardSession(), f"{move(4, 'X')}\n{move(0, 'X')}\n{SHOW}", "it is O's move")


def test_a_call_that_fails_on_its_last_line_changes_nothing():
    session = after_moves(4)
    assert_refused(session, f"{move(0, 'O')}\n{move(8, 'X')}\n{SHOW}\n{move(8, 'O')}", "taken")
    assert_refused(session, f"{move(0, 'O')}\n{SHOW}\nfoo", "not a statement; allowed are")
    assert_refused(session, f"{move(0, 'O')}\n{SHOW}\n" * 30, "256 characters")
    assert session.call("python", {"code": f"{move(0, 'O')}\n{SHOW}"}) == "O..\n.X.\n...\n"


def set_rows(stones):
    return "\n".join(f"board[{row}]='{stones[3 * row : 3 * row + 3]}'" for row in range(3))


def test_rows_are_set_to_any_position_of_a_game_that_goes_on_and_to_no_other():
    accepted = set()
    for stones in map("".join, itertools.product(".XO", repeat=9)):
        session = BoardSession()
        output = session.call("python", {"code": f"{set_rows(stones)}\n{SHOW}"})
        if output.startswith("error: "):
            assert output == "error: no game that goes on comes to these rows"
            assert session.board == EMPTY_BOARD
        else:
            assert session.board == stones
            assert output == f"{stones[:3]}\n{stones[3:6]}\n{stones[6:]}\n"
            accepted.add(stones)
    assert len(accepted) == 4520
    assert accepted == set(game_tree())


def test_a_game_goes_on_from_rows_as_from_moves():
    session = BoardSession()
    code = f"board[1]='.X.'\n{move(0, 'O')}\n{SHOW}"
    assert session.call("python", {"code": code}) == "O..\n.X.\n...\n"
    assert_refused(session, move(0, "X"), "board[0][0] is taken")
    assert_refused(session, move(1, "O"), "it is X's move")
    assert session.call("python", {"code": f"{move(1, 'X')}\n{SHOW}"}) == "OX.\n.X.\n...\n"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("board[0]='XX.'", "no game that goes on comes"),
        ("board[0]='O..'", "no game that goes on comes"),
        ("board[0]='XXX'\nboard[1]='OO.'", "no game that goes on comes"),
        (f"{move(4, 'X')}\nboard[0]='O..'", "rows are set before all else"),
        (f"{SHOW}\nboard[0]='X..'", "rows are set before all else"),
        (f"board[1]='.X.'\n{move(4, 'O')}", "is taken"),
        ("board[3]='X..'", "not a statement; allowed are"),
        ("board[0]='X.'", "not a statement; allowed are"),
        ("board[0]='x..'", "not a statement; allowed are"),
    ],
)
def test_rows_that_are_no_position_or_come_late_are_refused(code, reason):
    assert_refused(BoardSession(), code, reason)


def test_rows_are_refused_once_stones_lie_whatever_they_say():
    session = after_moves(4)
    for code in ("board[0]='...'", "board[1]='.X.'", set_rows("O...X...."), set_rows("." * 9)):
        assert_refused(session, code, "rows can be set on an empty board only")


@pytest.mark.parametrize(
    "code",
    [
        "",
        "\n",
        "board",
        "print()",
        "print(board) ",
        " print(board)",
        "print(board);print(board)",
        "print(board)\n",
        "\nprint(board)",
        "print(board)\r\nprint(board)",
        "print( board )",
        "PRINT(board)",
        "print(lines)",
        "print(board.rows)",
        "print(board.lines())",
        "print(board.lines) ",
        "board.lines",
        "board[0][0]='Z'",
        "board[0][0]='x'",
        'board[0][0]="X"',
        "board[0][0]=X",
        "board[0][0] = 'X'",
        "board[0][0]='X' ",
        "board[0][0]='XX'",
        "board[0][0]=''",
        "board[0][0]='.'",
        "board[3][0]='X'",
        "board[0][3]='X'",
        "board[-1][0]='X'",
        "board[0,0]='X'",
        "board[0]='X'",
        "board[0][0][0]='X'",
        "board[00][0]='X'",
        "board[０][0]='X'",
        "board[٠][0]='X'",
        "board[0+0][0]='X'",
        "board[0][0]='X';board[0][1]='O'",
        "board[0][0]='X'\x00",
        "board=[]",
        "board[0][0]=board[0][1]='X'",
        "del board",
        "import os",
        "__import__('os').system('id')",
        "board.__class__",
        "exec('1')",
        "x" * 257,
        "(" * 1_000_000,
        "board[0][0]='X'\n" * 1_000_000,
    ],
    ids=lambda code: ascii(code[:30]),
)
def test_what_is_no_board_statement_is_refused_quickly_and_changes_nothing(code):
    assert_refused(BoardSession(), code, "")
    assert_refused(after_moves(4, 0), code, "")


STATEMENTS = st.one_of(
    st.tuples(st.integers(0, 8), st.sampled_from("XO")).map(lambda parts: move(*parts)),
    st.sampled_from([SHOW, "print(board.lines)"]),
    st.tuples(st.integers(0, 2), st.text("XO.", min_size=3, max_size=3)).map(
        lambda parts: f"board[{parts[0]}]='{parts[1]}'"
    ),
    st.text(alphabet="board[]012='XO'()print \n", max_size=20),
    SHORT_ATTACKS,
    variations(),
)


@FUZZ
@given(st.lists(st.lists(STATEMENTS, max_size=4).map("\n".join), max_size=12))
def test_no_sequence_of_calls_breaks_a_board_or_its_rules(codes):
    session = BoardSession()

    def run_on_another(code):
        other = BoardSession()
        other.board = session.board
        return other.call("python", {"code": code})

    for code in codes:
        before = session.board
        expected = in_time(run_on_another, code, seconds=MAX_FUZZ_SECONDS, tries=2)
        assert session.board == before
        output = session.call("python", {"code": code})
        assert output == expected
        assert isinstance(output, str)
        if output.startswith("error: "):
            assert session.board == before
        assert len(session.board) == 9
        assert set(session.board) <= set("XO.")
        assert session.board in game_tree() or board.result(session.board)
        assert all(old in (".", new) for old, new in zip(before, session.board, strict=True))
