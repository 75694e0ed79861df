"""A robot's policy in NumPy: actions are drawn by diffusion, from what was demonstrated, anew at every observation.

The policy of this example is no network: it knows four demonstrations, paths around an obstacle, and says which clean
path a noisy one comes from. A network that predicts the clean sample is called in just the same way.
"""

import numpy as np
from numpy.typing import NDArray

from kdpm2 import KDPM2DiscreteScheduler

HORIZON = 16  # actions of one plan, each a place in the plane
SPREAD = 0.05  # of paths around a demonstration
Array = NDArray[np.float64]


def demonstrations(start: Array) -> Array:
    """Shape (4, HORIZON, 2): paths from `start` to (1, 0), two above the obstacle at the origin and two below."""
    along = np.linspace(0, 1, HORIZON)
    straight = start + along[:, None] * (np.array([1.0, 0.0]) - start)
    bends = np.sin(np.pi * along)[:, None] * np.array([0.0, 1.0])
    return np.stack([straight + height * bends for height in (0.6, 0.9, -0.6, -0.9)])


def policy(noisy: Array, sigma: float, start: Array) -> Array:
    """The clean paths to be expected, (B, HORIZON, 2), from noisy ones at a noise level."""
    known = demonstrations(start)
    variance = SPREAD**2 + sigma**2
    squares = ((noisy[:, None] - known) ** 2).sum(axis=(2, 3))
    weights = np.exp(-(squares - squares.min(axis=1, keepdims=True)) / (2 * variance))
    weights /= weights.sum(axis=1, keepdims=True)
    mean: Array = np.einsum("bk,kha->bha", weights, known)
    clean: Array = mean + SPREAD**2 / variance * (noisy - mean)
    return clean


def main() -> None:
    """Plan eight paths from one observation, and say on which side they pass."""
    start = np.array([-1.0, 0.1])
    scheduler = KDPM2DiscreteScheduler(prediction_type="sample")
    scheduler.set_timesteps(10)
    x = np.random.default_rng(0).standard_normal((8, HORIZON, 2)) * float(scheduler.init_noise_sigma)
    for stage, timestep in enumerate(scheduler.timesteps):
        sigma = float(scheduler.table.stage_sigmas[stage])
        scheduler.scale_model_input(x, timestep)  # for a network; this policy takes x as it is
        x = scheduler.step(policy(x, sigma, start), timestep, x).prev_sample
    nearest = np.abs(x).max(axis=2).min(axis=1)
    sides = ["above" if path[HORIZON // 2, 1] > 0 else "below" for path in x]
    print(f"{sides.count('above')} paths pass above, {sides.count('below')} below; nearest {nearest.min():.2f}")


if __name__ == "__main__":
    main()
