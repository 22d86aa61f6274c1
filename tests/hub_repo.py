"""What the Hub of the tests keeps: repositories, their commits and files."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any, NamedTuple


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
