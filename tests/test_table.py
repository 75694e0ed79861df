from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
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


@settings(deadline=None)
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


def test_eta_is_1_if_none_is_given() -> None:
    steps = spacing.steps(SCHEDULES["linear"], 5)
    np.testing.assert_array_equal(table.dpm2(SCHEDULES["linear"], steps).rows, make(5, 1.0).rows)


def test_noise_takes_up_all_of_a_step_at_a_large_eta() -> None:
    made = table.dpm2(SCHEDULES["linear"], spacing.custom(SCHEDULES["linear"], [10.0, 1.0]), eta=3.0)
    assert made.down.tolist() == [0, 0]
    assert made.up.tolist() == [1, 0]
    assert made.step.tolist() == [0, 1]


def test_the_stages_of_a_step() -> None:
    made = make(3)
    assert made.step.tolist() == [0, 0, 1, 1, 2]
    assert made.starts_step.tolist() == [True, False, True, False, True]
    assert made.ends_step.tolist() == [False, True, False, True, True]
    assert made.ends_step is made.ends_step


def test_s_noise_scales_the_noise_alone() -> None:
    noise = table.Row._fields.index("noise")
    plain, halved = make(5).rows, make(5, s_noise=0.5).rows
    np.testing.assert_allclose(halved[:, noise], plain[:, noise] / 2)
    np.testing.assert_array_equal(np.delete(halved, noise, 1), np.delete(plain, noise, 1))
    for wrong in (-0.5, 1001.0):
        with pytest.raises(ValueError, match="s_noise must be a number from 0 to 1000"):
            make(5, s_noise=wrong)


def test_a_run_without_steps_has_an_empty_table() -> None:
    steps = spacing.Steps(np.array([0.5]), np.array([]))
    made = table.dpm2(SCHEDULES["linear"], steps, eta=0.0, churn=table.Churn(1.0))
    assert len(made) == 0
    assert made.initial_noise == 0


def test_a_table_is_a_constant() -> None:
    made = make(2)
    with pytest.raises(AttributeError, match="sigmas"):
        made.sigmas = made.up  # type: ignore[misc]
    assert made in {made}


FLOW = noise_schedule.RectifiedFlow()
OWN_LEVELS = np.array([1.0, 0.9, 0.5, 0.1, 0.0])


def flow_table(eta: float, levels: np.ndarray[Any, np.dtype[np.float64]] = OWN_LEVELS) -> table.StageTable:
    return table.dpm2(FLOW, spacing.Steps(levels, FLOW.timestep(levels[:-1])), "flow_prediction", eta)


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0, 1.2])
def test_a_step_of_a_flow_is_comfyuis(eta: float) -> None:
    made = flow_table(eta)
    sigma, following = OWN_LEVELS[:-1], OWN_LEVELS[1:]
    down = following * (1 + eta * (following / sigma - 1))
    down[down < 0] = 0
    ratio = (1 - following) / (1 - down)
    np.testing.assert_allclose(made.down, down)
    np.testing.assert_allclose(made.up, np.sqrt(following**2 - (down * ratio) ** 2), atol=1e-12)
    anchor, noise = table.Row._fields.index("anchor"), table.Row._fields.index("noise")
    seconds = ~made.starts_step
    np.testing.assert_allclose(made.rows[seconds, anchor], ratio[down > 0])
    np.testing.assert_allclose(made.rows[made.ends_step, noise], made.up)


UP_AND_DOWN = np.array([0.05, 0.3, 0.8, 0.4, 0.9, 0.2, 0.0])


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0, 1.2, 3.0])
@pytest.mark.parametrize("levels", [OWN_LEVELS, UP_AND_DOWN], ids=["down", "up and down"])
def test_a_perfect_network_keeps_a_flow_on_its_levels(
    eta: float, levels: np.ndarray[Any, np.dtype[np.float64]]
) -> None:
    """From (1-σ)·x0 + σ·n every stage leads to (1-σ')·x0, and to noise of deviation σ' in all."""
    made, clean, deviation = flow_table(eta, levels), 0.3, 1.7
    assert not made.up[np.diff(levels) > 0].any()
    noise = levels[0] * deviation
    x, anchor = (1 - levels[0]) * clean + noise, 0.0
    for stage in range(len(made)):
        row = made.row(stage)
        output = (x - clean) / made.stage_sigmas[stage]
        x, anchor = row.x * x + row.model * output + row.anchor * anchor, x
        if made.ends_step[stage]:
            following = levels[made.step[stage] + 1]
            noise = x - (1 - following) * clean
            np.testing.assert_allclose((noise / deviation) ** 2 + row.noise**2, following**2, atol=1e-12)
            x = (1 - following) * clean + following * deviation


