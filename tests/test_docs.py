"""What the documents show is true and runs."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mixgen.cli import app
from mixgen.publishing.plan import read_plan
from mixgen.tasks import base, registry

ROOT = Path(__file__).parent.parent


def blocks(file: str, language: str) -> list[str]:
    """The fenced blocks of a Markdown file."""
    found = re.findall(rf"```{language}\n(.*?)```", (ROOT / file).read_text(), re.DOTALL)
    assert found
    return found


@pytest.fixture
def letters(tmp_path):
    (tmp_path / "letters.py").write_text(blocks("docs/adding-a-task.md", "python")[0])
    registry.load_task_file(tmp_path / "letters.py")
    yield registry.task_class("letters")()
    registry._REGISTRY.pop("letters")


def test_the_task_of_the_guide_holds_the_contract(letters):
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


def test_the_exports_of_the_docs_can_be_planned(tmp_path):
    found = []
    for file in ("README.md", "docs/publishing.md"):
        text = (ROOT / file).read_text()
        found += re.findall(r"^(?:\d\. `)?mixgen (export .*?) *(?:[`#]|$)", text, re.MULTILINE)
    assert len(found) >= 4
    for number, line in enumerate(found):
        line = line.replace("${SLURM_ARRAY_TASK_ID}", "3")
        words = re.sub(r"--output \S+", f"--output {tmp_path / str(number)}", line).split()
        done = CliRunner().invoke(app, [*words, "--plan-only"])
        assert done.exit_code == 0, (line, done.output, done.exception)


def test_the_datatrove_of_the_docs_writes_the_shards(tmp_path, monkeypatch):
    import datatrove.executor

    from mixgen.publishing.export import missing_shards

    (source,) = blocks("docs/publishing.md", "python")
    words = ["export", "--recipe=recipes/default.yaml", "--num-examples=300", "--plan-only"]
    assert CliRunner().invoke(app, [*words, f"--output={tmp_path / 'data'}"]).exit_code == 0

    def executor(*, pipeline, tasks, job_name, time, partition):
        return datatrove.executor.LocalPipelineExecutor(
            pipeline=pipeline, tasks=2, logging_dir=str(tmp_path / "logs")
        )

    monkeypatch.setattr(datatrove.executor, "SlurmPipelineExecutor", executor)
    exec(
        compile(source.replace("/shared/data", str(tmp_path / "data")), "publishing.md", "exec"), {}
    )
    assert missing_shards(read_plan(tmp_path / "data"), tmp_path / "data") == 0


def test_the_task_of_the_guide_is_what_new_task_writes(tmp_path):
    done = CliRunner().invoke(app, ["new-task", "letters", f"--output={tmp_path / 'letters.py'}"])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "letters.py").read_text() == blocks("docs/adding-a-task.md", "python")[0]


def test_the_site_is_built_without_a_broken_link(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", f"--site-dir={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > 12
    for page in pages:  # nothing is loaded from elsewhere
        assert not re.search(r'<(?:script|link)[^>]+(?:src|href)="https?://', page.read_text())


@pytest.mark.parametrize("number", [0, 1])
def test_the_recipes_of_the_guide_are_recipes(tmp_path, number, letters):
    from mixgen.recipe import parse_recipe

    (tmp_path / "mine.yaml").write_text(blocks("docs/adding-a-task.md", "yaml")[number])
    recipe = parse_recipe([str(tmp_path / "mine.yaml"), "--use_cpu", "--max_steps=3"])
    assert "letters" in [task.name for task in recipe.schedule.active]


def test_every_command_is_on_its_page():
    from typer.main import get_command

    text = (ROOT / "docs/commands.md").read_text()
    for name in get_command(app).commands:
        assert f"mixgen {name}" in text, name


def test_every_task_is_on_its_page():
    text = (ROOT / "docs/tasks.md").read_text()
    for name, cls in registry.registered_tasks().items():
        if cls.__module__ == f"mixgen.tasks.{name}":  # not one that another test has loaded
            assert f"| `{name}` | `{cls.flag}` |" in text, name


def test_every_public_name_is_on_its_page():
    import mixgen

    text = (ROOT / "docs/api.md").read_text()
    for name in mixgen.__all__:
        assert re.search(rf"\b{name}\b", text), name


def test_the_reinforcement_learning_of_the_docs_is_python_of_names_that_exist():
    *_, source = blocks("docs/models.md", "python")
    for line in source.splitlines():
        if line.startswith("from mixgen"):
            exec(line, {})
    compile(source, "models.md", "exec")
