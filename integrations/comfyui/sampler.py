r"""ComfyUI's sampler functions over kdpm2's tables.

ComfyUI calls a sampler function with a denoiser, samples at the first noise level and the noise levels themselves, as
k-diffusion's functions are called. Here these make one table (`kdpm2.table`), and one loop runs it.

Samples of a model whose `model_sampling` is a CONST are mixed, :math:`x = (1-\sigma)\,x_0 + \sigma n`. Those of every
other model are :math:`x_0 + \sigma n`. A model may want noise of another standard deviation than 1: its `noise_scale`.
All noise is multiplied by it.

Where ComfyUI's own functions go wrong, these give what the mathematics asks for:

- If η is so large that all noise of a step is new, `sample_dpm_2_ancestral` forgets the noise, and for a flow its
  result is not a number. Here the noise is added.
- Where noise levels rise, it takes the network's guess for the next sample. Here such a step adds no noise.
- Levels after a first 0 make it divide by 0. Here the run is over at the first.
- `sample_dpm_2` adds the noise of churn to a flow's samples and leaves their data as it is. Here the data shrink.
"""

from collections.abc import Callable, Mapping
from typing import Any

import comfy.model_sampling
import numpy as np
import torch

from kdpm2 import loop, update
from kdpm2.asked_for import asked_for
from kdpm2.denoiser import Denoiser
from kdpm2.loop import Run
from kdpm2.noise import Source
from kdpm2.noise_schedule import SigmaConditioned
from kdpm2.table import Churn, StageTable

from .noise import noise_sampler_of

_ROUNDED = 1e-6  # by as much a flow's level may be above 1, having been a float32 number


class _Drawn(Source):
    """The noise of steps from a noise sampler, which is told the two noise levels."""

    def __init__(self, noise_sampler: Callable[[Any, Any], torch.Tensor], sigmas: torch.Tensor) -> None:
        self._noise_sampler, self._sigmas = noise_sampler, sigmas

    def draw(self, step: int, like: torch.Tensor) -> torch.Tensor:
        return self._noise_sampler(self._sigmas[step], self._sigmas[step + 1])


@torch.no_grad()
def sample_kdpm2_ancestral(
    model: Any,
    x: torch.Tensor,
    sigmas: torch.Tensor,
    extra_args: Mapping[str, Any] | None = None,
    callback: Callable[[dict[str, Any]], object] | None = None,
    disable: bool | None = None,
    eta: float = 1.0,
    s_noise: float = 1.0,
    noise_sampler: Callable[[Any, Any], torch.Tensor] | None = None,
    s_churn: float = 0.0,
    s_tmin: float = 0.0,
    s_tmax: float = float("inf"),
    noise: str = "gaussian",
    per_image: bool = False,
) -> torch.Tensor:
    """DPM2 with ancestral sampling, called as ComfyUI calls its `sample_dpm_2_ancestral`.

    Args:
        model: What ComfyUI hands to a sampler function: called as model(x, sigma, **extra_args), with sigma of shape
            (B,), it returns the clean sample. Its `inner_model.inner_model` has the `model_sampling`.
        x: Shape (B, ...), floating point: samples at the first noise level.
        sigmas: Shape (N+1,): where the steps start, and the end, in most runs 0.
        extra_args: Keyword arguments for the model; its `seed` is that of the noise.
        callback: Called once a step with a dictionary of `x`, `i`, `sigma`, `sigma_hat` and `denoised`.
        disable: True for no progress bar.
        eta: Stochasticity, at least 0: 0 is deterministic, 1 ancestral.
        s_noise: Scale of all noise, at least 0.
        noise_sampler: A function of sigma and the next sigma that returns noise like `x`; None for that of `noise`.
        s_churn: How much noise the run adds to go up before it goes down, at least 0.
        s_tmin: Smallest sigma at which a step is churned.
        s_tmax: Largest such sigma.
        noise: One of `noise.NOISES`.
        per_image: Whether image i of the batch has the noise of seed + i, whatever its neighbours.

    Returns:
        A new tensor like `x`.

    Raises:
        ValueError: If an option is out of range, or contradicts another.
    """
    seen = dict(extra_args or {})
    model_sampling = model.inner_model.inner_model.model_sampling
    flow = isinstance(model_sampling, comfy.model_sampling.CONST)
    denoiser = Denoiser(model, SigmaConditioned(flow), "sample")
    levels = _levels(sigmas, flow)
    s_noise = s_noise * float(getattr(model_sampling, "noise_scale", 1.0))
    table = asked_for(denoiser.schedule, levels, "sample", eta, s_noise, Churn(s_churn, s_tmin, s_tmax))
    if not len(table):
        return x.clone()
    if noise_sampler is None:
        top = max(float(model_sampling.sigma_max), float(levels.max()))
        noise_sampler = noise_sampler_of(noise, x, seen.get("seed"), per_image, top, churned=s_churn > 0)
    source = _Drawn(noise_sampler, torch.from_numpy(levels).to(x.device, torch.promote_types(x.dtype, torch.float32)))
    x = _churned(x, table, source)
    # ComfyUI draws at every ancestral step, whether its noise counts or not; with churn, only what counts.
    run = Run(table, denoiser, source, seen, callback, disable, draws_every_step=eta > 0)
    return loop.eager(run, x)


@torch.no_grad()
def sample_kdpm2(
    model: Any,
    x: torch.Tensor,
    sigmas: torch.Tensor,
    extra_args: Mapping[str, Any] | None = None,
    callback: Callable[[dict[str, Any]], object] | None = None,
    disable: bool | None = None,
    s_churn: float = 0.0,
    s_tmin: float = 0.0,
    s_tmax: float = float("inf"),
    s_noise: float = 1.0,
) -> torch.Tensor:
    """DPM2, deterministic but for EDM's churn, called as ComfyUI calls its `sample_dpm_2`.

    The arguments are those of `sample_kdpm2_ancestral`. The noise of churn is that of the seed.
    """
    return sample_kdpm2_ancestral(
        model, x, sigmas, extra_args, callback, disable, 0.0, s_noise, None, s_churn, s_tmin, s_tmax
    )


def _levels(sigmas: torch.Tensor, flow: bool) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The noise levels up to the first 0 that only zeros follow."""
    levels = sigmas.detach().cpu().double().numpy()
    above = np.flatnonzero(levels)
    levels = levels[: (int(above[-1]) if len(above) else -1) + 2]
    return np.where((levels > 1) & (levels <= 1 + _ROUNDED), 1.0, levels) if flow else levels


def _churned(x: torch.Tensor, table: StageTable, source: Source) -> torch.Tensor:
    """The samples with the noise of the first step's churn; that of others is in the rows before them."""
    if not table.initial_noise:
        return x
    return update.begun(table, x, source.draw(0, x))
