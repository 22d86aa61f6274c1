"""The generators of reasoning-gym as tasks, one by one."""

from __future__ import annotations

import builtins
import copy
import decimal
import hashlib
import itertools
import json
import os
import pickle
import random
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import yaml
from attacks import ATTACKS
from datasets import load_dataset
from small_run import SMALL
from test_export import command

from mixgen import RecipeError, TaskError, configure_mix, load_mixture
from mixgen.load import mix_of_recipe
from mixgen.mixture.tables import table_of
from mixgen.publishing.export import delete_shards
from mixgen.publishing.plan import make_plan, read_plan
from mixgen.recipe import parse_recipe
from mixgen.tasks import _reasoning_gym as adapter
from mixgen.tasks import registry
from mixgen.tasks._reasoning_gym_rules import EXACT, OWN_RULES, REBUILT, REFUSED
from mixgen.tasks.base import SPLITS, split_of
from mixgen.tasks.registry import task_class
from mixgen.validation.corruptions import broken_replies, corruptions

pytest.importorskip("reasoning_gym")

ROOT = Path(__file__).parent.parent
GENERATORS = adapter.generators()
WORKING = [name for name in GENERATORS if name not in REFUSED]
# Some of these take seconds for one example.
SLOW = {
    "countdown",
    "futoshiki",
    "game_of_life",
    "game_of_life_halting",
    "intermediate_integration",
    "jugs",
    "number_sequence",
    "polynomial_equations",
    "puzzle24",
    "quantum_lock",
    "rearc",
    "simple_integration",
    "sokoban",
    "sudoku",
    "zebra_puzzles",
}
FAST = [name for name in WORKING if name not in SLOW]
QUICK_OR_SLOW = [
    pytest.param(FAST, 8, id="fast"),
    pytest.param(sorted(SLOW), 4, id="slow", marks=pytest.mark.slow),
]


@pytest.fixture(scope="module", autouse=True)
def _leave_no_task():
    """Other tests go through all tasks that are registered."""
    yield
    for name in [name for name in registry._REGISTRY if ":" in name]:
        del registry._REGISTRY[name]


def make(generator: str, **settings: object):
    cls = task_class(f"reasoning_gym:{generator}")
    return cls(cls.Config(**settings))


def seeds(count: int) -> list[int]:
    draw = random.Random(20).getrandbits
    return [draw(64) for _ in range(count)]


def examples_of(generator: str, count: int) -> list:
    generated = random.Random(20)
    task = make(generator)
    return [task.sample(generated) for _ in range(count)]


def reply_of(example, text: str) -> list:
    question, last = copy.deepcopy(example["messages"])
    return [question, {**last, "content": text}]


# --- all generators ---


def test_the_rules_name_generators_that_there_are():
    assert len(GENERATORS) > 100
    assert set(GENERATORS) >= {*REFUSED, *EXACT, *OWN_RULES, *REBUILT, *SLOW}
    assert not set(REFUSED) & {*EXACT, *OWN_RULES}
    assert not set(EXACT) & set(OWN_RULES)
    for name, reason in REFUSED.items():
        with pytest.raises(TaskError, match=re.escape(reason)):
            make(name)


@pytest.mark.parametrize(("generators", "count"), QUICK_OR_SLOW)
def test_every_generator_makes_examples_that_it_scores_1_and_other_answers_0(generators, count):
    for generator in generators:
        task = make(generator)
        examples = examples_of(generator, count)
        table = table_of([{**one, "id": str(number)} for number, one in enumerate(examples)])
        assert table.num_rows == count
        assert len({one["key"] for one in examples}) > 1, generator
        for example, other in itertools.pairwise(examples):
            assert example["split"] == split_of(task.name, example["key"])
            assert example["key"] == " ".join(example["messages"][0]["content"].split())
            assert [one["role"] for one in example["messages"]] == ["user", "assistant"]
            assert example["messages"][1]["content"] == example["answer"]
            assert example["answer"] == example["answer"].strip() != ""
            assert len(json.dumps(example["metadata"])) < 10_000
            again = json.loads(json.dumps(example))
            assert again == example
            assert task.score(again, again["messages"]).value == 1, generator
            # The seed alone is enough to make the library's entry again, and it agrees.
            entry = task._entry(int(again["metadata"]["seed"]))
            assert entry["answer"].strip() == example["answer"]
            if generator not in {*EXACT, *OWN_RULES}:
                assert task._value(entry["answer"], entry) >= 1, generator
            for wrong in ("no idea", "-17.25", "nan", "?"):
                score = task.score(example, reply_of(example, wrong))
                assert score.value == 0 and score.reason, (generator, wrong)
            if other["answer"] != example["answer"]:
                both = f"{example['answer']}, or else {other['answer']}"
                assert task.score(example, reply_of(example, both)).value == 0, generator


