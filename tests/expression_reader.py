"""An independent reader of calculator prompts: text in, tree out, an error at two readings.

It shares no code with `mixgen.tasks.calculator`: the grammar is what a person may take a prompt
to mean.

- Symbols alone (`3 + 4 * 2`) are read as in Python: its precedence, associativity and unary minus.
- A word operator (`plus`), `negative` or a word function (`the sine of`) stands alone between its
  parentheses: every operand of it is a number, something in parentheses or a call like `sin(3)`.
  Anything else ("the sine of 3 plus 4", "2 plus 3 times 4", "negative 3 plus 4") raises.

A tree is a tuple: `("number", "3.5")`, `("negative", tree)`, `("call", "sin", tree)` or
`("binary", "+", left, right)`.
"""

from __future__ import annotations

import ast
import re

import mpmath

PHRASES = re.compile(
    r"(?:What is|How much is) (?P<asked>[^?]+)\?"
    r"|(?:Calculate|Compute|Evaluate|Work out|Find the value of|Tell me|Please compute)"
    r" (?P<told>.+)\."
    r"|(?P<equation>[^?=]+) = \?"
)
WORD_OPERATORS = {
    "plus": "+",
    "minus": "-",
    "times": "*",
    "multiplied by": "*",
    "divided by": "/",
    "over": "/",
    "floor divided by": "//",
    "modulo": "%",
    "mod": "%",
    "to the power of": "**",
    "raised to": "**",
}
SYMBOL_OPERATORS = {"+": "+", "-": "-", "*": "*", "×": "*", "/": "/", "÷": "/"}
SYMBOL_OPERATORS |= {"//": "//", "%": "%", "**": "**", "^": "**"}
WORD_FUNCTIONS = {
    "the square root of": "sqrt",
    "the exponential of": "exp",
    "the natural logarithm of": "log",
    "the sine of": "sin",
    "the cosine of": "cos",
    "the tangent of": "tan",
    "the arcsine of": "asin",
    "the arccosine of": "acos",
    "the arctangent of": "atan",
    "the absolute value of": "abs",
    "the factorial of": "factorial",
}
PYTHON_PRECEDENCE = {"+": 1, "-": 1, "*": 2, "/": 2, "//": 2, "%": 2, "**": 4}
UNARY_PRECEDENCE = 3  # between `*` and `**`: -2 ** 2 is -(2 ** 2)
PYTHON_OPERATORS = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.FloorDiv: "//",
    ast.Mod: "%",
    ast.Pow: "**",
}
COMMUTATIVE = ("+", "*")

_WORDS = sorted([*WORD_OPERATORS, *WORD_FUNCTIONS, "negative"], key=len, reverse=True)
_SYMBOLS = sorted(SYMBOL_OPERATORS, key=len, reverse=True)
_TOKEN = re.compile(
    r"(?P<number>[0-9]+(?:\.[0-9]+)?)(?![0-9.a-z])"
    rf"|(?P<call>{'|'.join(sorted(WORD_FUNCTIONS.values(), key=len, reverse=True))})\("
    rf"|(?P<words>{'|'.join(_WORDS)})(?![a-z])"
    rf"|(?P<symbol>{'|'.join(map(re.escape, _SYMBOLS))})"
    r"|(?P<open>\()|(?P<close>\))"
)


class UnreadableError(ValueError):
    """The text is no prompt, or can be read in more than one way."""


def strip_phrasing(prompt):
    """The expression within a prompt."""
    match = PHRASES.fullmatch(prompt)
    if not match:
        raise UnreadableError(f"unknown phrasing: {prompt!r}")
    return match["asked"] or match["told"] or match["equation"]


def read_prompt(prompt):
    """The expression tree of a user's message."""
    return read_expression(strip_phrasing(prompt))


def read_expression(text):
    """The expression tree of a text without phrasing."""
    tokens = []
    position = 0
    while position < len(text):
        if text[position] == " ":
            position += 1
            continue
        match = _TOKEN.match(text, position)
        if not match:
            raise UnreadableError(f"cannot read {text[position:]!r} in {text!r}")
        tokens.append((match.lastgroup, match[match.lastgroup]))
        position = match.end()
    tree, end = _level(tokens, 0, text)
    if end != len(tokens):
        raise UnreadableError(f"a parenthesis too many in {text!r}")
    return tree


def _level(tokens, start, text):
    """What stands between two parentheses: the tree, and where its closing parenthesis is."""
    items = []
    position = start
    while position < len(tokens) and tokens[position][0] != "close":
        kind, value = tokens[position]
        position += 1
        if kind in ("open", "call"):
            inner, position = _level(tokens, position, text)
            if position == len(tokens):
                raise UnreadableError(f"a parenthesis is not closed in {text!r}")
            position += 1
            items.append(("atom", ("call", value, inner) if kind == "call" else inner))
        elif kind == "number":
            items.append(("atom", ("number", value)))
        elif kind == "symbol":
            items.append(("symbol", SYMBOL_OPERATORS[value]))
        else:
            items.append(("words", value))
    kinds = [kind for kind, _ in items]
    if "words" in kinds:
        return _words(items, kinds, text), position
    tree, rest = _symbols(items, 0, text)
    if rest:
        raise UnreadableError(f"two operands without an operator in {text!r}")
    return tree, position


def _words(items, kinds, text):
    """A level with words in it: exactly one word, and only atoms beside it."""
    if kinds == ["words", "atom"]:
        (_, words), (_, operand) = items
        if words == "negative":
            return ("negative", operand)
        if words in WORD_FUNCTIONS:
            return ("call", WORD_FUNCTIONS[words], operand)
    elif kinds == ["atom", "words", "atom"] and items[1][1] in WORD_OPERATORS:
        return ("binary", WORD_OPERATORS[items[1][1]], items[0][1], items[2][1])
    raise UnreadableError(f"can be read in more than one way, or in none: {text!r}")


