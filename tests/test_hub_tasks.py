"""`hub:` tasks: rows of datasets in a mix, in passes that are pure, by splits that share no row."""

from __future__ import annotations

import collections
import copy
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from small_run import SMALL

from mixgen import RecipeError, TaskError, configure_mix, load_mixture
from mixgen.encoding.shares import measure_shares, set_paces
from mixgen.mixture.tables import table_of
from mixgen.publishing.dataset_card import of_others, write_card
from mixgen.publishing.export import run_export
from mixgen.publishing.plan import make_plan, save_plan
from mixgen.tasks import registry
from mixgen.tasks._hub import conversation, cut_text
from mixgen.tasks.base import SPLITS
from mixgen.tasks.messages import assistant, call_of, tool, user
from mixgen.tasks.registry import task_class
from mixgen.validation.contract import validate

ROOT = Path(__file__).parent.parent
WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "and", "runs", "off"]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    yield
    for name in [name for name in registry._REGISTRY if name.startswith("hub:")]:
        del registry._REGISTRY[name]  # its file is gone


def file_of(folder: Path, rows: list[dict[str, object]], name: str = "rows.jsonl") -> str:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"hub:{path}"


def pairs(number: int) -> list[dict[str, object]]:
    return [{"prompt": f"Question {i}?", "completion": f"Answer {i}."} for i in range(number)]


def made(name: str, **settings: object):
    cls = task_class(name)
    return cls(cls.Config(**settings))


def rows_of(examples) -> list[int]:
    return [example["metadata"]["row"] for example in examples]


def taken(task, number: int, **where: object):
    return list(itertools.islice(task.stream(**{"split": "train", "seed": 1, **where}), number))


# --- passes ---


def test_every_pass_has_every_row_once_in_an_order_of_its_own(tmp_path):
    task = made(file_of(tmp_path, pairs(200)))
    task.pace = 50.0
    size = task.num_examples("train")
    assert 180 < size < 200
    drawn = rows_of(taken(task, 3 * size, block=0))
    passes = [drawn[at : at + size] for at in range(0, 3 * size, size)]
    assert len({tuple(one) for one in passes}) == 3
    assert {frozenset(one) for one in passes} == {frozenset(drawn)} and len(set(drawn)) == size


def test_blocks_that_draw_at_their_pace_go_on_where_the_one_before_ends(tmp_path):
    task = made(file_of(tmp_path, pairs(200)))
    task.pace = 12.5  # examples a row; a block of 4 rows is named by its first
    size = task.num_examples("train")
    blocks = [rows_of(taken(task, 50, block=4 * number)) for number in range(8)]
    counts = collections.Counter(itertools.chain(*blocks))
    assert 400 // size <= min(counts.values()) and max(counts.values()) <= 400 // size + 1
    shards = [rows_of(taken(task, 12, block=f"export-{number}")) for number in (0, 1)]
    assert not set(shards[0]) & set(shards[1])
    # Without a pace, and for blocks that no row is made of, a stream begins anywhere.
    assert taken(task, 9, block=-1) != taken(task, 9, block=1)
    task.pace = None
    assert taken(task, 9, block=0) != taken(task, 9, block=4)


def test_the_pace_is_what_rows_of_training_really_take(tmp_path, renderer):
    task = made(file_of(tmp_path, pairs(300)))
    from mixgen.encoding.rows import RowDataset
    from mixgen.mixture.weights import Mix
    from mixgen.tasks.calculator import Calculator

    mix = Mix(tasks=(Calculator(), task), weights=(1.0, 1.0))
    set_paces(mix, measure_shares(mix, renderer, seed=1), 256)
    dataset = RowDataset(mix, renderer, num_rows=400, max_seq_len=256, rows_per_block=16, seed=1)
    dataset.fill_at(0, 16)  # which draws, too
    drawn = []
    example_at = task.example_at
    task.example_at = lambda split, number: drawn.append(number) or example_at(split, number)
    for first in range(0, 400, 16):
        dataset.make_block(dataset.block_of(first))
    assert len(drawn) / 400 == pytest.approx(task.pace, rel=0.1)
    counts = collections.Counter(drawn)
    turns = len(drawn) / task.num_examples("train")
    assert turns > 2
    # By chance alone (a Poisson distribution) one row in exp(-turns) would never come.
    assert len(counts) > 0.98 * task.num_examples("train")


def test_streams_are_pure_and_survive_a_process(tmp_path):
    task = made(file_of(tmp_path, pairs(1000)), max_chars=100)
    task.pace = 3.0
    again = copy.copy(task)  # as another process does, by __reduce__
    assert again._rows is not task._rows
    assert again.pace == 3.0 and again.config == task.config
    for split, block in itertools.product(SPLITS, (0, 7)):
        expected = taken(task, 20, split=split, block=block)
        assert taken(again, 20, split=split, block=block) == expected
        assert taken(task, 20, split=split, block=block) == expected
    table_of(taken(task, 50))


