"""The sampler "DPM2 a (kdpm2)" of the web UIs of AUTOMATIC1111 and Forge.

It takes part as the web UI's own "DPM2 a" does: schedule types, eta, sigma noise, prompts, masks and the seeds of a
batch are the web UI's. `kdpm2.sampling` makes the steps, those of flow models (Flux, Stable Diffusion 3) included.
"""

from typing import Any

import k_diffusion.sampling
import torch
from modules import script_callbacks, sd_samplers, sd_samplers_common, sd_samplers_kdiffusion, shared

import kdpm2
from kdpm2 import noise_schedule, sampling

NAME = "DPM2 a (kdpm2)"
OPTIONS = {"scheduler": "karras", "discard_next_to_last_sigma": True, "uses_ensd": True, "second_order": True}
KEEP = "kdpm2_keep_next_to_last_sigma"
KEPT = "Keep penultimate sigma"


def is_flow(denoiser: Any) -> bool:
    """Whether samples are mixed as (1-σ)·x0 + σ·n: Forge's predictors say so, A1111's models mix by themselves."""
    predictor = getattr(denoiser.inner_model, "predictor", None)
    if predictor is not None:
        return bool(predictor.prediction_type == "const")
    return hasattr(denoiser.inner_model.inner_model, "add_noise_to_latent")


def sample(
    model: Any,
    x: torch.Tensor,
    sigmas: torch.Tensor,
    extra_args: dict[str, Any] | None = None,
    callback: Any = None,
    disable: bool | None = None,
    eta: float = 1.0,
    s_noise: float = 1.0,
) -> torch.Tensor:
    """What the web UI calls; the parameters tell it which of its settings to pass."""
    denoiser = kdpm2.Denoiser(model, noise_schedule.SigmaConditioned(is_flow(model)), "sample")
    # Here the web UI puts the generators of the images, one each, so that a batch changes no picture.
    noise = k_diffusion.sampling.default_noise_sampler(x)
    return sampling.sample_dpm_2_ancestral(denoiser, x, sigmas, extra_args, callback, disable, eta, s_noise, noise)


class Sampler(sd_samplers_kdiffusion.KDiffusionSampler):
    """The web UI's sampler, with a choice about the next-to-last sigma."""

    config: Any

    def get_sigmas(self, p: Any, steps: int) -> torch.Tensor:
        """The noise levels of the schedule type; the web UI's setting to always leave one out comes first."""
        if getattr(shared.opts, KEEP, False) and not shared.opts.always_discard_next_to_last_sigma:
            self.config = self.config._replace(options=OPTIONS | {"discard_next_to_last_sigma": False})
            p.extra_generation_params[KEPT] = True
        sigmas: torch.Tensor = super().get_sigmas(p, steps)
        return sigmas


def register() -> None:
    """Add the sampler to the menus and the API, once."""
    own = sd_samplers_common.SamplerData(NAME, lambda model: Sampler(sample, model), ["k_dpm_2_a_kdpm2"], OPTIONS)
    sd_samplers.all_samplers[:] = [*(each for each in sd_samplers.all_samplers if each.name != NAME), own]
    sd_samplers.all_samplers_map[NAME] = own
    sd_samplers_kdiffusion.sampler_extra_params[sample] = ["s_noise"]
    sd_samplers.set_samplers()


def settings() -> None:
    """Add the choice to the sampler parameters in the settings."""
    label = f"{NAME}: keep the next-to-last sigma, which the web UI leaves out of its DPM2 a"
    section = ("sampler-params", "Sampler parameters")
    shared.opts.add_option(KEEP, shared.OptionInfo(False, label, section=section, infotext=KEPT))


script_callbacks.on_before_ui(register)
script_callbacks.on_ui_settings(settings)
