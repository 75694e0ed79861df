"""The order of the sampler, on data for which the answer is known.

For Gaussian data of standard deviation s the denoiser is linear, so that every stage is, and the variance of the
samples follows a recursion: no samples are drawn. The exact variance at σ is s² + σ², or that of the flow's mixture.
"""

from itertools import pairwise

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import kdpm2
from kdpm2 import curves, noise_schedule, sampling, spacing, table

STD = 0.5
ETAS = [0.0, 0.5, 1.0]
COUNTS = [40, 80, 160, 320]


def alpha(sigma: float, flow: bool) -> float:
    return 1 - sigma if flow else 1.0


def exact(sigma: float, flow: bool) -> float:
    return (alpha(sigma, flow) * STD) ** 2 + sigma**2


def gain(sigma: float, flow: bool) -> float:
    """The denoiser's factor: the clean sample to be expected is gain times x."""
    return alpha(sigma, flow) * STD**2 / exact(sigma, flow)


def levels(steps: int, flow: bool) -> NDArray[np.float64]:
    return np.linspace(0.98, 0.02, steps + 1) if flow else curves.exponential(20.0, 0.05, steps + 1)


def variance_of_dpm2(steps: int, eta: float, flow: bool) -> float:
    sigmas = levels(steps, flow)
    schedule = noise_schedule.SigmaConditioned(flow)
    made = table.dpm2(schedule, spacing.Steps(sigmas, sigmas[:-1]), "sample", eta)
    variance = exact(sigmas[0], flow)
    for stage in range(0, len(made), 2):
        first, second = made.row(stage), made.row(stage + 1)
        to_middle = first.x + first.model * gain(made.stage_sigmas[stage], flow)
        from_middle = second.x + second.model * gain(made.stage_sigmas[stage + 1], flow)
        variance = (second.anchor + from_middle * to_middle) ** 2 * variance + second.noise**2
    return variance


def variance_of_euler_ancestral(steps: int, eta: float, flow: bool) -> float:
    sigmas = levels(steps, flow)
    variance = exact(sigmas[0], flow)
    for sigma, following in pairwise(sigmas):
        if flow:
            down = following * (1 + eta * (following / sigma - 1))
            ratio = (1 - following) / (1 - down)
            up = np.sqrt(following**2 - (down * ratio) ** 2)
        else:
            up = eta * following * np.sqrt(1 - (following / sigma) ** 2)
            down, ratio = np.sqrt(following**2 - up**2), 1.0
        factor = ratio * (1 + (down - sigma) * (1 - gain(sigma, flow)) / sigma)
        variance = factor**2 * variance + up**2
    return float(variance)


def orders(variance: list[float], flow: bool) -> NDArray[np.float64]:
    errors = np.abs(np.array(variance) - exact(0.02 if flow else 0.05, flow))
    return np.log2(errors[:-1] / errors[1:])


@pytest.mark.parametrize("flow", [False, True], ids=["x0 + sigma n", "flow"])
@pytest.mark.parametrize("eta", ETAS)
def test_second_order_where_euler_ancestral_has_first(eta: float, flow: bool) -> None:
    ours = orders([variance_of_dpm2(steps, eta, flow) for steps in COUNTS], flow)
    eulers = orders([variance_of_euler_ancestral(steps, eta, flow) for steps in COUNTS], flow)
    # The flow's sigmas are evenly spaced, so that at few steps those near its end are far apart in the logarithm.
    assert (ours[-1] if flow else ours.min()) >= 1.9
    assert eulers.max() < 1.1


@pytest.mark.parametrize("eta", ETAS)
def test_samples_have_the_variance_of_the_recursion(eta: float) -> None:
    sigmas = levels(8, flow=False)
    x = np.sqrt(exact(20.0, flow=False)) * torch.randn(400_000, 1, dtype=torch.float64)
    samples = sampling.sample(kdpm2.zoo.gaussian(STD), x, sigmas, eta=eta, seeds=1)
    assert samples.var().item() == pytest.approx(variance_of_dpm2(8, eta, flow=False), rel=0.01)


@pytest.mark.parametrize("eta", [0.5, 1.0])
@pytest.mark.parametrize("flow", [False, True], ids=["x0 + sigma n", "flow"])
def test_brownian_noise_makes_one_seed_converge(eta: float, flow: bool) -> None:
    """Strong convergence: 2N steps move the samples of one seed less than N steps did."""
    means = torch.tensor([[-0.8, 0.2], [0.6, -0.4]], dtype=torch.float64)
    model = kdpm2.zoo.GaussianMixture(means, 0.5, flow)
    x = torch.randn(2000, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    runs = {}
    for noise, counts in {"brownian": (10, 20, 40, 80, 160), "gaussian": (80, 160)}.items():
        samples = []
        for steps in counts:
            sigmas = np.append(np.linspace(1, 0.02, steps) if flow else curves.karras(10.0, 0.02, steps), 0.0)
            samples.append(sampling.sample(model, x * sigmas[0], sigmas, eta=eta, seeds=3, noise=noise))
        runs[noise] = [(b - a).square().mean().sqrt().item() for a, b in pairwise(samples)]
    assert all(b < a for a, b in pairwise(runs["brownian"]))
    assert runs["brownian"][-1] < 0.15 * runs["gaussian"][-1]


def report() -> None:
    """Print the table of docs/options.md."""
    for flow in (False, True):
        for eta in ETAS:
            ours, eulers = (
                orders([variance(steps, eta, flow) for steps in COUNTS], flow)
                for variance in (variance_of_dpm2, variance_of_euler_ancestral)
            )
            columns = " | ".join(" ".join(f"{order:.2f}" for order in row) for row in (ours, eulers))
            print(f"| {'flow' if flow else 'x0 + σn'} | {eta} | {columns} |")


if __name__ == "__main__":
    report()
