from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import betainc

from kdpm2 import curves, noise_schedule, spacing

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
    assert timesteps(1000, "trailing") == list(range(999, -1, -1))


def test_offset_stops_at_the_last_trained_timestep() -> None:
    assert timesteps(1000, "leading", steps_offset=1)[0] == 999
    assert timesteps(20, "leading", steps_offset=200)[:2] == [999, 949]


@settings(deadline=None)
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


def test_more_steps_than_trained_timesteps() -> None:
    ten = noise_schedule.discrete(10)
    with pytest.raises(ValueError, match="at most num_train_timesteps=10 with timestep_spacing='leading', got 11"):
        spacing.steps(ten, 11, "leading", sigma_curve="karras")
    for timestep_spacing in ("linspace", "sgm_uniform"):
        assert len(spacing.steps(ten, 25, timestep_spacing).timesteps) == 25
    assert len(spacing.steps(ten, 25, "trailing", sigma_curve="beta").timesteps) == 25


def test_more_steps_than_a_flow_has_timesteps() -> None:
    ten = noise_schedule.RectifiedFlow(10)
    np.testing.assert_allclose(spacing.steps(ten, 10, "simple").timesteps, np.arange(10, 0, -1))
    with pytest.raises(ValueError, match="at most num_train_timesteps=10 with timestep_spacing='simple', got 11"):
        spacing.steps(ten, 11, "simple")
    for timestep_spacing in ("linspace", "trailing", "sgm_uniform"):
        assert len(spacing.steps(ten, 25, timestep_spacing).timesteps) == 25
    assert len(spacing.steps(ten, 25, "simple", sigma_curve="beta").timesteps) == 25


FLOW = noise_schedule.RectifiedFlow()
SHIFTED = noise_schedule.RectifiedFlow(shift=3.0)
EDM = noise_schedule.EDM()


def test_spacings_of_comfyui_by_hand() -> None:
    # ComfyUI's "simple" takes every (T/N)-th of the table from its end, "sgm_uniform" N of N+1 even timesteps.
    assert timesteps(4, "simple") == [999, 749, 499, 249]
    assert timesteps(3, "simple") == [999, 666, 333]
    assert timesteps(3, "sgm_uniform") == [999, 666, 333]
    assert spacing.steps(FLOW, 4, "simple").sigmas.tolist() == [1, 0.75, 0.5, 0.25, 0]
    np.testing.assert_allclose(spacing.steps(FLOW, 3, "simple").sigmas, [1, 0.667, 0.334, 0])
    np.testing.assert_allclose(spacing.steps(FLOW, 2, "sgm_uniform").sigmas, [1, (1 + 0.001) / 2, 0])


def test_flow_sigmas_are_shifted_towards_noise() -> None:
    u = np.array([1, 0.75, 0.5, 0.25])
    np.testing.assert_allclose(spacing.steps(SHIFTED, 4, "trailing").sigmas[:-1], 3 * u / (1 + 2 * u))
    np.testing.assert_allclose(spacing.steps(FLOW, 4, "trailing", shift=3.0).sigmas[:-1], 3 * u / (1 + 2 * u))
    np.testing.assert_allclose(spacing.steps(SHIFTED, 4, "trailing").timesteps, 3000 * u / (1 + 2 * u))
    stretched = spacing.steps(SHIFTED, 4, "trailing", shift_terminal=0.1).sigmas
    np.testing.assert_allclose(stretched[[0, -2, -1]], [1, 0.1, 0])
    np.testing.assert_allclose(spacing.steps(FLOW, 2, "trailing", shift_terminal=0.1).sigmas, [1, 0.1, 0])
    assert spacing.steps(FLOW, 1, shift_terminal=0.1).sigmas.tolist() == [1, 0]


