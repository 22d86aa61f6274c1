"""Replies of one call: a question, a call of `python(code)`, its output, the answer in words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from mixgen.tasks.messages import Example, Message
from mixgen.tasks.trial import Trial
from mixgen.tools.expression import ToolError
from mixgen.tools.session import code_of

ANSWER: Final = "The answer is %s."
ROLES: Final = ["user", "assistant", "tool", "assistant"]


def code_in(message: Message) -> str:
    """The code of a message's first call.

    Raises:
        ToolError: It is a call of something else.
    """
    function = message["tool_calls"][0]["function"]
    return code_of(function["name"], function["arguments"])


def first_fault(
    example: Example,
    reply: Sequence[Message],
    carry_out: Callable[[Example, str], tuple[str, str]],
) -> str:
    """What is wrong with a reply, if anything; what cannot be read raises (see `base.judge`).

    Args:
        example: The problem.
        reply: The whole conversation, untrusted.
        carry_out: Gives what the tool prints for a code, and what is wrong with it as a call for
            this problem; raises a `ToolError` for what the tool refuses.
    """
    if [message["role"] for message in reply] != ROLES:
        return "not one question, one call, its output and one answer"
    question, calling, output, last = reply
    if question["content"] != example["messages"][0]["content"]:
        return "another problem"
    if question["tool_calls"] or output["tool_calls"]:
        return "a call by someone else than the assistant"
    if len(calling["tool_calls"]) != 1:
        return "not one call"
    try:
        printed, fault = carry_out(example, code_in(calling))
    except ToolError as error:
        return f"the call cannot be carried out: {error}"
    if fault:
        return fault
    names = [message["name"] for message in reply]
    if output["content"] != printed or names != ["", "", "python", ""]:
        return "the tool's output was not printed by the tool"
    if calling["content"] != "" or last["tool_calls"]:
        return "words before the call, or a call after it"
    if last["content"] != ANSWER % printed:
        return f"the last words are not {ANSWER % printed!r}"
    return ""


def first_call(trial: Trial) -> tuple[str, str] | None:
    """The code of a trial's first call and what the tool printed; None if it was refused."""
    calls = [message for message in trial.messages if message["tool_calls"]]
    outputs = [message["content"] for message in trial.messages if message["role"] == "tool"]
    if not calls or not outputs or outputs[0].startswith("error"):
        return None
    return code_in(calls[0]), outputs[0]
