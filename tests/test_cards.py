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
    ],
)
def test_a_header_that_cannot_be_read_is_one_clear_error_and_not_lost(old, said):
    with pytest.raises(OutputError, match=said):
        merged_card(old, NEW)


def test_a_card_is_emptied_of_what_is_generated_alone():
    assert without_generated(NEW) == ""
    left = without_generated(f"{NEW}Mine.\n")
    assert "Generated" not in left and left.endswith(f"{BEGIN}\n\n{END}\nMine.\n")
    assert merged_card(left, NEW) == f"{NEW}Mine.\n"
