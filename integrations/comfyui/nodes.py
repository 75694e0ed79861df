"""The nodes: options as ComfyUI shows them, handed on as they are."""

from typing import Any

import comfy.samplers
from comfy_api.latest import ComfyExtension, io

from .levels import AS_SPACED, CURVES, SPACINGS, sigmas_of
from .noise import NOISES, PerImage
from .picture import picture
from .sampler import sample_kdpm2_ancestral

_LARGEST_SIGMA = 20000.0


class Kdpm2Sampler(io.ComfyNode):
    """DPM2 as a SAMPLER, for SamplerCustom and SamplerCustomAdvanced."""

    @classmethod
    def define_schema(cls) -> Any:
        """Its options."""
        number = {"min": 0.0, "max": 100.0, "step": 0.01, "round": False}
        return io.Schema(
            node_id="KDPM2Sampler",
            display_name="KDPM2 sampler",
            category="sampling/custom_sampling/samplers",
            description="DPM2: eta 1 is dpm_2_ancestral, eta 0 is dpm_2.",
            inputs=[
                io.Float.Input(
                    "eta",
                    default=1.0,
                    **number,
                    tooltip="How much of a step's noise is fresh. 1: ancestral (dpm_2_ancestral). "
                    "0: deterministic (dpm_2). With few steps 0.3 to 0.7 is often a good choice.",
                ),
                io.Float.Input("s_noise", default=1.0, **number, tooltip="Scale of all noise that steps add."),
                io.Combo.Input(
                    "noise",
                    options=list(NOISES),
                    default=NOISES[0],
                    tooltip="gaussian: the numbers of ComfyUI's own samplers. "
                    "brownian: one seed's pictures converge as you add steps.",
                ),
                io.Boolean.Input(
                    "per_image",
                    default=False,
                    tooltip="Image i of a batch with seed s is the picture of the seed s + i alone.",
                ),
                io.Float.Input(
                    "s_churn",
                    default=0.0,
                    **number,
                    tooltip="Noise added before steps (EDM's churn), in all.",
                ),
                io.Float.Input(
                    "s_tmin", default=0.0, **(number | {"max": _LARGEST_SIGMA}), tooltip="Smallest sigma with churn."
                ),
                io.Float.Input(
                    "s_tmax",
                    default=_LARGEST_SIGMA,
                    **(number | {"max": _LARGEST_SIGMA}),
                    tooltip="Largest sigma with churn.",
                ),
            ],
            outputs=[io.Sampler.Output()],
        )

    @classmethod
    def execute(cls, per_image: bool, **options: Any) -> Any:
        """The sampler."""
        kind = PerImage if per_image else comfy.samplers.KSAMPLER
        return io.NodeOutput(kind(sample_kdpm2_ancestral, {**options, "per_image": per_image}))


def _sigmas_inputs() -> list[Any]:
    number = {"default": 0.0, "min": 0.0, "step": 0.001, "round": False}
    return [
        io.Model.Input("model"),
        io.Int.Input("steps", default=20, min=1, max=10000),
        io.Float.Input("denoise", default=1.0, min=0.0, max=1.0, step=0.01),
        io.Combo.Input(
            "timestep_spacing",
            options=list(SPACINGS),
            default="linspace",
            tooltip="How steps are spaced among the model's levels. A curve takes the ends from it.",
        ),
        io.Combo.Input(
            "sigma_curve",
            options=list(CURVES),
            default=AS_SPACED,
            tooltip="A curve from the first level to the last. ays_...: Align Your Steps. "
            "tuned: the levels in tuned_sigmas.",
        ),
        io.Boolean.Input(
            "discard_next_to_last_sigma",
            default=True,
            tooltip="Leave out the level before the last, as KSampler does for dpm_2 and dpm_2_ancestral.",
        ),
        io.Int.Input("steps_offset", default=0, min=0, max=10000, tooltip="Added to leading timesteps."),
        io.Float.Input(
            "sigma_max",
            **number,
            max=_LARGEST_SIGMA,
            tooltip="Where a curve begins; 0 for the first spaced level.",
        ),
        io.Float.Input(
            "sigma_min", **number, max=_LARGEST_SIGMA, tooltip="Where it ends; 0 for the last spaced level."
        ),
        io.Float.Input(
            "rho", **number, max=100.0, tooltip="Exponent of the karras (0: 7) or polyexponential (0: 1) curve."
        ),
        io.String.Input(
            "tuned_sigmas",
            default="",
            multiline=True,
            tooltip="With the curve tuned: noise levels from the largest down, for instance "
            "14.6, 6.5, 3.9, 2.7, 1.9, 1.4, 0.96, 0.65, 0.4, 0.15, 0.03. "
            "Other numbers of steps are interpolated.",
        ),
    ]


class Kdpm2Sigmas(io.ComfyNode):
    """Noise levels as SIGMAS, from the model's own, and a picture of them."""

    @classmethod
    def define_schema(cls) -> Any:
        """Its options."""
        return io.Schema(
            node_id="KDPM2Sigmas",
            display_name="KDPM2 sigmas",
            category="sampling/custom_sampling/schedulers",
            description="The noise levels of a run, spaced among those of the model, and a picture of them.",
            inputs=_sigmas_inputs(),
            outputs=[io.Sigmas.Output(), io.Image.Output(display_name="picture")],
        )

    @classmethod
    def execute(cls, model: Any, sigma_max: float, sigma_min: float, rho: float, **options: Any) -> Any:
        """The levels, and their picture."""
        sigmas = sigmas_of(
            model.get_model_object("model_sampling"),
            # A field of a node is never empty: 0 stands for it.
            sigma_max=sigma_max or None,
            sigma_min=sigma_min or None,
            rho=rho or None,
            **options,
        )
        return io.NodeOutput(sigmas, picture(sigmas))


class Pack(ComfyExtension):
    """What ComfyUI asks for its nodes."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """Both nodes."""
        return [Kdpm2Sampler, Kdpm2Sigmas]
