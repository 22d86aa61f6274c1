"""What the documents show is true and runs."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from mixgen.tasks import base, registry

ROOT = Path(__file__).parent.parent


def blocks(file: str, language: str) -> list[str]:
    """The fenced blocks of a Markdown file."""
    found = re.findall(rf"```{language}\n(.*?)```", (ROOT / file).read_text(), re.DOTALL)
    assert found
    return found


@pytest.fixture
def letters(tmp_path):
    (tmp_path / "letters.py").write_text(blocks("CONTRIBUTING.md", "python")[0])
    registry.load_task_file(tmp_path / "letters.py")
    yield registry.task_class("letters")()
    registry._REGISTRY.pop("letters")


def test_the_task_of_contributing_holds_the_contract(letters):
    examples = list(itertools.islice(letters.stream(split="train", seed=0), 300))
    assert len({example["key"] for example in examples}) > 100
    assert examples == list(itertools.islice(letters.stream(split="train", seed=0), 300))
    for example, other in itertools.pairwise(examples):
        gold = example["messages"]
        assert letters.score(example, gold).value == 1
        arguments = gold[1]["tool_calls"][0]["function"]["arguments"]
        assert letters.tools().call("python", arguments) == gold[2]["content"]
        for bad in (
            [*gold[:3], base.assistant(example["answer"] + "0")],
            [gold[0], base.call("9+9+9"), *gold[2:]],
            gold[-1:],
            [],
            [{}] * 4,
            *([other["messages"]] if other["key"] != example["key"] else []),
        ):
            assert letters.score(example, bad).value == 0


def test_the_python_of_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for source in blocks("README.md", "python"):
        exec(compile(source, "README.md", "exec"), {})


def test_the_files_that_documents_name_exist():
    for file in ("README.md", "CONTRIBUTING.md", *map(str, (ROOT / "docs").glob("*.md"))):
        links = re.findall(r"\]\(([^)#:]+)[^):]*\)", (ROOT / file).read_text())
        for link in links:
            assert (ROOT / file).parent.joinpath(link).exists(), (file, link)