def test_no_row_and_no_copy_of_one_is_in_two_splits(tmp_path):
    rows = pairs(300) + pairs(300)
    task = made(file_of(tmp_path, rows))
    task.pace = 1.0
    keys = {
        split: {one["key"] for one in taken(task, task.num_examples(split), split=split)}
        for split in SPLITS
    }
    assert sum(map(len, keys.values())) == 300
    assert sum(task.num_examples(split) for split in SPLITS) == 600


# --- kinds ---


def test_a_text_is_cut_at_spaces_into_pieces_that_are_all_of_it(tmp_path):
    for text in ("", "a", "one two", "x" * 50, " ".join(WORDS * 20), "  spaces   all\n\nover  "):
        for size in (1, 3, 8, 1000):
            pieces = [cut_text(text, size, piece) for piece in range(-(-len(text) // size))]
            assert "".join(pieces) == text
            for piece in pieces:
                assert len(piece) <= size + size // 4
    texts = [" ".join(WORDS[i % 9 :] * 4) + f" {i}." for i in range(60)]
    task = made(
        file_of(tmp_path, [{"text": text} for text in texts] + [{"text": " "}]), max_chars=80
    )
    task.pace = 1.0
    examples = taken(task, task.num_examples("train"))
    for row in set(rows_of(examples)):
        parts = sorted(
            (int(one["key"].rpartition("-")[2]), one["messages"][0]["content"])
            for one in examples
            if one["metadata"]["row"] == row
        )
        assert "".join(text for _, text in parts) == texts[row]
    assert task.num_left_out == 1 and {len(one["messages"]) for one in examples} == {1}
    other = made(file_of(tmp_path, [{"story": text} for text in texts], "b.jsonl"), column="story")
    assert other.num_examples("train") > 0
    assert task.evaluate(lambda conversations: []).metrics == []


def test_conversations_of_the_hub_become_ours():
    function = {"name": "add", "arguments": '{"a": 1}'}
    given = [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "1+1?"},
        {"role": "assistant", "content": None, "tool_calls": [{"function": function}]},
        {"role": "tool", "content": "2"},
        {"role": "assistant", "content": "2.", "tool_calls": None},
    ]
    assert conversation(given) == [
        user("Be short.\n\n1+1?"),
        call_of("add", {"a": 1}),
        tool("2", "add"),
        assistant("2."),
    ]
    ours = [user("1+1?"), call_of("python", {"code": "1+1"}), tool("2"), assistant("2.")]
    assert conversation(ours) == ours


def test_a_row_is_right_word_for_word_and_the_contract_holds(tmp_path):
    name = file_of(tmp_path, pairs(3000))
    task = made(name)
    found = {one.check: one for one in validate(task, max_seq_len=64)}
    assert {one.status for one in found.values()} == {"ok"}, found
    example = taken(task, 1)[0]
    assert task.score(example, [*example["messages"][:1], assistant("No.")]).value == 0


def test_questions_and_answers_may_be_called_otherwise(tmp_path):
    rows = [{"instruction": f"Question {i}?", "output": f"Answer {i}."} for i in range(50)]
    task = made(file_of(tmp_path, rows), prompt="instruction", completion="output")
    (tmp_path / "same").mkdir()
    same = made(file_of(tmp_path / "same", pairs(50)))
    for split in SPLITS:  # the hash of the words decides
        told = [
            [each.example_at(split, i)["messages"] for i in range(each.num_examples(split))]
            for each in (task, same)
        ]
        assert told[0] == told[1]
    assert task.num_examples("train") > 40


def test_an_export_of_other_peoples_rows_names_no_licence(tmp_path):
    name = file_of(tmp_path, pairs(300))
    cards = []
    for number, license in enumerate((None, "mit")):
        folder = tmp_path / f"data{number}"
        plan = make_plan(configure_mix(**{"calculator": 1.0, name: 1.0}), splits={"train": 100})
        save_plan(plan, folder)
        run_export(folder)
        write_card(plan, folder, license=license)
        cards.append((folder / "README.md").read_text())
    assert "license:" not in cards[0] and "license: mit" in cards[1]
    alone = make_plan(
        configure_mix(**{"calculator": 1.0, name: 1.0}), splits={"train": 9}, configs=["calculator"]
    )
    assert of_others(alone) == [] != of_others(plan)
    for card in cards:
        assert f"under their own licences, are mixed in as they are: {name[4:]}" in card


def test_an_export_of_ours_is_a_dataset_too(tmp_path):
    plan = make_plan(configure_mix(calculator=1.0), splits={"train": 300})
    save_plan(plan, tmp_path / "data")
    run_export(tmp_path / "data")
    write_card(plan, tmp_path / "data")
    task = made(f"hub:{tmp_path / 'data'}:calculator")
    for example in taken(task, 20):
        assert [one["role"] for one in example["messages"]][1:] == [
            "assistant",
            "tool",
            "assistant",
        ]
        assert example["messages"][1]["tool_calls"][0]["function"]["name"] == "python"


def test_texts_without_spaces_are_cut_too_and_no_example_is_empty(tmp_path):
    texts = ["字" * 1700, "x" * 5000, "a " * 300, " " * 900 + "b", "é\n" * 5]
    task = made(file_of(tmp_path, [{"text": f"{text} {i}"} for i in range(20) for text in texts]))
    task.pace = 1.0
    said = [one["messages"][0]["content"] for one in taken(task, task.num_examples("train"))]
    assert all(text.strip() for text in said)
    assert max(map(len, said)) <= 500
    pair = [*pairs(100), {"prompt": "Nothing?", "completion": ""}]
    assert made(file_of(tmp_path, pair, "b.jsonl")).num_left_out == 1


def test_a_row_in_two_datasets_is_in_one_split(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file_of(tmp_path, pairs(500))
    tasks = [made("hub:rows.jsonl"), made("hub:./rows.jsonl")]
    rows = [
        {
            split: {
                task.example_at(split, i)["metadata"]["row"]
                for i in range(task.num_examples(split))
            }
            for split in SPLITS
        }
        for task in tasks
    ]
    assert rows[0] == rows[1] and all(rows[0].values())


# --- mistakes ---


@pytest.mark.parametrize(
    ("rows", "settings", "said"),
    [
        ([{"words": "a"}], {}, "by prompt and completion, or by column, of words"),
        ([{"q": "a", "a": "b"}], {"prompt": "qq", "completion": "a"}, "no column 'qq': did you"),
        ([{"q": "a", "a": "b"}], {"prompt": "q"}, "no column 'completion': allowed: 'a', 'q'"),
        ([{"q": "a"}], {"prompt": "q", "column": "q"}, "no column 'completion'"),
        (
            [{"q": "a", "completion": "b"}],
            {"prompt": "q", "column": "q"},
            "give column, or prompt and completion, not both",
        ),
        ([{"text": "a"}], {"column": "txt"}, "did you mean 'text'?"),
        ([{"text": 5}, {"text": 6}], {}, "row 0 of text is no text: 5"),
        ([{"messages": [{"role": "user", "content": "a"}]}], {}, "row 0 is no conversation"),
        ([{"messages": [{"role": "king", "content": "a"}]}], {}, "'king' is none of"),
        ([{"text": "a"}], {"split": "trian"}, "cannot be loaded"),
        ([{"text": " "}], {}, "no row to train on"),
        ([{"messages": [{"role": "system", "content": "a"}]}], {}, "does not end with"),
        (
            [{"messages": [{"role": role, "content": "a"} for role in ("system", "assistant")]}],
            {},
            "a system message that no user's follows",
        ),
        ([{"prompt": "long " * 9, "completion": "b"}], {"max_chars": 9}, "no row to train on"),
    ],
)
def test_a_dataset_that_cannot_be_used_is_one_clear_error(tmp_path, rows, settings, said):
    name = file_of(tmp_path, rows)
    with pytest.raises(TaskError) as told:
        made(name, **settings)
    assert said in str(told.value) and "\n" not in str(told.value)


def test_names_that_no_dataset_has_are_clear_errors(tmp_path):
    (tmp_path / "a.xml").touch()
    for name, said in (
        ("hub:", "names no dataset"),
        ("hub:./none.jsonl", "no file or directory"),
        (f"hub:{tmp_path / 'a.xml'}", "cannot read '.xml' files"),
        ("hub:nobody/nothing-of-the-kind", "cannot be loaded"),
    ):
        with pytest.raises(TaskError, match=said):
            made(name)
    with pytest.raises((TaskError, RecipeError), match="max_chars must not be negative"):
        made(file_of(tmp_path, pairs(50)), max_chars=-1)


# --- in a run ---


def test_a_run_mixes_rows_with_tasks_and_its_recipe_is_read_back(tmp_path):
    name = file_of(tmp_path, [{"text": " ".join(WORDS * 3) + f" {i}."} for i in range(40)])
    recipe = tmp_path / "mine.yaml"
    content = {"weights": {"calculator": 1.0, name: 1.0}, name: {"max_chars": 60}}
    recipe.write_text(yaml.safe_dump(content))
    out = tmp_path / "run"
    words = [sys.executable, "run_train.py", str(recipe), f"--output_dir={out}", "--max_steps=4"]
    words += [f"--{key}={value}" for key, value in SMALL.items()]
    words += ["--eval_examples=4", "--save_steps=2"]
    environment = {**os.environ, "HF_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        words, capture_output=True, text=True, cwd=ROOT, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert f"{name}: " in done.stdout and " passes\n" in done.stdout
    assert f"{name}  not tried: plain text has no answer" in done.stdout
    resolved = yaml.safe_load((out / "recipe.yaml").read_text())
    assert resolved["weights"] == {"calculator": 1.0, name: 1.0}
    assert resolved[name]["max_chars"] == 60
    examples = list(load_mixture(out / "recipe.yaml").take(40))
    assert {one["task"] for one in examples} == {"calculator", name}
