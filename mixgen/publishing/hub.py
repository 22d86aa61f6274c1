"""Pushes a folder to a repository of the Hub: all of it in one commit, or nothing that is visible.

`huggingface_hub` (2.4) retries uploads of large files, but not commits: a push that meets a busy
server, another commit at the same time or a lost connection raises. So a push is tried again as a
whole, with backoff: what has been uploaded is not sent again, and if the commit was done and only
its answer lost, the next try finds nothing to do. The card is merged with the one that is there, at
the commit that the push follows; a card that somebody edits meanwhile is merged again. What arrived
is compared with what was sent.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
import time
from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from mixgen.cards import CARD_FILE, NAME, is_ours, merged_card, naming, own_words, read_card
from mixgen.errors import MixgenError, OutputError
from mixgen.publishing.hub_errors import NotWholeError, asked_delay, is_transient, reason_of

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.hf_api import RepoFile

Result = TypeVar("Result")

TRIES: Final = 6
FIRST_DELAY: Final = 2.0  # seconds, doubled after each try: a minute in all
LONGEST_DELAY: Final = 300.0  # seconds, that the Hub may ask for: it counts requests over as many
MAX_FILES: Final = 25_000  # in one commit, by the Hub's limits
OTHER_TYPE: Final = {"dataset": "model", "model": "dataset"}


class PushResult(NamedTuple):
    """What a push came to."""

    url: str
    commit: str
    is_new: bool  # False if the repository held all of it already


def push_folder(
    folder: Path,
    files: Sequence[str],
    name: str,
    *,
    repo_type: str,
    message: str,
    token: str | None = None,
    private: bool | None = None,
    revision: str | None = None,
    delete_patterns: Sequence[str] = (),
    say: Callable[[str], None] = lambda _: None,
) -> PushResult:
    """Pushes files of a folder, and its card merged with the one that is there.

    Args:
        folder: Where they are, with a card.
        files: Their paths in it, without the card.
        name: The repository, `user/name`, or `name` for one of the token's own user.
        repo_type: `"dataset"` or `"model"`.
        message: Of the commit.
        token: A token that may write; by default the one that is logged in.
        private: Whether a repository that is created is private.
        revision: The branch, made if it is missing; by default the main one.
        delete_patterns: Patterns of files that are deleted there if the push does not bring them.
        say: Is told of each try that failed.

    Raises:
        OutputError: It cannot be pushed, or did not arrive whole; no token is in the message.
    """
    repository = _Repository(
        name=name, repo_type=repo_type, token=token, private=private, revision=revision
    )
    if len(files) >= MAX_FILES:
        raise OutputError(
            f"{folder} has {len(files):,} files, and a commit takes {MAX_FILES:,}: larger shards "
            "are fewer"
        )
    content = _Content(folder, files)

    def push() -> PushResult:
        url, head = repository.prepared()
        return _pushed(
            repository,
            url,
            head,
            content,
            message=message,
            delete_patterns=delete_patterns,
            say=say,
        )

    return _with_retries(push, f"{folder} cannot be pushed to {name}", repository, say)


def prepare_repository(
    name: str,
    *,
    repo_type: str,
    token: str | None = None,
    private: bool | None = None,
    revision: str | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """Makes a repository that is to be pushed to later, and finds out whether it may be.

    Args:
        name: The repository.
        repo_type: `"dataset"` or `"model"`.
        token: A token that may write; by default the one that is logged in.
        private: Whether a repository that is created is private.
        revision: The branch, made if it is missing.
        say: Is told of each try that failed.

    Raises:
        OutputError: It may not be pushed to.
    """
    repository = _Repository(
        name=name, repo_type=repo_type, token=token, private=private, revision=revision
    )
    _with_retries(repository.prepared, f"nothing can be pushed to {name}", repository, say)


def _with_retries(
    act: Callable[[], Result], failure: str, repository: _Repository, say: Callable[[str], None]
) -> Result:
    """Does what may fail for a while, again and again with backoff; its error is one clear line."""
    delay = FIRST_DELAY
    for number in itertools.count(1):
        try:
            return act()
        except MixgenError:
            raise
        except Exception as error:  # the client raises what its libraries do
            why = reason_of(error, repository.name, repository.token)
            may_pass = is_transient(error)
            if not may_pass or number == TRIES:
                later = ": the same command goes on, and sends only what is missing"
                # The cause may hold the token.
                raise OutputError(f"{failure} ({why}){later if may_pass else ''}") from None
            pause = max(delay, min(asked_delay(error), LONGEST_DELAY))
            say(f"{why}: trying again in {pause:.0f} s ({number} of {TRIES} tries failed)")
            time.sleep(pause)
            delay *= 2
    raise AssertionError


def push_summary(pushed: PushResult) -> str:
    """What to tell of a push."""
    what = "Pushed" if pushed.is_new else "Nothing new to push: all of it is there"
    return f"{what}, as of commit {pushed.commit[:8]}: {pushed.url}"


class _Content:
    """What is to be pushed; files are hashed once, and what has been uploaded is known."""

    def __init__(self, folder: Path, files: Sequence[str]) -> None:
        self.folder = folder
        self.files = files
        self._additions: list[CommitOperationAdd] | None = None

    def additions(self) -> list[CommitOperationAdd]:
        from huggingface_hub import CommitOperationAdd

        if self._additions is None:
            self._additions = [CommitOperationAdd(file, self.folder / file) for file in self.files]
        return self._additions

    def card(self, name: str) -> str:
        path = self.folder / CARD_FILE
        card = read_card(path).replace(NAME, name)
        with naming(path):
            own_words(card)
            if not is_ours(card):
                raise OutputError("the card lacks mixgen's part: what made it writes it again")
        return card

    def forget(self) -> None:
        """Hashes and uploads again."""
        self._additions = None


@dataclasses.dataclass(kw_only=True)
class _Repository:
    """A repository of the Hub, at a branch."""

    name: str
    repo_type: str
    token: str | None
    private: bool | None
    revision: str | None

    def __post_init__(self) -> None:
        """Rejects names that no repository or branch can have."""
        from huggingface_hub.errors import HFValidationError
        from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

        tail = re.sub(r"^(https?://[^/]+/)?(datasets/|models/)?", "", self.name.strip("/ "))
        try:
            validate_repo_id(self.name)
        except HFValidationError as error:
            hint = f": did you mean {tail}?" if tail.count("/") == 1 else ""
            raise OutputError(
                f"a repository's name is user/name, of letters, digits, -, _ and ., got "
                f"{self.name!r}{hint}"
            ) from error
        if self.revision == "":
            raise OutputError("the revision is empty: leave it out for the main branch")

    @cached_property
    def api(self) -> HfApi:
        from huggingface_hub import HfApi

        return HfApi(token=self.token)

    def prepared(self) -> tuple[str, str]:
        """Its address and its newest commit; what is missing is made."""
        api, kind, other = self.api, self.repo_type, OTHER_TYPE[self.repo_type]
        if "/" not in self.name:
            self.name = f"{api.whoami()['name']}/{self.name}"
        name = self.name
        if not api.repo_exists(name, repo_type=kind) and api.repo_exists(name, repo_type=other):
            raise OutputError(
                f"{name} is the name of a {other} repository: give another name, or make a {kind} "
                "repository of this name on the Hub first"
            )
        url = str(api.create_repo(name, private=self.private, exist_ok=True, repo_type=kind))
        # `create_repo` is content with a repository that is there, whoever may write to it.
        api.auth_check(name, repo_type=kind, write=True)
        if self.revision:
            api.create_branch(name, branch=self.revision, exist_ok=True, repo_type=kind)
            url = f"{url}/tree/{self.revision}"
        info = api.repo_info(name, revision=self.revision, repo_type=kind)
        if self.private and not info.private:
            raise OutputError(
                f"{name} is there already, and public: make it private on the Hub, or give "
                "another name"
            )
        return url, str(info.sha)

    def files(self, commit: str) -> dict[str, RepoFile]:
        from huggingface_hub.hf_api import RepoFile

        entries = self.api.list_repo_tree(
            self.name, recursive=True, repo_type=self.repo_type, revision=commit
        )
        return {entry.path: entry for entry in entries if isinstance(entry, RepoFile)}

    def card(self, commit: str) -> str:
        path = self.api.hf_hub_download(
            self.name, CARD_FILE, repo_type=self.repo_type, revision=commit
        )
        with naming(f"{self.name} on the Hub"):
            return read_card(Path(path))


def _pushed(
    repository: _Repository,
    url: str,
    head: str,
    content: _Content,
    *,
    message: str,
    delete_patterns: Sequence[str],
    say: Callable[[str], None],
) -> PushResult:
    """Makes a repository what a folder is, in one commit on top of its newest."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    there = repository.files(head)
    existing = repository.card(head) if CARD_FILE in there else ""
    local = content.card(repository.name)
    with naming(f"{CARD_FILE} of {repository.name} on the Hub"):
        card = merged_card(existing, local)
        if existing and own_words(local) not in own_words(existing):
            say(
                f"The words that stand outside of the marks in {content.folder / CARD_FILE} are "
                "not pushed: the card on the Hub has its own, to be edited there."
            )
    additions = [*content.additions(), CommitOperationAdd(CARD_FILE, card.encode())]
    changed = [one for one in additions if not _is_same(one, there.get(one.path_in_repo))]
    kept = {one.path_in_repo for one in additions}
    stale = [
        file
        for file in there
        if file not in kept and any(fnmatch(file, pattern) for pattern in delete_patterns)
    ]
    if not changed and not stale:
        return PushResult(url, head, is_new=False)
    done = repository.api.create_commit(
        repository.name,
        [*changed, *(CommitOperationDelete(file) for file in stale)],
        commit_message=message,
        repo_type=repository.repo_type,
        revision=repository.revision,
        parent_commit=head,
    )
    there = repository.files(done.oid)
    for one in additions:
        if not _is_same(one, there.get(one.path_in_repo)):
            content.forget()
            raise NotWholeError(f"{one.path_in_repo} did not arrive as it was sent")
    return PushResult(url, done.oid, is_new=True)


def _is_same(local: CommitOperationAdd, there: RepoFile | None) -> bool:
    """Whether a file of the repository is the one to be sent."""
    from huggingface_hub.utils.sha import git_hash

    if there is None or there.size != local.upload_info.size:
        return False
    if there.lfs:
        return bool(there.lfs.sha256 == local.upload_info.sha256.hex())
    with local.as_file() as file:
        return bool(there.blob_id == git_hash(file.read()))