DIGESTS = """
import hashlib, json, sys
sys.path.insert(0, "tests")
from test_reasoning_gym import digests
print(json.dumps(digests(sys.argv[1].split(","), int(sys.argv[2]))))
"""


def digests(generators: list[str], count: int, *, backwards: bool = False) -> dict[str, list[str]]:
    """Hashes of examples by the seeds of their streams; the order of drawing is ours."""
    found = {}
    for generator in generators:
        task = make(generator)
        numbers = range(count)
        drawn = {
            number: task.sample(random.Random(number))
            for number in (reversed(numbers) if backwards else numbers)
        }
        found[generator] = [
            hashlib.sha256(json.dumps(drawn[number]).encode()).hexdigest() for number in numbers
        ]
    return found


def global_states() -> tuple:
    numpys = np.random.get_state()[1].tobytes()  # noqa: NPY002
    return random.getstate(), numpys, decimal.getcontext().prec


@pytest.mark.parametrize(("generators", "count"), QUICK_OR_SLOW)
def test_an_example_is_a_pure_function_of_its_stream(generators, count, capsys):
    words = [sys.executable, "-c", DIGESTS, ",".join(generators), str(count)]
    paths = {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "4711"}
    elsewhere = subprocess.Popen(
        words, env={**os.environ, **paths}, cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    random.seed(1)  # noqa: TID251 - the noise that must not matter
    np.random.seed(1)  # noqa: NPY002, TID251
    before = global_states()
    here = digests(generators, count, backwards=True)
    assert global_states() == before
    shown = capsys.readouterr()
    assert shown.out == shown.err == ""
    said, _ = elsewhere.communicate()
    assert elsewhere.returncode == 0
    assert json.loads(said) == here


def test_entries_without_an_answer_are_passed_over(monkeypatch):
    task = make("chain_sum")
    made = task._entry
    answers = iter([None, "", " ", 7, "8"])
    monkeypatch.setattr(task, "_entry", lambda seed: made(seed) | {"answer": next(answers)})
    assert task.sample(random.Random(0))["answer"] == "8"


def test_streams_of_other_seeds_share_no_example():
    """The library's own `seed + index` makes the stream of seed 43 that of 42, shifted by one."""
    task = make("chain_sum", min_digits=4)
    found = {
        seed: {example["key"] for example in itertools.islice(stream, 200)}
        for seed in (42, 43)
        for stream in [task.stream(split="train", seed=seed)]
    }
    assert len(found[42]) > 190
    assert not found[42] & found[43]


def test_splits_share_no_question():
    task = make("lcm", max_value=40)  # few questions, so that each comes often
    found = {
        split: {one["key"] for one in itertools.islice(task.stream(split=split, seed=3), 100)}
        for split in SPLITS
    }
    assert all(found.values())
    assert not (found["train"] & found["test"]) | (found["validation"] & found["test"])


def test_threads_share_a_task_without_disturbing_each_other():
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # seconds
    try:
        share_tasks_between_threads()
    finally:
        sys.setswitchinterval(interval)


def share_tasks_between_threads() -> None:
    for generator in ("chain_sum", "survo", "gsm_symbolic", "decimal_arithmetic"):
        task = make(generator)
        alone = [task.sample(random.Random(number)) for number in range(200)]
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(lambda n, t=task: t.sample(random.Random(n)), range(200)))
        assert together == alone


def test_a_task_is_copied_to_other_processes():
    task = make("chain_sum", min_terms=4)
    for again in (pickle.loads(pickle.dumps(task)), copy.deepcopy(task)):  # noqa: TID251
        assert again.config == task.config
        assert again.sample(random.Random(3)) == task.sample(random.Random(3))


MARK = "mine + 1"  # what would be found in a source that is run
NASTY = (
    *(text for texts in ATTACKS.values() for text in texts),
    *("nan", "NaN", "-inf", "1e999999999", "-1e9,999,999", "[NaN]", "[" * 5000, '{"a":' * 1000),
    *("9" * 5000, "(" * 5000, "x" * 9999, "A ∧ " * 2000 + "A", "R" * 9000, "\0", "٣", "1 " * 4900),
    *("Move disk 1 from Peg 1 to Peg 2\n" * 300, "UDLR" * 2000, "fill A", '["fill A"]' * 500, "No"),
    *("0/0", MARK),
)


