r"""Classifier-free guidance, and three forms of it: CFG++, guidance at some noise levels only, and rescaling.

Guidance with scale s leads from the output without the condition to the one with it,

.. math:: m = m_{none} + s\,(m_{cond} - m_{none}).

The same holds for the clean samples, :math:`\hat x_0 = p\,x + q\,m`.

**Interval.** Outside an interval of noise levels, s is 1.

**Rescaling.** A large s makes outputs, and so pictures, of too much contrast. Rescaled by φ, the output is

.. math:: \varphi\,\frac{\mathrm{std}(m_{cond})}{\mathrm{std}(m)}\,m + (1-\varphi)\,m.

**CFG++.** The clean sample is guided, and the noise is not. Where a step starts, a sample is :math:`\alpha\,x_0 +
\sigma\,n`. CFG++ says what n is by the output without the condition, and what x0 is by the guided one. So it goes on
from

.. math:: \tilde x = \alpha\,\hat x_0 + \sigma\,\hat n_{none} = x + \alpha\,q\,(m - m_{none}).

The rows of a table stay as they are. They read :math:`\tilde x` in the place of x, also as the anchor, and an output
:math:`\tilde m` of which :math:`\hat x_0` is still the clean sample, :math:`p\,\tilde x + q\,\tilde m = p\,x + q\,m`:

.. math:: \tilde m = m - \alpha\,p\,(m - m_{none}).

For Euler's method these are the steps of the paper. The second stage of a step follows its guided output as it is, like
ComfyUI's `dpmpp_2s_ancestral_cfg_pp`. CFG++ takes an s from 0 to 1, sometimes up to 2: each step adds it once more.

References:
    | Classifier-Free Diffusion Guidance (Ho & Salimans, 2022): https://arxiv.org/abs/2207.12598
    | CFG++ (Chung et al., 2024): https://arxiv.org/abs/2406.08070
    | Applying Guidance in a Limited Interval (Kynkäänniemi et al., 2024): https://arxiv.org/abs/2404.07724
    | Rescaling: Common Diffusion Noise Schedules and Sample Steps are Flawed (Lin et al., 2023), section 3.4:
      https://arxiv.org/abs/2305.08891
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from kdpm2 import _check
from kdpm2._check_tensor import is_dense
from kdpm2.denoiser import Around, Denoiser, Network, Outputs, as_denoiser, described
from kdpm2.noise_schedule import NoiseSchedule
from kdpm2.table import StageTable

LARGEST_SCALE = 1000.0
_IN_ANOTHER_LOOP = (
    "plus_plus has no effect in a loop that calls the denoiser itself, which is guided as without it: sample with "
    "kdpm2.sample or kdpm2.batching"
)
Interval = tuple[float, float] | Sequence[float] | None


def guided(
    model: Network, scale: float, *, plus_plus: bool = False, interval: Interval = None, rescale: float = 0.0
) -> Denoiser:
    """`model` with classifier-free guidance. Both halves go through the network in one call.

    The result takes two more arguments, `cond` and `uncond`. They are two tensors of shape (B, ...), or two mappings of
    keyword arguments for the model, with the same names. Two tensors are stacked, and the model gets them as its
    `cond`. In two mappings, tensors of shape (B, ...) are stacked, also in mappings within them. Everything else in
    them must be equal, and is passed on. Other keyword arguments are passed on, too; tensors of shape (B, ...) among
    them are repeated.

    Args:
        model: A `Denoiser`, or a function called as model(x, sigma, **conditioning).
        scale: s, from 0 to 1000; 0 is unconditional, 1 is conditional. With CFG++ mostly below 1.
        plus_plus: Whether the noise of a step is told without guidance, as in CFG++. The loops of this package and
            `kdpm2.batching` do this. Other loops see the guided clean sample alone, with a warning.
        interval: The two noise levels between which there is guidance, the lower one left out. None for everywhere.
        rescale: φ, from 0 to 1: how much of the contrast of a large scale is taken back.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If one is out of range.
    """
    denoiser = as_denoiser(model)
    return Guided(denoiser, Guidance.of(denoiser.schedule, scale, plus_plus, interval, rescale))


class Guidance(NamedTuple):
    """How the outputs with and without the condition become one.

    Each value is a number for all samples, or a tensor of shape (B,) with one for each.

    Attributes:
        scale: s.
        rescale: φ.
        low: There is guidance above this timestep,
        high: and up to this one.
        plus_plus: Whether it is CFG++; in a tensor 1 or 0.
    """

    scale: float | torch.Tensor
    rescale: float | torch.Tensor = 0.0
    low: float | torch.Tensor = -np.inf
    high: float | torch.Tensor = np.inf
    plus_plus: bool | torch.Tensor = False

    @classmethod
    def of(
        cls,
        schedule: NoiseSchedule,
        scale: float,
        plus_plus: bool = False,
        interval: Interval = None,
        rescale: float = 0.0,
    ) -> "Guidance":
        """The guidance that a caller asks for.

        Args:
            schedule: What the model was trained on.
            scale: As in `guided`.
            plus_plus: As in `guided`.
            interval: As in `guided`.
            rescale: As in `guided`.

        Raises:
            TypeError: If an argument has the wrong type.
            ValueError: If one is out of range.
        """
        scale, share = _check.number("scale", scale, 0, LARGEST_SCALE), _check.number("rescale", rescale, 0, 1)
        low, high = (-np.inf, np.inf) if interval is None else _timesteps(schedule, interval)
        return cls(scale, share, low, high, _check.flag("plus_plus", plus_plus))

    def check(self, table: StageTable) -> None:
        """See that it can guide a run along this table; ValueError if not."""
        if self.plus_plus and table.keeps_estimate:
            raise ValueError("plus_plus must be False with keep_estimate, whose steps have no sample at their start")

    def __call__(self, without: torch.Tensor, with_it: torch.Tensor, timestep: torch.Tensor) -> Outputs:
        """What a stage follows, from outputs of shape (B, ...) and timesteps of shape () or (B,)."""

        def each(value: Any) -> Any:
            if not isinstance(value, torch.Tensor):
                return value
            return value.to(without.dtype).reshape(-1, *[1] * (without.ndim - 1))

        followed = torch.lerp(without, with_it, each(self.scale))
        if isinstance(self.rescale, torch.Tensor) or self.rescale:
            followed = torch.lerp(followed, _of_contrast(followed, with_it), each(self.rescale))
        if isinstance(self.low, torch.Tensor) or self.low > -np.inf or self.high < np.inf:
            inside = each((timestep > self.low) & (timestep <= self.high)) > 0
            followed, without = torch.where(inside, followed, with_it), torch.where(inside, without, with_it)
        if isinstance(self.plus_plus, torch.Tensor):
            return Outputs(followed, torch.where(each(self.plus_plus) > 0, without, followed))
        return Outputs(followed, without if self.plus_plus else None)


def _timesteps(schedule: NoiseSchedule, interval: Interval) -> tuple[float, float]:
    """The timesteps of the two noise levels of an interval; infinite beyond the levels that there are."""
    levels = _check.numbers("interval", interval, most=2)
    if levels.shape != (2,) or not 0 <= levels[0] < levels[1]:
        raise ValueError(f"interval must be two noise levels, from 0 on and rising, got {_check.shown(interval)}")
    low, high = np.clip(levels, _check.SMALLEST, schedule.largest)
    lowest = float(schedule.timestep(low)) if levels[0] else -np.inf
    return lowest, float(schedule.timestep(high)) if levels[1] < schedule.largest else np.inf


def _of_contrast(guided: torch.Tensor, with_it: torch.Tensor) -> torch.Tensor:
    """The guided output with the contrast of the one with the condition."""
    axes = list(range(1, guided.ndim))
    before, after = (each.std(dim=axes, keepdim=True) for each in (with_it, guided))
    return guided * (before / after)


class Guided(Around):
    """`guided`'s result: the network is called once for both halves."""

    def __init__(self, inner: Denoiser, guidance: Guidance) -> None:
        super().__init__(inner)
        self._guidance = guidance

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor, **conditioning: Any) -> torch.Tensor:
        """The guided clean sample.

        Warns:
            UserWarning: If the guidance is CFG++, of which a loop that calls this function knows nothing.
        """
        if self._guidance.plus_plus:
            warnings.warn(_IN_ANOTHER_LOOP, stacklevel=2)
        return super().__call__(x, sigma, **conditioning)

    def check(self, table: StageTable) -> None:
        """CFG++ changes the sample at the start of a step, which a table that keeps estimates does not have."""
        super().check(table)
        self._guidance.check(table)

    def outputs(
        self,
        x: torch.Tensor,
        timestep: torch.Tensor,
        *,
        cond: Any = None,
        uncond: Any = None,
        **conditioning: Any,
    ) -> Outputs:
        """The guided output, and with CFG++ the one without the condition."""
        halves = (_arguments("uncond", uncond), _arguments("cond", cond))
        stacked = _stacked("conditioning", conditioning, conditioning, len(x)) | _stacked("cond", *halves, len(x))
        both = self.inner.predict(torch.cat([x, x]), torch.cat([timestep, timestep]), **stacked)
        without, with_it = both.chunk(2)
        return self._guidance(without, with_it, timestep)


