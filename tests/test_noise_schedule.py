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


def test_betas_of_a_signal_that_falls_exponentially() -> None:
    """What is left of the signal after i of 40 timesteps is e^(-12 i / 40)."""
    schedule = noise_schedule.discrete(40, beta_schedule="exp")
    np.testing.assert_allclose(schedule.betas, [1 - math.exp(-12 / 40)] * 40, rtol=1e-6)
    np.testing.assert_allclose(schedule.alphas_cumprod, np.exp(-12 * np.arange(1, 41) / 40), rtol=1e-5)


def test_betas_of_a_laplace_distribution() -> None:
    def alpha_bar(t: float) -> float:
        side = 1 if t <= 0.5 else -1
        snr = math.exp(-0.5 * side * math.log(1 - 2 * abs(0.5 - t) + 1e-6))
        return math.sqrt(snr / (1 + snr))

    betas = noise_schedule.discrete(50, beta_schedule="laplace").betas
    expected = [min(1 - alpha_bar((i + 1) / 50) / alpha_bar(i / 50), 0.999) for i in range(50)]
    np.testing.assert_allclose(betas, expected, rtol=1e-5)


def test_betas_along_a_sigmoid() -> None:
    betas = noise_schedule.discrete(5, 0.01, 0.2, "sigmoid").betas
    expected = [0.01 + 0.19 / (1 + math.exp(-at)) for at in (-6, -3, 0, 3, 6)]
    np.testing.assert_allclose(betas, expected, rtol=1e-6)


@pytest.mark.parametrize("scale", [0.25, 1.0, 3.0])
def test_the_signal_to_noise_ratio_is_divided(scale: float) -> None:
    plain, shifted = (noise_schedule.discrete(200, snr_shift_scale=each) for each in (1.0, scale))
    assert shifted.sigmas[100] ** 2 == pytest.approx(scale * plain.sigmas[100] ** 2, rel=1e-3)
    np.testing.assert_allclose(shifted.sigmas, plain.sigmas * scale**0.5, rtol=2e-3)


def test_linear_betas_are_those_of_torch() -> None:
    # torch.linspace(0.00085, 0.012, 7) and (..., 8): float32, each rounded once, counted from the nearer end.
    odd = [0.00085, 0.0027083333, 0.0045666667, 0.0064250003, 0.008283334, 0.010141667, 0.012]
    even = [0.00085, 0.002442857, 0.004035714, 0.0056285714, 0.0072214287, 0.008814286, 0.010407143, 0.012]
    for expected in (odd, even):
        betas = noise_schedule.discrete(len(expected)).betas
        np.testing.assert_array_equal(betas, np.array(expected, dtype=np.float32))
    np.testing.assert_array_equal(noise_schedule.discrete(1).betas, np.array([0.00085], dtype=np.float32))


def test_scaled_linear_betas_are_linear_in_the_root() -> None:
    betas = noise_schedule.discrete(100, 0.01, 0.09, "scaled_linear").betas
    np.testing.assert_allclose(betas, np.linspace(0.1, 0.3, 100) ** 2, rtol=1e-6)


def test_trained_betas_are_taken_as_they_are() -> None:
    betas = [0.1, 0.2, 0.3]
    for given in (betas, np.array(betas)):
        schedule = noise_schedule.discrete(3, trained_betas=given)
        np.testing.assert_array_equal(schedule.betas, np.array(betas, dtype=np.float32))
    np.testing.assert_allclose(schedule.alphas_cumprod, [0.9, 0.72, 0.504], rtol=1e-6)
    np.testing.assert_allclose(schedule.sigmas, np.sqrt(1 / np.array([0.9, 0.72, 0.504]) - 1), rtol=1e-6)


def test_zero_snr_by_hand() -> None:
    # Algorithm 1 of Lin et al.: the signal's roots 0.9, 0.7, 0.5 less 0.5 are 0.4, 0.2, 0; times 9/4, 0.9, 0.45, 0.
    schedule = noise_schedule.discrete(3, trained_betas=[0.19, 32 / 81, 24 / 49], rescale_betas_zero_snr=True)
    np.testing.assert_allclose(schedule.betas, [0.19, 0.75, 1], rtol=1e-6)
    np.testing.assert_allclose(schedule.alphas_cumprod, [0.81, 0.2025, 2**-24], rtol=1e-6)
    two = noise_schedule.discrete(2, trained_betas=[0.19, 32 / 81], rescale_betas_zero_snr=True)
    np.testing.assert_allclose(two.alphas_cumprod, [0.81, 2**-24], rtol=1e-6)


