"""Where the random part of a step comes from.

Draws follow the conventions of diffusers, so that the same seed gives the same picture: one generator for the batch,
or a list with one a sample, so that a sample's noise does not depend on its neighbours; generators on the CPU serve
any device, since their numbers are the same everywhere.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from kdpm2 import _check, philox
from kdpm2._check_tensor import floating, floating_dtype, without_waiting

Generators: TypeAlias = torch.Generator | Sequence[torch.Generator] | None
Seeds: TypeAlias = int | Sequence[int] | None

NOISES = ("gaussian", "brownian")

LARGEST_SEED = 2**64 - 1
_MOST_SEEDS = 100_000
LONGEST_SIDE = 2**40  # more than any memory holds
_NOISE_OF_STEPS = 0x5DEECE66D1B54A32  # any number that no seed is likely to differ from another by
# To which torchsde rounds where it looks at a path.
_DIGITS = 6


def checked_seeds(name: str, seeds: Any) -> int | list[int] | None:
    """One seed, a list of seeds, or None; TypeError or ValueError for anything else."""
    if seeds is None:
        return None
    if isinstance(seeds, np.ndarray) and seeds.ndim:
        seeds = seeds[: _MOST_SEEDS + 1].tolist()
    if isinstance(seeds, (str, bytes, bytearray, memoryview)) or not isinstance(seeds, Sequence):
        return _check.integer(name, seeds, 0, LARGEST_SEED)
    held = _check.listed(name, seeds, _MOST_SEEDS, "integers")
    if not held:
        raise ValueError(f"{name} must be an integer or hold one for each sample, got none")
    return [_check.integer(f"each of {name}", seed, 0, LARGEST_SEED) for seed in held]


def seeded(seeds: Seeds) -> Generators:
    """Generators on the CPU for the noise of steps: one for a seed, one a sample for a list, None for None.

    A seed's numbers are others than those of a generator with that seed, from which the initial sample is mostly drawn:
    the first step would otherwise add the very noise that the run starts from.
    """
    seeds = checked_seeds("seeds", seeds)
    if seeds is None:
        return None
    if isinstance(seeds, int):
        return torch.Generator().manual_seed(seeds ^ _NOISE_OF_STEPS)
    return [torch.Generator().manual_seed(seed ^ _NOISE_OF_STEPS) for seed in seeds]


def streams(seeds: Seeds, batch: int, device: torch.device) -> torch.Tensor:
    """Shape (B,), int64: a seed of `kdpm2.philox` for each sample of a batch.

    A list has one for each; of one seed, or a new one for None, every sample takes the next.
    """
    checked = checked_seeds("seeds", seeds)
    if checked is None:
        checked = drawn_seeds(None)
    each = [checked + i for i in range(batch)] if isinstance(checked, int) else checked
    return without_waiting(torch.tensor([philox.signed(seed) for seed in each], dtype=torch.int64), device)


def drawn_seeds(generator: Generators, shape: Sequence[int] = ()) -> int | list[int]:
    """One new seed from each generator for a batch of `shape`: an int if it is one for the batch.

    Raises:
        TypeError: If `generator` is or holds something else.
        ValueError: If a list's length is not the batch size.
    """
    if generator is None or isinstance(generator, torch.Generator):
        return _drawn_seed(generator)
    generators = checked_generators(generator, shape)
    return _drawn_seed(generators[0]) if len(generators) == 1 else [_drawn_seed(g) for g in generators]


def checked_generators(generator: Any, shape: Sequence[int]) -> list[torch.Generator]:
    """The generators for a batch of `shape`: one, or one for each sample.

    Raises:
        TypeError: If `generator` is or holds something else.
        ValueError: If a list's length is not the batch size.
    """
    generators = _listed(generator)
    _check_count(generators, shape)
    return generators


def _drawn_seed(generator: torch.Generator | None) -> int:
    device = "cpu" if generator is None else generator.device
    return int(torch.randint(2**63 - 1, (), generator=generator, device=device))


class Brownian:
    r"""Noise from a Brownian path over noise levels: the same path however many steps a run has.

    The noise of the step from σ to σ' is :math:`(W(\sigma')-W(\sigma))/\sqrt{\sigma-\sigma'}`, standard normal, and
    independent of every other step's. More steps look at the same path more closely, so that with one seed the
    pictures converge as steps grow.

    Args:
        like: A tensor with the shape, dtype and device of a sample.
        sigma_min: Low end of the path, at least 0.
        sigma_max: High end of the path.
        seeds: One for the batch, or one for each sample, which then does not depend on its neighbours; a new one if
            None.

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
        self.shape, self._dtype, self._device = like.shape, like.dtype, like.device
        if isinstance(self.seeds, list) and tuple(like.shape[:1]) != (len(self.seeds),):
            raise ValueError(f"seeds must hold one for each sample of shape {tuple(like.shape)}, got {len(self.seeds)}")
        low, high = (
            _check.number(name, sigma, 0, _check.LARGEST)
            for name, sigma in (("sigma_min", sigma_min), ("sigma_max", sigma_max))
        )
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
        zero = torch.zeros(self.shape[batched:], dtype=torch.promote_types(self._dtype, torch.float32), device="cpu")
        seeds = self.seeds if isinstance(self.seeds, list) else [self.seeds]
        return [BrownianTree(self._low, zero, self._high, entropy=seed) for seed in seeds]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_trees"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """The seeds say it all: what torchsde keeps of its tree is a cache, and cannot be copied."""
        self.__dict__.update(state)
        self._trees = self._grown()

    def __call__(self, sigma: float, sigma_next: float) -> torch.Tensor:
        """The noise of the step from `sigma` to `sigma_next`, like the tensor given at construction.

        Raises:
            ValueError: If one of them is not on the path, or they are less than 1e-6 apart, which is as closely as the
                path is known.
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
        return noise.to(self._device, self._dtype)


def check_apart(sigmas: NDArray[np.float64], up: NDArray[np.float64]) -> None:
    """The `sigmas` (N+1,) of steps that add noise `up` (N,) are as far apart as a Brownian path is known.

    Raises:
        ValueError: If not.
    """
    same = (up > 0) & (np.diff(sigmas.round(_DIGITS)) == 0)
    if same.any():
        raise ValueError(
            "sigmas must be at least 1e-6 apart with noise='brownian', "
            f"got {sigmas[:-1][same][0]:g} before {sigmas[1:][same][0]:g}"
        )


def gaussian(
    shape: Sequence[int],
    dtype: torch.dtype,
    device: torch.device,
    generator: Generators = None,
) -> torch.Tensor:
    """Standard normal noise.

    Args:
        shape: Shape of the batch, samples along the first dimension.
        dtype: A floating-point dtype; the draw itself is made in it.
        device: Where the result is to be.
        generator: One for the batch, a list with one for each sample, or None for torch's global generator.

    Raises:
        TypeError: If `generator` is or holds something else.
        ValueError: If a list's length is not the batch size, or a generator's device cannot serve `device`.
    """
    _check_drawable(shape, dtype, device)
    return _drawn(shape, dtype, device, generator)


def gaussian_like(like: torch.Tensor, generator: Generators = None) -> torch.Tensor:
    """`gaussian` with the shape, dtype and device of a dense floating-point tensor, which are not checked again."""
    # To spell the three out costs torch a microsecond, as much as a small sample's numbers.
    if generator is None:
        return torch.randn_like(like, memory_format=torch.contiguous_format)
    if isinstance(generator, torch.Generator) and generator.device == like.device:
        return torch.empty_like(like, memory_format=torch.contiguous_format).normal_(generator=generator)
    return _drawn(like.shape, like.dtype, like.device, generator)


def _check_drawable(shape: Any, dtype: Any, device: Any) -> None:
    if not isinstance(device, torch.device):
        raise TypeError(f"device must be a torch.device, got {_check.shown(device)}")
    floating_dtype("dtype", dtype)
    if not isinstance(shape, (tuple, list)):
        raise TypeError(f"shape must be a tuple of integers, got {_check.shown(shape)}")
    for length in shape:
        if type(length) is not int or not 0 <= length <= LONGEST_SIDE:
            _check.integer("each of shape", length, 0, LONGEST_SIDE)


def _check_count(generators: list[torch.Generator], shape: Sequence[int]) -> None:
    if len(generators) != 1 and tuple(shape[:1]) != (len(generators),):
        raise ValueError(
            f"generator must be one generator or a list of one a sample, got {len(generators)} generators or seeds "
            f"for a sample of shape {tuple(shape)}"
        )


def _listed(generator: Any) -> list[torch.Generator]:
    if isinstance(generator, torch.Generator):
        return [generator]
    if not isinstance(generator, (list, tuple)) or not all(isinstance(g, torch.Generator) for g in generator):
        raise TypeError(f"generator must be a torch.Generator or a list of them, got {_check.shown(generator)}")
    return list(generator)


def _drawn(shape: Sequence[int], dtype: torch.dtype, device: torch.device, generator: Generators) -> torch.Tensor:
    if generator is None:
        return torch.randn(shape, dtype=dtype, device=device)
    generators = _listed(generator)
    for g in generators:
        if g.device.type not in (device.type, "cpu"):
            raise ValueError(f"generator must be on the CPU or on the sample's device {device}, got one on {g.device}")

    def draw(shape: Sequence[int], g: torch.Generator) -> torch.Tensor:
        return without_waiting(torch.randn(shape, generator=g, device=g.device, dtype=dtype), device)

    if len(generators) == 1:
        return draw(shape, generators[0])
    _check_count(generators, shape)
    return torch.cat([draw((1, *shape[1:]), g) for g in generators])
