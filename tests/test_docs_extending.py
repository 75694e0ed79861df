"""docs/extending.md: its code runs as it stands there, and does what the page says."""

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import kdpm2
from kdpm2 import curves
from kdpm2.noise import NOISES
from kdpm2.noise_schedule import VariancePreserving, discrete

PAGE = (Path(__file__).parents[1] / "docs" / "extending.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.fixture(scope="module")
def names() -> Iterator[dict[str, Any]]:
    """The names that the page's code defines, in order; what it adds to the package goes again."""
    made: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(VariancePreserving, "predictions", dict(VariancePreserving.predictions))
        curves_before, noises_before = dict(curves.SIGMA_CURVES), dict(NOISES)
        for number, block in enumerate(BLOCKS):
            exec(compile(block, f"docs/extending.md, block {number}", "exec"), made)
        yield made
    for name in curves.SIGMA_CURVES.keys() - curves_before.keys():
        del curves.SIGMA_CURVES[name]
    for name in NOISES.keys() - noises_before.keys():
        del NOISES[name]


def test_heun_has_order_two(names: dict[str, Any]) -> None:
    assert names["order"] == pytest.approx(2, abs=0.1)
    assert names["error"](80) < 1e-4


def test_heun_is_heuns_method(names: dict[str, Any]) -> None:
    schedule, sigmas = discrete(), np.array([9.0, 3.0, 0.8, 0.0])
    made = names["heun"](schedule, kdpm2.spacing.given(schedule, sigmas), "v_prediction")

    def network(x: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x) + 0.001 * timestep.reshape(-1, 1)

    denoiser = kdpm2.Denoiser(network, schedule, "v_prediction")
    x = torch.randn(2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 9

    def slope(x: torch.Tensor, sigma: float) -> torch.Tensor:
        return (x - denoiser(x, torch.full((2,), sigma, dtype=torch.float64))) / sigma

    expected = x
    for sigma, following in pairwise(sigmas):
        first = slope(expected, sigma)
        reached = expected + (following - sigma) * first
        if following > 0:
            reached = expected + (following - sigma) * (first + slope(reached, following)) / 2
        expected = reached
    torch.testing.assert_close(kdpm2.sample(denoiser, x, made), expected, rtol=1e-6, atol=1e-6)


def test_requests_of_both_solvers_share_a_batch(names: dict[str, Any]) -> None:
    assert len(names["samples"]) == 2
    assert all(sample.isfinite().all() for sample in names["samples"])


def test_a_curve_is_visited(names: dict[str, Any]) -> None:
    sigmas = names["scheduler"].table.sigmas
    top, bottom = names["scheduler"].table.sigmas[[0, -2]]
    np.testing.assert_allclose(sigmas[:-1], bottom + (top - bottom) * np.linspace(1, 0, 10) ** 2)


def test_a_score_leads_where_its_noise_does(names: dict[str, Any]) -> None:
    sigma = torch.full((2,), 3.0, dtype=torch.float64)
    x = torch.randn(2, 3, dtype=torch.float64)
    noise = kdpm2.Denoiser(lambda x, t: -3.0 * torch.tanh(x), discrete())
    torch.testing.assert_close(names["by_score"](x, sigma), noise(x, sigma))


def test_a_family_of_ones_own_is_sampled(names: dict[str, Any]) -> None:
    assert names["made"].isfinite().all()
    schedule = names["LogConditioned"]()
    assert schedule.sigma(schedule.timestep(7.0)) == pytest.approx(7.0)


def test_a_kind_of_noise_is_drawn(names: dict[str, Any]) -> None:
    first, second = names["pair"]
    torch.testing.assert_close(first, -second)
    assert first.abs().min() > 0
