"""Pushes, by the real clients to a server on the loopback: all arrives, or nothing is seen."""

from __future__ import annotations

import copy
import dataclasses
import shutil
import socket
from pathlib import Path

import pytest
import torch
from datasets import get_dataset_config_names, load_dataset
from hub_repo import Blob
from hub_server import OTHER, READ, WRITE, Fault, HubServer
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

import mixgen.main
from mixgen import configure_mix
from mixgen.cards import BEGIN
from mixgen.cli import app
from mixgen.publishing import hub as pushing
from mixgen.publishing.dataset_card import write_card
from mixgen.publishing.export import run_export
from mixgen.publishing.plan import make_plan, save_plan

# `huggingface_hub` (2.4) calls its own client so.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

SPLITS = {"train": 250, "validation": 40, "test": 40}
CONFIGS = ["mix", "calculator", "tictactoe"]


@pytest.fixture(scope="module")
def server():
    with HubServer() as running:
        yield running


@pytest.fixture
def hub(server, tmp_path, monkeypatch):
    monkeypatch.setattr(pushing, "FIRST_DELAY", 0.01)
    server.clear()
    with server.connected(tmp_path / "home", token=WRITE):
        yield server


def exported(folder: Path, **settings: object) -> Path:
    mix = configure_mix(calculator=1.0, tictactoe=0.5)
    plan = make_plan(mix, **{"splits": SPLITS, "shard_examples": 100, **settings})
    save_plan(plan, folder)
    run_export(folder)
    write_card(plan, folder, license="apache-2.0")
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return exported(tmp_path_factory.mktemp("export") / "data")


def command(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(word) for word in words])
    said = done.output
    if done.exception and not isinstance(done.exception, SystemExit):
        said += f"error: {done.exception}"
    for token in (WRITE, READ, OTHER):
        assert token not in said
    return done.exit_code, said


def commits(hub: HubServer, name: str = "datasets/anna/data") -> int:
    """How many there are beside the Hub's own first one."""
    return len(hub.repos[name].history()) - 1


def parquet_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.parquet")
    }


def arrived(hub: HubServer, folder: Path, name: str = "datasets/anna/data") -> bool:
    there = hub.repos[name].files() if name in hub.repos else {}
    return parquet_of(folder).items() <= there.items() and "README.md" in there


# --- a dataset ---


def test_a_pushed_export_is_loaded_back_row_for_row_streaming_and_not(hub, data, tmp_path):
    status, said = command("push-dataset", data, "anna/data")
    head = hub.repos["datasets/anna/data"].history()[0].id[:8]
    assert said.strip() == f"Pushed, as of commit {head}: {hub.url}/datasets/anna/data"
    assert status == 0 and commits(hub) == 1
    assert set(get_dataset_config_names("anna/data")) == set(CONFIGS)
    for config in CONFIGS:
        loaded = load_dataset("anna/data", config)
        assert list(loaded) == list(SPLITS)
        for split in SPLITS:
            files = sorted(str(path) for path in (data / config).glob(f"{split}-*"))
            local = list(load_dataset("parquet", data_files=files, split="train", streaming=True))
            assert list(loaded[split]) == local
            streamed = load_dataset("anna/data", config, split=split, streaming=True)
            assert list(streamed) == local
            assert streamed.features == loaded[split].features
    assert len(load_dataset("anna/data", split="train")) == SPLITS["train"]  # of the mix
    there = hub.repos["datasets/anna/data"].files()
    assert {"README.md", "lengths.png", "recipe.yaml"} <= there.keys()
    card = there["README.md"].decode()
    assert "# anna/data\n" in card
    assert 'load_dataset("anna/data", "mix", split="train")' in card
    assert not [path for path in there if ".export" in path]


def test_a_push_with_nothing_new_makes_no_commit(hub, data):
    command("push-dataset", data, "data")  # the token's own user's
    before = commits(hub), hub.count("PUT", "/storage/")
    status, said = command("push-dataset", data, "anna/data")
    assert status == 0 and "Nothing new to push" in said
    assert (commits(hub), hub.count("PUT", "/storage/")) == before


