"""Models tried during training and by `mixgen eval`, and the report of a run."""

from __future__ import annotations

import html.parser
import io
import json
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import weakref
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from example_task import TASK
from safetensors.torch import load_file, save_file
from small_run import SMALL, trainer_of
from trained_model import easy_calculator, trained_model
from transformers import AutoTokenizer
from typer.testing import CliRunner

import mixgen.finish
import mixgen.main
from mixgen import MixConfig, RecipeError, cli
from mixgen.cards import NAME
from mixgen.cli import app
from mixgen.commands import evaluate as evaluate_command
from mixgen.errors import MixgenError, OutputError, TaskError
from mixgen.evaluation.evaluate import Evaluator
from mixgen.evaluation.generation import Generator
from mixgen.evaluation.loading import load_checkpoint
from mixgen.evaluation.plots import loss_figure, skill_figure
from mixgen.evaluation.report import comparison_rows, write_report
from mixgen.evaluation.results import (
    conversation_text,
    machine_facts,
    metric_rows,
    percent,
    result_json,
    result_table,
    save_evaluation,
    summary_line,
)
from mixgen.evaluation.run_files import read_run
from mixgen.files import write_whole
from mixgen.tasks.base import Task
from mixgen.tasks.calculator import Calculator
from mixgen.tasks.messages import Score, assistant, user
from mixgen.tasks.trial import Metric, Result, Trial, Turn
from mixgen.training.callbacks import StopCallback
from mixgen.training.model import build_model
from mixgen.training.resumable import ResumableTrainer
from mixgen.training.trainer import MixTrainer

ROOT = Path(__file__).parent.parent
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


# --- trying a model ---


def test_a_model_that_has_learned_its_task_is_found_right():
    model, renderer = trained_model()
    evaluator = Evaluator(
        [easy_calculator()], renderer.tokenizer, split="train", num_examples=50, batch_size=16
    )
    (result,) = evaluator.results(model)
    assert result["exact"].count == result["exact"].total == 50
    assert result["forged_outputs"].total == 50
    assert evaluator(model)["calculator/exact"] == 1.0
    assert set(evaluator(model)) == set(evaluator.metric_kinds())
    assert all(trial.messages[2]["role"] == "tool" for trial in result.trials)


def test_a_model_that_knows_nothing_is_found_wrong(tmp_path):
    _, renderer = trained_model()
    fresh = build_model(MixConfig(output_dir=str(tmp_path), **SMALL), renderer.tokenizer)
    evaluator = Evaluator([easy_calculator()], renderer.tokenizer, split="train", num_examples=20)
    (result,) = evaluator.results(fresh)
    assert result["exact"].count == 0
    assert all(trial.score.reason for trial in result.trials)


# --- during training ---


class Script:
    """An evaluator that gives one value after the other."""

    def __init__(self, *values: float) -> None:
        self.values = list(values)

    def __call__(self, model) -> dict[str, float]:
        assert isinstance(model, torch.nn.Module)
        return {"calculator/exact": self.values.pop(0), "calculator/forged_outputs": 0.0}


@pytest.fixture
def scripted(monkeypatch):
    """Gives the small trainer an evaluator, as the roof does."""

    def give(script):
        monkeypatch.setattr(
            "small_run.MixTrainer", lambda **given: MixTrainer(**given, evaluator=script)
        )

    return give


BEST = {
    "max_steps": 8,
    "eval_steps": 2,
    "save_steps": 2,
    "save_total_limit": 2,
    "per_device_train_batch_size": 2,
    "learning_rate": 0.01,
    "metric_for_best_model": "eval/calculator/exact",
}


def test_each_evaluation_is_logged_with_its_step_and_tokens(mix, renderer, tmp_path, scripted):
    scripted(Script(0.5, 0.5, 0.5, 0.5))
    trainer = trainer_of(
        mix, renderer, tmp_path, max_steps=8, eval_steps=2, per_device_train_batch_size=2
    )
    trainer.train()
    entries = [e for e in trainer.state.log_history if "eval_calculator/exact" in e]
    assert [entry["step"] for entry in entries] == [2, 4, 6, 8]
    tokens = [entry["num_input_tokens_seen"] for entry in entries]
    assert tokens == sorted(set(tokens)) and tokens[0] > 0
    assert all(entry["eval_calculator/exact"] == 0.5 for entry in entries)


def test_who_asks_to_stop_does_not_wait_for_an_evaluation(mix, renderer, tmp_path, scripted):
    scripted(Script())  # fails if it is asked
    trainer = trainer_of(
        mix, renderer, tmp_path, max_steps=4, eval_steps=1, per_device_train_batch_size=2
    )
    stop = StopCallback()
    stop.asked_at = 0.0
    trainer.add_callback(stop)
    trainer.train()
    assert stop.stopped and trainer.state.global_step == 1
    assert (tmp_path / "checkpoint-1").is_dir()


