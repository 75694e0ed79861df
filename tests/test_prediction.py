import numpy as np
import pytest

from kdpm2 import noise_schedule

SCHEDULES: dict[str, noise_schedule.NoiseSchedule] = {
    "vp": noise_schedule.discrete(),
    "flow": noise_schedule.RectifiedFlow(),
    "edm": noise_schedule.EDM(sigma_data=0.7),
    "denoiser": noise_schedule.SigmaConditioned(),
}
SIGMAS = np.array([0.01, 0.5, 1.0, 14.6, 20_000.0])
CLEAN, NOISE = 0.3, -1.7


@pytest.mark.parametrize(
    ("family", "prediction_type"),
    [(family, kind) for family, kinds in SCHEDULES.items() for kind in kinds.predictions],
)
def test_a_perfect_network_gives_the_clean_sample(family: str, prediction_type: str) -> None:
    schedule = SCHEDULES[family]
    sigma = SIGMAS.clip(max=1) if schedule.flow else SIGMAS
    x = schedule.alpha(sigma) * CLEAN + sigma * NOISE
    data = schedule.sigma_data
    alpha, spread = 1 / np.sqrt(1 + sigma**2), sigma / np.sqrt(1 + sigma**2)
    # In Karras et al.'s words: the network's target is (x0 - c_skip x) / c_out.
    target = (CLEAN - data**2 / (sigma**2 + data**2) * x) * np.sqrt(sigma**2 + data**2) / (sigma * data)
    perfect = {
        ("vp", "epsilon"): NOISE,
        ("vp", "v_prediction"): alpha * NOISE - spread * CLEAN,
        ("flow", "flow_prediction"): NOISE - CLEAN,
        ("edm", "epsilon"): target,
        ("edm", "v_prediction"): -target,
    }.get((family, prediction_type), CLEAN)
    p, q = schedule.affine(prediction_type, sigma)
    np.testing.assert_allclose(p * x + q * perfect, CLEAN, rtol=1e-9)


def test_v_is_edm_for_data_of_unit_variance() -> None:
    edm = noise_schedule.EDM(sigma_data=1.0)
    for pair in zip(
        edm.affine("v_prediction", SIGMAS),
        SCHEDULES["vp"].affine("v_prediction", SIGMAS),
        strict=True,
    ):
        np.testing.assert_array_equal(*pair)


def test_input_has_the_variance_of_training() -> None:
    np.testing.assert_allclose(SCHEDULES["vp"].input_scale(SIGMAS) ** 2 * (1 + SIGMAS**2), 1)
    np.testing.assert_allclose(SCHEDULES["edm"].input_scale(SIGMAS) ** 2 * (0.7**2 + SIGMAS**2), 1)
    np.testing.assert_array_equal(SCHEDULES["flow"].input_scale(SIGMAS), 1)


def test_unknown_prediction_type_is_refused() -> None:
    with pytest.raises(ValueError, match="'epsilon', 'sample', 'v_prediction' for a model with betas, got 'x'"):
        SCHEDULES["vp"].affine("x", SIGMAS)
    with pytest.raises(ValueError, match="one of 'flow_prediction', 'sample' for a flow model, got 'epsilon'"):
        SCHEDULES["flow"].affine("epsilon", SIGMAS)