def test_sigmas_of_ones_own_are_warped_if_the_model_is_a_flow() -> None:
    np.testing.assert_allclose(spacing.custom(SHIFTED, [1.0, 0.5]).sigmas, [1, 0.75, 0])
    np.testing.assert_allclose(spacing.custom(FLOW, [1.0, 0.5], shift=3.0).sigmas, [1, 0.75, 0])
    np.testing.assert_allclose(spacing.custom(SHIFTED, timesteps=[1000, 500]).sigmas, [1, 0.5, 0])
    np.testing.assert_allclose(spacing.custom(noise_schedule.SigmaConditioned(True), [1.0, 0.5]).sigmas, [1, 0.5, 0])
    # 1 - σ is multiplied by (1 - 0.6) / (1 - 0.2), a half.
    stretched = spacing.custom(FLOW, [0.9, 0.5, 0.2], shift_terminal=0.6).sigmas
    np.testing.assert_allclose(stretched, [0.95, 0.75, 0.6, 0])
    joined = spacing.custom(FLOW, [0.9, 0.5, 0.1], sigma_curve="exponential").sigmas
    np.testing.assert_allclose(joined, [0.9, 0.3, 0.1, 0])
    for terminal in (0.5, 0.7):
        with pytest.raises(ValueError, match=f"below the first sigma 0.5, got {terminal}"):
            spacing.custom(FLOW, [0.5, 0.2], shift_terminal=terminal)


def test_a_run_may_end_at_the_smallest_sigma() -> None:
    smallest = SCHEDULE.sigma_min
    # leading stops short of it with an offset, and takes a last step to it; linspace is there already.
    leading = spacing.steps(SCHEDULE, 4, "leading", 1, final_sigmas_type="sigma_min")
    assert len(leading.timesteps) == 4
    assert leading.sigmas[-1] == smallest
    linspace = spacing.steps(SCHEDULE, 3, final_sigmas_type="sigma_min")
    assert linspace.sigmas[-1] == smallest
    assert linspace.timesteps.tolist() == [999, 666, 333]
    without = spacing.steps(SCHEDULE, 2, final_sigmas_type="sigma_min", discard_next_to_last_sigma=True)
    assert without.timesteps.tolist() == [999, 666]
    for curve in ("karras", "exponential", "lu"):
        ended = spacing.steps(SCHEDULE, 6, sigma_curve=curve, sigma_min=0.1, final_sigmas_type="sigma_min")
        assert len(ended.timesteps) == 6
        assert ended.sigmas[-1] == 0.1
        assert ended.sigmas[-2] > 0.2  # the curve's own end, a rounding away from 0.1, starts no step
    assert spacing.custom(SCHEDULE, [14.0, 0.8, 0.5], final_sigmas_type="sigma_min").sigmas.tolist() == [14, 0.8, 0.5]


def test_a_flow_shifted_below_its_smallest_sigma_ends_there() -> None:
    shifted_twice = 0.25 / (1000 - 0.75)  # σ / (2 - σ) twice, from 1/1000
    sigmas = spacing.steps(noise_schedule.RectifiedFlow(shift=0.5), 5, final_sigmas_type="sigma_min").sigmas
    assert len(sigmas) == 6
    np.testing.assert_allclose(sigmas[[0, -1]], [1, shifted_twice])


def test_the_next_to_last_sigma_left_out() -> None:
    whole = spacing.steps(SCHEDULE, 9, sigma_curve="karras")
    without = spacing.steps(SCHEDULE, 8, sigma_curve="karras", discard_next_to_last_sigma=True)
    np.testing.assert_array_equal(without.sigmas, np.delete(whole.sigmas, -2))
    np.testing.assert_array_equal(without.timesteps, whole.timesteps[:-1])


def test_ends_of_a_curve() -> None:
    sigmas = spacing.steps(SCHEDULE, 5, sigma_curve="karras", sigma_min=0.1, sigma_max=10.0, rho=3.0).sigmas
    np.testing.assert_allclose(sigmas[:-1], curves.karras(10.0, 0.1, 5, 3.0))
    sigmas = spacing.steps(SCHEDULE, 5, "leading", 1, "karras").sigmas
    np.testing.assert_allclose(sigmas[[0, -2]], SCHEDULE.sigmas[[801, 1]])
    sigmas = spacing.steps(SCHEDULE, 5, sigma_curve="polyexponential", rho=2.0).sigmas
    np.testing.assert_allclose(sigmas[:-1], curves.polyexponential(SCHEDULE.sigma_max, SCHEDULE.sigma_min, 5, 2.0))


