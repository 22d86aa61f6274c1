"""Calculator: arithmetic in words, symbols or both, worked out with one call of the python tool.

    user       What is (7 plus 5) times 3?
    assistant  python: (7+5)*3
    tool       36
    assistant  The answer is 36.

An expression grows from the leaves up, and each node holds everything about itself: its value, its
code, its wording and its key. Values come from the functions that the tool itself uses, so the
answer is what the tool prints. An operator is drawn again where its operands do not suit it (a zero
divisor, a logarithm of a negative number) and where the result would be huge, tiny or dominated by
rounding: what is printed has no float noise in its 10 digits.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import ClassVar, Final, NamedTuple

from mixgen.errors import TaskError, nearest
from mixgen.tasks.base import Example, Message, Score, Task, assistant, call, register, tool, user
from mixgen.tools.expression import BINARY, FUNCTIONS, Number, ToolError, evaluate, format_value
from mixgen.tools.session import EXPRESSION_SCHEMA, ExpressionSession

PRECEDENCE: Final = {"+": 1, "-": 1, "*": 2, "/": 2, "//": 2, "%": 2, "**": 4}
ATOM: Final = 9  # the precedence of what never needs parentheses: a number, a function call
LOOSE: Final = (
    0  # and of what always does as an operand: a negative number, and anything said in words
)

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
PHRASINGS: Final = (
    "What is {}?",
    "Calculate {}.",
    "Compute {}.",
    "Evaluate {}.",
    "How much is {}?",
    "Work out {}.",
    "Find the value of {}.",
    "{} = ?",
    "Tell me {}.",
    "Please compute {}.",
)
ANSWER: Final = "The answer is {}."

MAX_INT: Final = 10**12  # printed in full; larger whole numbers are not generated
MAX_FLOAT: Final = (
    1e9  # 10 significant digits print without an exponent below this, and above MIN_FLOAT
)
MIN_FLOAT: Final = 1e-4
MAX_CANCELLATION: Final = 1e-2  # a sum of decimals keeps at least this share of its larger operand

RETRIES: Final = range(
    4
)  # draws of an operator for given operands before the expression is given up


class Node(NamedTuple):
    """A finished expression."""

    value: Number
    code: str
    binds: int  # precedence of the outermost operator in `code`
    prompt: str
    prompt_binds: int
    key: str


@register
class Calculator(Task):
    """Arithmetic on integers, decimals and functions, with one call of the python tool."""

    name = "calculator"
    flag = "calc"
    schemas: ClassVar = [EXPRESSION_SCHEMA]

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Which expressions are drawn; a depth of 1 is one operator on two numbers."""

        min_depth: int = field(
            default=1, metadata={"help": "Smallest depth of an expression tree."}
        )
        max_depth: int = field(default=3, metadata={"help": "Largest depth of an expression tree."})
        max_digits: int = field(
            default=4, metadata={"help": "Most digits of a whole operand, 1 to 4."}
        )
        max_decimals: int = field(
            default=4, metadata={"help": "Most digits after the point, 0 to 4; 0: no decimals."}
        )
        decimal_rate: float = field(
            default=0.25, metadata={"help": "Share of operands that are decimals, 0 to 1."}
        )
        negative_rate: float = field(
            default=0.15, metadata={"help": "Share of operands that are negative, 0 to 1."}
        )
        function_rate: float = field(
            default=0.3, metadata={"help": "Share of nodes that are functions, 0 to 1."}
        )
        operators: list[str] = field(
            default_factory=lambda: list(BINARY), metadata={"help": "Binary operators."}
        )
        functions: list[str] = field(
            default_factory=lambda: list(FUNCTIONS), metadata={"help": "Functions."}
        )

        def __post_init__(self) -> None:
            """Rejects settings that no expression satisfies."""
            for key, low, high in (
                ("min_depth", 1, 3),
                ("max_depth", self.min_depth, 3),
                ("max_digits", 1, 4),
                ("max_decimals", 0, 4),
                ("decimal_rate", 0, 1),
                ("negative_rate", 0, 1),
                ("function_rate", 0, 1),
            ):
                if not low <= getattr(self, key) <= high:
                    raise TaskError(
                        f"calculator: {key} must lie in {low} to {high}, got {getattr(self, key)}"
                    )
            for key, known in (("operators", BINARY), ("functions", FUNCTIONS)):
                for symbol in getattr(self, key):
                    if symbol not in known:
                        raise TaskError(
                            f"calculator: unknown {symbol!r} in {key}: {nearest(symbol, known)}"
                        )
            if not self.operators:
                raise TaskError("calculator: operators must not be empty")

    def __init__(self, config: Config | None = None) -> None:
        """Makes the task; the settings that every node reads are looked up once."""
        super().__init__(config)
        self._function_rate = self.config.function_rate if self.config.functions else 0.0
        self._decimal_rate = self.config.decimal_rate if self.config.max_decimals else 0.0
        self._whole_ranges = [
            (10 ** (digits - 1), 9 * 10 ** (digits - 1))
            for digits in range(1, self.config.max_digits + 1)
        ]

    def tools(self) -> ExpressionSession:
        """See `Task.tools`."""
        return ExpressionSession()

    def sample(self, rng: random.Random) -> Example:
        """See `Task.sample`."""
        draw = rng.random
        config = self.config
        depth = config.min_depth + int(draw() * (config.max_depth - config.min_depth + 1))
        style = draw() * 3
        wordiness = 0.0 if style < 1 else 1.0 if style < 2 else 0.5
        used: list[str] = []
        while (node := self._grow(draw, depth, wordiness, used)) is None:
            used.clear()
        value, code, _, prompt, _, key = node
        answer = format_value(value)
        return self.example(
            key=key,
            messages=[
                user(PHRASINGS[int(draw() * len(PHRASINGS))].format(prompt)),
                call(code),
                tool(answer),
                assistant(ANSWER.format(answer)),
            ],
            answer=answer,
            difficulty=len(used),
            metadata={"depth": depth, "operators": used},
        )

    def score(self, example: Example, reply: Sequence[Message]) -> Score:
        """1 if the call computes the problem's value and the last message gives exactly that."""
        if len(reply) != 4 or [message["role"] for message in reply] != [
            "user",
            "assistant",
            "tool",
            "assistant",
        ]:
            return Score(value=0.0, reason="not one question, one call, its output and one answer")
        question, calling, output, last = reply
        if question["content"] != example["messages"][0]["content"]:
            return Score(value=0.0, reason="another problem")
        try:
            (tool_call,) = calling["tool_calls"]
            code = tool_call["function"]["arguments"]["code"]
            value = evaluate(code)
        except (ToolError, ValueError, KeyError, TypeError, AttributeError) as error:
            return Score(value=0.0, reason=f"the call cannot be carried out: {error}")
        answer = evaluate(example["answer"])
        if abs(value - answer) > 1e-9 * max(abs(value), abs(answer)):
            return Score(
                value=0.0,
                reason=f"the call computes {format_value(value)}, not {example['answer']}",
            )
        if output["content"] != format_value(value):
            return Score(value=0.0, reason="the tool's output was not printed by the tool")
        if (
            calling["content"]
            or last["tool_calls"]
            or last["content"] != ANSWER.format(example["answer"])
        ):
            return Score(
                value=0.0, reason=f"the last words are not {ANSWER.format(example['answer'])!r}"
            )
        return Score(value=1.0)

    def _grow(
        self, draw: Callable[[], float], depth: int, wordiness: float, used: list[str]
    ) -> Node | None:
        """An expression of exactly `depth`, or None where no operator suits its operands."""
        if depth == 0:
            return self._leaf(draw, wordiness)
        if draw() < self._function_rate:
            return self._grow_function(draw, depth, wordiness, used)
        operators = self.config.operators
        symbol = operators[int(draw() * len(operators))]
        left: Node | None
        right: Node | None
        if symbol == "**":
            left = (
                self._grow(draw, depth - 1, wordiness, used)
                if depth > 1
                else self._signed(draw, wordiness, int(draw() * 100))
            )
            right = _positive(int(draw() * 5))
        elif depth == 1:
            leaf = self._whole if symbol in ("//", "%") else self._leaf
            left, right = leaf(draw, wordiness), leaf(draw, wordiness)
        else:
            left = self._grow(draw, depth - 1, wordiness, used)
            right = self._grow(draw, int(draw() * depth), wordiness, used)
            if draw() < 0.5:
                left, right = right, left
        if left is None or right is None:
            return None
        for _ in RETRIES:
            value = _apply(symbol, left.value, right.value)
            if value is not None:
                used.append(symbol)
                return _binary_node(draw, wordiness, symbol, left, right, value)
            symbol = operators[int(draw() * len(operators))]
        return None

    def _grow_function(
        self, draw: Callable[[], float], depth: int, wordiness: float, used: list[str]
    ) -> Node | None:
        functions = self.config.functions
        name = functions[int(draw() * len(functions))]
        if depth > 1:
            argument = self._grow(draw, depth - 1, wordiness, used)
        else:
            argument = self._argument(draw, name, wordiness)
        if argument is None:
            return None
        for _ in RETRIES:
            value = _apply_function(name, argument.value)
            if value is not None:
                used.append(name)
                return _function_node(draw, wordiness, name, argument, value)
            name = functions[int(draw() * len(functions))]
        return None

    def _leaf(self, draw: Callable[[], float], wordiness: float) -> Node:
        """A number: whole or decimal, positive or negative."""
        if draw() >= self._decimal_rate:
            return self._whole(draw, wordiness)
        low, count = self._whole_ranges[int(draw() * len(self._whole_ranges))]
        return self._decimal(draw, wordiness, low + int(draw() * count))

    def _whole(self, draw: Callable[[], float], wordiness: float) -> Node:
        low, count = self._whole_ranges[int(draw() * len(self._whole_ranges))]
        return self._signed(draw, wordiness, low + int(draw() * count))

    def _decimal(self, draw: Callable[[], float], wordiness: float, whole: int) -> Node:
        """A decimal with this whole part; its last digit is not 0, so that a number has one
        spelling.
        """
        digits = 1 + int(draw() * self.config.max_decimals)
        fraction = int(draw() * 10**digits)
        if fraction % 10 == 0:
            fraction += 1 + int(draw() * 9)
        return self._signed(draw, wordiness, float(f"{whole}.{fraction:0{digits}d}"))

    def _signed(self, draw: Callable[[], float], wordiness: float, size: Number) -> Node:
        if not size or draw() >= self.config.negative_rate:
            return _positive(size)
        return _negative(size, draw() < wordiness)

    def _argument(self, draw: Callable[[], float], name: str, wordiness: float) -> Node:
        """A number inside the function's domain, as often as its domain allows within the task's
        settings.
        """
        if name == "factorial":
            return _positive(int(draw() * 13))
        if name in ("asin", "acos"):
            if self._decimal_rate and draw() < 0.9:
                return self._decimal(draw, wordiness, 0)
            return self._signed(draw, wordiness, int(draw() * 2))
        if name == "exp":
            whole = int(draw() * 9)
            if draw() < self._decimal_rate:
                return self._decimal(draw, wordiness, whole)
            return self._signed(draw, wordiness, whole)
        if name == "sqrt" and draw() < 0.5:
            root = int(draw() * 10 ** (self.config.max_digits / 2))
            return _positive(root * root)
        return self._leaf(draw, wordiness)


