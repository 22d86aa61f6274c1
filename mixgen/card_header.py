"""The YAML header of a card: brought up to date as text, so that what people wrote stays theirs.

PyYAML reads YAML 1.1, in which `no` is false and `1.10` is 1.1, and knows no comments: a header
that is read and written would be another one. So only the keys whose value changes are written
anew.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from typing import Any, Final

import yaml

from mixgen.errors import OutputError, one_line

# Lists of a header in which each entry is of one dataset config.
BY_CONFIG: Final = ("configs", "dataset_info")
# Keys of a header whose new value counts, not the one that is there.
RENEWED: Final = {*BY_CONFIG, "size_categories"}
DEFAULT: Final = "default"  # the config that `datasets` takes for the default one by its name
# A key at the start of a line, written plainly: no quotes, comment, list or braces.
TOP_KEY: Final = re.compile(r"([^\s#'\"\[\]{}&*!|>%@`,?:-][^:\n]*?):(?=\s|$)")


def header_text(header: Mapping[str, Any]) -> str:
    """A header as YAML."""
    return yaml.safe_dump(dict(header), sort_keys=False, allow_unicode=True, width=1000)


def read_header(text: str) -> dict[str, Any]:
    """What a header says.

    Raises:
        OutputError: It is no YAML mapping, or has configs or tags that are none.
    """
    try:
        header = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise OutputError(f"the header of the card is no YAML ({one_line(error)[:200]})") from error
    if header is not None and not isinstance(header, dict):
        raise OutputError("the header of the card is no mapping")
    header = header or {}
    for key in BY_CONFIG:
        _configs(header, key)
    if not all(isinstance(tag, str) for tag in _entries(header.get("tags"))):
        raise OutputError("the header of the card has tags that are no text")
    return header


def merged_header(old_text: str, new: Mapping[str, Any], renewed: Set[str]) -> str:
    """A header brought up to date.

    Args:
        old_text: The one that is there.
        new: What is new of it.
        renewed: Keys whose new value counts, not that which is there.

    Raises:
        OutputError: The header that is there cannot be read.

    Examples:
        >>> print(merged_header("language: no # as in Oslo\\n", {"license": "mit"}, set()))
        language: no # as in Oslo
        license: mit
        <BLANKLINE>
    """
    old = read_header(old_text)
    header = _merged(old, new, renewed)
    written = _top_blocks(old_text)
    text = written.pop("", "") + "".join(
        written[key]
        if key in written and header[key] == old[key]
        else header_text({key: header[key]})
        for key in header
    )
    try:
        kept = yaml.safe_load(text) == header
    except yaml.YAMLError:
        kept = False
    return text if kept else header_text(header)  # what is written in other ways, such as in braces


def _top_blocks(text: str) -> dict[str, str]:
    """The lines of each key of a header; under the empty one those before the first."""
    blocks = {"": ""}
    key = ""
    for line in text.splitlines():
        if found := TOP_KEY.match(line):
            key = found[1]
        blocks[key] = blocks.get(key, "") + line + "\n"
    return blocks


def _merged(old: Mapping[str, Any], new: Mapping[str, Any], renewed: Set[str]) -> dict[str, Any]:
    header = {**new, **{key: value for key, value in old.items() if key not in renewed}}
    header = {key: header[key] for key in dict.fromkeys([*old, *new]) if key in header}
    for key in BY_CONFIG:
        if entries := _configs(old, key) | _configs(new, key):
            header[key] = list(entries.values())
    if configs := _configs(header, "configs"):
        header["configs"] = _with_one_default(configs, _configs(old, "configs"))
    if tags := [*dict.fromkeys([*_entries(old.get("tags")), *_entries(new.get("tags"))])]:
        header["tags"] = tags
    return header


def _with_one_default(
    configs: Mapping[str, dict[str, Any]], old: Mapping[str, dict[str, Any]]
) -> list[dict[str, Any]]:
    """The entries of a header's configs with one default, else `datasets` reads none of them.

    It is the one called so, else the one that was there.
    """
    marked = [name for group in (old, configs) for name, one in group.items() if one.get(DEFAULT)]
    first = DEFAULT if DEFAULT in configs else next(iter(marked), "")
    entries = []
    for name, entry in configs.items():
        mark = {DEFAULT: True} if name == first and name != DEFAULT else {}
        rest = {key: one for key, one in entry.items() if key not in ("config_name", DEFAULT)}
        entries.append({"config_name": name, **mark, **rest})
    return entries


def _entries(value: Any) -> list[Any]:
    """A header's value as a list: one entry may stand alone."""
    return value if isinstance(value, list) else [] if value is None else [value]


def _configs(header: Mapping[str, Any], key: str) -> dict[str, dict[str, Any]]:
    """The entries of a header's list by the dataset config that each is of."""
    entries = _entries(header.get(key))
    if not all(isinstance(entry, dict) for entry in entries):
        raise OutputError(f"the header of the card has {key} that are no mappings")
    names = [entry.get("config_name", DEFAULT) for entry in entries]
    if not all(isinstance(name, str) for name in names):
        raise OutputError(f"the header of the card has {key} whose config_name is no text")
    return {name: entry for name, entry in zip(names, entries, strict=True) if entry}