def test_uniform_lambda() -> None:
    sigmas = spacing.steps(SCHEDULE, 6, sigma_curve="lu").sigmas[:-1]
    np.testing.assert_allclose(np.diff(np.log(sigmas), 2), 0, atol=1e-12)
    flow = spacing.steps(FLOW, 6, sigma_curve="lu", sigma_max=0.999).sigmas[:-1]
    np.testing.assert_allclose(np.diff(np.log((1 - flow) / flow), 2), 0, atol=1e-9)


def test_ten_steps_of_align_your_steps_are_those_of_the_paper() -> None:
    paper = [14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152]
    np.testing.assert_allclose(spacing.steps(SCHEDULE, 10, sigma_curve="ays_sd15").sigmas, [*paper, 0])


def test_sigmas_and_timesteps_of_ones_own() -> None:
    own = [14.0, 3.0, 0.5]
    for sigmas in (own, [*own, 0.0], np.array(own), tuple(own)):
        steps = spacing.custom(SCHEDULE, sigmas)
        assert steps.sigmas.tolist() == [*own, 0.0]
        np.testing.assert_allclose(SCHEDULE.timestep(own), steps.timesteps)
    assert spacing.custom(SCHEDULE, own, final_sigmas_type="sigma_min").sigmas.tolist() == own
    by_timestep = spacing.custom(SCHEDULE, timesteps=[999, 500, 0])
    np.testing.assert_array_equal(by_timestep.sigmas, [*SCHEDULE.sigmas[[999, 500, 0]], 0])
    assert by_timestep.timesteps.tolist() == [999, 500, 0]
    assert spacing.custom(FLOW, timesteps=[1000, 400, 0]).sigmas.tolist() == [1, 0.4, 0]
    edm = spacing.custom(EDM, timesteps=[1.0, 0.0])
    np.testing.assert_allclose(edm.sigmas, [np.e**4, 1, 0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sigma_min": 0.1}, "sigma_min, sigma_max and rho must be None without a curve of sigmas"),
        ({"rho": 7.0}, "sigma_min, sigma_max and rho must be None without a curve of sigmas"),
        ({"sigma_curve": "beta", "rho": 7.0}, "rho must be None for beta sigmas, got 7.0"),
        ({"sigma_curve": "karras", "rho": 0.0}, "rho must be a number from 0.1 to 100, got 0"),
        ({"sigma_curve": "karras", "sigma_min": 20.0, "sigma_max": 10.0}, "sigma_min must be below sigma_max=10"),
        ({"sigma_curve": "karras", "sigma_min": 10.0, "sigma_max": 10.0}, "sigma_min must be below sigma_max=10"),
        (
            {"sigma_curve": "ays_sd15", "sigma_min": 0.1},
            "sigma_min and sigma_max must be None for ays_sd15 sigmas",
        ),
        ({"sigma_curve": "ays_sd15", "sigma_max": 10.0}, "sigma_min and sigma_max must be None for ays_sd15 sigmas"),
        ({"sigma_curve": "ays_sd15", "rho": 7.0}, "rho must be None for ays_sd15 sigmas, got 7"),
        (
            {"sigma_curve": "ays_sd15", "schedule": FLOW},
            "ays_sd15 sigmas must be at most 1 for a flow model, got 14",
        ),
        ({"final_sigmas_type": "one"}, "final_sigmas_type must be one of 'zero', 'sigma_min', got 'one'"),
        (
            {"schedule": noise_schedule.discrete(1), "final_sigmas_type": "sigma_min"},
            "sigma_min must be below the first",
        ),
        ({"schedule": noise_schedule.discrete(1)}, "must give sigmas that fall strictly to the last, got"),
        ({"schedule": FLOW, "timestep_spacing": "leading"}, "timestep_spacing must be one of 'linspace', 'trailing'"),
        ({"schedule": FLOW, "steps_offset": -1}, "steps_offset must be an integer from 0 to 100000, got -1"),
        ({"schedule": FLOW, "shift": 0.0}, "shift must be a finite number above 0, got 0"),
        ({"schedule": FLOW, "shift_terminal": 1.0}, "shift_terminal must be above 0 and below the first sigma 1"),
        ({"schedule": FLOW, "shift_terminal": 0.0}, "shift_terminal must be above 0 and below the first sigma 1"),
        ({"schedule": FLOW, "shift_terminal": -0.5}, "shift_terminal must be a number from 0 to 1, got -0.5"),
        ({"schedule": FLOW, "shift_terminal": 1.5}, "shift_terminal must be a number from 0 to 1, got 1.5"),
        ({"schedule": FLOW, "sigma_curve": "lu"}, "sigma_max must be below 1 for a flow model with use_lu_lambdas"),
        ({"schedule": FLOW, "sigma_curve": "karras", "sigma_max": 2.0}, "sigma_max must be at most 1 for a flow"),
        ({"schedule": FLOW, "num_train_timesteps": 10}, "num_train_timesteps must be None for a flow model, got 10"),
    ],
)
def test_wrong_options_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        spacing.steps(arguments.pop("schedule", SCHEDULE), 5, **arguments)


