"""The parts of a calculator problem, each with its code, its wording and its key.

A wording can be read in one way only. In symbols alone, parentheses stand where Python's precedence
needs them; as soon as words come in, around every operand that is not a single number or
`name(...)`. A negative number is always in parentheses as an operand.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final, NamedTuple

from mixgen.tools.expression import Number

PRECEDENCE: Final = {"+": 1, "-": 1, "*": 2, "/": 2, "//": 2, "%": 2, "**": 4}
ATOM: Final = 9  # precedence of what never needs parentheses: a number, a function call
LOOSE: Final = 0  # and of what always does as an operand: a negative number, anything in words

SYMBOLS: Final = {
    "+": ("+",),
    "-": ("-",),
    "*": ("*", "×"),
    "/": ("/", "÷"),
    "//": ("//",),
    "%": ("%",),
    "**": ("**", "^"),
}
OPERATOR_WORDS: Final = {
    "+": ("plus",),
    "-": ("minus",),
    "*": ("times", "multiplied by"),
    "/": ("divided by", "over"),
    "//": ("floor divided by",),
    "%": ("modulo", "mod"),
    "**": ("to the power of", "raised to"),
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


@lru_cache(maxsize=65_536)
def positive(size: Number) -> Node:
    """A number that is not negative."""
    text = repr(size)
    return Node(size, text, ATOM, text, ATOM, text)


@lru_cache(maxsize=65_536)
def negative(size: Number, in_words: bool) -> Node:
    """Minus a positive number."""
    code = f"-{size!r}"
    return Node(-size, code, LOOSE, f"negative {size!r}" if in_words else code, LOOSE, code)


def join(
    draw: Callable[[], float], wordiness: float, symbol: str, left: Node, right: Node, value: Number
) -> Node:
    """Joins two operands, in parentheses around both for words, by precedence for symbols."""
    binds = PRECEDENCE[symbol]
    at_left = binds + 1 if symbol == "**" else binds
    left_code = left.code if left.binds >= at_left else f"({left.code})"
    right_code = right.code if right.binds > binds else f"({right.code})"
    at_right = binds + 1
    if wordiness:
        at_left = at_right = ATOM
    left_prompt = left.prompt if left.prompt_binds >= at_left else f"({left.prompt})"
    right_prompt = right.prompt if right.prompt_binds >= at_right else f"({right.prompt})"
    names = OPERATOR_WORDS[symbol] if wordiness and draw() < wordiness else SYMBOLS[symbol]
    name = names[0] if len(names) == 1 or draw() < 0.5 else names[1]
    left_key, right_key = left.key, right.key
    if (symbol in ("+", "*")) and right_key < left_key:
        left_key, right_key = right_key, left_key
    return Node(
        value,
        f"{left_code}{symbol}{right_code}",
        binds,
        f"{left_prompt} {name} {right_prompt}",
        LOOSE if wordiness else binds,
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
