"""A trainer of a model small enough for a test."""

from __future__ import annotations

from pathlib import Path

from mixgen import MixConfig, MixTrainer
from mixgen.encoding.renderer import Renderer
from mixgen.encoding.rows import RowDataset
from mixgen.mixture.schedule import Schedule
from mixgen.mixture.weights import Mix
from mixgen.training.model import build_model

SMALL = {
    "depth": 1,
    "aspect_ratio": 32,
    "head_dim": 32,
    "max_seq_len": 256,
    "use_cpu": True,
    "report_to": "none",
}

TIMES = {"data_wait", "tokens_per_second", "eval_seconds"}  # in logs; no two runs share them


def without_times(entries: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{key: value for key, value in e.items() if key not in TIMES} for e in entries]


def trainer_of(
    mix: Mix | Schedule, renderer: Renderer, output_dir: Path, **settings: object
) -> MixTrainer:
    config = MixConfig(output_dir=str(output_dir), **{**SMALL, **settings})
    rows = RowDataset(
        mix,
        renderer,
        num_rows=config.max_steps * config.rows_per_step,
        max_seq_len=config.max_seq_len,
    )
    model = build_model(config, renderer.tokenizer)
    return MixTrainer(
        model=model, args=config, train_dataset=rows, processing_class=renderer.tokenizer
    )
