"""The same samples as k-diffusion's functions, in float64 to the last digits."""

import inspect
import math
from typing import Any

import pytest
import torch

import kdpm2
from kdpm2 import sampling
from kdpm2.noise import Brownian

SIGMAS = {
    "karras": sampling.get_sigmas_karras(8, 0.03, 14.6).double(),
    "wide": sampling.get_sigmas_exponential(12, 0.002, 80.0).double(),
    "no final 0": sampling.get_sigmas_karras(6, 0.1, 10.0).double()[:-1],
    "equal neighbours": torch.tensor([5.0, 2.0, 2.0, 1.0, 0.0], dtype=torch.float64),
    "no step": torch.tensor([5.0], dtype=torch.float64),
    "one step": torch.tensor([10.0, 0.0], dtype=torch.float64),
}
FUNCTIONS = ["sample_dpm_2", "sample_dpm_2_ancestral"]


def model(x: torch.Tensor, sigma: torch.Tensor, strength: float = 1.0) -> torch.Tensor:
    return torch.tanh(strength * x / (1 + sigma[:, None])) + 0.1 * x / (1 + sigma[:, None] ** 2)


def start(sigmas: torch.Tensor) -> torch.Tensor:
    return torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * sigmas[0]


def both(reference: Any, name: str, sigmas: torch.Tensor, **options: Any) -> tuple[torch.Tensor, torch.Tensor]:
    results = []
    for module in (reference, sampling):
        torch.manual_seed(7)
        results.append(getattr(module, name)(model, start(sigmas), sigmas, disable=True, **options))
    return results[0], results[1]


