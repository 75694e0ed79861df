"""Requests of all kinds, and each one's sample made alone by `kdpm2.sample`, which knows of no batches."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import kdpm2
from kdpm2 import noise_schedule, spacing
from kdpm2.batching import BatchedSolver, Finished
from kdpm2.table import StageTable, dpm2

SHAPE = (2, 3)

MODELS = {
    "epsilon": (noise_schedule.discrete(), "epsilon"),
    "v_prediction": (noise_schedule.discrete(beta_schedule="scaled_linear"), "v_prediction"),
    "sample": (noise_schedule.discrete(), "sample"),
    "edm": (noise_schedule.EDM(0.5), "epsilon"),
    "flow": (noise_schedule.RectifiedFlow(shift=3.0), "flow_prediction"),
}
CURVES = {
    "epsilon": (None, "karras", "exponential"),
    "v_prediction": (None, "karras", "exponential"),
    "sample": (None, "karras", "exponential"),
    "edm": ("karras", "exponential"),
    "flow": (None,),
}


@dataclass
class Wanted:
    """A request, and how to make its sample alone."""

    model: str
    sigmas: NDArray[np.float64]
    eta: float
    seed: int
    x: torch.Tensor
    by: torch.Tensor

    @property
    def table(self) -> StageTable:
        schedule, prediction_type = MODELS[self.model]
        steps = spacing.Steps(self.sigmas, schedule.timestep(self.sigmas[:-1]))
        return dpm2(schedule, steps, prediction_type, self.eta)

    def alone(self, noise: str = "gaussian") -> torch.Tensor:
        denoiser = kdpm2.Denoiser(network, *MODELS[self.model])
        kwargs: dict[str, Any] = {"seeds": [self.seed], "noise": noise, "conditioning": {"by": self.by[None]}}
        return kdpm2.sample(denoiser, self.x[None], self.sigmas, eta=self.eta, **kwargs)[0]


def network(x: torch.Tensor, timestep: torch.Tensor, by: torch.Tensor) -> torch.Tensor:
    """Another for every timestep and condition, and smooth, so that differences stay as small as they are."""
    each = [-1, *[1] * (x.ndim - 1)]
    return torch.tanh(0.5 * x + by) + 0.1 * torch.cos(timestep).reshape(each)


def wanted(
    random: np.random.Generator, dtype: torch.dtype = torch.float64, most_steps: int = 60, shape: Any = SHAPE
) -> Wanted:
    """A request drawn at random."""
    model = str(random.choice(list(MODELS)))
    curve = CURVES[model][random.integers(len(CURVES[model]))]
    sigmas = spacing.steps(MODELS[model][0], int(random.integers(4, most_steps + 1)), sigma_curve=curve).sigmas
    seed = int(random.integers(2**63)) * 2 + int(random.integers(2))
    drawn = torch.from_numpy(random.standard_normal(shape)).to(dtype)
    by = torch.from_numpy(random.standard_normal(shape)).to(dtype)
    eta = float(random.choice([0.0, 0.3, 1.0, 1.0, 2.5]))
    return Wanted(model, sigmas, eta, seed, drawn * float(sigmas[0]), by)


def advanced(solver: BatchedSolver, requests: dict[int, Wanted]) -> list[Finished]:
    """One stage of all there is; the network's output in empty places is not a number."""
    ids, x, _, timestep = solver.next_inputs()
    by = (
        torch.stack([torch.zeros(x.shape[1:], dtype=x.dtype) if i is None else requests[i].by for i in ids])
        if ids
        else x
    )
    output = network(x, timestep, by)
    output[[i for i, each in enumerate(ids) if each is None]] = torch.nan
    assert x.isfinite().all()
    return solver.advance(output)
