"""The Trainer: right losses, seen task by task, on any number of accumulation steps."""

from __future__ import annotations

import math
import signal
import time

import pytest
import small_run
import torch
from small_run import SMALL
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel

from mixgen import MixConfig, MixTrainer, RecipeError, configure_mix
from mixgen.encoding.rows import RowDataset
from mixgen.training.callbacks import MixProgressCallback, StopCallback
from mixgen.training.mix_callback import MixCallback
from mixgen.training.model import build_model, load_pretrained
from mixgen.training.trainer import collate


def trainer_of(mix, renderer, tmp_path, **settings) -> MixTrainer:
    settings = {"max_steps": 4, "logging_steps": 2, **settings}
    return small_run.trainer_of(mix, renderer, tmp_path, **settings)


def logged(trainer) -> list[dict[str, float]]:
    return [entry for entry in trainer.state.log_history if "loss" in entry]


def test_loss_is_the_models_own_loss(mix, renderer, tmp_path):
    trainer = trainer_of(mix, renderer, tmp_path)
    batch = collate([trainer.train_dataset[i] for i in range(4)])
    model = trainer.model.eval()
    with torch.no_grad():
        ours = trainer.compute_loss(model, dict(batch))
        theirs = model(
            input_ids=batch["input_ids"],
            position_ids=batch["position_ids"],
            labels=batch["labels"],
            use_cache=False,
        ).loss
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-6)


def test_task_losses_weighted_by_their_tokens_are_the_logged_loss(mix, renderer, tmp_path):
    trainer = trainer_of(
        mix, renderer, tmp_path, per_device_train_batch_size=2, gradient_accumulation_steps=2
    )
    trainer.train()
    entries = logged(trainer)
    assert [entry["step"] for entry in entries] == [2, 4]
    for entry in entries:
        tokens = {name: entry[f"tokens/{name}"] for name in ("calculator", "tictactoe")}
        weighted = sum(entry[f"loss/{name}"] * count for name, count in tokens.items())
        assert weighted / sum(tokens.values()) == pytest.approx(entry["loss"], rel=1e-9)


def test_logged_counts_are_those_of_the_rows(mix, renderer, tmp_path):
    trainer = trainer_of(
        mix, renderer, tmp_path, per_device_train_batch_size=2, gradient_accumulation_steps=2
    )
    trainer.train()
    rows = list(trainer.train_dataset)
    entries = logged(trainer)
    for task, name in enumerate(trainer.task_names):
        trained = sum(int(((row.labels != -100) & (row.task_ids == task)).sum()) for row in rows)
        examples = sum(
            int(((row.position_ids == 0) & (row.task_ids == task)).sum()) for row in rows
        )
        assert sum(entry[f"tokens/{name}"] for entry in entries) == trained > 100
        assert sum(entry[f"examples/{name}"] for entry in entries) == examples > 5
    assert entries[-1]["num_input_tokens_seen"] == sum(
        int((row.task_ids >= 0).sum()) for row in rows
    )


def test_each_tasks_loss_is_the_mean_over_its_own_tokens(mix, renderer, tmp_path):
    trainer = trainer_of(
        mix, renderer, tmp_path, max_steps=1, logging_steps=1, per_device_train_batch_size=4
    )
    batch = collate([trainer.train_dataset[i] for i in range(4)])
    with torch.no_grad():
        logits = trainer.model(
            input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False
        ).logits
        losses = -torch.log_softmax(logits, -1)[:, :-1].gather(2, batch["input_ids"][:, 1:, None])[
            ..., 0
        ]
    trainer.train()
    (entry,) = logged(trainer)
    for task, name in enumerate(trainer.task_names):
        mine = (batch["labels"][:, 1:] != -100) & (batch["task_ids"][:, 1:] == task)
        assert entry[f"loss/{name}"] == pytest.approx(losses[mine].mean().item(), rel=1e-5)


@pytest.mark.parametrize(("batch", "accumulation"), [(8, 1), (4, 2), (1, 8)])
def test_accumulation_changes_neither_losses_nor_weights(
    batch, accumulation, mix, renderer, tmp_path
):
    settings = {"max_steps": 3, "logging_steps": 1, "learning_rate": 1e-3}
    whole = trainer_of(mix, renderer, tmp_path / "a", per_device_train_batch_size=8, **settings)
    parts = trainer_of(
        mix,
        renderer,
        tmp_path / "b",
        per_device_train_batch_size=batch,
        global_batch_size=8,
        **settings,
    )
    assert parts.args.gradient_accumulation_steps == accumulation
    whole.train(), parts.train()
    for one, other in zip(logged(whole), logged(parts), strict=True):
        for key in ("loss", "loss/calculator", "loss/tictactoe", "tokens/tictactoe"):
            assert one[key] == pytest.approx(other[key], rel=1e-5)
        assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-4)