def check(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    torch.testing.assert_close(pair[1], pair[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("sigmas", SIGMAS.values(), ids=SIGMAS)
@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("s_noise", [0.0, 1.0, 1.007])
def test_ancestral(k_diffusion_sampling: Any, sigmas: torch.Tensor, eta: float, s_noise: float) -> None:
    check(both(k_diffusion_sampling, "sample_dpm_2_ancestral", sigmas, eta=eta, s_noise=s_noise))


@pytest.mark.parametrize("sigmas", SIGMAS.values(), ids=SIGMAS)
@pytest.mark.parametrize(
    "churn",
    [
        {},
        {"s_churn": 3.0},
        {"s_churn": 40.0, "s_noise": 1.007},
        {"s_churn": 2.0, "s_tmin": 0.05, "s_tmax": 5.0},
        {"s_churn": 2.0, "s_tmin": 5.0, "s_noise": 0.9},
        {"s_churn": 2.0, "s_tmin": 1e3},
    ],
    ids=str,
)
def test_deterministic_with_churn(k_diffusion_sampling: Any, sigmas: torch.Tensor, churn: dict[str, float]) -> None:
    check(both(k_diffusion_sampling, "sample_dpm_2", sigmas, **churn))


def test_a_noise_sampler_is_called_with_the_same_levels(k_diffusion_sampling: Any) -> None:
    sigmas, calls = SIGMAS["karras"], []

    def sampler(sigma: torch.Tensor, sigma_next: torch.Tensor) -> torch.Tensor:
        calls.append((sigma.item(), sigma_next.item()))
        return torch.sin(sigma * 100) * torch.ones(3, 5, dtype=torch.float64)

    check(both(k_diffusion_sampling, "sample_dpm_2_ancestral", sigmas, noise_sampler=sampler))
    half = len(calls) // 2
    assert calls[:half] == calls[half:] == list(zip(sigmas[:-2].tolist(), sigmas[1:-1].tolist(), strict=True))


@pytest.mark.parametrize("seed", [3, [3, 4, 5]])
def test_their_brownian_noise_serves_ours(k_diffusion_sampling: Any, seed: int | list[int]) -> None:
    sigmas = SIGMAS["karras"]
    samples = []
    for module in (k_diffusion_sampling, sampling):
        tree = k_diffusion_sampling.BrownianTreeNoiseSampler(start(sigmas), 0.02, 15.0, seed)
        samples.append(module.sample_dpm_2_ancestral(model, start(sigmas), sigmas, disable=True, noise_sampler=tree))
    check((samples[0], samples[1]))


def test_our_brownian_noise_is_theirs(k_diffusion_sampling: Any) -> None:
    x = torch.zeros(2, 4, dtype=torch.float64)
    ours = Brownian(x, 0.0, 16.0, [3, 4])
    theirs = k_diffusion_sampling.BrownianTreeNoiseSampler(x, 0.0, 16.0, [3, 4])
    for sigma, sigma_next in ((16.0, 9.0), (9.0, 1.0), (1.0, 0.5)):
        expected = theirs(torch.tensor(sigma), torch.tensor(sigma_next))
        torch.testing.assert_close(ours(sigma, sigma_next), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_same_parameters(k_diffusion_sampling: Any, name: str) -> None:
    theirs = inspect.signature(getattr(k_diffusion_sampling, name)).parameters
    ours = inspect.signature(getattr(sampling, name)).parameters
    assert [(n, p.default) for n, p in ours.items()] == [(n, p.default) for n, p in theirs.items()]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_callback_and_extra_arguments(k_diffusion_sampling: Any, name: str) -> None:
    told: list[list[dict[str, Any]]] = []
    for module in (k_diffusion_sampling, sampling):
        torch.manual_seed(7)
        told.append([])
        options = {"s_churn": 3.0} if name == "sample_dpm_2" else {}
        sigmas = SIGMAS["karras"]
        run = getattr(module, name)
        run(model, start(sigmas), sigmas, {"strength": 0.5}, told[-1].append, True, **options)
    assert len(told[0]) == len(told[1]) == 8
    for theirs, ours in zip(*told, strict=True):
        assert set(ours) == set(theirs)
        assert ours["i"] == theirs["i"]
        for key in ("x", "sigma", "sigma_hat", "denoised"):
            torch.testing.assert_close(ours[key], theirs[key], rtol=1e-12, atol=1e-12)


def test_noise_goes_up_where_sigmas_do(k_diffusion_sampling: Any) -> None:
    rising = SIGMAS["karras"][:-1].flip(0)
    check(both(k_diffusion_sampling, "sample_dpm_2", rising))
    with pytest.warns(UserWarning, match="no noise is added where they do: eta=1 is for the steps that fall"):
        made = sampling.sample_dpm_2_ancestral(model, start(rising), rising, disable=True)
    torch.testing.assert_close(made, sampling.sample_dpm_2(model, start(rising), rising, disable=True))


@pytest.mark.parametrize("eta", [1.1, 1.5])
def test_eta_above_one(k_diffusion_sampling: Any, eta: float) -> None:
    close = torch.tensor([4.0, 3.5, 3.1, 2.8, 2.6], dtype=torch.float64)
    check(both(k_diffusion_sampling, "sample_dpm_2_ancestral", close, eta=eta))


def test_eta_so_large_that_all_noise_is_new() -> None:
    """There k-diffusion forgets the noise, and goes on with a clean sample at a noise level that is not 0."""
    sigmas = torch.tensor([10.0, 1.0], dtype=torch.float64)
    x = 10 * torch.randn(20_000, 1, dtype=torch.float64)
    samples = sampling.sample_dpm_2_ancestral(kdpm2.zoo.gaussian(0.5), x, sigmas, disable=True, eta=2.0)
    assert samples.std().item() == pytest.approx(math.hypot(1.0, 0.0125), rel=0.02)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("get_sigmas_karras", (10, 0.03, 14.6)),
        ("get_sigmas_karras", (10, 0.03, 14.6, 3.0)),
        ("get_sigmas_exponential", (10, 0.03, 14.6)),
        ("get_sigmas_polyexponential", (10, 0.03, 14.6)),
        ("get_sigmas_polyexponential", (10, 0.03, 14.6, 2.0)),
        ("get_sigmas_vp", (10,)),
        ("get_sigmas_vp", (10, 18.0, 0.2, 1e-2)),
    ],
)
def test_sigma_helpers(k_diffusion_sampling: Any, name: str, arguments: tuple[float, ...]) -> None:
    theirs, ours = getattr(k_diffusion_sampling, name), getattr(sampling, name)
    # Theirs is float32 throughout, and takes 1 from something near 1 for the smallest of the vp sigmas.
    tolerance = 3e-4 if name == "get_sigmas_vp" else 2e-5
    torch.testing.assert_close(ours(*arguments), theirs(*arguments), rtol=tolerance, atol=0)
    expected = inspect.signature(theirs).parameters
    actual = inspect.signature(ours).parameters
    assert [(n, p.default) for n, p in actual.items()] == [(n, p.default) for n, p in expected.items()]
