"""How a task is tried, and what comes of mistakes in its code: each is told as the task's."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
from small_run import SMALL

from mixgen import MixConfig
from mixgen.errors import RecipeError, TaskError
from mixgen.evaluation.evaluate import Evaluator
from mixgen.evaluation.generation import Generator
from mixgen.evaluation.results import result_json
from mixgen.tasks.base import Task, assistant, call, tool, user
from mixgen.tasks.messages import Score
from mixgen.tasks.trial import Metric, Result, Trial, Turn, distinct_examples
from mixgen.training.model import build_model


class Mine(Task):
    """A user's task, without a mistake."""

    name = "mine"
    flag = "mine"

    def sample(self, rng):
        number = rng.randrange(1000)
        return self.example(key=str(number), messages=[user(f"{number}?")], answer="yes")

    def score(self, example, reply):
        return Score(value=float(reply[-1]["content"] == "yes"))


def right(conversations):
    return [Turn([assistant("yes")]) for _ in conversations]


def tried(task) -> Result:
    return task.evaluate(right, split="train", num_examples=3)


def failing(error: Exception):
    def fail(*args, **kwargs):
        raise error

    return fail


def evaluator_of(task, tokenizer) -> Evaluator:
    return Evaluator([task], tokenizer, split="train", num_examples=3, max_new_tokens=4)


@pytest.fixture(scope="module")
def model(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    return build_model(MixConfig(output_dir=str(folder), **SMALL), tokenizer)


# --- mistakes in a task ---

EXACT = Metric(name="exact", count=1, total=2)
TALK = [Trial(messages=[{"role": "user", "content": "1?"}], score=Score(value=0.0))]  # not mixgen's


def result_of(**given) -> Result:
    return Result(**{"task": "mine", "split": "train", "metrics": [], "trials": [], **given})


ERRORS = [
    ValueError("no\nnumber"),
    RuntimeError(),
    OSError("no file"),
    KeyError("a"),
    TypeError(),
    SystemExit(0),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("part", ["score", "metrics", "sample"])
def test_an_error_in_a_tasks_code_is_one_line_with_its_name(part, error, monkeypatch):
    monkeypatch.setattr(Mine, part, failing(error))
    with pytest.raises(TaskError) as caught:
        tried(Mine())
    kind = type(error).__name__
    assert str(caught.value).startswith(f"task 'mine': {part} fails ({kind}")
    assert "\n" not in str(caught.value) and ": )" not in str(caught.value)
    assert caught.value.__cause__ is error


def test_mixgens_own_errors_pass_as_they_are(monkeypatch):
    monkeypatch.setattr(Mine, "score", failing(RecipeError("as it is")))
    with pytest.raises(RecipeError, match=r"^as it is$"):
        tried(Mine())


@pytest.mark.parametrize(
    ("part", "given", "message"),
    [
        ("score", 1.0, "task 'mine': score must give a Score, got 1.0"),
        ("metrics", None, "task 'mine': metrics must be a list of Metric, got None"),
        ("metrics", [0.5], r"task 'mine': metrics must be a list of Metric, got \[0.5\]"),
        ("evaluate", {"exact": 1}, "task 'mine': evaluate must give its Result, got {'exact': 1}"),
        (
            "evaluate",
            result_of(task="other"),
            "evaluate must give its Result, got Result.task='oth",
        ),
        ("evaluate", result_of(trials=TALK), "evaluate fails .KeyError: 'tool_calls'"),
        ("metrics", [EXACT, EXACT], "task 'mine': metric 'exact' is given twice"),
        ("sample", None, "task 'mine': sample fails .TypeError: 'NoneType' object"),
    ],
)
def test_what_a_task_gives_back_is_checked(part, given, message, tokenizer, monkeypatch):
    monkeypatch.setattr(Mine, part, lambda *args, **kwargs: given)
    with pytest.raises(TaskError, match=message):
        evaluator_of(Mine(), tokenizer).metric_kinds()


def calling_once(generator, conversations, tools) -> list[Turn]:
    """In place of a model: it calls a tool in each conversation."""
    outputs = [tools().call("python", {"code": "1"}) for _ in conversations]
    return [Turn([call("1"), tool(output), assistant("yes")]) for output in outputs]


def test_an_error_in_a_tasks_tools_is_told_as_the_tasks(tokenizer, model, monkeypatch):
    class Tools:
        def call(self, name, arguments):
            return self.answer()

    monkeypatch.setattr(Generator, "turns", calling_once)
    monkeypatch.setattr(Mine, "tools", lambda self: Tools())
    monkeypatch.setattr(Tools, "answer", lambda self: "1", raising=False)
    (result,) = evaluator_of(Mine(), tokenizer).results(model)
    assert result["exact"].rate == 1
    monkeypatch.setattr(Tools, "answer", failing(OSError("gone")))
    with pytest.raises(TaskError, match=r"task 'mine': tool python fails \(OSError: gone\)"):
        evaluator_of(Mine(), tokenizer).results(model)
    monkeypatch.setattr(Tools, "answer", lambda self: 1)
    with pytest.raises(TaskError, match="task 'mine': tool python must give text, got 1"):
        evaluator_of(Mine(), tokenizer).results(model)
    monkeypatch.setattr(Mine, "tools", failing(ValueError("none")))
    with pytest.raises(TaskError, match=r"task 'mine': tools fails \(ValueError: none\)"):
        evaluator_of(Mine(), tokenizer).results(model)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Score(value=0.0, reason=ValueError("bad")), "reason of a score must be text, got"),
        (lambda: Score(value=0.0, reason=None), "reason of a score must be text, got None"),
        (lambda: dataclasses.replace(EXACT, group=2), "metric 'exact': group must be text, got 2"),
        (lambda: dataclasses.replace(EXACT, unit=None), "metric 'exact': unit must be text"),
        (lambda: dataclasses.replace(EXACT, name="a\x1b[31m"), r"name must be text, got 'a.x1b"),
        (lambda: result_of(trials=[1]), "task 'mine': trials must be a list of Trial, got .1."),
        (lambda: result_of(note=5), "task 'mine': note must be text, got 5"),
    ],
)
def test_what_is_counted_has_names_of_text(make, message):
    with pytest.raises(TaskError, match=message):
        make()


