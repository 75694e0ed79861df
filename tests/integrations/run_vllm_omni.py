"""vLLM-Omni's step-wise worker with our schedulers: its request states, its input batch and its call of a scheduler.

`python -m tests.integrations.run_vllm_omni FOLDER`, where FOLDER holds the package vllm_omni, from its wheel. Requests
of different lengths join one after another. Each picture is compared with that of the request alone. Then one
`BatchedSolver` takes the place of one scheduler a request, and what the host and torch do is counted.
"""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from kdpm2 import noise
from kdpm2.batching import BatchedSolver
from tests.integrations.checkouts import INTEGRATIONS, Network, Report, loaded, shells, without

SHAPE = (1, 4, 8, 8)
LENGTHS = (4, 9, 6, 12, 5, 9, 7, 10)
TEXT = torch.full((3, 5), 0.4)


def modules(folder: Path) -> Any:
    """vLLM-Omni's states, batches and scheduler calls."""
    without("vllm", "vllm_omni.diffusion.interaction", "vllm_omni.diffusion.distributed.parallel_state")
    shells(folder, "vllm_omni.diffusion.worker", "vllm_omni.diffusion.distributed")
    from vllm_omni.diffusion.distributed import cfg_parallel
    from vllm_omni.diffusion.worker import input_batch, utils

    return SimpleNamespace(cfg=cfg_parallel.CFGParallelMixin, batch=input_batch, states=utils)


class Counted(TorchDispatchMode):
    """How many operations torch was asked for."""

    count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Called in place of each."""
        self.count += 1
        return function(*args, **kwargs or {})


def scheduler_of(adapter: Any, seed: int) -> Any:
    """A flow's scheduler, with a seed."""
    own = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0).config
    return adapter.KDPM2AncestralScheduler.from_config(own, seed=seed)


def state(vllm: Any, adapter: Any, place: int, steps: int) -> Any:
    """A request, as a pipeline's `prepare_encode` leaves it."""
    scheduler = scheduler_of(adapter, place)
    scheduler.set_timesteps(sigmas=torch.linspace(1.0, 1 / steps, steps, dtype=torch.float64).tolist(), device="cpu")
    scheduler.set_begin_index(0)
    made = vllm.states.StepRequestState(request_id=str(place), sampling=SimpleNamespace())
    made.latents = torch.randn(SHAPE, generator=noise.generator_of(place))
    made.scheduler, made.timesteps, made.prompt_embeds = scheduler, scheduler.timesteps, TEXT[None]
    return made


def stepwise(vllm: Any, states: list[Any], network: Any, together: int) -> tuple[list[torch.Tensor], int, int]:
    """All requests by vLLM-Omni's way; samples, calls of the network, and operations but for the network's."""
    waiting, running, calls, counted = list(states), list[Any](), 0, 0
    pipeline = vllm.cfg.__new__(type("Pipeline", (vllm.cfg,), {}))
    while waiting or running:
        while waiting and len(running) < together:
            running.append(waiting.pop(0))
        with Counted() as seen:
            batch = vllm.batch.InputBatch.make_batch(running)
        output, calls = network(batch.latents, batch.timesteps, batch.prompt_embeds), calls + 1
        with seen:
            for each, predicted in zip(running, output.split(1), strict=True):
                each.latents = pipeline.scheduler_step_maybe_with_cfg(
                    predicted, each.current_timestep, each.latents, False, per_request_scheduler=each.scheduler
                )
                each.step_index += 1
        counted += seen.count
        running = [each for each in running if not each.denoise_completed]
    return [each.latents for each in states], calls, counted


def with_one_solver(states: list[Any], network: Any, together: int) -> tuple[list[torch.Tensor], int, int]:
    """The same requests, whose schedulers give tables to one solver."""
    solver, waiting, places, calls, counted = BatchedSolver(SHAPE[1:]), list(states), dict[int, int](), 0, 0
    samples: dict[int, torch.Tensor] = {}
    while waiting or len(solver):
        while waiting and len(solver) < together:
            each = waiting.pop(0)
            made = solver.admit(each.scheduler.table, x=each.latents[0], seed=int(each.request_id))
            places[made] = int(each.request_id)
        with Counted() as seen:
            ids, x, _, timestep = solver.next_inputs()
        output, calls = network(x, timestep, TEXT.expand(len(ids), -1, -1)), calls + 1
        with seen:
            samples.update({places[made]: sample[None] for made, sample in solver.advance(output)})
        counted += seen.count
    return [samples[place] for place in sorted(samples)], calls, counted


@torch.no_grad()
def main(folder: str) -> int:
    """Run the cases."""
    vllm, report, network = modules(Path(folder)), Report(), Network()
    adapter = loaded("kdpm2_vllm_omni", INTEGRATIONS / "vllm_omni" / "kdpm2_vllm_omni.py")

    def states() -> list[Any]:
        return [state(vllm, adapter, place, steps) for place, steps in enumerate(LENGTHS)]

    alone = [stepwise(vllm, [each], network, 1)[0][0] for each in states()]
    for together in (1, 3, 8):
        batched, calls, operations = stepwise(vllm, states(), network, together)
        solved, own_calls, own_operations = with_one_solver(states(), network, together)
        for place, expected in enumerate(alone):
            report.compare(f"step-wise, {together} together, request {place}", batched[place], expected)
            report.compare(f"one solver, {together} together, request {place}", solved[place], expected)
        print(
            f"{together} together: a scheduler a request {calls} network calls and {operations} other operations, "
            f"one solver {own_calls} and {own_operations}"
        )
    return report.done()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
