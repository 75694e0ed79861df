"""The ComfyUI pack: on ComfyUI's own code where KDPM2_COMFYUI names its checkout, and else on a stand-in for it."""

import json
import os
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import kdpm2
from kdpm2 import curves, spacing
from tests.integrations import against_comfyui, comfyui_stand_in, real_comfyui

CHECKOUT = os.environ.get(real_comfyui.VARIABLE)
SIGMAS = torch.tensor([14.6, 6.0, 2.5, 1.0, 0.4, 0.1, 0.0])
FLOW_SIGMAS = torch.tensor([1.0, 0.9, 0.7, 0.45, 0.2, 0.05, 0.0])
LATENT = torch.zeros(3, 4, 8, 8)
TABLE = kdpm2.noise_schedule.discrete(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)


@pytest.fixture(scope="module")
def pack() -> Any:
    if CHECKOUT is None:
        comfyui_stand_in.load()
    else:
        real_comfyui.load(CHECKOUT)
    return against_comfyui.pack()


def sampling_of(flow: bool) -> Any:
    """What a model says of its noise levels: those of Stable Diffusion, or of a flow shifted by 3."""
    if CHECKOUT is not None:
        return real_comfyui.model_of("FLOW" if flow else "EPS").model.model_sampling
    u = torch.arange(1, 1001) / 1000
    if flow:
        return comfyui_stand_in.FlowSampling(3 * u / (1 + 2 * u))
    return comfyui_stand_in.Sampling(torch.from_numpy(TABLE.sigmas).float())


class Guider:
    """A denoiser as ComfyUI wraps one: of a perfect network for normal data, or any other function."""

    def __init__(self, flow: bool, denoise: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], scale: float) -> None:
        model_sampling = sampling_of(flow)
        if scale != 1:
            model_sampling.noise_scale = scale
        self.inner_model = types.SimpleNamespace(model_sampling=model_sampling)
        self.denoise = denoise

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor, **kw: Any) -> torch.Tensor:
        return self.denoise(x, sigma.reshape(-1, 1, 1, 1))


