"""`mixgen validate`: each fault of a task is found by its check, and a right task has none."""

from __future__ import annotations

import dataclasses
import json
import random
import re
import subprocess
import sys
import time
from typing import ClassVar

import pytest
from typer.testing import CliRunner

from mixgen.cli import app
from mixgen.commands import console
from mixgen.errors import TaskError
from mixgen.tasks import registry
from mixgen.tasks.base import Score, Task, assistant, call, judge, tool, user
from mixgen.tasks.trial import Metric
from mixgen.tools.session import EXPRESSION_SCHEMA, ExpressionSession
from mixgen.validation import checks
from mixgen.validation.contract import validate


class Sums(Task):
    """Sums of two numbers."""

    name = flag = "sums"
    schemas: ClassVar = [EXPRESSION_SCHEMA]

    def numbers(self, rng):
        return rng.randrange(1000), rng.randrange(1000)

    def sample(self, rng):
        one, other = self.numbers(rng)
        answer = str(one + other)
        return self.example(
            key=self.key(one, other),
            messages=[
                user(f"What is {one} + {other}?"),
                call(f"{one}+{other}"),
                tool(answer),
                assistant(f"{answer}."),
            ],
            answer=answer,
        )

    def key(self, one, other):
        return f"{one}+{other}"

    def tools(self):
        return ExpressionSession()

    def score(self, example, reply):
        return judge(self.first_fault, example, reply)

    def first_fault(self, example, reply):
        return "" if list(reply) == example["messages"] else "another reply"


def found(task, **settings):
    return {one.check: (one.status, one.words) for one in validate(task, **settings)}


def not_ok(task, **settings):
    return {name: one for name, one in found(task, **settings).items() if one[0] != "ok"}


@pytest.fixture
def known():
    """Puts a class of this file where other processes would find it."""
    registry._REGISTRY["sums"] = Sums
    yield
    registry._REGISTRY.pop("sums")


@pytest.mark.parametrize("name", sorted(registry.registered_tasks()))
def test_every_registered_task_holds_the_contract(name):
    checks = found(registry.task_class(name)(), max_seq_len=256)
    assert len(checks) == 14
    assert {status for status, _ in checks.values()} == {"ok"}, checks


class Unsampled(Sums):
    def sample(self, rng):
        raise KeyError("numbers")


class Shared(Sums):
    def numbers(self, rng):
        return random.randrange(1000), rng.randrange(1000)  # noqa: TID251


class Frozen(Sums):
    def numbers(self, rng):
        return 7, random.Random(1).randrange(9)


class Seedless(Sums):
    def stream(self, *, split, seed, block=0):
        return super().stream(split=split, seed=0, block=block)


class Leaking(Sums):
    made = 0

    def key(self, one, other):
        type(self).made += 1
        return f"{one}+{other} {self.made}"

    def numbers(self, rng):
        return rng.randrange(10), rng.randrange(10)


class Untrue(Sums):
    def tools(self):
        return type("Liar", (), {"call": lambda *given: "0"})()


class Failing(Sums):
    def tools(self):
        return type("Liar", (), {"call": lambda *given: "error: no"})()


class Lax(Sums):
    def first_fault(self, example, reply):
        right = reply[0] == example["messages"][0] and example["answer"] in reply[-1]["content"]
        return "" if right else "another answer"


class Strict(Sums):
    def first_fault(self, example, reply):
        return "never right"


class Crashing(Sums):
    def score(self, example, reply):
        right = len(reply) == 4 and reply[3]["content"] == example["messages"][3]["content"]
        return Score(value=float(right and list(reply) == example["messages"]))


class Leaving(Sums):
    def score(self, example, reply):
        raise SystemExit(0)


class Changing(Sums):
    def score(self, example, reply):
        score = super().score(example, reply)
        example["metadata"]["seen"] = True
        return score


class Few(Sums):
    def numbers(self, rng):
        return rng.randrange(8), rng.randrange(8)


class Long(Sums):
    def sample(self, rng):
        example = super().sample(rng)
        example["messages"][0]["content"] += " 12345" * 200
        return example


