"""Grows the expression trees of calculator problems, from the leaves up.

Values come from the functions that the tool itself uses, so the answer is what the tool prints. An
operator is drawn again where its operands do not suit it (a zero divisor, the logarithm of a
negative number) and where the result would be huge, tiny or dominated by rounding: of 100,000
answers none is off by more than one unit in its tenth digit, against 50-digit arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from mixgen.tasks._wording import Node, join, negative, positive, whole_number, wrap
from mixgen.tools.expression import BINARY, FUNCTIONS, Number

MAX_INT: Final = 10**12  # printed in full; larger whole numbers are not generated
MAX_FLOAT: Final = 1e9  # ten significant digits print without an exponent below this
MIN_FLOAT: Final = 1e-4  # and from this on
MAX_CANCELLATION: Final = 1e-2  # a sum keeps at least this share of its larger operand
ANGULAR: Final = ("sin", "cos", "tan")
MAX_ANGLE: Final = 100  # largest argument of these that is not whole, hence rounded
MAX_TANGENT: Final = 10  # largest tangent: near its poles, rounding of the argument shows
RETRIES: Final = range(4)  # draws of an operator for given operands before giving up


class Settings(Protocol):
    """What the growth reads of the calculator's `Config`."""

    max_digits: int
    max_decimals: int
    decimal_rate: float
    negative_rate: float
    function_rate: float
    operators: list[str]
    functions: list[str]


class Grower:
    """Draws expressions by the calculator's settings; it looks up once what every node reads."""

    def __init__(self, config: Settings) -> None:
        self._max_decimals = config.max_decimals
        self._negative_rate = config.negative_rate
        self._operators = config.operators
        self._functions = config.functions
        self._function_rate = config.function_rate if config.functions else 0.0
        self._decimal_rate = config.decimal_rate if config.max_decimals else 0.0
        # Whole numbers by their number of digits: the first, and how many; 0 has one digit.
        ranges = [(10**digits, 9 * 10**digits) for digits in range(1, config.max_digits)]
        self._whole_ranges = [(0, 10), *ranges]
        self._num_ranges = config.max_digits
        self._max_root = 10 ** (config.max_digits / 2)
        self._max_base = min(MAX_ANGLE, 10**config.max_digits)
        self._max_factorial = min(13, 10**config.max_digits)

    def grow(
        self, draw: Callable[[], float], depth: int, wordiness: float, used: list[str]
    ) -> Node | None:
        """Grows one expression.

        Args:
            draw: Uniform numbers in [0, 1).
            depth: Exact depth of the tree; 0 is a number.
            wordiness: The probability that a node is put into words.
            used: The operators and functions that the expression uses are added to it.

        Returns:
            The expression, or None where no operator suits the operands that were drawn.
        """
        if depth == 0:
            return self._leaf(draw, wordiness)
        if draw() < self._function_rate:
            return self._grow_function(draw, depth, wordiness, used)
        operators = self._operators
        symbol = operators[int(draw() * len(operators))]
        left: Node | None
        right: Node | None
        if symbol == "**":
            left = (
                self.grow(draw, depth - 1, wordiness, used)
                if depth > 1
                else self._signed(draw, wordiness, int(draw() * self._max_base))
            )
            right = whole_number(int(draw() * 5))
        elif depth == 1:
            leaf = self._whole if symbol in ("//", "%") else self._leaf
            left, right = leaf(draw, wordiness), leaf(draw, wordiness)
        else:
            left = self.grow(draw, depth - 1, wordiness, used)
            right = self.grow(draw, int(draw() * depth), wordiness, used)
            if draw() < 0.5:
                left, right = right, left
        if left is None or right is None:
            return None
        for _ in RETRIES:
            value = apply(symbol, left.value, right.value)
            if value is not None:
                used.append(symbol)
                return join(draw, wordiness, symbol, left, right, value)
            symbol = operators[int(draw() * len(operators))]
        return None

    def _grow_function(
        self, draw: Callable[[], float], depth: int, wordiness: float, used: list[str]
    ) -> Node | None:
        functions = self._functions
        name = functions[int(draw() * len(functions))]
        if depth > 1:
            argument = self.grow(draw, depth - 1, wordiness, used)
        else:
            argument = self._argument(draw, name, wordiness)
        if argument is None:
            return None
        for _ in RETRIES:
            value = apply_function(name, argument.value)
            if value is not None:
                used.append(name)
                return wrap(draw, wordiness, name, argument, value)
            name = functions[int(draw() * len(functions))]
        return None

    def _leaf(self, draw: Callable[[], float], wordiness: float) -> Node:
        """A number: whole or decimal, positive or negative."""
        if draw() >= self._decimal_rate:
            return self._whole(draw, wordiness)
        low, count = self._whole_ranges[int(draw() * self._num_ranges)]
        return self._decimal(draw, wordiness, low + int(draw() * count))

    def _whole(self, draw: Callable[[], float], wordiness: float) -> Node:
        low, count = self._whole_ranges[int(draw() * self._num_ranges)]
        size = low + int(draw() * count)
        if draw() >= self._negative_rate or not size:
            return whole_number(size)
        return negative(size, draw() < wordiness)

    def _decimal(self, draw: Callable[[], float], wordiness: float, whole: int) -> Node:
        """A decimal with this whole part; a last digit other than 0 leaves it one spelling."""
        digits = 1 + int(draw() * self._max_decimals)
        fraction = int(draw() * 10**digits)
        if fraction % 10 == 0:
            fraction += 1 + int(draw() * 9)
        return self._signed(draw, wordiness, float(f"{whole}.{fraction:0{digits}d}"))

    def _signed(self, draw: Callable[[], float], wordiness: float, size: Number) -> Node:
        if not size or draw() >= self._negative_rate:
            return positive(size)
        return negative(size, draw() < wordiness)

    def _argument(self, draw: Callable[[], float], name: str, wordiness: float) -> Node:
        """A number inside the function's domain."""
        if name == "factorial":
            return whole_number(int(draw() * self._max_factorial))
        if name in ("asin", "acos"):
            if self._decimal_rate and draw() < 0.9:
                return self._decimal(draw, wordiness, 0)
            return self._signed(draw, wordiness, int(draw() * 2))
        if name == "exp":
            whole = int(draw() * 9)
            if draw() < self._decimal_rate:
                return self._decimal(draw, wordiness, whole)
            return self._signed(draw, wordiness, whole)
        if name in ANGULAR:
            if draw() < self._decimal_rate:
                return self._decimal(draw, wordiness, int(draw() * self._max_base))
            return self._whole(draw, wordiness)
        if name == "sqrt" and draw() < 0.5:
            root = int(draw() * self._max_root)
            return whole_number(root * root)
        return self._leaf(draw, wordiness)