def test_zero_snr_ends_below_a_schedule_that_is_nearly_there() -> None:
    roots = np.array([0.9, 0.5, 0.0002, 0.0001])
    products = roots**2
    betas = 1 - products / np.array([1, *products[:-1]])
    schedule = noise_schedule.discrete(4, trained_betas=betas, rescale_betas_zero_snr=True)
    assert schedule.alphas_cumprod[2] < 2**-24
    assert schedule.alphas_cumprod[3] == schedule.alphas_cumprod[2] / 2


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
            {"trained_betas": np.array([[0.1, 0.2]]), "num_train_timesteps": 2},
            r"in one dimension, got an array of shape \(1, 2\)",
        ),
        ({"trained_betas": []}, r"at least one number in one dimension, got an array of shape \(0,\)"),
        ({"trained_betas": np.array([[0.1], [0.2]]), "num_train_timesteps": 2}, r"got an array of shape \(2, 1\)"),
        ({"trained_betas": [-0.5, 0.1, 1.5], "num_train_timesteps": 3}, "trained_betas: every beta .* got -0.5"),
        ({"trained_betas": [1.5, 0.1, -0.5], "num_train_timesteps": 3}, "trained_betas: every beta .* got 1.5"),
        ({"trained_betas": [0.1, -0.5], "num_train_timesteps": 2}, "every beta .* got -0.5"),
        ({"trained_betas": [0.1, 1.5], "num_train_timesteps": 2}, "every beta .* got 1.5"),
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
    assert again.timestep(schedule.sigmas[500]) == pytest.approx(500)
    assert noise_schedule.from_alphas_cumprod([0.5]).sigmas.tolist() == [1.0]