class Slow(Sums):
    def numbers(self, rng):
        sum(range(60_000))
        return super().numbers(rng)


class Unkeyed(Sums):
    def key(self, one, other):
        return f"{one}+{other}" if one % 2 else ""


class Unjson(Sums):
    def sample(self, rng):
        return super().sample(rng) | {"metadata": {1: 2}}


class Unanswered(Sums):
    def sample(self, rng):
        return super().sample(rng) | {"answer": "42!"}


class Undeclared(Sums):
    schemas: ClassVar = []


class Uncalled(Sums):
    def sample(self, rng):
        example = super().sample(rng)
        del example["messages"][1]
        return example


class Endless(Sums):
    def sample(self, rng):
        example = super().sample(rng)
        example["messages"][-1] = {**call("1+1"), "content": f"{example['answer']}."}
        return example


class Extra(Sums):
    def sample(self, rng):
        example = super().sample(rng)
        example["messages"][-1] |= {"thought": "hm"}
        return example


class Text(Sums):
    schemas: ClassVar = []

    def sample(self, rng):
        words = f"{rng.random()} is a number"
        return self.example(key=words, messages=[assistant(words)], answer=words)


class Blind(Sums):
    def metrics(self, examples, trials):
        return [Metric(name="exact", count=0, total=len(trials))]


class Generous(Sums):
    def metrics(self, examples, trials):
        return [Metric(name="exact", count=len(trials), total=len(trials))]


@pytest.mark.parametrize(
    ("cls", "check", "status", "said"),
    [
        (Unsampled, "examples", "fault", "sample fails (KeyError: 'numbers')"),
        (Shared, "streams", "fault", "the same stream drawn again gives other examples"),
        (Frozen, "examples", "fault", "too few distinct problems"),
        (Seedless, "streams", "fault", "every seed gives the same examples"),
        (Leaking, "splits", "fault", "one conversation has two keys"),
        (Untrue, "tool outputs", "fault", "the tool prints "),
        (Failing, "tool outputs", "fault", "the tool prints 'error: no'"),
        (Lax, "wrong replies", "fault", "score 1: cut by one; cut at 3; tag soup"),
        (Lax, "forged replies", "doubt", "score 1: "),
        (Strict, "right replies", "fault", "scores 0.0: never right"),
        (Strict, "evaluation", "fault", "right replies have exact 0 of 50"),
        (Crashing, "broken replies", "fault", "score raises KeyError"),
        (Leaving, "right replies", "fault", "SystemExit"),
        (Leaving, "wrong replies", "fault", "SystemExit"),
        (Changing, "right replies", "fault", "score changes example"),
        (Few, "distinct problems", "doubt", "few are distinct"),
        (Long, "lengths", "fault", "more than max_seq_len 256"),
        (Slow, "speed", "doubt", "below 1,000"),
        (Unkeyed, "messages", "fault", "key and answer must not be empty"),
        (Unjson, "messages", "fault", "round trip through JSON"),
        (Unanswered, "answers", "doubt", "does not end with the answer '42!'"),
        (Undeclared, "messages", "fault", "tool 'python' is not in `schemas`"),
        (Uncalled, "messages", "fault", "must be followed by its tool's message"),
        (Endless, "messages", "fault", "must end with the assistant's words"),
        (Extra, "messages", "fault", "not a message of user()"),
        (Text, "evaluation", "ok", "nothing is asked"),
        (Text, "wrong replies", "ok", " score less"),
        (Blind, "evaluation", "fault", "right replies have exact 0 of 50"),
        (Generous, "evaluation", "fault", "a model that says nothing has"),
    ],
)
def test_each_fault_is_found_by_its_check(cls, check, status, said, known, monkeypatch):
    monkeypatch.setattr(checks, "SECONDS", 1.0)
    shown = found(cls(), max_seq_len=256)
    assert check in shown, shown
    assert shown[check][0] == status and said in shown[check][1], shown[check]


