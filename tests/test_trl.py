"""What mixgen pushes is what TRL trains on: datasets, tokenizer, and the same loss."""

from __future__ import annotations

import pytest
import torch
from datasets import load_dataset
from hub_server import WRITE, HubServer
from small_run import SMALL
from transformers import AutoTokenizer
from typer.testing import CliRunner

from mixgen import MixConfig, configure_mix
from mixgen.cli import app
from mixgen.encoding.renderer import IGNORED, Renderer
from mixgen.encoding.tokenizer import train_tokenizer
from mixgen.publishing.dataset_card import write_card
from mixgen.publishing.export import run_export
from mixgen.publishing.plan import make_plan, save_plan
from mixgen.training.model import build_model

pytestmark = pytest.mark.filterwarnings(
    "ignore:Use 'content=:DeprecationWarning", "ignore:.gradient_checkpointing.:FutureWarning"
)


@pytest.fixture
def hub(tmp_path):
    """A Hub to which an export and a tokenizer have been pushed."""
    mix = configure_mix(calculator=1.0, tictactoe=0.5)
    plan = make_plan(mix, splits={"train": 24, "test": 6})
    save_plan(plan, tmp_path / "data")
    run_export(tmp_path / "data")
    write_card(plan, tmp_path / "data", license="apache-2.0")
    tokenizer = train_tokenizer(mix.active, seed=42, examples_per_task=300)
    with HubServer() as server, server.connected(tmp_path / "home", token=WRITE):
        done = CliRunner().invoke(app, ["push-dataset", str(tmp_path / "data"), "anna/data"])
        assert done.exit_code == 0, done.output
        tokenizer.push_to_hub("anna/model")
        yield server


@pytest.mark.parametrize("streaming", [False, True])
def test_sfttrainer_trains_two_steps_with_our_loss(hub, tmp_path, streaming):
    from trl import SFTConfig, SFTTrainer

    dataset = load_dataset("anna/data", split="train", streaming=streaming)
    examples = list(dataset.take(4))
    assert {example["task"] for example in examples} == {"calculator", "tictactoe"}
    tokenizer = AutoTokenizer.from_pretrained("anna/model")
    model = build_model(MixConfig(output_dir=str(tmp_path), **SMALL), tokenizer)
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(30)  # so that the loss of tokens differs widely

    # Ours, of the first batch before any step: a mean over the tokens that are trained on.
    renderer = Renderer(tokenizer)
    encoded = [renderer.encode(example) for example in examples]
    total, count = 0.0, 0
    model.eval()
    with torch.no_grad():
        for one in encoded:
            ids = torch.tensor(one.input_ids.tolist())[None]
            labels = torch.tensor(one.labels.tolist())
            logits = model(input_ids=ids, use_cache=False).logits[0, :-1]
            losses = torch.nn.functional.cross_entropy(
                logits, labels[1:].long(), ignore_index=IGNORED, reduction="sum"
            )
            total += float(losses)
            count += int((labels[1:] != IGNORED).sum())

    config = SFTConfig(
        output_dir=str(tmp_path / "trl"),
        max_steps=2,
        per_device_train_batch_size=4,
        assistant_only_loss=True,
        max_length=256,
        logging_steps=1,
        learning_rate=1e-3,
        use_cpu=True,
        bf16=False,
        report_to="none",
        save_strategy="no",
        dataloader_pin_memory=False,
        shuffle_dataset=False,
        train_sampling_strategy="sequential",
        disable_tqdm=True,
    )
    trainer = SFTTrainer(
        model=model, args=config, train_dataset=dataset, processing_class=tokenizer
    )
    batch = next(iter(trainer.get_train_dataloader()))
    for ids, labels, ours in zip(batch["input_ids"], batch["labels"], encoded, strict=True):
        assert ids[: len(ours.input_ids)].tolist() == ours.input_ids.tolist()
        assert labels[: len(ours.labels)].tolist() == ours.labels.tolist()
        assert (labels[len(ours.labels) :] == IGNORED).all()
    trainer.train()
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert len(logged) == 2
    assert logged[0]["loss"] == pytest.approx(total / count, rel=1e-4)
    assert logged[1]["loss"] < logged[0]["loss"]