@pytest.mark.parametrize(("generators", "_count"), QUICK_OR_SLOW)
def test_nasty_replies_neither_raise_nor_hang_nor_are_right_nor_run(
    generators, _count, monkeypatch, capsys
):
    run = []
    for name, real in (("eval", eval), ("exec", exec)):

        def spy(source, *more, real=real):
            run.append(source)
            return real(source, *more)

        monkeypatch.setattr(builtins, name, spy)
    for generator in generators:
        task = make(generator)
        (example,) = examples_of(generator, 1)
        entry = task._entry(int(example["metadata"]["seed"]))
        monkeypatch.setattr(task, "_entry", lambda _, entry=entry: copy.deepcopy(entry))
        for text in NASTY:
            # The shortest ones may be right: a number, a letter.
            if len(text.strip()) > 1 and text.strip() != example["answer"]:
                begin = time.process_time()
                score = task.score(example, reply_of(example, text))
                assert time.process_time() - begin < 2, (generator, text)
                assert not score.value or re.fullmatch(r"[\d.]+|No", text), (generator, text)
                assert score.value or score.reason
    assert not [source for source in run if "mine" in str(source)]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("generator", ["chain_sum", "group_anagrams", "quantum_lock", "survo"])
def test_replies_of_another_form_score_0_and_say_why(generator):
    task = make(generator)
    example, other = examples_of(generator, 2)
    replies = [*corruptions(example, other)]
    tried = [one.reply for one in replies] + list(broken_replies(example["messages"]))
    assert len(tried) > 40
    for reply in tried:
        score = task.score(example, reply)
        assert score.value < 1 and score.reason, reply


# --- what the library gets wrong ---


@pytest.mark.parametrize(
    ("generator", "wrong"),
    [
        ("calendar_arithmetic", lambda answer: "17"),
        ("complex_arithmetic", lambda answer: "nan"),
        ("game_of_life", lambda answer: answer[:-1] + ", [1]]"),
        ("game_of_life_halting", lambda answer: "whatever"),
        ("gsm_symbolic", lambda answer: f"-{answer}"),
        ("letter_jumble", lambda answer: f"{answer} more"),
        ("number_sorting", lambda answer: re.sub(r"-?[\d.]+", "NaN", answer).replace("'", "")),
        ("word_sorting", lambda answer: f"{answer}, more"),
        ("decimal_arithmetic", lambda answer: f"{answer}0001"),
        ("fraction_simplification", lambda answer: f"{answer} or 1/2"),
        ("advanced_geometry", lambda answer: f"{answer}, or (1, 1)"),
        ("time_intervals", lambda answer: f"{answer.split()[0]} bananas"),
        ("polynomial_equations", lambda answer: f"{answer}, or perhaps seven"),
        ("coin_flip", lambda answer: "0"),
    ],
)
def test_what_the_library_would_give_1_for_is_wrong_here(generator, wrong):
    """Each is really given 1 by the library, so that a version that is mended shows itself here."""
    task = make(generator)
    given = 0
    for seed in seeds(400 if generator in ("calendar_arithmetic", "coin_flip") else 40):
        entry = task._entry(seed)
        text = wrong(entry["answer"])
        given += task._value(text, entry) >= 1
        example = {
            **task.example(key=adapter._key(entry["question"]), messages=[], answer="?"),
            "answer": entry["answer"],
            "metadata": {"seed": str(seed)},
        }
        from mixgen.tasks.base import assistant, user

        example["messages"] = [user(entry["question"]), assistant(entry["answer"])]
        if text != entry["answer"]:
            assert task.score(example, reply_of(example, text)).value == 0
    assert given, f"{generator}: the library is mended"


def test_another_right_answer_is_right():
    (example,) = examples_of("n_queens", 1)
    task = make("n_queens")
    others = task._entry(int(example["metadata"]["seed"]))["metadata"]["valid_answers"]
    assert all(task.score(example, reply_of(example, text)).value == 1 for text in others)
    assert task.score(example, reply_of(example, "[[0]]")).value == 0

    task = make("chain_sum")
    example = next(one for one in examples_of("chain_sum", 50) if len(one["answer"]) > 2)
    assert task.score(example, reply_of(example, f" {example['answer']}.0\n")).value == 1


