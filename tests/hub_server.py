"""A Hub of Hugging Face on the loopback, for tests: what its real clients call, kept in memory.

It answers `huggingface_hub`, `datasets` and `transformers` as the Hub does: commits on branches, an
LFS that asks for what is missing, tokens, private repositories, a storage on another host. Faults
happen on order. What it does not know it answers with 501.

    with HubServer() as hub, hub.connected(tmp_path, token=WRITE):
        hub.faults.append(Fault("POST", "/commit/", 503))
        ...
    assert hub.count("PUT", "/storage/") == 1

The clients read their environment when they are imported. `connected` computes their constants
again, so that no test needs a process of its own.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import secrets
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import module_from_spec
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple
from unittest.mock import patch
from urllib.parse import parse_qs, parse_qsl, unquote, urlsplit

WRITE, READ, OTHER = "hf_of_anna", "hf_of_anna_to_read", "hf_of_bela"
TOKENS = {WRITE: ("anna", "write"), READ: ("anna", "read"), OTHER: ("bela", "write")}
LFS_SUFFIXES = (".arrow", ".bin", ".gz", ".npy", ".parquet", ".png", ".pt", ".safetensors", ".zip")
LARGEST_REGULAR = 10 * 2**20  # bytes


class Answer(NamedTuple):
    """To a request; what is not bytes is sent as JSON."""

    body: Any = b""
    status: int = 200
    headers: Mapping[str, str] = {}


class Refused(Exception):
    """An answer that is an error; the clients go by its code."""

    def __init__(self, status: int, message: str, code: str = "", **headers: str) -> None:
        super().__init__(message)
        headers |= {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self.answer = Answer({"error": message}, status, headers)


@dataclass
class Fault:
    """What goes wrong with requests of a method whose path matches a regular expression.

    `action` is a status; "drop", which loses the connection before anything is done; "drop answer",
    which loses it afterwards; or a function that is called first, such as another commit. The first
    `skip` requests are spared. After `times` it leaves `hub.faults`.
    """

    method: str
    path: str
    action: int | Literal["drop", "drop answer"] | Callable[[], object]
    times: int = 1
    skip: int = 0
    message: str = "ordered by the test"


@dataclass(frozen=True)
class Blob:
    """A file's content, and whether the large file storage holds it instead of git."""

    content: bytes
    is_lfs: bool = False

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @cached_property
    def entry(self) -> dict[str, Any]:
        """As the API lists it; `oid` is git's name of what git holds, of an LFS file a pointer."""
        held, size = self.content, len(self.content)
        lfs: dict[str, Any] = {}
        if self.is_lfs:
            held = b"version https://git-lfs.github.com/spec/v1\n"
            held += f"oid sha256:{self.sha256}\nsize {size}\n".encode()
            lfs = {"lfs": {"oid": self.sha256, "size": size, "pointerSize": len(held)}}
        oid = hashlib.sha1(b"blob %d\0" % len(held) + held).hexdigest()
        return {"type": "file", "oid": oid, "size": size, **lfs}


@dataclass(frozen=True)
class Commit:
    """A whole snapshot; `shown` is how the API lists it, `changed` when each file changed last."""

    id: str
    parent: str | None
    shown: Mapping[str, Any]
    files: Mapping[str, Blob]
    changed: Mapping[str, str]