def test_an_update_keeps_what_people_wrote_and_other_configs_and_drops_stale_shards(
    hub, data, tmp_path
):
    command("push-dataset", data, "anna/data")
    repo = hub.repos["datasets/anna/data"]
    card = repo.files()["README.md"].decode()
    card = card.replace("license: apache-2.0", "license: mit")
    card = card.replace("configs:\n", "configs:\n- config_name: chess\n  data_files: chess/*\n", 1)
    card = card.replace(BEGIN, f"Words of Anna.\n\n{BEGIN}")
    games = (data / "tictactoe").glob("test-*")
    repo.commit(
        {"README.md": card.encode(), "chess/one.parquet": next(games).read_bytes()}, "by hand"
    )
    other = exported(tmp_path / "other", splits={"train": 80, "test": 30}, configs=["mix"])
    status, said = command("push-dataset", other, "anna/data")
    assert status == 0, said
    there = repo.files()
    assert {path for path in there if path.startswith("mix/")} == parquet_of(other).keys()
    assert {path for path in there if path.startswith("calc")} == {
        path for path in parquet_of(data) if path.startswith("calc")
    }
    text = there["README.md"].decode()
    assert "license: mit" in text and "Words of Anna." in text and "| `mix` | 80 (" in text
    assert set(get_dataset_config_names("anna/data")) == {*CONFIGS, "chess"}
    assert load_dataset("anna/data", "mix", split="train").num_rows == 80
    assert load_dataset("anna/data", "chess", split="train").num_rows > 0
    with pytest.raises(ValueError, match="validation"):
        load_dataset("anna/data", split="validation")


def test_words_in_the_local_card_are_pushed_once_and_later_said_to_stay(hub, data, tmp_path):
    folder = shutil.copytree(data, tmp_path / "data")
    card = folder / "README.md"
    card.write_text(card.read_text() + "First words.\n")
    assert "not pushed" not in command("push-dataset", folder, "anna/data")[1]
    there = hub.repos["datasets/anna/data"].files()["README.md"].decode()
    assert there.endswith("First words.\n")
    card.write_text(card.read_text() + "Second words.\n")
    status, said = command("push-dataset", folder, "anna/data")
    assert status == 0 and "the card on the Hub has its own" in said
    assert hub.repos["datasets/anna/data"].files()["README.md"].decode() == there


def test_a_push_to_a_branch_leaves_the_main_one_alone(hub, data):
    status, said = command("push-dataset", data, "anna/data", "--revision=v2")
    assert status == 0, said
    repo = hub.repos["datasets/anna/data"]
    assert f"{hub.url}/datasets/anna/data/tree/v2" in said
    assert "README.md" not in repo.files() and "README.md" in repo.files("v2")
    loaded = load_dataset("anna/data", "calculator", revision="v2")
    assert loaded["train"].num_rows == len(
        load_dataset("parquet", data_files=str(data / "calculator/train-*"), split="train")
    )


# --- faults that pass ---

