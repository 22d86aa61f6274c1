"""Models tried during training and by `mixgen eval`, and the report of a run."""

from __future__ import annotations

import html.parser
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from example_task import TASK
from small_run import SMALL, trainer_of
from trained_model import easy_calculator, trained_model
from transformers import AutoTokenizer
from typer.testing import CliRunner

from mixgen import MixConfig, RecipeError
from mixgen.cli import app
from mixgen.errors import MixgenError, OutputError, TaskError
from mixgen.evaluation.evaluate import Evaluator
from mixgen.evaluation.generation import Generator
from mixgen.evaluation.loading import load_checkpoint
from mixgen.evaluation.report import comparison_rows, write_report
from mixgen.evaluation.results import (
    conversation_text,
    machine_facts,
    percent,
    result_json,
    result_table,
    save_evaluation,
    summary_line,
)
from mixgen.evaluation.run_files import read_run
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
    "greater_is_better": True,
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


def test_the_direction_of_a_metric_follows_from_what_it_counts(mix, tokenizer, tmp_path):
    evaluator = Evaluator(mix.active, tokenizer, split="validation", num_examples=5)
    for name, greater in [
        ("calculator/exact", True),
        ("eval_tictactoe/losses", False),
        ("eval/tictactoe/held_out_optimal", True),
    ]:
        config = MixConfig(output_dir=str(tmp_path), metric_for_best_model=name, eval_steps=5)
        evaluator.check_metric(config)
        assert config.greater_is_better is greater
    config = MixConfig(output_dir=str(tmp_path), metric_for_best_model="calculator/exakt")
    with pytest.raises(RecipeError, match="did you mean 'calculator/exact'"):
        evaluator.check_metric(config)


# --- loading ---


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run: its folder as `mixgen` finds it."""
    folder = tmp_path_factory.mktemp("runs") / "small"
    from mixgen.main import main

    status = main(
        [
            "--depth=1",
            "--head_dim=32",
            "--aspect_ratio=32",
            "--max_seq_len=256",
            "--max_steps=4",
            "--eval_steps=2",
            "--logging_steps=1",
            "--eval_examples=3",
            "--test_examples=6",
            "--per_device_train_batch_size=2",
            "--calc_weight=1",
            "--ttt_weight=0.5",
            "--calc_max_depth=1",
            f"--output_dir={folder}",
        ]
    )
    assert status == 0
    return folder


def copied(run: Path, folder: Path, *without: str) -> Path:
    shutil.copytree(run, folder, ignore=shutil.ignore_patterns("checkpoint-*", *without))
    return folder


def test_what_is_no_trained_model_is_refused_clearly(run, tmp_path, mix):
    with pytest.raises(RecipeError, match="did you mean"):
        load_checkpoint(run.parent / "smal")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(RecipeError, match=r"holds no model \(no config.json\)"):
        load_checkpoint(empty)
    shutil.copytree(run, empty / "checkpoint-3", ignore=shutil.ignore_patterns("checkpoint-*"))
    with pytest.raises(RecipeError, match=r"did you mean .*checkpoint-3"):
        load_checkpoint(empty)
    with pytest.raises(RecipeError, match="cannot be loaded"):
        load_checkpoint(copied(run, tmp_path / "no weights", "*.safetensors"))
    with pytest.raises(RecipeError, match="its tokenizer lacks"):
        load_checkpoint(copied(run, tmp_path / "no tokenizer", "tokenizer*"))

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


def mixgen(*words: object) -> tuple[int, str]:
    """The exit status and the output of the command; a user's error is its message."""
    done = CliRunner().invoke(app, [str(word) for word in words])
    if isinstance(done.exception, MixgenError):
        return 2, f"error: {done.exception}"
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