def test_an_error_of_the_generator_is_not_told_as_the_tasks(tokenizer, model, monkeypatch):
    monkeypatch.setattr(model, "generate", failing(IndexError("index out of range in self")))
    with pytest.raises(IndexError, match="out of range"):
        evaluator_of(Mine(), tokenizer).results(model)


@pytest.mark.parametrize("part", ["score", "metrics", "tools"])
def test_a_task_that_cannot_be_tried_is_found_without_a_model(part, tokenizer, monkeypatch):
    monkeypatch.setattr(Mine, part, failing(NotImplementedError()))
    with pytest.raises(TaskError, match=rf"task 'mine': {part} fails \(NotImplementedError\)"):
        evaluator_of(Mine(), tokenizer).metric_kinds()


# --- counts and scores ---


def test_counts_of_numpy_can_be_written_as_json():
    metric = Metric(name="exact", count=np.int64(1), total=np.int32(2))
    score = Score(value=np.float32(1))
    result = Result(task="mine", split="test", metrics=[metric], trials=[Trial([], score)])
    assert json.loads(json.dumps(result_json(result)))["metrics"][0]["count"] == 1


@pytest.mark.parametrize(
    ("count", "total"), [(-1, 2), (3, 2), (0.5, 2), (math.nan, 2), (1, math.inf), (None, 2)]
)
def test_a_count_that_is_no_part_of_its_total_is_refused(count, total):
    with pytest.raises(TaskError, match=f"metric 'exact': count must .* got {count} of {total}"):
        Metric(name="exact", count=count, total=total)


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan, math.inf])
def test_a_score_beyond_0_and_1_is_refused(value):
    with pytest.raises(TaskError, match=f"must lie in 0 to 1, got {value}"):
        Score(value=value)


@pytest.mark.parametrize("is_sample", [True, False])
def test_forged_outputs_are_a_sample_where_the_first_metric_is(
    is_sample, tokenizer, model, monkeypatch
):
    metric = Metric(name="won", count=1, total=1, is_sample=is_sample)
    result = Result(task="mine", split="test", metrics=[metric], trials=[])
    monkeypatch.setattr(Mine, "evaluate", lambda *args, **kwargs: result)
    (found,) = evaluator_of(Mine(), tokenizer).results(model)
    assert found["forged_outputs"].is_sample is is_sample


# --- problems ---


class Few(Mine):
    """It has three problems, all of the train split."""

    def sample(self, rng):
        Few.draws += 1
        number = str(rng.randrange(3))
        return self.example(key=number, messages=[user(number)], answer="yes", split="train")

    draws = 0


def test_problems_are_drawn_once_and_each_caller_has_its_own():
    task = Few()
    first = distinct_examples(task, split="train", num_examples=9)
    draws = Few.draws
    first[0]["messages"][0]["content"] = "changed"
    again = distinct_examples(task, split="train", num_examples=9)
    assert len(again) == 3 and Few.draws == draws
    assert "changed" not in [example["messages"][0]["content"] for example in again]
    assert again == distinct_examples(Few(), split="train", num_examples=9)


def test_a_split_without_problems_is_empty_and_an_error_is_no_such_split(monkeypatch):
    monkeypatch.setattr("mixgen.tasks.base.MAX_REJECTIONS", 10)
    assert distinct_examples(Few(), split="test", num_examples=9) == []
    monkeypatch.setattr(Few, "sample", failing(TaskError("mine: the file is missing")))
    with pytest.raises(TaskError, match="the file is missing"):
        distinct_examples(Few(), split="train", num_examples=9)
