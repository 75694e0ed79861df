"""A model of each family, with noise levels to visit."""

import torch

from kdpm2 import noise_schedule
from kdpm2.denoiser import Denoiser, Network
from kdpm2.noise_schedule import NoiseSchedule

MODELS: dict[str, tuple[NoiseSchedule, str, list[float]]] = {
    "betas": (noise_schedule.discrete(), "v_prediction", [14.0, 6.0, 2.0, 0.7, 0.2, 0.0]),
    "flow": (noise_schedule.RectifiedFlow(), "flow_prediction", [1.0, 0.9, 0.7, 0.4, 0.15, 0.0]),
    "EDM": (noise_schedule.EDM(), "epsilon", [80.0, 20.0, 5.0, 1.0, 0.2, 0.0]),
}


def denoiser(name: str, network: Network) -> Denoiser:
    """A network as one of a family."""
    schedule, prediction, _ = MODELS[name]
    return Denoiser(network, schedule, prediction)


def start(name: str) -> torch.Tensor:
    """Where a run begins, shape (3, 4), at the first of the levels."""
    noise = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return noise * MODELS[name][2][0]