def test_the_best_checkpoint_is_kept_and_loaded_at_the_end(mix, renderer, tmp_path, scripted):
    scripted(Script(0.1, 0.9, 0.5, 0.4))
    trainer = trainer_of(mix, renderer, tmp_path, **BEST, load_best_model_at_end=True)
    trainer.train()
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == [
        "checkpoint-4",
        "checkpoint-8",
    ]
    assert trainer.state.best_model_checkpoint == str(tmp_path / "checkpoint-4")
    best = load_checkpoint(tmp_path / "checkpoint-4")[0]
    last = load_checkpoint(tmp_path / "checkpoint-8")[0]
    assert all(map(torch.equal, trainer.model.parameters(), best.parameters()))
    assert not all(map(torch.equal, best.parameters(), last.parameters()))


def test_the_best_checkpoint_is_known_after_the_run_was_moved_and_goes_on(
    mix, renderer, tmp_path, scripted
):
    scripted(Script(0.1, 0.9, 0.5, 0.4))
    trainer_of(mix, renderer, tmp_path / "a", **BEST).train()
    (tmp_path / "a").rename(tmp_path / "b")
    scripted(Script(0.3, 0.2))
    again = trainer_of(mix, renderer, tmp_path / "b", **{**BEST, "max_steps": 12})
    again.train(resume_from_checkpoint=str(tmp_path / "b/checkpoint-8"))
    assert again.state.best_model_checkpoint == str(tmp_path / "b/checkpoint-4")
    assert again.state.best_metric == 0.9
    assert (tmp_path / "b/checkpoint-4").is_dir()


def test_a_metric_without_anything_to_count_yet_is_no_best(mix, renderer, tmp_path, scripted):
    scripted(lambda model: {})
    trainer = trainer_of(mix, renderer, tmp_path, **BEST)
    trainer.train()
    assert trainer.state.best_metric is None


def test_a_sharded_model_is_not_tried_during_training(
    mix, renderer, tmp_path, scripted, monkeypatch
):
    """Generation would have to gather its weights for each token."""
    begin = ResumableTrainer.__init__

    def begin_sharded(self, **given):  # FSDP itself needs several processes
        begin(self, **given)
        self.is_fsdp_enabled = True

    monkeypatch.setattr(ResumableTrainer, "__init__", begin_sharded)
    scripted(Script(0.5))
    trainer_of(mix, renderer, tmp_path / "a", max_steps=2)  # nothing to try
    with pytest.raises(RecipeError, match="eval_steps does not work with FSDP"):
        trainer_of(mix, renderer, tmp_path / "b", max_steps=2, eval_steps=1)


# --- loading ---


