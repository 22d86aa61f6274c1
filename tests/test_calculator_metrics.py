"""What is counted of a calculator's replies: exactly the faults that scripted answers make."""

from __future__ import annotations

import copy
import json
import math
import os
import random
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from statistics import NormalDist

import pytest
from expression_reader import depth_of, numbers_of, operators_of, read_prompt

from mixgen.tasks._one_call import ANSWER
from mixgen.tasks.base import SPLITS, Score, Task, assistant, call, split_of, tool, user
from mixgen.tasks.calculator import Calculator
from mixgen.tasks.trial import Metric, Turn, distinct_examples, roll_out
from mixgen.tools.expression import BINARY, FUNCTIONS
from mixgen.tools.session import ExpressionSession

ROOT = Path(__file__).parent.parent
NUM = 300
STEPS = ("call_runs", "value_right", "answer_repeats_tool")
TAGS = "<|python_start|>1<|python_end|><|output_start|>1<|output_end|><|assistant_end|>"
NOBODYS_VALUE = "123456789.25"  # no problem's answer
SMALL = Calculator.Config(
    max_depth=1,
    max_digits=1,
    max_decimals=0,
    negative_rate=0.0,
    function_rate=0.0,
    operators=["+", "*"],
)


def problems(split="test", num_examples=NUM):
    return distinct_examples(Calculator(), split=split, num_examples=num_examples)


@pytest.fixture(scope="module")
def examples():
    return problems()


def code_of(example):
    return example["messages"][1]["tool_calls"][0]["function"]["arguments"]["code"]


def said(example):
    return ANSWER % example["answer"]


def turn(*codes, says):
    """A turn that calls the tool with each code, which really runs, and then says something."""
    session = ExpressionSession()
    messages = []
    for code in codes:
        messages += [call(code), tool(session.call("python", {"code": code}))]
    return Turn([*messages, assistant(says)])


def gold(example):
    return Turn(example["messages"][1:])


def evaluated(script, examples, *, split="test", num_examples=None, task=None):
    """The result of a player that knows each problem by its prompt: `script(example) -> Turn`."""
    example_of = {example["messages"][0]["content"]: example for example in examples}
    assert len(example_of) == len(examples)

    def answer(conversations):
        for conversation in conversations:
            assert [message["role"] for message in conversation] == ["user"]
        return [script(example_of[conversation[0]["content"]]) for conversation in conversations]

    return (task or Calculator()).evaluate(
        answer, split=split, num_examples=num_examples or len(examples)
    )


def counts(result):
    """How many are exact, then how many come as far as each step."""
    return [result[name].count for name in ("exact", *STEPS)]


# Gold and fakes.


@pytest.mark.parametrize("split", SPLITS)
def test_gold_replies_are_all_exact_in_every_group(split):
    examples = problems(split)
    assert {example["split"] for example in examples} == {split}
    assert {split_of("calculator", example["key"]) for example in examples} == {split}
    result = evaluated(gold, examples, split=split)
    assert (result.task, result.split) == ("calculator", split)
    assert counts(result) == [NUM] * 4
    assert len(result.trials) == NUM
    groups = {metric.group for metric in result.metrics}
    assert len(groups) > len(BINARY) + len(FUNCTIONS) + 3
    for metric in result.metrics:
        assert metric.count == metric.total > 0
        assert metric.rate == metric.value == 1
        assert (metric.unit, metric.is_fault, metric.is_sample) == ("problems", False, True)


def test_the_problems_of_the_splits_are_not_the_same():
    keys = [{example["key"] for example in problems(split)} for split in SPLITS]
    assert [len(found) for found in keys] == [NUM] * 3
    assert len(set.union(*keys)) == 3 * NUM


def another(example, examples):
    """The next problem that has another answer."""
    at = examples.index(example)
    return next(
        other for other in examples[at + 1 :] + examples if other["answer"] != example["answer"]
    )


