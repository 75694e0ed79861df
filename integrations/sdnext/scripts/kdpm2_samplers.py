"""An extension of SD.Next: kdpm2's samplers in its list, for models of every kind, flows included.

SD.Next makes a sampler of a class and of options by the sampler's name, and finds the form for flows by that name.
"""

from typing import Any

import gradio as gr
from modules import script_callbacks, scripts_manager, sd_samplers, sd_samplers_common, sd_samplers_diffusers, shared

from kdpm2 import KDPM2AncestralDiscreteScheduler, KDPM2DiscreteScheduler

FOR_FLOWS = " FlowMatch"  # SD.Next looks for this in names, and asks the class whether it knows flows by it
SPACING = {
    "use_karras_sigmas": False,
    "use_exponential_sigmas": False,
    "use_beta_sigmas": False,
    "use_lu_lambdas": False,
    "timestep_spacing": "linspace",
}
OF_BETAS = {"rescale_betas_zero_snr": False, "steps_offset": 0}
OF_FLOWS = {"flow_shift": 1.0, "use_dynamic_shifting": False, "base_shift": 0.5, "max_shift": 1.15}


class KDPM2FlowMatchScheduler(KDPM2DiscreteScheduler):
    """DPM2 for flows."""


class KDPM2AncestralFlowMatchScheduler(KDPM2AncestralDiscreteScheduler):
    """DPM2 with ancestral sampling for flows."""


SAMPLERS = {
    "DPM2 (kdpm2)": KDPM2DiscreteScheduler,
    "DPM2 a (kdpm2)": KDPM2AncestralDiscreteScheduler,
    "DPM2 (kdpm2)" + FOR_FLOWS: KDPM2FlowMatchScheduler,
    "DPM2 a (kdpm2)" + FOR_FLOWS: KDPM2AncestralFlowMatchScheduler,
}


class Seeds(scripts_manager.Script):
    """Notes the seeds of the images that come next: pipelines of flows pass no generator to a scheduler."""

    of_images: list[int] | None = None

    def title(self) -> str:
        """The name of the script, which has no interface."""
        return "kdpm2"

    def show(self, is_img2img: bool) -> Any:
        """Run with every image."""
        return scripts_manager.AlwaysVisible

    def process_batch(self, p: Any, *args: Any, seeds: list[int] | None = None, **kwargs: Any) -> None:
        """Called before the images of a batch are made."""
        Seeds.of_images = [int(seed) for seed in seeds] if seeds else None


def made(name: str, model: Any) -> Any:
    """SD.Next's sampler of this name, with eta and seeds."""
    options = {**SPACING, **(OF_FLOWS if name.endswith(FOR_FLOWS) else OF_BETAS)}
    if " a " in name:
        options |= {"eta": shared.opts.scheduler_eta, "s_noise": getattr(shared.opts, "kdpm2_s_noise", 1.0)}
    sd_samplers_diffusers.config[name] = options
    sampler = sd_samplers_diffusers.DiffusionSampler(name, SAMPLERS[name], model)
    if sampler.sampler is not None:
        sampler.sampler.seed(Seeds.of_images)
    return sampler


def register() -> None:
    """Add the samplers to the list, once."""
    data = sd_samplers_diffusers.samplers_data_diffusers
    data[:] = [each for each in data if each.name not in SAMPLERS]
    place = [each.name for each in data].index("KDPM2 a") + 1
    data[place:place] = [
        sd_samplers_common.SamplerData(name, lambda model, name=name: made(name, model), [], {}) for name in SAMPLERS
    ]
    sd_samplers.list_samplers()
    sd_samplers.set_samplers()


def settings() -> None:
    """Add the scale of the noise to the settings, and beside it SD.Next's own eta, which its pages hide."""
    section = ("kdpm2", "kdpm2")
    labels = shared.opts.data_labels
    own = labels.pop("scheduler_eta")
    labels.pop("kdpm2_s_noise", None)  # SD.Next saves its page by the order of this list: a section stands together
    eta = shared.OptionInfo(
        own.default, own.label, gr.Slider, {"minimum": 0, "maximum": 1, "step": 0.01}, section=section
    )
    shared.opts.add_option("scheduler_eta", eta)
    label, span = "DPM2 a (kdpm2): scale of the noise", {"minimum": 0, "maximum": 1.5, "step": 0.005}
    shared.opts.add_option("kdpm2_s_noise", shared.OptionInfo(1.0, label, gr.Slider, span, section=section))


register()
script_callbacks.on_ui_settings(settings)
