"""What an error of a push means: whether another try may do, when, and why in words."""

from __future__ import annotations

from typing import Final

from mixgen.errors import one_line

# Busy, or a commit of somebody else at the same time.
TRANSIENT: Final = {408, 409, 412, 425, 429, 500, 502, 503, 504}


class NotWholeError(Exception):
    """What arrived is not what was sent."""


def _answered(error: BaseException | None) -> BaseException | None:
    """The error of an answer with a status, which others may have been raised from."""
    while error is not None and not hasattr(getattr(error, "response", None), "status_code"):
        error = error.__cause__ or error.__context__
    return error


def is_transient(error: BaseException) -> bool:
    """Whether another try may do: a lost connection, or a server that is busy."""
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

    if answered := _answered(error):
        return answered.response.status_code in TRANSIENT  # type: ignore[attr-defined]
    return isinstance(error, (HTTPError, NotWholeError, RuntimeError))  # hf_xet raises RuntimeError


def asked_delay(error: BaseException) -> float:
    """The seconds that the Hub asks to wait for before another try; 0 if it asks for none."""
    from huggingface_hub.utils import parse_ratelimit_headers  # type: ignore[attr-defined]

    answered = _answered(error)
    headers = answered.response.headers if answered else {}  # type: ignore[attr-defined]
    limit = parse_ratelimit_headers(headers)
    if limit and not limit.remaining:
        return limit.reset_in_seconds
    after = headers.get("Retry-After", "")
    return float(after) if after.isdecimal() else 0.0


def reason_of(error: BaseException, name: str, token: str | None) -> str:
    """Why a push failed, in one line without the token."""
    from huggingface_hub import get_token
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

    answered = _answered(error)
    status = answered and answered.response.status_code  # type: ignore[attr-defined]
    said = getattr(answered, "server_message", "") or ""
    if status == 401:
        why = "the Hub does not know the token, or there is none: `hf auth login`, or set HF_TOKEN"
    elif status == 403:
        why = (
            f"the token may not write to {name}: it needs the role `write`, and a name "
            f"of its user or organisation ({said})"
        )
    elif status:
        why = f"the Hub answers {status}: {said}"
    elif isinstance(error, UnicodeEncodeError):
        why = "the token has characters that no token has"
    elif isinstance(error, HTTPError):
        why = f"no connection to the Hub: {one_line(error)}"
    elif isinstance(error, OSError) and error.strerror:
        why = f"{error.filename or ''}: {error.strerror}".removeprefix(": ")
    else:
        why = one_line(error)
    for secret in filter(None, (token, get_token())):
        why = why.replace(secret, "(token)")
    return " ".join(why.split())[:300].removesuffix(":")
