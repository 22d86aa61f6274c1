"""Tasks' scores as TRL's rewards: read from ids, and trained on by GRPO with the tools run."""

from __future__ import annotations

import itertools

import pytest
import torch
from datasets import IterableDataset
from trained_model import easy_calculator, trained_model

from mixgen.encoding.reading import read_messages
from mixgen.encoding.renderer import Renderer
from mixgen.encoding.tokenizer import train_tokenizer
from mixgen.mixture.sources import source
from mixgen.rewards import rewards_of, rollout_of, with_prompts
from mixgen.tasks.registry import registered_tasks, task_class
from mixgen.tasks.tictactoe import TicTacToe


@pytest.mark.parametrize("name", sorted(registered_tasks()))
def test_conversations_are_read_back_from_their_ids(name):
    task = task_class(name)()
    renderer = Renderer(train_tokenizer((task,), seed=1, examples_per_task=500))
    for example in itertools.islice(task.stream(split="train", seed=2), 200):
        ids = renderer.encode(example).input_ids
        assert read_messages(ids, renderer) == example["messages"]
        start = len(renderer.prompt_ids(example["messages"][:1]))
        assert read_messages(ids[start:], renderer) == example["messages"][1:]
        unfinished = read_messages(ids[:-1], renderer)
        assert unfinished[-1]["role"] == "unfinished"
        assert unfinished[:-1] == example["messages"][:-1]


def columns(examples, **more):
    return {field: [one[field] for one in examples] for field in examples[0]} | more


def test_a_reward_is_the_tasks_score_and_none_for_others(renderer):
    tasks = [task_class(name)() for name in ("calculator", "tictactoe")]
    examples = [next(task.stream(split="test", seed=3)) for task in tasks]
    ids = []
    for example in examples:
        start = len(renderer.prompt_ids(example["messages"][:1]))
        ids.append(renderer.encode(example).input_ids[start:].tolist())
    calculator, tictactoe = rewards_of(tasks, renderer.tokenizer)
    given = columns(examples, prompts=[], completions=[], trainer_state=None)
    assert calculator(completion_ids=ids, **given) == [1.0, None]
    assert tictactoe(completion_ids=ids, **given) == [None, 1.0]
    assert [one.__name__ for one in (calculator, tictactoe)] == ["calculator", "tictactoe"]
    for spoiled in ([one[:-1] for one in ids], [one[:3] for one in ids], [[], []], ids[::-1]):
        assert calculator(completion_ids=spoiled, **given)[0] == 0.0
        assert tictactoe(completion_ids=spoiled, **given)[1] == 0.0


def fake_trainer(model, tokenizer):
    class Accelerator:
        process_index = 0

        def unwrap_model(self, model):
            return model

    class Trainer:
        processing_class = tokenizer
        accelerator = Accelerator()
        state = type("State", (), {"global_step": 0})
        args = type("Args", (), {"seed": 1})
        max_completion_length = 40
        temperature = 1e-2

    Trainer.model = model
    return Trainer()


def test_a_rollout_has_the_tools_output_masked_and_scores_as_evaluated():
    model, renderer = trained_model()
    task = easy_calculator()
    examples = list(itertools.islice(task.stream(split="test", seed=1), 8))
    prompts = [example["messages"][:1] for example in examples]
    found = rollout_of([task, TicTacToe()])(prompts, fake_trainer(model, renderer.tokenizer))
    for prompt, example, ids, mask, start in zip(
        prompts,
        examples,
        found["completion_ids"],
        found["env_mask"],
        found["prompt_ids"],
        strict=True,
    ):
        assert start == renderer.prompt_ids(prompt)
        assert len(ids) == len(mask)
        labels = renderer.encode(example).labels[len(start) :]
        if ids == renderer.encode(example).input_ids[len(start) :].tolist():
            assert mask == [int(label >= 0) for label in labels]
        assert 0 in mask and mask[-1] == 1  # the output, and the end of the turn
    (reward,) = rewards_of([task], renderer.tokenizer)
    rewards = reward(completion_ids=found["completion_ids"], **columns(examples))
    assert sum(rewards) >= 7


def test_two_steps_of_grpo_train_on_rewards_of_tools_that_ran(tmp_path):
    from trl import GRPOConfig, GRPOTrainer

    model, renderer = trained_model()
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    task = easy_calculator()
    dataset = with_prompts(source(task, seed=5))
    assert isinstance(dataset, IterableDataset)
    config = GRPOConfig(
        output_dir=str(tmp_path),
        max_steps=2,
        per_device_train_batch_size=16,
        num_generations=4,
        max_completion_length=40,
        temperature=2.0,  # so that it errs
        learning_rate=1e-3,
        logging_steps=1,
        use_cpu=True,
        bf16=False,
        report_to="none",
        save_strategy="no",
        dataloader_pin_memory=False,
        disable_tqdm=True,
    )
    trainer = GRPOTrainer(
        model=model,
        processing_class=renderer.tokenizer,
        train_dataset=dataset,
        reward_funcs=rewards_of([task], renderer.tokenizer),
        rollout_func=rollout_of([task]),
        args=config,
    )
    try:
        with torch.random.fork_rng():
            trainer.train()
        logged = [one for one in trainer.state.log_history if "rewards/calculator/mean" in one]
        assert len(logged) == 2
        assert all(0 < one["rewards/calculator/mean"] < 1 for one in logged)
        assert all(one["grad_norm"] > 0 for one in logged)
        changed = [
            name
            for name, weight in model.named_parameters()
            if not torch.equal(weight, before[name].to(weight.dtype))
        ]
        assert changed
    finally:
        trained_model.cache_clear()  # other tests want it as it was
