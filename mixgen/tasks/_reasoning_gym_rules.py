"""What is known of reasoning-gym's generators, read and tried one by one (version 0.1.25).

A generator is refused where its examples are no pure function of the seed, or have no answer to
learn. A reply must be the answer, word for word, where the library's scorer would run a model's
words as Python (`eval`, and sympy's `parse_expr`, which calls it), or gives 1 for wrong ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from mixgen.tools.expression import ToolError, evaluate

_ORDER: Final = "its examples depend on the order of a set of strings, another in each process"
_NO_ANSWER: Final = "its entries have no answer, only a rule to judge one by"
_GLOBAL: Final = "it draws from the global random state"

REFUSED: Final = {
    "boxnet": _NO_ANSWER,
    "codeio": "it runs programs that a language model wrote, some of which draw at random",
    "composite": "it is a mix of other generators: name those in the weights",
    "graph_color": _NO_ANSWER,
    "isomorphic_strings": _ORDER,
    "knight_swap": _ORDER,
    "list_functions": _GLOBAL,
    "polynomial_multiplication": _ORDER,
    "pool_matrix": _GLOBAL,
    "propositional_logic": _NO_ANSWER,
    "ransom_note": _ORDER,
    "rubiks_cube": _NO_ANSWER,
    "rush_hour": _NO_ANSWER,
    "word_ladder": _ORDER,
}

_EVAL: Final = "runs the reply as Python"

EXACT: Final = {
    "advanced_geometry": "passes over what follows the first two numbers",
    "binary_matrix": _EVAL,
    "calendar_arithmetic": "gives over 1 for any number where the answer is negative",
    "coin_flip": "gives 1 for 0 where the probability is small, and writes 1e999999999 out in full",
    "complex_arithmetic": "gives 1 for nan",
    "decimal_arithmetic": "gives 1 for a last digit that is wrong by 1",
    "figlet_font": "gives 1 for ten right letters",
    "fraction_simplification": "passes over what follows a LaTeX fraction",
    "game_of_life": "gives 1 where rows or cells are added",
    "game_of_life_halting": "gives 1 for any text",
    "gsm_symbolic": "reads the first number in a text, without its sign",
    "intermediate_integration": _EVAL,
    "letter_jumble": "gives 1 where words are added",
    "number_sorting": "gives 1 for a list of NaN, and for numbers that are wrong by 1",
    "polynomial_equations": "passes over what it cannot read",
    "simple_integration": _EVAL,
    "spell_backward": "gives over 1, by rounding, where letters are added",
    "spiral_matrix": _EVAL,
    "string_insertion": _EVAL,
    "time_intervals": "reads the first number in a text",
    "word_sorting": "gives 1 where words are added",
}

# Their datasets draw in `__init__`, so that there is one for each example.
REBUILT: Final = {"acre", "gsm_symbolic"}


def _reaches(target: float, text: str, numbers: list[int]) -> bool:
    """Whether an expression has a value, and every number just once."""
    try:
        value = evaluate(text)
    except ToolError:
        return False
    used = [int(number) for number in re.findall(r"[0-9]+", text)]
    return abs(value - target) < 1e-9 and sorted(used) == sorted(numbers)


# mixgen's own rules, in the place of scorers that would run the reply as Python.
OWN_RULES: Final[dict[str, Callable[[str, dict[str, Any]], bool]]] = {
    "countdown": lambda text, facts: _reaches(facts["target"], text, facts["numbers"]),
    "n_queens": lambda text, facts: text in facts["valid_answers"],
    "puzzle24": lambda text, facts: _reaches(24, text, facts["numbers"]),
}