def test_timesteps_of_ones_own_in_quarter_logarithms() -> None:
    continuous = noise_schedule.discrete(continuous=True)
    np.testing.assert_allclose(spacing.custom(continuous, timesteps=[0.5, -0.5]).sigmas, [np.e**2, np.e**-2, 0])


def test_sigmas_or_timesteps_of_ones_own() -> None:
    with pytest.raises(ValueError, match="sigmas or timesteps must be given, got neither"):
        spacing.custom(SCHEDULE)
    with pytest.raises(ValueError, match="timesteps must be as many as sigmas, 2 above 0, got 1"):
        spacing.custom(SCHEDULE, [2.0, 1.0], [500])


def test_a_run_goes_upwards_unless_its_timesteps_are_the_callers() -> None:
    for own in (spacing.custom(SCHEDULE, [9.0, 1.0]), spacing.custom(SCHEDULE, timesteps=[700, 100])):
        assert spacing.inverted(SCHEDULE, own).sigmas.tolist() == own.sigmas[-2::-1].tolist()
    with pytest.raises(ValueError, match="timesteps must be None with sigmas of one's own in a run that is inverted"):
        spacing.inverted(SCHEDULE, spacing.custom(SCHEDULE, [9.0, 1.0], [700, 100]))


def test_timesteps_beside_sigmas_are_what_the_network_is_told() -> None:
    sigmas, told = [10.0, 3.0, 1.0], [900.0, 500.0, 20.0]
    steps = spacing.custom(SCHEDULE, [*sigmas, 0.0], told)
    assert steps.sigmas.tolist() == [*sigmas, 0.0]
    assert steps.timesteps.tolist() == told
    np.testing.assert_allclose(steps.timestep(SCHEDULE, np.array(sigmas)), told)
    between = steps.timestep(SCHEDULE, np.array([9.0, 5.0, 2.0]))
    assert np.all(np.diff([900.0, *between, 20.0]) < 0)
    # A flow's timesteps are linear in sigma, and so are those between the caller's.
    flow = spacing.custom(FLOW, [1.0, 0.5], [800.0, 100.0])
    starts = flow.sigmas[:2]
    middle = starts.mean()
    np.testing.assert_allclose(flow.timestep(FLOW, np.array([middle])), [450.0])


def test_the_smallest_noise_level_there_is() -> None:
    assert spacing.custom(SCHEDULE, [1.0, 1e-18]).sigmas.tolist() == [1, 1e-18, 0]
    with pytest.raises(ValueError, match="sigmas must give noise levels of at least 1e-18, or 0, got 1e-19"):
        spacing.custom(SCHEDULE, [2.0, 1.0, 1e-19])


def test_sigmas_too_close_for_float64_are_refused() -> None:
    with pytest.raises(ValueError, match="must give sigmas that fall strictly"):
        spacing.steps(FLOW, 5, shift=1e18)


def test_a_curve_ends_where_it_is_told_however_far_below_its_top() -> None:
    far = noise_schedule.EDM(sigma_min=0.002, sigma_max=1e18)
    sigmas = spacing.steps(far, 5, sigma_curve="karras", rho=0.1).sigmas
    np.testing.assert_allclose(sigmas[[0, -2]], [1e18, 0.002])
    assert np.all(np.diff(sigmas) < 0)