FAKES = {  # name: what it does, then how many of the three steps it does in every problem
    "a constant conversation": (lambda e, _: turn(NOBODYS_VALUE, says=ANSWER % NOBODYS_VALUE), 1),
    "the same without a call": (lambda e, _: Turn([assistant(ANSWER % NOBODYS_VALUE)]), 0),
    "silence": (lambda e, _: Turn([]), 0),
    "silence with a fault": (lambda e, _: Turn([], "too many tokens in one turn"), 0),
    "tag soup": (lambda e, _: Turn([assistant(TAGS * 10)]), 0),
    "tag soup with the answer": (lambda e, _: Turn([assistant(TAGS + said(e))]), 0),
    "tag soup as a call": (lambda e, _: turn(TAGS, says=said(e)), 0),
    "tag soup after the answer": (lambda e, _: turn(code_of(e), says=said(e) + TAGS), 2),
    "another problem's text": (lambda e, other: gold(other), 1),
    "another problem's call": (lambda e, other: turn(code_of(other), says=said(e)), 1),
    "another problem's words": (lambda e, other: turn(code_of(e), says=said(other)), 2),
    "nonsense that cannot run": (lambda e, _: turn("nonsense", says=said(e)), 0),
    "nonsense that runs": (lambda e, _: turn(f"{NOBODYS_VALUE}+1", says=said(e)), 1),
    "no call": (lambda e, _: Turn([assistant(said(e))]), 0),
    "no call, twice": (lambda e, _: Turn([assistant(said(e)), assistant(said(e))]), 0),
    "an empty call": (lambda e, _: turn("", says=said(e)), 0),
    "the right number after an error": (lambda e, _: turn(f"{code_of(e)}/0", says=said(e)), 0),
    "the error as the answer": (lambda e, _: turn("1/0", says=ANSWER % "error"), 0),
    "a second call after an error": (lambda e, _: turn("1/0", code_of(e), says=said(e)), 0),
    "a second call to be sure": (lambda e, _: turn(code_of(e), code_of(e), says=said(e)), 3),
    "another number": (lambda e, _: turn(code_of(e), says=ANSWER % f"{e['answer']}1"), 2),
    "the other sign": (lambda e, _: turn(code_of(e), says=ANSWER % f"-{e['answer']}"), 2),
    "the number alone": (lambda e, _: turn(code_of(e), says=e["answer"]), 2),
    "two answers": (lambda e, _: turn(code_of(e), says=f"{said(e)} {said(e)}"), 2),
    "nothing said": (lambda e, _: turn(code_of(e), says=""), 2),
    "no end after the call": (lambda e, _: Turn(e["messages"][1:3]), 2),
    "a fault after all was right": (lambda e, _: gold(e)._replace(fault="context is full"), 3),
    "words before the call": (
        lambda e, _: Turn([{**call(code_of(e)), "content": "So:"}, *e["messages"][2:]]),
        3,
    ),
    "an output that no tool printed": (
        lambda e, _: Turn([call(code_of(e)), tool(f"{e['answer']}1"), assistant(said(e))]),
        2,
    ),
    "an output that no tool printed, repeated": (
        lambda e, _: Turn([call(code_of(e)), tool("7.25"), assistant(ANSWER % "7.25")]),
        3,
    ),
    "the answer as the output of another call": (
        lambda e, _: Turn([call(NOBODYS_VALUE), tool(e["answer"]), assistant(said(e))]),
        1,
    ),
}


@pytest.mark.parametrize("name", FAKES)
def test_a_fake_has_exact_0_and_comes_as_far_as_it_does(name, examples):
    fake, steps = FAKES[name]
    result = evaluated(lambda e: fake(e, another(e, examples)), examples)
    assert counts(result) == [0] + [NUM * (steps > step) for step in range(3)]
    assert all(metric.count == 0 for metric in result.metrics if metric.name == "exact")
    assert all(trial.score.value == 0 and trial.score.reason for trial in result.trials)


def test_one_answer_to_all_is_exact_only_where_it_is_the_answer(examples):
    answers = Counter(example["answer"] for example in examples)
    ((commonest, number),) = answers.most_common(1)
    result = evaluated(lambda e: turn(commonest, says=ANSWER % commonest), examples)
    assert counts(result) == [number, NUM, number, number]
    assert 0 < number < NUM / 10


def test_an_expression_of_the_same_value_is_as_good_as_the_problems_own(examples):
    result = evaluated(lambda e: turn(f"({code_of(e)})*1+0", says=said(e)), examples)
    assert counts(result) == [NUM] * 4


# Mixtures.


def test_a_mixture_is_counted_to_the_single_fault(examples):
    kinds = ["gold", *FAKES]
    for seed in range(5):
        generator = random.Random(seed)
        kind_of = {
            example["key"]: kinds[int(generator.random() * len(kinds))] for example in examples
        }
        expected = [0, 0, 0, 0]
        for kind in kind_of.values():
            steps = 3 if kind == "gold" else FAKES[kind][1]
            expected[0] += kind == "gold"
            for step in range(3):
                expected[1 + step] += steps > step

        def play(example, kind_of=kind_of):
            kind = kind_of[example["key"]]
            if kind == "gold":
                return gold(example)
            return FAKES[kind][0](example, another(example, examples))

        result = evaluated(play, examples)
        assert counts(result) == expected
        assert all(result[name].total == NUM for name in ("exact", *STEPS))
        exact, runs, right, repeats = expected
        assert NUM > runs > right > repeats > exact > 0  # the steps are told apart
        scored = [kind_of[example["key"]] == "gold" for example in examples]
        assert [trial.score.value == 1 for trial in result.trials] == scored


