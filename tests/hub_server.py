"""A Hub of Hugging Face on the loopback, for tests: what its real clients call, kept in memory.

It answers `huggingface_hub`, `datasets` and `transformers` as the Hub does: commits on branches, an
LFS that asks for what is missing, tokens, private repositories, a storage on another host. Faults
happen on order. What it does not know it answers with 501.

    with HubServer() as hub, hub.connected(tmp_path, token=WRITE):
        hub.faults.append(Fault("POST", "/commit/", 503))
        ...
    assert hub.count("PUT", "/storage/") == 1
"""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, parse_qsl, unquote, urlsplit

from hub_clients import connected_to
from hub_repo import Answer, Blob, Refused, Repo

WRITE, READ, OTHER = "hf_of_anna", "hf_of_anna_to_read", "hf_of_bela"
TOKENS = {WRITE: ("anna", "write"), READ: ("anna", "read"), OTHER: ("bela", "write")}
LFS_SUFFIXES = (".arrow", ".bin", ".gz", ".npy", ".parquet", ".png", ".pt", ".safetensors", ".zip")
LARGEST_REGULAR = 10 * 2**20  # bytes


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
    headers: Mapping[str, str] = field(default_factory=dict)


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
        with connected_to(self.url, self.environment(home, token), home):
            yield


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
                raise Refused(action, fault.message, **fault.headers)
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
            case "GET", "auth-check", "write":
                self._check_may_write(repo.owner)
                return Answer()
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