@pytest.mark.parametrize("generator", ["countdown", "puzzle24"])
def test_expressions_are_worked_out_without_eval(generator):
    rule = OWN_RULES[generator]
    facts = {"numbers": [10, 4, 2, 2], "target": 24}
    assert rule("(10 + 4 - 2)*2", facts)
    assert rule("2*(10 - 2 + 4)", facts)
    wrong = ("24", "10 + 4*2 + 2", "10 + 10 + 4", "(10+4-2)*2*2/2", "2*10 + 4*2/2 + 0", "")
    assert not any(rule(text, facts) for text in (*wrong, "__import__('os')", "(" * 999))


def test_a_reply_is_not_judged_by_another_entry():
    example = next(one for one in examples_of("chain_sum", 9))
    with pytest.raises(TaskError, match="made with other settings"):
        make("chain_sum", min_terms=6).score(example, reply_of(example, "not it"))


# --- settings ---


def test_settings_are_the_librarys_and_its_errors_are_one_line():
    config = make("chain_sum").config
    assert (config.min_terms, config.max_terms, config.allow_negation) == (2, 6, False)
    assert not hasattr(config, "seed") and not hasattr(config, "size")
    with pytest.raises(TaskError, match=r"^reasoning_gym:chain_sum: .*min_terms=-1") as caught:
        make("chain_sum", min_terms=-1)
    assert "\n" not in str(caught.value)
    long = make("chain_sum", min_terms=9, max_terms=9).sample(random.Random(1))
    assert len(re.findall(r"\d+", long["key"])) == 9
    assert make("calendar_arithmetic", tasks=["is_leap_year"]).config.tasks == ["is_leap_year"]


def test_the_settings_that_no_entry_satisfies_are_one_clear_error():
    task = make("chain_sum")
    task._dataset = None
    with pytest.raises(TaskError, match=r"reasoning_gym:chain_sum: 1,000 entries in a row"):
        task.sample(random.Random(0))


# --- recipes and flags ---


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "mine.yaml"
    content = {
        "weights": {
            "calculator": 1.0,
            "reasoning_gym:chain_sum": 0.5,
            "reasoning_gym:figlet_font": 1,
        },
        "reasoning_gym:chain_sum": {"min_terms": 3},
        "reasoning_gym:figlet_font": {"max_word_len": 4},
    }
    path.write_text(yaml.safe_dump(content))
    return path


def parse(*words: object):
    return parse_recipe([str(word) for word in words], {"calculator": 1.0})


def test_a_recipe_and_flags_name_generators_and_their_settings(recipe):
    words = ["--reasoning_gym_chain_sum_weight=0.7", "--reasoning_gym_chain_sum_max_terms=8"]
    found = parse(recipe, *words, "--reasoning-gym-game-of-life-halting-weight=0.1")
    weights = {
        task.name: points[0][1]
        for task, points in zip(found.schedule.tasks, found.schedule.points, strict=True)
    }
    assert weights == {
        "calculator": 1.0,
        "reasoning_gym:chain_sum": 0.7,
        "reasoning_gym:figlet_font": 1.0,
        "reasoning_gym:game_of_life_halting": 0.1,
    }
    config = next(task.config for task in found.schedule.tasks if "chain_sum" in task.name)
    assert (config.min_terms, config.max_terms) == (3, 8)


def test_a_flag_alone_names_a_generator():
    found = parse("--reasoning_gym_lcm_weight=0.5")
    assert [task.name for task in found.schedule.tasks] == ["calculator", "reasoning_gym:lcm"]


def test_a_resolved_recipe_makes_the_same_run_again(recipe, tmp_path):
    resolved = parse(recipe, "--depth=1").resolved
    again = tmp_path / "again.yaml"
    again.write_text(yaml.safe_dump(resolved))
    assert parse(again).resolved == resolved
    assert resolved["reasoning_gym:chain_sum"]["min_terms"] == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--reasoning_gym_chain_sun_weight=1"], "command line: .*did you mean 'chain_sum'"),
        (
            ["--reasoning_gym_chain_sum_min_trems=1"],
            "did you mean '--reasoning_gym_chain_sum_min_te",
        ),
        (
            ["--reasoning_gym_boxnet_weight=1"],
            "boxnet cannot be a task: its entries have no answer",
        ),
        (
            ["--reasoning_gym_lcm_weight=1", "--reasoning_gym_lcm_min_value=-3"],
            "command line: .*lcm",
        ),
    ],
)
def test_wrong_flags_are_refused_in_one_line(words, message):
    with pytest.raises((TaskError, RecipeError), match=message):
        parse(*words)


