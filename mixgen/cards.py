"""Cards (README.md on the Hub) that mixgen writes a part of, and people the rest.

What is generated stands between two marks. An update replaces that part, and of the YAML header
what it says of the dataset configs that it writes; all else is somebody's own, and stays.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Set
from typing import Any, Final

import yaml

from mixgen.errors import OutputError, one_line

CARD_FILE: Final = "README.md"
NAME: Final = "USER/NAME"  # in a card's code, until it is pushed; a path will do
BEGIN: Final = "<!-- mixgen writes this part -->"
END: Final = "<!-- and replaces it at an update; what stands outside is yours, and stays -->"
HEADER: Final = re.compile(
    r"\s*---[ \t]*\r?\n(.*?)^---[ \t]*(?:\r?\n|\Z)", re.DOTALL | re.MULTILINE
)
# Lists of a header in which each entry is of one dataset config.
BY_CONFIG: Final = ("configs", "dataset_info")
# Keys of a header whose new value counts, not the one that is there.
RENEWED: Final = {*BY_CONFIG, "size_categories"}


def card_text(header: Mapping[str, Any], body: str) -> str:
    """A card whose body is all generated."""
    return _joined(header, f"{BEGIN}\n\n{body.strip()}\n\n{END}\n")


def merged_card(existing: str, generated: str, renewed: Collection[str] = ()) -> str:
    """A card brought up to date.

    Args:
        existing: The card that is there; may be empty.
        generated: A card of `card_text`.
        renewed: Keys of its header that count, not those that are there (as for `RENEWED`).

    Raises:
        OutputError: The header that is there cannot be read.

    Example:
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
    if not existing.strip():
        return generated
    old, old_body = _split(existing)
    new, new_body = _split(generated)
    part = _generated_part(new_body)
    before = _generated_part(old_body)
    body = old_body.replace(before, part) if before else f"{old_body.rstrip()}\n\n{part}\n"
    return _joined(_merged_header(old, new, {*RENEWED, *renewed}), body)


def is_ours(card: str) -> bool:
    """Whether mixgen writes a part of a card."""
    return bool(_generated_part(card))


def without_generated(card: str) -> str:
    """A card with nothing between its marks; empty if nobody has written outside of them."""
    header, body = _split(card)
    part = _generated_part(body)
    is_all = not body.replace(part, "").strip()
    return "" if is_all else _joined(header, body.replace(part, f"{BEGIN}\n\n{END}"))


def own_words(card: str) -> str:
    """What stands outside of the marks."""
    _, body = _split(card)
    return body.replace(_generated_part(body), "").strip()


def _generated_part(body: str) -> str:
    """What stands between the marks, with them."""
    start, end = body.find(BEGIN), body.rfind(END)
    return body[start : end + len(END)] if 0 <= start < end else ""


def _merged_header(
    old: Mapping[str, Any], new: Mapping[str, Any], renewed: Set[str]
) -> dict[str, Any]:
    header = {**new, **{key: value for key, value in old.items() if key not in renewed}}
    header = {key: header[key] for key in dict.fromkeys([*old, *new]) if key in header}
    for key in BY_CONFIG:
        if entries := _configs(old, key) | _configs(new, key):
            header[key] = list(entries.values())
    first = next((name for name, one in _configs(old, "configs").items() if one.get("default")), "")
    if first:  # there may be one, and the one that was there stays
        header["configs"] = [
            {"config_name": name, "default": True} | entry
            if name == first
            else {key: value for key, value in entry.items() if key != "default"}
            for name, entry in _configs(header, "configs").items()
        ]
    if tags := [*dict.fromkeys([*_entries(old.get("tags")), *_entries(new.get("tags"))])]:
        header["tags"] = tags
    return header


def _entries(value: Any) -> list[Any]:
    """A header's value as a list: one entry may stand alone."""
    return value if isinstance(value, list) else [] if value is None else [value]


def _configs(header: Mapping[str, Any], key: str) -> dict[str, Any]:
    """The entries of a header's list by the dataset config that each is of."""
    entries = _entries(header.get(key))
    if not all(isinstance(entry, dict) for entry in entries):
        raise OutputError(f"the header of the {CARD_FILE} there has {key} that are no mappings")
    return {entry.get("config_name", "default"): entry for entry in entries}


def _split(card: str) -> tuple[dict[str, Any], str]:
    """A card's header and body."""
    found = HEADER.match(card)
    if not found:
        return {}, card
    try:
        header = yaml.safe_load(found[1])
    except yaml.YAMLError as error:
        why = one_line(error)
        raise OutputError(f"the header of the {CARD_FILE} there is no YAML ({why})") from error
    if header is not None and not isinstance(header, dict):
        raise OutputError(f"the header of the {CARD_FILE} there is no mapping")
    return header or {}, card[found.end() :]


def _joined(header: Mapping[str, Any], body: str) -> str:
    text = yaml.safe_dump(dict(header), sort_keys=False, allow_unicode=True, width=1000)
    return f"---\n{text}---\n{body}"
