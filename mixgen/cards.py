"""Cards (README.md on the Hub) that mixgen writes a part of, and people the rest.

What is generated stands between two marks. An update replaces that part, and of the YAML header
what it says of the dataset configs that it writes; all else is somebody's own, and stays.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from mixgen.card_header import RENEWED, header_text, merged_header, read_header
from mixgen.errors import OutputError

CARD_FILE: Final = "README.md"
NAME: Final = "USER/NAME"  # in a card, until it is pushed; a path will do
BEGIN: Final = "<!-- mixgen writes this part -->"
END: Final = "<!-- and replaces it at an update; what stands outside is yours, and stays -->"
HEADER: Final = re.compile(
    r"\s*---[ \t]*\r?\n(.*?)^---[ \t]*(?:\r?\n|\Z)", re.DOTALL | re.MULTILINE
)
FENCE: Final = re.compile(r" {0,3}(`{3,}|~{3,})(.*)")


def card_text(header: Mapping[str, Any], body: str) -> str:
    """A card whose body is all generated."""
    return _joined(header_text(header), f"{BEGIN}\n\n{body.strip()}\n\n{END}\n")


def read_card(path: Path) -> str:
    """The text of a card; empty if there is none.

    Raises:
        OutputError: It is no text.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError as error:
        raise OutputError(f"{path}: the card is no text in UTF-8") from error


@contextmanager
def naming(where: object) -> Iterator[None]:
    """Says of an error about a card which one it is."""
    try:
        yield
    except OutputError as error:
        raise OutputError(f"{where}: {error}") from error


def merged_card(existing: str, generated: str, renewed: Collection[str] = ()) -> str:
    """A card brought up to date.

    Args:
        existing: The card that is there; may be empty.
        generated: A card of `card_text`.
        renewed: Keys of its header that count, not those that are there (as for `RENEWED`).

    Raises:
        OutputError: Its header cannot be read, or its marks are not one pair.

    Examples:
        >>> new = card_text({"tags": ["mixgen"]}, "# New")
        >>> print(merged_card("---\\nlicense: mit\\n---\\nMy words.\\n", new).replace(END, "-->"))
        ---
        license: mit
        tags:
        - mixgen
        ---
        My words.
        <BLANKLINE>
        <!-- mixgen writes this part -->
        <BLANKLINE>
        # New
        <BLANKLINE>
        -->
        <BLANKLINE>
    """
    existing = existing.removeprefix("\ufeff")
    if not existing.strip():
        return generated
    old, old_body = _split(existing)
    new, new_body = _split(generated)
    before, theirs, after = _parts(old_body)
    _, part, _ = _parts(new_body)
    body = before + part + after if theirs else f"{old_body.rstrip()}\n\n{part}\n"
    return _joined(merged_header(old, read_header(new), {*RENEWED, *renewed}), body)


def is_ours(card: str) -> bool:
    """Whether mixgen writes a part of a card."""
    try:
        return bool(_parts(_split(card)[1])[1])
    except OutputError:
        return False


def without_generated(card: str) -> str:
    """A card with nothing between its marks; empty if nobody has written outside of them."""
    header, body = _split(card)
    before, _, after = _parts(body)
    is_all = not (before + after).strip()
    return "" if is_all else _joined(header, f"{before}{BEGIN}\n\n{END}{after}")


def own_words(card: str) -> str:
    """What stands outside of the marks."""
    before, _, after = _parts(_split(card)[1])
    return (before + after).strip()


def _parts(body: str) -> tuple[str, str, str]:
    """What stands before the marks, between them with them, and after them.

    Raises:
        OutputError: There are others than one pair, so that what is whose cannot be known.
    """
    found = list(_marks(body))
    marks = [mark for mark, _, is_code in found if not is_code]
    if marks == [BEGIN, END]:
        start, end = [at for _, at, is_code in found if not is_code]
        return body[:start], body[start : end + len(END)], body[end + len(END) :]
    if found:
        raise OutputError(
            f"the card must have the line {BEGIN!r} once and {END!r} once after it, or neither: "
            f"it has {marks.count(BEGIN)} and {marks.count(END)}, and {len(found) - len(marks)} "
            "lines like them in blocks of code, which may not be closed"
        )
    return body, "", ""


def _marks(body: str) -> Iterator[tuple[str, int, bool]]:
    """The marks that are lines: each with where it begins, and whether it is in a block of code."""
    fence = ""
    at = 0
    for line in body.splitlines(keepends=True):
        if line.strip() in (BEGIN, END):
            yield line.strip(), at + line.index("<"), bool(fence)
        elif found := FENCE.match(line):
            if not fence:
                fence = found[1]
            elif found[1].startswith(fence) and not found[2].strip():
                fence = ""
        at += len(line)


def _split(card: str) -> tuple[str, str]:
    """A card's header and body."""
    found = HEADER.match(card)
    return (found[1].replace("\r\n", "\n"), card[found.end() :]) if found else ("", card)


def _joined(header: str, body: str) -> str:
    return f"---\n{header}---\n{body}" if header else body
