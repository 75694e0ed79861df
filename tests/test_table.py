from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdpm2 import noise_schedule, spacing, table
from tests import oracle

SCHEDULES = {
    name: noise_schedule.discrete(beta_schedule=name) for name in ("linear", "scaled_linear", "squaredcos_cap_v2")
}


def make(
    steps: int, eta: float = 1.0, schedule: str = "linear", curve: str | None = None, **options: Any
) -> table.StageTable:
    trained = SCHEDULES[schedule]
    return table.dpm2(trained, spacing.steps(trained, steps, sigma_curve=curve), eta=eta, **options)


configurations = st.fixed_dictionaries(
    {
        "steps": st.integers(1, 200),
        "eta": st.floats(0, 1),
        "schedule": st.sampled_from(list(SCHEDULES)),
        "curve": st.sampled_from([None, "karras", "exponential", "beta"]),
        "prediction_type": st.sampled_from(["epsilon", "sample", "v_prediction"]),
    }
)


@given(configurations)
def test_every_table(configuration: dict[str, Any]) -> None:
    made = make(**configuration)
    stages = 2 * configuration["steps"] - 1
    assert len(made) == len(made.rows) == len(made.entry_rows) == stages
    assert len(made.stage_sigmas) == len(made.stage_timesteps) == stages
    assert all(np.isfinite(values).all() for values in (made.rows, made.entry_rows, made.up, made.down, made.mid))
    np.testing.assert_allclose(made.up**2 + made.down**2, made.sigmas[1:] ** 2, rtol=1e-12)
    assert np.all(made.mid[:-1] < made.sigmas[:-2])
    assert np.all(made.down <= made.mid)
    assert made.mid[-1] == 0
    assert made.stage_timesteps.min() >= 0
    assert made.stage_timesteps.max() <= 999


def test_ancestral_goes_down_to_the_square_over_sigma() -> None:
    made = make(2, schedule="scaled_linear")
    sigma, following = made.sigmas[:2]
    np.testing.assert_allclose(made.down[0], following**2 / sigma, rtol=1e-14)
    np.testing.assert_allclose(made.mid, made.sigmas[1:], rtol=1e-14)


def test_deterministic_adds_no_noise() -> None:
    made = make(10, eta=0.0)
    assert not made.up.any()
    np.testing.assert_allclose(made.down, made.sigmas[1:])
    np.testing.assert_allclose(made.mid**2, made.sigmas[:-1] * made.sigmas[1:])


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("prediction_type", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("begin", [0, 3, 6])
def test_rows_make_the_steps_of_the_papers(eta: float, prediction_type: str, begin: int) -> None:
    made = make(7, eta, curve="karras", prediction_type=prediction_type)
    timesteps = made.stage_timesteps
    random = np.random.default_rng(0)
    x = random.standard_normal(20) * made.stage_sigmas[begin]
    noises = random.standard_normal((7, 20))
    expected = oracle.stages(x, made.sigmas, timesteps, prediction_type, eta, iter(noises), begin)
    draws, anchor = iter(noises), None
    for stage, sample in zip(range(begin, len(made)), expected, strict=True):
        row = made.row(stage, anchored=anchor is not None)
        output = oracle.array_network(row.scale * x, timesteps[stage])
        after = row.x * x + row.model * output
        if anchor is not None:
            after = after + row.anchor * anchor
        if row.noise:
            after = after + row.noise * next(draws)
        x, anchor = after, x if stage % 2 == 0 else None
        np.testing.assert_allclose(x, sample.astype(np.float64), rtol=1e-11, atol=1e-12)


def test_gaussian_data_converges_with_second_order() -> None:
    """For data N(0, 1) the exact flow keeps x / sqrt(1 + sigma^2); the solver's error falls with the square of h."""
    errors = []
    for steps in (20, 40, 80):
        made = make(steps, eta=0.0, curve="exponential", prediction_type="sample")
        x = np.sqrt(1 + made.sigmas[0] ** 2)
        anchor = 0.0
        for stage in range(len(made) - 1):
            row, sigma = made.row(stage), made.stage_sigmas[stage]
            x, anchor = row.x * x + row.model * x / (1 + sigma**2) + row.anchor * anchor, x
        errors.append(abs(x - np.sqrt(1 + made.sigmas[-2] ** 2)))
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert orders.min() > 1.9


@pytest.mark.parametrize("eta", [-0.1, float("nan")])
def test_eta_out_of_range_is_refused(eta: float) -> None:
    with pytest.raises(ValueError, match="eta must be a number from 0 to 1000"):
        make(5, eta)
