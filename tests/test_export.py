"""Exports: shards are pure, whole or not there, and told of by a card."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from datasets import load_dataset
from example_task import TASK
from typer.testing import CliRunner

import mixgen.publishing.export
from mixgen import OutputError, RecipeError, TaskError, configure_mix
from mixgen.cli import app
from mixgen.files import write_whole
from mixgen.mixture.sources import block_examples
from mixgen.publishing.dataset_card import command_of, write_card
from mixgen.publishing.export import missing_shards, run_export, units_of
from mixgen.publishing.plan import PLAN_FILE, Plan, Shard, make_plan, read_plan, save_plan
from mixgen.tasks.calculator import Calculator

SPLITS = {"train": 250, "validation": 60, "test": 60}


def plan_of(**settings: object) -> Plan:
    mix = configure_mix(calculator=1.0, tictactoe=0.5)
    return make_plan(mix, **{"splits": SPLITS, "shard_examples": 100, **settings})


def exported(folder: Path, plan: Plan | None = None, **settings: object) -> Path:
    save_plan(plan or plan_of(), folder)
    run_export(folder, **settings)
    return folder


def hashes(folder: Path) -> dict[str, str]:
    found = {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*.parquet"))
    }
    assert found
    return found


def rows(folder: Path, config: str, split: str) -> list[dict[str, object]]:
    """What `datasets` reads of an export."""
    files = sorted(map(str, (folder / config).glob(f"{split}-*.parquet")))
    assert files
    return list(load_dataset("parquet", data_files=files, split="train", streaming=True))


def command(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(word) for word in words])
    said = done.output
    if done.exception and not isinstance(done.exception, SystemExit):
        said += f"{type(done.exception).__name__}: {done.exception}"
    return done.exit_code, said


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    return exported(tmp_path_factory.mktemp("export") / "data")


# --- what is in the files ---


def test_the_files_hold_what_the_mix_draws_row_for_row(export):
    mix = configure_mix(calculator=1.0, tictactoe=0.5)
    for split, number in SPLITS.items():
        expected = []
        for shard in range(3 if split == "train" else 1):
            drawn = block_examples(mix, split=split, seed=42, block=f"export-{shard}")
            expected += [one for _, one in itertools.islice(drawn, 100)]
        expected = expected[:250] if split == "train" else expected[:number]
        if split == "train":
            assert len(expected) == 250
        assert rows(export, "mix", split) == expected
        for task in ("calculator", "tictactoe"):
            of_task = [one for one in expected if one["task"] == task]
            assert rows(export, task, split) == of_task and of_task


def test_a_task_that_a_shard_or_a_split_has_nothing_of_is_loaded_all_the_same(tmp_path):
    mix = configure_mix(calculator=1.0, tictactoe=0.01)
    plan = make_plan(mix, splits={"train": 400, "test": 3}, shard_examples=20)
    folder = exported(tmp_path / "data", plan)
    write_card(plan, folder)
    sizes = [pq.read_metadata(path).num_rows for path in (folder / "tictactoe").glob("train-*")]
    assert 0 in sizes and sum(sizes) > 0
    for streaming in (True, False):
        loaded = load_dataset(str(folder), "tictactoe", streaming=streaming)
        assert [len(list(loaded[split])) for split in loaded] == [sum(sizes)]  # no test split
        whole = load_dataset(str(folder), "mix", streaming=streaming)
        assert {split: len(list(whole[split])) for split in whole} == plan.splits
    header = yaml.safe_load((folder / "README.md").read_text().split("---")[1])
    assert [one["config_name"] for one in header["configs"]] == ["mix", "calculator", "tictactoe"]
    nothing = make_plan(mix, splits={"test": 3})
    folder = exported(tmp_path / "none", nothing)
    write_card(nothing, folder)
    header = yaml.safe_load((folder / "README.md").read_text().split("---")[1])
    assert [one["config_name"] for one in header["configs"]] == ["mix", "calculator"]
    assert "| `tictactoe` | 0 (0) |" in (folder / "README.md").read_text()


def test_no_problem_is_in_two_splits(export):
    keys = {
        split: {(one["task"], one["key"]) for one in rows(export, "mix", split)} for split in SPLITS
    }
    for one, other in itertools.combinations(SPLITS, 2):
        assert not keys[one] & keys[other]


def test_shards_draw_from_streams_of_their_own(export):
    keys = [
        [one["key"] for one in pq.read_table(path).to_pylist()]
        for path in sorted((export / "mix").glob("train-*"))
    ]
    assert len(keys) == 3
    assert len({tuple(some[:20]) for some in keys}) == 3


# --- pure: in any number of processes, in any order ---


@pytest.mark.parametrize("ways", [[{"num_proc": 2}], [{"part": (n, 3)} for n in (2, 0, 1)]])
def test_any_number_of_processes_and_jobs_writes_the_same_bytes(export, tmp_path, ways):
    for way in ways:
        assert not (tmp_path / "data").exists() or missing_shards(plan_of(), tmp_path / "data")
        exported(tmp_path / "data", **way)
    assert hashes(tmp_path / "data") == hashes(export)
    assert missing_shards(plan_of(), tmp_path / "data") == 0


def test_another_seed_gives_other_rows(export, tmp_path):
    other = exported(tmp_path / "data", plan_of(seed=43))
    assert not set(hashes(other).values()) & set(hashes(export).values())


# --- whole or not there ---


def test_a_rerun_keeps_what_is_finished_and_mends_what_is_missing_or_damaged(export, tmp_path):
    folder = shutil.copytree(export, tmp_path / "data")
    missing, damaged, kept = sorted((folder / "mix").glob("train-*"))
    before = kept.stat().st_mtime_ns
    missing.unlink()
    damaged.write_bytes(damaged.read_bytes()[:-100])
    assert missing_shards(plan_of(), folder) == 2
    exported(folder)
    assert hashes(folder) == hashes(export)
    assert kept.stat().st_mtime_ns == before


def test_a_kill_at_any_moment_leaves_no_broken_file_and_the_same_command_goes_on(export, tmp_path):
    folder = tmp_path / "data"
    save_plan(plan_of(), folder)
    code = (
        "import sys, time; from pathlib import Path; from mixgen.publishing import export, shards\n"
        "write = shards._ShardWriter.write\n"
        "def slowly(*given): write(*given); print('wrote', flush=True); time.sleep(0.05)\n"
        "shards._ShardWriter.write = slowly; shards.BATCH = 20\n"
        "export.run_export(Path(sys.argv[1]))"
    )
    for number in (1, 4, 8):  # batches before the kill, of 5 in a shard
        process = subprocess.Popen(
            [sys.executable, "-c", code, folder], stdout=subprocess.PIPE, text=True
        )
        for _ in range(number):
            assert process.stdout.readline() == "wrote\n"
        process.kill()
        process.wait()
        for path in folder.rglob("[!.]*.parquet"):
            assert (
                hashes(export)[str(path.relative_to(folder))]
                == hashlib.sha256(path.read_bytes()).hexdigest()
            )
    assert list(folder.rglob(".*.parquet.*"))  # what the kill has left
    assert missing_shards(plan_of(), folder) > 0
    exported(folder)
    assert hashes(folder) == hashes(export)
    assert not list(folder.rglob(".*.parquet.*"))


@pytest.mark.parametrize("renamed", range(3))
def test_a_stop_between_the_files_of_one_shard_is_mended(export, tmp_path, monkeypatch, renamed):
    def stop(written: Path, final: Path) -> None:
        if len(list(folder.rglob("[!.]*.parquet"))) == renamed:
            raise KeyboardInterrupt
        written.replace(final)

    folder = tmp_path / "data"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(mixgen.publishing.shards, "replace", stop)
        exported(folder)
    assert len(list(folder.rglob("[!.]*.parquet"))) == renamed
    assert missing_shards(plan_of(), folder) == 5
    exported(folder)
    assert hashes(folder) == hashes(export)


def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(export, tmp_path, monkeypatch):
    def full(self, table):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(pq.ParquetWriter, "write_table", full)
        with pytest.raises(OutputError, match=r"No space left on device.*what is written is kept"):
            exported(tmp_path / "data")
    assert not list((tmp_path / "data").rglob("*.parquet*"))
    exported(tmp_path / "data")
    assert hashes(tmp_path / "data") == hashes(export)


def test_another_export_or_other_files_in_the_directory_are_refused(export, tmp_path):
    with pytest.raises(OutputError, match=r"holds another export .*seed 42 there, 43 asked for"):
        save_plan(plan_of(seed=43), export)
    settings = plan_of().settings
    settings["calculator"]["max_depth"] = 2
    with pytest.raises(
        OutputError, match=r"\(settings.calculator.max_depth 3 there, 2 asked for\)"
    ):
        save_plan(dataclasses.replace(plan_of(), settings=settings), export)
    with pytest.raises(OutputError, match="begun with tasks that make other examples"):
        save_plan(dataclasses.replace(plan_of(), fingerprint="0"), export)
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(OutputError, match="holds files that are no export"):
        save_plan(plan_of(), tmp_path)
    with pytest.raises(OutputError, match="holds no export"):
        run_export(tmp_path)


def test_a_task_that_makes_other_examples_changes_the_fingerprint(monkeypatch):
    before = plan_of()
    assert plan_of() == before
    sample = Calculator.sample

    def other(task, rng):
        return {**sample(task, rng), "answer": "42"}

    monkeypatch.setattr(Calculator, "sample", other)
    assert plan_of().fingerprint != before.fingerprint


# --- distinct problems ---


def test_distinct_problems_come_once_in_a_split_also_after_a_stop(tmp_path):
    mix = configure_mix(tictactoe=1.0)
    settings = {"splits": {"train": 900, "test": 90}, "shard_examples": 300}
    many = exported(tmp_path / "repeated", make_plan(mix, **settings))
    keys = [one["key"] for one in rows(many, "mix", "train")]
    assert len(set(keys)) < len(keys)

    plan = make_plan(mix, **settings, distinct=["tictactoe"])
    folder = exported(tmp_path / "distinct", plan)
    for split, number in plan.splits.items():
        keys = [one["key"] for one in rows(folder, "mix", split)]
        assert len(set(keys)) == len(keys) == number
    stopped = shutil.copytree(folder, tmp_path / "stopped")
    for path in stopped.rglob("train-0000[12]*"):
        path.unlink()
    exported(stopped, plan)
    assert hashes(stopped) == hashes(folder)
    in_two = exported(tmp_path / "in two", plan, num_proc=2)
    assert hashes(in_two) == hashes(folder)


@pytest.mark.parametrize("facts", [{"seen": {1, 2}}, {3: "three"}])
def test_facts_that_are_no_json_are_one_clear_error(tmp_path, monkeypatch, facts):
    sample = Calculator.sample
    monkeypatch.setattr(
        Calculator, "sample", lambda task, rng: {**sample(task, rng), "metadata": facts}
    )
    plan = make_plan(configure_mix(calculator=1.0), splits={"train": 5})
    with pytest.raises(TaskError, match=r"'calculator': example calculator-train-.* stored"):
        exported(tmp_path, plan)


def test_a_task_that_runs_out_of_distinct_problems_says_how_many_there_are(tmp_path):
    mix = configure_mix(tictactoe=1.0, calculator=1.0)
    plan = make_plan(mix, splits={"test": 20_000}, distinct=["tictactoe"])
    with pytest.raises(
        TaskError, match="'tictactoe' has run out of distinct test problems"
    ) as told:
        exported(tmp_path / "data", plan)
    possible = int(str(told.value).split("split can have ")[1].split()[0].replace(",", ""))
    assert not list(tmp_path.rglob("*.parquet*"))
    most = exported(tmp_path / "most", dataclasses.replace(plan, splits={"test": possible}))
    games = [one["key"] for one in rows(most, "tictactoe", "test")]
    assert len(set(games)) == len(games)
    with pytest.raises(TaskError, match="run out"):
        exported(tmp_path / "more", dataclasses.replace(plan, splits={"test": possible + 1}))


def test_units_need_nothing_of_each_other():
    assert units_of(plan_of()) == [[shard] for shard in plan_of().shards()]
    units = units_of(plan_of(distinct=["calculator"]))
    assert [{shard.split for shard in unit} for unit in units] == [{split} for split in SPLITS]
    assert [shard for unit in units for shard in unit] == list(plan_of().shards())


# --- what a user asks for wrongly ---


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"splits": {"trian": 5}}, "unknown split 'trian': did you mean 'train'"),
        ({"splits": {}}, "no split to export"),
        ({"splits": {"train": 0}}, "split 'train' needs at least 1 example"),
        ({"distinct": ["calculater"]}, "distinct: unknown 'calculater': did you mean 'calculator'"),
        ({"configs": ["mixx"]}, "configs: unknown 'mixx': did you mean 'mix'"),
        ({"distinct": ["calculator"], "configs": ["tictactoe"]}, "in none of the configs"),
        ({"shard_examples": 0}, "a shard needs at least 1 example"),
    ],
)
def test_a_plan_that_cannot_be_is_one_clear_error(settings, said):
    with pytest.raises(RecipeError, match=said):
        plan_of(**settings)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--num-examples=5", "--num-tokens=5"], "give --num-examples or --num-tokens, not both"),
        ([], "how much?"),
        (["--num-examples=5", "--shard=3/3"], "--shard must be I/N"),
        (["--num-examples=5", "--shard=0/3", "--overwrite"], "would delete other jobs' work"),
        (["--num-examples=5", "--configs=,"], "no dataset config to write"),
        (["--num-examples=5", "--learning_rate=3"], "those of tasks are taken"),
        (["--num-examples=5", "--cacl_weight=2"], "did you mean '--calc_weight'"),
        (["--num-examples=5", "--num-prc=2"], "did you mean '--num-proc'"),
        (["--num-examples=5", "more"], "unexpected 'more'"),
        (["--num-examples=5", "--license=MIT or so"], "--license must be an identifier"),
        (["--num-examples=5", "--output=README.md"], "README.md is no directory"),
        (["--num-examples=10_000_000_000_000"], "more than 100,000 shards of 50,000: larger ones"),
        (["--num-examples=5", "--calc_weight=-2"], "weight of calculator"),
        (["--splits=train=1__0"], "train needs a whole number of examples, got '1__0'"),
        (["--splits=train=many"], "train needs a whole number of examples, got 'many'"),
        (["--num-examples=5", "--recipe=recipes/gradual_tictactoe.yaml"], "is a schedule"),
        (["--num-examples=5", "--recipe=recipes/defualt.yaml"], "did you mean 'recipes/default"),
    ],
)
def test_a_wrong_flag_is_one_clear_error(words, said, tmp_path):
    given = ["--recipe=recipes/default.yaml", f"--output={tmp_path / 'data'}", *words]
    status, shown = command("export", *given)
    assert status != 0 and said in shown, shown
    assert shown.removeprefix("Loading ...\n").count("\n") == 0  # one line
    assert not (tmp_path / "data").exists()
    assert "--recipe is missing" in command("export", "recipes/default.yaml")[1]


# --- the command ---


def test_the_command_exports_in_parts_and_tells_of_it_in_a_card(tmp_path):
    folder = tmp_path / "data"
    words = ["export", "--recipe=recipes/default.yaml", "--splits=train=250,test=60"]
    words += ["--calc_weight=3", "--calc_max_depth=1", "--shard_examples=100", f"--output={folder}"]
    status, shown = command(*words, "--shard=0/2")
    assert status == 0 and "to be written by others: 2." in shown, shown
    assert not (folder / "README.md").exists()
    status, shown = command(*words, "--shard=1/2")
    assert status == 0 and "mix: 250 train, 60 test (" in shown, shown
    plan = read_plan(folder)
    assert plan.weights == {"calculator": 3.0, "tictactoe": 0.5}
    assert plan.settings["calculator"]["max_depth"] == 1
    assert (folder / "lengths.png").read_bytes().startswith(b"\x89PNG")

    # As anyone loads it.
    for config in ("mix", "calculator", "tictactoe"):
        loaded = load_dataset(str(folder), config, cache_dir=tmp_path / "cache")
        assert {name: len(part) for name, part in loaded.items()}.keys() == plan.splits.keys()
        assert list(loaded["train"]) == rows(folder, config, "train")
    assert list(load_dataset(str(folder), split="test", streaming=True)) == rows(
        folder, "mix", "test"
    )

    # The command that the card gives makes the same again.
    again = tmp_path / "again"
    told = command_of(plan).replace("recipe.yaml", str(folder / "recipe.yaml"))
    assert command_of(plan) in (folder / "README.md").read_text()
    status, shown = command(*told.replace("DIR", str(again)).split()[1:])
    assert status == 0, shown
    assert hashes(again) == hashes(folder)

    status, shown = command(*words, "--seed=1")
    assert status == 1 and "holds another export (seed 42 there, 1 asked for)" in shown
    status, shown = command(*words, "--seed=1", "--overwrite")
    assert status == 0 and hashes(again) != hashes(folder)


def test_tokens_are_asked_for_and_come_about(tmp_path):
    words = ["export", "--recipe=recipes/quickstart.yaml", "--splits=train", "--num_tokens=20_000"]
    status, shown = command(*words, f"--output={tmp_path}")
    assert status == 0, shown
    from mixgen.encoding.renderer import Renderer
    from mixgen.encoding.tokenizer import train_tokenizer

    renderer = Renderer(train_tokenizer(read_plan(tmp_path).mix().active, seed=42))
    tokens = sum(len(renderer.encode(one).input_ids) for one in rows(tmp_path, "mix", "train"))
    assert abs(tokens - 20_000) < 1_500


def test_tokens_are_those_of_the_recipes_vocabulary(tmp_path):
    counts = []
    for size in (300, 1024):
        recipe = {"weights": {"calculator": 1}, "vocab_size": size}
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump(recipe))
        words = ["export", f"--recipe={tmp_path / 'mine.yaml'}", "--splits=train", "--plan-only"]
        folder = tmp_path / str(size)
        assert command(*words, "--num-tokens=20_000", f"--output={folder}")[0] == 0
        counts.append(read_plan(folder).splits["train"])
    assert 1.2 * counts[0] < counts[1]


def test_a_task_of_ones_own_is_exported_by_several_processes(tmp_path):
    (tmp_path / "my_parity.py").write_text(
        TASK.replace("NAME", "export_parity").replace("FLAG", "export_parity")
    )
    recipe = {"weights": {"export_parity": 1, "calculator": 1}, "task_files": ["my_parity.py"]}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(recipe))
    folder = tmp_path / "data"
    words = ["export", f"--recipe={tmp_path / 'mine.yaml'}", "--splits=train=400"]
    status, shown = command(*words, "--shard_examples=100", "--num_proc=2", f"--output={folder}")
    assert status == 0, shown
    assert len(rows(folder, "export_parity", "train")) > 100
    written = yaml.safe_load((folder / "recipe.yaml").read_text())
    assert written["task_files"] == ["my_parity.py"]
    assert str(tmp_path) not in (folder / "README.md").read_text()


def test_ctrl_c_ends_an_export_cleanly_and_it_goes_on(tmp_path):
    words = [sys.executable, "-m", "mixgen.cli", "export", "--recipe=recipes/default.yaml"]
    words += ["--splits=train=300000", "--shard_examples=2000", f"--output={tmp_path / 'data'}"]
    for number in (signal.SIGINT, signal.SIGTERM):
        process = subprocess.Popen(
            [*words, "--num_proc=2"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        before = len(list(tmp_path.rglob("[!.]*.parquet")))
        deadline = time.monotonic() + 60
        while len(list(tmp_path.rglob("[!.]*.parquet"))) < before + 6:
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.05)
        process.send_signal(number)
        _, said = process.communicate(timeout=20)
        assert process.returncode == 130, said
        assert "Stopped. The same command goes on" in said and "Traceback" not in said
        assert not list(tmp_path.rglob(".*.parquet.*"))


def test_a_worker_that_is_killed_is_one_clear_error(tmp_path, monkeypatch):
    monkeypatch.setattr(mixgen.publishing.export, "_work", _die)
    save_plan(plan_of(), tmp_path / "data")
    with pytest.raises(OutputError, match="a process was killed from outside"):
        run_export(tmp_path / "data", num_proc=2)


def _die(folder: Path, number: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


# --- the card ---


def test_an_update_of_the_card_keeps_what_a_person_wrote(export):
    card = export / "README.md"
    card.unlink(missing_ok=True)
    write_card(plan_of(), export, license="mit")
    text = card.read_text()
    assert text.count("license: mit") == 1 and "| calculator | 1.0 | 66.67 %" in text
    card.write_text(
        text.replace("license: mit", "license: mit\nlanguage: en")
        .replace("20,000", "x")
        .replace("<!-- mixgen", "By hand, before.\n\n<!-- mixgen")
        + "By hand, after.\n"
    )
    write_card(plan_of(), export)
    updated = card.read_text()
    assert "license: mit\nlanguage: en" in updated
    assert updated.index("By hand, before.") < updated.index("## The mix")
    assert updated.endswith("By hand, after.\n")
    assert (
        updated.replace("language: en\n", "")
        .replace("By hand, before.\n\n", "")
        .replace("By hand, after.\n", "")
        == text
    )
    write_card(plan_of(), export)
    assert card.read_text() == updated
    write_card(plan_of(), export, license="cc0-1.0")  # asked for: it counts
    assert card.read_text() == updated.replace("license: mit", "license: cc0-1.0")


def test_a_card_is_not_written_of_an_export_that_lacks_a_shard(export, tmp_path):
    folder = shutil.copytree(export, tmp_path / "data")
    next((folder / "tictactoe").glob("test-*")).unlink()
    with pytest.raises(OutputError, match=r"tictactoe/test-.* is missing or damaged"):
        write_card(plan_of(), folder, license="mit")


def test_a_new_export_overwrites_the_old_ones_shards_and_nothing_else(export, tmp_path):
    folder = shutil.copytree(export, tmp_path / "data")
    (folder / "README.md").write_text("---\nlicense: mit\n---\nMy words.\n")
    for file in ("notes.txt", "mix/mine.parquet", "mix/train-00000-of-00003.parquet.txt"):
        (folder / file).write_text("mine")
    (folder / "mix" / ".train-00000-of-00003.parquet.host.1").write_text("left by a kill")
    recipe = tmp_path / "r.yaml"
    recipe.write_text("weights: {calculator: 1}")
    words = ["export", "--recipe", recipe, "--splits=test=5", "--output", folder, "--overwrite"]
    status, said = command(*words)
    assert status == 0, said
    assert (folder / "notes.txt").read_text() == (folder / "mix/mine.parquet").read_text() == "mine"
    assert sorted(path.name for path in (folder / "mix").iterdir()) == [
        "mine.parquet",
        "test-00000-of-00001.parquet",
        "train-00000-of-00003.parquet.txt",
    ]
    card = (folder / "README.md").read_text()
    assert "My words." in card and "license: mit" in card
    assert not (folder / "tictactoe").exists()
    assert read_plan(folder).splits == {"test": 5}


@pytest.mark.parametrize(
    "damage",
    [
        {"splits": {"train": "x"}},
        {"splits": {}},
        {"splits": {"trian": 5}},
        {"shard_examples": 0},
        {"configs": [".."]},
        {"configs": []},
        {"configs": [["mix"]]},
        {"configs": 7},
    ],
)
def test_a_damaged_plan_is_one_clear_error(export, tmp_path, damage):
    folder = shutil.copytree(export, tmp_path / "data")
    plan = json.loads((folder / PLAN_FILE).read_text()) | damage
    (folder / PLAN_FILE).write_text(json.dumps(plan))
    with pytest.raises(OutputError, match="is damaged"):
        read_plan(folder)
    assert hashes(folder) == hashes(export)


def test_an_export_goes_on_where_its_task_file_has_moved(tmp_path):
    text = TASK.replace("NAME", "export_moved").replace("FLAG", "export_moved")
    for name in ("before", "after"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "r.yaml").write_text(
            "weights: {export_moved: 1}\ntask_files: [moved.py]\n"
        )
    (tmp_path / "before" / "moved.py").write_text(text)
    words = ["--splits=test=5,train=5", f"--output={tmp_path / 'data'}"]

    def export_of(name: str, *more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "mixgen", "export", *words, *more]
        command += ["--recipe", str(tmp_path / name / "r.yaml")]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert export_of("before", "--shard=0/2").returncode == 0
    (tmp_path / "before" / "moved.py").rename(tmp_path / "after" / "moved.py")
    done = export_of("after")
    assert done.returncode == 0 and "Done." in done.stdout, done


def test_a_file_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda number: synced.append(os.readlink(f"/dev/fd/{number}")))
    write_whole(tmp_path / "a.txt", "text")
    assert synced == [str(tmp_path / f".a.txt.{os.getpid()}"), str(tmp_path)]
    (tmp_path / "link.txt").symlink_to(tmp_path / "a.txt")
    write_whole(tmp_path / "link.txt", "more")
    assert (tmp_path / "a.txt").read_text() == "more" and (tmp_path / "link.txt").is_symlink()


def test_two_processes_that_write_one_shard_at_once_leave_it_whole(export, tmp_path, monkeypatch):
    table = pq.read_table(export / "mix/test-00000-of-00001.parquet")
    path = tmp_path / "test.parquet"
    writers = []
    for number in (1, 2):
        monkeypatch.setattr(os, "getpid", lambda number=number: number)
        writers.append(mixgen.publishing.shards._ShardWriter({"mix": path}).__enter__())
        writers[-1].write(table)
    for number, writer in zip((1, 2), writers, strict=True):
        monkeypatch.setattr(os, "getpid", lambda number=number: number)
        writer.finish()
        assert pq.read_table(path).num_rows == table.num_rows
        writer.__exit__(None, None, None)
    assert [one.name for one in tmp_path.iterdir()] == ["test.parquet"]


LONG = """
from mixgen.tasks.base import Score, Task, assistant, user
from mixgen.tasks.registry import register