def test_trials_keep_the_order_of_the_problems_and_tell_the_whole_conversation(examples):
    result = evaluated(gold, examples)
    assert [trial.messages for trial in result.trials] == [e["messages"] for e in examples]
    assert [trial.messages[0]["content"] for trial in result.trials] == [
        example["messages"][0]["content"] for example in examples
    ]


# Groups, as an independent reader of the prompts finds them.


def groups_of(example):
    tree = read_prompt(example["messages"][0]["content"])
    digits = max(len(re.sub(r"[^0-9]", "", number)) for number in numbers_of(tree))
    return {
        f"depth {depth_of(tree)}",
        f"digits {digits}",
        *(f"operator {name}" for name in operators_of(tree)),
    }


def test_groups_hold_each_problem_once_by_what_its_prompt_says(examples):
    result = evaluated(gold, examples)
    totals = Counter(group for example in examples for group in groups_of(example))
    found = {m.group: m.total for m in result.metrics if m.name == "exact" and m.group}
    assert found == totals
    assert len([m for m in result.metrics if m.name == "exact"]) == len(totals) + 1  # none twice
    for kind, least in (("depth", 3), ("digits", 6)):
        parts = [total for group, total in found.items() if group.startswith(f"{kind} ")]
        assert len(parts) >= least
        assert sum(parts) == NUM
    operators = {group.removeprefix("operator ") for group in found if "operator" in group}
    assert operators == {*BINARY, *FUNCTIONS}
    repeated = [
        example
        for example in examples
        if max(Counter(example["metadata"]["operators"]).values()) > 1
    ]
    assert len(repeated) > 10  # each still counts once
    assert {metric.group for metric in result.metrics if metric.name != "exact"} == {""}


@pytest.mark.parametrize("failing", ["depth 2", "digits 4", "operator **", "operator sin"])
def test_a_fault_in_one_group_is_counted_in_every_group_of_its_problems(failing, examples):
    result = evaluated(
        lambda e: turn("1/0", says="?") if failing in groups_of(e) else gold(e), examples
    )
    right = Counter(
        group
        for example in examples
        if failing not in groups_of(example)
        for group in groups_of(example)
    )
    found = {m.group: m.count for m in result.metrics if m.name == "exact" and m.group}
    assert found[failing] == 0 < result[f"exact/{failing}"].total
    assert {group: count for group, count in found.items() if count} == right
    for kind in ("depth", "digits"):
        parts = [count for group, count in found.items() if group.startswith(f"{kind} ")]
        assert sum(parts) == result["exact"].count == NUM - result[f"exact/{failing}"].total


# The problems.


def test_problems_are_distinct_and_the_same_in_every_run(examples):
    assert len({example["key"] for example in examples}) == NUM
    assert len({example["messages"][0]["content"] for example in examples}) == NUM
    random.seed(7)  # noqa: TID251 - must not matter
    assert problems() == examples
    assert problems(num_examples=50) == examples[:50]
    asked = []

    def answer(conversations):
        asked.extend(conversation[-1]["content"] for conversation in conversations)
        return [Turn([], "silent")] * len(conversations)

    task = Calculator()
    for _ in range(2):
        task.evaluate(answer, split="test", num_examples=NUM)
    assert asked == [example["messages"][0]["content"] for example in examples] * 2


