"""The server of the Hub, driven by the Hub's real clients."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import httpx2
import pytest
import torch
from datasets import IterableDataset, IterableDatasetDict, load_dataset
from datasets import config as datasets_config
from hub_server import OTHER, READ, WRITE, Fault, HubServer
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    HfFileSystem,
    constants,
    get_hf_file_metadata,
    get_session,
    hf_hub_download,
    hf_hub_url,
    whoami,
)
from huggingface_hub.errors import (
    BadRequestError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils.sha import git_hash
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel

from mixgen import load_mixture

CONFIGS = {
    "calculator": {"calculator": 1.0},
    "tictactoe": {"tictactoe": 1.0},
    "mix": {"calculator": 1.0, "tictactoe": 0.5},
}
SPLITS = ("train", "validation")
CLIENTS = ("huggingface_hub", "datasets", "transformers")

# huggingface_hub 2.4 uploads so.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def hub(tmp_path) -> Iterator[HubServer]:
    with HubServer() as hub, hub.connected(tmp_path / "home", token=WRITE):
        yield hub


@pytest.fixture
def impatient(monkeypatch):
    """Clients do not wait before they try again."""
    no_sleep = SimpleNamespace(sleep=lambda seconds: None)
    monkeypatch.setattr("huggingface_hub.utils._http.time", no_sleep)


@pytest.fixture
def folder(tmp_path) -> Path:
    """A card, a text and four large files."""
    folder = tmp_path / "folder"
    (folder / "data").mkdir(parents=True)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# Sums\n")
    (folder / "data" / "notes.txt").write_text("regular\n")
    for number in range(4):
        (folder / "data" / f"{number}.parquet").write_bytes(bytes([number]) * 10_000)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def upload(folder: Path, **options: object) -> str:
    api = HfApi()
    api.create_repo("anna/sums", repo_type="dataset", exist_ok=True)
    return api.upload_folder(
        repo_id="anna/sums", folder_path=folder, repo_type="dataset", **options
    ).oid


# --- datasets ---


def stream_of(config: str, split: str) -> IterableDataset:
    return load_mixture(CONFIGS[config], split=split).take(30)


def test_datasets_pushed_by_push_to_hub_load_back_row_for_row_streaming_and_not(hub):
    for config in CONFIGS:
        splits = {split: stream_of(config, split) for split in SPLITS}
        IterableDatasetDict(splits).push_to_hub("anna/tasks", config)
    assert hub.count("POST", "/commit/main") == len(CONFIGS)
    for config, weights in CONFIGS.items():
        for split in SPLITS:
            expected = list(load_mixture(weights, split=split).take(30))
            assert {row["task"] for row in expected} == {*weights}
            assert list(load_dataset("anna/tasks", config, split=split)) == expected
            assert list(load_dataset("anna/tasks", config, split=split, streaming=True)) == expected


def test_push_to_a_branch_leaves_main_as_it_was(hub):
    stream_of("calculator", "train").push_to_hub("anna/tasks")
    before = hub.repos["datasets/anna/tasks"].files()
    stream_of("tictactoe", "train").push_to_hub("anna/tasks", revision="games/first")
    assert hub.repos["datasets/anna/tasks"].files() == before
    tasks = {
        revision: {*load_dataset("anna/tasks", split="train", revision=revision)["task"]}
        for revision in ("main", "games/first")
    }
    assert tasks == {"main": {"calculator"}, "games/first": {"tictactoe"}}


# --- folders and commits ---


def test_folder_arrives_whole_and_pushed_again_makes_no_commit(hub, folder):
    first = upload(folder)
    repo = hub.repos["datasets/anna/sums"]
    files = repo.files()
    assert files.pop(".gitattributes")
    assert files == contents(folder)
    assert {path for path, blob in repo.at("main").files.items() if blob.is_lfs} == {
        f"data/{number}.parquet" for number in range(4)
    }
    hub.requests.clear()
    assert upload(folder) == first == repo.branches["main"]
    assert len(repo.commits) == 2
    assert hub.count("POST", "/preupload/") == 1
    assert hub.count("PUT", "") == hub.count("POST", "/commit/") == 0


def test_files_that_delete_patterns_name_are_gone_but_for_older_commits(hub, folder):
    first = upload(folder)
    (folder / "data" / "0.parquet").unlink()
    (folder / "data" / "4.parquet").write_bytes(b"new")
    upload(folder, delete_patterns="data/*.parquet")
    assert hub.repos["datasets/anna/sums"].files().keys() == {
        ".gitattributes",
        *contents(folder),
    }
    old = hf_hub_download("anna/sums", "data/0.parquet", repo_type="dataset", revision=first)
    assert Path(old).read_bytes() == bytes(10_000)


def test_deleted_folder_takes_its_files_and_no_others(hub, folder):
    upload(folder)
    (folder / "data.txt").write_text("not in it")
    upload(folder)
    HfApi().delete_folder("data", "anna/sums", repo_type="dataset")
    assert hub.repos["datasets/anna/sums"].files().keys() == {
        ".gitattributes",
        "README.md",
        "data.txt",
    }
    with pytest.raises(RemoteEntryNotFoundError, match="doesn't exist"):
        HfApi().delete_file("data", "anna/sums", repo_type="dataset")


def test_tree_names_files_as_git_and_lfs_do_and_commits_that_changed_them(hub, folder):
    first = upload(folder)
    (folder / "README.md").write_text("# Sums\n")
    second = upload(folder)
    api = HfApi()
    tree = api.list_repo_tree("anna/sums", repo_type="dataset", recursive=True, expand=True)
    entries = {entry.path: entry for entry in tree}
    assert entries.keys() == {".gitattributes", "data", *contents(folder)}
    assert entries["README.md"].blob_id == git_hash(b"# Sums\n")
    sha256 = entries["data/0.parquet"].lfs.sha256
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize 10000\n"
    assert entries["data/0.parquet"].blob_id == git_hash(pointer.encode())
    assert entries["data"].last_commit.oid == entries["data/0.parquet"].last_commit.oid == first
    assert entries["README.md"].last_commit.oid == second
    top = api.list_repo_tree("anna/sums", repo_type="dataset")
    assert {entry.path for entry in top} == {".gitattributes", "README.md", "data"}
    below = api.list_repo_tree("anna/sums", "data", repo_type="dataset")
    assert len(list(below)) == 5
    infos = api.get_paths_info("anna/sums", ["data", "gone"], repo_type="dataset")
    assert [info.path for info in infos] == ["data"]
    commits = api.list_repo_commits("anna/sums", repo_type="dataset")
    assert [commit.commit_id for commit in commits][:2] == [second, first]
    assert [commit.authors for commit in commits] == [["anna"], ["anna"], ["system"]]


def test_commit_on_another_parent_or_of_a_large_file_that_was_not_sent_is_refused(hub, folder):
    upload(folder)
    api, repo = HfApi(), hub.repos["datasets/anna/sums"]
    head = repo.at("main")
    addition = CommitOperationAdd("new.txt", b"new")
    with pytest.raises(HfHubHTTPError) as error:
        api.create_commit(
            "anna/sums",
            [addition],
            commit_message="late",
            repo_type="dataset",
            parent_commit=head.parent,
        )
    assert error.value.response.status_code == 412
    addition = CommitOperationAdd("new.parquet", b"new")
    api.preupload_lfs_files("anna/sums", [addition], repo_type="dataset", free_memory=False)
    repo.lfs.pop(addition.upload_info.sha256.hex())
    with pytest.raises(BadRequestError, match="does not exist"):
        api.create_commit("anna/sums", [addition], commit_message="lost", repo_type="dataset")
    assert repo.at("main") is head


def test_large_file_is_read_in_ranges(hub):
    content = os.urandom(300_000)
    hub.create("datasets", "anna/sums")
    api = HfApi()
    api.upload_file(
        repo_id="anna/sums", path_or_fileobj=content, path_in_repo="a.bin", repo_type="dataset"
    )
    url = hf_hub_url("anna/sums", "a.bin", repo_type="dataset", endpoint=hub.url)
    assert get_hf_file_metadata(url).size == len(content)
    hub.requests.clear()
    with HfFileSystem().open("datasets/anna/sums/a.bin", block_size=1_000) as file:
        file.seek(200_000)
        assert file.read(500) == content[200_000:200_500]
        file.seek(299_990)
        assert file.read() == content[-10:]
    assert hub.count("GET", "/storage/") >= 2
    part = httpx2.get(url, headers={"Range": "bytes=10-19"}, follow_redirects=True)
    assert (part.status_code, part.content) == (206, content[10:20])


def test_storage_takes_only_what_was_announced_and_no_token(hub):
    lfs = hub.create("datasets", "anna/sums").lfs
    url = f"{hub.storage}/datasets/anna/sums/{hashlib.sha256(b'sums').hexdigest()}"
    token = {"Authorization": f"Bearer {WRITE}"}
    assert httpx2.put(url, content=b"other").status_code == 400
    assert httpx2.put(url, content=b"sums", headers=token).status_code == 400
    assert not lfs
    assert httpx2.put(url, content=b"sums").status_code == 200
    assert [blob.content for blob in lfs.values()] == [b"sums"]


# --- models ---


def test_model_and_tokenizer_load_back_with_the_same_logits_and_chat_template(hub, tokenizer):
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=len(tokenizer), n_positions=64, n_embd=32, n_layer=1, n_head=2)
    model = GPT2LMHeadModel(config).eval()
    model.push_to_hub("anna/tiny")
    tokenizer.push_to_hub("anna/tiny")
    assert "model.safetensors" in hub.repos["models/anna/tiny"].files()

    loaded = AutoModelForCausalLM.from_pretrained("anna/tiny")
    loaded_tokenizer = AutoTokenizer.from_pretrained("anna/tiny")
    messages = [{"role": "user", "content": "1 + 1 = ?"}]
    ids = tokenizer.apply_chat_template(messages, return_tensors="pt", return_dict=False)
    assert ids.shape[1] > 5
    with torch.no_grad():
        assert torch.equal(model(ids).logits, loaded(ids).logits)
    assert loaded_tokenizer.chat_template == tokenizer.chat_template
    assert loaded_tokenizer.get_vocab() == tokenizer.get_vocab()
    assert loaded_tokenizer.apply_chat_template(messages)["input_ids"] == ids[0].tolist()


# --- who may do what ---


@pytest.mark.parametrize(
    ("token", "status"), [("hf_wrong", 401), (False, 401), (READ, 403), (OTHER, 403)]
)
def test_only_the_owner_with_a_token_to_write_may_write(hub, token, status):
    repo = hub.create("datasets", "anna/sums")
    writes: list[Callable[[HfApi], object]] = [
        lambda api: api.create_repo("anna/new", repo_type="dataset"),
        lambda api: api.create_branch("anna/sums", branch="new", repo_type="dataset"),
        lambda api: api.upload_file(
            path_or_fileobj=b"new", path_in_repo="a.txt", repo_id="anna/sums", repo_type="dataset"
        ),
        lambda api: api.preupload_lfs_files(
            "anna/sums", [CommitOperationAdd("a.bin", b"new")], repo_type="dataset"
        ),
    ]
    for write in writes:
        with pytest.raises(HfHubHTTPError) as error:
            write(HfApi(token=token))
        assert error.value.response.status_code == status
    assert hub.repos == {"datasets/anna/sums": repo}
    assert len(repo.commits) == len(repo.branches) == 1
    assert not repo.lfs


def test_each_token_is_told_who_it_is(hub):
    assert HfApi().whoami()["name"] == HfApi(token=READ).whoami()["name"] == "anna"
    assert HfApi(token=OTHER).whoami()["name"] == "bela"


def test_wrong_token_is_refused_even_what_is_public(hub):
    hub.create("models", "anna/tiny")
    assert HfApi(token=False).model_info("anna/tiny")
    with pytest.raises(HfHubHTTPError, match="Invalid credentials") as error:
        HfApi(token="hf_wrong").model_info("anna/tiny")
    assert error.value.response.status_code == 401
    with pytest.raises(HfHubHTTPError, match="Invalid user token"):
        HfApi(token="hf_wrong").whoami()


@pytest.mark.parametrize(("token", "status"), [(OTHER, 404), (False, 401)])
def test_private_repository_is_there_for_its_owner_alone(hub, token, status):
    HfApi().create_repo("anna/secret", private=True)
    HfApi().upload_file(path_or_fileobj=b"1", path_in_repo="a.bin", repo_id="anna/secret")
    assert HfApi(token=READ).model_info("anna/secret").private
    assert Path(hf_hub_download("anna/secret", "a.bin")).read_bytes() == b"1"
    for name in ("anna/secret", "anna/missing"):
        with pytest.raises(RepositoryNotFoundError) as error:
            HfApi(token=token).model_info(name)
        assert error.value.response.status_code == status
        assert not HfApi(token=token).repo_exists(name)


def test_what_is_missing_is_said_with_the_error_that_the_clients_know(hub):
    hub.create("models", "anna/tiny")
    with pytest.raises(RepositoryNotFoundError):
        HfApi().dataset_info("anna/tiny")
    with pytest.raises(RevisionNotFoundError):
        HfApi().model_info("anna/tiny", revision="none")
    with pytest.raises(RevisionNotFoundError):
        hf_hub_download("anna/tiny", ".gitattributes", revision="none")
    with pytest.raises(RemoteEntryNotFoundError):
        hf_hub_download("anna/tiny", "none.txt")
    with pytest.raises(RemoteEntryNotFoundError):
        list(HfApi().list_repo_tree("anna/tiny", "none"))
    with pytest.raises(HfHubHTTPError) as error:
        HfApi().create_repo("anna/tiny")
    assert error.value.response.status_code == 409
    assert HfApi().create_repo("anna/tiny", exist_ok=True) == f"{hub.url}/anna/tiny"


def test_request_that_the_server_does_not_know_is_refused_at_once(hub):
    hub.create("models", "anna/tiny")
    with pytest.raises(HfHubHTTPError, match="does not know POST") as error:
        HfApi().create_tag("anna/tiny", tag="v1")
    assert error.value.response.status_code == 501  # clients do not try that again


# --- faults ---


def outcome(hub: HubServer) -> str:
    try:
        return str(get_session().get(f"{hub.url}/api/models/anna/tiny").status_code)
    except httpx2.HTTPError as error:
        return type(error).__name__


@pytest.mark.parametrize(
    ("action", "expected"),
    [(503, "503"), ("drop", "RemoteProtocolError"), ("drop answer", "RemoteProtocolError")],
)
def test_fault_happens_exactly_as_often_as_asked(hub, action, expected):
    hub.create("models", "anna/tiny")
    hub.faults += [
        Fault("GET", "/models/anna/other", 500),
        Fault("POST", "/models/anna/tiny", 500),
        Fault("GET", "/models/anna/tiny$", action, times=2, skip=1),
    ]
    assert [outcome(hub) for _ in range(5)] == ["200", expected, expected, "200", "200"]
    assert len(hub.faults) == 2
    assert hub.count("GET", "/models/anna/tiny") == 5


def test_commit_that_is_dropped_is_not_made_and_one_whose_answer_is_lost_is(hub, folder):
    upload(folder)
    commits = hub.repos["datasets/anna/sums"].commits
    for action, made in (("drop", 0), ("drop answer", 1)):
        before = len(commits)
        (folder / "README.md").write_text(action)
        hub.faults.append(Fault("POST", "/commit/main", action))
        with pytest.raises(httpx2.RemoteProtocolError):
            upload(folder)
        assert len(commits) == before + made
        upload(folder)
        assert len(commits) == before + 1


def test_refused_commit_says_what_the_test_ordered(hub, folder):
    hub.faults.append(Fault("POST", "/commit/", 503, message="busy"))
    with pytest.raises(HfHubHTTPError, match="busy") as error:
        upload(folder)
    assert error.value.response.status_code == 503
    assert len(hub.repos["datasets/anna/sums"].commits) == 1
    upload(folder)
    assert len(hub.repos["datasets/anna/sums"].commits) == 2


def test_function_as_a_fault_is_called_before_the_request(hub, folder):
    head = upload(folder)
    repo = hub.repos["datasets/anna/sums"]
    hub.faults.append(Fault("POST", "/commit/", lambda: repo.commit({"theirs": b"1"}, "theirs")))
    with pytest.raises(HfHubHTTPError) as error:
        HfApi().create_commit(
            "anna/sums",
            [CommitOperationDelete("README.md")],
            commit_message="ours",
            repo_type="dataset",
            parent_commit=head,
        )
    assert error.value.response.status_code == 412
    assert repo.files()["theirs"] == b"1"
    assert "README.md" in repo.files()


def test_uploads_that_are_retried_arrive_once(hub, folder, impatient):
    hub.faults += [
        Fault("PUT", "/storage/", 503),
        Fault("PUT", "/storage/", "drop", skip=1),
        Fault("POST", "/preupload/", "drop", times=2),
    ]
    upload(folder)
    assert not hub.faults
    assert hub.count("PUT", "/storage/") == 4 + 2
    assert hub.count("POST", "/preupload/") == 1 + 2
    assert contents(folder).items() <= hub.repos["datasets/anna/sums"].files().items()


def test_interrupted_upload_sends_only_what_is_missing_when_it_is_repeated(hub, folder):
    hub.faults.append(Fault("PUT", "/storage/", 400, skip=2))
    with pytest.raises(RuntimeError):
        upload(folder)
    repo = hub.repos["datasets/anna/sums"]
    num_missing = 4 - len(repo.lfs)
    assert 1 <= num_missing <= 2
    assert len(repo.commits) == 1
    hub.requests.clear()
    upload(folder)
    assert hub.count("PUT", "/storage/") == num_missing
    assert contents(folder).items() <= repo.files().items()


# --- which server the clients talk to ---


def constants_with(*texts: str) -> set[tuple[str, str]]:
    """Constants of the clients that begin so."""
    return {
        (module_name, name)
        for module_name, module in list(sys.modules.items())
        if module_name.split(".")[0] in CLIENTS
        for name, value in list(vars(module).items())
        if isinstance(value, str | Path) and str(value).startswith(texts)
    }


def test_while_connected_every_constant_is_of_the_server_and_afterwards_as_before(tmp_path):
    endpoint, home = constants.ENDPOINT, constants.HF_HOME
    before, environment = constants_with(endpoint, home), dict(os.environ)
    # A page for people, and what is replaced in addresses that the Hub answers with.
    names = ("HUGGINGFACE_CO_URL_HOME", "_HF_DEFAULT_ENDPOINT")
    kept = before & {("huggingface_hub.constants", name) for name in names}
    changed = before - kept
    assert len(changed) > 20
    with HubServer() as hub:
        with hub.connected(tmp_path, token=WRITE):
            from huggingface_hub.utils import _cache_manager  # holds a copy

            assert whoami()["name"] == "anna"  # asked by a client made at import
            assert constants_with(endpoint, home) == kept
            assert changed <= constants_with(hub.url, str(tmp_path))
            assert not constants.HF_HUB_OFFLINE
            assert not datasets_config.HF_HUB_OFFLINE
        assert not constants_with(hub.url, str(tmp_path))
    assert before <= constants_with(endpoint, home)
    assert _cache_manager.HF_HUB_CACHE == constants.HF_HUB_CACHE
    assert dict(os.environ) == environment


def test_servers_one_after_another_know_nothing_of_each_other(tmp_path):
    for _ in range(2):
        with HubServer() as hub, hub.connected(tmp_path, token=WRITE):
            assert not HfFileSystem().exists("datasets/anna/sums")
            HfApi().create_repo("anna/sums", repo_type="dataset")
            hub.create("models", "anna/tiny").commit({"config.json": b"{}"}, "config")
            GPT2Config.from_pretrained("anna/tiny")
            assert hub.count("GET", "^/api/models/anna/tiny/revision/main$") == 1
            hub.clear()
            assert not HfApi().repo_exists("anna/sums", repo_type="dataset")
            HfApi().create_repo("anna/sums", repo_type="dataset")


def test_connected_again_the_clients_have_forgotten_what_was_missing(tmp_path):
    with HubServer() as hub:
        with hub.connected(tmp_path):
            assert not HfFileSystem().exists("datasets/anna/sums")
            hub.create("datasets", "anna/sums")
            assert not HfFileSystem().exists("datasets/anna/sums")
        with hub.connected(tmp_path):
            assert HfFileSystem().exists("datasets/anna/sums")


def test_environment_makes_another_process_talk_to_the_server(tmp_path):
    with HubServer() as hub:
        said = subprocess.run(
            [sys.executable, "-c", "import huggingface_hub as h; print(h.whoami()['name'])"],
            env={**os.environ, **hub.environment(tmp_path, OTHER)},
            capture_output=True,
            text=True,
            check=True,
        )
    assert said.stdout == "bela\n"