@dataclass
class Repo:
    """A repository: `kind` is "datasets" or "models", `name` is user/name."""

    kind: str
    name: str
    private: bool = False
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    lfs: dict[str, Blob] = field(default_factory=dict)  # what was uploaded, by sha256

    @property
    def owner(self) -> str:
        return self.name.split("/")[0]

    @property
    def web_path(self) -> str:
        return self.name if self.kind == "models" else f"{self.kind}/{self.name}"

    def files(self, revision: str = "main") -> dict[str, bytes]:
        """The content of all files at a branch or commit."""
        return {path: blob.content for path, blob in self.at(revision).files.items()}

    def at(self, revision: str) -> Commit:
        commit = self.commits.get(self.branches.get(revision, revision))
        if commit is None:
            raise Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return commit

    def history(self, revision: str = "main") -> list[Commit]:
        """Commits, the newest first."""
        commits = [self.at(revision)]
        while commits[-1].parent:
            commits.append(self.commits[commits[-1].parent])
        return commits

    def commit(
        self,
        changes: Mapping[str, bytes | Blob | None],
        title: str,
        message: str = "",
        branch: str = "main",
        author: str = "system",
    ) -> Commit:
        """Adds a commit to a branch; None deletes a file."""
        made = secrets.token_hex(20)  # never the same again: clients cache by it
        parent = self.commits.get(self.branches.get(branch, ""))
        files, changed = (dict(parent.files), dict(parent.changed)) if parent else ({}, {})
        for path, new in changes.items():
            if new is None:
                del files[path]
            else:
                files[path] = new if isinstance(new, Blob) else Blob(new)
                changed[path] = made
        date = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        shown = {"id": made, "title": title, "message": message, "date": date}
        shown["authors"] = [{"user": author}]
        self.commits[made] = Commit(made, parent and parent.id, shown, files, changed)
        self.branches[branch] = made
        return self.commits[made]

    def entries(self, revision: str, *, expand: bool = False) -> dict[str, dict[str, Any]]:
        """Files and folders as the API lists them; with `expand`, when each changed last."""
        entries: dict[str, dict[str, Any]] = {}
        at, order = self.at(revision), list(self.commits)
        for path in sorted(at.files, key=lambda path: order.index(at.changed[path])):
            last = {"lastCommit": self.commits[at.changed[path]].shown} if expand else {}
            entries[path] = {**at.files[path].entry, "path": path, **last}
            for folder in map(str, PurePosixPath(path).parents[:-1]):
                oid = hashlib.sha1(f"{at.id} {folder}".encode()).hexdigest()
                entries[folder] = {
                    "type": "directory",
                    "path": folder,
                    "oid": oid,
                    "size": 0,
                    **last,
                }
        return dict(sorted(entries.items()))


class HubServer:
    """The server. `tokens` maps a token to a user and their role, "write" or "read"."""

    def __init__(self) -> None:
        self.tokens = dict(TOKENS)
        self.repos: dict[str, Repo] = {}  # by "datasets/user/name" or "models/user/name"
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, str]] = []  # methods and paths, in the order of arrival
        self.lock = threading.RLock()
        self._server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        # Another host, as the real storage is: clients must not send it their token.
        self.storage = f"http://localhost:{self._server.server_port}/storage"

    def __enter__(self) -> HubServer:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def clear(self) -> None:
        """Forgets repositories, faults and requests."""
        for kept in (self.repos, self.faults, self.requests):
            kept.clear()

    def create(self, kind: str, name: str, *, private: bool = False) -> Repo:
        """Makes a repository, whose first commit is the Hub's own."""
        repo = self.repos[f"{kind}/{name}"] = Repo(kind, name, private)
        lines = [f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LFS_SUFFIXES]
        repo.commit({".gitattributes": "".join(lines).encode()}, "initial commit")
        return repo

    def count(self, method: str, path: str) -> int:
        """How many requests of a method came, with a path that matches."""
        return sum(one == method and bool(re.search(path, where)) for one, where in self.requests)

    def environment(self, home: Path, token: str | None = None) -> dict[str, str]:
        """What to add to the environment of a process whose clients are to talk to this server."""
        on = ["HUB_DISABLE_XET", "HUB_DISABLE_TELEMETRY", "HUB_DISABLE_UPDATE_CHECK"]
        on += ["HUB_DISABLE_PROGRESS_BARS", "DATASETS_DISABLE_PROGRESS_BARS"]
        off = ["HUB_OFFLINE", "DATASETS_OFFLINE", "UPDATE_DOWNLOAD_COUNTS"]
        caches = ["hub", "assets", "xet", "datasets", "modules"]
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_TOKEN": token or "",
            "HF_TOKEN_PATH": str(home / "token"),
            **dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost"),
            **{f"HF_{name}": "1" for name in on},
            **{f"HF_{name}": "0" for name in off},
            **{f"HF_{cache.upper()}_CACHE": str(home / cache) for cache in caches},
        }

    @contextmanager
    def connected(self, home: Path, token: str | None = None) -> Iterator[None]:
        """Makes the clients of this process talk to this server, with caches of their own."""
        import datasets.config
        import transformers.utils.hub
        from huggingface_hub import HfFileSystem, close_session, constants, hf_api, hf_file_system

        changes = [
            ("HF_MODULES_CACHE", transformers.utils.hub.HF_MODULES_CACHE, str(home / "modules")),
            ("USE_PARQUET_EXPORT", True, False),  # of another server
        ]
        with ExitStack() as stack:
            stack.enter_context(patch.dict(os.environ, self.environment(home, token)))
            stack.callback(lambda: _replace([(name, new, old) for name, old, new in changes]))
            for module in (constants, datasets.config):
                changes += _computed_again(module)
                _replace(changes)
            # It is made when it is first used, and kept.
            stack.enter_context(patch.object(transformers.utils.hub, "_hf_api", None))
            for client in (hf_api.api, hf_file_system.hffs, hf_file_system.hffs._api):
                stack.enter_context(patch.object(client, "endpoint", self.url))
            for forget in (close_session, HfFileSystem.clear_instance_cache):
                forget()
                stack.callback(forget)
            yield