def test_task_losses_reach_tensorboard(mix, renderer, tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    settings = {**SMALL, "report_to": "tensorboard"}
    trainer = trainer_of(mix, renderer, tmp_path, max_steps=2, logging_steps=1, **settings)
    trainer.train()
    (events,) = tmp_path.rglob("events.out*")
    reader = accumulator.EventAccumulator(str(events)).Reload()
    assert len(reader.Scalars("train/loss/calculator")) == 2
    assert reader.Scalars("train/tokens/tictactoe")[0].value > 0


def test_training_lowers_the_loss_of_both_tasks(mix, renderer, tmp_path):
    trainer = trainer_of(
        mix,
        renderer,
        tmp_path,
        max_steps=40,
        logging_steps=10,
        per_device_train_batch_size=4,
        learning_rate=1e-2,
    )
    trainer.train()
    first, last = logged(trainer)[0], logged(trainer)[-1]
    for name in ("calculator", "tictactoe"):
        assert last[f"loss/{name}"] < first[f"loss/{name}"] - 1


def test_saved_model_and_tokenizer_load_and_generate_with_a_cache(mix, renderer, tmp_path):
    trainer = trainer_of(mix, renderer, tmp_path, max_steps=1)
    trainer.train()
    trainer.save_model()
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert isinstance(model, GPT2LMHeadModel)
    assert model.config.use_cache
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is 1+2?"}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    assert (
        model.generate(**prompt, max_new_tokens=3, do_sample=False).shape[1]
        > prompt["input_ids"].shape[1]
    )


def test_no_pickle_and_no_token_is_saved(mix, renderer, tmp_path):
    trainer = trainer_of(mix, renderer, tmp_path, max_steps=1, save_steps=1, hub_token="hf_secret")
    trainer.train()
    trainer.save_model()
    trainer.save_state()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.name == "model.safetensors" for path in files)
    assert not any(path.name == "training_args.bin" for path in files)
    assert not any(b"hf_secret" in path.read_bytes() for path in files)


def test_time_spent_waiting_for_rows_is_logged(mix, renderer, tmp_path, monkeypatch):
    (quick,) = logged_of_one_step(mix, renderer, tmp_path / "a")
    get = RowDataset.__getitem__
    monkeypatch.setattr(
        RowDataset, "__getitem__", lambda self, index: time.sleep(0.2) or get(self, index)
    )
    (slow,) = logged_of_one_step(mix, renderer, tmp_path / "b")
    assert 0 < quick["data_wait"] < slow["data_wait"] < 1
    assert slow["data_wait"] > 0.6


def logged_of_one_step(mix, renderer, tmp_path) -> list[dict[str, float]]:
    trainer = trainer_of(
        mix, renderer, tmp_path, max_steps=1, logging_steps=1, per_device_train_batch_size=4
    )
    trainer.train()
    return logged(trainer)


def test_a_task_that_dominates_is_named_once_and_for_tokens_with_the_weight_that_evens_them_out(
    renderer, tmp_path, capsys
):
    mix = configure_mix(calculator=0.2, tictactoe=2.0)
    trainer = trainer_of(mix, renderer, tmp_path, per_device_train_batch_size=16)
    trainer.add_callback(MixCallback(trainer.train_dataset.schedule, max_task_share=0.9))
    trainer.train()
    lines = [line for line in capsys.readouterr().out.splitlines() if "warning" in line]
    assert len(lines) == 2  # of the tokens and of the loss, once each in two logs
    assert lines[0].startswith("warning: tictactoe has 9")
    assert "% of the trained tokens; a weight of 0." in lines[0]
    assert lines[0].endswith("instead of 2 would even it out")
    assert lines[1].endswith("% of the loss")
    balanced = trainer_of(configure_mix(calculator=1.0, tictactoe=0.2), renderer, tmp_path / "b")
    balanced.add_callback(MixCallback(balanced.train_dataset.schedule, max_task_share=0.9))
    balanced.train()
    assert "warning" not in capsys.readouterr().out


# --- the end of a run ---


def test_a_best_model_that_no_checkpoint_holds_is_said(mix, renderer, tmp_path, capsys):
    trainer = trainer_of(mix, renderer, tmp_path, max_steps=1)
    callback = MixProgressCallback(trainer.task_names)
    for best, is_said in ((None, True), ("checkpoint-1", False)):
        trainer.args.load_best_model_at_end = True
        trainer.state.best_model_checkpoint = best
        trainer.state.max_steps = trainer.state.global_step = 1
        callback.on_train_begin(trainer.args, trainer.state, trainer.control)
        callback.on_train_end(trainer.args, trainer.state, trainer.control)
        assert ("warning: no checkpoint is the best by" in capsys.readouterr().out) is is_said


