"""A model and tasks -> results: every task tries the model, with the tools really run.

In a launch of several processes each generates its share of the conversations, and all get all of
the turns: a task needs to know nothing of it.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from mixgen.encoding.renderer import Renderer
from mixgen.errors import TaskError
from mixgen.evaluation.generation import Generator
from mixgen.evaluation.results import check_result, result_json
from mixgen.tasks.base import Task
from mixgen.tasks.messages import assistant
from mixgen.tasks.trial import Answer, Conversation, Metric, Result, Turn, blaming
from mixgen.tools.session import ToolSession

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

FORGED: Final = "forged_outputs"


class Evaluator:
    """Tries models on tasks.

    Args:
        tasks: What to try them on.
        tokenizer: The models' tokenizer.
        split: The split that problems are of.
        num_examples: Problems of each task; a task may count otherwise (see `Task.evaluate`).
        on_task: Called with each result and the seconds that it took.
        **settings: More of `Generator`: `batch_size`, `max_new_tokens`, `temperature` and so on.

    Raises:
        RecipeError: The tokenizer lacks a token of mixgen's conversations.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        tokenizer: PreTrainedTokenizerBase,
        *,
        split: str = "test",
        num_examples: int = 1000,
        on_task: Callable[[Result, float], None] | None = None,
        **settings: Any,
    ) -> None:
        self.tasks = tasks
        self.renderer = Renderer(tokenizer)
        self.split = split
        self.num_examples = num_examples
        self.on_task = on_task
        self.settings = settings

    def __call__(self, model: PreTrainedModel) -> dict[str, float]:
        """What a training run logs: `calculator/exact`, `tictactoe/losses`; not single groups."""
        return {
            f"{result.task}/{metric.name}": metric.value
            for result in self.results(model)
            for metric in result.metrics
            if not metric.group and metric.total
        }

    def results(self, model: PreTrainedModel) -> list[Result]:
        """All that is counted, a result a task.

        Args:
            model: A causal language model that knows mixgen's conversations.

        Returns:
            The tasks' results, each with the metric `forged_outputs` added: in how many turns the
            likeliest token was a marker of tool output, which the model may not write.

        Raises:
            TaskError: A task's own code fails, or gives what it should not.
        """
        generator = Generator(model, self.renderer, **self.settings)
        results = []
        for task in self.tasks:
            answer = _Counting(_shared(generator.turns, partial(_Tools, task)))
            started = time.monotonic()
            results.append(self._try(task, answer))
            if self.on_task:
                self.on_task(results[-1], time.monotonic() - started)
        return results

    def _try(self, task: Task, answer: _Counting) -> Result:
        try:
            with blaming(task.name, "evaluate"):
                result = self._evaluated(task, answer)
        except TaskError:
            if answer.failure:  # it is not the task's
                raise answer.failure from None
            raise
        forged = Metric(
            name=FORGED,
            count=answer.forged,
            total=answer.turns,
            unit="turns",
            is_fault=True,
            is_sample=all(metric.is_sample for metric in result.metrics[:1]),
        )
        return dataclasses.replace(result, metrics=[*result.metrics, forged])

    def _evaluated(self, task: Task, answer: _Counting) -> Result:
        result: object = task.evaluate(answer, split=self.split, num_examples=self.num_examples)
        if not isinstance(result, Result) or result.task != task.name:
            raise TaskError(
                f"task {task.name!r}: evaluate must give its Result, got {result!r:.200}"
            )
        content = result_json(result)  # what cannot be saved or shown fails now
        json.dumps(content)
        check_result(content)
        return result

    def metric_kinds(self) -> dict[str, bool]:
        """The metrics that `__call__` gives, and whether each counts faults; no model is needed.

        Raises:
            TaskError: A task's own code fails, or gives what it should not.
        """

        def silent(conversations: Sequence[Conversation]) -> list[Turn]:
            return [Turn([assistant("")]) for _ in conversations]  # no fault: it is scored

        kinds = {}
        for task in self.tasks:
            _Tools(task)
            for metric in self._try(task, _Counting(silent)).metrics:
                if not metric.group:
                    kinds[f"{task.name}/{metric.name}"] = metric.is_fault
        return kinds


class _Counting:
    """An `Answer` that counts its turns, and those in which the model would have forged output."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.turns = 0
        self.forged = 0
        self.failure: Exception | None = None  # of the model, such as too little memory

    def __call__(self, conversations: Sequence[Conversation]) -> list[Turn]:
        try:
            turns = self.answer(conversations)
        except Exception as error:
            self.failure = error
            raise
        self.turns += len(turns)
        self.forged += sum(turn.forged > 0 for turn in turns)
        return turns


class _Tools:
    """The tools of one conversation, whose failures are told as their task's."""

    def __init__(self, task: Task) -> None:
        self.task = task.name
        with blaming(self.task, "tools"):
            self.session = task.tools()

    def call(self, name: str, arguments: Mapping[str, Any]) -> str:
        """See `ToolSession.call`."""
        with blaming(self.task, f"tool {name}"):
            output: object = self.session.call(name, arguments)
        if not isinstance(output, str):
            raise TaskError(f"task {self.task!r}: tool {name} must give text, got {output!r:.200}")
        return output


def _shared(
    turns: Callable[[Sequence[Conversation], Callable[[], ToolSession]], list[Turn]],
    tools: Callable[[], ToolSession],
) -> Answer:
    """An `Answer` of which every process generates its share."""
    from accelerate import PartialState
    from accelerate.utils import gather_object

    process = PartialState()

    def answer(conversations: Sequence[Conversation]) -> list[Turn]:
        if process.num_processes == 1:
            return turns(conversations, tools)
        mine = range(process.process_index, len(conversations), process.num_processes)
        done = turns([conversations[index] for index in mine], tools)
        shared = dict(gather_object(list(zip(mine, done, strict=True))))
        return [shared[index] for index in range(len(conversations))]

    return answer
