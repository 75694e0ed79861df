"""A node pack for InvokeAI: kdpm2's samplers behind the names that InvokeAI has, and nodes of theirs for flow models.

For Stable Diffusion 1 to XL, the names "KDPM 2", "KDPM 2 a" and their Karras forms are kdpm2's from then on, in the
linear UI and in workflows. For FLUX and Z-Image, whose lists of schedulers are closed, there are two nodes.
"""

from contextvars import ContextVar
from typing import Any, Literal

from invokeai.app.invocations.baseinvocation import invocation
from invokeai.app.invocations.fields import InputField
from invokeai.app.invocations.flux_denoise import FluxDenoiseInvocation
from invokeai.app.invocations.z_image_denoise import ZImageDenoiseInvocation
from invokeai.backend.flux.schedulers import FLUX_SCHEDULER_MAP, ZIMAGE_SCHEDULER_MAP
from invokeai.backend.stable_diffusion.schedulers import SCHEDULER_MAP

from kdpm2 import KDPM2AncestralDiscreteScheduler, KDPM2DiscreteScheduler

DPM2 = Literal["kdpm_2_a", "kdpm_2"]
LABELS = {"kdpm_2_a": "DPM2 a (kdpm2)", "kdpm_2": "DPM2 (kdpm2)"}

# The options of the node that runs, and its seed: InvokeAI makes these schedulers, and passes no generator to a step.
_chosen: ContextVar[dict[str, Any] | None] = ContextVar("chosen", default=None)


class FlowKDPM2Scheduler(KDPM2AncestralDiscreteScheduler):
    """For the noise levels of a flow, which InvokeAI passes to `set_timesteps`, the last one included."""

    def __init__(self, num_train_timesteps: int = 1000, shift: float = 1.0, eta: float = 1.0) -> None:
        chosen = _chosen.get() or {"seed": None, "eta": eta, "s_noise": 1.0}
        super().__init__(
            num_train_timesteps,
            prediction_type="flow_prediction",
            flow_shift=shift,
            final_sigmas_type="sigma_min",
            eta=chosen["eta"],
            s_noise=chosen["s_noise"],
        )
        self.seed(chosen["seed"])


def swap() -> None:
    """Put kdpm2's classes where InvokeAI looks schedulers up."""
    ours = {each.__name__: each for each in (KDPM2AncestralDiscreteScheduler, KDPM2DiscreteScheduler)}
    for name, (cls, options) in list(SCHEDULER_MAP.items()):
        if cls.__name__ in ours:
            SCHEDULER_MAP[name] = ours[cls.__name__], options
    for name in LABELS:
        FLUX_SCHEDULER_MAP[name] = ZIMAGE_SCHEDULER_MAP[name] = FlowKDPM2Scheduler


def _made(node: Any, run: Any, context: Any) -> Any:
    eta = node.eta if node.scheduler == "kdpm_2_a" else 0.0
    token = _chosen.set({"seed": node.seed, "eta": eta, "s_noise": node.s_noise})
    try:
        return run(context)
    finally:
        _chosen.reset(token)


@invocation(
    "flux_denoise_kdpm2", title="FLUX Denoise (kdpm2)", tags=["flux", "kdpm2"], category="latents", version="1.0.0"
)
class FluxDenoiseKDPM2Invocation(FluxDenoiseInvocation):
    """Denoise with DPM2, ancestral or not. Steps are calls of the model: N steps are 2N-1 of them."""

    scheduler: DPM2 = InputField(default="kdpm_2_a", description="The sampler.", ui_choice_labels=LABELS)
    eta: float = InputField(default=1.0, ge=0, le=1, description="How much noise is added anew: 0 is none.")
    s_noise: float = InputField(default=1.0, ge=0, description="Scale of the noise.")

    def _run_diffusion(self, context: Any) -> Any:
        return _made(self, super()._run_diffusion, context)


@invocation(
    "z_image_denoise_kdpm2",
    title="Denoise - Z-Image (kdpm2)",
    tags=["z-image", "kdpm2"],
    category="latents",
    version="1.0.0",
)
class ZImageDenoiseKDPM2Invocation(ZImageDenoiseInvocation):
    """Denoise with DPM2, ancestral or not. Steps are calls of the model: N steps are 2N-1 of them."""

    scheduler: DPM2 = InputField(default="kdpm_2_a", description="The sampler.", ui_choice_labels=LABELS)
    eta: float = InputField(default=1.0, ge=0, le=1, description="How much noise is added anew: 0 is none.")
    s_noise: float = InputField(default=1.0, ge=0, description="Scale of the noise.")

    def _run_diffusion(self, context: Any) -> Any:
        return _made(self, super()._run_diffusion, context)


swap()