def test_a_request_to_stop_is_answered_once_and_by_the_first_process(capfd, monkeypatch):
    for rank, times in (("0", 1), ("1", 0)):
        monkeypatch.setenv("RANK", rank)
        with StopCallback().watching():
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGINT)  # the launcher's echo
        assert capfd.readouterr().out.count("Stopping after this step") == times


# --- the model ---


@pytest.mark.parametrize(("depth", "width", "heads"), [(4, 256, 4), (12, 768, 12)])
def test_depth_is_the_one_dial(depth, width, heads, tokenizer, tmp_path):
    config = MixConfig(depth=depth, output_dir=str(tmp_path), use_cpu=True)
    with torch.device("meta"):
        shape = build_model(config, tokenizer).config
    assert (shape.n_layer, shape.n_embd, shape.n_head, shape.n_positions) == (
        depth,
        width,
        heads,
        1024,
    )
    assert shape.resid_pdrop == shape.embd_pdrop == shape.attn_pdrop == 0
    assert shape._attn_implementation == "sdpa"


def test_initial_weights_follow_from_the_seed_alone(tokenizer, tmp_path):
    def weights(seed: int, noise: int) -> torch.Tensor:
        torch.manual_seed(noise)
        before = torch.get_rng_state()
        model = build_model(MixConfig(seed=seed, output_dir=str(tmp_path), **SMALL), tokenizer)
        assert torch.equal(torch.get_rng_state(), before)
        return model.transformer.h[0].attn.c_attn.weight

    assert torch.equal(weights(1, 1), weights(1, 2))
    assert not torch.equal(weights(1, 1), weights(2, 1))


def test_fine_tuning_starts_from_a_checkpoint_with_its_tokenizer(mix, tokenizer, tmp_path):
    # A checkpoint as GPT-2's is: its own byte-level tokenizer, none of mixgen's tokens, dropout on.
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    from mixgen.encoding.renderer import Renderer

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(
        ["What is the answer?"] * 9, trainers.BpeTrainer(vocab_size=280, initial_alphabet=alphabet)
    )
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="?").save_pretrained(
        tmp_path / "base"
    )
    base = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(backend.get_vocab()), n_positions=600, n_embd=32, n_layer=1, n_head=1
        )
    )
    base.generation_config.repetition_penalty = 9.0
    base.save_pretrained(tmp_path / "base")

    config = MixConfig(
        model_name_or_path=str(tmp_path / "base"),
        max_seq_len=512,
        output_dir=str(tmp_path / "run"),
        max_steps=2,
        logging_steps=1,
        per_device_train_batch_size=2,
        use_cpu=True,
    )
    model, found = load_pretrained(config)
    assert model.generation_config.to_diff_dict().keys() <= {
        *("bos_token_id", "eos_token_id", "pad_token_id", "transformers_version")
    }
    assert model.generation_config.eos_token_id == found.eos_token_id
    old = len(backend.get_vocab())
    assert model.get_input_embeddings().num_embeddings == len(found) == old + 10
    assert torch.equal(model.transformer.wte.weight[:old], base.transformer.wte.weight)
    assert not any(isinstance(part, torch.nn.Dropout) and part.p for part in model.modules())
    rows = RowDataset(mix, Renderer(found), num_rows=4, max_seq_len=512)
    trainer = MixTrainer(model=model, args=config, train_dataset=rows, processing_class=found)
    trainer.train()
    trainer.save_model()
    assert all(math.isfinite(entry["loss/tictactoe"]) for entry in logged(trainer))
    saved = AutoTokenizer.from_pretrained(tmp_path / "run")
    assert saved.chat_template and saved.eos_token == "<|assistant_end|>"
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "run").config.vocab_size == old + 10

    config.max_seq_len = 1024
    with pytest.raises(RecipeError, match="max_seq_len 1024 is above the 600 positions"):
        load_pretrained(config)


def test_a_checkpoint_that_cannot_be_loaded_is_named(tmp_path):
    (tmp_path / "empty").mkdir()
    for name in (str(tmp_path / "empty"), "no/such-model"):
        config = MixConfig(model_name_or_path=name, output_dir=str(tmp_path), use_cpu=True)
        with pytest.raises(RecipeError, match=f"model_name_or_path '{name}' cannot be loaded"):
            load_pretrained(config)


# --- the configuration ---


def test_a_token_budget_sets_the_number_of_steps(tmp_path):
    config = MixConfig(
        train_tokens=10_000, per_device_train_batch_size=2, output_dir=str(tmp_path), **SMALL
    )
    assert config.tokens_per_step == 512
    assert config.max_steps == 20


