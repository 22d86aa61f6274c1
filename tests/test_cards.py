"""Cards: an update replaces what mixgen wrote, and nothing else."""

from __future__ import annotations

import pytest
import yaml

from mixgen.cards import BEGIN, END, card_text, is_ours, merged_card, without_generated
from mixgen.errors import OutputError

NEW = card_text(
    {
        "license": "apache-2.0",
        "tags": ["mixgen", "synthetic"],
        "size_categories": ["n<1K"],
        "configs": [
            {"config_name": "mix", "default": True, "data_files": "mix/*"},
            {"config_name": "calculator", "data_files": "calculator/*"},
        ],
        "dataset_info": [{"config_name": "mix", "download_size": 2}],
    },
    "# New\n\nGenerated.",
)


def header_of(card: str) -> dict[str, object]:
    return yaml.safe_load(card.split("---")[1])


def test_a_card_that_is_generated_twice_is_the_same():
    assert merged_card("", NEW) == NEW
    assert merged_card(NEW, NEW) == NEW
    assert is_ours(NEW) and not is_ours("# Mine") and not is_ours(f"{END} {BEGIN}")


def test_words_and_keys_of_others_stay_where_they_are():
    old = card_text(
        {"license": "mit", "language": ["en"], "size_categories": ["1K<n<10K"], "tags": "mine"},
        "# Old",
    )
    old = old.replace(BEGIN, f"Before.\n\n{BEGIN}") + "After.\n"
    card = merged_card(old, NEW)
    header = header_of(card)
    assert list(header)[:4] == ["license", "language", "size_categories", "tags"]
    assert (header["license"], header["language"]) == ("mit", ["en"])
    assert header["size_categories"] == ["n<1K"]
    assert header["tags"] == ["mine", "mixgen", "synthetic"]
    body = card.split("---\n", 2)[2]
    assert body == f"Before.\n\n{BEGIN}\n\n# New\n\nGenerated.\n\n{END}\nAfter.\n"
    assert merged_card(card, NEW) == card


def test_the_configs_of_others_stay_and_one_of_them_is_the_default():
    old = {
        "configs": [
            {"config_name": "chess", "default": True, "data_files": "chess/*"},
            {"config_name": "mix", "data_files": "old/*"},
        ],
        "dataset_info": {"config_name": "chess", "download_size": 1},
    }
    header = header_of(merged_card(card_text(old, ""), NEW))
    assert header["configs"] == [
        {"config_name": "chess", "default": True, "data_files": "chess/*"},
        {"config_name": "mix", "data_files": "mix/*"},
        {"config_name": "calculator", "data_files": "calculator/*"},
    ]
    assert header["dataset_info"] == [
        {"config_name": "chess", "download_size": 1},
        {"config_name": "mix", "download_size": 2},
    ]
    alone = header_of(merged_card("---\nlicense: mit\n---\n", NEW))
    assert alone["configs"] == header_of(NEW)["configs"]


@pytest.mark.parametrize(
    "old", ["# Mine\n", "---\r\nlicense: mit\r\n---\r\n# Mine\r\n", "---\n---\n# Mine"]
)
def test_a_card_without_marks_keeps_its_text_and_gets_ours_after_it(old):
    card = merged_card(old, NEW)
    assert card.count("# Mine") == 1 and card.index("# Mine") < card.index(BEGIN)
    assert ("license: mit" in card) == ("mit" in old)


@pytest.mark.parametrize(
    ("old", "said"),
    [
        ("---\n[a\n---\n", "is no YAML"),
        ("---\n- a\n---\n", "is no mapping"),
        ("---\nconfigs: mix\n---\n", "has configs that are no mappings"),
        ("---\nconfigs:\n- config_name: [a]\n---\n", "config_name is no text"),
        ("---\ntags: [[a]]\n---\n", "tags that are no text"),
        ("---\ndate: 2024-13-45\n---\n", "is no YAML"),
        (f"---\na: {'[' * 3000}\n---\n", "is no YAML"),
    ],
)
def test_a_header_that_cannot_be_read_is_one_clear_error_and_not_lost(old, said):
    with pytest.raises(OutputError, match=said):
        merged_card(old, NEW)


THEIRS = """---
# Of Oslo.
language: no  # not false
version: 1.10
license: mit
size_categories: [10K<n<100K] # ours
---
Mine.
"""


def test_a_header_keeps_what_people_wrote_as_they_wrote_it():
    card = merged_card(THEIRS, NEW)
    head = card.split("---")[1]
    for line in THEIRS.split("---")[1].strip().split("\n")[:4]:
        assert f"{line}\n" in head
    assert header_of(card)["size_categories"] == ["n<1K"]
    assert merged_card(card, NEW) == card
    in_braces = merged_card("---\n{license: mit, language: [en]}\n---\nMine.\n", NEW)
    assert (header_of(in_braces)["license"], header_of(in_braces)["language"]) == ("mit", ["en"])


def test_a_byte_order_mark_hides_no_header():
    assert header_of(merged_card("\ufeff---\nlicense: mit\n---\nMine.\n", NEW))["license"] == "mit"


@pytest.mark.parametrize(
    "body",
    [
        f"{BEGIN}\nold\n{END}\nMine.\n{BEGIN}\nold\n{END}\n",
        f"{BEGIN}\nold\nMine.\n",
        f"old\n{END}\nMine.\n",
        f"{END}\nMine.\n{BEGIN}\n",
        f"{BEGIN}\n{BEGIN}\nMine.\n{END}\n",
        f"```\n{BEGIN}\n```\nMine.\n",
    ],
)
def test_marks_that_are_not_one_pair_are_one_clear_error_and_nothing_is_lost(body):
    with pytest.raises(OutputError, match="once"):
        merged_card(f"---\nlicense: mit\n---\n{body}", NEW)
    assert not is_ours(body)


def test_marks_that_are_quoted_are_no_marks():
    quoted = f"How it works:\n\n~~~~md\n```\n{BEGIN}\n~~~\n{END}\n~~~~\n"
    said = f"Between `{BEGIN}` and `{END}` it writes.\n"
    old = f"---\nlicense: mit\n---\n{said}{quoted}{BEGIN}\nold\n{END}\n{quoted}"
    card = merged_card(old, NEW)
    assert card.startswith("---\nlicense: mit\n") and "old" not in card
    assert card.count(quoted) == 2 and card.count(said) == 1
    assert merged_card(card, NEW) == card


@pytest.mark.parametrize(
    "there", [[{"config_name": "default", "data_files": "data/*"}], [{"data_files": "data/*"}]]
)
def test_a_config_that_is_the_default_by_its_name_stays_the_only_one(there):
    card = merged_card(card_text({"configs": there}, ""), NEW)
    assert header_of(card)["configs"] == [
        {"config_name": "default", "data_files": "data/*"},
        {"config_name": "mix", "data_files": "mix/*"},
        {"config_name": "calculator", "data_files": "calculator/*"},
    ]


def test_a_card_is_emptied_of_what_is_generated_alone():
    assert without_generated(NEW) == ""
    left = without_generated(f"{NEW}Mine.\n")
    assert "Generated" not in left and left.endswith(f"{BEGIN}\n\n{END}\nMine.\n")
    assert merged_card(left, NEW) == f"{NEW}Mine.\n"