@register
class Long(Task):
    name = flag = "export_long"

    def sample(self, rng):
        messages = [user(f"{rng.random()} " * 40_000), assistant("Yes.")]
        return self.example(key=str(rng.random()), messages=messages, answer="Yes.")

    def score(self, example, reply):
        return Score(value=0, reason="none is right")
"""


def test_a_card_of_very_long_texts_is_made_of_a_few_of_them(tmp_path):
    (tmp_path / "long.py").write_text(LONG)
    (tmp_path / "r.yaml").write_text("weights: {export_long: 1}\ntask_files: [long.py]\n")
    words = ["--recipe", tmp_path / "r.yaml", "--splits=test=3", "--output", tmp_path / "data"]
    start = time.monotonic()
    status, said = command("export", *words)
    assert status == 0, said
    assert time.monotonic() - start < 100  # 3,000 megabytes of text take an hour
    card = (tmp_path / "data" / "README.md").read_text()
    assert 5_000 < len(card) < 15_000


def test_a_saved_plan_is_read_back(tmp_path):
    plan = plan_of(distinct=["tictactoe"], configs=["tictactoe"])
    save_plan(plan, tmp_path / "data")
    assert read_plan(tmp_path / "data") == plan
    assert plan.path("mix", Shard("train", 1)).as_posix() == "mix/train-00001-of-00003.parquet"
    (tmp_path / "data" / PLAN_FILE).write_text(json.dumps([]))
    with pytest.raises(OutputError, match=r"\.export\.json is damaged, or of another version"):
        read_plan(tmp_path / "data")


# --- an engine ---


def test_datatrove_writes_the_same_shards_and_what_is_done_is_passed_over(export, tmp_path):
    from datatrove.executor import LocalPipelineExecutor

    from mixgen.publishing.datatrove import ExportShards

    folder = tmp_path / "data"
    save_plan(plan_of(), folder)

    def run(log: str) -> int:
        executor = LocalPipelineExecutor(
            pipeline=[ExportShards(folder)],
            tasks=3,
            workers=2,
            start_method="spawn",
            logging_dir=str(tmp_path / log),
        )
        return executor.run().stats[0].stats["examples"].total

    assert run("logs") == sum(SPLITS.values())
    assert hashes(folder) == hashes(export)
    written = {path: path.stat().st_mtime_ns for path in folder.rglob("*.parquet")}
    run("other logs")  # all tasks again, as after a machine was lost
    assert {path: path.stat().st_mtime_ns for path in written} == written


# --- storage of the Hub ---

# In a process of its own: hf_xet takes over SIGINT.
XET = """
import hashlib, sys
from pathlib import Path
import hf_xet

