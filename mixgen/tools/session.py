"""What a model may call during one conversation, and how a call is written and read.

A tool session lives as long as its conversation (a board keeps its stones). It always answers with
text: a value or `error: ...`. The same sessions serve generation, scoring and evaluation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Protocol

from mixgen.tools.expression import ToolError, evaluate, format_value


class ToolSession(Protocol):
    """The tools of one conversation."""

    def call(self, name: str, arguments: Mapping[str, Any]) -> str:
        """Carries out one tool call.

        Args:
            name: The tool's name, `"python"` for the built-in tasks.
            arguments: What the model passed, untrusted; `{"code": "1+1"}` for the built-in tasks.

        Returns:
            The tool's output, or `error: ...`; it never raises for what the model wrote.
        """
        ...


def python_schema(description: str, code: str) -> dict[str, Any]:
    """The JSON schema of a tool `python(code)`, as chat templates and APIs expect it.

    Args:
        description: What the tool does.
        code: What the code may be.
    """
    return {
        "type": "function",
        "function": {
            "name": "python",
            "description": description,
            "parameters": {
                "type": "object",
                "properties": {"code": {"type": "string", "description": code}},
                "required": ["code"],
            },
        },
    }


def code_of(name: str, arguments: Mapping[str, Any]) -> str:
    """The code of a call of `python(code)`.

    Raises:
        ToolError: It is a call of something else.
    """
    code = arguments.get("code") if isinstance(arguments, Mapping) else None
    if name != "python" or not isinstance(code, str):
        raise ToolError("the only tool is python(code)")
    return code


class NoTools:
    """For tasks without tools: every call is refused.

    Examples:
        >>> NoTools().call("python", {"code": "1+1"})
        'error: there are no tools'
    """

    def call(self, name: str, arguments: Mapping[str, Any]) -> str:
        """See `ToolSession.call`."""
        return "error: there are no tools"


class JoinedTools:
    """The tools of several tasks as one: a call goes to the first that does not refuse it.

    A call that fails changes nothing, so each keeps its own state. Of a call that all refuse, the
    reason comes from the tool that has carried out the last one before it.

    Args:
        makers: What makes the tools of each (`Task.tools`).
    """

    def __init__(self, makers: Iterable[Callable[[], ToolSession]]) -> None:
        self.sessions = [make() for make in makers]
        self._last = 0

    def call(self, name: str, arguments: Mapping[str, Any]) -> str:
        """See `ToolSession.call`."""
        refusals: list[str] = []
        for number, session in enumerate(self.sessions):
            output = session.call(name, arguments)
            if not output.startswith("error"):
                self._last = number
                return output
            refusals.append(output)
        return refusals[self._last] if refusals else NoTools().call(name, arguments)


EXPRESSION_SCHEMA: Final = python_schema(
    "Evaluates one arithmetic expression and prints its value.",
    "numbers, + - * / // % **, parentheses, sqrt exp log sin cos tan asin acos atan abs factorial",
)


class ExpressionSession:
    """`python(code)` for one arithmetic expression a call; keeps nothing between calls.

    Examples:
        >>> ExpressionSession().call("python", {"code": "2**10"})
        '1024'
        >>> ExpressionSession().call("python", {"code": "1/0"})
        'error: division by zero'
    """

    def call(self, name: str, arguments: Mapping[str, Any]) -> str:
        """See `ToolSession.call`."""
        try:
            return format_value(evaluate(code_of(name, arguments)))
        except ToolError as error:
            return f"error: {error}"
