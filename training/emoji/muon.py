"""Muon: momentum made orthogonal, for the matrices inside of a network.

K. Jordan et al., https://kellerjordan.github.io/posts/muon/, from where the coefficients of the iteration are. Moves
have the size that Adam's would have (https://arxiv.org/abs/2502.16982), so that both can share a rate.
"""

import torch
from torch import Tensor

_ITERATIONS = 5
_A, _B, _C = 3.4445, -4.7750, 2.0315
_SIZE_OF_ADAM = 0.2


class Muon(torch.optim.Optimizer):
    """The optimizer. Weights of convolutions (out, in, h, w) count as matrices (out, in·h·w).

    Args:
        weights: Of two dimensions or more.
        lr: The rate.
        momentum: How much of the momentum is kept in a step.
        weight_decay: Share of a weight that is lost in a step, at a rate of 1.
    """

    def __init__(self, weights: list[Tensor], lr: float, momentum: float = 0.95, weight_decay: float = 0.01) -> None:
        super().__init__(weights, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move each weight along the orthogonal matrix nearest to its momentum."""
        for group in self.param_groups:
            for weight in group["params"]:
                moving = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
                moving.lerp_(weight.grad, 1 - group["momentum"])
                move = torch.lerp(weight.grad, moving, group["momentum"]).flatten(1)
                size = _SIZE_OF_ADAM * max(move.shape) ** 0.5
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.add_(orthogonal(move).view_as(weight), alpha=-group["lr"] * size)


def orthogonal(matrix: Tensor) -> Tensor:
    """Roughly the orthogonal matrix nearest to one, by Newton-Schulz iterations: singular values of about 1."""
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(_ITERATIONS):
        square = x @ x.T
        x = _A * x + (_B * square + _C * square @ square) @ x
    made: Tensor = x.T if tall else x
    return made