def test_another_process_finds_the_same_problems_and_metrics_in_the_same_order(examples):
    program = (
        "import dataclasses, json\n"
        "from mixgen.tasks.calculator import Calculator\n"
        "from mixgen.tasks.trial import Turn\n"
        "silent = lambda conversations: [Turn([], 'silent')] * len(conversations)\n"
        f"result = Calculator().evaluate(silent, split='test', num_examples={NUM})\n"
        "print(json.dumps([[trial.messages[0]['content'] for trial in result.trials],"
        " [dataclasses.asdict(metric) for metric in result.metrics]]))"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
            env={
                **os.environ,
                "PYTHONHASHSEED": hash_seed,
                "PYTHONPATH": os.pathsep.join(sys.path),
            },
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(outputs) == 1
    prompts, metrics = json.loads(outputs.pop())
    assert prompts == [example["messages"][0]["content"] for example in examples]
    assert len(metrics) > 20


def test_where_there_are_fewer_problems_than_asked_the_totals_are_smaller():
    task = Calculator(SMALL)
    generator = random.Random(0)
    keys = {}
    for _ in range(20_000):
        example = task.sample(generator)
        keys.setdefault(example["split"], set()).add(example["key"])
    number = len(keys["train"])
    assert 100 <= number <= 110 == 2 * 55  # of two numbers in any order
    examples = distinct_examples(task, split="train", num_examples=1000)
    assert {example["key"] for example in examples} == keys["train"]
    result = evaluated(gold, examples, split="train", num_examples=1000, task=task)
    assert counts(result) == [number] * 4
    assert result["exact"].total == result["exact/depth 1"].total == len(result.trials) == number
    assert result["exact/operator +"].total + result["exact/operator *"].total == number
    few = evaluated(gold, examples, split="train", num_examples=10, task=task)
    assert few["exact"].total == 10


def test_where_there_is_no_problem_nothing_is_counted_and_nobody_is_asked():
    def answer(conversations):
        assert not conversations
        return []

    result = Calculator(SMALL).evaluate(answer, split="test", num_examples=0)
    assert [(metric.count, metric.total) for metric in result.metrics] == [(0, 0)] * 4
    assert all(math.isnan(metric.rate) for metric in result.metrics)
    assert result["exact"].interval == (0.0, 1.0)
    assert result.trials == []


# Intervals.

NEWCOMBE = {  # "Two-sided confidence intervals for the single proportion", 1998, table I, method 3
    (81, 263): (0.2553, 0.3662),
    (15, 148): (0.0624, 0.1605),
    (0, 20): (0.0000, 0.1611),
    (1, 29): (0.0061, 0.1718),
}


def interval(count, total):
    return Metric(name="exact", count=count, total=total).interval


@pytest.mark.parametrize(("count", "total"), NEWCOMBE)
def test_an_interval_is_the_published_one(count, total):
    published = NEWCOMBE[count, total]
    assert interval(count, total) == pytest.approx(published, abs=5e-5)
    mirrored = (1 - published[1], 1 - published[0])
    assert interval(total - count, total) == pytest.approx(mirrored, abs=5e-5)


def bound(count, total, towards):
    """By bisection, the share that a score test just does not reject, between the rate and 0 or 1.

    An independent way to the root of (rate - share)**2 = z**2 * share * (1 - share) / total.
    """
    z = NormalDist().inv_cdf(0.975)
    rate = count / total
    accepted, rejected = rate, float(towards)
    for _ in range(80):
        share = (accepted + rejected) / 2
        if (rate - share) ** 2 <= z * z * share * (1 - share) / total:
            accepted = share
        else:
            rejected = share
    return accepted


def test_an_interval_is_what_a_score_test_does_not_reject():
    for total in (1, 2, 3, 10, 97, 1000):
        for count in sorted({0, 1, total // 3, total // 2, total - 1, total}):
            low, high = interval(count, total)
            assert low == pytest.approx(bound(count, total, 0), abs=1e-9)
            assert high == pytest.approx(bound(count, total, 1), abs=1e-9)


def test_an_interval_of_none_or_all_ends_at_0_or_1_and_is_not_empty():
    z2 = NormalDist().inv_cdf(0.975) ** 2
    for total in range(1, 500):
        assert interval(0, total) == pytest.approx((0, z2 / (total + z2)), abs=1e-12)
        assert interval(total, total) == pytest.approx((total / (total + z2), 1), abs=1e-12)


def test_intervals_lie_in_0_to_1_hold_the_rate_and_grow_with_the_count():
    for total in (1, 7, 50, 333):
        bounds = [interval(count, total) for count in range(total + 1)]
        for count, (low, high) in enumerate(bounds):
            assert 0 <= low <= count / total + 1e-12
            assert count / total - 1e-12 <= high <= 1
            assert high - low < 1
        assert bounds == sorted(bounds)
        assert [high for _, high in bounds] == sorted(high for _, high in bounds)


@pytest.mark.parametrize("total", [20, 50, 200])
def test_an_interval_holds_the_true_share_in_about_95_percent_of_samples(total):
    bounds = [interval(count, total) for count in range(total + 1)]
    coverages = []
    for share in [number / 1000 for number in range(1, 1000)]:
        coverages.append(
            sum(
                math.comb(total, count) * share**count * (1 - share) ** (total - count)
                for count, (low, high) in enumerate(bounds)
                if low <= share <= high
            )
        )
    assert sum(coverages) / len(coverages) == pytest.approx(0.95, abs=0.01)
    assert min(coverages) > 0.83  # Brown, Cai and DasGupta 2001: lowest near 0 and 1


def test_a_metric_of_faults_is_logged_as_its_count_and_others_as_their_share():
    assert Metric(name="losses", count=3, total=80, is_fault=True).value == 3.0
    assert Metric(name="exact", count=3, total=80).value == 3 / 80


# Conversations of several turns.


class Echo(Task):
    """The user says words, one a turn; the assistant repeats each."""

    name = "echo_of_tests"
    flag = "echo"

    def score(self, example, reply):
        replies = [message["content"] for message in reply if message["role"] == "assistant"]
        words = [message["content"] for message in reply if message["role"] == "user"]
        if replies != words:
            return Score(value=0.0, reason=f"said {replies}")
        return Score(value=1.0)

    def problem(self, *words):
        messages = [make(word) for word in words for make in (user, assistant)]
        return self.example(key=" ".join(words), messages=messages, answer=words[-1])


class Player:
    """Repeats what the user said but where a script gives a turn; keeps what it was asked."""

    def __init__(self, script=None):
        self.script = script or {}
        self.asked = []

    def __call__(self, conversations):
        self.asked.append(copy.deepcopy([list(conversation) for conversation in conversations]))
        said = [conversation[-1]["content"] for conversation in conversations]
        return [self.script.get(words) or Turn([assistant(words)]) for words in said]


def test_a_conversation_is_put_turn_by_turn_with_all_that_was_said():
    task = Echo()
    examples = [task.problem("a1", "a2"), task.problem("b1", "b2")]
    before = copy.deepcopy(examples)
    wrong = Turn([assistant("b0")])
    player = Player({"b1": wrong})
    trials = roll_out(task, player, examples)
    assert player.asked == [
        [[user("a1")], [user("b1")]],
        [
            [user("a1"), assistant("a1"), user("a2")],
            [user("b1"), assistant("b0"), user("b2")],
        ],
    ]
    assert [trial.score for trial in trials] == [
        Score(value=1.0),
        Score(value=0.0, reason="said ['b0', 'b2']"),
    ]
    assert trials[0].messages == examples[0]["messages"]
    assert [trial.messages[0]["content"] for trial in trials] == ["a1", "b1"]
    assert examples == before


def test_after_a_fault_no_further_turn_is_asked_and_the_score_is_0_with_that_reason():
    task = Echo()
    examples = [task.problem(f"{name}1", f"{name}2") for name in "abcd"]
    player = Player(
        {
            "b1": Turn([assistant("b1")], "too many tokens in one turn"),
            "c1": Turn([], "context is full"),
            "d2": Turn([assistant("d2")], "too many calls in one turn"),
        }
    )
    trials = roll_out(task, player, examples)
    assert [[turn[-1]["content"] for turn in asked] for asked in player.asked] == [
        ["a1", "b1", "c1", "d1"],
        ["a2", "d2"],
    ]
    assert [trial.score for trial in trials] == [
        Score(value=1.0),
        Score(value=0.0, reason="too many tokens in one turn"),
        Score(value=0.0, reason="context is full"),
        Score(value=0.0, reason="too many calls in one turn"),  # though all was said
    ]
    assert trials[1].messages == [user("b1"), assistant("b1")]
    assert trials[2].messages == [user("c1")]
    assert trials[3].messages == examples[3]["messages"]


def test_what_ended_with_a_fault_is_not_scored_by_the_task():
    class Strict(Echo):
        def score(self, example, reply):
            raise AssertionError(reply)

    task = Strict()
    (trial,) = roll_out(task, Player({"a1": Turn([], "silent")}), [task.problem("a1", "a2")])
    assert trial.score == Score(value=0.0, reason="silent")


def test_conversations_of_different_lengths_end_each_at_its_own():
    task = Echo()
    examples = [task.problem("a1"), task.problem("b1", "b2", "b3"), task.problem("c1", "c2")]
    player = Player()
    trials = roll_out(task, player, examples)
    assert [[turn[-1]["content"] for turn in asked] for asked in player.asked] == [
        ["a1", "b1", "c1"],
        ["b2", "c2"],
        ["b3"],
    ]
    assert [trial.score.value for trial in trials] == [1.0] * 3
    assert [trial.messages for trial in trials] == [example["messages"] for example in examples]


def test_no_problems_give_no_trials_and_an_answer_for_each_is_required():
    task = Echo()
    assert roll_out(task, Player(), []) == []
    with pytest.raises(ValueError, match="zip"):
        roll_out(task, lambda conversations: [], [task.problem("a1")])
