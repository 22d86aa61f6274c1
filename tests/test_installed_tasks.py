"""Tasks that come with an installed package, by an entry point."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from example_task import TASK


def run(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def install(folder: Path, content: str, value: str = "parity_package.odd") -> None:
    package = folder / "parity_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "odd.py").write_text(content)
    facts = folder / "parity_package-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: parity-package\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text(f"[mixgen.tasks]\nparity = {value}\n")


@pytest.mark.parametrize("value", ["parity_package.odd", "parity_package.odd:Parity"])
def test_a_package_brings_tasks_by_an_entry_point(tmp_path, value):
    install(tmp_path, TASK.replace("NAME", "parity").replace("FLAG", "par"), value)
    code = (
        "import mixgen; mix = mixgen.configure_mix(parity=1, calculator=1)\n"
        "print(mix.tasks[1].config, sorted(mix.tasks[1].stream(split='test', seed=1).__next__()))"
    )
    done = run(tmp_path, code)
    assert "Parity.Config(largest=99999)" in done.stdout and "'messages'" in done.stdout, done


@pytest.mark.parametrize(
    ("content", "value", "said"),
    [
        ("import nothing_of_the_kind", "parity_package.odd", "nothing_of_the_kind"),
        ("raise SystemExit(3)", "parity_package.odd", "SystemExit: 3"),
        ("", "parity_package.even", "parity_package.even"),
        (TASK.replace("NAME", "calculator").replace("FLAG", "x"), "parity_package.odd", "flag of"),
    ],
)
def test_a_package_whose_tasks_fail_is_one_clear_error(tmp_path, content, value, said):
    install(tmp_path, content, value)
    code = (
        "import mixgen\n"
        "try: mixgen.configure_mix(calculator=1)\n"
        "except mixgen.TaskError as error: print(error)"
    )
    done = run(tmp_path, code)
    assert done.returncode == 0 and done.stdout.count("\n") == 1, done
    assert said in done.stdout
    assert "parity" in done.stdout
