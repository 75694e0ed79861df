"""What a device sees of a run: how often it is waited for, and what loops and a large stage pair take.

Every function takes a device and returns records; on "cpu" it does what makes sense there. The drop-in schedulers and
the comparison with diffusers are left out where diffusers cannot be imported.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

import kdpm2
from benchmarks import loops, pairs, projects
from benchmarks.report import GPU_CASES, SYNCHRONISATIONS, as_dict
from benchmarks.timing import nothing
from kdpm2 import noise_schedule, spacing

REPEATS = 21
STEPS = 25
SHAPE = (1, 4, 128, 128)
# As many elements as GPU_CASES says; a CPU is to show that it runs.
LARGE = {"cuda": (1, 64_000_000), "cpu": (1, 64_000)}

Loop = Callable[[], object]


def synchronisations(device: str) -> list[dict[str, Any]]:
    """For each loop "none", or what torch says of the first wait for the device."""
    found = []
    for case, loop in _loops(device).items():
        loop()  # what is made at the first run, and compiled, is not of the loop
        try:
            with _forbidden(device):
                loop()
            waits = "none"
        except RuntimeError as error:
            waits = str(error).splitlines()[0]
        found.append({"case": case, "waits": waits})
    return found


def policy(device: str) -> list[dict[str, Any]]:
    """Whole loops around the policy: diffusers, the drop-in, and `kdpm2.sample` in each of its modes."""
    records = []
    for name in GPU_CASES["loops"]:
        always = name.endswith("every call")
        model = partial(loops.policy, device)
        records += loops.measured(name, model, REPEATS, often=3, always=always, synchronize=_waiting(device))
    return [as_dict(record) for record in records if record.project != "k-diffusion"]


def pair(device: str) -> list[dict[str, Any]]:
    """A stage pair of a sample that fills the device, without its noise."""
    works = partial(pairs.works, LARGE[device], torch.float32, device, noise=False)
    name = f"pair of {LARGE[device][1]:,} elements, without its noise"
    records = pairs.measured(name, works, REPEATS, synchronize=_waiting(device))
    return [as_dict(record) for record in records if record.project != "k-diffusion"]


def _loops(device: str) -> dict[str, Loop]:
    """The loops that must not wait: from after `set_timesteps` to the last step, or all of `kdpm2.sample`."""
    x, output = torch.randn(SHAPE, device=device), torch.randn(SHAPE, device=device)
    own, numbers, *_ = GPU_CASES[SYNCHRONISATIONS]
    found: dict[str, Loop] = {}
    cls = projects.classes("ancestral").get("kdpm2")
    if cls is not None:
        scheduler = cls()
        scheduler.set_timesteps(STEPS, device=device)
        found[own] = partial(_of_scheduler, scheduler, scheduler.timesteps, x, output)
        found[numbers] = partial(_of_scheduler, scheduler, scheduler.timesteps.tolist(), x, output)
    denoiser = kdpm2.Denoiser(lambda scaled, timestep: output, noise_schedule.discrete())
    sigmas = spacing.steps(noise_schedule.discrete(), STEPS).sigmas
    for project, mode in loops.modes(torch.device(device)).items():
        if project in GPU_CASES[SYNCHRONISATIONS]:
            found[project] = partial(kdpm2.sample, denoiser, x, sigmas, **mode)
    return found


def _of_scheduler(scheduler: Any, timesteps: Any, x: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
    for timestep in timesteps:
        scheduler.scale_model_input(x, timestep)
        x = scheduler.step(output, timestep, x, return_dict=False)[0]
    return x


@contextmanager
def _forbidden(device: str) -> Iterator[None]:
    """Let every wait for the device be an error."""
    if device == "cpu":
        yield
        return
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def _waiting(device: str) -> Callable[[], None]:
    return nothing if device == "cpu" else torch.cuda.synchronize
