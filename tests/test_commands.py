"""The commands that show tasks and mixes and begin tasks: what they print, for people and pipes."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from mixgen.cli import app, main
from mixgen.encoding.tokenizer import train_tokenizer
from mixgen.tasks import registry

ROOT = Path(__file__).parent.parent
COMMANDS = get_command(app).commands


def command(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(word) for word in words])
    said = done.stdout + done.stderr
    if done.exception and not isinstance(done.exception, SystemExit):
        said += f"error: {done.exception}"
    return done.exit_code, said


def test_help_takes_under_half_a_second_and_imports_no_library():
    program = (
        "import sys; from mixgen.cli import main; sys.argv = ['mixgen', '--help']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'transformers', 'datasets', 'pyarrow') if m in sys.modules])"
    )
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        )
        seconds.append(time.perf_counter() - start)
        assert done.stdout.strip().endswith("[]") and "Usage" in done.stdout
    assert min(seconds) < 0.5


@pytest.mark.parametrize("name", COMMANDS)
def test_each_help_has_an_example_of_flags_that_there_are(name):
    text = COMMANDS[name].help
    (example,) = re.findall(r"Example: (?:.* \| )?(mixgen .*)", text)
    _, called, *words = shlex.split(example)
    assert called == name
    known = {option for parameter in COMMANDS[name].params for option in parameter.opts}
    for word in words:
        if word.startswith("-"):
            flag = word.partition("=")[0]
            assert flag in known | {"--calc_weight"}, flag


@pytest.mark.parametrize("flag", ["--max-seq-len", "--max_seq_len"])
def test_a_flag_may_be_written_as_run_train_has_it(flag):
    status, said = command("validate", "nothing_of_the_kind", flag, 64)
    assert status != 0 and "unknown task 'nothing_of_the_kind'" in said
    status, said = command("eval", "outputs/nothing/here", "--num_examples=5", "--batch-size=2")
    assert status != 0 and "No such option" not in said


def test_tasks_lists_all_tasks_a_line_each():
    status, said = command("tasks")
    head, *lines = said.splitlines()
    assert status == 0 and head.split()[:3] == ["task", "flag", "settings"]
    names = [line.split()[0] for line in lines]
    assert names == list(registry.registered_tasks())
    status, said = command("tasks", "--json")
    found = {one["task"]: one for one in map(json.loads, said.splitlines())}
    assert list(found) == names
    assert found["calculator"]["flag"] == "--calc_weight"
    assert found["calculator"]["examples_per_second"] > 1000


def test_tasks_of_a_name_lists_its_settings():
    status, said = command("tasks", "tictactoe")
    assert status == 0 and "--ttt_set_up_rate" in said and "0.5" in said
    status, said = command("tasks", "calculater")
    assert status != 0 and "did you mean 'calculator'?" in said


def test_preview_marks_what_is_trained_and_counts_tokens():
    status, said = command("preview", "calculator", "-n", 2)
    assert status == 0, said
    heads = re.findall(
        r"^(calculator-train-42-0-\d), key .*: (\d+) tokens, (\d+) of them", said, re.M
    )
    assert [head[0][-1] for head in heads] == ["0", "1"]
    assert all(0 < int(trained) < int(total) for _, total, trained in heads)
    assert said.count("«<|python_start|>") == 2 == said.count("<|assistant_end|>»")
    assert "\x1b" not in said  # a pipe
    status, said = command("preview", ROOT / "recipes/quickstart.yaml", "-n", 1, "--json")
    assert [json.loads(line)["task"] for line in said.splitlines()] == ["calculator", "tictactoe"]


CONTROL_TASK = '''
from mixgen.tasks.base import Task, assistant, user
from mixgen.tasks.registry import register

@register
class Escapes(Task):
    """Text that would turn a terminal red."""

    name = flag = "escapes"

    def sample(self, rng):
        word = f"\\x1b[31m{rng.randrange(1000)}"
        return self.example(key=word, messages=[user(word), assistant(word)], answer=word)
'''


def num_tokens(said):
    return sum(map(int, re.findall(r": (\d+) tokens", said)))


def test_a_recipe_is_previewed_with_the_tokens_of_its_run(tmp_path):
    """Its seed, its vocabulary, and the tokenizer of the model that it starts from."""
    recipe = tmp_path / "mine.yaml"

    def shown(settings):
        recipe.write_text(f"weights: {{calculator: 1}}\n{settings}")
        status, said = command("preview", recipe, "-n", 20)
        assert status == 0, said
        return said

    plain = shown("")
    assert shown("seed: null\nvocab_size: '1024'") == shown("seed: 42.0") == plain
    assert "calculator-train-7-0-0" in shown("seed: 7")
    few = num_tokens(shown("vocab_size: 300"))
    assert few > 1.2 * num_tokens(plain)
    words = command("preview", recipe, "-n", 1, "--seed", 3)[1]
    assert "calculator-train-3-0-0" in words
    of_few = train_tokenizer((registry.task_class("calculator")(),), seed=42, vocab_size=300)
    of_few.save_pretrained(tmp_path / "model")
    assert num_tokens(shown(f"model_name_or_path: {tmp_path / 'model'}")) == few


@pytest.mark.parametrize("name", ["preview", "export"])
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("seed: -1", "seed must be at least 0, got -1"),
        ("seed: 4294967296", "at most 4,294,967,295, got 4294967296"),
        ("seed: true", "invalid int value: 'True'"),
        ("vocab_size: 299", "vocab_size must be at least 300, got 299"),
        ("vocab_size: 10_000_000", "at most 1,000,000, got 10000000"),
        ("vocab_size: lots", "invalid int value: 'lots'"),
        ("model_name_or_path: /nowhere", "model_name_or_path '/nowhere' cannot be loaded"),
    ],
)
def test_what_a_run_refuses_of_tokens_is_refused_elsewhere(name, settings, said, tmp_path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(f"weights: {{calculator: 1}}\n{settings}")
    words = {
        "preview": ["preview", recipe],
        "export": ["export", "--recipe", recipe, "--num-tokens=900", "--output", tmp_path / "data"],
    }
    status, shown = command(*words[name])
    assert status != 0 and said in shown.splitlines()[-1], shown
    assert not (tmp_path / "data").exists()


def test_preview_shows_control_characters_and_does_not_send_them(tmp_path):
    (tmp_path / "ctl.py").write_text(CONTROL_TASK)
    try:
        for flags in ([], ["--tokens"]):
            status, said = command("preview", tmp_path / "ctl.py", "-n", 1, *flags)
            assert status == 0 and "\x1b" not in said and "\\x1b" in said
    finally:
        registry._REGISTRY.pop("escapes", None)


def test_preview_shows_where_tokens_end_if_asked():
    status, said = command("preview", "tictactoe", "-n", 1, "--tokens")
    assert status == 0 and "<|user_start|>·" in said
    assert re.search(r"·board\[\d\]\[\d\]='[XO]'\nprint\(board\)·<\|python_end\|>·»", said)
    plain = command("preview", "tictactoe", "-n", 1)[1]
    assert said.replace("·", "") == plain != said
    number = int(re.search(r": (\d+) tokens", said)[1])
    assert said.count("·") == number  # one after each


def test_preview_counts_the_tokens_that_the_renderer_makes(mix, renderer):
    from mixgen.encoding.preview import spans

    for task in mix.tasks:
        example = next(task.stream(split="train", seed=1))
        found = list(spans(example, renderer))
        ids, labels = renderer.encode(example)
        assert sum(len(span.tokens) for span in found) == len(ids)
        assert sum(len(span.tokens) for span in found if span.is_trained) == (labels >= 0).sum()
        assert "".join(span.text for span in found) == renderer.tokenizer.decode(ids)
        said = [span.speaker for span in found]
        assert said[:3] == ["assistant", "user", "assistant"] and {"call", "tool"} <= set(said)
        for span in found:
            assert not (span.is_trained and span.speaker in ("user", "tool"))


def test_mix_measures_what_a_recipe_asks_for():
    recipe = ROOT / "recipes/quickstart.yaml"
    status, said = command("mix", recipe, "-n", 3000, "--ttt_weight=1.0", "--json")
    assert status == 0, said
    lines = [line for line in said.splitlines() if line.startswith("{")]
    calculator, tictactoe = map(json.loads, lines)
    assert (calculator["asked_share"], tictactoe["asked_share"]) == (0.5, 0.5)
    assert abs(calculator["drawn_share"] - 0.5) < 0.04  # 4 standard deviations
    assert calculator["drawn_share"] + tictactoe["drawn_share"] == pytest.approx(1)
    by_lengths = calculator["drawn_share"] * calculator["mean_length"]
    by_lengths /= by_lengths + tictactoe["drawn_share"] * tictactoe["mean_length"]
    assert calculator["token_share"] == pytest.approx(by_lengths, abs=0.002)


def test_mix_shows_what_adaptive_weights_begin_with():
    status, said = command("mix", ROOT / "recipes/quickstart.yaml", "-n", 50, "--adaptive=true")
    assert status == 0, said
    assert said.count("calculator") == 1 and "from step 200 on they follow from" in said


def test_flags_of_tasks_change_what_is_shown_and_checked():
    status, said = command("preview", "calculator", "-n", 30, "--calc_max_depth=1", "--json")
    assert status == 0, said
    depths = {json.loads(line)["difficulty"] for line in said.splitlines()}
    assert depths == {1}
    status, said = command("preview", ROOT / "recipes/quickstart.yaml", "--calc_max_depth=9")
    assert status != 0 and "max_depth must lie in 1 to 3, got 9" in said
    status, said = command("validate", "calculator", "--calc_max_dept=1")
    assert status != 0 and "did you mean '--calc_max_depth'?" in said
    assert command("preview", "calculator", "--json", "--tokens")[0] != 0


def test_the_version_is_printed():
    import mixgen

    assert command("--version") == (0, f"{mixgen.__version__}\n")


def test_mix_shows_each_stage_of_a_schedule_and_a_plot():
    status, said = command("mix", ROOT / "recipes/gradual_tictactoe.yaml", "-n", 50)
    assert status == 0, said
    assert said.count("From step") == 4
    calculator, tictactoe = re.findall(r"^\w+ +\|(.*)\|$", said, re.M)
    assert len(calculator) == len(tictactoe) == 60
    assert calculator[0] == "█" and tictactoe[0] == " "  # nothing of it at first
    assert calculator[-1] == tictactoe[-1] == "▄"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["preview", "calculater"], "did you mean 'calculator'?"),
        (["preview", "nothing.py"], "nothing.py is not a Python file that exists"),
        (["preview", "recipes/quikstart.yaml"], "did you mean 'recipes/quickstart.yaml'?"),
        (["preview", "calculator", "--split=trian"], "did you mean 'train'?"),
        (["validate", "calculater"], "did you mean 'calculator'?"),
        (["preview", "calculator", "--numbr=3"], "did you mean '--number'?"),
        (["preview", "recipes/quickstart.yaml", "--sed=3"], "did you mean '--seed'?"),
        (["validate", "calculator", "--max-seq-length=3"], "did you mean '--max-seq-len'?"),
        (["preview", "calculator", "more"], "unexpected 'more'"),
        (["mix", "recipes/quickstart.yaml", "--calc_wieght=1"], "did you mean '--calc_weight'?"),
        (["mix", "recipes/quickstart.yaml", "--max_seq_len=64"], "64 is too short"),
        (["new-task", "my-task"], "did you mean 'my_task'?"),
        (["new-task", "Ünit"], "of ASCII letters"),
        (["new-task", "thing", "--output=no/thing.py"], "there is no folder no"),
        (["eval", "outputs/nothing"], "there is no checkpoint outputs/nothing"),
        (["mix", "calculater.yaml"], "'recipes/calculator_only.yaml'"),
        (["new-task", "calculator"], "choose another"),
        (["new-task", "random"], "a module of Python's own"),
        (["new-task", "depth"], "a key of recipes"),
        (["new-task", "weights"], "a key of recipes"),
        (
            ["mix", "recipes/quickstart.yaml", "--max_seq_len=64", "--json", "-n5"],
            "64 is too short",
        ),
        (["new-task", "ttt"], "choose another"),
        (["new-task", "thing", "--output=thing.txt"], "must end in .py"),
        (["new-task", "thing", "--output=README.md/thing.py"], "cannot be written"),
    ],
)
def test_a_mistake_is_one_clear_line(words, said, capfd, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["mixgen", *words])
    assert main() == 2
    errors = [line for line in capfd.readouterr().err.splitlines() if line != "Loading ..."]
    assert len(errors) == 1 and errors[0].startswith("error: ") and said in errors[0], errors


def test_a_users_mistake_is_one_clear_line():
    words = [sys.executable, "-m", "mixgen", "validate", "calculater"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    (error,) = done.stderr.splitlines()
    assert error.startswith("error: ") and "did you mean 'calculator'?" in error


def test_a_new_task_holds_the_contract_as_it_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, said = command("new-task", "counted_letters")
    assert status == 0 and "mixgen validate counted_letters.py" in said
    text = (tmp_path / "counted_letters.py").read_text()
    status, said = command("new-task", "counted_letters")
    assert status != 0 and "is there already" in said
    assert (tmp_path / "counted_letters.py").read_text() == text
    try:
        status, said = command("validate", "counted_letters.py")
        assert status == 0 and "\nThe contract holds.\n" in said, said
        assert len(said.splitlines()) <= 20  # one screen
        registry.task_class("counted_letters")
    finally:
        registry._REGISTRY.pop("counted_letters", None)
