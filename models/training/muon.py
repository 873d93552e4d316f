"""The optimiser: Muon for the convolutions inside the network, AdamW for its first and last layers and the biases.

Muon: K. Jordan and others, Muon: an optimizer for hidden layers in neural networks, 2024. The scale of its steps, by which both
share one rate: J. Liu and others, Muon is scalable for LLM training, arXiv:2502.16982, 2025. PyTorch's own takes matrices only.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

# Coefficients of the quintic iteration, by Jordan: they bring all singular values near 1 within five steps.
QUINTIC = (3.4445, -4.7750, 2.0315)
STEPS = 5
MOMENTUM = 0.95
# Root mean square of AdamW's steps, as a share of the rate.
ADAMW_SIZE = 0.2


def orthogonal(matrix: Tensor) -> Tensor:
    """The matrix [M, N] with its singular values brought to about 1, by Newton-Schulz iterations."""
    a, b, c = QUINTIC
    x = matrix / (matrix.norm() + 1e-7)
    is_tall = x.shape[0] > x.shape[1]
    x = x.T if is_tall else x
    for _ in range(STEPS):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x.T if is_tall else x


class Muon(torch.optim.Optimizer):
    """Steps along the orthogonalised momentum (Nesterov's) of each kernel, seen as a matrix of outputs by all the rest."""

    def __init__(self, params: Iterable[Tensor], lr: float, weight_decay: float) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for kernel in group["params"]:
                state = self.state[kernel]
                if "mean" not in state:
                    state["mean"] = torch.zeros_like(kernel)
                mean = state["mean"].lerp_(kernel.grad, 1 - MOMENTUM)
                matrix = kernel.grad.lerp(mean, MOMENTUM).flatten(1)
                size = ADAMW_SIZE * max(matrix.shape) ** 0.5
                kernel.mul_(1 - group["lr"] * group["weight_decay"])
                kernel.add_(orthogonal(matrix).view_as(kernel), alpha=-group["lr"] * size)


class Optimizer:
    """Both, each for its part of the network, with the faces of one: `param_groups`, steps and a state to keep."""

    def __init__(self, net: nn.Module, rate: float, weight_decay: float) -> None:
        outer = ("head.", "tail.")
        inside = [p for name, p in net.named_parameters() if p.ndim > 1 and not name.startswith(outer)]
        others = [p for name, p in net.named_parameters() if p.ndim <= 1 or name.startswith(outer)]
        self.parts = (
            Muon(inside, lr=rate, weight_decay=weight_decay),
            torch.optim.AdamW(others, lr=rate, weight_decay=weight_decay, betas=(0.9, 0.99)),
        )

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Those of both."""
        return [group for part in self.parts for group in part.param_groups]

    def zero_grad(self) -> None:
        """Forgets the gradients."""
        for part in self.parts:
            part.zero_grad()

    def step(self) -> None:
        """One step of both."""
        for part in self.parts:
            part.step()

    def state_dict(self) -> list[dict[str, Any]]:
        """What `load_state_dict` goes on from."""
        return [part.state_dict() for part in self.parts]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        """Goes on from the states of both."""
        for part, state in zip(self.parts, states, strict=True):
            part.load_state_dict(state)
