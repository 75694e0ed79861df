"""Requests of `serve` and `Server`, a network that reads all they bring along, and each one's sample made alone."""

import threading
from typing import Any

import numpy as np
import torch

import kdpm2
from kdpm2 import noise_schedule, spacing
from kdpm2.batching import Request
from tests.batching.requests import SHAPE

SCHEDULE = noise_schedule.discrete()
MOST = 20  # seconds, after which a thread that should have gone on is taken to hang


def network(x: torch.Tensor, timestep: torch.Tensor, by: torch.Tensor, more: Any, factor: torch.Tensor) -> torch.Tensor:
    each = [-1, *[1] * (x.ndim - 1)]
    assert by.shape == x.shape
    assert factor.shape == (len(x),)
    output: torch.Tensor = torch.tanh(x + by) * more["scale"].reshape(each) + (factor * torch.cos(timestep)).reshape(
        each
    )
    return output


DENOISER = kdpm2.Denoiser(network, SCHEDULE)


def sigmas(steps: int = 3) -> np.ndarray[Any, Any]:
    return spacing.steps(SCHEDULE, steps).sigmas


def request(seed: int, steps: int | None = None, **changes: Any) -> Request:
    levels = sigmas(2 + seed % 5 if steps is None else steps)
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(SHAPE, generator=generator, dtype=torch.float64) * float(levels[0])
    conditioning = {
        "by": torch.randn(SHAPE, generator=generator, dtype=torch.float64),
        "more": {"scale": torch.tensor(1.0 + seed / 10)},
        "factor": 0.1 * seed,
    }
    return Request(**{"sigmas": levels, "x": x, "seed": seed, "conditioning": conditioning, **changes})


def alone(one: Request, noise: str = "gaussian", denoiser: Any = DENOISER) -> torch.Tensor:
    given = one.conditioning
    conditioning = {
        "by": given["by"][None],
        "more": {"scale": given["more"]["scale"][None]},
        "factor": torch.tensor([given["factor"]]),
    }
    assert one.x is not None
    assert one.sigmas is not None
    kwargs: dict[str, Any] = {"eta": one.eta, "s_noise": one.s_noise, "noise": noise, "conditioning": conditioning}
    return kdpm2.sample(denoiser, one.x[None], one.sigmas, seeds=[one.seed or 0], **kwargs)[0]


def check(made: torch.Tensor, one: Request, noise: str = "gaussian") -> None:
    torch.testing.assert_close(made, alone(one, noise), rtol=1e-9, atol=1e-9)


OPTIONS: dict[str, Any] = {"shape": SHAPE, "dtype": torch.float64}


class Gate:
    """A network that goes on when it is told to."""

    def __init__(self) -> None:
        self.open, self.reached = threading.Event(), threading.Event()
        self.batches: list[int] = []
        self.denoiser = kdpm2.Denoiser(self, SCHEDULE)

    def __call__(self, x: torch.Tensor, timestep: torch.Tensor, **conditioning: Any) -> torch.Tensor:
        self.batches.append(len(x))
        self.reached.set()
        assert self.open.wait(MOST)
        return network(x, timestep, **conditioning)


class BrokenError(Exception):
    """Of a network."""