@pytest.mark.parametrize(
    ("products", "message"),
    [
        ([0.5, 0.9], "decrease strictly between 1 and 0"),
        ([0.9, 0.5, 0.5], "decrease strictly between 1 and 0"),
        ([0.9, 0.0], "decrease strictly between 1 and 0"),
        ([0.9, -0.5], "decrease strictly between 1 and 0"),
        ([1.5, 0.5], "decrease strictly between 1 and 0"),
        ([0.75, 0.875, 0.5], "these run from 0.75 to 0.5 over 3 timesteps"),
        ([], r"alphas_cumprod must hold at least one number in one dimension, got an array of shape \(0,\)"),
        (np.array(0.5), r"alphas_cumprod must hold at least one number in one dimension, got an array of shape \(\)"),
    ],
)
def test_a_wrong_running_product_is_refused(products: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        noise_schedule.from_alphas_cumprod(products)


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
    trained = noise_schedule.discrete()
    given = noise_schedule.VariancePreserving(trained.betas, trained.alphas_cumprod)
    assert given.timestep(trained.sigmas[3]) == pytest.approx(3)


def test_the_ranges_of_the_families() -> None:
    edm = noise_schedule.EDM()
    assert (edm.sigma_min, edm.sigma_max, edm.sigma_data) == (0.002, 80, 0.5)
    assert noise_schedule.RectifiedFlow(shift=3.0).sigma_max == 1
    plain, flow = noise_schedule.SigmaConditioned(), noise_schedule.SigmaConditioned(flow=True)
    assert (plain.sigma_min, plain.sigma_max) == (0, math.inf)
    assert (flow.sigma_min, flow.sigma_max) == (0, 1)


def test_what_loops_do_with_samples_of_the_families() -> None:
    families = [noise_schedule.discrete(), noise_schedule.RectifiedFlow(), noise_schedule.EDM()]
    families.append(noise_schedule.SigmaConditioned())
    assert [each.starts_with_data for each in families] == [False, False, True, False]  # diffusers' init_noise_sigma
    assert [each.stepped_unscaled for each in families] == [True, False, False, False]


def test_only_betas_are_trained_on_whole_timesteps_alone() -> None:
    schedules = [noise_schedule.discrete(), noise_schedule.discrete(continuous=True), noise_schedule.RectifiedFlow()]
    whole = [each.whole_timesteps for each in [*schedules, noise_schedule.EDM()]]
    assert whole == [True, False, False, False]


def test_what_the_data_is_multiplied_by() -> None:
    sigmas = np.array([0.25, 1.0])
    for flow in (noise_schedule.RectifiedFlow(), noise_schedule.SigmaConditioned(flow=True)):
        assert flow.alpha(sigmas).tolist() == [0.75, 0]
    for other in (noise_schedule.discrete(), noise_schedule.EDM(), noise_schedule.SigmaConditioned()):
        assert other.alpha(sigmas).tolist() == [1, 1]


@pytest.mark.parametrize(
    ("schedule", "attribute"),
    [
        (noise_schedule.discrete(), "continuous"),
        (noise_schedule.RectifiedFlow(), "shift"),
        (noise_schedule.EDM(), "sigma_data"),
        (noise_schedule.SigmaConditioned(), "flow"),
    ],
)
def test_a_schedule_is_a_constant(schedule: noise_schedule.NoiseSchedule, attribute: str) -> None:
    with pytest.raises(AttributeError, match=attribute):
        setattr(schedule, attribute, 2.0)
    assert schedule in {schedule}


@pytest.mark.parametrize("left_out", ["sigma_min", "sigma_max", "sigma", "timestep"])
def test_a_family_of_ones_own_has_to_be_whole(left_out: str) -> None:
    members = dict.fromkeys({"sigma_min", "sigma_max", "sigma", "timestep"} - {left_out})
    with pytest.raises(TypeError, match=f"abstract method '?{left_out}'?$"):
        type("Own", (noise_schedule.NoiseSchedule,), members)()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: noise_schedule.RectifiedFlow(0), "num_train_timesteps must be an integer at least 1, got 0"),
        (lambda: noise_schedule.RectifiedFlow(shift=-1.0), "flow_shift must be a finite number above 0, got -1"),
        (lambda: noise_schedule.EDM(sigma_min=0.0), "sigma_min must be a finite number above 0, got 0"),
        (lambda: noise_schedule.EDM(2.0, 1.0), "sigma_max must be above sigma_min=2, got 1"),
        (lambda: noise_schedule.EDM(1.0, 1.0), "sigma_max must be above sigma_min=1, got 1"),
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


@pytest.mark.parametrize("sigma", [0.0, -1.0, [1.0, 0.0], float("nan")])
@pytest.mark.parametrize("schedule", [noise_schedule.EDM(), noise_schedule.discrete()])
def test_no_timestep_belongs_to_a_sigma_that_is_none(schedule: noise_schedule.NoiseSchedule, sigma: Any) -> None:
    with pytest.raises(ValueError, match="sigma must be above 0, got"):
        schedule.timestep(sigma)


BETAS = np.array([0.1, 0.2], dtype=np.float32)
PRODUCTS = np.array([0.9, 0.72], dtype=np.float32)


@pytest.mark.parametrize("name", ["betas", "alphas_cumprod"])
@pytest.mark.parametrize(
    "wrong",
    [
        [0.1, 0.2],
        PRODUCTS.astype(np.float64),
        PRODUCTS.astype(np.float16),
        PRODUCTS[None],
        PRODUCTS[0, ...],
        PRODUCTS[:0],
    ],
)
def test_a_schedule_takes_float32_arrays_in_one_dimension(name: str, wrong: Any) -> None:
    arrays = {"betas": BETAS, "alphas_cumprod": PRODUCTS, name: wrong}
    with pytest.raises(TypeError, match=rf"{name} must be a float32 array of shape \(T,\), got"):
        noise_schedule.VariancePreserving(**arrays)


@pytest.mark.parametrize(("betas", "products"), [(1, 2), (2, 1)])
def test_a_schedule_has_as_many_betas_as_products(betas: int, products: int) -> None:
    with pytest.raises(ValueError, match=f"betas must be as many as alphas_cumprod, {products}, got {betas}"):
        noise_schedule.VariancePreserving(BETAS[:betas], PRODUCTS[:products])