def test_eval_prints_tables_and_failures_and_writes_what_it_counted(run):
    status, shown = mixgen("eval", run, "--num-examples=8", "--failures=2")
    assert status == 0
    assert "calculator, test split" in shown and "tictactoe, test split" in shown
    assert "calculator, failure 2 of " in shown
    found = json.loads((run / "evaluation-test.json").read_text())
    calculator, tictactoe = found["results"]
    assert calculator["metrics"][0]["total"] == 8
    assert {m["group"] for m in calculator["metrics"]} >= {"", "depth 1"}  # the run's settings
    assert "depth 2" not in {m["group"] for m in calculator["metrics"]}
    assert tictactoe["failures"][0]["messages"]
    assert found["facts"]["parameters"] > 1000


def test_eval_takes_tasks_split_and_output(run, tmp_path):
    out = tmp_path / "new" / "counts.json"
    status, shown = mixgen(
        "eval", run, "--tasks=calculator", "--split=validation", "--num-examples=4",
        f"--output={out}", "--json",
    )  # fmt: skip
    assert status == 0
    (result,) = json.loads(shown[shown.index("[{") :])
    assert (result["task"], result["split"]) == ("calculator", "validation")
    assert json.loads(out.read_text())["results"] == [result]


MISTAKES = {
    "no such split": (["eval", "{run}", "--split=tset"], "did you mean 'test'"),
    "no such task": (["eval", "{run}", "--tasks=calculater"], "did you mean 'calculator'"),
    "no such checkpoint": (["eval", "{run}x"], "there is no checkpoint"),
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
def test_a_users_mistake_is_one_clear_line(name, run):
    words, part = MISTAKES[name]
    status, shown = mixgen(*(word.replace("{run}", str(run)) for word in words))
    assert status == 2
    assert part in shown.splitlines()[-1]


def test_the_command_says_errors_in_one_line_and_starts_quickly(run):
    command = [sys.executable, "-m", "mixgen.cli", "eval", "nothing/here"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
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
    status, shown = mixgen("eval", run, f"--recipe={recipe}", "--split=train")
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
    with pytest.raises(TaskError, match=r"task 'calculator' fails when .*NotImplementedError"):
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
    assert result_table(result_json(result)).startswith("parity, test split")


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
    for plot in ("loss_by_task.png", "skill.png"):
        assert f"]({plot})" in card
        assert (run / plot).read_bytes().startswith(b"\x89PNG")
    assert "| calculator | exact |" in card


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
    sly = "<script>alert(1)</script><img src=x onerror=alert(1)>"
    trial = Trial(messages=[user(sly), assistant(sly)], score=Score(value=0.0, reason=sly))
    metrics = [Metric(name="exact", count=0, total=1)]
    model, _ = load_checkpoint(folder)
    result = Result(task="calculator", split="test", metrics=metrics, trials=[trial])
    save_evaluation([result], machine_facts(model), folder / "evaluation.json")
    write_report(folder)
    page = Page((folder / "report.html").read_text())
    assert "script" not in page.tags and "img" not in page.tags
    assert page.text.count(sly) == 3


def test_a_report_without_a_final_evaluation_says_so(run, tmp_path):
    folder = copied(run, tmp_path / "unevaluated", "evaluation*.json", "report.html")
    write_report(folder)
    assert "was not tried on its tasks" in (folder / "report.html").read_text()


def test_runs_are_compared_in_one_table_and_on_one_plot(run, tmp_path):
    other = copied(run, tmp_path / "other")
    recipe = (other / "recipe.yaml").read_text()
    (other / "recipe.yaml").write_text(recipe.replace("\ndepth: 1\n", "\ndepth: 7\n"))
    page = tmp_path / "both.html"
    status, shown = mixgen("report", run, other, f"--output={page}")
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


def test_a_damaged_evaluation_is_one_clear_error(run, tmp_path):
    folder = copied(run, tmp_path / "damaged")
    found = json.loads((folder / "evaluation.json").read_text())
    del found["results"][0]["metrics"][0]["count"]  # as another version may have written it
    for text in ("{", "[]", json.dumps(found)):
        (folder / "evaluation.json").write_text(text)
        with pytest.raises(OutputError, match=r"evaluation.json cannot be read"):
            write_report(folder)


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