def test_what_is_slow_is_checked_by_less_of_it(monkeypatch):
    monkeypatch.setattr(checks, "CHECK_SECONDS", 0.0)
    shown = found(Sums())
    assert shown["right replies"] == ("ok", "1 score 1")
    assert shown["tool outputs"] == ("ok", "1 outputs printed again")
    assert shown["wrong replies"] == ("ok", "1 score less")
    assert shown["broken replies"] == ("ok", "1 score less, none raises")


def test_a_task_without_a_score_has_one_fault_for_that(known, monkeypatch):
    monkeypatch.setattr(Sums, "score", Task.score)
    shown = not_ok(Sums(), max_seq_len=256)
    assert set(shown) == {"score", "other processes"}
    assert "not defined" in shown["score"][1]


class Sleepy(Sums):
    """Slow enough that as many examples as a check would take last for minutes."""

    def sample(self, rng):
        time.sleep(0.02)
        return super().sample(rng)


def test_a_task_that_is_slow_has_no_fault_for_that(known, monkeypatch):
    monkeypatch.setattr(checks, "SECONDS", 0.5)
    start = time.monotonic()
    shown = not_ok(Sleepy(), max_seq_len=256)
    assert set(shown) <= {"other processes", "speed", "distinct problems"}
    assert time.monotonic() - start < 30


