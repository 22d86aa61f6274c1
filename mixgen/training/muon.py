"""Muon for a model's matrices and AdamW for the rest, as one optimizer: `optim: muon`.

Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon) makes each update of a matrix
orthogonal. It is for the matrices inside the model, whose inputs and outputs are vectors;
embeddings, the output layer, norms and biases stay with AdamW.

Both are torch's own, but for two things (measured in docs/log.md). GPT-2 keeps its queries', keys'
and values' matrices side by side in one weight: each is made orthogonal alone. And torch's Muon
works in bfloat16, which takes most of a training step on a CPU without instructions for it: on a
CPU it is done in float32.

Updates are scaled by `0.2 * sqrt(max(rows, columns))` (Liu et al. 2025, arXiv:2502.16982), so that
one learning rate may suit both; `optim_args: matrix_lr=6e-3` gives the matrices one of their own.
It is also the scale that does not ask which side of a matrix is its output: GPT-2's `Conv1D` keeps
its weights transposed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import torch
from torch.optim import AdamW, Muon, Optimizer
from transformers.pytorch_utils import Conv1D

if TYPE_CHECKING:
    from transformers import PreTrainedModel

COEFFICIENTS: Final = (3.4445, -4.7750, 2.0315)  # of Jordan's quintic
NUM_ITERATIONS: Final = 5


class MuonWithAdamW(Optimizer):
    """Two optimizers over the parameter groups of one.

    With DDP every process has the same gradients, and makes the same updates.

    Args:
        model: The model to train.
        lr: Learning rate.
        matrix_lr: Learning rate of the matrices inside, if it is another.
        weight_decay: Decoupled weight decay of the matrices, embeddings included.
        betas: AdamW's.
        eps: AdamW's.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        lr: float,
        matrix_lr: float | None = None,
        weight_decay: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
    ) -> None:
        inner = inner_matrices(model)
        if not inner:
            raise ValueError(f"optim muon: {type(model).__name__} has no matrices to train")
        rest = [p for p in model.parameters() if p.requires_grad and p not in inner]
        groups: list[dict[str, Any]] = [
            {"params": [p for p in rest if p.ndim >= 2], "weight_decay": weight_decay},
            {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0},
        ]
        groups = [group for group in groups if group["params"]]
        matrices = [
            {"params": [p for p in inner if inner[p] == number], "num_matrices": number}
            for number in sorted(set(inner.values()))
        ]
        self._parts: list[Optimizer] = [
            *([AdamW(groups, lr=lr, betas=betas, eps=eps)] if groups else []),
            _Muon(
                matrices,
                lr=lr if matrix_lr is None else matrix_lr,
                weight_decay=weight_decay,
                ns_coefficients=COEFFICIENTS,
                ns_steps=NUM_ITERATIONS,
                adjust_lr_fn="match_rms_adamw",
            ),
        ]
        super().__init__([group for part in self._parts for group in part.param_groups], {})
        self._share()

    def _share(self) -> None:
        """Gives the two their groups and the state of all: learning rates and checkpoints are set
        here, for both.
        """
        groups = iter(self.param_groups)
        for part in self._parts:
            part.param_groups = [next(groups) for _ in part.param_groups]
            part.state = self.state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Takes up a state, as `load_state_dict` does."""
        super().__setstate__(state)
        self._share()

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of both."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self._parts:
            part.step()
        return loss


class _Muon(Muon):
    """torch's Muon for weights of `num_matrices` each, side by side; on a CPU in float32."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; `closure` is `MuonWithAdamW`'s to call."""
        for group in self.param_groups:
            weights: list[torch.Tensor] = []
            gradients: list[torch.Tensor] = []
            averages: list[torch.Tensor] = []
            self._init_group(group, weights, gradients, averages)  # torch's: fills the three
            for weight, gradient, average in zip(weights, gradients, averages, strict=True):
                average.lerp_(gradient, 1 - group["momentum"])
                update = gradient.lerp(average, group["momentum"])
                if weight.device.type != "cpu":
                    update = update.bfloat16()
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                for part, change in zip(
                    weight.chunk(group["num_matrices"], dim=1),
                    update.chunk(group["num_matrices"], dim=1),
                    strict=True,
                ):
                    scale = 0.2 * math.sqrt(max(part.shape))
                    part.add_(orthogonal(change), alpha=-group["lr"] * scale)


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """The matrix with all its singular values near 1, by the Newton-Schulz iteration of Muon.

    Args:
        matrix: (rows, columns).

    Returns:
        (rows, columns), of the matrix's own precision. Singular values that were above a hundredth
        of its Frobenius norm are now between 0.6 and 1.25.
    """
    a, b, c = COEFFICIENTS
    is_tall = matrix.size(0) > matrix.size(1)
    found = matrix.T if is_tall else matrix
    found = found / found.norm().clamp(min=1e-7)
    for _ in range(NUM_ITERATIONS):
        gram = found @ found.T
        found = torch.addmm(found, torch.addmm(gram, gram, gram, beta=b, alpha=c), found, beta=a)
    return found.T if is_tall else found


def inner_matrices(model: PreTrainedModel) -> dict[torch.nn.Parameter, int]:
    """The weights of linear layers, but for the output layer's and those tied to embeddings.

    Returns:
        Each with the number of matrices that stand side by side in it: 3 in GPT-2's `c_attn`.
    """
    outer = {
        id(module.weight)
        for module in (model.get_input_embeddings(), model.get_output_embeddings())
        if module is not None
    }
    return {
        module.weight: 3 if name.endswith(".attn.c_attn") and isinstance(module, Conv1D) else 1
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear | Conv1D)
        and isinstance(module.weight, torch.nn.Parameter)
        and module.weight.requires_grad
        and module.weight.ndim == 2
        and id(module.weight) not in outer
    }
