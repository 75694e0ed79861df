"""What a whole loop of 25 steps costs, network included: the digits model, and a policy of a robot's size.

Every project samples in its own way: the schedulers as in a pipeline, k-diffusion through its own denoisers for
discrete-time models, kdpm2 through `kdpm2.sample` as well, in each of its modes.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from typing import Any, NamedTuple

import torch

import kdpm2
from benchmarks import projects
from benchmarks.policy import Policy
from benchmarks.timing import Case, Run, Time, Work, nothing, side_by_side, summary
from kdpm2 import noise_schedule, spacing

STEPS = 25
_REPEATS_OF_DIGITS = 5


class Model(NamedTuple):
    """A network, what it was trained on, and what a loop starts from and is conditioned on.

    Attributes:
        network: Called as network(sample, timestep, **conditioning), returns a tensor.
        config: The model's options, as a scheduler's constructor takes them.
        x: Standard normal noise of the sample's shape.
        conditioning: Keyword arguments for the network.
    """

    network: Callable[..., torch.Tensor]
    config: Mapping[str, Any]
    x: torch.Tensor
    conditioning: Mapping[str, torch.Tensor]


def cases(repeats: int, quick: bool) -> Iterator[Case]:
    """The digits for one image and for four; the policy with and without `set_timesteps` at every call."""
    for batch in (1,) if quick else (1, 4):
        name = f"loop digits, batch {batch}"
        yield Case(name, partial(measured, name, partial(digits, batch), min(repeats, _REPEATS_OF_DIGITS), often=1))
    for always, how in ((True, "set_timesteps at every call"), (False, "set_timesteps once")):
        name = f"loop policy, {how}"
        yield Case(name, partial(measured, name, policy, repeats, often=3, always=always))


def measured(
    name: str,
    model: Callable[[], Model],
    repeats: int,
    *,
    often: int,
    always: bool = True,
    synchronize: Callable[[], None] = nothing,
) -> list[Time]:
    """The times of a whole loop, run `often` on the clock; `always` counts what sets its timesteps in."""
    times = side_by_side(works(model(), often, always), repeats, synchronize)
    return [summary(name, project, each) for project, each in times.items()]


def digits(batch: int) -> Model:
    """The built-in digits model."""
    from kdpm2.zoo import digits as pipeline  # of diffusers, without which the policy can be measured

    unet = pipeline().unet

    def network(sample: torch.Tensor, timestep: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = unet(sample, timestep, labels).sample
        return output

    config = {"beta_schedule": "scaled_linear", "prediction_type": "v_prediction"}
    return Model(network, config, torch.randn(batch, 1, 8, 8), {"labels": torch.arange(batch)})


def policy(device: str = "cpu") -> Model:
    """The policy, on linear betas: with those that diffusion policies mostly have, diffusers' samples can be NaN."""
    observation = torch.randn(1, Policy.OBSERVATION, device=device)
    config = {"beta_schedule": "linear", "prediction_type": "epsilon"}
    x = torch.randn(1, *Policy.ACTIONS, device=device)
    return Model(Policy().to(device).eval(), config, x, {"observation": observation})


def works(model: Model, often: int, always: bool) -> dict[str, Work]:
    """What each project does for `often` whole loops."""
    loops = _of_schedulers(model, always) | _of_k_diffusion(model, always) | _of_sample(model, always)
    return {project: _finite(project, loop, often) for project, loop in loops.items()}


def modes(device: torch.device) -> dict[str, dict[str, Any]]:
    """The modes of `kdpm2.sample` that run here, each with the arguments that ask for it."""
    if "mode" not in inspect.signature(kdpm2.sample).parameters:
        return {"kdpm2.sample": {}}
    found: dict[str, dict[str, Any]] = {"kdpm2.sample": {"mode": "eager"}}
    if _compiles(device.type):
        found["kdpm2.sample compile"] = {"mode": "compile"}
    if device.type == "cuda":
        found["kdpm2.sample graph"] = {"mode": "graph"}
    return found


@cache
def _compiles(device: str) -> bool:
    """Whether torch finds the compiler that it needs for a device."""
    try:
        torch.compile(torch.neg)(torch.ones(2, device=device))
    except Exception:  # of any kind, from a missing compiler to an unknown processor
        return False
    return True


def _finite(project: str, loop: Callable[[], torch.Tensor], often: int) -> Work:
    @contextmanager
    def work() -> Iterator[Run]:
        results: list[torch.Tensor] = []

        def run() -> int:
            for _ in range(often):
                results.append(loop())
            return often

        with torch.no_grad():
            yield run
        if not all(bool(result.isfinite().all()) for result in results):
            raise RuntimeError(f"samples must be finite, got others from {project}")

    return work


def _of_schedulers(model: Model, always: bool) -> dict[str, Callable[[], torch.Tensor]]:
    def loop(scheduler: Any) -> torch.Tensor:
        if always:
            scheduler.set_timesteps(STEPS, device=model.x.device)
        else:
            projects.begin_anew(scheduler)
        x: torch.Tensor = model.x * scheduler.init_noise_sigma
        for timestep in scheduler.timesteps:
            output = model.network(scheduler.scale_model_input(x, timestep), timestep, **model.conditioning)
            x = scheduler.step(output, timestep, x, return_dict=False)[0]
        return x

    loops: dict[str, Callable[[], torch.Tensor]] = {}
    for project, cls in projects.classes("ancestral").items():
        scheduler = cls(**model.config)
        scheduler.set_timesteps(STEPS, device=model.x.device)
        loops[project] = partial(loop, scheduler)
    return loops


def _of_k_diffusion(model: Model, always: bool) -> dict[str, Callable[[], torch.Tensor]]:
    sampling, external = projects.k_diffusion("sampling"), projects.k_diffusion("external")
    if sampling is None or external is None:
        return {}
    names = {"epsilon": "DiscreteEpsDDPMDenoiser", "v_prediction": "DiscreteVDDPMDenoiser"}
    wrapper = getattr(external, names[model.config["prediction_type"]])
    alphas_cumprod = torch.tensor(_schedule(model).alphas_cumprod)
    denoiser = wrapper(model.network, alphas_cumprod, quantize=False).to(model.x.device)
    once = denoiser.get_sigmas(STEPS)

    def loop() -> torch.Tensor:
        sigmas = denoiser.get_sigmas(STEPS) if always else once
        x = model.x * sigmas[0]
        result: torch.Tensor = sampling.sample_dpm_2_ancestral(
            denoiser, x, sigmas, extra_args=model.conditioning, disable=True
        )
        return result

    return {"k-diffusion": loop}


def _of_sample(model: Model, always: bool) -> dict[str, Callable[[], torch.Tensor]]:
    schedule = _schedule(model)
    denoiser = kdpm2.Denoiser(model.network, schedule, model.config["prediction_type"])
    once = spacing.steps(schedule, STEPS).sigmas

    def loop(mode: Mapping[str, Any]) -> torch.Tensor:
        sigmas = spacing.steps(schedule, STEPS).sigmas if always else once
        x = model.x * float(sigmas[0])
        return kdpm2.sample(denoiser, x, sigmas, conditioning=model.conditioning, **mode)

    return {project: partial(loop, mode) for project, mode in modes(model.x.device).items()}


def _schedule(model: Model) -> noise_schedule.VariancePreserving:
    return noise_schedule.discrete(beta_schedule=model.config["beta_schedule"])