def _symbols(items, lowest, text):
    """Python's expression grammar by precedence climbing: a tree, and the items that are left."""
    if not items:
        raise UnreadableError(f"an operand is missing in {text!r}")
    (kind, value), items = items[0], items[1:]
    if kind == "atom":
        tree = value
    elif value == "-":
        operand, items = _symbols(items, UNARY_PRECEDENCE, text)
        tree = ("negative", operand)
    else:
        raise UnreadableError(f"an operand is missing before {value!r} in {text!r}")
    while items and items[0][0] == "symbol" and PYTHON_PRECEDENCE[items[0][1]] >= lowest:
        operator = items[0][1]
        binds = PYTHON_PRECEDENCE[operator]
        # `**` associates to the right, and takes a unary minus on its right: 2 ** -1.
        right, items = _symbols(
            items[1:], UNARY_PRECEDENCE if operator == "**" else binds + 1, text
        )
        tree = ("binary", operator, tree, right)
    return tree, items


def read_code(code):
    """The same kind of tree from Python's own parser."""

    def tree(node):
        match node:
            case ast.Constant(value=int() | float() as value):
                return ("number", repr(value))
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return ("negative", tree(operand))
            case ast.BinOp(left=left, op=op, right=right):
                return ("binary", PYTHON_OPERATORS[type(op)], tree(left), tree(right))
            case ast.Call(func=ast.Name(id=name), args=[argument], keywords=[]):
                return ("call", name, tree(argument))
        raise UnreadableError(f"not arithmetic: {code!r}")

    return tree(ast.parse(code, mode="eval").body)


def key_of(tree):
    """The canonical key: operators in parentheses, operands of + and * in order of their keys."""
    match tree:
        case ("number", text):
            return repr(float(text)) if "." in text else str(int(text))
        case ("negative", operand):
            return f"-{key_of(operand)}"
        case ("call", name, argument):
            return f"{name}({key_of(argument)})"
        case ("binary", operator, left, right):
            keys = [key_of(left), key_of(right)]
            if operator in COMMUTATIVE:
                keys.sort()
            return f"({keys[0]}{operator}{keys[1]})"
    raise UnreadableError(f"not a tree: {tree!r}")


def depth_of(tree):
    """Operators and functions on the longest way from the root to a number; signs do not count."""
    match tree:
        case ("number", _):
            return 0
        case ("negative", operand):
            return depth_of(operand)
        case ("call", _, argument):
            return 1 + depth_of(argument)
        case (_, _, left, right):
            return 1 + max(depth_of(left), depth_of(right))


def operators_of(tree):
    """The names of all operators and functions of a tree, operands first."""
    match tree:
        case ("number", _):
            return []
        case ("negative", operand):
            return operators_of(operand)
        case ("call", name, argument):
            return [*operators_of(argument), name]
        case (_, operator, left, right):
            return [*operators_of(left), *operators_of(right), operator]


def numbers_of(tree):
    """All numbers of a tree as text, with their sign."""
    match tree:
        case ("number", text):
            return [text]
        case ("negative", ("number", text)):
            return [f"-{text}"]
        case ("negative", operand):
            return numbers_of(operand)
        case ("call", _, argument):
            return numbers_of(argument)
        case (_, _, left, right):
            return [*numbers_of(left), *numbers_of(right)]


_EXACT = mpmath.mp.clone()
_EXACT.dps = 50
_EXACT_FUNCTIONS = {
    "sqrt": _EXACT.sqrt,
    "exp": _EXACT.exp,
    "log": _EXACT.log,
    "sin": _EXACT.sin,
    "cos": _EXACT.cos,
    "tan": _EXACT.tan,
    "asin": _EXACT.asin,
    "acos": _EXACT.acos,
    "atan": _EXACT.atan,
}


def exact_value(tree):
    """The value to 50 digits; whole numbers stay exact for as long as Python would keep them whole.

    A decimal is taken as it is written, not as the nearest binary number.
    """
    match tree:
        case ("number", text):
            return _EXACT.mpf(text) if "." in text else int(text)
        case ("negative", operand):
            return -exact_value(operand)
        case ("call", "abs", argument):
            return abs(exact_value(argument))
        case ("call", "factorial", argument):
            value = exact_value(argument)
            if not isinstance(value, int):
                raise UnreadableError(f"factorial of {value}")
            return int(_EXACT.factorial(value))
        case ("call", name, argument):
            value = _EXACT_FUNCTIONS[name](exact_value(argument))
            if isinstance(value, _EXACT.mpc):
                raise UnreadableError(f"{name} outside its domain in {tree!r}")
            return value
        case (_, operator, left, right):
            left, right = exact_value(left), exact_value(right)
            if operator == "+":
                return left + right
            if operator == "-":
                return left - right
            if operator == "*":
                return left * right
            if operator == "**":
                return left**right
            if operator == "/":
                return _EXACT.mpf(left) / right
            if not (isinstance(left, int) and isinstance(right, int)):
                raise UnreadableError(f"{operator} of what is not whole in {tree!r}")
            return left // right if operator == "//" else left % right
    raise UnreadableError(f"not a tree: {tree!r}")


def units_off(printed, exact):
    """How far `printed` is from `exact`, in units of the tenth significant digit of `exact`."""
    difference = abs(_EXACT.mpf(printed) - exact)
    if not exact:
        return 0 if not difference else float("inf")
    exponent = int(_EXACT.floor(_EXACT.log10(abs(_EXACT.mpf(exact)))))
    return float(difference / _EXACT.mpf(10) ** (exponent - 9))