def test_a_flow_goes_back_to_noise_where_nothing_is_random() -> None:
    levels = np.array([0.25, 0.5, 1.0])
    made = flow_table(0.0, levels)
    assert made.up.tolist() == [0, 0]
    assert made.down.tolist() == [0.5, 1]
    assert made.rows[1::2, table.Row._fields.index("anchor")].tolist() == [1, 1]


def test_a_flow_that_stays_where_it_is_adds_nothing() -> None:
    made = flow_table(1.0, np.array([1.0, 1.0, 0.5]))
    assert made.up[0] == 0
    assert made.down[0] == 1


EDM = noise_schedule.EDM()


def churned(s_churn: float, levels: list[float], s_noise: float = 1.0, **between: float) -> table.StageTable:
    steps = spacing.custom(EDM, levels)
    return table.dpm2(EDM, steps, eta=0.0, s_noise=s_noise, churn=table.Churn(s_churn, **between))


def test_churn_raises_sigma_as_edm_does() -> None:
    levels = np.array([10.0, 4.0, 2.0, 0.5])
    for s_churn, gamma in ((0.0, 0.0), (0.8, 0.2), (1000.0, np.sqrt(2) - 1)):
        made = churned(s_churn, list(levels))
        raised = levels * (1 + gamma)
        np.testing.assert_allclose(made.stage_sigmas[made.starts_step], raised)
        np.testing.assert_allclose(made.stage_timesteps[made.starts_step], np.log(raised) / 4)
        np.testing.assert_allclose(made.mid[:-1] ** 2, raised[:-1] * levels[1:])
        # The noise that raises a level is drawn before it, the first by whoever makes the sample.
        added = np.sqrt(raised**2 - levels**2)
        assert made.initial_noise == pytest.approx(added[0])
        np.testing.assert_allclose(made.rows[made.ends_step, table.Row._fields.index("noise")], [*added[1:], 0])
    # 0.2 of a single step's level; half the noise with half the s_noise.
    assert churned(0.2, [2.0], s_noise=0.5).initial_noise == pytest.approx(np.sqrt(2.4**2 - 2**2) / 2)
    np.testing.assert_array_equal(
        churned(0.0, list(levels)).rows, table.dpm2(EDM, spacing.custom(EDM, levels), eta=0.0).rows
    )


def test_churn_between_two_levels_takes_both_in() -> None:
    made = churned(0.8, [10.0, 4.0, 2.0, 0.5], s_tmin=2.0, s_tmax=4.0)
    np.testing.assert_allclose(made.stage_sigmas[made.starts_step], [10, 4.8, 2.4, 0.5])
    assert made.initial_noise == 0
    made = churned(0.8, [10.0, 4.0, 2.0, 0.5], s_tmin=4.0, s_tmax=4.0)
    np.testing.assert_allclose(made.stage_sigmas[made.starts_step], [10, 4.8, 2, 0.5])
    made = churned(0.8, [10.0, 4.0, 2.0, 0.5], s_tmin=0.5, s_tmax=0.5)
    np.testing.assert_allclose(made.stage_sigmas[made.starts_step], [10, 4, 2, 0.6])


def test_a_step_without_churn_keeps_the_timestep_it_was_given() -> None:
    schedule = SCHEDULES["linear"]
    steps = spacing.steps(schedule, 6, sigma_curve="karras")  # whole timesteps, which are not quite its sigmas'
    made = table.dpm2(schedule, steps, eta=0.0, churn=table.Churn(1.0, s_tmax=float(steps.sigmas[2])))
    conditioned_on, levels = made.stage_timesteps[made.starts_step], made.stage_sigmas[made.starts_step]
    assert conditioned_on[:2].tolist() == steps.timesteps[:2].tolist()
    np.testing.assert_allclose(schedule.sigma(conditioned_on[2:]), levels[2:], rtol=0.02)
    assert np.all(conditioned_on[2:] > steps.timesteps[2:])


@pytest.mark.parametrize(
    ("churn", "message"),
    [
        (table.Churn(-0.5), "s_churn must be a number from 0 to inf, got -0.5"),
        (table.Churn(1.0, s_tmin=-0.5), "s_tmin must be a number from 0 to inf, got -0.5"),
        (table.Churn(1.0, s_tmax=-0.5), "s_tmax must be a number from 0 to inf, got -0.5"),
        (table.Churn(1.0, s_tmin=2.0, s_tmax=1.0), "s_tmin must be at most s_tmax=1, got 2"),
    ],
)
def test_a_wrong_churn_is_refused(churn: table.Churn, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(5, 0.0, churn=churn)
