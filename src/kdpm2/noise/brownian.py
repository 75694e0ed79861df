"""Noise from a Brownian path over noise levels. The path is the same for any number of steps."""

from typing import Any

import numpy as np
import torch

from kdpm2 import _check
from kdpm2._check_tensor import FLOATING, floating
from kdpm2.noise.seeds import Seeds, checked_seeds, drawn_seeds
from kdpm2.noise.source import Noise
from kdpm2.table import StageTable

# To which torchsde rounds where it looks at a path.
_DIGITS = 6
_DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in FLOATING}


class OnPath(Noise):
    """The noise of steps along one path.

    Args:
        path: A path from 0 to the largest noise level of the model. So it does not depend on the number of steps.
        sigmas: Shape (N+1,): where the steps start, and the end.
    """

    def __init__(self, path: "Brownian", sigmas: list[float]) -> None:
        self.path = path
        self.sigmas = sigmas

    @classmethod
    def of(cls, seeds: Seeds, table: StageTable, like: torch.Tensor) -> "OnPath":
        """The path of the seeds, from the model's largest noise level."""
        return cls(Brownian(like, 0.0, table.highest, seeds), table.sigmas.tolist())

    @classmethod
    def check(cls, table: StageTable) -> None:
        """Noise levels must be as far apart as a path is known, and fall where there is noise."""
        if np.any(table.up > 0) and np.any(np.diff(table.sigmas) > 0):
            raise ValueError("noise must be another kind with restarts, which go along a path twice, got 'brownian'")
        same = (table.up > 0) & (np.diff(table.sigmas.round(_DIGITS)) == 0)
        if same.any():
            raise ValueError(
                "sigmas must be at least 1e-6 apart with noise='brownian', "
                f"got {table.sigmas[:-1][same][0]:g} before {table.sigmas[1:][same][0]:g}"
            )

    def serves(self, like: torch.Tensor) -> bool:
        """A path has the shape of the samples."""
        return bool(self.path.shape == like.shape)

    def draw(self, step: int, like: torch.Tensor) -> torch.Tensor:
        """The change of the path between the step's two noise levels."""
        return self.path(self.sigmas[step], self.sigmas[step + 1]).to(like.device, like.dtype)

    def state(self) -> dict[str, Any]:
        """The path's seeds and its end, and the noise levels."""
        told = {"seeds": self.path.seeds, "highest": self.path.highest, "sigmas": self.sigmas}
        return told | {"shape": list(self.path.shape), "dtype": str(self.path.dtype).removeprefix("torch.")}

    @classmethod
    def of_state(cls, state: dict[str, Any], like: torch.Tensor) -> "OnPath":
        """The same path, from its seeds and its end."""
        if not like.numel():
            dtype = _DTYPES[_check.choice("dtype", state["dtype"], _DTYPES)]
            like = torch.empty(state["shape"], dtype=dtype, device=like.device)
        return cls(Brownian(like, 0.0, state["highest"], state["seeds"]), list(state["sigmas"]))


class Brownian:
    r"""Noise from a Brownian path over noise levels. The path is the same for any number of steps.

    The noise of the step from σ to σ' is :math:`(W(\sigma')-W(\sigma))/\sqrt{\sigma-\sigma'}`, standard normal, and
    independent of every other step's. All runs of one seed use the same path, so their pictures converge as you add
    steps.

    Args:
        like: A tensor with the shape, dtype and device of a sample.
        sigma_min: Low end of the path, at least 0.
        sigma_max: High end of the path.
        seeds: One for the batch, or one for each sample, so a sample does not depend on its neighbours. None for a new
            one.

    Raises:
        TypeError: If `seeds` is or holds something else.
        ValueError: If the number of seeds is not the batch size.

    References:
        | Scalable Gradients for Stochastic Differential Equations (Li et al., 2020), for the tree:
          https://arxiv.org/abs/2001.01328, https://github.com/google-research/torchsde
        | BrownianTreeNoiseSampler in https://github.com/crowsonkb/k-diffusion, whose numbers these are for the same
          ends and seeds
    """

    def __init__(self, like: torch.Tensor, sigma_min: float, sigma_max: float, seeds: Seeds = None) -> None:
        self.seeds = checked_seeds("seeds", seeds)
        floating("like", like)
        self.shape, self.dtype, self.device = like.shape, like.dtype, like.device
        if isinstance(self.seeds, list) and tuple(like.shape[:1]) != (len(self.seeds),):
            raise ValueError(f"seeds must hold one for each sample of shape {tuple(like.shape)}, got {len(self.seeds)}")
        low, high = (
            _check.number(name, sigma, 0, _check.LARGEST)
            for name, sigma in (("sigma_min", sigma_min), ("sigma_max", sigma_max))
        )
        self.highest = high
        self._low, self._high = round(low, _DIGITS), round(high, _DIGITS)
        if not self._low < self._high:
            raise ValueError(f"sigma_max must be above sigma_min={low:g} by at least 1e-6, got {high:g}")
        if self.seeds is None:  # last, so that a refused call draws nothing
            self.seeds = drawn_seeds(None)
        self._trees = self._grown()

    def _grown(self) -> list[Any]:
        from torchsde import BrownianTree  # a second of import time, for those who ask for it

        batched = isinstance(self.seeds, list)
        # On the CPU, for the same numbers everywhere, and in no less than float32, where the tree's halves add up.
        zero = torch.zeros(self.shape[batched:], dtype=torch.promote_types(self.dtype, torch.float32), device="cpu")
        seeds = self.seeds if isinstance(self.seeds, list) else [self.seeds]
        return [BrownianTree(self._low, zero, self._high, entropy=seed) for seed in seeds]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_trees"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """The seeds are the whole state. What torchsde keeps of its tree is a cache, which cannot be copied."""
        self.__dict__.update(state)
        self._trees = self._grown()

    def __call__(self, sigma: float, sigma_next: float) -> torch.Tensor:
        """The noise of the step from `sigma` to `sigma_next`, like the tensor given at construction.

        Raises:
            ValueError: If one of them is not on the path, or they are less than 1e-6 apart, the resolution of the path.
        """
        sigma, sigma_next = _check.finite("sigma", sigma), _check.finite("sigma_next", sigma_next)
        start, end = round(sigma, _DIGITS), round(sigma_next, _DIGITS)
        if not (self._low <= start <= self._high and self._low <= end <= self._high):
            raise ValueError(
                f"sigma and sigma_next must lie between {self._low:g} and {self._high:g}, "
                f"got {sigma:g} and {sigma_next:g}"
            )
        if start == end:
            raise ValueError(f"sigma and sigma_next must be at least 1e-6 apart, got {sigma:g} and {sigma_next:g}")
        paths: list[torch.Tensor] = [tree(min(start, end), max(start, end)) for tree in self._trees]
        path = torch.stack(paths) if isinstance(self.seeds, list) else paths[0]
        noise: torch.Tensor = path / abs(end - start) ** 0.5 * (1 if start < end else -1)
        return noise.to(self.device, self.dtype)