def test_wrong_names_in_a_recipe_are_refused_with_its_name(tmp_path):
    path = tmp_path / "mine.yaml"
    for name, message in (
        ("reasoning_gym:chain_sun", "mine.yaml: .*did you mean 'chain_sum'"),
        ("reasoning_gym:", "mine.yaml: unknown generator ''"),
        ("reasoninggym:chain_sum", "mine.yaml: unknown task 'reasoninggym:chain_sum'"),
    ):
        path.write_text(yaml.safe_dump({"weights": {name: 1}}))
        for read in (parse, load_mixture):
            with pytest.raises((TaskError, RecipeError), match=message):
                read(path)


def test_without_the_library_one_line_says_what_to_install():
    code = (
        "import sys; sys.modules['reasoning_gym'] = None\n"
        "import mixgen\n"
        "print(mixgen.configure_mix(calculator=1))\n"
        "try: mixgen.configure_mix(**{'reasoning_gym:chain_sum': 1})\n"
        "except mixgen.TaskError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 2
    assert 'pip install -e ".[reasoning-gym]"' in done.stdout


def test_the_library_is_imported_only_where_it_is_named():
    code = (
        "import sys, mixgen; mixgen.configure_mix(calculator=1)\n"
        "print('reasoning_gym' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "False\n", done.stderr


# --- from end to end ---


def test_a_mixture_of_generators_streams(recipe):
    found = list(load_mixture(recipe, seed=3).take(60))
    assert {one["task"] for one in found} == {
        "calculator",
        "reasoning_gym:chain_sum",
        "reasoning_gym:figlet_font",
    }
    task = make("chain_sum", min_terms=3)
    for example in found:
        if example["task"] == task.name:
            assert task.score(example, example["messages"]).value == 1


def test_an_export_is_read_by_the_names_of_its_configs(recipe, tmp_path):
    folder = tmp_path / "data"
    words = ["export", f"--recipe={recipe}", "--splits=train=60", f"--output={folder}"]
    status, shown = command(*words, "--reasoning_gym_chain_sum_max_terms=4")
    assert status == 0, shown
    read = load_dataset(str(folder), "reasoning_gym-chain_sum", cache_dir=str(tmp_path / "cache"))
    assert set(read["train"]["task"]) == {"reasoning_gym:chain_sum"}
    assert {len(re.findall(r"\d+", key)) for key in read["train"]["key"]} == {3, 4}
    # The recipe that it holds makes the same plan again; what is unset is left out of it.
    mix = mix_of_recipe(folder / "recipe.yaml")
    assert make_plan(mix, splits={"train": 60}) == read_plan(folder)
    delete_shards(folder)
    assert not list(folder.rglob("*.parquet"))


def test_tasks_whose_configs_would_have_one_name_are_refused():
    mix = configure_mix(**{"reasoning_gym:lcm": 1.0, "calculator": 1.0})
    other = type(mix.tasks[0])()
    type(other).name = "reasoning_gym-lcm"
    try:
        with pytest.raises(RecipeError, match="both be dataset config 'reasoning_gym-lcm'"):
            make_plan(mix, splits={"train": 10})
    finally:
        type(other).name = "calculator"


@pytest.mark.slow
def test_a_run_trains_on_generators_and_its_recipe_is_read_back(recipe, tmp_path):
    folder = tmp_path / "run"
    words = [sys.executable, "run_train.py", str(recipe), f"--output_dir={folder}", "--max_steps=2"]
    words += [f"--{key}={value}" for key, value in SMALL.items()]
    words += ["--eval_examples=4", "--per_device_train_batch_size=2"]
    words += ["--reasoning_gym_figlet_font_weight=0", "--reasoning_gym_lcm_weight=1"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "reasoning_gym:chain_sum" in done.stdout
    (written,) = folder.glob("recipe.yaml")
    found = yaml.safe_load(written.read_text())
    assert found["weights"]["reasoning_gym:chain_sum"] == 0.5
    assert found["weights"]["reasoning_gym:lcm"] == 1.0
    assert parse(written).resolved["reasoning_gym:chain_sum"]["min_terms"] == 3
    shown = command("eval", folder, "--num-examples", 2)
    assert shown[0] == 0, shown
    assert "reasoning_gym:lcm" in shown[1]


# --- the page ---


def test_the_page_lists_all_generators():
    page = (ROOT / "docs/reasoning-gym.md").read_text()
    rows = [line.split(" | ") for line in page.partition("## All of them")[2].splitlines()[4:]]
    listed = {row[0].removeprefix("| "): row[1:] for row in rows}
    assert list(listed) == GENERATORS
    for name, (speed, *_, judge) in listed.items():
        assert (speed == "refused") == (name in REFUSED), name
        assert ("word for word" in judge) == (name in EXACT), name