def smooth(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    return torch.tanh(x / (1 + sigma))


def sampled(
    pack: Any,
    sigmas: torch.Tensor = SIGMAS,
    *,
    flow: bool = False,
    denoise: Any = smooth,
    seed: int = 7,
    start: torch.Tensor | None = None,
    latent: torch.Tensor = LATENT,
    scale: float = 1.0,
    **options: Any,
) -> torch.Tensor:
    """A run of the node's sampler, from the noise of the seed if none is given to start from."""
    from comfy import sample

    (sampler_node, _) = pack.node_list
    defaults = {"eta": 1.0, "s_noise": 1.0, "noise": "gaussian", "per_image": False}
    churn = {"s_churn": 0.0, "s_tmin": 0.0, "s_tmax": 20000.0}
    sampler = sampler_node.execute(**(defaults | churn | options))[0]
    start = sample.prepare_noise(latent, seed) if start is None else start
    made: torch.Tensor = sampler.sample(Guider(flow, denoise, scale), sigmas, {"seed": seed}, None, start, latent)
    # ComfyUI divides what it hands on of a flow by this.
    return made * (1 - sigmas[-1]) if flow and CHECKOUT is not None else made


def plain_step(
    x: torch.Tensor, sigma: torch.Tensor, following: torch.Tensor, eta: float, flow: bool, drawn: torch.Tensor
) -> torch.Tensor:
    """One step of DPM2 as the formulas have it, written down once more."""
    if flow:
        down = following * (1 + eta * (following / sigma - 1))
        ratio = (1 - following) / (1 - down)
        up = (following**2 - (down * ratio) ** 2).clamp(min=0).sqrt()
    else:
        up = eta * following * (1 - (following / sigma) ** 2).sqrt()
        down, ratio = (following**2 - up**2).sqrt(), torch.tensor(1.0)
    d = (x - smooth(x, sigma)) / sigma
    if down == 0:
        return x - sigma * d
    mid = (sigma * down).sqrt()
    half = x + (mid - sigma) * d
    d = (half - smooth(half, mid)) / mid
    return ratio * (x + (down - sigma) * d) + up * drawn


@pytest.mark.parametrize("flow", [False, True])
@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
def test_a_run_is_that_of_the_formulas_with_comfyuis_noise(pack: Any, flow: bool, eta: float) -> None:
    from comfy.k_diffusion.sampling import default_noise_sampler
    from comfy.sample import prepare_noise

    sigmas = FLOW_SIGMAS if flow else SIGMAS
    noise, draw = prepare_noise(LATENT, 7).double(), default_noise_sampler(LATENT, seed=7)
    x = sigmas[0].double() * noise
    for sigma, following in zip(sigmas.double()[:-1], sigmas.double()[1:], strict=True):
        drawn = draw(sigma, following).double() if following > 0 else torch.zeros(())
        x = plain_step(x, sigma, following, eta, flow, drawn)
    torch.testing.assert_close(sampled(pack, sigmas, flow=flow, eta=eta).double(), x, rtol=1e-5, atol=2e-6)


def normal_data(flow: bool, deviation: float) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """The perfect denoiser for normal data: it is linear, so a run's variance is known."""

    def denoise(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        alpha = 1 - sigma if flow else 1.0
        return x * alpha * deviation**2 / (alpha**2 * deviation**2 + sigma**2)

    return denoise


def normal(seed: int, deviation: float = 1.0) -> torch.Tensor:
    """16,384 numbers, whose deviation is known to 0.6 %."""
    return deviation * torch.randn(1, 1, 128, 128, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("flow", [False, True])
@pytest.mark.parametrize("eta", [0.0, 1.0, 1.7])
@pytest.mark.parametrize("rising", [False, True])
@pytest.mark.filterwarnings("ignore:sigmas rise:UserWarning")
def test_the_variance_is_right_with_any_eta_and_where_sigmas_rise(
    pack: Any, flow: bool, eta: float, rising: bool
) -> None:
    sigmas = torch.linspace(0.3, 0.9, 100) if rising else torch.linspace(0.9, 0.3, 100)
    options: dict[str, Any] = {"flow": flow, "eta": eta, "start": normal(0), "latent": normal(1, 0.5)}
    made = sampled(pack, sigmas, denoise=normal_data(flow, 0.5), **options)
    alpha = 1 - sigmas[-1] if flow else 1.0
    assert made.std() == pytest.approx(float(np.hypot(alpha * 0.5, sigmas[-1])), rel=0.02)


@pytest.mark.parametrize("flow", [False, True])
def test_where_all_noise_of_a_step_is_new_it_is_added(pack: Any, flow: bool) -> None:
    """One step, to the clean samples seen and noise of deviation σ'. ComfyUI forgets it, or gives NaN for a flow."""
    sigma, following = 0.9, 0.3
    before, after = ((1 - sigma), (1 - following)) if flow else (1.0, 1.0)
    seen = before * 0.5**2 / np.hypot(before * 0.5, sigma)
    sigmas = torch.tensor([sigma, following], dtype=torch.float64)
    options: dict[str, Any] = {"flow": flow, "eta": 4.0, "start": normal(0), "latent": normal(1, 0.5)}
    made = sampled(pack, sigmas, denoise=normal_data(flow, 0.5), **options)
    assert made.std() == pytest.approx(float(np.hypot(after * seen, following)), rel=0.02)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_a_picture_is_taken_back_to_noise_with_a_warning_if_eta_is_for_nothing(pack: Any, eta: float) -> None:
    flipped = SIGMAS[:-1].flip(0)
    if not eta:
        sampled(pack, flipped, eta=eta)
        return
    with pytest.warns(UserWarning, match="no noise is added where they do"):
        made = sampled(pack, flipped, eta=eta)
    assert torch.equal(made, sampled(pack, flipped, eta=0.0))


def test_levels_after_a_final_zero_are_no_steps(pack: Any) -> None:
    torch.testing.assert_close(sampled(pack, torch.cat([SIGMAS, torch.zeros(2)])), sampled(pack))


@pytest.mark.parametrize("noise", ["gaussian", "brownian"])
@pytest.mark.parametrize("flow", [False, True])
def test_with_noise_per_image_a_batch_is_its_pictures(pack: Any, noise: str, flow: bool) -> None:
    options: dict[str, Any] = {"flow": flow, "noise": noise, "per_image": True, "eta": 0.8}
    sigmas = FLOW_SIGMAS if flow else SIGMAS
    together = sampled(pack, sigmas, **options)
    alone = [sampled(pack, sigmas, seed=7 + i, latent=LATENT[:1], **options) for i in range(len(LATENT))]
    assert torch.equal(together, torch.cat(alone))


def test_noise_of_another_seed_stays(pack: Any, caplog: pytest.LogCaptureFixture) -> None:
    other = torch.randn(LATENT.shape, generator=torch.Generator().manual_seed(99))
    made = sampled(pack, start=other, per_image=True)
    assert "is not that of the seed, and stays" in caplog.text
    assert torch.equal(made[:1], sampled(pack, start=other[:1], latent=LATENT[:1]))


def test_a_part_without_noise_of_its_own_gets_none(pack: Any) -> None:
    whole = sampled(pack, per_image=True, eta=0.0)
    first = sampled(pack, SIGMAS[:4], per_image=True, eta=0.0)
    rest = sampled(pack, SIGMAS[3:], start=torch.zeros_like(LATENT), latent=first, per_image=True, eta=0.0)
    torch.testing.assert_close(rest, whole)


def test_brownian_noise_is_the_same_in_two_parts(pack: Any) -> None:
    """Gaussian noise begins anew in the second part, as ComfyUI's own does."""
    first = sampled(pack, SIGMAS[:4], noise="brownian")
    rest = sampled(pack, SIGMAS[3:], noise="brownian", start=torch.zeros_like(LATENT), latent=first)
    torch.testing.assert_close(rest, sampled(pack, noise="brownian"))


def test_all_noise_is_multiplied_by_the_models_noise_scale(pack: Any) -> None:
    options: dict[str, Any] = {"flow": True, "start": torch.ones_like(LATENT)}
    scaled = sampled(pack, FLOW_SIGMAS, scale=1.5, s_noise=2.0, **options)
    assert torch.equal(scaled, sampled(pack, FLOW_SIGMAS, s_noise=3.0, **options))


def test_churn_raises_the_levels_within_its_window(pack: Any) -> None:
    seen: list[float] = []

    def told(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        seen.append(float(sigma.flatten()[0]))
        return smooth(x, sigma)

    sampled(pack, denoise=told, eta=0.0, s_churn=1.2, s_tmin=0.5, s_tmax=10.0)
    starts = np.array(seen[::2])
    within = (SIGMAS[:-1] > 0.5) & (SIGMAS[:-1] < 10)
    np.testing.assert_allclose(starts, np.where(within, 1.2, 1.0) * SIGMAS[:-1].numpy(), rtol=1e-6)


def test_churn_of_a_flow_keeps_the_data(pack: Any) -> None:
    """A network that says what the samples are, however noisy: they stay what they are, and the noise ends."""
    clean = torch.full_like(LATENT, 0.7)
    levels = torch.linspace(0.9, 0, 9)
    start = 0.1 * clean + 0.9 * torch.randn_like(LATENT)
    made = sampled(pack, levels, flow=True, denoise=lambda x, sigma: clean, start=start, latent=clean, s_churn=2.0)
    torch.testing.assert_close(made, clean)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "noise": ({"noise": "pink"}, "noise must be one of 'gaussian', 'brownian', got 'pink'"),
    "churn on a path": ({"noise": "brownian", "s_churn": 1.0}, "noise must be 'gaussian' with s_churn"),
}


@pytest.mark.parametrize(("options", "message"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_is_refused(pack: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sampled(pack, **options)


def levels_of(pack: Any, flow: bool = False, **options: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """What the node of noise levels gives: the levels, and their picture."""
    model = types.SimpleNamespace(get_model_object=lambda name: {"model_sampling": sampling_of(flow)}[name])
    defaults: dict[str, Any] = {each.id: None for each in pack.node_list[1].GET_SCHEMA().inputs}
    defaults |= {"steps": 8, "denoise": 1.0, "timestep_spacing": "linspace", "sigma_curve": "as spaced"}
    defaults |= {"discard_next_to_last_sigma": False, "steps_offset": 0, "tuned_sigmas": ""}
    defaults |= {"sigma_max": 0.0, "sigma_min": 0.0, "rho": 0.0, "model": model}
    made = pack.node_list[1].execute(**(defaults | options))
    return made[0], made[1]


@pytest.mark.parametrize("curve", [None, *sorted({*spacing.CURVE_NAMES} - {"ays_svd", "bong_tangent"})])
@pytest.mark.parametrize("discard", [False, True])
def test_levels_are_those_of_the_schedulers(pack: Any, curve: str | None, discard: bool) -> None:
    """On the 1,000 levels of Stable Diffusion, whose betas kdpm2 knows."""
    chosen: dict[str, Any] = {"sigma_curve": curve or "as spaced", "discard_next_to_last_sigma": discard}
    expected = spacing.steps(TABLE, 8, "trailing", sigma_curve=curve, discard_next_to_last_sigma=discard).sigmas
    made, _ = levels_of(pack, timestep_spacing="trailing", **chosen)
    assert made.dtype == torch.float32
    np.testing.assert_allclose(made.numpy(), expected, rtol=1e-5)


EVEN = {
    "linspace": np.linspace(1, 0.001, 8),
    "trailing": 1 - np.arange(8) / 8,
    "simple": 1 - np.arange(8) / 8,
    "sgm_uniform": np.linspace(1, 0.001, 9)[:-1],
}


@pytest.mark.parametrize(("name", "even"), EVEN.items(), ids=EVEN)
def test_levels_of_a_flow_are_even_ones_shifted(pack: Any, name: str, even: np.ndarray[Any, Any]) -> None:
    made, _ = levels_of(pack, flow=True, timestep_spacing=name)
    np.testing.assert_allclose(made[:-1].numpy(), 3 * even / (1 + 2 * even), rtol=1e-5)


def test_denoise_is_the_end_of_a_longer_run(pack: Any) -> None:
    longer, _ = levels_of(pack, steps=16, sigma_curve="karras")
    assert torch.equal(levels_of(pack, denoise=0.5, sigma_curve="karras")[0], longer[-9:])
    assert levels_of(pack, denoise=0.0)[0].shape == (0,)


def test_a_curve_has_ends_of_its_own(pack: Any) -> None:
    made, _ = levels_of(pack, sigma_curve="karras", sigma_max=10.0, sigma_min=0.1, rho=5.0)
    np.testing.assert_allclose(made[:-1].numpy(), curves.karras(10.0, 0.1, 8, 5.0), rtol=1e-6)


def test_tuned_levels_are_used_as_they_are_and_between_them(pack: Any) -> None:
    text = "14.6, 6.5 3.9, 2.7\n1.0, 0.03"
    made, _ = levels_of(pack, steps=5, sigma_curve="tuned", tuned_sigmas=text)
    np.testing.assert_allclose(made.numpy(), [14.6, 6.5, 3.9, 2.7, 1.0, 0.0], rtol=1e-6)
    twice, _ = levels_of(pack, steps=10, sigma_curve="tuned", tuned_sigmas=text)
    np.testing.assert_allclose(twice[1].item(), np.sqrt(14.6 * 6.5), rtol=1e-6)


TUNED: dict[str, tuple[dict[str, Any], str]] = {
    "words": ({"sigma_curve": "tuned", "tuned_sigmas": "a b"}, "tuned_sigmas must be numbers with commas"),
    "rising": ({"sigma_curve": "tuned", "tuned_sigmas": "1 2"}, "tuned_sigmas must hold noise levels"),
    "no levels": ({"sigma_curve": "tuned"}, "tuned_sigmas must be given with the curve 'tuned', and with no other"),
    "another curve": ({"tuned_sigmas": "2 1"}, "tuned_sigmas must be given with the curve 'tuned', and with no other"),
    "no curve": ({"sigma_min": 0.1}, "sigma_min, sigma_max and rho must be None without a curve"),
}


@pytest.mark.parametrize(("options", "message"), TUNED.values(), ids=TUNED)
def test_wrong_levels_are_refused(pack: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        levels_of(pack, **options)


def test_the_picture_is_one_of_comfyui(pack: Any) -> None:
    _, picture = levels_of(pack)
    assert picture.shape[0] == 1
    assert picture.shape[-1] == 3
    assert picture.dtype == torch.float32
    assert picture.min() >= 0
    assert picture.max() == 1
    assert (picture < 0.5).any()
    assert not torch.equal(picture, levels_of(pack, sigma_curve="karras")[1])


def test_the_menus_have_new_names_at_their_end_and_all_they_had(pack: Any) -> None:
    from comfy import samplers
    from comfy.k_diffusion import sampling

    for names in (samplers.KSampler.SAMPLERS, samplers.SAMPLER_NAMES, samplers.KSAMPLER_NAMES):
        assert {"kdpm2", "kdpm2_ancestral"} == set(names[-2:])
        assert "dpm_2_ancestral" in names
    assert samplers.KSampler.SCHEDULERS[0] == "simple"
    for name in samplers.SCHEDULER_NAMES[-7:]:
        handler = samplers.SCHEDULER_HANDLERS[name]
        assert handler.use_ms
        assert len(handler.handler(sampling_of(False), 6)) == 7 or name == "kdpm2_ays_svd"
    assert {"kdpm2", "kdpm2_ancestral"} <= samplers.KSampler.DISCARD_PENULTIMATE_SIGMA_SAMPLERS
    assert callable(sampling.sample_kdpm2)
    before = list(samplers.SAMPLER_NAMES)
    against_comfyui.pack()
    assert before == samplers.SAMPLER_NAMES


def test_the_workflow_names_every_input_of_the_nodes(pack: Any) -> None:
    workflow = json.loads((against_comfyui.PACK / "workflow.json").read_text())
    for node in pack.node_list:
        schema = node.GET_SCHEMA()
        (inputs,) = (each["inputs"] for each in workflow.values() if each["class_type"] == schema.node_id)
        assert sorted(inputs) == sorted(each.id for each in schema.inputs)


ON_COMFYUI = pytest.mark.skipif(CHECKOUT is None, reason=f"{real_comfyui.VARIABLE} names no checkout of ComfyUI")
WHERE_IT_IS_WRONG: dict[str, tuple[bool, list[float], float, bool]] = {
    "all noise of a step is new": (False, [0.9, 0.3], 4.0, False),
    "the same in a flow": (True, [0.9, 0.3], 4.0, True),
    "levels that rise": (False, [0.3, 0.9], 1.0, False),
    "the same from far down, in a flow": (True, [0.0001, 0.5, 0.9], 1.0, True),
    "zeros at the end": (False, [0.9, 0.0, 0.0], 1.0, True),
    "a flow from pure noise without fresh noise": (True, [1.0, 1.0, 0.5], 0.0, True),
}


@ON_COMFYUI
@pytest.mark.parametrize(("flow", "levels", "eta", "nan"), WHERE_IT_IS_WRONG.values(), ids=WHERE_IT_IS_WRONG)
@pytest.mark.filterwarnings("ignore:sigmas rise:UserWarning")
def test_where_comfyui_is_wrong(pack: Any, flow: bool, levels: list[float], eta: float, nan: bool) -> None:
    """Normal data again: its own sampler gives no numbers, or not their variance."""
    from comfy import samplers

    sigmas = torch.tensor(levels, dtype=torch.float64)
    sampler, guider = samplers.ksampler("dpm_2_ancestral", {"eta": eta}), Guider(flow, normal_data(flow, 0.5), 1.0)
    theirs = sampler.sample(guider, sigmas, {"seed": 7}, None, normal(0), normal(1, 0.5), disable_pbar=True)
    options: dict[str, Any] = {"flow": flow, "eta": eta, "start": normal(0), "latent": normal(1, 0.5)}
    ours = sampled(pack, sigmas, denoise=normal_data(flow, 0.5), **options)
    assert ours.isfinite().all()
    assert bool(theirs.isnan().any()) == nan
    if not nan:
        assert theirs.std() < 0.6 * np.hypot(0.5, levels[-1])


@ON_COMFYUI
@pytest.mark.parametrize("sampler", against_comfyui.PAIRS)
@pytest.mark.parametrize("name", ["EPS", "EDM", "FLOW", "FLUX", "V_PREDICTION, zero SNR"])
def test_ksampler_draws_comfyuis_own_pictures(pack: Any, name: str, sampler: str) -> None:
    """Some of what `against_comfyui` runs, which is all."""
    for schedule in ("karras", "normal"):
        for way in against_comfyui.WAYS:
            case = against_comfyui.compared(name, sampler, schedule, way)
            if case.apart > against_comfyui.ROUNDING:
                assert case.in_float64 is not None
                assert case.ours is not None
                assert case.theirs is not None
                assert case.in_float64 < 1e-6
                assert case.ours < case.theirs
