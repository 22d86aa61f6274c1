"""What several tests share: the default mix, its tokenizer and renderer, and rows of it."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest

from mixgen.encoding.renderer import Renderer
from mixgen.encoding.tokenizer import train_tokenizer
from mixgen.mixture.weights import Mix, configure_mix


@pytest.fixture(scope="session")
def mix() -> Mix:
    return configure_mix(calculator=1.0, tictactoe=0.5)


@pytest.fixture(scope="session")
def tokenizer(mix):
    return train_tokenizer(mix.active, seed=42)


@pytest.fixture(scope="session")
def renderer(tokenizer) -> Renderer:
    return Renderer(tokenizer)
