"""`hub:<dataset>[:<config>]`: a dataset of the Hub or of this machine as a task.

    weights:
      calculator: 1.0
      hub:user/stories: 0.5
      hub:data/talks.jsonl: 0.2
    hub:user/stories:
      max_chars: 600

Three kinds, told by their columns: conversations (`messages`), questions with answers (`prompt` and
`completion`), and plain `text`, all of which the assistant says. A long text is cut, at spaces,
into pieces of `max_chars`, each an example. The hash of a row decides its split, so that no row
(and no copy of it) is in two.
"""

from __future__ import annotations

import dataclasses
import json
import re
from array import array
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, ClassVar, Final

from mixgen.errors import TaskError, nearest, one_line
from mixgen.tasks._finite import FiniteTask
from mixgen.tasks._hub_rows import conversation, cut_text
from mixgen.tasks.base import (
    SPLITS,
    Example,
    Message,
    Score,
    Task,
    assistant,
    judge,
    split_of,
    user,
)
from mixgen.tasks.trial import Answer, Result

PREFIX: Final = "hub"
FILES: Final = {
    ".jsonl": "json",
    ".json": "json",
    ".parquet": "parquet",
    ".csv": "csv",
    ".txt": "text",
}
CONVERSATION, PAIR, TEXT = "messages", "prompt", "text"
PIECE_CHARS: Final = 400  # of a text, by default
TEXT_NOTE: Final = "plain text has no answer that could be right, its loss tells."


