r"""Loops over a table: a run of DPM2 from noise to samples, without diffusers.

`sample` takes a denoiser, noise and sigmas. `sample_dpm_2_ancestral` and `sample_dpm_2` have the parameters and the
samples of k-diffusion's functions of these names. For these two, `from kdpm2 import sampling` replaces
`from k_diffusion import sampling`. Each loop reads one table: a stage calls the network at its noise level, and applies
its row.

Each takes a function model(x, sigma) or a `kdpm2.Denoiser`. If the denoiser is that of a flow, the ancestral step is
ComfyUI's.

References:
    | https://github.com/crowsonkb/k-diffusion
    | Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022):
      https://arxiv.org/abs/2206.00364
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from kdpm2 import _check, curves, graph, loop, state, update
from kdpm2._check_tensor import check_like, floating, kind_of, on_device
from kdpm2.asked_for import asked_for
from kdpm2.by_step import ByStep
from kdpm2.denoiser import Denoiser, Network, as_denoiser
from kdpm2.loop import Callback, Run
from kdpm2.noise import Noise, Seeds, Source, checked_seeds, kind_named
from kdpm2.noise_schedule import NoiseSchedule
from kdpm2.table import Churn, StageTable

Sigmas: TypeAlias = torch.Tensor | NDArray[Any] | Sequence[float]

MODES = {"eager": loop.eager, "compile": loop.compiled, "graph": graph.played}

_LARGEST_EXPONENT = 80  # sigma is then e^40, and its square still a float32 number


@torch.no_grad()
def sample(
    denoiser: Network,
    x: torch.Tensor | None,
    sigmas: Sigmas | StageTable,
    *,
    eta: ByStep = 1.0,
    s_noise: ByStep = 1.0,
    seeds: Seeds = None,
    noise: str = "gaussian",
    conditioning: Mapping[str, Any] | None = None,
    flow: bool | None = None,
    callback: Callback | None = None,
    progress: bool = False,
    mode: str = "eager",
    resume: dict[str, Any] | None = None,
    keep_estimate: bool = False,
) -> torch.Tensor:
    """Samples from a denoiser, by DPM2. `eta` says how much of the noise of steps is fresh.

    Args:
        denoiser: A `kdpm2.Denoiser`, or a function of x (B, ...) and sigma (B,) that returns the clean sample.
        x: Shape (B, ...), floating point: samples at the first noise level, for most models `sigmas[0]` times standard
            normal noise.
        sigmas: Shape (N+1,): the noise levels where the steps start, and the end, which is mostly 0. A single sigma
            makes no step. A `kdpm2.table.StageTable` may be given instead: any sampler, with its own eta and s_noise.
        eta: How much of the noise is fresh, at least 0: 0 is deterministic, 1 ancestral. It may change on the way, as
            `kdpm2.by_step` says.
        s_noise: Scale of the noise, at least 0; likewise.
        seeds: Seeds of the noise: one for the batch, or one for each sample. With one for each, a sample does not
            depend on its neighbours. None for torch's global generator.
        noise: A name of `kdpm2.noise.NOISES`: "gaussian", "brownian" or "philox". With "brownian" the pictures of one
            seed converge as you add steps. "philox" is the same on every device, and a GPU makes it where it is added.
            With "philox" and one seed, each sample of the batch takes the next seed.
        conditioning: Keyword arguments for the denoiser.
        flow: Whether samples are mixed as (1-σ)·x0 + σ·n. Only for a function that does not say so itself.
        callback: Called once a step with a dictionary. `i` is the step. `x` is the samples before it; do not write to
            them. `sigma` and `sigma_hat` are the step's noise level without and with churn. `denoised` is the estimate
            of the clean samples. `state` is a function without arguments that returns the state of the run, for
            `resume`. Call it within the callback. `kdpm2.state` writes a state to a file.
        progress: Whether to show a bar.
        mode: How the samples are made. They are the same to float32's precision. "eager" calls the network as it is.
            "compile" has torch compile a stage, including the network, when a network or a shape is new. "graph" plays
            the whole run as one CUDA graph. It is recorded when a network, a shape or a schedule is new, and allows no
            callback; see `kdpm2.graph`.
        resume: The state of a run that was stopped. Give the other arguments as for that run. It then continues, and
            its samples are the same bit for bit. `x` and `seeds` are not used, and may be None.
        keep_estimate: Whether each step keeps the estimate of the step before in the place of its first network call:
            N+1 calls in all, instead of 2N-1 (`kdpm2.kept`). A table says this itself.

    Returns:
        A new tensor like `x`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range, or contradicts another.
    """
    model = _called(denoiser, flow, callback, "conditioning", conditioning)
    x = _check_samples(x if resume is None else _stopped_at(resume, noise))
    table = _table(model.schedule, sigmas, model.prediction_type, eta, s_noise, keep_estimate)
    model.check(table)
    seeds = checked_seeds("seeds", seeds)
    if isinstance(seeds, list) and len(seeds) != len(x):
        raise ValueError(f"seeds must be one seed, or one for each of the {len(x)} samples, got {len(seeds)}")
    chosen = _check.choice("mode", mode, MODES)
    if chosen == "graph" and callback is not None:
        raise ValueError("callback must be None with mode='graph', which calls nothing when it is played")
    disable = not _check.flag("progress", progress)
    kind = kind_named(noise)
    kind.check(table)
    source = kind.of(seeds, table, x) if resume is None else kind.of_state(resume["noise"], x)
    if resume is not None:
        state.check_digest(resume, table)
    start = 0 if resume is None else _check.integer("stage", resume["stage"], 0, len(table) - 1)
    stopped = partial(_state, noise, source, table)
    anchor = None if resume is None else resume.get("anchor")
    given = dict(conditioning or {})
    run = Run(table, model, source, given, callback, disable, start=start, anchor=anchor, stopped=stopped)
    return _made(MODES[chosen], run, x)


@torch.no_grad()
def sample_dpm_2_ancestral(
    model: Network,
    x: torch.Tensor,
    sigmas: Sigmas | StageTable,
    extra_args: Mapping[str, Any] | None = None,
    callback: Callback | None = None,
    disable: bool | None = None,
    eta: ByStep = 1.0,
    s_noise: ByStep = 1.0,
    noise_sampler: Callable[[Any, Any], torch.Tensor] | None = None,
) -> torch.Tensor:
    """DPM2 with ancestral sampling, like k-diffusion's function of this name.

    The samples are the same, with two exceptions. If `eta` is so large that all of a step's noise is new, k-diffusion
    forgets to add it. Where sigmas rise, it returns the clean samples of that step, unless `eta` is 0. Here such a step
    adds no noise, with a warning.

    Args:
        model: A function of x (B, ...) and sigma (B,) that returns the clean sample, or a `kdpm2.Denoiser`.
        x: Shape (B, ...), floating point: samples at the first noise level.
        sigmas: Shape (N+1,): where the steps start, and the end. Or a `kdpm2.table.StageTable`, as `sample` takes it.
        extra_args: Keyword arguments for the model.
        callback: Called once a step with a dictionary of `x`, `i`, `sigma`, `sigma_hat` and `denoised`.
        disable: True for no progress bar, False for one, None for one on a terminal.
        eta: Stochasticity, at least 0.
        s_noise: Scale of the noise, at least 0.
        noise_sampler: A function of sigma and the next sigma, tensors of shape (), that returns noise like `x`; torch's
            normal noise if None. `kdpm2.noise.Brownian` is one.

    Returns:
        A new tensor like `x`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range.
    """
    denoiser = _called(model, None, callback, "extra_args", extra_args)
    _check_bar(disable)
    _check_samples(x)
    table = asked_for(denoiser.schedule, sigmas, denoiser.prediction_type, eta, s_noise)
    if noise_sampler is not None and not callable(noise_sampler):
        raise TypeError(f"noise_sampler must be callable or None, got {_check.shown(noise_sampler)}")
    kind = kind_of("x", x)
    given = torch.from_numpy(table.sigmas).to(x.device, torch.promote_types(x.dtype, torch.float32))

    def draw(step: int) -> torch.Tensor:
        if noise_sampler is None:
            return torch.randn_like(x)
        drawn = noise_sampler(given[step], given[step + 1])
        check_like("what noise_sampler returns", drawn, "x", kind)
        return drawn

    source = _Called(draw, fresh=noise_sampler is None)
    run = Run(table, denoiser, source, dict(extra_args or {}), callback, disable, draws_every_step=True)
    return _made(loop.eager, run, x)


@torch.no_grad()
def sample_dpm_2(
    model: Network,
    x: torch.Tensor,
    sigmas: Sigmas | StageTable,
    extra_args: Mapping[str, Any] | None = None,
    callback: Callback | None = None,
    disable: bool | None = None,
    s_churn: float = 0.0,
    s_tmin: float = 0.0,
    s_tmax: float = float("inf"),
    s_noise: float = 1.0,
) -> torch.Tensor:
    """DPM2 with EDM's churn, like k-diffusion's function of this name.

    The noise comes from torch's global generator. It is drawn when k-diffusion draws it: at every step of a run with
    churn, even if the step does not use it.

    Args:
        model: A function of x (B, ...) and sigma (B,) that returns the clean sample, or a `kdpm2.Denoiser`.
        x: Shape (B, ...), floating point: samples at the first noise level.
        sigmas: Shape (N+1,): where the steps start, and the end. Or a `kdpm2.table.StageTable`, as `sample` takes it.
        extra_args: Keyword arguments for the model.
        callback: Called once a step with a dictionary of `x`, `i`, `sigma`, `sigma_hat` and `denoised`.
        disable: True for no progress bar, False for one, None for one on a terminal.
        s_churn: How much noise the run adds before its steps, at least 0.
        s_tmin: Smallest sigma at which a step is churned, at least 0.
        s_tmax: Largest such sigma.
        s_noise: Scale of the noise, at least 0.

    Returns:
        A new tensor like `x`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range.
    """
    denoiser = _called(model, None, callback, "extra_args", extra_args)
    _check_bar(disable)
    _check_samples(x)
    churn = Churn(s_churn, s_tmin, s_tmax)
    eta = 1.0 if isinstance(sigmas, StageTable) else 0.0
    table = asked_for(denoiser.schedule, sigmas, denoiser.prediction_type, eta, s_noise, churn)
    churned = bool(table.adds_noise.any()) or table.initial_noise > 0

    def draw(step: int) -> torch.Tensor:
        return torch.randn_like(x)

    if churned:
        x = update.begun(table, x, draw(0))
    source = _Called(draw, fresh=True)
    run = Run(table, denoiser, source, dict(extra_args or {}), callback, disable, draws_every_step=churned)
    return _made(loop.eager, run, x)


def _made(way: Callable[[Run, torch.Tensor], torch.Tensor], run: Run, x: torch.Tensor) -> torch.Tensor:
    return way(run, x) if len(run.table) else x.clone()


class _Called(Source):
    """Noise from a function of the step, which may keep what it returns."""

    def __init__(self, function: Callable[[int], torch.Tensor], fresh: bool) -> None:
        self._function, self.fresh = function, fresh

    def draw(self, step: int, like: torch.Tensor) -> torch.Tensor:
        return self._function(step)


def _table(
    schedule: NoiseSchedule,
    sigmas: Sigmas | StageTable,
    prediction_type: str,
    eta: ByStep,
    s_noise: ByStep,
    keep_estimate: bool,
) -> StageTable:
    """The table of a run, kept for the next: a robot samples the same way ten times a second."""
    numbers = {type(eta), type(s_noise)} <= {int, float}  # True would be found where 1 was kept
    # What may change has no hash.
    if isinstance(sigmas, StageTable) or type(schedule).__hash__ is None or not numbers:
        return asked_for(schedule, sigmas, prediction_type, eta, s_noise, keep_estimate=keep_estimate)
    levels, keeps = _check.numbers("sigmas", sigmas).tobytes(), _check.flag("keep_estimate", keep_estimate)
    return _kept_table(schedule, levels, prediction_type, eta, s_noise, keeps)


@lru_cache(maxsize=16)
def _kept_table(
    schedule: NoiseSchedule, levels: bytes, prediction_type: str, eta: ByStep, s_noise: ByStep, keeps: bool
) -> StageTable:
    return asked_for(schedule, np.frombuffer(levels), prediction_type, eta, s_noise, keep_estimate=keeps)


def _state(
    kind: str, noise: Noise, table: StageTable, stage: int, samples: torch.Tensor, anchor: torch.Tensor | None
) -> dict[str, Any]:
    """The state of a run that stands at a stage."""
    told = {"kind": kind, "noise": noise.state(), "digest": state.digest(table)}
    kept = {} if anchor is None else {"anchor": anchor.clone()}
    return told | {"stage": stage, "sample": samples.clone()} | kept


def _stopped_at(resume: Any, noise: str) -> torch.Tensor:
    """The samples of a run that was stopped; TypeError or ValueError if that is no such state, or of another noise."""
    if not isinstance(resume, dict) or not {"kind", "noise", "stage", "sample", "digest"} <= resume.keys():
        raise TypeError(f"resume must be a state that a callback was given, or None, got {_check.shown(resume)}")
    if resume["kind"] != noise:
        raise ValueError(f"noise must be that of the run that was stopped, {resume['kind']!r}, got {noise!r}")
    held: torch.Tensor = resume["sample"]
    return held


def _check_samples(x: Any) -> torch.Tensor:
    if not isinstance(x, torch.Tensor) or not x.is_floating_point() or not x.ndim:
        raise TypeError(f"x must be a floating-point tensor of shape (B, ...), got {_check.shown(x)}")
    return floating("x", x)


def _called(model: Network, flow: bool | None, callback: Any, conditioning_name: str, conditioning: Any) -> Denoiser:
    """The denoiser of a run, whose other functions and keyword arguments are such."""
    if callback is not None and not callable(callback):
        raise TypeError(f"callback must be callable or None, got {_check.shown(callback)}")
    if conditioning is not None and not isinstance(conditioning, Mapping):
        raise TypeError(
            f"{conditioning_name} must be a mapping of keyword arguments or None, got {_check.shown(conditioning)}"
        )
    wrong = [name for name in conditioning or {} if not isinstance(name, str) or name in ("x", "sigma")]
    if wrong:
        raise ValueError(
            f"{conditioning_name} must have names of the model's keyword arguments, got {_check.shown(wrong[0])}"
        )
    return as_denoiser(model, flow)


def _check_bar(disable: Any) -> None:
    if disable is not None:
        _check.flag("disable", disable)


def _with_zero(sigmas: NDArray[np.float64], device: str | torch.device) -> torch.Tensor:
    return on_device(torch.tensor([*sigmas, 0.0], dtype=torch.float32, device="cpu"), device)


def get_sigmas_karras(
    n: int, sigma_min: float, sigma_max: float, rho: float = 7.0, device: str | torch.device = "cpu"
) -> torch.Tensor:
    """Shape (n+1,), float32: `kdpm2.curves.karras`, and a final 0."""
    return _with_zero(curves.karras(sigma_max, sigma_min, _check.count("n", n), rho), device)


def get_sigmas_exponential(
    n: int, sigma_min: float, sigma_max: float, device: str | torch.device = "cpu"
) -> torch.Tensor:
    """Shape (n+1,), float32: `kdpm2.curves.exponential`, and a final 0."""
    return _with_zero(curves.exponential(sigma_max, sigma_min, _check.count("n", n)), device)


def get_sigmas_polyexponential(
    n: int, sigma_min: float, sigma_max: float, rho: float = 1.0, device: str | torch.device = "cpu"
) -> torch.Tensor:
    """Shape (n+1,), float32: `kdpm2.curves.polyexponential`, and a final 0."""
    return _with_zero(curves.polyexponential(sigma_max, sigma_min, _check.count("n", n), rho), device)


def get_sigmas_vp(
    n: int,
    beta_d: float = 19.9,
    beta_min: float = 0.1,
    eps_s: float = 1e-3,
    device: str | torch.device = "cpu",
) -> torch.Tensor:
    r"""Shape (n+1,), float32: a continuous variance-preserving schedule, and a final 0.

    :math:`\sigma(t) = \sqrt{e^{\beta_d t^2/2 + \beta_{min} t} - 1}` for t evenly from 1 to `eps_s`: the VP process of
    Song et al. (2020), https://arxiv.org/abs/2011.13456, as Karras et al. write it.
    """
    t = np.linspace(1, _check.positive("eps_s", eps_s), _check.count("n", n))
    exponent = _check.positive("beta_d", beta_d) * t**2 / 2 + _check.number("beta_min", beta_min, 0, np.inf) * t
    if not 0 < exponent.max() <= _LARGEST_EXPONENT:
        raise ValueError(
            f"beta_d and beta_min must give an exponent of at most {_LARGEST_EXPONENT}, got {exponent.max():g}"
        )
    return _with_zero(np.sqrt(np.expm1(exponent)), device)
