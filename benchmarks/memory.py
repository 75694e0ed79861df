"""The most memory that a run has at once, to the byte, as torch's profiler sees it."""

import json
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

import kdpm2
from benchmarks import projects
from benchmarks.timing import Case, Memory
from kdpm2 import noise_schedule, spacing

NAME = "memory of a 10-step loop"
STEPS = 10
# So large that what else is allocated, timesteps and sigmas, is nothing beside it.
SHAPE = (1, 4, 128, 128)


def peak(run: Callable[[], object]) -> int:
    """The most bytes of tensors on the CPU that a call has at once, beyond what there was before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    changes = [event for event in events if event.get("name") == "[memory]"]
    held = most = 0
    for change in sorted(changes, key=lambda event: float(event["ts"])):
        held += int(change["args"]["Bytes"])
        most = max(most, held)
    return most


def cases() -> Iterator[Case]:
    """One case: what every project's loop needs beyond the network, which returns a tensor that is there already."""
    yield Case(NAME, _measured)


def _measured() -> list[Memory]:
    x = torch.randn(SHAPE)
    size = x.numel() * x.element_size()
    return [Memory(NAME, project, peak(run) / size) for project, run in _loops(x, torch.randn(SHAPE)).items()]


def _loops(x: torch.Tensor, output: torch.Tensor) -> dict[str, Callable[[], object]]:
    loops: dict[str, Callable[[], object]] = {}
    for project, cls in projects.classes("ancestral").items():
        scheduler = cls()
        scheduler.set_timesteps(STEPS)
        loops[project] = partial(_of_a_pipeline, scheduler, x, lambda scaled, timestep: output)
    sigmas = spacing.steps(noise_schedule.discrete(), STEPS).sigmas
    k_diffusion = projects.k_diffusion("sampling")
    if k_diffusion is not None:
        levels = torch.tensor(sigmas, dtype=torch.float32)
        function = k_diffusion.sample_dpm_2_ancestral
        loops["k-diffusion"] = partial(function, lambda x, sigma: output, x, levels, disable=True)
    denoiser = kdpm2.Denoiser(lambda scaled, timestep: output, noise_schedule.discrete())
    loops["kdpm2.sample"] = partial(kdpm2.sample, denoiser, x, sigmas)
    return loops


@torch.no_grad()
def _of_a_pipeline(scheduler: Any, latents: torch.Tensor, network: Callable[..., torch.Tensor]) -> torch.Tensor:
    """As the pipelines of diffusers are written, with what their variables keep alive."""
    for timestep in scheduler.timesteps:
        model_input = scheduler.scale_model_input(latents, timestep)
        predicted = network(model_input, timestep)
        latents = scheduler.step(predicted, timestep, latents, return_dict=False)[0]
    return latents
