import numpy as np
from scipy.stats import beta as beta_distribution

from kdpm2 import curves


def test_karras_is_equation_5_of_the_paper() -> None:
    n, rho, top, bottom = 10, 7, 80.0, 0.002
    expected = [(top ** (1 / rho) + i / (n - 1) * (bottom ** (1 / rho) - top ** (1 / rho))) ** rho for i in range(n)]
    np.testing.assert_allclose(curves.karras(top, bottom, n), expected, rtol=1e-12)


def test_exponential_has_one_ratio() -> None:
    sigmas = curves.exponential(80.0, 0.002, 10)
    np.testing.assert_allclose(sigmas[1:] / sigmas[:-1], (0.002 / 80) ** (1 / 9))
    np.testing.assert_allclose(sigmas[[0, -1]], [80, 0.002])


def test_beta_follows_the_quantiles() -> None:
    sigmas = curves.beta(80.0, 0.002, 10)
    np.testing.assert_allclose(sigmas, 0.002 + (80 - 0.002) * beta_distribution.ppf(np.linspace(1, 0, 10), 0.6, 0.6))
