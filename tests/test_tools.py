"""The tools: values are Python's own, the rest is refused quickly with a text, nothing raises."""

from __future__ import annotations

import math
import operator
import time
import warnings

import pytest
from expression_reader import read_code
from hypothesis import given, settings
from hypothesis import strategies as st

from mixgen.tools.board import BoardSession
from mixgen.tools.expression import (
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

MAX_SECONDS = 0.05  # for any refusal
FUZZ = settings(max_examples=600, deadline=None, derandomize=True, database=None)

REFUSED = "not an arithmetic expression"


def run(code):
    return ExpressionSession().call("python", {"code": code})


def refusal(code):
    """The error text for `code`, which must come quickly."""
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        output = run(code)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < MAX_SECONDS, (seconds, code)
    assert isinstance(output, str)
    assert output.startswith("error: "), (code, output)
    assert len(output) > len("error: ")
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


ATTACKS = [
    "",
    " ",
    "\n",
    "()",
    "x",
    "pi",
    "e",
    "nan",
    "inf",
    "__import__('os').system('id')",
    "().__class__.__bases__[0].__subclasses__()",
    "(1).__class__",
    "1 .real",
    "1..real",
    "1.0.hex()",
    "sqrt.__self__",
    "sqrt.__globals__",
    "sqrt",
    "sqrt()",
    "sqrt(1, 2)",
    "sqrt(x=1)",
    "sqrt(*[1])",
    "sqrt(*1)",
    "sqrt(**1)",
    "sqrt(1,)",
    "sqrt(sqrt)",
    "sqrt(1)(2)",
    "pow(2, 3)",
    "eval('1')",
    "exec('1')",
    "open('/etc/passwd')",
    "print(1)",
    "input()",
    "abs.real",
    "math.sqrt(4)",
    "lambda: 1",
    "(lambda x: x)(1)",
    "[x for x in (1, 2)]",
    "{x for x in (1, 2)}",
    "{1: 2}",
    "(x for x in (1, 2))",
    "(x := 1)",
    "x = 1",
    "x == 1",
    "1 < 2",
    "1 == 1",
    "1 if 1 else 2",
    "1if 1else 2",
    "1.if 1 else 2",
    "1or 2",
    "1.or 2",
    "1 and 2",
    "not 1",
    "1 is 1",
    "1 in (1, 2)",
    "await 1",
    "yield 1",
    "yield",
    "return 1",
    "import os",
    "del x",
    "pass",
    "1; 2",
    "1\n2",
    "1\r2",
    "1, 2",
    "(1, 2)",
    "(1,)",
    "*1",
    "[1]",
    "[1][0]",
    "1[0]",
    "1:2",
    "f'{1}'",
    "'a'",
    "'a' * 10",
    '"a" + "b"',
    "b'a'",
    "1j",
    "1J",
    "(1+2j)",
    "True",
    "False",
    "None",
    "...",
    "1_000",
    "0x1f",
    "0b11",
    "0o17",
    "0777",
    "1e",
    "1e5e5",
    "1.2.3",
    "１+１",
    "٣+٤",
    "²",
    "1²",
    "½",
    "1−2",
    "2×3",
    "2^3",
    "1|2",
    "1&2",
    "~1",
    "1<<2",
    "1>>2",
    "1@2",
    "1 <> 2",
    "1!",
    "5 factorial",
    "1+",
    "+",
    "*1",
    "1 1",
    "1(2)",
    "(1)(2)",
    "((1)",
    "(1))",
    "(" * 120 + "1" + ")" * 119,
    "(" * 250,
    ")" * 250,
    "1\x00",
    "\x001",
    "1+\x0b1",
    "1\ufeff",
    "\u200b1",
    "\ud800",
    "# 1",
    "1 # 2",
    "1\\\n+1",
    "$1",
    "1`",
    "sqrt\uff08" + "4)",
    "ｓqrt(4)",
    "ſqrt(4)",
    "<|python_start|>1+1<|python_end|>",
    "9**" * 80 + "9",
    "abs(" * 63,
    "print(open('/etc/passwd').read())",
    "breakpoint()",
    "globals()",
    "vars()",
    "type(1)",
    "getattr(1, 'real')",
    "str(1)",
    "int(1.5)",
    "factorial.__call__(5)",
    "sum([1, 2])",
    "max(1, 2)",
    "_",
    "__builtins__",
]


@pytest.mark.parametrize("code", ATTACKS, ids=lambda code: ascii(code[:30]))
def test_what_is_not_plain_arithmetic_is_refused_quickly(code):
    assert refusal(code)


def test_at_least_60_attacks_are_tried():
    assert len(set(ATTACKS)) >= 60


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


@FUZZ
@given(st.text(max_size=300))
def test_any_text_is_answered_with_text(code):
    assert isinstance(run(code), str)


PIECES = st.sampled_from(
    [
        *"0123456789.+-*/%() e\nx_",
        *("**", "//", "sqrt(", "exp(", "log(", "tan(", "asin(", "factorial(", "abs("),
        *("1e308", "1e-308", "64", "30", "2**", "(-", "0.5", "if"),
    ]
)


@FUZZ
@given(st.lists(PIECES, max_size=40).map("".join))
def test_any_arithmetic_like_text_is_answered_with_text(code):
    assert isinstance(run(code), str)


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
    before = state(session)
    assert not before.startswith("error")
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        output = session.call("python", {"code": code})
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < MAX_SECONDS
    assert output.startswith("error: ")
    assert reason in output
    assert state(session) == before


def test_a_board_keeps_its_stones_between_calls_and_shows_them():
    session = BoardSession()
    assert state(session) == "...\n...\n..."
    assert session.call("python", {"code": f"{move(4, 'X')}\n{SHOW}"}) == "...\n.X.\n..."
    assert (
        session.call("python", {"code": f"{move(0, 'O')}\n{move(8, 'X')}\n{SHOW}"})
        == "O..\n.X.\n..X"
    )
    assert (
        session.call("python", {"code": f"{SHOW}\n{move(1, 'O')}\n{SHOW}"})
        == "O..\n.X.\n..X\nOO.\n.X.\n..X"
    )
    assert BoardSession().board == "." * 9


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
    assert_refused(session, f"{move(0, 'O')}\n{SHOW}\nfoo", "not board[row][column]")
    assert_refused(session, f"{move(0, 'O')}\n{SHOW}\n" * 30, "256 characters")
    assert session.call("python", {"code": f"{move(0, 'O')}\n{SHOW}"}) == "O..\n.X.\n..."


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


LINES = st.one_of(
    st.tuples(st.integers(0, 8), st.sampled_from("XO")).map(lambda parts: move(*parts)),
    st.just(SHOW),
    st.text(alphabet="board[]012='XO'()print \n", max_size=20),
)


@FUZZ
@given(st.lists(st.lists(LINES, max_size=4).map("\n".join), max_size=12))
def test_no_sequence_of_calls_breaks_a_board_or_its_rules(codes):
    session = BoardSession()
    for code in codes:
        before = session.board
        output = session.call("python", {"code": code})
        assert isinstance(output, str)
        if output.startswith("error: "):
            assert session.board == before
        assert len(session.board) == 9
        assert set(session.board) <= set("XO.")
        assert session.board.count("X") - session.board.count("O") in (0, 1)
        assert all(old in (".", new) for old, new in zip(before, session.board, strict=True))
