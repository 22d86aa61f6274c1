"""`optim: muon`: torch's Muon and AdamW over the groups of one optimizer."""

from __future__ import annotations

import copy

import pytest
import torch
from small_run import SMALL, trainer_of
from torch.optim import AdamW, Muon
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.pytorch_utils import Conv1D

from mixgen import MixConfig, RecipeError
from mixgen.training.model import build_model
from mixgen.training.muon import MuonWithAdamW, inner_matrices, orthogonal

RATES = {"lr": 0.01, "weight_decay": 0.1}


@pytest.fixture
def model(tokenizer, tmp_path):
    return build_model(MixConfig(output_dir=str(tmp_path), **{**SMALL, "depth": 2}), tokenizer)


def parts_of(tensor, number: int) -> list[torch.Tensor]:
    """The matrices that stand side by side in one."""
    return [part.detach().clone() for part in tensor.chunk(number, dim=-1)]


def give_gradients(model, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for weight in model.parameters():
        weight.grad = torch.randn(weight.shape, generator=generator)


def test_the_matrices_inside_are_muons_and_all_else_is_adamws(model):
    names = {id(weight): name for name, weight in model.named_parameters()}
    inner = {names[id(weight)]: number for weight, number in inner_matrices(model).items()}
    parts = {"attn.c_attn": 3, "attn.c_proj": 1, "mlp.c_fc": 1, "mlp.c_proj": 1}
    assert inner == {
        f"transformer.h.{i}.{part}.weight": parts[part] for i in (0, 1) for part in parts
    }
    optimizer = MuonWithAdamW(model, **RATES)
    held = [id(weight) for group in optimizer.param_groups for weight in group["params"]]
    assert sorted(held) == sorted(names)  # each once; the tied output layer is an embedding
    decays = {
        names[id(weight)]: group["weight_decay"]
        for group in optimizer.param_groups
        for weight in group["params"]
    }
    assert all((decay == 0.1) == (model.get_parameter(n).ndim == 2) for n, decay in decays.items())


def test_only_attention_to_itself_has_three_matrices_in_one_weight():
    sizes = {"n_layer": 1, "n_embd": 32, "n_head": 1, "n_positions": 8, "vocab_size": 64}
    model = GPT2LMHeadModel(GPT2Config(**sizes, add_cross_attention=True))
    names = {weight: name for name, weight in model.named_parameters()}
    threes = [names[weight] for weight, number in inner_matrices(model).items() if number == 3]
    assert threes == ["transformer.h.0.attn.c_attn.weight"]


def test_updates_are_torchs_own_but_for_its_bfloat16(model):
    inner = inner_matrices(model)
    # Each matrix for itself: torch knows nothing of queries, keys and values in one.
    twin = {
        name: [part.requires_grad_() for part in parts_of(weight, inner.get(weight, 1))]
        for name, weight in model.named_parameters()
    }
    is_inner = {name: weight in inner for name, weight in model.named_parameters()}
    muon = Muon(
        [part for name, parts in twin.items() if is_inner[name] for part in parts],
        **RATES,
        adjust_lr_fn="match_rms_adamw",
    )
    rest = [part for name, parts in twin.items() if not is_inner[name] for part in parts]
    adamw = AdamW(
        [
            {"params": [w for w in rest if w.ndim == 2], "weight_decay": 0.1},
            {"params": [w for w in rest if w.ndim < 2], "weight_decay": 0.0},
        ],
        lr=0.01,
        betas=(0.9, 0.95),
    )
    optimizer = MuonWithAdamW(model, **RATES)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    for step in range(3):
        give_gradients(model, step)
        for name, weight in model.named_parameters():
            gradients = parts_of(weight.grad, len(twin[name]))
            for part, gradient in zip(twin[name], gradients, strict=True):
                part.grad = gradient
        for one in (optimizer, muon, adamw):
            one.step()
    for name, weight in model.named_parameters():
        torchs = torch.cat(twin[name], dim=-1) - before[name]
        moved = weight - before[name]
        off = (moved - torchs).norm() / torchs.norm()
        assert off < 0.03 if is_inner[name] else off == 0, name
        assert torchs.norm() > 0


@pytest.mark.parametrize("shape", [(32, 32), (32, 96), (96, 32)])
def test_a_matrix_is_made_orthogonal_to_the_last_digits(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    new = values / values.norm()
    for _ in range(5):  # the polynomial acts on singular values alone
        new = 3.4445 * new - 4.7750 * new**3 + 2.0315 * new**5
    known = left @ torch.diag(new) @ right
    assert torch.allclose(orthogonal(matrix), known, atol=1e-9)
    assert torch.allclose(orthogonal(matrix.float()), known.float(), atol=1e-4)
    rough = orthogonal(matrix.bfloat16())  # as on a GPU
    assert (rough.double() - known).norm() / known.norm() < 0.03
    kept = new[values / values.norm() > 0.01]
    assert len(kept) > 25 and kept.min() > 0.6 and kept.max() < 1.25


def test_a_transposed_matrix_gets_the_transposed_update():
    # GPT-2's Conv1D keeps (inputs, outputs) where Linear keeps (outputs, inputs).
    class One(torch.nn.Module):
        def __init__(self, layer):
            super().__init__()
            self.layer = layer
            self.get_input_embeddings = self.get_output_embeddings = lambda: None

    linear, conv = torch.nn.Linear(32, 96, bias=False), Conv1D(96, 32)
    conv.bias = None
    with torch.no_grad():
        conv.weight.copy_(linear.weight.T)
    linear.weight.grad = torch.randn(96, 32, generator=torch.Generator().manual_seed(0))
    conv.weight.grad = linear.weight.grad.T.clone()
    for layer in (linear, conv):
        MuonWithAdamW(One(layer), lr=0.1).step()
    assert torch.allclose(conv.weight, linear.weight.T, atol=1e-5)


def test_a_state_goes_on_as_if_it_had_never_been_saved(model, tokenizer, tmp_path):
    config = MixConfig(output_dir=str(tmp_path), **{**SMALL, "depth": 2})
    models = [model, build_model(config, tokenizer)]
    optimizers = [MuonWithAdamW(one, **RATES) for one in models]
    for step in range(2):
        give_gradients(models[0], step)
        optimizers[0].step()
    models[1].load_state_dict(models[0].state_dict())
    optimizers[1].load_state_dict(copy.deepcopy(optimizers[0].state_dict()))
    for one, optimizer in zip(models, optimizers, strict=True):
        for group in optimizer.param_groups:
            group["lr"] = 0.003  # as a schedule sets it, also after loading
        give_gradients(one, 7)
        optimizer.step()
    for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_learning_rate_of_0_moves_nothing(model):
    optimizer = MuonWithAdamW(model, **RATES)
    before = [weight.detach().clone() for weight in model.parameters()]
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    give_gradients(model, 0)
    optimizer.step()
    assert all(map(torch.equal, before, model.parameters()))


def test_the_trainer_makes_it_and_goes_on_with_it(mix, renderer, tmp_path):
    settings = {
        "optim": "muon",
        "max_steps": 6,
        "save_steps": 3,
        "per_device_train_batch_size": 2,
        "logging_steps": 1,
    }
    whole = trainer_of(mix, renderer, tmp_path / "run", **settings)
    whole.train()
    assert isinstance(whole.optimizer.optimizer, MuonWithAdamW)
    again = trainer_of(mix, renderer, tmp_path / "run", **settings)
    again.train(resume_from_checkpoint=str(tmp_path / "run/checkpoint-3"))
    for a, b in zip(whole.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_matrices_may_have_a_learning_rate_of_their_own(mix, renderer, tmp_path):
    settings = {"optim": "muon", "max_steps": 1, "learning_rate": 0.001}
    trainer = trainer_of(mix, renderer, tmp_path, **settings, optim_args="matrix_lr=4e-3")
    optimizer = trainer.create_optimizer()
    inner = inner_matrices(trainer.model)
    assert len(optimizer.param_groups) == 4
    for group in optimizer.param_groups:
        is_inner = {weight in inner for weight in group["params"]}
        assert is_inner == {group["lr"] == 0.004} and group["lr"] in (0.004, 0.001)
    for wrong in ("matrix_lr", "matrix_lr=fast", "matrix_lr=-1", "lr=3"):
        with pytest.raises(RecipeError, match="optim_args of muon must be matrix_lr=NUMBER"):
            MixConfig(output_dir=str(tmp_path), optim="muon", optim_args=wrong)


def test_another_optimizer_is_named_with_the_nearest(tmp_path):
    from mixgen.recipe import parse_recipe

    with pytest.raises(RecipeError, match="optim cannot be 'muno': did you mean 'muon'"):
        parse_recipe(["--optim=muno", f"--output_dir={tmp_path}", "--calc_weight=1"])
