"""A calculator for text that a model wrote: an allow-list walk over the parsed tree, with no
`eval`, `exec` or timeout.

In goes the source of one arithmetic expression, out comes its value, or a `ToolError` that says why
not. The caps below bound time and memory before anything large is computed. The same functions
compute the right answers of generated problems, so a tool's output and the answer agree by
construction.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable
from typing import Final

Number = int | float

MAX_SOURCE_CHARS: Final = 256
MAX_DEPTH: Final = 32
MAX_INT_BITS: Final = 256
MAX_EXPONENT: Final = 64
MAX_FACTORIAL: Final = 30


class ToolError(Exception):
    """A tool call that cannot be carried out; the tool prints its text after `error: `."""


def _power(base: Number, exponent: Number) -> Number:
    if abs(exponent) > MAX_EXPONENT:
        raise ToolError(f"exponent above {MAX_EXPONENT}")
    if isinstance(base, int) and base.bit_length() * abs(exponent) > MAX_INT_BITS:
        raise ToolError(f"number above {MAX_INT_BITS} bits")
    value: Number | complex = base**exponent
    if isinstance(value, complex):
        raise ToolError("result is not a real number")
    return value


def _factorial(number: Number) -> int:
    if number < 0 or number != int(number):
        raise ToolError("factorial of a number that is negative or not whole")
    if number > MAX_FACTORIAL:
        raise ToolError(f"factorial above {MAX_FACTORIAL}")
    return math.factorial(int(number))


BINARY: Final[dict[str, Callable[[Number, Number], Number]]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
    "**": _power,
}
FUNCTIONS: Final[dict[str, Callable[[Number], Number]]] = {
    "sqrt": math.sqrt,
    "exp": math.exp,
    "log": math.log,
    "sin": math.sin,
    "cos": math.cos,
    "tan": math.tan,
    "asin": math.asin,
    "acos": math.acos,
    "atan": math.atan,
    "abs": abs,
    "factorial": _factorial,
}

_BINARY_NODES: Final[dict[type[ast.operator], str]] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.FloorDiv: "//",
    ast.Mod: "%",
    ast.Pow: "**",
}
_ALLOWED_TEXT: Final = re.compile(r"[0-9a-z+\-*/%(). \n]+")
# Letters glued to a number ("1if", "0x1f") make the parser warn or mean another base; 1e5 alone is
# a number.
_GLUED_LETTERS: Final = re.compile(r"[0-9]\.?(?!e[+-]?[0-9])[a-z]")


def evaluate(source: str) -> Number:
    """The value of an arithmetic expression written in Python's syntax.

    Args:
        source: Numbers, `+ - * / // % **`, parentheses and the one-argument functions of
            `FUNCTIONS`.

    Returns:
        A finite int or float, as Python itself computes it.

    Raises:
        ToolError: The text is not such an expression, its value is not a finite real number, or a
            cap is exceeded.

    Examples:
        >>> evaluate("sqrt(16) + 7 // 2")
        7.0
    """
    if len(source) > MAX_SOURCE_CHARS:
        raise ToolError(f"expression above {MAX_SOURCE_CHARS} characters")
    if not _ALLOWED_TEXT.fullmatch(source) or _GLUED_LETTERS.search(source):
        raise ToolError("not an arithmetic expression")
    try:
        tree = ast.parse(source.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ToolError("not an arithmetic expression") from None
    try:
        return _value(tree.body, MAX_DEPTH)
    except ZeroDivisionError:
        raise ToolError("division by zero") from None
    except OverflowError:
        raise ToolError("result too large") from None
    except ValueError:
        raise ToolError("argument outside the function's domain") from None


def _value(node: ast.expr, depth: int) -> Number:
    if depth == 0:
        raise ToolError(f"expression nested above {MAX_DEPTH}")
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return _checked(value)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _value(operand, depth - 1)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand, depth - 1)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY_NODES:
            apply = BINARY[_BINARY_NODES[type(op)]]
            return _checked(apply(_value(left, depth - 1), _value(right, depth - 1)))
        case ast.Call(func=ast.Name(id=name), args=[argument], keywords=[]) if name in FUNCTIONS:
            return _checked(FUNCTIONS[name](_value(argument, depth - 1)))
    raise ToolError("not an arithmetic expression")


def _checked(value: Number) -> Number:
    if isinstance(value, int):
        if value.bit_length() > MAX_INT_BITS:
            raise ToolError(f"number above {MAX_INT_BITS} bits")
    elif not math.isfinite(value):
        raise ToolError("result is not finite")
    return value


def format_value(value: Number) -> str:
    """The one way in which values are printed: whole numbers as such, others to 10 significant
    digits.

    Examples:
        >>> format_value(6 / 2), format_value(0.1 + 0.2), format_value(2 / 3)
        ('3', '0.3', '0.6666666667')
    """
    if isinstance(value, int):
        return str(value)
    if value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return f"{value:.10g}"
