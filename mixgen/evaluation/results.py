"""Results for people and for programs: `evaluation.json`, tables, conversations in full."""

from __future__ import annotations

import dataclasses
import json
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import torch
from tqdm import tqdm

from mixgen.encoding.tokenizer import call_text
from mixgen.errors import OutputError, printable
from mixgen.files import write_whole
from mixgen.tasks.messages import Message
from mixgen.tasks.trial import Result, Trial
from mixgen.training.checkpoint import library_versions
from mixgen.training.run_dir import LATER_FILE, RESULTS_FILE

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MAX_TRIALS: Final = 5  # conversations in full, right and wrong ones each
# What facts tell, if they tell it: about the run, and about the evaluation.
FACTS: Final[dict[str, Any]] = {
    "parameters": int,
    "device": str,
    "command": str,
    "versions": dict,
    "split": str,
    "num_examples": int,
    "temperature": float | int,
    "seed": int,
    "batch_size": int,
    "checkpoint": str,
}
OF_TRAINING: Final = {"device", "command", "versions"}  # which a later evaluation does not know
# What reading a damaged file raises.
DAMAGES: Final = (
    OSError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    RecursionError,
)


class MetricRow(NamedTuple):
    """A metric for people."""

    name: str
    group: str  # empty: of all
    value: str
    counted: str  # such as `992 of 1,000 problems`
    interval: str  # empty where the total is no sample