def test_one_step_needs_a_sigma_below_it() -> None:
    with pytest.raises(ValueError, match="sigma_min must be below the first sigma"):
        spacing.steps(noise_schedule.discrete(1), 1, final_sigmas_type="sigma_min")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sigmas": [1.0, 2.0]}, "sigmas must fall strictly, got 1 before 2"),
        ({"sigmas": [1.0, 1.0]}, "sigmas must fall strictly, got 1 before 1"),
        ({"sigmas": []}, r"sigmas must hold at least one number in one dimension, got an array of shape \(0,\)"),
        ({"sigmas": [0.0]}, "sigmas must hold at least one noise level above 0, got none"),
        ({"sigmas": [float("inf"), 1.0]}, "sigmas must all be finite numbers from 0 to 1e\\+18, got inf"),
        # The first value at fault is named, with its neighbour where it is the order.
        ({"sigmas": [3.0, 2.0, 2.5, 2.5, 1.0]}, "sigmas must fall strictly, got 2 before 2.5"),
        ({"sigmas": [3.0, 2.0, 2.0, 2.5]}, "sigmas must fall strictly, got 2 before 2$"),
        ({"sigmas": [1.0, 0.5, 0.0, 2.0, -1.0], "schedule": FLOW}, "finite numbers from 0 to 1, got 2"),
        ({"sigmas": [0.0, -1.0, 2.0], "schedule": FLOW}, "finite numbers from 0 to 1, got -1"),
        ({"sigmas": np.array(5.0)}, r"got an array of shape \(\)"),
        ({"timesteps": [1500, 500], "schedule": FLOW}, "timesteps must all be finite numbers from 0 to 1000, got 1500"),
        ({"timesteps": [500, -0.5], "schedule": FLOW}, "timesteps must all be finite numbers from 0 to 1000, got -0.5"),
        ({"sigmas": np.array([[1.0, 0.5]])}, r"got an array of shape \(1, 2\)"),
        ({"timesteps": [1000, 0]}, "timesteps must all be finite numbers from 0 to 999, got 1000"),
        ({"timesteps": [5, 9]}, "timesteps must fall strictly, got 5 before 9"),
        ({"sigmas": [1.5, 0.5], "schedule": FLOW}, "sigmas must all be finite numbers from 0 to 1, got 1.5"),
    ],
)
def test_wrong_steps_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        spacing.custom(arguments.pop("schedule", SCHEDULE), **arguments)


def test_words_for_sigmas_are_a_type_error() -> None:
    with pytest.raises(TypeError, match="sigmas must be a flat list or array of numbers, got 'karras'"):
        spacing.custom(SCHEDULE, "karras")  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [2, 3, 10, 31, 80])  # of 80 some are neighbours
def test_beta57_has_even_quantiles_of_its_distribution(count: int) -> None:
    made = spacing.steps(SCHEDULE, count, "beta57").timesteps
    expected = 1 - np.arange(count) / count
    # A rounded timestep lies between the quantiles of its neighbours.
    assert (betainc(0.5, 0.7, np.maximum(made - 0.5, 0) / 999) <= expected + 1e-9).all()
    assert (betainc(0.5, 0.7, np.minimum(made + 0.5, 999) / 999) >= expected - 1e-9).all()
    np.testing.assert_array_equal(made, np.rint(made))


def test_many_steps_of_beta57_do_not_coincide() -> None:
    made = spacing.steps(SCHEDULE, 400, "beta57").timesteps
    assert len(made) == 400
    assert (np.diff(made) < 0).all()
    np.testing.assert_allclose(betainc(0.5, 0.7, made / 999), 1 - np.arange(400) / 400, atol=1e-6)


@pytest.mark.parametrize("count", [5, 20, 50])
def test_ddim_uniform_takes_every_so_many_levels(count: int) -> None:
    """ComfyUI's: the levels 1, 1 + T/N, ... of the model's thousand, downwards."""
    made = spacing.steps(SCHEDULE, count, "ddim_uniform").timesteps
    np.testing.assert_array_equal(made, np.arange(1, 1000, 1000 // count)[::-1])


@pytest.mark.parametrize("spaced", ["beta57", "ddim_uniform"])
def test_flows_have_the_spacings_of_comfyui_at_their_thousand_levels(spaced: str) -> None:
    made = spacing.steps(noise_schedule.RectifiedFlow(shift=3.0), 10, spaced)
    raw = made.sigmas[:-1] / (3 - 2 * made.sigmas[:-1])  # without the shift
    of_betas = spacing.steps(SCHEDULE, 10, spaced).timesteps
    np.testing.assert_allclose(1000 * raw, of_betas + 1, atol=1e-6)