def test_what_hangs_is_named_while_it_does(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(console, "LONG_SECONDS", 0.2)
    monkeypatch.setattr(checks, "SECONDS", 0.5)
    source = FILE.replace("echo_of_validation", "echo_slow").replace("WORD_SOURCE", "'abcdefghij'")
    source = source.replace("        word =", "        time.sleep(0.03)\n        word =")
    (tmp_path / "slow.py").write_text(f"import time\ntime.sleep(0.5)\n{source}")
    try:
        said = CliRunner().invoke(app, ["validate", str(tmp_path / "slow.py")]).stderr
    finally:
        registry._REGISTRY.pop("echo_slow", None)
    for what in (f"loading {tmp_path / 'slow.py'}", "examples"):
        assert f"{what}: 0 s so far. Is it slow, or does it hang?" in said


def test_a_right_task_of_ones_own_has_no_fault_and_the_same_class_of_it_is_judged_alone(known):
    shown = not_ok(Sums(), max_seq_len=256)
    assert set(shown) == {"other processes"}  # this file is not theirs
    assert "unknown task 'sums'" in shown["other processes"][1]


def test_a_file_whose_tasks_are_registered_by_what_it_imports_is_checked(tmp_path, monkeypatch):
    (tmp_path / "their_lib.py").write_text(
        FILE.replace("WORD_SOURCE", "'abcdefghij'").replace("echo_of_validation", "echo_of_lib")
    )
    (tmp_path / "mine.py").write_text("import their_lib\n")
    (tmp_path / "again.py").write_text("import their_lib\n")
    monkeypatch.syspath_prepend(tmp_path)
    try:
        done = CliRunner().invoke(app, ["validate", str(tmp_path / "mine.py"), "--json"])
        assert '"task": "echo_of_lib", "check": "speed"' in done.stdout, done
        done = CliRunner().invoke(app, ["validate", str(tmp_path / "again.py")])
        assert isinstance(done.exception, TaskError) and "registers no task" in str(done.exception)
    finally:
        registry._REGISTRY.pop("echo_of_lib", None)


def test_a_task_that_cannot_be_made_is_one_clear_error(tmp_path):
    text = FILE.replace("WORD_SOURCE", "'ab'").replace("echo_of_validation", "echo_unmade")
    text = text.replace(
        "    def sample", "    def __init__(self):\n        raise SystemExit(0)\n\n    def sample"
    )
    (tmp_path / "unmade.py").write_text(text)
    try:
        done = CliRunner().invoke(app, ["validate", str(tmp_path / "unmade.py")])
        assert isinstance(done.exception, TaskError)
        assert "'echo_unmade': __init__ fails (SystemExit: 0)" in str(done.exception)
    finally:
        registry._REGISTRY.pop("echo_unmade", None)


FILE = '''
from mixgen.tasks.base import Score, Task, assistant, judge, user
from mixgen.tasks.registry import register

WORDS = WORD_SOURCE

@register
class Echo(Task):
    """Say it again."""

    name = flag = "echo_of_validation"

    def sample(self, rng):
        word = "".join(rng.choice(list(WORDS)) for _ in range(4))
        return self.example(key=word, messages=[user(word), assistant(word)], answer=word)

    def score(self, example, reply):
        return judge(lambda e, r: "" if list(r) == e["messages"] else "another", example, reply)
'''


@pytest.mark.parametrize(
    ("source", "status"), [("'abcdefghij'", 0), ("{'ab', 'cd', 'ef', 'gh', 'ij', 'kl'}", 1)]
)
def test_the_order_of_a_set_is_found_and_the_exit_code_tells(tmp_path, source, status):
    path = tmp_path / "echo.py"
    path.write_text(FILE.replace("WORD_SOURCE", source))
    try:
        done = CliRunner().invoke(app, ["validate", str(path), "--json"])
        records = {one["check"]: one for one in map(json.loads, done.stdout.splitlines())}
        assert done.exit_code == status, records
        assert records["other processes"]["status"] == ("fault" if status else "ok")
        told = CliRunner().invoke(app, ["validate", str(path)]).stdout.splitlines()
        assert told[-1] == ("Faults: 1." if status else "The contract holds.")
    finally:
        registry._REGISTRY.pop("echo_of_validation", None)
        for name in [name for name in sys.modules if name.startswith("mixgen_task_file_echo")]:
            del sys.modules[name]


def test_a_flag_that_is_taken_is_said_of_the_file_that_takes_it(tmp_path):
    source = FILE.replace('flag = "echo_of_validation"', 'flag = "calc"')
    assert 'name = flag = "calc"' in source
    path = tmp_path / "clash.py"
    path.write_text(source.replace("WORD_SOURCE", "'abcdefghij'"))
    done = subprocess.run(  # where no task has been asked for yet
        [sys.executable, "-m", "mixgen", "validate", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert f"{path}: 'calc' is the name or flag of the task in" in done.stderr


def test_a_recipe_gives_the_length_and_the_vocabulary(tmp_path):
    recipe = tmp_path / "mine.yaml"
    lengths = {}
    for settings in ("", "max_seq_len: 20", "vocab_size: 300"):
        recipe.write_text(f"weights: {{calculator: 1}}\n{settings}")
        done = CliRunner().invoke(app, ["validate", str(recipe), "--json"])
        found = {one["check"]: one for one in map(json.loads, done.stdout.splitlines())}
        lengths[settings] = found["lengths"]["words"]
        assert (done.exit_code == 1) == (settings == "max_seq_len: 20"), done
    assert "of 1024" in lengths[""] and "more than max_seq_len 20" in lengths["max_seq_len: 20"]
    longest = [int(re.search(r"max (\d+)", words)[1]) for words in lengths.values()]
    assert longest[0] == longest[1] < longest[2]
    done = CliRunner().invoke(app, ["validate", str(recipe), "--max-seq-len=20"])
    assert "more than max_seq_len 20" in done.stdout  # the flag wins


def test_a_setting_that_must_be_whole_is_no_float():
    for key in ("num_heaps", "max_stones", "max_turns"):
        with pytest.raises(TaskError, match=f"nim: {key} must be an integer, got 5.0"):
            registry.task_class("nim").Config(**{key: 5.0})
    assert registry.task_class("nim").Config(optimal_user_rate=1).optimal_user_rate == 1


@pytest.mark.parametrize("value", ["0.5", True, None, [1]])
@pytest.mark.parametrize("name", ["calculator", "nim", "tictactoe", "units"])
def test_a_setting_that_is_no_number_is_one_clear_error(name, value):
    cls = registry.task_class(name)
    key = next(field.name for field in dataclasses.fields(cls.Config) if "rate" in field.name)
    with pytest.raises(TaskError, match=f"{name}: {key} must be a number, got "):
        cls.Config(**{key: value})
