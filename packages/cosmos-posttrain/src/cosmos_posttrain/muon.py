"""Muon (Jordan et al., 2024): momentum with orthogonalised updates for weights that are matrices; Adam for the rest.

``torch.optim.Muon`` takes 2-D parameters only and orthogonalises in bfloat16, which CPUs without bfloat16 units
emulate at a twentieth of their speed. This one flattens a convolution to ``out x (in * taps)`` and keeps the
parameter's dtype.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

# Quintic Newton-Schulz iteration that takes all singular values near 1.
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5
_ADAM_RMS = 0.2


class Muon(torch.optim.Optimizer):
    """Muon on parameters of two or more axes, Adam on the rest.

    Args:
        parameters: of a network, or groups of them as every optimiser of torch takes them.
        lr: learning rate of both; a matrix update has about the root mean square of an Adam update at that rate.
        momentum: of the matrices, with Nesterov's look-ahead.
        weight_decay: of both, decoupled (arXiv 1711.05101): a step first shrinks a parameter by this times the rate.
        betas, eps: of Adam.

    Raises:
        ValueError: `momentum` or one of `betas` is not in [0, 1), or `lr`, `eps` or `weight_decay` is negative.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        *,
        lr: float,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.99),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        for name, share in (("momentum", momentum), ("beta", betas[0]), ("beta", betas[1])):
            if not 0 <= share < 1:
                raise ValueError(f"Invalid {name} value: {share}")
        for name, value in (("learning rate", lr), ("epsilon", eps), ("weight_decay", weight_decay)):
            if not 0 <= value < math.inf:
                raise ValueError(f"Invalid {name} value: {value}")
        super().__init__(
            parameters, {"lr": lr, "momentum": momentum, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        assert closure is None
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    state = self.state[parameter]
                    (_muon if parameter.dim() >= 2 else _adam)(parameter, parameter.grad, state, group)


def orthogonalise(update: Tensor) -> Tensor:
    """``update``, flattened to a matrix, with all singular values near 1, in its own shape."""
    x = update.flatten(1)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x = x / (x.norm() + 1e-7)
    a, b, c = _COEFFICIENTS
    for _ in range(_ITERATIONS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.T if tall else x).reshape(update.shape)


def _orthogonalised(update: Tensor) -> Tensor:
    """``orthogonalise`` of a matrix that may lie in parts over processes: each makes the whole and keeps its part."""
    if not isinstance(update, DTensor):
        return orthogonalise(update)
    whole = orthogonalise(update.full_tensor())
    return distribute_tensor(whole, update.device_mesh, update.placements, src_data_rank=None)


def _muon(parameter: Tensor, grad: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    if not state:
        state["momentum"] = torch.zeros_like(parameter)
    state["momentum"].lerp_(grad, 1 - group["momentum"])
    update = _orthogonalised(grad.lerp(state["momentum"], group["momentum"]))
    rows = parameter.shape[0]
    largest = max(rows, parameter.numel() // rows)
    parameter.sub_(update, alpha=group["lr"] * _ADAM_RMS * largest**0.5)


def _adam(parameter: Tensor, grad: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    if not state:
        state |= {"step": torch.zeros(()), "mean": torch.zeros_like(parameter), "square": torch.zeros_like(parameter)}
    state["step"] += 1
    beta1, beta2 = group["betas"]
    step = int(state["step"])
    state["mean"].lerp_(grad, 1 - beta1)
    state["square"].lerp_(grad.square(), 1 - beta2)
    mean = state["mean"] / (1 - beta1**step)
    square = state["square"] / (1 - beta2**step)
    parameter.sub_(group["lr"] * mean / (square.sqrt() + group["eps"]))
