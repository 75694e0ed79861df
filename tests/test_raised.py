"""Levels that noise alone raises, by churn or restarts, in closed form and without torch."""

from typing import Any

import numpy as np
import pytest

from kdpm2 import noise_schedule, restart, spacing, table
from tests.closed_form import variance_after

BETAS = noise_schedule.discrete(beta_schedule="scaled_linear")
FLOW = noise_schedule.RectifiedFlow(shift=3.0)
EDM = noise_schedule.EDM()
FAMILIES: dict[str, tuple[Any, str]] = {
    "betas": (BETAS, "epsilon"), "flow": (FLOW, "flow_prediction"), "EDM": (EDM, "epsilon"),
}  # fmt: skip
TWICE = {"sigma_min": 0.2, "sigma_max": 0.7, "steps": 4, "times": 2}


def steps(schedule: Any, count: int) -> spacing.Steps:
    return spacing.steps(schedule, count, sigma_curve="exponential", sigma_min=0.001)


@pytest.mark.parametrize(("schedule", "prediction"), FAMILIES.values(), ids=FAMILIES)
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_the_data_come_back_at_order_two(schedule: Any, prediction: str, eta: float) -> None:
    errors = []
    for count in (40, 80, 160):
        run = restart.restarted(schedule, steps(schedule, count), [TWICE | {"steps": count // 4}])
        made = table.dpm2(schedule, run, prediction, eta)
        errors.append(abs(variance_after(made, 0.25, schedule.flow) - 0.25))
    assert errors[0] / errors[1] > 3.2
    assert errors[1] / errors[2] > 3.2


@pytest.mark.parametrize(("schedule", "prediction"), FAMILIES.values(), ids=FAMILIES)
def test_churn_keeps_the_data(schedule: Any, prediction: str) -> None:
    """Also that of a flow, whose data shrink where noise is mixed in."""
    errors = []
    for count in (40, 80, 160):
        made = table.dpm2(schedule, steps(schedule, count), prediction, 0.0, churn=table.Churn(4.0))
        errors.append(abs(variance_after(made, 0.25, schedule.flow) - 0.25))
    assert errors[0] / errors[1] > 3.2
    assert errors[1] / errors[2] > 3.2


def test_churn_of_a_flow_is_edms_of_the_same_model() -> None:
    """A flow's sample divided by 1-σ is data and noise added, of level σ / (1-σ). There EDM's churn is defined."""
    level = np.array([0.9, 0.5, 0.2])
    ratio = level / (1 - level)
    raised = FLOW.coordinates.churned(level, np.full(3, 0.3))
    np.testing.assert_allclose(raised / (1 - raised), 1.3 * ratio, rtol=1e-14)
    carry, added = FLOW.coordinates.raised(level, raised)
    np.testing.assert_allclose(carry, (1 - raised) / (1 - level), rtol=1e-14)
    np.testing.assert_allclose(added / (1 - raised), np.sqrt((1.3 * ratio) ** 2 - ratio**2), rtol=1e-12)


def test_where_a_run_goes() -> None:
    run = restart.restarted(BETAS, spacing.Steps(np.array([8.0, 2, 0.5, 0]), np.array([3.0, 2, 1])), [[0.4, 2, 2, 2]])
    middle = ((2 ** (1 / 7) + 0.5 ** (1 / 7)) / 2) ** 7
    np.testing.assert_allclose(run.starts, [8, 2, 2, middle, 2, middle, 0.5], rtol=1e-12)
    np.testing.assert_allclose(run.sigmas[1:], [2, 0.5, middle, 0.5, middle, 0.5, 0], rtol=1e-12)


def test_a_flow_that_begins_below_noise_shrinks_where_churn_raises_it() -> None:
    """The data and the noise of a sample at 0.8 are those of one at the level that churn raises it to."""
    run = spacing.Steps(np.array([0.8, 0.4, 0.0]), np.array([800.0, 400.0]))
    made = table.dpm2(FLOW, run, "flow_prediction", 0.0, churn=table.Churn(1.0))
    raised = made.stage_sigmas[0]
    gamma = np.sqrt(2) - 1
    assert raised == pytest.approx(0.8 * (1 + gamma) / (1 + 0.8 * gamma), rel=1e-14)
    assert made.initial_scale == pytest.approx((1 - raised) / 0.2, rel=1e-12)
    assert np.hypot(made.initial_scale * 0.8, made.initial_noise) == pytest.approx(raised, rel=1e-12)
    assert made.start == pytest.approx(raised, rel=1e-12)


def test_a_run_upwards_has_the_levels_of_the_run_downwards() -> None:
    down = spacing.steps(BETAS, 6)
    up = spacing.inverted(BETAS, down)
    np.testing.assert_array_equal(up.sigmas, down.sigmas[-2::-1])
    np.testing.assert_array_equal(up.timesteps, down.timesteps[:0:-1])
    made = table.dpm2(BETAS, up, "epsilon", 1.0)
    assert not made.adds_noise.any()
    np.testing.assert_allclose(made.mid, np.sqrt(up.sigmas[:-1] * up.sigmas[1:]), rtol=1e-14)
    ends_above = spacing.steps(BETAS, 6, final_sigmas_type="sigma_min")
    up = spacing.inverted(BETAS, ends_above)
    np.testing.assert_array_equal(up.sigmas, ends_above.sigmas[::-1])
    np.testing.assert_array_equal(up.timesteps, BETAS.timestep(ends_above.sigmas[:0:-1]))


@pytest.mark.parametrize(("schedule", "prediction"), FAMILIES.values(), ids=FAMILIES)
def test_each_step_is_the_one_of_its_own_eta(schedule: Any, prediction: str) -> None:
    """A run whose eta changes is made of the steps of runs whose eta does not."""
    run, etas, scales = spacing.steps(schedule, 5), [1.0, 0.3, 0.0, 0.7, 1.0], [0.9, 1.0, 1.1, 0.5, 1.0]
    mixed = table.dpm2(schedule, run, prediction, etas, scales)
    for step, (eta, s_noise) in enumerate(zip(etas, scales, strict=True)):
        alone = table.dpm2(schedule, run, prediction, eta, s_noise)
        np.testing.assert_array_equal(mixed.rows[mixed.step == step], alone.rows[alone.step == step])