where, *folders = sys.argv[1:]
session = hf_xet.XetSession()
for folder in folders:
    files = sorted(Path(folder).rglob("*.parquet"))
    with session.new_upload_commit(endpoint=f"local://{where}/store") as commit:
        uploads = [commit.start_upload_file(str(file)) for file in files]
    done = [upload.result() for upload in uploads]
    metrics = [one.dedup_metrics for one in done]
    print(sum(one.total_bytes for one in metrics), sum(one.new_bytes for one in metrics))
    with session.new_file_download_group(endpoint=f"local://{where}/store") as group:
        for one, file in zip(done, files, strict=True):
            group.start_download_file(one.xet_info, f"{where}/{file.name}")
    for file in files:
        assert Path(where, file.name).read_bytes() == file.read_bytes()
"""


def test_xet_stores_a_shard_and_of_a_longer_version_only_what_is_new(tmp_path):
    mix = configure_mix(calculator=1.0, tictactoe=0.5)
    for number in (20_000, 23_000):
        plan = make_plan(mix, splits={"train": number}, configs=["mix"])
        exported(tmp_path / str(number), plan)
    command = [sys.executable, "-c", XET, tmp_path, tmp_path / "20000", tmp_path / "23000"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    (first, first_new), (second, second_new) = [
        map(int, line.split()) for line in done.stdout.splitlines()
    ]
    assert first == first_new > 1_000_000
    assert second > first and second_new < 0.3 * second
