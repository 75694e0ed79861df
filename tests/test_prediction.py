import numpy as np
import pytest

from kdpm2 import prediction

SIGMAS = np.array([0.01, 0.5, 1.0, 14.6, 20_000.0])
CLEAN, NOISE = 0.3, -1.7


@pytest.mark.parametrize("prediction_type", prediction.PREDICTION_TYPES)
def test_a_perfect_network_gives_the_clean_sample(prediction_type: str) -> None:
    x = CLEAN + SIGMAS * NOISE
    alpha, spread = 1 / np.sqrt(1 + SIGMAS**2), SIGMAS / np.sqrt(1 + SIGMAS**2)
    perfect = {"epsilon": NOISE, "sample": CLEAN, "v_prediction": alpha * NOISE - spread * CLEAN}[prediction_type]
    p, q = prediction.affine(prediction_type, SIGMAS)
    np.testing.assert_allclose(p * x + q * perfect, CLEAN, rtol=1e-10)


def test_input_has_the_variance_of_training() -> None:
    np.testing.assert_allclose(prediction.input_scale(SIGMAS) ** 2 * (1 + SIGMAS**2), 1)


def test_unknown_prediction_type_is_refused() -> None:
    with pytest.raises(ValueError, match="prediction_type must be one of 'epsilon', 'sample', 'v_prediction', got 'x'"):
        prediction.affine("x", SIGMAS)