@lru_cache(maxsize=65_536)
def _positive(size: Number) -> Node:
    text = repr(size)
    return Node(size, text, ATOM, text, ATOM, text)


@lru_cache(maxsize=65_536)
def _negative(size: Number, in_words: bool) -> Node:
    code = f"-{size!r}"
    return Node(-size, code, LOOSE, f"negative {size!r}" if in_words else code, LOOSE, code)


def _apply(symbol: str, left: Number, right: Number) -> Number | None:
    """The operator's value, or None where the operands do not suit it or the value would not print
    well.
    """
    if symbol in ("//", "%"):
        if not right or not isinstance(left, int) or not isinstance(right, int):
            return None
    elif symbol == "**":
        if (
            not isinstance(right, int)
            or not 0 <= right <= 4
            or abs(left) > 1000
            or not (left or right)
        ):
            return None
    elif symbol == "/" and not right:
        return None
    value = BINARY[symbol](left, right)
    if isinstance(value, int):
        return value if -MAX_INT <= value <= MAX_INT else None
    size = abs(value)
    if size >= MAX_FLOAT or (size < MIN_FLOAT and value):
        return None
    if symbol in ("+", "-") and size < MAX_CANCELLATION * max(abs(left), abs(right)):
        return None
    return value


def _apply_function(name: str, argument: Number) -> Number | None:
    """The function's value, or None outside its domain or where rounding of the argument would
    show.
    """
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
    elif name != "abs" and abs(argument) > 10**4:
        return None
    value = FUNCTIONS[name](argument)
    if isinstance(value, float) and (abs(value) >= 1e9 or 0 < abs(value) < MAX_CANCELLATION):
        return value if name == "exp" and abs(value) >= MIN_FLOAT else None
    if name == "tan" and abs(value) > 1000:
        return None
    return value


def _binary_node(
    draw: Callable[[], float], wordiness: float, symbol: str, left: Node, right: Node, value: Number
) -> Node:
    """Joins two operands. Code and symbols take parentheses where precedence needs them, words
    around every operand.
    """
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


def _function_node(
    draw: Callable[[], float], wordiness: float, name: str, argument: Node, value: Number
) -> Node:
    code = f"{name}({argument.code})"
    key = f"{name}({argument.key})"
    if not wordiness or draw() >= wordiness:
        return Node(value, code, ATOM, f"{name}({argument.prompt})", ATOM, key)
    inner = argument.prompt if argument.prompt_binds == ATOM else f"({argument.prompt})"
    return Node(value, code, ATOM, f"{FUNCTION_WORDS[name]} {inner}", LOOSE, key)
