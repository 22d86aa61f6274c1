"""The parts of a calculator problem, each with its code, its wording and its key.

A wording can be read in one way only. In symbols alone, parentheses stand where Python's precedence
needs them; as soon as words come in, around every operand that is not a single number or
`name(...)`. A negative number is always in parentheses as an operand.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Final, NamedTuple

from mixgen.tools.expression import Number

ATOM: Final = 9  # precedence of what never needs parentheses: a number, a function call
LOOSE: Final = 0  # and of what always does as an operand: a negative number, anything in words


class Operator(NamedTuple):
    """How a binary operator is written, and how tightly it and its operands bind."""

    binds: int
    at_left: int  # an operand binds at least as tightly as this, or is put into parentheses
    at_right: int
    symbols: tuple[str, str]
    words: tuple[str, str]
    commutes: bool = False


OPERATORS: Final = {
    "+": Operator(1, 1, 2, ("+", "+"), ("plus", "plus"), commutes=True),
    "-": Operator(1, 1, 2, ("-", "-"), ("minus", "minus")),
    "*": Operator(2, 2, 3, ("*", "×"), ("times", "multiplied by"), commutes=True),
    "/": Operator(2, 2, 3, ("/", "÷"), ("divided by", "over")),
    "//": Operator(2, 2, 3, ("//", "//"), ("floor divided by", "floor divided by")),
    "%": Operator(2, 2, 3, ("%", "%"), ("modulo", "mod")),
    "**": Operator(4, 5, 5, ("**", "^"), ("to the power of", "raised to")),
}
FUNCTION_WORDS: Final = {
    "sqrt": "the square root of",
    "exp": "the exponential of",
    "log": "the natural logarithm of",
    "sin": "the sine of",
    "cos": "the cosine of",
    "tan": "the tangent of",
    "asin": "the arcsine of",
    "acos": "the arccosine of",
    "atan": "the arctangent of",
    "abs": "the absolute value of",
    "factorial": "the factorial of",
}


class Node(NamedTuple):
    """A finished expression."""

    value: Number
    code: str
    binds: int  # precedence of the outermost operator in `code`
    prompt: str
    prompt_binds: int
    key: str  # the tree in canonical form: operands of + and * in order


def positive(size: Number) -> Node:
    """A number that is not negative."""
    text = repr(size)
    return Node(size, text, ATOM, text, ATOM, text)


whole_number = cache(positive)  # of whole numbers there are 10,000


def negative(size: Number, in_words: bool) -> Node:
    """Minus a positive number."""
    code = f"-{size!r}"
    return Node(-size, code, LOOSE, f"negative {size!r}" if in_words else code, LOOSE, code)


def join(
    draw: Callable[[], float], wordiness: float, symbol: str, left: Node, right: Node, value: Number
) -> Node:
    """Joins two operands, in parentheses around both for words, by precedence for symbols."""
    _, left_code, left_binds, left_prompt, left_prompt_binds, left_key = left
    _, right_code, right_binds, right_prompt, right_prompt_binds, right_key = right
    binds, at_left, at_right, names, words, commutes = OPERATORS[symbol]
    if left_binds < at_left:
        left_code = f"({left_code})"
    if right_binds < at_right:
        right_code = f"({right_code})"
    prompt_binds = binds
    if wordiness:
        at_left = at_right = ATOM
        prompt_binds = LOOSE
        if draw() < wordiness:
            names = words
    if left_prompt_binds < at_left:
        left_prompt = f"({left_prompt})"
    if right_prompt_binds < at_right:
        right_prompt = f"({right_prompt})"
    if commutes and right_key < left_key:
        left_key, right_key = right_key, left_key
    return Node(
        value,
        f"{left_code}{symbol}{right_code}",
        binds,
        f"{left_prompt} {names[draw() < 0.5]} {right_prompt}",
        prompt_binds,
        f"({left_key}{symbol}{right_key})",
    )


def wrap(
    draw: Callable[[], float], wordiness: float, name: str, argument: Node, value: Number
) -> Node:
    """Applies a function: `sin(...)`, or in words, which then need parentheses as an operand."""
    code = f"{name}({argument.code})"
    key = f"{name}({argument.key})"
    if not wordiness or draw() >= wordiness:
        return Node(value, code, ATOM, f"{name}({argument.prompt})", ATOM, key)
    inner = argument.prompt if argument.prompt_binds == ATOM else f"({argument.prompt})"
    return Node(value, code, ATOM, f"{FUNCTION_WORDS[name]} {inner}", LOOSE, key)
