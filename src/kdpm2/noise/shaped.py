r"""Noise that is alike from place to place: coloured, pyramid and offset noise.

Each is normal noise of unit variance in every element, made of torch's numbers of the same generators. What differs is
how the elements of one channel go together. The dimensions after the first two, batch and channels, are space; a sample
without a third has its second one for space.

=================  =====================================================================================
``coloured:α``     power spectrum :math:`|f|^{-\alpha}`: 1 is pink, 2 brown, 0 white, -1 blue (default 1)
``pyramid:d``      :math:`\sum_i d^i\,\mathrm{up}(n_i)`, noise of half the size for each i (default 0.7)
``offset:s``       :math:`n + s\,n_c`, with one number for each channel of a sample (default 0.1)
=================  =====================================================================================

Each is then divided by its standard deviation, which is known. A model was trained with white noise. With noise of
another colour it draws other pictures: more contrast in large shapes, or finer grain.

References:
    | Offset noise: https://www.crosslabs.org/blog/diffusion-with-offset-noise (Guttenberg, 2023)
    | Pyramid noise: "Multi-Resolution Noise for Diffusion Model Training" (Whitaker, 2023), with d = 0.7 to 0.9
    | Coloured noise: f^-α noise as in "Blue noise for diffusion models" (Huang et al., 2024),
      https://arxiv.org/abs/2402.04930
"""

import math
from abc import abstractmethod
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, ClassVar

import torch

from kdpm2 import _check
from kdpm2.noise.gaussian import Gaussian, gaussian, gaussian_like


class Shaped(Gaussian):
    """Noise of a shape that one number chooses.

    Attributes:
        name: What the kind is called in `kdpm2.noise.NOISES`.
        parameter: The number.
        bounds: From where to where it may be.
    """

    name: ClassVar[str]
    parameter: ClassVar[float]
    bounds: ClassVar[tuple[float, float]]

    def draw(self, step: int, like: torch.Tensor) -> torch.Tensor:
        """Noise like `like`, in float32 or wider."""
        # Half precision has no transforms, and sums of it would not have unit variance.
        wide = torch.empty_like(like, dtype=torch.promote_types(like.dtype, torch.float32))
        return self.shaped(wide)

    @abstractmethod
    def shaped(self, like: torch.Tensor) -> torch.Tensor:
        """The noise in the dtype of `like`."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (self.name, self.parameter, self.generators)


class Coloured(Shaped):
    """Noise whose power falls with the frequency."""

    name, parameter, bounds = "coloured", 1.0, (-4.0, 4.0)

    def shaped(self, like: torch.Tensor) -> torch.Tensor:
        """White noise, filtered."""
        space = _space(like)
        if not space:
            return gaussian_like(like, self.generators)
        amplitude = _amplitude(tuple(like.shape[i] for i in space), self.parameter).to(like.device, like.dtype)
        white = torch.fft.fftn(gaussian_like(like, self.generators), dim=space)
        coloured: torch.Tensor = torch.fft.ifftn(white * amplitude, dim=space).real
        return coloured


class Pyramid(Shaped):
    """Noise of several sizes, enlarged and added."""

    name, parameter, bounds = "pyramid", 0.7, (0.0, 1.0)

    def shaped(self, like: torch.Tensor) -> torch.Tensor:
        """White noise, and that of ever smaller sizes."""
        space = _space(like)
        made, variance = gaussian_like(like, self.generators), torch.ones((), dtype=like.dtype, device=like.device)
        sides = [like.shape[i] for i in space]
        weight = self.parameter
        while weight and any(side > 1 for side in sides):
            sides = [max(side // 2, 1) for side in sides]
            shape = list(like.shape)
            for i, side in zip(space, sides, strict=True):
                shape[i] = side
            smaller = gaussian(tuple(shape), like.dtype, like.device, self.generators)
            spread = torch.ones((), dtype=like.dtype, device=like.device)
            for i, side in zip(space, sides, strict=True):
                enlarging = _enlarging(side, like.shape[i]).to(like.device, like.dtype)
                smaller = torch.movedim(torch.movedim(smaller, i, -1) @ enlarging.T, -1, i)
                spread = spread * enlarging.square().sum(1).reshape([-1 if j == i else 1 for j in range(like.ndim)])
            made = made + weight * smaller
            variance = variance + weight**2 * spread
            weight *= self.parameter
        return made / variance.sqrt()


class Offset(Shaped):
    """Noise with one number for each channel added."""

    name, parameter, bounds = "offset", 0.1, (0.0, 10.0)

    def shaped(self, like: torch.Tensor) -> torch.Tensor:
        """White noise, and what all elements of a channel share."""
        space = _space(like)
        shape = tuple(1 if i in space else side for i, side in enumerate(like.shape))
        shared = gaussian(shape, like.dtype, like.device, self.generators)
        white = gaussian_like(like, self.generators)
        return (white + self.parameter * shared).div(math.sqrt(1 + self.parameter**2))


SHAPED: dict[str, type[Shaped]] = {kind.name: kind for kind in (Coloured, Pyramid, Offset)}


@lru_cache(maxsize=64)
def with_parameter(name: str, parameter: float) -> type[Shaped]:
    """The kind of this name and number."""
    kind = SHAPED[name]
    value = _check.number(f"the number of {name} noise", parameter, *kind.bounds)
    return type(kind.__name__, (kind,), {"parameter": value, "__module__": __name__})


def _again(name: str, parameter: float, generators: Any) -> Shaped:
    return (SHAPED[name] if parameter == SHAPED[name].parameter else with_parameter(name, parameter))(generators)


def _space(like: torch.Tensor) -> tuple[int, ...]:
    """The dimensions of space."""
    return tuple(range(min(2, like.ndim - 1), like.ndim)) if like.ndim > 1 else ()


@lru_cache(maxsize=16)
def _amplitude(sides: Sequence[int], exponent: float) -> torch.Tensor:
    """What each frequency is multiplied by; the mean of the squares is 1."""
    frequencies = torch.zeros((), dtype=torch.float64, device="cpu")
    for i, side in enumerate(sides):
        along = torch.fft.fftfreq(side, dtype=torch.float64, device="cpu")
        frequencies = frequencies + along.square().reshape([-1 if j == i else 1 for j in range(len(sides))])
    # The mean has no frequency, and gets the power of the lowest that there is.
    lowest = frequencies[frequencies > 0].min() if frequencies.any() else torch.ones_like(frequencies.flatten()[0])
    power = frequencies.clamp(min=lowest) ** (-exponent / 2)
    return (power / power.mean()).sqrt()


@lru_cache(maxsize=64)
def _enlarging(side: int, large: int) -> torch.Tensor:
    """Shape (large, side): linear interpolation between the centres of `side` cells."""
    places = ((torch.arange(large, dtype=torch.float64, device="cpu") + 0.5) * side / large - 0.5).clamp(0, side - 1)
    return (1 - (places[:, None] - torch.arange(side, dtype=torch.float64, device="cpu")).abs()).clamp(min=0)
