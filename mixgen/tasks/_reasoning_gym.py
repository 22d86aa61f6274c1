"""The generators of reasoning-gym (https://github.com/open-thought/reasoning-gym) as tasks.

`reasoning_gym:chain_sum` is its generator `chain_sum`: one question, one answer, no tools. An
example is a pure function of 64 bits that are drawn from the stream and kept in its metadata, from
which the library's entry is made again where a reply is scored. What the library cannot do so is in
`_reasoning_gym_rules`, with the reasons.
"""

from __future__ import annotations

import copy
import dataclasses
import decimal
import random
import sys
from collections.abc import Sequence
from types import UnionType
from typing import Any, ClassVar, Final, Literal, Union, get_args, get_origin, get_type_hints

import orjson

from mixgen.errors import TaskError, nearest, one_line
from mixgen.tasks._reasoning_gym_rules import EXACT, OWN_RULES, REBUILT, REFUSED
from mixgen.tasks.base import Example, Message, Score, Task, assistant, judge, user

PREFIX: Final = "reasoning_gym"
MAX_TRIES: Final = 1000  # entries in a row that cannot be used before the settings are given up
MAX_FACT_BYTES: Final = 500  # of one of an entry's facts, as JSON
MAX_REPLY_CHARS: Final = 10_000  # of a reply that the library is asked about
HIDDEN: Final = {"seed", "size", "weight"}
PLAIN: Final = (int, float, bool, str)
OPTIONAL: Final = (Union, UnionType)


class GeneratedTask(Task):
    """A generator of reasoning-gym; `make` makes a class of each."""

    generator: ClassVar[str]
    split_rule = "the hash of the question's text decides its split."

    def __init__(self, config: Any = None) -> None:
        """Makes the task with its settings, the defaults if none are given."""
        super().__init__(config)
        self._settings = dataclasses.asdict(self.config)
        self._dataset = _dataset(self.generator, self._settings, seed=0)

    def __reduce__(self) -> Any:
        """Another process makes the class by its name."""
        return _restore, (self.name, self._settings)

    def sample(self, rng: random.Random) -> Example:
        """See `Task.sample`. Entries without an answer are passed over."""
        fault = ""
        for _ in range(MAX_TRIES):
            seed = rng.getrandbits(64)
            try:
                entry = self._entry(seed)
            except Exception as error:  # somebody else's code, with the user's settings
                fault = one_line(error)
                continue
            question, answer = entry["question"], entry["answer"]
            if isinstance(question, str) and isinstance(answer, str) and answer.strip():
                return self.example(
                    key=_key(question),
                    messages=[user(question), assistant(answer.strip())],
                    answer=answer.strip(),
                    difficulty=_difficulty(entry["metadata"]),
                    metadata={"seed": str(seed), **_facts(entry["metadata"])},
                )
            fault = f"its answer is {answer!r}"
        raise TaskError(f"{self.name}: {MAX_TRIES:,} entries in a row are of no use ({fault})")

    def score(self, example: Example, reply: Sequence[Message]) -> Score:
        """1 if the last words are the answer, or another one that the library gives 1 for."""
        score = judge(_fault_of_form, example, reply)
        if not score.value:
            return score
        text = reply[-1]["content"].strip()
        if text == example["answer"]:
            return score
        wrong = f"not {example['answer']!r:.200}"
        if self.generator in EXACT:
            return Score(value=0.0, reason=wrong)
        if len(text) > max(MAX_REPLY_CHARS, 2 * len(example["answer"])):
            return Score(value=0.0, reason=f"{wrong}, and too long")
        entry = self._entry(int(example["metadata"]["seed"]))
        if _key(entry["question"]) != example["key"]:
            raise TaskError(
                f"{self.name}: example {example['id']} was made with other settings, or by another "
                "version of reasoning-gym"
            )
        try:
            number = self._value(text, entry)
        except Exception as error:  # somebody else's code, on a model's words
            return Score(value=0.0, reason=f"{wrong}: {one_line(error)[:200]}")
        right = number >= 1
        return Score(value=float(right), reason="" if right else f"{wrong} (score {number:.3g})")

    def _value(self, text: str, entry: dict[str, Any]) -> float:
        if rule := OWN_RULES.get(self.generator):
            return float(rule(text, entry["metadata"]))
        with decimal.localcontext(decimal.Context()):
            return float(self._dataset.score_answer(text, entry))

    def _entry(self, seed: int) -> dict[str, Any]:
        """The library's entry of a seed, whatever was made before and by whichever thread."""
        if self.generator in REBUILT:
            dataset = _dataset(self.generator, self._settings, seed)
        else:
            dataset = copy.copy(self._dataset)
            dataset.config = copy.copy(dataset.config)
            dataset.seed = dataset.config.seed = seed
        with decimal.localcontext(decimal.Context()):  # decimal_arithmetic sets the precision
            entry: dict[str, Any] = dataset[0]
        return entry


def make(generator: str) -> type[Task]:
    """The task of a generator.

    Raises:
        TaskError: reasoning-gym is not installed, has no such generator, or this one is refused.
    """
    name = f"{PREFIX}:{generator}"
    known = _known()
    if generator in REFUSED:
        raise TaskError(f"{name} cannot be a task: {REFUSED[generator]}")
    if generator not in known:
        raise TaskError(f"unknown generator {generator!r} of reasoning_gym: {near(generator)}")
    title = "".join(part.title() for part in generator.split("_"))
    namespace = {
        "__doc__": f"reasoning-gym's {generator}.",
        "__module__": __name__,
        "name": name,
        "flag": f"{PREFIX}_{generator}",
        "generator": generator,
        "Config": _config(name, known[generator][1]),
    }
    return type(title, (GeneratedTask,), namespace)