BEST = {"load_best_model_at_end": True, "metric_for_best_model": "calculator/exact"}


@pytest.mark.parametrize(
    ("given", "strategy"),
    [
        ({}, "no"),
        ({"eval_steps": 5}, "steps"),
        ({"eval_steps": 0}, "no"),
        ({"eval_steps": 5, "eval_strategy": "steps"}, "steps"),
        ({"eval_steps": 5, "eval_strategy": "no"}, "no"),
    ],
)
def test_eval_steps_turn_evaluation_on_unless_it_is_turned_off(given, strategy, tmp_path):
    assert MixConfig(output_dir=str(tmp_path), use_cpu=True, **given).eval_strategy == strategy


def test_saves_at_evaluations_pass_as_steps_and_as_shares(tmp_path):
    for steps in (
        {"eval_steps": 4, "save_steps": 4},
        {"eval_steps": 0.5, "save_steps": 0.5},
        {"eval_steps": 0.25, "save_steps": 3},
        {"eval_steps": 2, "save_strategy": "best"},
    ):
        MixConfig(output_dir=str(tmp_path), use_cpu=True, max_steps=12, **BEST, **steps)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train_tokens": 10, "max_steps": 3}, "both set the length"),
        ({"depth": 0}, "depth must be a positive integer, got 0"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"seed": 2**32}, "seed must be at least 0, at most 4,294,967,295, got 4294967296"),
        ({"per_device_train_batch_size": 0}, "must be a positive integer, got 0"),
        ({"learning_rate": math.nan}, "learning_rate must be at least 0, got nan"),
        ({"learning_rate": math.inf}, "learning_rate must be at least 0 and finite, got inf"),
        ({"eval_delay": -1.0}, "eval_delay must be at least 0, got -1"),
        ({"per_device_eval_batch_size": 0}, "per_device_eval_batch_size must be a positive int"),
        ({"eval_accumulation_steps": 2}, "not supported: set per_device_eval_batch_size"),
        ({"prediction_loss_only": True}, "prediction_loss_only is not supported"),
        ({"batch_eval_metrics": True}, "batch_eval_metrics is not supported"),
        ({"do_predict": True}, "do_predict is not supported: set test_examples"),
        ({"lr_scheduler_type": "reduce_lr_on_plateau"}, "reduce_lr_on_plateau is not supported"),
        ({"optim": "adamw_torch", "optim_args": "matrix_lr=1"}, "matrix_lr needs optim muon"),
        ({**BEST, "eval_steps": 0.5, "save_steps": 3, "max_steps": 4}, "got 3 and 2"),
        ({**BEST, "eval_steps": 1, "save_steps": 2, "max_steps": 4}, "got 2 and 1"),
        (
            {**BEST, "eval_steps": 1, "greater_is_better": True},
            "greater_is_better is not supported",
        ),
        ({**BEST, "eval_steps": 0.3, "save_steps": 0.9, "max_steps": 11}, "got 10 and 4"),
        ({"num_train_epochs": 5.0}, "num_train_epochs is not supported: the data has no end"),
        ({"resume_from_checkpoint": "x"}, "resume_from_checkpoint is not supported"),
        ({"label_smoothing_factor": 0.1}, "label_smoothing_factor is not supported"),
        ({"eval_strategy": "epoch"}, "eval_strategy must be no or steps, got epoch"),
        ({"load_best_model_at_end": True}, "load_best_model_at_end needs eval_steps"),
        ({"global_batch_size": 12}, "nearest: 8 or 16"),
        ({"global_batch_size": 3}, "nearest: 8"),
        ({"vocab_size": 10}, "vocab_size must be at least 300, got 10"),
        ({"train_sampling_strategy": "random"}, "must be sequential"),
        ({"max_steps": 0}, "max_steps must be a positive integer, got 0"),
        ({"dataloader_num_workers": -1}, "dataloader_num_workers must be at least 0, got -1"),
        ({"dataloader_persistent_workers": True}, "needs dataloader_num_workers above 0"),
        (
            {
                "task_files": ["a.py"],
                "dataloader_num_workers": 1,
                "dataloader_multiprocessing_context": "spawn",
            },
            "must be fork with task_files",
        ),
        ({"overwrite": True, "resume": True}, "overwrite replaces a run, and resume goes on"),
        ({"hub_strategy": "every_save"}, "hub_strategy must be end"),
        ({"save_on_each_node": True}, "all machines share the output_dir"),
    ],
)
def test_contradicting_settings_are_refused(settings, message, tmp_path):
    with pytest.raises(RecipeError, match=message):
        MixConfig(output_dir=str(tmp_path), use_cpu=True, **settings)
