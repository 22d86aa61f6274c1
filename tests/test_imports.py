"""Imports follow the flow of data, and importing mixgen is light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "mixgen"
# From the ground floor to the roof; a module imports from its own level and the ones below.
LEVELS = {
    "errors": 0,
    "card_header": 0,
    "cards": 0,
    "files": 0,
    "seeding": 0,
    "tools": 1,
    "tasks": 2,
    "mixture": 3,
    "encoding": 4,
    "training": 5,
    "evaluation": 6,
    "publishing": 7,
    "flags": 8,
    "recipe": 8,
    "rewards": 9,
    "load": 9,
    "launch": 9,
    "start": 9,
    "finish": 9,
    "main": 10,
    "validation": 6,
    "commands": 10,
    "cli": 11,
    "__main__": 12,
}


def stage_of(module: str) -> str:
    return module.split(".")[1]


def imports_of(source: str) -> set[str]:
    """The mixgen modules that a file imports, at its top or inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the stage"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.startswith("mixgen.")}


def wrong_imports(module: str, source: str) -> list[str]:
    level = LEVELS[stage_of(module)]
    return [name for name in imports_of(source) if LEVELS[stage_of(name)] > level]


def test_a_stage_imports_only_from_stages_to_its_left():
    files = [path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py"]
    assert len(files) > 20
    seen = set()
    for path in files:
        module = "mixgen." + ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        seen.add(stage_of(module))
        assert not wrong_imports(module, path.read_text()), path
    assert seen == set(LEVELS)


def test_an_import_against_the_flow_is_found():
    for source in ("from mixgen.training.model import x", "def f():\n  import mixgen.recipe"):
        assert wrong_imports("mixgen.encoding.rows", source)
    assert not wrong_imports("mixgen.encoding.rows", "from mixgen.tasks.base import Task")


@pytest.mark.parametrize(
    "statement",
    [
        "import mixgen",
        "import mixgen.tasks.base",
        "from mixgen import Task, register, configure_mix, TaskError",
    ],
)
def test_importing_mixgen_or_writing_a_task_imports_no_torch(statement):
    program = (
        f"import sys; {statement};"
        "print([m for m in ('torch', 'transformers', 'datasets') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_importing_mixgen_takes_under_a_fifth_of_a_second():
    program = (
        "import time; start = time.process_time(); import mixgen, mixgen.tasks.base;"
        "print(time.process_time() - start)"
    )
    seconds = [
        float(
            subprocess.run(
                [sys.executable, "-c", program], cwd=ROOT, capture_output=True, check=True
            ).stdout
        )
        for _ in range(3)
    ]
    assert min(seconds) < 0.2


def test_every_public_name_can_be_imported():
    import mixgen

    assert len(mixgen.__all__) > 10
    for name in mixgen.__all__:
        assert getattr(mixgen, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = mixgen.nothing
