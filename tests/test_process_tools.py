"""Tools in processes of their own: limits hold, no secret is there, and nothing runs unasked."""

from __future__ import annotations

import json
import time

import pytest

from mixgen.errors import TaskError
from mixgen.tools.process import ProcessTools

HEAD = "import json, os, sys, time\ncall = json.load(sys.stdin)\n"


@pytest.fixture
def tool(tmp_path, monkeypatch):
    """Makes tools of a body of code."""
    monkeypatch.setenv("MIXGEN_RUN_TOOLS", "1")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("MY_API_KEY", "secret")

    def make(body: str, **limits: object) -> ProcessTools:
        path = tmp_path / "tool.py"
        path.write_text(HEAD + body)
        return ProcessTools(path, **limits)

    return make


def test_a_call_comes_as_json_and_what_is_printed_is_the_output(tool):
    tools = tool("print(call['name'], call['arguments']['code'] * 2)")
    assert tools.call("python", {"code": "abc\u00e9"}) == "python abc\u00e9abc\u00e9"
    assert tools.call("python", {"code": "a\n"}) == "python a\na\n"
    assert tool("print()").call("python", {}) == ""


def test_nothing_runs_unless_it_is_allowed(tool, monkeypatch, tmp_path):
    tool("print(1)")
    for value in ("0", "", "true"):
        monkeypatch.setenv("MIXGEN_RUN_TOOLS", value)
        with pytest.raises(TaskError, match=r"no sandbox.*MIXGEN_RUN_TOOLS=1"):
            ProcessTools(tmp_path / "tool.py")
    monkeypatch.setenv("MIXGEN_RUN_TOOLS", "1")
    with pytest.raises(TaskError, match=r"there is no tool .*none\.py"):
        ProcessTools(tmp_path / "none.py")


def test_no_secret_is_in_its_environment_and_its_directory_is_empty_and_gone(tool):
    tools = tool("print(json.dumps([dict(os.environ), os.listdir('.'), os.getcwd()]))")
    environment, files, folder = json.loads(tools.call("python", {}))
    assert "secret" not in json.dumps(environment) and set(environment) <= {
        *("PATH", "LANG", "LC_ALL", "LC_CTYPE"),
    }
    assert files == []
    assert folder not in tools.call("python", {})


def test_time_is_limited_also_of_what_it_starts(tool, tmp_path):
    start = time.monotonic()
    tools = tool("time.sleep(60)", seconds=0.5)
    assert tools.call("python", {}) == "error: it took more than 0.5 s"
    child = f"time.sleep(2); open({str(tmp_path / 'late')!r}, 'w')"
    tools = tool(
        "import subprocess\n"
        f'subprocess.Popen([sys.executable, "-c", "import time; {child}"])\n'
        "print('done')",
    )
    assert tools.call("python", {}) == "done"
    assert time.monotonic() - start < 20
    time.sleep(2.5)
    assert not (tmp_path / "late").exists()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("x = bytearray(10**9)", "error: MemoryError"),
        ("raise ValueError('no such word')", "error: ValueError: no such word"),
        ("sys.exit(3)", "error: it ended with status 3"),
        ("os.kill(os.getpid(), 9)", "error: it ended with status -9"),
        ("open('big', 'wb').write(b'x' * 10**7)", "error: "),
        ("print(", "error: SyntaxError: '(' was never closed"),
    ],
)
def test_what_fails_is_text(tool, body, said):
    assert tool(body, megabytes=256).call("python", {}).startswith(said)


def test_output_is_cut(tool):
    assert tool("print('x' * 100_000)", max_chars=50).call("python", {}) == "x" * 50
    assert "\ufffd" in tool("sys.stdout.buffer.write(b'\\xff')").call("python", {})


def test_any_arguments_are_text_or_json(tool):
    tools = tool("print(type(call['arguments']).__name__)")
    for given, kind in (({}, "dict"), (None, "NoneType"), ([1], "list"), ({"a": {1}}, "dict")):
        assert tools.call("python", given) == kind