FAULTS = {
    "the repository cannot be asked for": Fault("GET", r"^/api/datasets/anna/data", 503),
    "the repository is not made": Fault("POST", "/api/repos/create", "drop"),
    "the repository is made, and the answer lost": Fault(
        "POST", "/api/repos/create", "drop answer"
    ),
    "its files cannot be listed": Fault("GET", "/tree/", "drop"),
    "preupload is lost": Fault("POST", "/preupload/", "drop"),
    "the storage is busy": Fault("POST", "/info/lfs/objects/batch", 500),
    "an upload is lost": Fault("PUT", "/storage/", "drop"),
    "an upload is refused": Fault("PUT", "/storage/", 503, times=2),
    "the commit is refused": Fault("POST", "/commit/", 503),
    "the commit is in conflict": Fault("POST", "/commit/", 409),
    "the commit comes too late": Fault("POST", "/commit/", 412),
    "too many requests": Fault("POST", "/commit/", 429, times=2),
    "the commit is lost": Fault("POST", "/commit/", "drop"),
    "the commit is done, and the answer lost": Fault("POST", "/commit/", "drop answer"),
    "what arrived cannot be looked at": Fault("GET", "/tree/", 502, skip=1),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_that_passes_is_overcome_in_one_commit(hub, data, name):
    hub.faults.append(copy.copy(FAULTS[name]))
    status, said = command("push-dataset", data, "anna/data")
    assert status == 0, said
    assert hub.faults == []  # it did happen
    assert arrived(hub, data) and commits(hub) == 1


def test_somebody_elses_commit_at_the_same_time_is_kept(hub, data):
    def meanwhile():
        card = b"---\nlanguage: en\n---\nWords of Bela.\n"
        hub.repos["datasets/anna/data"].commit({"README.md": card, "notes.txt": b"x"}, "by hand")

    hub.faults.append(Fault("POST", "/commit/", meanwhile))
    status, said = command("push-dataset", data, "anna/data")
    assert status == 0 and "trying again" in said, said
    there = hub.repos["datasets/anna/data"].files()
    assert there["notes.txt"] == b"x" and arrived(hub, data)
    assert "Words of Bela." in there["README.md"].decode()
    assert "language: en" in there["README.md"].decode()


def test_a_file_that_did_not_arrive_as_it_was_sent_is_sent_again(hub, data):
    file = "mix/train-00001-of-00003.parquet"

    def damage():
        repo = hub.repos["datasets/anna/data"]
        last = repo.at("main")
        bad = Blob(b"x" * len(last.files[file].content), is_lfs=True)
        repo.commits[last.id] = dataclasses.replace(last, files={**last.files, file: bad})

    hub.faults.append(Fault("GET", "/tree/", damage, skip=1))
    status, said = command("push-dataset", data, "anna/data")
    assert status == 0, said
    assert f"{file} did not arrive as it was sent: trying again" in said
    assert arrived(hub, data)


def test_a_push_that_fails_for_good_shows_nothing_and_goes_on_where_it_was(hub, data):
    full = "Private repository storage limit reached"
    hub.faults.append(Fault("PUT", "/storage/", 403, times=10**6, skip=4, message=full))
    status, said = command("push-dataset", data, "anna/data")
    line = said.strip().splitlines()[-1]
    assert status != 0 and "cannot be pushed to anna/data" in line and full in line, said
    assert "trying again" not in said  # it will not pass
    assert commits(hub) == 0 and not arrived(hub, data)
    uploaded = len(hub.repos["datasets/anna/data"].lfs)
    assert uploaded > 0
    hub.faults.clear()
    before = hub.count("PUT", "/storage/")
    assert command("push-dataset", data, "anna/data")[0] == 0
    assert hub.count("PUT", "/storage/") - before == len(parquet_of(data)) + 1 - uploaded
    assert arrived(hub, data) and commits(hub) == 1


def test_a_hub_that_stays_busy_is_given_up_on_after_six_tries(hub, data):
    hub.faults.append(Fault("POST", "/commit/", 503, times=10**6))
    status, said = command("push-dataset", data, "anna/data")
    assert status != 0
    assert said.count("trying again") == 5
    assert "the Hub answers 503: ordered by the test): the same command goes on" in said
    assert commits(hub) == 0


@pytest.mark.parametrize(
    ("status", "headers", "pause"),
    [
        (429, {"RateLimit": '"api";r=0;t=7'}, 7),
        (503, {"Retry-After": "8"}, 8),
        (429, {"RateLimit": '"api";r=0;t=9999'}, 300),
        (503, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, 0.01),
        (503, {"RateLimit": '"api";r=99;t=200'}, 0.01),
    ],
)
def test_the_next_try_waits_as_long_as_the_hub_asks_for(
    hub, data, monkeypatch, status, headers, pause
):
    pauses = []
    monkeypatch.setattr(pushing.time, "sleep", pauses.append)
    hub.faults.append(Fault("POST", "/commit/", status, headers=headers))
    assert command("push-dataset", data, "anna/data")[0] == 0
    assert pauses == [pause] and arrived(hub, data)


# --- a user's mistakes ---


def test_a_token_that_may_not_is_one_clear_line(hub, data, monkeypatch):
    for token, name, said in (
        ("hf_wrong", "anna/data", "the Hub does not know the token"),
        ("", "anna/data", "the Hub does not know the token, or there is none"),
        (READ, "anna/data", "the token may not write to anna/data: it needs the role `write`"),
        (WRITE, "bela/data", "the token may not write to bela/data"),
    ):
        monkeypatch.setenv("HF_TOKEN", token)
        status, shown = command("push-dataset", data, name)
        (line,) = [one for one in shown.splitlines() if one.strip()]
        assert status != 0 and said in line and "hf_" not in line, shown
    assert not any("bela" in name for name in hub.repos)
    hub.create("datasets", "bela/data")
    hub.create("datasets", "anna/data")
    for token, name in ((READ, "anna/data"), (WRITE, "bela/data")):  # also where it is there
        monkeypatch.setenv("HF_TOKEN", token)
        assert f"may not write to {name}" in command("push-dataset", data, name)[1]
    assert commits(hub) == commits(hub, "datasets/bela/data") == 0


def test_a_token_that_the_server_repeats_is_not_shown(hub, data):
    hub.faults.append(Fault("POST", "/commit/", 400, message=f"odd token {WRITE}"))
    status, said = command("push-dataset", data, "anna/data")  # which looks for tokens
    assert status != 0 and "the Hub answers 400: odd token (token)" in said


def test_a_repository_of_another_type_is_refused(hub, data):
    hub.create("models", "anna/data")
    status, said = command("push-dataset", data, "anna/data")
    assert status != 0 and "anna/data is the name of a model repository" in said
    assert "datasets/anna/data" not in hub.repos
    hub.create("datasets", "anna/data")
    assert command("push-dataset", data, "anna/data")[0] == 0


def test_what_is_meant_to_be_private_is_not_pushed_where_all_see_it(hub, data):
    hub.create("datasets", "anna/data")
    status, said = command("push-dataset", data, "anna/data", "--private")
    assert status != 0 and "anna/data is there already, and public" in said
    assert commits(hub) == 0
    assert command("push-dataset", data, "anna/secret", "--private")[0] == 0
    assert hub.repos["datasets/anna/secret"].private


def test_a_full_disk_is_one_clear_line(hub, data, monkeypatch):
    hub.create("datasets", "anna/data").commit({"README.md": b"Mine."}, "by hand")

    def full(*given, **settings):
        raise OSError(28, "No space left on device", "/cache/README.md")

    monkeypatch.setattr("huggingface_hub.HfApi.hf_hub_download", full)
    status, said = command("push-dataset", data, "anna/data")
    (line,) = said.strip().splitlines()
    assert status != 0 and line.endswith("(/cache/README.md: No space left on device)")
    assert commits(hub) == 1


def test_without_a_network_it_is_one_clear_error(hub, data, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", nowhere)
    status, said = command("push-dataset", data, "anna/data")
    assert status != 0 and "no connection to the Hub: ConnectError" in said.splitlines()[-1]
    assert said.count("trying again") == 5


def test_an_export_that_is_not_whole_is_not_pushed(hub, data, tmp_path):
    folder = shutil.copytree(data, tmp_path / "data")
    (folder / "README.md").unlink()
    status, said = command("push-dataset", folder, "anna/data")
    assert status != 0 and "is no whole export (it has no card yet)" in said
    next((folder / "mix").glob("train-*")).unlink()
    status, said = command("push-dataset", folder, "anna/data")
    assert status != 0 and "is no whole export (missing shards: 1)" in said
    status, said = command("push-dataset", tmp_path / "nothing", "anna/data")
    assert status != 0 and "holds no export" in said
    assert hub.requests == []


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("https://huggingface.co/datasets/anna/data", "did you mean anna/data?"),
        ("datasets/anna/data", "did you mean anna/data?"),
        ("anna data", "got 'anna data'"),
        ("", "a repository's name is user/name"),
    ],
)
def test_a_name_that_no_repository_has_is_one_clear_line(hub, data, name, said):
    status, shown = command("push-dataset", data, name)
    assert status != 0 and said in shown and "\n" not in shown.strip(), shown
    assert hub.requests == []


