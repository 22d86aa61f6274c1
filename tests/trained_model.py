"""A model that has learned to call its tool, small enough for a test: sums of one digit."""

from __future__ import annotations

import functools
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from small_run import trainer_of

from mixgen.encoding.renderer import Renderer
from mixgen.encoding.tokenizer import train_tokenizer
from mixgen.mixture.weights import Mix
from mixgen.tasks.calculator import Calculator


def easy_calculator() -> Calculator:
    return Calculator(
        Calculator.Config(
            max_depth=1,
            max_digits=1,
            max_decimals=0,
            negative_rate=0.0,
            function_rate=0.0,
            operators=["+", "-"],
        )
    )


@functools.cache
def trained_model():
    """The model and its renderer; the process trains it once."""
    task = easy_calculator()
    renderer = Renderer(train_tokenizer((task,), seed=1))
    with TemporaryDirectory() as folder, torch.random.fork_rng():
        trainer = trainer_of(
            Mix(tasks=(task,), weights=(1.0,)),
            renderer,
            Path(folder),
            depth=2,
            max_seq_len=128,
            max_steps=220,
            per_device_train_batch_size=16,
            learning_rate=1e-2,
            optim="muon",
            save_strategy="no",
        )
        trainer.train()
    return trainer.model.eval(), renderer