def _arguments(name: str, value: Any) -> Mapping[str, Any]:
    if isinstance(value, torch.Tensor):
        return {"cond": value}
    if not isinstance(value, Mapping):
        raise TypeError(
            f"the conditioning of a guided model must have {name}, a tensor or a mapping of keyword arguments, "
            f"got {_check.shown(value)}"
        )
    return value


def _stacked(name: str, uncond: Any, cond: Any, batch: int) -> Any:
    """What the batched call is given for one argument of both halves."""
    if isinstance(uncond, Mapping) and isinstance(cond, Mapping):
        if uncond.keys() != cond.keys():
            raise ValueError(
                f"{name} must have the same names in cond and uncond, got {', '.join(cond)} and {', '.join(uncond)}"
            )
        return {key: _stacked(key, uncond[key], cond[key], batch) for key in cond}
    if isinstance(uncond, torch.Tensor) and isinstance(cond, torch.Tensor):
        if not (is_dense(uncond) and is_dense(cond) and uncond.device == cond.device and uncond.dtype == cond.dtype):
            raise ValueError(
                f"{name} must be dense tensors of one dtype and device in cond and uncond, "
                f"got {described(cond)} and {described(uncond)}"
            )
        if uncond.shape == cond.shape and cond.shape[:1] == (batch,):
            return torch.cat([uncond, cond])
        same = torch.equal(uncond, cond)
    else:
        same = uncond is cond or bool(np.array_equal(uncond, cond))
    if not same:
        raise ValueError(
            f"{name} must be a tensor of shape ({batch}, ...) in cond and uncond if it differs between them, "
            f"got {described(cond)} and {described(uncond)}"
        )
    return cond