class HubTask(FiniteTask):
    """Rows of a dataset."""

    source: ClassVar[str]
    subset: ClassVar[str]
    split_rule: ClassVar = "the hash of a row's text decides its split."

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config:
        """Which rows there are."""

        split: str = dataclasses.field(
            default="train",
            metadata={
                "help": "The dataset's split; mixgen holds out 2 % of it for each of its own."
            },
        )
        revision: str = dataclasses.field(
            default="", metadata={"help": "The dataset's revision; its newest by default."}
        )
        column: str = dataclasses.field(
            default="", metadata={"help": "The column of plain text, if it is not called text."}
        )
        prompt: str = dataclasses.field(
            default="", metadata={"help": "The column of questions, if it is not called prompt."}
        )
        completion: str = dataclasses.field(
            default="", metadata={"help": "The column of answers, if it is not called completion."}
        )
        max_chars: int = dataclasses.field(
            default=0,
            metadata={
                "help": "Characters of a piece of text (0: 400), or of the longest conversation "
                "(0: any), beyond which rows are left out."
            },
        )

        def __post_init__(self) -> None:
            """Rejects lengths that nothing has."""
            if self.max_chars < 0:
                raise TaskError(f"max_chars must not be negative, got {self.max_chars}")

    def __init__(self, config: Any = None) -> None:
        """Loads the dataset and finds the split of each row."""
        super().__init__(config)
        self._rows = self._loaded()
        columns = set(self._rows.column_names)
        self._column = self.config.column or TEXT
        self._pair = self.config.prompt or PAIR, self.config.completion or "completion"
        self._kind = self._kind_of(columns)
        # Of each example: its row, and the piece of it.
        self._index = {split: (array("q"), array("q")) for split in SPLITS}
        self.num_left_out = 0
        for number, row in enumerate(self._rows):
            split = split_of(PREFIX, _hash(self._content(row)))  # whichever dataset it is in
            rows, pieces = self._index[split]
            found = self._pieces(number, row)
            self.num_left_out += not found
            rows.extend([number] * len(found))
            pieces.extend(found)
        if not self.num_examples("train"):
            raise TaskError(f"{self.name} has no row to train on ({len(self._rows):,} rows)")

    def __reduce__(self) -> tuple[Any, ...]:
        """Is loaded again in another process."""
        return _restored, (self.name, dataclasses.asdict(self.config), self.pace)

    def num_examples(self, split: str) -> int:
        """See `FiniteTask.num_examples`."""
        return len(self._index[split][0])

    def example_at(self, split: str, number: int) -> Example:
        """See `FiniteTask.example_at`."""
        rows, pieces = self._index[split]
        row, piece = self._rows[rows[number]], pieces[number]
        key = _hash(self._content(row))
        if self._kind == TEXT:
            text = cut_text(row[self._column], self._piece_chars, piece)
            messages, key = [assistant(text)], f"{key}-{piece}"
        else:
            messages = self._messages(rows[number], row)
        return self.example(
            key=key,
            messages=messages,
            answer=messages[-1]["content"],
            metadata={"row": rows[number]},
            split=split,
        )

    def score(self, example: Example, reply: Sequence[Message]) -> Score:
        """1 if a reply is the row's, word for word."""
        return judge(_first_fault, example, reply)

    def evaluate(self, answer: Answer, *, split: str = "test", num_examples: int = 1000) -> Result:
        """See `Task.evaluate`; nothing is asked where rows are plain text."""
        if self._kind == TEXT:
            return Result(task=self.name, split=split, metrics=[], trials=[], note=TEXT_NOTE)
        return super().evaluate(answer, split=split, num_examples=num_examples)

    @property
    def _piece_chars(self) -> int:
        return self.config.max_chars or PIECE_CHARS

    def _loaded(self) -> Any:
        from datasets import load_dataset

        path = Path(self.source)
        given: dict[str, Any] = {"path": self.source, "name": self.subset or None}
        if path.is_file():
            if path.suffix not in FILES:
                raise TaskError(
                    f"{self.name}: cannot read {path.suffix!r} files: {nearest(path.suffix, FILES)}"
                )
            given = {"path": FILES[path.suffix], "data_files": self.source}
        elif not path.is_dir() and (
            path.suffix in FILES or path.is_absolute() or self.source.startswith(".")
        ):
            raise TaskError(f"{self.name}: there is no file or directory {self.source}")
        try:
            return load_dataset(
                **given, split=self.config.split, revision=self.config.revision or None
            )
        except Exception as error:  # the library raises what its readers and clients do
            cause = error.__cause__ or error  # `datasets` tells the reason apart
            raise TaskError(f"{self.name} cannot be loaded: {one_line(cause)[:300]}") from error

    def _kind_of(self, columns: set[str]) -> str:
        config = self.config
        is_pair = bool(config.prompt or config.completion)
        for column in (config.column, *(self._pair if is_pair else ())):
            if column and column not in columns:
                near = nearest(column, columns)
                raise TaskError(f"{self.name}: no column {column!r}: {near}")
        if config.column and is_pair:
            raise TaskError(f"{self.name}: give column, or prompt and completion, not both")
        if config.column:
            return TEXT
        if is_pair:
            return PAIR
        if CONVERSATION in columns:
            return CONVERSATION
        if columns.issuperset(self._pair):
            return PAIR
        if TEXT in columns:
            return TEXT
        raise TaskError(
            f"{self.name} has no column messages, prompt and completion, or text: name them by "
            f"prompt and completion, or by column, of {', '.join(sorted(columns))}"
        )

    def _content(self, row: Mapping[str, Any]) -> str:
        """What the split of a row follows from."""
        if self._kind == TEXT:
            return str(row[self._column])
        keys = [CONVERSATION] if self._kind == CONVERSATION else self._pair
        return json.dumps([row[key] for key in keys], sort_keys=True, default=str)

    def _pieces(self, number: int, row: Mapping[str, Any]) -> list[int]:
        """The pieces of a row that are examples."""
        if self._kind == TEXT:
            text = row[self._column]
            if not isinstance(text, str):
                raise TaskError(
                    f"{self.name}: row {number} of {self._column} is no text: {text!r:.80}"
                )
            size = self._piece_chars
            return [at for at in range(-(-len(text) // size)) if cut_text(text, size, at).strip()]
        messages = self._messages(number, row)
        length = sum(len(message["content"]) for message in messages)
        is_short = not self.config.max_chars or length <= self.config.max_chars
        return [0] if is_short and messages[-1]["content"].strip() else []

    def _messages(self, number: int, row: Mapping[str, Any]) -> list[Message]:
        try:
            if self._kind == CONVERSATION:
                return conversation(row[CONVERSATION])
            parts = [row[column] for column in self._pair]
            if all(isinstance(part, str) for part in parts):
                return [user(parts[0]), assistant(parts[1])]
            return conversation([*parts[0], *parts[1]])
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise TaskError(
                f"{self.name}: row {number} is no conversation: {one_line(error)[:200]}"
            ) from error


def _first_fault(example: Example, reply: Sequence[Message]) -> str:
    return "" if list(reply) == example["messages"] else "not the row's words"


def _hash(content: str) -> str:
    return blake2b(content.encode(errors="surrogatepass"), digest_size=16).hexdigest()


def _restored(name: str, settings: dict[str, Any], pace: float | None) -> Task:
    from mixgen.tasks.registry import task_class

    cls: Any = task_class(name)
    made: HubTask = cls(cls.Config(**settings))
    made.pace = pace
    return made


def make(rest: str) -> type[Task]:
    """The task of a dataset: `user/name`, `user/name:config`, a file or a directory.

    Raises:
        TaskError: The name is empty.
    """
    source, _, subset = rest.partition(":")
    if not source:
        raise TaskError(f"{PREFIX}: names no dataset, as {PREFIX}:user/name does")
    name = f"{PREFIX}:{rest}"
    namespace = {
        "__doc__": f"Rows of {source}{f', config {subset}' if subset else ''}.",
        "__module__": __name__,
        "name": name,
        "flag": re.sub(r"\W", "_", name),
        "source": source,
        "subset": subset,
    }
    return type("HubTask", (HubTask,), namespace)