def apply(symbol: str, left: Number, right: Number) -> Number | None:
    """The operator's value, or None if the operands do not suit it or the value prints badly."""
    if symbol == "+" or symbol == "-":
        value = left + right if symbol == "+" else left - right
        if type(value) is float and abs(value) < MAX_CANCELLATION * max(abs(left), abs(right)):
            return None
    elif symbol == "**":
        if type(right) is not int or not 0 <= right <= 4 or abs(left) > 1000 or not (left or right):
            return None
        value = BINARY[symbol](left, right)
    else:
        if symbol != "*":
            if not right:
                return None
            if symbol != "/" and (type(left) is float or type(right) is float):
                return None
        value = BINARY[symbol](left, right)
    if type(value) is int:
        return value if -MAX_INT <= value <= MAX_INT else None
    return value if MIN_FLOAT <= abs(value) < MAX_FLOAT or not value else None


def apply_function(name: str, argument: Number) -> Number | None:
    """The function's value, or None outside its domain or where the argument's rounding shows."""
    if name in ("sqrt", "log"):
        if argument < 0 or (name == "log" and argument == 0):
            return None
    elif name in ("asin", "acos"):
        if not -1 <= argument <= 1:
            return None
    elif name == "exp":
        if not -9 <= argument <= 20:
            return None
    elif name == "factorial":
        if not isinstance(argument, int) or not 0 <= argument <= 12:
            return None
    elif name in ANGULAR and type(argument) is float and abs(argument) > MAX_ANGLE:
        return None
    value = FUNCTIONS[name](argument)
    if isinstance(value, int) or value == 0:
        return value
    size = abs(value)
    if size >= (MAX_TANGENT if name == "tan" else MAX_FLOAT):
        return None
    # Near its zero a function of a rounded argument keeps few digits; exp has no zero.
    return value if size >= (MIN_FLOAT if name == "exp" else MAX_CANCELLATION) else None
