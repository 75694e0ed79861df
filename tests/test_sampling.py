from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

import kdpm2
from kdpm2 import Denoiser, noise_schedule, sampling, spacing
from kdpm2.noise import Brownian, seeded
from kdpm2.table import dpm2

SIGMAS = sampling.get_sigmas_karras(6, 0.1, 10.0).double()
FLOW_SIGMAS = torch.tensor([1.0, 0.9, 0.7, 0.45, 0.2, 0.05, 0.0], dtype=torch.float64)


def denoiser(x: torch.Tensor, sigma: torch.Tensor, shift: float = 0.0) -> torch.Tensor:
    return torch.tanh(x / (1 + sigma[:, None])) + shift


def start(batch: int = 3) -> torch.Tensor:
    return torch.randn(batch, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def plain_flow(velocity: Callable[..., torch.Tensor], x: torch.Tensor, eta: float, noises: list[torch.Tensor]) -> Any:
    """The steps of a flow, as the formulas have them."""
    draws = iter(noises)
    for sigma, following in pairwise(FLOW_SIGMAS):
        if following == 0:
            return x - sigma * velocity(x, sigma)
        down = following * (1 + eta * (following / sigma - 1))
        ratio = (1 - following) / (1 - down)
        up = (following**2 - down**2 * ratio**2).clamp(min=0).sqrt()
        mid = (sigma * down).sqrt()
        x_mid = x + (mid - sigma) * velocity(x, sigma)
        x = ratio * (x + (down - sigma) * velocity(x_mid, mid)) + up * next(draws)
    raise AssertionError


def velocity(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    return torch.tanh(x + sigma) - 0.3 * x


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_a_flow_by_the_formulas(eta: float) -> None:
    generator: Any = seeded(5)
    noises = [torch.randn(3, 4, dtype=torch.float64, generator=generator) for _ in range(5)]
    expected = plain_flow(velocity, start(), eta, noises)

    def network(x: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        return velocity(x, timestep[:, None] / 1000)

    model = Denoiser(network, noise_schedule.RectifiedFlow(), "flow_prediction")
    by_function = sampling.sample(model, start(), FLOW_SIGMAS, eta=eta, seeds=5)
    torch.testing.assert_close(by_function, expected, rtol=1e-12, atol=1e-12)

    options: dict[str, Any] = {"prediction_type": "flow_prediction"}
    scheduler = kdpm2.KDPM2AncestralDiscreteScheduler(eta=eta, **options)
    schedulers: list[Any] = [scheduler] if eta else [scheduler, kdpm2.KDPM2DiscreteScheduler(**options)]
    for made in schedulers:
        made.set_timesteps(sigmas=FLOW_SIGMAS.tolist())
        made.seed(5)
        x = start()
        # The pipeline's timesteps are float32; the formulas' sigmas are not, and the network is given those.
        for timestep, sigma in zip(made.timesteps, made._table.stage_sigmas, strict=True):
            assert timestep.item() == pytest.approx(1000 * sigma, rel=1e-6)
            x = made.step(velocity(x, torch.tensor(sigma, dtype=torch.float64)), timestep, x).prev_sample
        torch.testing.assert_close(x, expected, rtol=1e-12, atol=1e-12)


def test_a_flow_that_keeps_its_distribution() -> None:
    """Gaussian data: ancestral steps, which scale the sample for their noise, end with the variance of the data."""
    x = torch.randn(200_000, 1, dtype=torch.float64)
    samples = sampling.sample(kdpm2.zoo.gaussian(0.5, flow=True), x, np.linspace(1, 0, 60), seeds=1)
    assert samples.std().item() == pytest.approx(0.5, rel=0.02)


@pytest.mark.parametrize("noise", ["gaussian", "brownian"])
@pytest.mark.parametrize("model", [denoiser, kdpm2.zoo.gaussian(0.5, 4)])
def test_a_sample_does_not_depend_on_its_neighbours(noise: str, model: Any) -> None:
    together = sampling.sample(model, start(3), SIGMAS, seeds=[4, 5, 6], noise=noise)
    alone = sampling.sample(model, start(3)[1:2], SIGMAS, seeds=[5], noise=noise)
    assert torch.equal(together[1:2], alone)


def test_a_seed_gives_the_same_samples_again() -> None:
    first, again, other = (sampling.sample(denoiser, start(), SIGMAS, seeds=seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)
    # x may come from a generator with the same seed, and is not to be added a second time.
    assert not torch.equal(torch.randn(9, generator=seeded(1)), torch.randn(9, generator=torch.manual_seed(1)))  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_dtype_is_kept_and_the_samples_are_not_written_to(dtype: torch.dtype) -> None:
    x = (start() * SIGMAS[0]).to(dtype)
    before = x.clone()

    def half(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        assert x.dtype == dtype
        assert sigma.dtype == torch.float32
        return denoiser(x.float(), sigma).to(dtype)

    samples = sampling.sample(half, x, SIGMAS, seeds=1)
    assert samples.dtype == dtype
    assert torch.equal(x, before)
    assert not samples.requires_grad


def test_conditioning_callback_and_bar(capsys: pytest.CaptureFixture[str]) -> None:
    told: list[dict[str, Any]] = []
    options: dict[str, Any] = {"conditioning": {"shift": 2.0}, "callback": told.append, "progress": True}
    samples = sampling.sample(denoiser, start(), SIGMAS, eta=0.0, **options)
    assert [entry["i"] for entry in told] == list(range(6))
    torch.testing.assert_close(told[-1]["denoised"], samples)
    assert (samples > 1).all()
    assert "6/6" in capsys.readouterr().err


NETWORKS: dict[str, tuple[noise_schedule.NoiseSchedule, str, Callable[..., torch.Tensor]]] = {
    "epsilon": (noise_schedule.discrete(), "epsilon", lambda x, sigma, clean: (x - clean) / sigma),
    "v": (
        noise_schedule.discrete(),
        "v_prediction",
        lambda x, sigma, clean: (x / (1 + sigma**2) - clean) * (1 + sigma**2) ** 0.5 / sigma,
    ),
    "sample": (noise_schedule.discrete(), "sample", lambda x, sigma, clean: clean),
    "flow": (noise_schedule.RectifiedFlow(), "flow_prediction", lambda x, sigma, clean: (x - clean) / sigma),
    "edm": (
        noise_schedule.EDM(sigma_data=0.7),
        "epsilon",
        lambda x, sigma, clean: (clean - 0.49 / (sigma**2 + 0.49) * x) * (sigma**2 + 0.49) ** 0.5 / (0.7 * sigma),
    ),
}


def network_for(name: str) -> tuple[Denoiser, Any]:
    """A network that makes the closed form's clean sample out of its scaled input and its timestep."""
    schedule, prediction_type, output_for = NETWORKS[name]
    closed_form = kdpm2.zoo.gaussian(0.6, 4, schedule.flow)

    def network(scaled: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        sigma = torch.from_numpy(schedule.sigma(timestep.numpy()))[:, None]
        scale = 1.0 if schedule.flow else (sigma**2 + schedule.sigma_data**2) ** 0.5
        x = scaled.double() * scale
        return output_for(x, sigma, closed_form(x, sigma[:, 0]))

    return Denoiser(network, schedule, prediction_type), closed_form


@pytest.mark.parametrize("name", NETWORKS)
def test_a_wrapped_network_is_the_denoiser(name: str) -> None:
    wrapped, closed_form = network_for(name)
    flow = wrapped.schedule.flow
    # Timesteps whose sigma comes back exactly: between trained ones, a network sees the interpolation of diffusers.
    by_family = {"flow": [1.0, 0.6, 0.25], "edm": [20.0, 3.0, 0.2]}
    sigmas = [*(by_family.get(name) or wrapped.schedule.sigma([900, 500, 20])), 0.0]
    for sigma in sigmas[:-1]:
        levels = torch.full((3,), float(sigma), dtype=torch.float64)
        x = start() * sigma
        torch.testing.assert_close(wrapped(x, levels), closed_form(x, levels), rtol=1e-6, atol=1e-9)
    ours = sampling.sample(wrapped, start() * sigmas[0], sigmas, seeds=2)
    direct = sampling.sample(closed_form, start() * sigmas[0], sigmas, seeds=2, flow=flow)
    # The midpoints of a discrete model fall between its trained timesteps.
    torch.testing.assert_close(ours, direct, rtol=1e-4, atol=1e-5 if name in ("flow", "edm") else 2e-3)


def test_outputs_of_diffusers_models_and_tuples() -> None:
    class Output:
        def __init__(self, sample: torch.Tensor) -> None:
            self.sample = sample

    outputs: list[Any] = [lambda x, t: x, lambda x, t: Output(x), lambda x, t: (x, None)]
    plain, wrapped, tupled = (
        Denoiser(network, noise_schedule.RectifiedFlow(), "flow_prediction") for network in outputs
    )
    expected = sampling.sample(plain, start(), FLOW_SIGMAS, eta=0.0)
    assert torch.equal(sampling.sample(wrapped, start(), FLOW_SIGMAS, eta=0.0), expected)
    assert torch.equal(sampling.sample(tupled, start(), FLOW_SIGMAS, eta=0.0), expected)


def conditional(x: torch.Tensor, sigma: torch.Tensor, cond: torch.Tensor, strength: float = 1.0) -> torch.Tensor:
    return strength * torch.tanh(x + cond) / (1 + sigma[:, None])


@pytest.mark.parametrize("scale", [0.0, 1.0, 7.5])
@pytest.mark.parametrize("form", ["tensors", "mappings"])
def test_guidance_is_one_call_for_both_halves(scale: float, form: str) -> None:
    calls = []

    def counted(*args: Any, **kwargs: Any) -> torch.Tensor:
        calls.append(len(args[0]))
        return conditional(*args, **kwargs)

    cond, uncond = torch.ones(3, 4, dtype=torch.float64), torch.zeros(3, 4, dtype=torch.float64)
    halves: dict[str, Any] = {"cond": cond, "uncond": uncond}
    if form == "mappings":
        halves = {name: {"cond": value, "strength": 0.5} for name, value in halves.items()}
    else:
        halves["strength"] = 0.5

    def by_hand(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        without, with_it = (conditional(x, sigma, c, 0.5) for c in (uncond, cond))
        return without + scale * (with_it - without)

    guided = sampling.sample(kdpm2.guided(counted, scale), start(), SIGMAS, seeds=1, conditioning=halves)
    torch.testing.assert_close(guided, sampling.sample(by_hand, start(), SIGMAS, seeds=1))
    assert calls == [6] * 11


def test_guidance_of_a_wrapped_network_is_that_of_the_denoiser() -> None:
    def network(x: torch.Tensor, timestep: torch.Tensor, cond: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x + cond)

    wrapped = Denoiser(network, noise_schedule.discrete(), "v_prediction")
    halves = {"cond": torch.ones(3, 4, dtype=torch.float64), "uncond": torch.zeros(3, 4, dtype=torch.float64)}
    sigma = torch.full((3,), 2.0, dtype=torch.float64)
    without, with_it = (wrapped(start(), sigma, cond=halves[name]) for name in ("uncond", "cond"))
    expected = without + 3 * (with_it - without)
    torch.testing.assert_close(kdpm2.guided(wrapped, 3.0)(start(), sigma, **halves), expected)


WRONG: dict[str, tuple[Callable[[], object], str]] = {
    "x": (lambda: sampling.sample(denoiser, torch.ones(3, dtype=torch.int64), SIGMAS), "x must be a floating-point"),
    "no sigma": (lambda: sampling.sample(denoiser, start(), []), "sigmas must hold at least one number"),
    "nan": (lambda: sampling.sample(denoiser, start(), [float("nan"), 0.0]), "sigmas must be finite numbers above 0"),
    "zero": (lambda: sampling.sample(denoiser, start(), [1.0, 0.0, 0.0]), "sigmas must be finite numbers above 0"),
    "words": (lambda: sampling.sample(denoiser, start(), ["a", "b"]), "sigmas must be a flat list or array"),  # type: ignore[list-item]
    "flow": (lambda: sampling.sample(denoiser, start(), [2.0, 0.0], flow=True), "at most 1, the last of which"),
    "eta": (lambda: sampling.sample(denoiser, start(), SIGMAS, eta=-1.0), "eta must be a number from 0 to 1000"),
    "s_noise": (lambda: sampling.sample(denoiser, start(), SIGMAS, s_noise=float("nan")), "s_noise must be a number"),
    "noise": (lambda: sampling.sample(denoiser, start(), SIGMAS, noise="pink"), "noise must be one of 'gaussian'"),
    "seeds": (
        lambda: sampling.sample(denoiser, start(), SIGMAS, seeds=[1, 2]),
        "seeds must be one seed, or one for each of the 3 samples, got 2",
    ),
    "a seed": (lambda: sampling.sample(denoiser, start(), SIGMAS, seeds=-1), "seeds must be an integer from 0"),
    "path": (
        lambda: sampling.sample(denoiser, start(), SIGMAS, seeds=[1, 2], noise="brownian"),
        "seeds must be one seed, or one for each of the 3 samples, got 2",
    ),
    "model": (lambda: sampling.sample("model", start(), SIGMAS), "network must be callable, got 'model'"),  # type: ignore[arg-type]
    "output": (
        lambda: sampling.sample(lambda x, sigma: x[:, :1], start(), SIGMAS),
        r"the model must return a tensor with the shape of x, \(3, 4\), got one of shape \(3, 1\)",
    ),
    "contradiction": (
        lambda: sampling.sample(network_for("flow")[0], start(), FLOW_SIGMAS, flow=False),
        "flow must be None or True for this denoiser",
    ),
    "schedule": (lambda: Denoiser(denoiser, "flow"), "schedule must be one of kdpm2.noise_schedule, got 'flow'"),  # type: ignore[arg-type]
    "prediction": (
        lambda: Denoiser(denoiser, noise_schedule.EDM(), "sample"),
        "prediction_type must be one of 'epsilon', 'v_prediction' for an EDM model, got 'sample'",
    ),
    "guidance": (lambda: kdpm2.guided(denoiser, -1.0), "scale must be a number from 0 to 1000"),
    "one half": (
        lambda: kdpm2.guided(conditional, 2.0)(
            start(), torch.ones(3), cond={"cond": start(), "strength": 1.0}, uncond={"cond": start()}
        ),
        "cond must have the same names in cond and uncond, got cond, strength and cond",
    ),
    "halves": (
        lambda: kdpm2.guided(conditional, 2.0)(start(), torch.ones(3), cond=start(), uncond=start(2)),
        r"cond must be a tensor of shape \(3, ...\) in cond and uncond if it differs",
    ),
    "karras": (lambda: sampling.get_sigmas_karras(5, 2.0, 1.0), "sigma_min must be at most sigma_max=1, got 2"),
    "ends": (lambda: Brownian(start(), 2.0, 1.0), "sigma_max must be above sigma_min=2"),
    "too close": (lambda: Brownian(start(), 0.0, 1.0, 1)(0.5, 0.5), "must be at least 1e-6 apart"),
}


@pytest.mark.parametrize(("wrong", "message"), WRONG.values(), ids=WRONG)
def test_wrong_arguments_are_refused(wrong: Callable[[], object], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        wrong()


def test_guidance_of_arguments_within_arguments() -> None:
    def network(
        x: torch.Tensor, sigma: torch.Tensor, states: torch.Tensor, added: dict[str, torch.Tensor], ids: torch.Tensor
    ) -> torch.Tensor:
        assert len(x) == len(states) == len(added["text"]) == 6
        assert ids.shape == (7, 3)
        return torch.tanh(x + states + added["text"]) * ids.sum()

    ids = torch.ones(7, 3, dtype=torch.float64)
    cond = {"states": start(), "added": {"text": 2 * start()}, "ids": ids}
    uncond = {"states": 0 * start(), "added": {"text": start()}, "ids": ids}
    guided = kdpm2.guided(network, 2.0)(start(), torch.ones(3), cond=cond, uncond=uncond)
    without, with_it = torch.tanh(2 * start()) * 21, torch.tanh(4 * start()) * 21
    torch.testing.assert_close(guided, without + 2 * (with_it - without))


@pytest.mark.parametrize("flow", [False, True])
def test_equal_neighbours_and_a_single_sigma(flow: bool) -> None:
    sigmas = [1.0, 1.0, 0.5, 0.5, 0.0]
    assert sampling.sample(denoiser, start(), sigmas, seeds=1, flow=flow).isfinite().all()
    assert torch.equal(sampling.sample(denoiser, start(), [1.0], flow=flow), start())


def test_only_a_flag_makes_a_flow() -> None:
    module = torch.nn.Module()
    module.flow = torch.nn.Identity()
    module.forward = denoiser
    assert sampling.sample(module, start() * 10, SIGMAS, seeds=1).isfinite().all()


class Own(noise_schedule.NoiseSchedule):
    """A schedule of the caller's own, which can be changed, and has no hash."""

    named, predictions = "a model of one's own", noise_schedule.EDM.predictions
    sigma_min, sigma_max = 0.1, 10.0

    def __init__(self, times: float) -> None:
        self.times = times

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Own) and self.times == other.times

    def sigma(self, timestep: Any) -> Any:
        return np.asarray(timestep) / self.times

    def timestep(self, sigma: Any) -> Any:
        return np.asarray(sigma) * self.times


def test_a_schedule_of_ones_own_may_change_between_runs() -> None:
    schedule = Own(2.0)
    seen: list[float] = []

    def network(x: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        seen.append(float(timestep[0]))
        return torch.zeros_like(x)

    for times in (2.0, 3.0):
        schedule.times = times
        seen.clear()
        kdpm2.sample(Denoiser(network, schedule), start(), SIGMAS)
        assert seen[0] == float(SIGMAS[0]) * times


def test_a_table_is_sampled_as_it_is() -> None:
    schedule = noise_schedule.discrete()
    steps = spacing.steps(schedule, 6)
    denoiser = kdpm2.Denoiser(lambda x, t: 0.1 * x, schedule)
    x = torch.randn(2, 3, dtype=torch.float64) * float(steps.sigmas[0])
    table = dpm2(schedule, steps, eta=0.4, s_noise=1.1)
    made = kdpm2.sample(denoiser, x, table, seeds=1)
    assert torch.equal(made, kdpm2.sample(denoiser, x, steps.sigmas, eta=0.4, s_noise=1.1, seeds=1))
    with pytest.raises(ValueError, match="eta and s_noise must be 1, and s_churn 0, with a table"):
        kdpm2.sample(denoiser, x, table, eta=0.4)