def named_by(flag: str) -> str | None:
    """The generator whose flag begins so, such as `chain_sum_weight` without its prefix.

    Raises:
        TaskError: There is none; the error names the nearest.
    """
    found = [name for name in _known() if flag.startswith(f"{name}_")]
    if not found:
        wanted = flag.removesuffix("_weight")
        raise TaskError(f"unknown flag --{PREFIX}_{flag}: {near(wanted)}")
    return max(found, key=len)


def generators() -> list[str]:
    """All generators of the library, those that are refused too."""
    return sorted(_known())


def near(generator: str) -> str:
    """The nearest generator's name, in words."""
    words = nearest(generator, _known())
    return words if words.startswith("did") else "docs/reasoning-gym.md lists them"


def _known() -> dict[str, tuple[Any, Any]]:
    """The library's classes of datasets and of their settings, by generator."""
    try:
        import reasoning_gym
        from reasoning_gym.factory import DATASETS
    except ImportError as error:
        raise TaskError(
            f"tasks of {PREFIX} need reasoning-gym ({one_line(error)}): "
            'pip install -e ".[reasoning-gym]"'
        ) from error
    if not hasattr(reasoning_gym, "print"):
        _silence()
    return dict(DATASETS)


def _silence() -> None:
    """Lets the library's modules print nothing: they tell of progress, and of models' replies."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == PREFIX:
            module.__dict__["print"] = lambda *_, **__: None


def _config(name: str, library_config: Any) -> type:
    """A dataclass of those of a generator's settings that can be flags."""
    default = library_config()
    hints = get_type_hints(library_config)
    fields: list[Any] = []
    for field in dataclasses.fields(library_config):
        value = getattr(default, field.name)
        kind = _kind(hints[field.name], value)
        if field.name in HIDDEN or kind is None:
            continue
        made: Any = (
            dataclasses.field(default_factory=value.copy)
            if isinstance(value, list)
            else dataclasses.field(default=value)
        )
        fields.append((field.name, kind, made))

    def check(self: Any) -> None:
        """Rejects settings that the library rejects."""
        given = dataclasses.asdict(self)
        try:
            _checked(library_config, given, seed=0)
        except Exception as error:  # asserts and the like
            shown = {key: value for key, value in given.items() if key in str(error)}
            told = ", ".join(f"{key}={value!r}" for key, value in (shown or given).items())
            raise TaskError(f"{name}: {one_line(error)} (given: {told})") from error

    return dataclasses.make_dataclass(
        "Config",
        fields,
        namespace={
            "__doc__": f"Settings of {name}.",
            "__module__": __name__,
            "__qualname__": f"{name}.Config",
            "__post_init__": check,
            "__reduce__": lambda self: (_restore_config, (name, dataclasses.asdict(self))),
        },
        frozen=True,
        kw_only=True,
    )


def _kind(hint: Any, value: Any) -> Any:
    """The type of a setting's flag; none if it can be none."""
    parts = [part for part in get_args(hint) if part is not type(None)]
    if get_origin(hint) in OPTIONAL and len(parts) == 1 and get_origin(parts[0]) is list:
        if value is None:
            return None
        hint, parts = parts[0], list(get_args(parts[0]))
    if hint in PLAIN or get_origin(hint) is Literal:
        return hint
    simple = get_origin(hint) in (list, *OPTIONAL) and len(parts) == 1 and parts[0] in PLAIN
    return hint if simple else None


def _checked(library_config: Any, settings: dict[str, Any], seed: int) -> Any:
    """The library's settings; 5 is the smallest size in which acre has all its kinds."""
    config = library_config(**copy.deepcopy(settings), seed=seed, size=5)
    if hasattr(config, "validate"):
        config.validate()
    return config


def _dataset(generator: str, settings: dict[str, Any], seed: int) -> Any:
    dataset_class, library_config = _known()[generator]
    return dataset_class(_checked(library_config, settings, seed))


def _restore(name: str, settings: dict[str, Any]) -> Task:
    from mixgen.tasks.registry import task_class

    cls = task_class(name)
    return cls(cls.Config(**settings))


def _restore_config(name: str, settings: dict[str, Any]) -> Any:
    from mixgen.tasks.registry import task_class

    return task_class(name).Config(**settings)


def _key(question: str) -> str:
    return " ".join(question.split())


def _difficulty(facts: dict[str, Any]) -> int:
    """A generator's own number, where it has one."""
    given = facts.get("difficulty")
    if isinstance(given, dict):
        given = given.get("difficulty")
    return given if type(given) is int else 0


def _facts(facts: dict[str, Any]) -> dict[str, Any]:
    """Those of an entry's facts that are JSON and not large."""
    kept = {}
    for key, value in facts.items():
        if key.startswith("source_") or key in ("seed", "difficulty"):
            continue
        try:
            text = orjson.dumps(value)
        except TypeError:
            continue
        if len(text) <= MAX_FACT_BYTES:
            kept[key] = orjson.loads(text)
    return kept


def _fault_of_form(example: Example, reply: Sequence[Message]) -> str:
    if [message["role"] for message in reply] != ["user", "assistant"]:
        return "not one question and one answer"
    question, last = reply
    if question["content"] != example["messages"][0]["content"]:
        return "another problem"
    if question["tool_calls"] or last["tool_calls"]:
        return "a call, where there are no tools"
    return "" if last["content"].strip() else "no answer"