def test_an_empty_revision_and_a_file_are_refused(hub, data):
    status, said = command("push-dataset", data, "anna/data", "--revision=")
    assert status != 0 and "the revision is empty" in said
    status, said = command("push-dataset", data / "README.md", "anna/data")
    assert status != 0 and "README.md holds no export" in said


@pytest.mark.parametrize("text", ["", "# Mine\n", f"{BEGIN}\n"])
def test_a_local_card_without_mixgens_part_is_not_pushed(hub, data, tmp_path, text):
    folder = shutil.copytree(data, tmp_path / "data")
    (folder / "README.md").write_text(text)
    status, said = command("push-dataset", folder, "anna/data")
    assert status != 0 and str(folder / "README.md") in said, said
    assert commits(hub) == 0


def test_files_of_others_in_the_folders_of_configs_stay(hub, data):
    repo = hub.create("datasets", "anna/data")
    theirs = {"mix/mine.parquet": b"x", "mix/sub/train-00000-of-00001.parquet": b"y"}
    repo.commit(theirs | {"mix/train-00000-of-00009.parquet": b"old"}, "by hand")
    assert command("push-dataset", data, "anna/data")[0] == 0
    assert theirs.items() <= repo.files().items()
    assert "mix/train-00000-of-00009.parquet" not in repo.files() and arrived(hub, data)


def test_a_dataset_that_was_pushed_before_without_mixgen_is_loaded_as_before(hub, data):
    from datasets import Dataset

    Dataset.from_dict({"text": ["a", "b"]}).push_to_hub("anna/data")
    assert command("push-dataset", data, "anna/data")[0] == 0
    assert load_dataset("anna/data", split="train")["text"] == ["a", "b"]
    assert len(load_dataset("anna/data", "mix", split="train")) == SPLITS["train"]