WORDS = [
    "--depth=1",
    "--head_dim=32",
    "--aspect_ratio=32",
    "--max_seq_len=256",
    "--per_device_train_batch_size=2",
    "--calc_weight=1",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run: its folder as `mixgen` finds it."""
    folder = tmp_path_factory.mktemp("runs") / "small"
    words = [
        "--max_steps=4",
        "--eval_steps=2",
        "--logging_steps=1",
        "--eval_examples=3",
        "--test_examples=6",
        "--ttt_weight=0.5",
        "--calc_max_depth=1",
    ]
    assert mixgen.main.main([*WORDS, *words, f"--output_dir={folder}"]) == 0
    return folder


def copied(run: Path, folder: Path, *without: str) -> Path:
    shutil.copytree(run, folder, ignore=shutil.ignore_patterns("checkpoint-*", *without))
    return folder


def test_what_is_no_trained_model_is_refused_clearly(run, tmp_path, mix):
    with pytest.raises(RecipeError, match=f"did you mean {run}"):
        load_checkpoint(run.parent / "smal")
    with pytest.raises(RecipeError, match=r"there is no checkpoint \S+/smal$"):
        load_checkpoint(tmp_path / "smal")  # nothing is near
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(RecipeError, match=r"holds no model \(no config.json\)"):
        load_checkpoint(empty)
    for name in ("checkpoint-9", "checkpoint-10", "checkpoint-best"):
        (empty / name).mkdir()
        shutil.copy(run / "config.json", empty / name)
    with pytest.raises(RecipeError, match=r"did you mean .*checkpoint-10"):
        load_checkpoint(empty)
    with pytest.raises(RecipeError, match="is a file, not a directory"):
        load_checkpoint(run / "model.safetensors")
    with pytest.raises(RecipeError, match="cannot be loaded"):
        load_checkpoint(copied(run, tmp_path / "no weights", "*.safetensors"))
    with pytest.raises(RecipeError, match="its tokenizer lacks"):
        load_checkpoint(copied(run, tmp_path / "no tokenizer", "tokenizer*"))

    partial = copied(run, tmp_path / "partial")
    weights = load_file(partial / "model.safetensors")
    del weights["transformer.h.0.attn.c_attn.weight"], weights["transformer.wpe.weight"]
    save_file(weights, partial / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(RecipeError, match=r"lacks weights: transformer\.h\.0\.\S+ and 1 more"):
        load_checkpoint(partial)

    config = json.loads((run / "config.json").read_text())
    shallow = copied(run, tmp_path / "shallow")
    (shallow / "config.json").write_text(json.dumps({**config, "n_layer": config["n_layer"] - 1}))
    with pytest.raises(
        RecipeError, match=r"has no place for: transformer\.h\.\d\.\S+ and \d+ more"
    ):
        load_checkpoint(shallow)
    shifted = copied(run, tmp_path / "shifted")
    _, tokenizer = load_checkpoint(run)
    tokenizer.add_tokens([f"word{number}" for number in range(100)])
    tokenizer.save_pretrained(shifted)
    with pytest.raises(
        RecipeError,
        match=r"of another model: it has token [\d,]+, and the model [\d,]+ embeddings",
    ):
        load_checkpoint(shifted)

    broken = copied(run, tmp_path / "broken")
    model, _ = load_checkpoint(broken)
    with torch.no_grad():
        next(model.parameters())[0, 0] = torch.nan
    model.save_pretrained(broken)
    with pytest.raises(RecipeError, match="not finite"):
        load_checkpoint(broken)

    plain = copied(run, tmp_path / "plain", "chat_template.jinja")
    with pytest.raises(RecipeError, match="has no chat template"):
        load_checkpoint(plain)
    stranger = copied(run, tmp_path / "stranger", "tokenizer*", "chat_template.jinja")
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    PreTrainedTokenizerFast(tokenizer_object=backend).save_pretrained(stranger)
    with pytest.raises(RecipeError, match=r"its tokenizer lacks <\|bos\|>.*model_name_or_path"):
        load_checkpoint(stranger)


# --- the command ---


def command(*words: object) -> tuple[int, str]:
    """The exit status and the output of the command; a user's error is its message."""
    done = CliRunner().invoke(app, [str(word) for word in words])
    if isinstance(done.exception, MixgenError):
        return 2, f"error: {done.exception}"
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


def test_eval_prints_tables_and_failures_and_writes_what_it_counted(run):
    status, shown = command("eval", run, "--num-examples=8", "--failures=2")
    assert status == 0
    assert "calculator, test split" in shown and "tictactoe, test split" in shown
    assert "calculator, failure 2 of " in shown
    found = json.loads((run / "evaluation-test.json").read_text())
    calculator, tictactoe = found["results"]
    assert calculator["metrics"][0]["total"] == 8
    assert {m["group"] for m in calculator["metrics"]} >= {"", "depth 1"}  # the run's settings
    assert "depth 2" not in {m["group"] for m in calculator["metrics"]}
    assert tictactoe["failures"][0]["messages"]
    facts = found["facts"]
    assert facts["parameters"] > 1000
    assert (facts["split"], facts["num_examples"], facts["temperature"]) == ("test", 8, 0.0)
    assert facts["checkpoint"] == str(run)


def test_eval_takes_tasks_split_and_output(run, tmp_path):
    out = tmp_path / "new" / "counts.json"
    status, shown = command(
        "eval", run, "--tasks=calculator", "--split=validation", "--num-examples=4",
        f"--output={out}", "--json",
    )  # fmt: skip
    assert status == 0
    (result,) = json.loads(shown[shown.index("[{") :])
    assert (result["task"], result["split"]) == ("calculator", "validation")
    assert json.loads(out.read_text())["results"] == [result]


def test_a_model_and_its_tools_run_by_hand_as_documented(run, tmp_path, monkeypatch):
    (source,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/evaluation.md").read_text(), re.S)
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs/quickstart").symlink_to(run)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(source, "docs/evaluation.md", "exec"), names)
    assert isinstance(names["turn"], Turn)


MISTAKES = {
    "no such split": (["eval", "{run}", "--split=tset"], "did you mean 'test'"),
    "no such task": (["eval", "{run}", "--tasks=calculater"], "did you mean 'calculator'"),
    "no such checkpoint": (["eval", "{run}x"], "there is no checkpoint"),
    "a list of tasks without any": (["eval", "{run}", "--tasks=,"], "names no task"),
    "a temperature near 0": (["eval", "{run}", "--temperature=1e-45"], "at least 0.01, got 1e-45"),
    "a file for a checkpoint": (["eval", "{run}/config.json"], "is a file, not a directory"),
    "a recipe without a task": (["eval", "{run}", "--recipe={zero}"], "no task a weight above 0"),
    "no such recipe": (["eval", "{run}", "--recipe={run}/r.yaml"], "cannot be read"),
    "an output that is a folder": (
        ["eval", "{run}", "--num-examples=1", "--tasks=calculator", "--output={run}"],
        "cannot be written",
    ),
    "no run to report": (["report", "{run}/.."], "holds no run"),
    "a run that is not there": (["report", "{run}x"], "did you mean"),
    "one of two runs is not there": (["report", "{run}", "{run}x"], "did you mean"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_users_mistake_is_one_clear_line(name, run, tmp_path):
    words, part = MISTAKES[name]
    zero = tmp_path / "zero.yaml"
    zero.write_text("weights: {calculator: 0, tictactoe: 0}\n")
    status, shown = command(*(word.format(run=run, zero=zero) for word in words))
    assert status == 2
    assert part in shown.splitlines()[-1]


def test_an_output_that_cannot_be_written_is_refused_before_anything_is_done(
    run, tmp_path, monkeypatch
):
    monkeypatch.setattr("mixgen.evaluation.loading.load_checkpoint", None)
    monkeypatch.setattr("mixgen.evaluation.report.write_report", None)
    for name in ("eval", "report"):
        assert "it is a directory" in command(name, run, "--output=.")[1]
        ending = {"eval": ".json", "report": ".html"}[name]
        below = run / "config.json" / f"out{ending}"
        assert "config.json is a file" in command(name, run, f"--output={below}")[1]
        assert f"must end in {ending}" in command(name, run, f"--output={run}/model.safetensors")[1]
        device = tmp_path / f"device{ending}"
        if not device.exists():
            os.mkfifo(device)
        assert "it is no file" in command(name, run, f"--output={device}")[1]
        with monkeypatch.context() as patched:
            patched.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
            written = command(name, run, f"--output={run / 'new' / 'out'}{ending}")[1]
            assert "is not writable" in written
    for own in ("config.json", "trainer_state.json", "tokenizer.json", "evaluation.json"):
        assert "of the run or model there" in command("eval", run, f"--output={run / own}")[1]
    assert not (run / "new").exists()


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a/b/\x1b[31mred", r"error: there is no checkpoint a/b/\x1b[31mred"),
        ("a/b/\u202ethgir", r"error: there is no checkpoint a/b/\u202ethgir"),
        ("a" * 300, f"error: {'a' * 300}: File name too long"),
    ],
)
def test_the_command_prints_one_line_of_visible_characters(name, shown, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["mixgen", "eval", name])
    assert cli.main() == 2
    assert capsys.readouterr().err.splitlines()[-1] == shown


def test_a_terminal_that_lacks_a_character_gets_its_code(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["mixgen", "eval", "a/b/\N{SNOWMAN}"])
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stderr", terminal)
    assert cli.main() == 2
    terminal.flush()
    assert terminal.buffer.getvalue().endswith(b"there is no checkpoint a/b/\\u2603\n")


def test_a_file_is_written_whole_and_no_other_is_touched(tmp_path):
    (tmp_path / ".evaluation.json").write_text("mine")
    write_whole(tmp_path / "evaluation.json", "{}")
    found = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert found == {".evaluation.json": "mine", "evaluation.json": "{}"}


def test_what_was_counted_is_shown_although_it_cannot_be_written(run, monkeypatch):
    def full(*given):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mixgen.evaluation.results.save_evaluation", full)
    words = ["eval", str(run), "--num-examples=1", "--tasks=calculator"]
    done = CliRunner().invoke(app, words)
    assert "calculator, test split" in done.output
    assert isinstance(done.exception, OutputError)
    assert "evaluation-test.json cannot be written: No space left" in str(done.exception)


def test_python_that_comes_with_a_model_runs_only_if_it_is_trusted(run, tmp_path):
    folder = copied(run, tmp_path / "sly")
    sly = TASK.replace("NAME", "sly").replace("FLAG", "sly")
    (folder / "sly.py").write_text(f"{sly}\nopen({str(tmp_path / 'was run')!r}, 'w').close()")
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text())
    recipe["task_files"] = [str(folder / "sly.py")]
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    status, shown = command("eval", folder, "--tasks=calculator")
    assert status == 2 and "--trust-remote-code runs it" in shown
    assert not (tmp_path / "was run").exists()
    for given in ((None, "calculator", True), (folder / "recipe.yaml", "calculator", False)):
        assert [task.name for task in evaluate_command.tasks_to_try(str(folder), *given)] == [
            "calculator"
        ]
    assert (tmp_path / "was run").exists()


def test_a_task_that_is_named_twice_is_tried_once(run):
    (task,) = evaluate_command.tasks_to_try(str(run), None, "calculator, calculator", False)
    assert task.config.max_depth == 1


def test_the_command_has_its_two_commands_and_ends_by_a_signal(run, monkeypatch):
    status, shown = command("--help")
    assert status == 0 and "eval " in shown and "report " in shown

    def interrupted(*given):
        raise KeyboardInterrupt

    monkeypatch.setattr("mixgen.evaluation.report.write_report", interrupted)
    monkeypatch.setattr(sys, "argv", ["mixgen", "report", str(run)])
    with pytest.raises(SystemExit, match="130"):
        cli.main()


def test_the_command_says_errors_in_one_line_and_starts_quickly(run):
    words = [sys.executable, "-m", "mixgen.cli", "eval", "nothing/here"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in done.stderr
    program = (
        "import sys, mixgen.cli; print([m for m in ('torch', 'datasets') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_a_task_of_a_users_own_is_evaluated_with_its_settings(run, tmp_path):
    task_file = tmp_path / "parity.py"
    task_file.write_text(TASK.replace("NAME", "parity_of_eval").replace("FLAG", "poe"))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"task_files: [{task_file}]\nweights: {{parity_of_eval: 1.0}}\n"
        "parity_of_eval: {largest: 40}\n"
    )
    status, shown = command("eval", run, f"--recipe={recipe}", "--split=train")
    assert status == 0, shown
    found = json.loads((run / "evaluation-train.json").read_text())["results"][0]
    assert found["task"] == "parity_of_eval"
    assert found["metrics"][0]["total"] <= 41  # no more distinct problems than there are


def test_a_task_that_fails_when_it_is_tried_is_named(tokenizer, monkeypatch):
    class Unscored(Calculator):
        score = Task.score

    evaluator = Evaluator([Unscored()], tokenizer, num_examples=2)
    replies = [Turn([assistant("4")]), Turn([assistant("5")])]
    monkeypatch.setattr(Generator, "turns", lambda *given: replies)
    with pytest.raises(TaskError, match=r"task 'calculator': score fails .*NotImplementedError"):
        evaluator.results(trained_model()[0])


def test_a_split_without_a_problem_is_said_and_not_counted():
    result = Result(
        task="parity",
        split="test",
        metrics=[Metric(name="exact", count=0, total=0)],
        trials=[],
    )
    assert summary_line(result, 1.0) == "parity  has no problems of the test split"
    assert result_json(result)["metrics"] == []
    table = "parity, test split\nno problems of the test split"
    assert result_table(result_json(result)) == table


def test_a_split_without_a_problem_and_notes_are_told_in_report_and_card(run, tmp_path):
    folder = copied(run, tmp_path / "none")
    none = Metric(name="exact", count=0, total=0)
    result = Result(task="parity", split="test", metrics=[none], trials=[], note="Odd <numbers>.")
    save_evaluation([result], {}, folder / "evaluation.json")
    assert write_report(folder) is None
    page, card = Page((folder / "report.html").read_text()), (folder / "README.md").read_text()
    for text in (page.text, card, result_table(result_json(result))):
        assert "o problems of the test split" in text
        assert "Odd <numbers>." in text


# --- the report ---


class Page(html.parser.HTMLParser):
    """The tags and the text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [value for key, value in attrs if key in ("src", "href") and value]

    def handle_data(self, data):
        self.text += data


def test_a_run_ends_with_a_report_and_a_model_card(run):
    page = Page((run / "report.html").read_text())
    assert page.tags.count("svg") == 2  # skill and loss
    assert not [source for source in page.sources if not source.startswith("#")]  # offline
    for words in ("calculator", "tictactoe", "95 %", "max_depth: 1", "run_train.py recipe.yaml"):
        assert words in page.text
    card = (run / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: transformers\n")
    tried = json.loads((run / "evaluation.json").read_text())["results"]
    asked = {one["messages"][0]["content"] for r in tried for one in r["failures"]}
    assert any(f'"content": {json.dumps(words)}' in card for words in asked)  # what it can do
    for plot in ("loss_by_task.png", "skill.png"):
        assert f"]({plot})" in card
        assert (run / plot).read_bytes().startswith(b"\x89PNG")
    assert "### calculator\n" in card and "| exact |" in card
    for text in (page.text, card):
        assert "Test split, num_examples 6, greedy decoding; tools really run." in text
        assert "asked at the start" in text


def test_the_use_that_a_card_shows_runs(run, tmp_path, capsys):
    _, _, rest = (run / "README.md").read_text().partition("```python\n")
    program = tmp_path / "use.py"
    program.write_text(rest.partition("```")[0].replace(NAME, str(run)))
    runpy.run_path(str(program))
    assert capsys.readouterr().out.strip()


def test_a_card_that_is_not_mixgens_is_left_as_it_is(run, tmp_path):
    folder = copied(run, tmp_path / "edited")
    (folder / "README.md").write_text("# Mine")
    (folder / "skill.png").write_bytes(b"mine, too")  # which it may show
    status, shown = command("report", folder)
    assert status == 0 and "README.md is not mixgen's, and was left as it is." in shown
    assert (folder / "README.md").read_text() == "# Mine"
    assert (folder / "skill.png").read_bytes() == b"mine, too"
    assert "not mixgen's" not in command("report", copied(run, tmp_path / "own"))[1]


def test_the_report_of_one_run_goes_where_it_is_asked_to(run, tmp_path):
    before = (run / "report.html").stat().st_mtime_ns
    status, shown = command("report", run, f"--output={tmp_path / 'new' / 'page.html'}")
    assert status == 0 and "page.html" in shown
    assert "<h1>small</h1>" in (tmp_path / "new" / "page.html").read_text()
    assert (run / "report.html").stat().st_mtime_ns == before


def test_the_report_tells_what_the_files_of_the_run_say(run):
    found = read_run(run)
    calculator, tictactoe = found.mix
    entries = [e for e in found.log_history if "loss" in e]
    assert len(entries) == 4
    assert calculator.examples == sum(e["examples/calculator"] for e in entries)
    assert calculator.example_share + tictactoe.example_share == pytest.approx(1)
    assert (calculator.asked, tictactoe.asked) == (pytest.approx(2 / 3), pytest.approx(1 / 3))
    assert found.tokens == entries[-1]["num_input_tokens_seen"]
    assert [tokens for tokens, _ in found.skill()["calculator"]] == [
        entries[1]["num_input_tokens_seen"],
        entries[3]["num_input_tokens_seen"],
    ]
    assert found.seconds > 0


def test_what_a_model_writes_is_text_in_the_page_and_no_markup(run, tmp_path):
    folder = copied(run, tmp_path / "sly")
    sly = "<script>alert(1)</script><img src=x onerror=alert(1)>\x1b[31m"
    trial = Trial(messages=[user(sly), assistant(sly)], score=Score(value=0.0, reason=sly))
    metrics = [Metric(name="exact", count=0, total=1)]
    model, _ = load_checkpoint(folder)
    result = Result(task="calculator", split="test", metrics=metrics, trials=[trial])
    save_evaluation([result], machine_facts(model), folder / "evaluation.json")
    write_report(folder)
    page = Page((folder / "report.html").read_text())
    assert "script" not in page.tags and "img" not in page.tags
    seen = sly.replace("\x1b", r"\x1b")
    assert page.text.count(seen) == 3
    assert conversation_text([user("\x9b0m\0\tb")]) == "user       \\x9b0m\\x00\tb"


def test_a_report_without_a_final_evaluation_says_so(run, tmp_path):
    folder = copied(run, tmp_path / "unevaluated", "evaluation*.json", "report.html")
    write_report(folder)
    assert "was not tried on its tasks" in (folder / "report.html").read_text()
    for name in ("report.html", "README.md"):  # nothing is said that is not known
        text = (folder / name).read_text()
        assert "0 parameters" not in text and " on ." not in text and "None" not in text
    rows = dict(comparison_rows([read_run(folder)]))
    assert rows["parameters"] == ""


def test_what_mixgen_eval_has_counted_is_in_the_next_report(run, tmp_path):
    folder = copied(run, tmp_path / "later", "evaluation*.json")
    content = json.loads((run / "evaluation.json").read_text())
    (folder / "evaluation.json").write_text(json.dumps({"facts": {"device": "A"}, "results": []}))
    content["facts"] |= {"device": "B", "num_examples": 7}
    (folder / "evaluation-test.json").write_text(json.dumps(content))
    found = read_run(folder)
    assert [result["task"] for result in found.results] == ["calculator", "tictactoe"]
    assert (found.facts["device"], found.facts["num_examples"]) == ("A", 7)
    (folder / "evaluation.json").unlink()
    assert read_run(folder).facts["device"] is None  # of the evaluation, not of training


def test_runs_are_compared_in_one_table_and_on_one_plot(run, tmp_path):
    other = copied(run, tmp_path / "other")
    recipe = (other / "recipe.yaml").read_text()
    (other / "recipe.yaml").write_text(recipe.replace("\ndepth: 1\n", "\ndepth: 7\n"))
    page = tmp_path / "both.html"
    status, shown = command("report", run, other, f"--output={page}")
    assert status == 0
    rows = {row[0]: row[1:] for row in comparison_rows([read_run(run), read_run(other)])}
    assert rows[""] == ["small", "other"]
    assert rows["calculator: exact"][0] == rows["calculator: exact"][1]
    assert rows["depth"] == ["1", "7"]
    assert "seed" not in rows  # the same in both
    assert "calculator: exact" in shown
    found = Page(page.read_text())
    assert found.tags.count("svg") == 2
    assert "small: calculator" in page.read_text()


def without(content, *path):
    """A copy of JSON without one of its keys."""
    copy = json.loads(json.dumps(content))
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    return copy


def test_a_damaged_file_of_a_run_is_one_clear_error_that_names_it(run, tmp_path):
    folder = copied(run, tmp_path / "damaged")
    evaluation = json.loads((run / "evaluation.json").read_text())
    state = json.loads((run / "trainer_state.json").read_text())
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    seen = next(i for i, entry in enumerate(state["log_history"]) if "loss" in entry)
    damages = {
        "evaluation.json": [
            [],
            {**evaluation, "facts": None},
            {**evaluation, "facts": {"parameters": None}},
            {**evaluation, "results": [None]},
            without(evaluation, "results", 0, "metrics", 0, "count"),
            without(evaluation, "results", 0, "conversations"),
            without(evaluation, "results", 0, "failures", 0, "messages", 0, "content"),
        ],
        "trainer_state.json": [
            [],
            {"log_history": None},
            {"log_history": ["x"]},
            without(state, "log_history", seen, "num_input_tokens_seen"),
        ],
        "recipe.yaml": [
            [],
            {**recipe, "weights": [1]},
            {**recipe, "weights": {"calculator": None}},
            {**recipe, "weights": {"calculator": {}}},
        ],
    }
    for name, contents in damages.items():
        for text in ("{", *map(json.dumps, contents)):
            (folder / name).write_text(text)
            with pytest.raises(OutputError, match=rf"{name} cannot be read"):
                read_run(folder)
        shutil.copy(run / name, folder)
    assert read_run(folder).results


def test_a_name_with_dollars_is_no_formula(run, tmp_path):
    dollars = copied(run, tmp_path / r"a$\frac$b")
    status, shown = command("report", run, dollars, f"--output={tmp_path / 'both.html'}")
    assert status == 0, shown
    assert (tmp_path / "both.html").read_text().count("<svg") == 2


def test_figures_are_told_without_more_precision_than_they_have():
    assert (percent(1.0), percent(0.99999), percent(0.0)) == ("100 %", "99.9 %", "0.0 %")
    result = Result(
        task="calculator",
        split="test",
        metrics=[
            Metric(name="exact", count=998, total=1000),
            Metric(name="losses", count=3, total=80, unit="lines", is_fault=True, is_sample=False),
        ],
        trials=[],
    )
    row = metric_rows(result_json(result))[0]
    assert (row.value, row.counted) == ("99.8 %", "998 of 1,000 problems")
    table = result_table(result_json(result)).splitlines()
    assert " ".join(table[2].split()) == "exact 99.8 % 998 of 1,000 problems 99.3 to 99.9 %"
    assert " ".join(table[3].split()) == "losses 3 3 of 80 lines"
    assert conversation_text([user("a\nb")]) == "user       a\n           b"


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_the_report_opens_in_a_browser_without_an_error(run, tmp_path):
    picture = tmp_path / "report.png"
    done = subprocess.run(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
            "--no-first-run", "--disable-background-networking", "--disable-component-update",
            "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}", "--hide-scrollbars",
            "--window-size=1000,2400", f"--screenshot={picture}", "--enable-logging=stderr",
            (run / "report.html").as_uri(),
        ],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "CONSOLE" not in done.stderr
    import matplotlib.image

    pixels = matplotlib.image.imread(picture)
    assert pixels.shape[:2] == (2400, 1000)
    colours = {tuple(pixel) for row in pixels[::4, ::4, :3] for pixel in row}
    assert len(colours) > 50  # text and plots, no blank page


def test_a_saved_tokenizer_makes_the_prompts_that_the_model_is_tried_with(run):
    tokenizer = AutoTokenizer.from_pretrained(run)
    from mixgen.encoding.renderer import Renderer

    example = next(easy_calculator().stream(split="test", seed=0))
    text = tokenizer.apply_chat_template(
        example["messages"][:1], tokenize=False, add_generation_prompt=True
    )
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert Renderer(tokenizer).prompt_ids(example["messages"][:1]) == ids


# --- before a run ---


@pytest.mark.parametrize(
    ("words", "is_tried"),
    [
        (["--eval_steps=2", "--test_examples=0"], True),
        (["--test_examples=5"], True),
        (["--test_examples=0"], False),
    ],
)
def test_a_task_that_cannot_be_tried_is_refused_before_training_if_it_will_be(
    words, is_tried, tmp_path, monkeypatch, capsys
):
    def score(task, example, reply):
        raise NotImplementedError

    monkeypatch.setattr(Calculator, "score", score)
    folder = tmp_path / "run"
    words = [*WORDS, "--max_steps=1", *words, f"--output_dir={folder}"]
    assert mixgen.main.main(words) == (2 if is_tried else 0)
    assert ("task 'calculator': score fails (NotImplementedError" in capsys.readouterr().err) == (
        is_tried
    )
    assert folder.exists() != is_tried


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("calculator/exact", "greater is better: True"),
        ("eval_tictactoe/losses", "greater is better: False"),
        ("eval/tictactoe/held_out_optimal", "greater is better: True"),
        ("eval_", "unknown metric_for_best_model ''"),
        ("calculator/exakt", "metric_for_best_model 'calculator/exakt': did you mean 'calculator/"),
    ],
)
def test_the_direction_of_a_metric_follows_from_what_it_counts(
    name, said, tmp_path, monkeypatch, capsys
):
    def begin(trainer, *, args, **given):
        raise RecipeError(f"greater is better: {args.greater_is_better}")

    monkeypatch.setattr(MixTrainer, "__init__", begin)
    words = ["--ttt_weight=1", f"--metric_for_best_model={name}", "--eval_steps=1"]
    assert mixgen.main.main([*WORDS, *words, f"--output_dir={tmp_path}"]) == 2
    assert said in capsys.readouterr().err


# --- the end of a run ---


def test_ctrl_c_while_a_run_tries_its_model_at_last_ends_it_once_the_model_is_saved(
    tmp_path, monkeypatch, capsys
):
    def evaluate(trainer, *given, **settings):
        signal.raise_signal(signal.SIGINT)
        return {}

    words = [*WORDS, "--max_steps=1", "--eval_steps=1", "--test_examples=1"]
    words.append(f"--output_dir={tmp_path}")
    with monkeypatch.context() as patched:
        patched.setattr(MixTrainer, "evaluate", evaluate)
        assert mixgen.main.main(words) == 130
    assert "The same command makes its report." in capsys.readouterr().out
    assert (tmp_path / "model.safetensors").is_file()
    assert not (tmp_path / "report.html").exists()

    def results(*given):
        raise torch.OutOfMemoryError

    with monkeypatch.context() as patched:
        patched.setattr(Evaluator, "results", results)
        assert mixgen.main.main(words) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert f"the model is saved in {tmp_path}" in line and "--per_device_eval_batch_size" in line
    assert mixgen.main.main(words) == 0
    assert (tmp_path / "report.html").is_file()


def test_the_batch_size_of_evaluations_is_the_recipes(tmp_path, monkeypatch):
    sizes = []

    def turns(generator, conversations, tools):
        sizes.append(generator.batch_size)
        return [Turn([assistant("?")]) for _ in conversations]

    monkeypatch.setattr(Generator, "turns", turns)
    words = [*WORDS, "--max_steps=1", "--eval_steps=1", "--test_examples=1"]
    words += ["--per_device_eval_batch_size=7", f"--output_dir={tmp_path}"]
    assert mixgen.main.main(words) == 0
    assert sizes == [7, 7]  # during training, and of the trained model


def test_the_model_that_was_trained_is_gone_before_the_saved_one_is_tried(tmp_path, monkeypatch):
    models = []
    save_state = MixTrainer.save_state

    def save(trainer):
        models.append(weakref.ref(trainer.model))
        save_state(trainer)

    def report(recipe):
        assert [model() for model in models] == [None]

    monkeypatch.setattr(MixTrainer, "save_state", save)
    monkeypatch.setattr(mixgen.main, "evaluate_and_report", report)
    words = [*WORDS, "--max_steps=1", "--eval_steps=0", f"--output_dir={tmp_path}"]
    assert mixgen.main.main(words) == 0
    assert len(models) == 1


def test_a_report_tells_how_its_run_was_launched(monkeypatch):
    def told(world_size, device, name="a"):
        config = SimpleNamespace(world_size=world_size, device=torch.device(device))
        return mixgen.finish._command(config, name)

    script = "run_train.py recipe.yaml --output_dir"
    assert told(1, "cpu") == f"python {script}=outputs/a-again"
    assert told(1, "cpu", "my run") == f"python {script}='outputs/my run-again'"
    assert told(2, "cuda") == f"accelerate launch --num_processes=2 {script}=outputs/a-again"
    assert "--config_file recipes/accelerate/cpu.yaml --num_processes=2 run" in told(2, "cpu")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    assert "--num_processes=16 --num_machines=NUMBER" in told(16, "cuda")


def test_what_cannot_be_saved_after_training_is_said_and_an_error_of_ours_stays_itself():
    with (
        pytest.raises(OutputError, match=r"^no report \(OSError: disk full\): .* tries again$"),
        mixgen.finish.saving_clearly("no report"),
    ):
        raise OSError("disk full")
    with (
        pytest.raises(OutputError, match=r"^recipe\.yaml cannot be read$"),
        mixgen.finish.saving_clearly("no report"),
    ):
        raise OutputError("recipe.yaml cannot be read")


def test_plots_name_every_run_and_give_a_task_one_line_style(run, tmp_path):
    other = read_run(copied(run, tmp_path / "_old"))
    figure = loss_figure([read_run(run), other])
    legend = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert legend == [
        f"{name}: {task}" for name in ("small", "_old") for task in ("calculator", "tictactoe")
    ]
    skills = [{"b": [(1, 0.5)]}, {"a": [(1, 0.2)], "b": [(1, 0.5)]}]
    runs = [SimpleNamespace(name=f"r{n}", skill=lambda n=n: skills[n]) for n in range(2)]
    styles = {line.get_label(): line.get_linestyle() for line in skill_figure(runs).axes[0].lines}
    assert styles["r0: b"] == styles["r1: b"] != styles["r1: a"]
