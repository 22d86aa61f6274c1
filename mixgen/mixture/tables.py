"""Examples as Arrow tables: what `datasets` iterates over, and exports write.

`datasets` (5.2) encodes dictionaries one by one, does not encode a list of structs whose first
element needs no encoding (the user's message, which calls nothing), and guesses the type of each
example where it makes tables of them, so that tasks with other facts have no place in one table.
Tables with a schema have none of that, and are made column by column in a tenth of the time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from itertools import accumulate, chain
from typing import TYPE_CHECKING, Any

import orjson
import pyarrow as pa

from mixgen.errors import TaskError, one_line
from mixgen.tasks.base import Example

if TYPE_CHECKING:
    from datasets import Features


def features() -> Features:
    """The schema of every example (see `Example`); `Json` keeps tasks' tool arguments apart."""
    from datasets import Features, Json, List, Value

    text = Value("string")
    message = {"role": text, "content": text, "tool_calls": List(Json()), "name": text}
    return Features(
        {
            "id": text,
            "task": text,
            "split": text,
            "difficulty": Value("int64"),
            "key": text,
            "messages": List(message),
            "tools": List(Json()),
            "answer": text,
            "metadata": Json(),
        }
    )


def table_of(examples: Sequence[Example]) -> pa.Table:
    """Examples as a table with the schema of `features`.

    Raises:
        TaskError: An example has no place in it, such as facts that are no JSON; the error names
            it.
    """
    try:
        return _table_of(examples)
    except (TypeError, ValueError, OverflowError) as error:
        if len(examples) == 1:
            raise TaskError(
                f"task {examples[0]['task']!r}: example {examples[0]['id']} cannot be stored "
                f"({one_line(error)[:300]})"
            ) from error
        for example in examples:
            table_of([example])
        raise


def _table_of(examples: Sequence[Example]) -> pa.Table:
    text = pa.string()
    messages = list(chain.from_iterable(example["messages"] for example in examples))
    parts = {
        "role": pa.array([message["role"] for message in messages], text),
        "content": pa.array([message["content"] for message in messages], text),
        "tool_calls": _json_lists([message["tool_calls"] for message in messages], _json_text),
        "name": pa.array([message["name"] for message in messages], text),
    }
    known: dict[int, str] = {}  # by identity: examples share their task's tools

    def tool_text(tool: Any) -> str:
        return known.get(id(tool)) or known.setdefault(id(tool), _json_text(tool))

    columns: dict[str, pa.Array] = {
        "messages": pa.ListArray.from_arrays(
            _offsets([example["messages"] for example in examples]),
            pa.StructArray.from_arrays(list(parts.values()), list(parts)),
        ),
        "tools": _json_lists([example["tools"] for example in examples], tool_text),
        "metadata": _json_array([_json_text(example["metadata"]) for example in examples]),
    }
    for field in schema():
        if field.name not in columns:
            values = [example[field.name] for example in examples]  # type: ignore[literal-required]
            columns[field.name] = pa.array(values, field.type)
    return pa.Table.from_arrays([columns[name] for name in schema().names], schema=schema())


@cache
def schema() -> pa.Schema:
    """`features` as Arrow's schema."""
    return features().arrow_schema


def _json_text(value: Any) -> str:
    return orjson.dumps(value).decode()


def _json_array(texts: Sequence[str]) -> pa.Array:
    return pa.ExtensionArray.from_storage(pa.json_(), pa.array(texts, pa.string()))


def _json_lists(lists: Sequence[Sequence[Any]], text_of: Callable[[Any], str]) -> pa.Array:
    texts = [text_of(value) for values in lists for value in values]
    return pa.ListArray.from_arrays(_offsets(lists), _json_array(texts))


def _offsets(lists: Sequence[Sequence[Any]]) -> pa.Array:
    """Where each list begins in all of them joined, and where the last one ends."""
    return pa.array(accumulate(map(len, lists), initial=0), pa.int32())
