"""Tasks as rewards for reinforcement learning with TRL's `GRPOTrainer`.

    dataset = with_prompts(load_mixture({"calculator": 1.0}))
    trainer = GRPOTrainer(
        model=model,
        processing_class=tokenizer,
        train_dataset=dataset,
        reward_funcs=rewards_of(tasks, tokenizer),
        rollout_func=rollout_of(tasks),
        args=GRPOConfig(..., max_steps=100),
    )

`rollout_of` writes completions as evaluation does: tools really run in the middle of a turn, and
what they print carries no loss. The rewards are the tasks' own scores, one function a task, so that
TRL logs each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

from mixgen.encoding.reading import read_messages
from mixgen.encoding.renderer import IGNORED, Renderer
from mixgen.seeding import stream
from mixgen.tasks.base import Example, Message, Task
from mixgen.tasks.trial import blaming, converse, said_by_user
from mixgen.tools.session import JoinedTools

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset
    from transformers import PreTrainedTokenizerBase

FIELDS = tuple(Example.__annotations__)


def with_prompts(dataset: Dataset | IterableDataset) -> Any:
    """Adds a column `prompt` to examples: what the user says, turn by turn.

    Args:
        dataset: Examples, of `load_mixture` or an export.
    """
    return dataset.map(lambda example: {"prompt": said_by_user(example["messages"])})


def rewards_of(tasks: Sequence[Task], tokenizer: PreTrainedTokenizerBase) -> list[TaskReward]:
    """A reward function for each task."""
    renderer = Renderer(tokenizer)
    return [TaskReward(task, renderer) for task in tasks]


class TaskReward:
    """The score of a task's replies; None for the examples of other tasks, which TRL leaves out.

    Args:
        task: The task.
        renderer: The encoder of its examples.
    """

    def __init__(self, task: Task, renderer: Renderer) -> None:
        self.task = task
        self.renderer = renderer
        self.__name__ = task.name  # what TRL logs it as

    def __call__(
        self, *, completion_ids: Sequence[Sequence[int]], **columns: Any
    ) -> list[float | None]:
        """Scores completions.

        Args:
            completion_ids: The token ids of each, from the assistant's first words on.
            **columns: The fields of `Example`, each with a value for every completion; others are
                ignored.
        """
        rows = zip(*(columns[field] for field in FIELDS), strict=True)
        return [
            self._score(cast(Example, dict(zip(FIELDS, row, strict=True))), ids)
            for row, ids in zip(rows, completion_ids, strict=True)
        ]

    def _score(self, example: Example, ids: Sequence[int]) -> float | None:
        if example["task"] != self.task.name:
            return None
        reply = [example["messages"][0], *read_messages(ids, self.renderer)]
        with blaming(self.task.name, "score"):
            return self.task.score(example, reply).value


def rollout_of(tasks: Sequence[Task]) -> Callable[[list[Any], Any], dict[str, Any]]:
    """A `rollout_func` of `GRPOTrainer`: turns as evaluation writes them, with the tools run.

    Where the user has more to say (a game), it says what the example's user does, whatever the
    model plays; the whole conversation is the completion.

    Args:
        tasks: Whose tools may be called.
    """

    def rollout(prompts: list[list[Message]], trainer: Any) -> dict[str, Any]:
        from mixgen.evaluation.generation import Generator

        renderer = Renderer(trainer.processing_class)
        where = (trainer.state.global_step, trainer.accelerator.process_index)
        generator = Generator(
            trainer.accelerator.unwrap_model(trainer.model),
            renderer,
            max_new_tokens=trainer.max_completion_length,
            temperature=trainer.temperature,
            seed=stream(trainer.args.seed, "rollout", *where),
        )
        talks = converse(
            lambda talks: generator.turns(talks, lambda: JoinedTools(task.tools for task in tasks)),
            prompts,
        )
        encoded = [renderer.encode(cast(Example, {"messages": talk})) for talk, _ in talks]
        starts = [len(renderer.prompt_ids(prompt[:1])) for prompt in prompts]
        parts = list(zip(encoded, starts, strict=True))
        return {
            "prompt_ids": [one.input_ids[:start].tolist() for one, start in parts],
            "completion_ids": [one.input_ids[start:].tolist() for one, start in parts],
            "env_mask": [
                (one.labels[start:] != IGNORED).astype(int).tolist() for one, start in parts
            ],
            "logprobs": None,
        }

    return rollout
