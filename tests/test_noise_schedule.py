import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from kdpm2 import noise_schedule


def test_cosine_betas_follow_the_formula() -> None:
    def alpha_bar(t: float) -> float:
        return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2

    betas = noise_schedule.discrete(50, beta_schedule="squaredcos_cap_v2").betas
    expected = [min(1 - alpha_bar((i + 1) / 50) / alpha_bar(i / 50), 0.999) for i in range(50)]
    np.testing.assert_allclose(betas, expected, rtol=1e-6)
    assert betas[-1] == np.float32(0.999)


def test_trained_betas_are_taken_as_they_are() -> None:
    betas = [0.1, 0.2, 0.3]
    for given in (betas, np.array(betas)):
        schedule = noise_schedule.discrete(3, trained_betas=given)
        np.testing.assert_array_equal(schedule.betas, np.array(betas, dtype=np.float32))
    np.testing.assert_allclose(schedule.alphas_cumprod, [0.9, 0.72, 0.504], rtol=1e-6)
    np.testing.assert_allclose(schedule.sigmas, np.sqrt(1 / np.array([0.9, 0.72, 0.504]) - 1), rtol=1e-6)


def test_sigma_and_timestep_are_inverse_where_trained() -> None:
    schedule = noise_schedule.discrete()
    trained = np.arange(1000)
    np.testing.assert_array_equal(schedule.sigma(trained), schedule.sigmas)
    np.testing.assert_allclose(schedule.timestep(schedule.sigmas), trained, atol=1e-9)


def test_between_trained_timesteps() -> None:
    schedule = noise_schedule.discrete()
    low, high = schedule.sigmas[500:502]
    np.testing.assert_allclose(schedule.sigma(500.25), 0.75 * low + 0.25 * high)
    np.testing.assert_allclose(schedule.timestep(low**0.75 * high**0.25), 500.25)
    assert schedule.timestep(1e-9) == 0
    assert schedule.timestep(1e9) == 999


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_train_timesteps": 0}, "num_train_timesteps must be an integer at least 1, got 0"),
        ({"beta_schedule": "cosine"}, "beta_schedule must be one of 'linear', 'scaled_linear', .* got 'cosine'"),
        ({"beta_start": 0.0}, "beta_start=0, .* every beta must lie between 0 and 1, both excluded, got 0"),
        ({"beta_end": 1.0}, "every beta must lie between 0 and 1, both excluded, got 1"),
        ({"beta_start": math.inf}, "beta_start must be a number from 0 to 1, got inf"),
        (
            {"trained_betas": [[0.1, 0.2]], "num_train_timesteps": 2},
            r"in one dimension, got an array of shape \(1, 2\)",
        ),
        ({"trained_betas": []}, r"at least num_train_timesteps=1000 numbers .* got an array of shape \(0,\)"),
        ({"beta_start": 1e-9}, "alphas_cumprod that decrease strictly between 1 and 0 in float32"),
        ({"beta_start": 0.2, "beta_end": 0.9}, "alphas_cumprod that decrease strictly between 1 and 0 in float32"),
    ],
)
def test_wrong_values_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        noise_schedule.discrete(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_train_timesteps": 10.5}, "num_train_timesteps must be an integer at least 1, got 10.5"),
        ({"num_train_timesteps": True}, "num_train_timesteps must be an integer"),
        ({"beta_start": "0.1"}, "beta_start must be a number from 0 to 1, got '0.1'"),
        ({"beta_end": None}, "beta_end must be a number from 0 to 1, got None"),
        ({"trained_betas": "abc"}, "trained_betas must be a flat list or array of numbers, got 'abc'"),
    ],
)
def test_wrong_types_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        noise_schedule.discrete(**arguments)


def test_a_schedule_from_its_running_product() -> None:
    schedule = noise_schedule.discrete()
    again = noise_schedule.from_alphas_cumprod(schedule.alphas_cumprod)
    np.testing.assert_array_equal(again.sigmas, schedule.sigmas)
    np.testing.assert_allclose(again.betas, schedule.betas, rtol=1e-3)
    with pytest.raises(ValueError, match="decrease strictly between 1 and 0"):
        noise_schedule.from_alphas_cumprod([0.5, 0.9])


@pytest.mark.parametrize(
    "schedule",
    [
        noise_schedule.RectifiedFlow(500, 2.0),
        noise_schedule.EDM(0.01, 20.0),
        noise_schedule.discrete(continuous=True),
        noise_schedule.SigmaConditioned(),
    ],
)
def test_sigma_and_timestep_are_inverse_in_every_family(schedule: noise_schedule.NoiseSchedule) -> None:
    sigmas = np.linspace(schedule.sigma_min + 0.01, min(schedule.sigma_max, 10.0), 20)
    np.testing.assert_allclose(schedule.sigma(schedule.timestep(sigmas)), sigmas)


def test_what_the_families_condition_their_networks_on() -> None:
    assert noise_schedule.RectifiedFlow().timestep(0.25) == 250
    assert noise_schedule.EDM().timestep(math.e**2) == pytest.approx(0.5)
    assert noise_schedule.discrete(continuous=True).timestep(math.e**2) == pytest.approx(0.5)
    assert noise_schedule.RectifiedFlow(1000, 3.0).sigma_min == pytest.approx(0.003 / 1.002)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: noise_schedule.RectifiedFlow(0), "num_train_timesteps must be an integer at least 1, got 0"),
        (lambda: noise_schedule.RectifiedFlow(shift=-1.0), "flow_shift must be a number from 0 to inf, got -1"),
        (lambda: noise_schedule.EDM(sigma_min=0.0), "sigma_min must be a finite number above 0, got 0"),
        (lambda: noise_schedule.EDM(2.0, 1.0), "sigma_max must be above sigma_min=2, got 1"),
        (lambda: noise_schedule.EDM(sigma_data=math.inf), "sigma_data must be a finite number above 0, got inf"),
        (
            lambda: noise_schedule.discrete(1, rescale_betas_zero_snr=True),
            "rescale_betas_zero_snr must be False for 1 timestep",
        ),
    ],
)
def test_wrong_families_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