def save_evaluation(results: Sequence[Result], facts: Mapping[str, Any], path: Path) -> None:
    """Writes results and what is known about how they came about, whole or not at all."""
    content = {"facts": facts, "results": [result_json(result) for result in results]}
    write_whole(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def machine_facts(model: PreTrainedModel, device: torch.device | None = None) -> dict[str, Any]:
    """The model's size, what it runs on (its own device by default), and the versions of all."""
    device = device or model.device
    names = {
        "cuda": lambda: torch.cuda.get_device_name(device),
        "cpu": lambda: f"{torch.get_num_threads()} CPU threads",
    }
    return {
        "parameters": model.num_parameters(),
        "device": names.get(device.type, lambda: device.type)(),
        "versions": {"python": platform.python_version(), **library_versions()},
    }


def read_evaluation(folder: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """A run's results (see `result_json`) and their facts, empty without any.

    They are those of `evaluation.json` or, where a run ended without, of `mixgen eval`.

    Raises:
        OutputError: A file of them cannot be read.
    """
    results, facts = _read_results(folder / RESULTS_FILE)
    if not results:
        results, later = _read_results(folder / LATER_FILE)
        facts = {key: later[key] for key in later if key not in OF_TRAINING} | facts
    return results, facts


def _read_results(path: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        for key, value in content["facts"].items():
            if not isinstance(value, FACTS.get(key, object)):
                raise TypeError(f"{key} is {value!r}")
        for result in content["results"]:
            check_result(result)
        return list(content["results"]), dict(content["facts"])
    except FileNotFoundError:
        return [], {}
    except DAMAGES as error:
        raise OutputError(f"{path} cannot be read: {error!r}") from error


def check_result(result: dict[str, Any]) -> None:
    """Fails if something is missing that reports are made of, or is of another kind."""
    result.setdefault("note", "")  # of an earlier version
    result_table(result)
    format(result["num_failures"], ",d")
    for trial in (*result["conversations"], *result["failures"]):
        conversation_text(trial["messages"])
        printable(trial["reason"])


def summary_line(result: Result, seconds: float) -> str:
    """A result in one line: `calculator  exact 99.2 % (992 of 1,000 problems)  in 6 s`."""
    first, *others = [metric for metric in result.metrics if not metric.group]
    if not first.total and not result.trials and result.note:
        return f"{result.task}  not tried: {result.note}"
    if not first.total:
        return f"{result.task}  has no {first.unit} of the {result.split} split"
    share = f"{percent(first.rate)} ({first.count:,} of {first.total:,} {first.unit})"
    faults = [f"{one.name} {one.count:,}" for one in others if one.is_fault]
    return "  ".join([result.task, f"{first.name} {share}", *faults, f"in {seconds:.0f} s"])


def say_result(result: Result, seconds: float) -> None:
    """Prints `summary_line`, above a progress bar if there is one."""
    tqdm.write(f"  eval  {summary_line(result, seconds)}", file=sys.stdout)
    sys.stdout.flush()


def percent(share: float) -> str:
    """A share in percent; 100 only for all of it.

    Examples:
        >>> percent(0.9996), percent(1.0), percent(0.5)
        ('99.9 %', '100 %', '50.0 %')
    """
    if share == 1:
        return "100 %"
    return f"{min(100 * share, 99.9):.1f} %"


def result_json(result: Result, max_trials: int = MAX_TRIALS) -> dict[str, Any]:
    """A result for programs: all metrics, and right trials and failures in full.

    Args:
        result: What was counted.
        max_trials: Most of either kind, evenly spaced over all.
    """
    right = [trial for trial in result.trials if trial.score.value == 1]
    failed = [trial for trial in result.trials if trial.score.value < 1]
    return {
        "task": result.task,
        "split": result.split,
        "note": result.note,
        "metrics": [
            {**dataclasses.asdict(metric), "value": metric.value, "interval": metric.interval}
            for metric in result.metrics
            if metric.total
        ],
        "conversations": [_trial_json(trial) for trial in _spread(right, max_trials)],
        "failures": [_trial_json(trial) for trial in _spread(failed, max_trials)],
        "num_failures": len(failed),
    }


def _spread(trials: Sequence[Trial], number: int) -> list[Trial]:
    """Some of many, evenly apart."""
    return (
        [trials[at * len(trials) // number] for at in range(number)]
        if len(trials) > number
        else list(trials)
    )


def _trial_json(trial: Trial) -> dict[str, Any]:
    return {"messages": trial.messages, "score": trial.score.value, "reason": trial.score.reason}


def metric_rows(result: Mapping[str, Any]) -> list[MetricRow]:
    """A result's metrics for people.

    Args:
        result: Of `result_json`.
    """
    rows = []
    for metric in result["metrics"]:
        low, high = (f"{100 * end:.1f}" for end in metric["interval"])
        interval = f"{low} to {high} %" if metric["is_sample"] else ""
        value = f"{metric['count']:,}" if metric["is_fault"] else percent(metric["value"])
        rows.append(
            MetricRow(
                name=metric["name"],
                group=metric["group"],
                value=value,
                counted=f"{metric['count']:,} of {metric['total']:,} {metric['unit']}",
                interval=interval,
            )
        )
    return rows


def result_table(result: Mapping[str, Any]) -> str:
    """A result's metrics as aligned text, below a heading and the task's note."""
    header = ("metric", "of", "value", "count", "95 % interval")
    rows = metric_rows(result)
    lines = aligned([header, *rows]) if rows else [f"no problems of the {result['split']} split"]
    note = [printable(result["note"])] if result["note"] else []
    return "\n".join([f"{result['task']}, {result['split']} split", *note, *lines])


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells as lines with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def conversation_text(messages: Sequence[Message]) -> str:
    """A conversation for people: one message a paragraph, calls and tool output set apart.

    Examples:
        >>> from mixgen.tasks.messages import assistant, call, tool, user
        >>> print(conversation_text([user("1+1?"), call("1+1"), tool("2"), assistant("2.")]))
        user       1+1?
        call       1+1
        tool       2
        assistant  2.
    """
    lines: list[str] = []
    for message in messages:
        if message["content"] or not message["tool_calls"]:
            lines += _indented(message["role"], message["content"])
        for made in message["tool_calls"]:
            lines += _indented("call", call_text_of(made))
    return "\n".join(lines)


def call_text_of(made: Mapping[str, Any]) -> str:
    """A tool call as the model wrote it."""
    return call_text(made["function"]["name"], made["function"]["arguments"])


def _indented(role: str, text: str) -> list[str]:
    first, *rest = printable(text).split("\n")
    return [f"{role:<9}  {first}".rstrip(), *(f"{'':9}  {line}".rstrip() for line in rest)]
