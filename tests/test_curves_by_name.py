"""The schedules of other projects, against their formulas written down once more."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats

from kdpm2 import curves, noise_schedule, spacing

BETAS = noise_schedule.discrete(beta_schedule="scaled_linear")
FLOW = noise_schedule.RectifiedFlow(shift=3.0)
EDM = noise_schedule.EDM()
COUNTS = [2, 3, 4, 5, 10, 31]


@pytest.mark.parametrize("count", COUNTS)
def test_kl_optimal_is_even_in_the_angle(count: int) -> None:
    made = curves.kl_optimal(14.6, 0.03, count)
    i = np.arange(count) / (count - 1)
    np.testing.assert_allclose(made, np.tan(i * math.atan(0.03) + (1 - i) * math.atan(14.6)), rtol=1e-12)
    flow = curves.kl_optimal(1.0, 0.03, count, flow=True)
    np.testing.assert_allclose(np.diff(np.arctan2(flow, 1 - flow)), -(np.pi / 2 - math.atan2(0.03, 0.97)) / (count - 1))


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize(("flow", "high"), [(False, 14.6), (False, 80.0), (True, 1.0), (True, 0.9)])
def test_laplace_has_even_quantiles(count: int, flow: bool, high: float) -> None:
    made = curves.laplace(high, 0.03, count, flow=flow)
    with np.errstate(divide="ignore"):
        share = stats.laplace.cdf(np.log(made / (1 - made) if flow else made), scale=0.5)
    np.testing.assert_allclose(share, np.linspace(share[0], share[-1], count), atol=1e-12)
    assert (made[0], made[-1]) == (high, 0.03)


@pytest.mark.parametrize("count", COUNTS)
def test_linear_quadratic_joins_smoothly_and_reaches_zero(count: int) -> None:
    made = np.append(curves.linear_quadratic(14.6, count), 0) / 14.6
    linear = count // 2
    np.testing.assert_allclose(made[: linear + 1], 1 - 0.025 * np.arange(linear + 1) / linear, rtol=1e-12)
    bends = np.diff(made[linear:], 2)
    np.testing.assert_allclose(bends, bends.mean() if len(bends) else [], rtol=1e-9)
    # The parabola begins with the slope of the line.
    curved = np.polyfit(np.arange(count - linear + 1), made[linear:], min(2, count - linear))
    assert count - linear < 2 or curved[1] == pytest.approx(-0.025 / linear, rel=1e-6)


def bong_tangent(steps: int) -> list[float]:
    """RES4LYF's rule with its defaults: start 1, middle 0.5, end 0, pivots 0.6, slopes 0.2."""
    total = steps + 2
    first = int(total * 0.6)
    slope = 0.2 / (total / 40)
    values = []
    for length, pivot, top, low in ((first, first, 1.0, 0.5), (total - first, 0, 0.5, 0.0)):
        raw = [(2 / math.pi * math.atan(-slope * (x - pivot)) + 1) / 2 for x in range(length)]
        scaled = [(value - raw[-1]) / (raw[0] - raw[-1]) * (top - low) + low for value in raw]
        values.append(scaled)
    return values[0][:-1] + values[1]


@pytest.mark.parametrize("count", COUNTS)
def test_bong_tangent_is_that_of_its_project(count: int) -> None:
    expected = bong_tangent(count)
    assert len(expected) == count + 1
    np.testing.assert_allclose(np.append(curves.bong_tangent(1.0, count), 0), expected, atol=1e-12)


@pytest.mark.parametrize("name", ["kl_optimal", "cosine", "laplace", "linear_quadratic", "bong_tangent"])
@pytest.mark.parametrize("schedule", [BETAS, FLOW, EDM], ids=["betas", "flow", "EDM"])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_every_family_has_falling_levels_or_says_why_not(name: str, schedule: Any, count: int) -> None:
    if name == "bong_tangent" and not schedule.flow:
        with pytest.raises(ValueError, match="sigma_curve must be another than 'bong_tangent', which is for flows"):
            spacing.steps(schedule, count, sigma_curve=name)
        return
    made = spacing.steps(schedule, count, sigma_curve=name)
    assert len(made.timesteps) == count
    assert (np.diff(made.sigmas) < 0).all()
    assert made.sigmas[-1] == 0


WRONG: dict[str, tuple[Callable[[], object], str]] = {
    "an end": (
        lambda: spacing.steps(BETAS, 5, sigma_curve="linear_quadratic", sigma_min=0.1),
        "sigma_min must be None for linear_quadratic sigmas, which go to 0",
    ),
    "an exponent": (
        lambda: spacing.steps(BETAS, 5, sigma_curve="laplace", rho=2),
        "rho must be None for laplace sigmas",
    ),
}


@pytest.mark.parametrize(("wrong", "message"), WRONG.values(), ids=WRONG)
def test_what_they_do_not_take(wrong: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wrong()
