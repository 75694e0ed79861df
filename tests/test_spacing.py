from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdpm2 import noise_schedule, spacing

SCHEDULE = noise_schedule.discrete()


def timesteps(count: int, timestep_spacing: str, **options: Any) -> list[float]:
    return list(spacing.steps(SCHEDULE, count, timestep_spacing, **options).timesteps)


def test_spacings_by_hand() -> None:
    assert timesteps(4, "linspace") == [999, 666, 333, 0]
    assert timesteps(4, "leading") == [750, 500, 250, 0]
    assert timesteps(4, "leading", steps_offset=1) == [751, 501, 251, 1]
    assert timesteps(4, "trailing") == [999, 749, 499, 249]
    assert timesteps(4, "linspace", num_train_timesteps=301) == [300, 200, 100, 0]
    assert timesteps(1, "linspace") == [999]
    assert timesteps(1, "leading", steps_offset=3) == [3]
    assert timesteps(1, "trailing") == [999]


def test_offset_stops_at_the_last_trained_timestep() -> None:
    assert timesteps(1000, "leading", steps_offset=1)[0] == 999
    assert timesteps(20, "leading", steps_offset=200)[:2] == [999, 949]


@given(
    count=st.integers(2, 1000),
    timestep_spacing=st.sampled_from(["linspace", "leading", "trailing"]),
    curve=st.sampled_from([None, "karras", "exponential", "beta"]),
    offset=st.integers(0, 1000),
)
def test_sigmas_fall_strictly_within_the_trained_range(
    count: int, timestep_spacing: str, curve: str | None, offset: int
) -> None:
    sigmas, t = spacing.steps(SCHEDULE, count, timestep_spacing, offset, curve)
    assert len(t) == count
    assert sigmas[-1] == 0
    sigmas = sigmas[:-1]
    assert len(sigmas) == count
    assert np.all(np.diff(sigmas) < 0)
    assert sigmas[-1] >= SCHEDULE.sigmas[0] * (1 - 1e-12)
    assert sigmas[0] <= SCHEDULE.sigmas[-1] * (1 + 1e-12)
    assert np.all(np.diff(t) <= 0)
    assert t[-1] >= 0
    assert t[0] <= 999
    np.testing.assert_array_equal(t, t.astype(np.float32) if curve in (None, "karras") else t)
    if curve != "karras":
        np.testing.assert_allclose(sigmas, np.exp(np.interp(t, np.arange(1000), SCHEDULE.log_sigmas)), rtol=0.02)


def test_karras_timesteps_are_whole_and_the_others_are_not() -> None:
    for curve in ("karras", "exponential", "beta"):
        t = spacing.steps(SCHEDULE, 20, sigma_curve=curve).timesteps
        assert np.array_equal(t, t.round()) == (curve == "karras")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_inference_steps": 0}, "num_inference_steps must be an integer at least 1, got 0"),
        ({"num_inference_steps": 5, "timestep_spacing": "even"}, "timestep_spacing must be one of .* got 'even'"),
        ({"num_inference_steps": 5, "steps_offset": -1}, "steps_offset must be an integer from 0 to 1000, got -1"),
        ({"num_inference_steps": 5, "sigma_curve": "cubic"}, "sigma_curve must be one of .* got 'cubic'"),
        ({"num_inference_steps": 5, "num_train_timesteps": 1001}, "num_train_timesteps must be .* 1 to 1000, got 1001"),
        ({"num_inference_steps": 1001, "timestep_spacing": "trailing"}, "at most num_train_timesteps=1000 with"),
    ],
)
def test_wrong_values_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        spacing.steps(SCHEDULE, **arguments)