def test_a_card_on_the_hub_that_is_no_text_is_one_clear_line(hub, data):
    repo = hub.create("datasets", "anna/data")
    repo.commit({"README.md": b"\xff\xfe\x00"}, "by hand")
    status, said = command("push-dataset", data, "anna/data")
    assert status != 0 and "anna/data on the Hub: " in said and "no text in UTF-8" in said
    assert repo.files()["README.md"] == b"\xff\xfe\x00"


def test_a_card_that_cannot_be_read_is_neither_lost_nor_pushed_over(hub, data):
    repo = hub.create("datasets", "anna/data")
    repo.commit({"README.md": b"---\n[oh\n---\nMine.\n"}, "by hand")
    status, said = command("push-dataset", data, "anna/data")
    assert (
        status != 0
        and "README.md of anna/data on the Hub: the header of the card is no YAML" in said
    )
    assert commits(hub) == 1


# --- a model ---

WORDS = [
    "--depth=1", "--head_dim=32", "--aspect_ratio=32", "--max_seq_len=256", "--calc_weight=1",
    "--per_device_train_batch_size=2", "--max_steps=2", "--eval_steps=0", "--test_examples=2",
    "--report_to=none", "--use_cpu",
]  # fmt: skip


def trained(folder: Path, *words: str) -> int:
    return mixgen.main.main([*WORDS, f"--output_dir={folder}", "--push_to_hub", *words])


def test_a_trained_model_is_pushed_with_its_card_and_writes_the_same(hub, tmp_path, capsys):
    folder = tmp_path / "small"
    assert trained(folder, "--save_steps=1") == 0
    assert f"{hub.url}/anna/small" in capsys.readouterr().out
    there = hub.repos["models/anna/small"].files()
    assert {"README.md", "report.html", "recipe.yaml", "model.safetensors"} <= there.keys()
    assert not [path for path in there if "checkpoint" in path or path.startswith(".lock")]
    assert list(folder.glob("checkpoint-*"))
    assert commits(hub, "models/anna/small") == 1
    assert 'name = "anna/small"' in there["README.md"].decode()
    for content in there.values():
        assert WRITE.encode() not in content

    written = []
    for name in (str(folder), "anna/small"):
        tokenizer = AutoTokenizer.from_pretrained(name)
        model = AutoModelForCausalLM.from_pretrained(name)
        asked = tokenizer.apply_chat_template(
            [{"role": "user", "content": "What is 1 plus 2?"}],
            add_generation_prompt=True, return_tensors="pt", return_dict=True,
        )  # fmt: skip
        with torch.no_grad():
            written.append(model.generate(**asked, max_new_tokens=20, do_sample=False).tolist())
    assert written[0] == written[1]

    repo = hub.repos["models/anna/small"]
    repo.commit({"README.md": there["README.md"] + b"\nWords of Anna.\n"}, "by hand")
    assert trained(folder, "--save_steps=1") == 0  # finished: pushed again, with nothing new
    assert "Nothing new to push" in capsys.readouterr().out
    assert repo.files()["README.md"].endswith(b"\nWords of Anna.\n")
    assert commits(hub, "models/anna/small") == 2


def test_a_model_that_may_not_be_pushed_is_refused_before_training(hub, tmp_path, capsys):
    hub.create("models", "anna/there")
    hub.create("models", "bela/there")
    for words, said in (
        (["--hub_model_id=anna/there", f"--hub_token={READ}"], "may not write to anna/there"),
        (["--hub_model_id=bela/there"], "may not write to bela/there"),
        (["--hub_model_id=anna/m", f"--hub_token={READ}"], "the token may not write to anna/m"),
        (["--hub_model_id=anna/m", "--hub_token=hf_wrong"], "does not know the token"),
        (["--hub_model_id=bela/m"], "the token may not write to bela/m"),
    ):
        assert trained(tmp_path / "run", *words) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert line.startswith("error: nothing can be pushed to") and said in line
        assert "hf_" not in line and not (tmp_path / "run").exists()


def test_a_model_whose_push_fails_is_saved_and_the_same_command_pushes_it(hub, tmp_path, capsys):
    hub.faults.append(Fault("POST", "/commit/", 503, times=10**6))
    assert trained(tmp_path / "run", "--hub_model_id=anna/m", "--hub_private_repo") == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "the model is saved, but" in line and "the Hub answers 503" in line
    hub.faults.clear()
    assert trained(tmp_path / "run", "--hub_model_id=anna/m", "--hub_private_repo") == 0
    assert hub.repos["models/anna/m"].private
    assert "model.safetensors" in hub.repos["models/anna/m"].files()