def _computed_again(module: Any) -> list[tuple[str, Any, Any]]:
    """The constants of a module that the environment changes: name, value now, value to be."""
    fresh = module_from_spec(module.__spec__)
    module.__spec__.loader.exec_module(fresh)
    now = vars(module)
    return [
        (name, now[name], value)
        for name, value in vars(fresh).items()
        if isinstance(value, str | bool | Path | frozenset) and value != now[name]
    ]


def _replace(changes: list[tuple[str, Any, Any]]) -> None:
    """Sets constants wherever a module of the clients holds them, or a copy of them."""
    for key, module in list(sys.modules.items()):
        if key.split(".")[0] in ("huggingface_hub", "datasets", "transformers"):
            for name, old, new in changes:
                if name in vars(module) and vars(module)[name] == old:
                    setattr(module, name, new)


class _Server(ThreadingHTTPServer):
    request_queue_size = 128  # clients open many connections at once


class _Handler(BaseHTTPRequestHandler):
    """A connection. `_answer` and the two after it list what there is."""

    hub: HubServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # with it, or without a buffer, a push takes ten times as long
    wbufsize = 2**16

    def do_GET(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        address = urlsplit(self.path)
        self.query = dict(parse_qsl(address.query))
        with self.hub.lock:
            self.hub.requests.append((self.command, unquote(address.path)))
            fault = self._fault(unquote(address.path))
        action = fault and fault.action
        if callable(action):
            action()
        answer = Answer()
        try:
            if fault and isinstance(action, int):
                raise Refused(action, fault.message)
            if action != "drop":
                with self.hub.lock:  # a revision may hold a slash, as %2F
                    answer = self._answer(*map(unquote, address.path.split("/")[1:]))
        except Refused as refused:
            answer = refused.answer
        if action in ("drop", "drop answer"):
            self.close_connection = True
        else:
            self._send(answer)

    do_HEAD = do_POST = do_PUT = do_GET

    def _fault(self, path: str) -> Fault | None:
        for fault in self.hub.faults:
            if fault.method == self.command and re.search(fault.path, path):
                fault.skip -= 1
                if fault.skip < 0:
                    fault.times -= 1
                    if not fault.times:
                        self.hub.faults.remove(fault)
                    return fault
        return None

    def _send(self, answer: Answer) -> None:
        body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        self.send_response(answer.status)
        for name, value in {**answer.headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass

    def _answer(self, *path: str) -> Answer:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and token not in self.hub.tokens:
            raise Refused(401, "Invalid credentials in Authorization header")
        self.user, self.role = self.hub.tokens.get(token, ("", ""))
        match self.command, *path:
            case "GET", "api", "whoami-v2":
                auth = {"accessToken": {"displayName": "of a test", "role": self.role}}
                return Answer({"type": "user", "name": self._known(), "auth": auth, "orgs": []})
            case "GET", "api", "agent-harnesses":
                return Answer({"standardEnvVars": [], "harnesses": {}})
            case "POST", "api", "validate-yaml":
                return Answer({"errors": [], "warnings": []})
            case "POST", "api", "repos", "create":
                return self._create(**json.loads(self.body))
            case method, "storage", kind, user, name, sha256:
                return self._stored(method, self.hub.repos[f"{kind}/{user}/{name}"].lfs, sha256)
            case method, "api", "datasets" | "models" as kind, user, name, *rest:
                return self._api(self._repo(f"{kind}/{user}/{name}"), method, *rest)
            case method, "datasets", user, name, *rest:
                return self._web(self._repo(f"datasets/{user}/{name}"), method, *rest)
            case method, user, name, *rest:
                return self._web(self._repo(f"models/{user}/{name}"), method, *rest)
        raise self._unknown()

    def _api(self, repo: Repo, *request: str) -> Answer:
        match request:
            case ("GET",):
                return self._info(repo, "main")
            case "GET", "revision", revision:
                return self._info(repo, revision)
            case "GET", "refs":
                refs = [{"name": branch, "ref": f"refs/heads/{branch}"} for branch in repo.branches]
                branches = [ref | {"targetCommit": repo.branches[ref["name"]]} for ref in refs]
                return Answer({"branches": branches, "converts": [], "tags": []})
            case "GET", "commits", revision:
                return Answer([commit.shown for commit in repo.history(revision)])
            case "GET", "tree", revision, *path:
                return self._tree(repo, revision, "/".join(path))
            case "POST", "paths-info", revision:
                entries = repo.entries(revision)
                asked = parse_qs(self.body.decode())["paths"]
                return Answer([entries[path] for path in asked if path in entries])
            case "POST", "branch", branch:
                self._check_may_write(repo.owner)
                if branch in repo.branches:
                    raise Refused(409, "Reference already exists")
                start = json.loads(self.body).get("startingPoint", "main")
                repo.branches[branch] = repo.at(start).id
                return Answer()
            case "POST", "preupload", revision:
                self._check_may_write(repo.owner)
                return self._preupload(repo.at(revision).files)
            case "POST", "commit", revision if "create_pr" not in self.query:
                self._check_may_write(repo.owner)
                return self._commit(repo, revision)
        raise self._unknown()

    def _web(self, repo: Repo, *request: str) -> Answer:
        match request:
            case "GET" | "HEAD", "resolve", revision, *path:
                return self._resolve(repo, revision, "/".join(path))
            case "POST", "info", "lfs", "objects", "batch":
                self._check_may_write(repo.owner)
                return self._batch(repo)
            case "POST", "info", "lfs", "objects", "verify":
                self._check_may_write(repo.owner)
                if json.loads(self.body)["oid"] in repo.lfs:
                    return Answer()
                raise Refused(404, "Object does not exist")
        raise self._unknown()

    def _unknown(self) -> Refused:
        return Refused(501, f"tests/hub_server.py does not know {self.command} {self.path}")

    def _known(self, code: str = "") -> str:
        """The user."""
        if not self.user:
            raise Refused(401, "Invalid username or password.", code)
        return self.user

    def _check_may_write(self, owner: str, code: str = "RepoNotFound") -> None:
        if self._known(code) != owner or self.role != "write":
            raise Refused(403, f"You don't have the rights to write to repositories of {owner}")

    def _repo(self, key: str) -> Repo:
        repo = self.hub.repos.get(key.removesuffix(".git"))
        if repo is None or (repo.private and self.user != repo.owner):
            raise Refused(404 if self.user else 401, "Repository not found", "RepoNotFound")
        return repo

    def _create(self, name: str, type: str = "model", **asked: Any) -> Answer:
        owner = asked.get("organization") or self._known()
        self._check_may_write(owner, code="")
        repo, answer, status = self.hub.repos.get(f"{type}s/{owner}/{name}"), {}, 409
        if repo:
            answer["error"] = f"You already created this {type} repo"
        else:
            private = asked.get("visibility") == "private"
            repo, status = self.hub.create(f"{type}s", f"{owner}/{name}", private=private), 200
        return Answer(answer | {"url": f"{self.hub.url}/{repo.web_path}"}, status)

    def _info(self, repo: Repo, revision: str) -> Answer:
        at = repo.at(revision)
        info = {"id": repo.name, "author": repo.owner, "private": repo.private, "gated": False}
        files = [{"rfilename": path} for path in at.files]
        return Answer(info | {"sha": at.id, "lastModified": at.shown["date"], "siblings": files})

    def _tree(self, repo: Repo, revision: str, path: str) -> Answer:
        entries = repo.entries(revision, expand=self.query.get("expand") == "true")
        if path and entries.get(path, {}).get("type") != "directory":
            raise Refused(404, f"{path} does not exist", "EntryNotFound")
        start = f"{path}/" if path else ""
        found = [entry for where, entry in entries.items() if where.startswith(start)]
        if self.query.get("recursive") != "true":
            found = [entry for entry in found if "/" not in entry["path"][len(start) :]]
        return Answer(found)

    def _preupload(self, there: Mapping[str, Blob]) -> Answer:
        files = json.loads(self.body)["files"]
        for file in files:
            is_lfs = file["path"].endswith(LFS_SUFFIXES) or file["size"] > LARGEST_REGULAR
            is_lfs |= b"\0" in base64.b64decode(file.pop("sample"))
            file |= {"uploadMode": "lfs" if is_lfs else "regular", "shouldIgnore": False}
            if old := there.get(file["path"]):
                file["oid"] = old.sha256 if old.is_lfs else old.entry["oid"]
        return Answer({"files": files})

    def _batch(self, repo: Repo) -> Answer:
        objects = json.loads(self.body)["objects"]
        for file in objects:
            if file["oid"] not in repo.lfs:
                put = f"{self.hub.storage}/{repo.kind}/{repo.name}/{file['oid']}"
                verify = f"{self.hub.url}/{repo.web_path}.git/info/lfs/objects/verify"
                file["actions"] = {"upload": {"href": put}, "verify": {"href": verify}}
        return Answer({"transfer": "basic", "objects": objects})

    def _stored(self, method: str, lfs: dict[str, Blob], sha256: str) -> Answer:
        if self.user:
            raise Refused(400, "The storage was sent a token: its addresses are signed")
        if method != "PUT":
            return self._content(lfs[sha256].content, {"ETag": f'"{sha256}"'})
        blob = Blob(self.body, is_lfs=True)
        if blob.sha256 != sha256:
            raise Refused(400, "The content is not what was announced")
        lfs[sha256] = blob
        return Answer()

    def _commit(self, repo: Repo, branch: str) -> Answer:
        head = repo.at(branch)
        (_, header), *operations = (json.loads(line).values() for line in self.body.splitlines())
        if header.get("parentCommit", head.id) != head.id:
            raise Refused(412, "A commit has happened since. Please refresh and try again.")
        changes: dict[str, bytes | Blob | None] = {}
        for key, value in operations:
            path = value["path"]
            gone = [file for file in head.files if f"{file}/".startswith(f"{path.rstrip('/')}/")]
            match key:
                case "file":
                    changes[path] = base64.b64decode(value["content"])
                case "lfsFile" if value["oid"] in repo.lfs:
                    changes[path] = repo.lfs[value["oid"]]
                case "lfsFile":
                    raise Refused(400, "LFS pointer pointed to a file that does not exist")
                case "deletedFolder" if gone:
                    changes |= dict.fromkeys(gone)
                case "deletedFile" if path in head.files:
                    changes[path] = None
                case "deletedFile" | "deletedFolder":
                    raise Refused(404, "A file with this name doesn't exist", "EntryNotFound")
                case _:
                    raise self._unknown()
        made = repo.commit(changes, header["summary"], header["description"], branch, self.user)
        url = f"{self.hub.url}/{repo.web_path}/commit/{made.id}"
        return Answer({"success": True, "commitOid": made.id, "commitUrl": url})

    def _resolve(self, repo: Repo, revision: str, path: str) -> Answer:
        at = repo.at(revision)
        headers, blob = {"X-Repo-Commit": at.id}, at.files.get(path)
        if blob is None:
            raise Refused(404, "Entry not found", "EntryNotFound", **headers)
        if not blob.is_lfs:
            return self._content(blob.content, headers | {"ETag": f'"{blob.entry["oid"]}"'})
        headers["X-Linked-Etag"] = f'"{blob.sha256}"'
        headers["X-Linked-Size"] = str(len(blob.content))
        headers["Location"] = f"{self.hub.storage}/{repo.kind}/{repo.name}/{blob.sha256}"
        return Answer(b"", 302, headers)

    def _content(self, content: bytes, headers: dict[str, str]) -> Answer:
        """All of a file, or the range that was asked for."""
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not asked:
            return Answer(content, 200, headers)
        first, last = int(asked[1]), min(int(asked[2] or len(content)), len(content) - 1)
        if first > last:
            raise Refused(416, "Range not satisfiable")
        headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        return Answer(content[first : last + 1], 206, headers)
