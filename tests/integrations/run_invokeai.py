"""InvokeAI with our node pack: its scheduler loading, its Stable Diffusion backend and its FLUX loop.

`python -m tests.integrations.run_invokeai CHECKOUT`, with what InvokeAI needs installed, or as much as is imported.
Stable Diffusion is compared with InvokeAI's own schedulers, and FLUX, where it has none of these, with float64.
"""

import contextlib
import itertools
import sys
from types import SimpleNamespace
from typing import Any

import diffusers.pipelines.flux.pipeline_flux
import torch
from diffusers.models.controlnets import controlnet  # noqa: F401 - before there are stand-ins, for which it would look

from kdpm2 import noise
from tests.integrations.checkouts import INTEGRATIONS, Network, Report, flow_in_float64, loaded, without

ABSENT = (
    "torchvision compel invokeai.frontend spandrel accelerate onnx diffusers.pipelines.controlnet.multicontrolnet "
    "invokeai.backend.hidiffusion"
)
NAMES = ("kdpm_2", "kdpm_2_k", "kdpm_2_a", "kdpm_2_a_k")
SCALED = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
MODELS = {
    "Stable Diffusion": diffusers.PNDMScheduler(**SCALED, steps_offset=1, skip_prk_steps=True, set_alpha_to_one=False),
    # As its file has it. Where a file leaves out use_karras_sigmas, InvokeAI's own Karras names are without Karras.
    "XL": diffusers.EulerDiscreteScheduler(
        **SCALED, steps_offset=1, timestep_spacing="leading", use_karras_sigmas=False
    ),
    "v-prediction": diffusers.DDIMScheduler(**SCALED, prediction_type="v_prediction", timestep_spacing="trailing"),
}


def stable_diffusion(name: str, model: Any, start: float, end: float, seed: int = 5) -> torch.Tensor:
    """One sample by InvokeAI's own steps from a model's scheduler to latents."""
    from invokeai.app.invocations import denoise_latents
    from invokeai.backend.stable_diffusion.denoise_context import DenoiseContext, DenoiseInputs
    from invokeai.backend.stable_diffusion.diffusion.conditioning_data import ConditioningMode
    from invokeai.backend.stable_diffusion.diffusion_backend import StableDiffusionBackend
    from invokeai.backend.stable_diffusion.extensions_manager import ExtensionsManager

    network = Network()

    def to_unet_kwargs(kwargs: Any, mode: Any) -> None:
        assert mode is ConditioningMode.Both
        kwargs.encoder_hidden_states = torch.stack([torch.full((3, 5), -0.3), torch.full((3, 5), 0.4)])

    def unet(sample: torch.Tensor, timestep: torch.Tensor, encoder_hidden_states: torch.Tensor, **_: Any) -> Any:
        return SimpleNamespace(sample=network(sample, timestep, encoder_hidden_states))

    context = SimpleNamespace(models=SimpleNamespace(load=lambda info: contextlib.nullcontext(model)))
    scheduler = denoise_latents.get_scheduler(context, None, name, seed, SimpleNamespace())
    timesteps, first, options = denoise_latents.DenoiseLatentsInvocation.init_scheduler(
        scheduler, torch.device("cpu"), 10, start, end, seed
    )
    generator = torch.Generator().manual_seed(9)
    latents = torch.randn(1, 4, 8, 8, generator=generator) * (start > 0)
    inputs = DenoiseInputs(
        orig_latents=latents, scheduler_step_kwargs=options, noise=torch.randn(1, 4, 8, 8, generator=generator),
        conditioning_data=SimpleNamespace(to_unet_kwargs=to_unet_kwargs, guidance_scale=4.0), seed=seed,
        timesteps=timesteps, init_timestep=first, attention_processor_cls=object,
    )  # fmt: skip
    backend = StableDiffusionBackend(unet, scheduler)
    ran = DenoiseContext(inputs=inputs, scheduler=scheduler)
    made: torch.Tensor = backend.latents_from_embeddings(ran, ExtensionsManager())
    return made


def flux(node: Any, timesteps: list[float]) -> tuple[torch.Tensor, list[int]]:
    """One sample by InvokeAI's loop for FLUX, and the steps that its callback was told."""
    from invokeai.backend.flux import schedulers
    from invokeai.backend.flux.denoise import denoise

    network, steps = Network(channels=1), list[int]()

    def model(img: torch.Tensor, timesteps: torch.Tensor, txt: torch.Tensor, **_: Any) -> torch.Tensor:
        predicted: torch.Tensor = network(img[:, None], 1000 * timesteps, txt)[:, 0]
        return predicted

    text = SimpleNamespace(
        regional_text_conditioning=SimpleNamespace(
            t5_embeddings=torch.full((1, 3, 5), 0.4), t5_txt_ids=None, clip_embeddings=None
        )
    )
    scheduler = schedulers.FLUX_SCHEDULER_MAP[node.scheduler](num_train_timesteps=1000)
    made: torch.Tensor = denoise(
        model=model, img=start(), img_ids=torch.zeros(1, 16, 3), pos_regional_prompting_extension=text,
        neg_regional_prompting_extension=None, timesteps=timesteps,
        step_callback=lambda state: steps.append(state.step),
        guidance=3.5, cfg_scale=[1.0] * len(timesteps), inpaint_extension=None, controlnet_extensions=[],
        pos_ip_adapter_extensions=[], neg_ip_adapter_extensions=[], img_cond=None, scheduler=scheduler,
    )  # fmt: skip
    return made, steps


def start() -> torch.Tensor:
    """What FLUX begins with: packed latents."""
    return torch.randn(1, 16, 12, generator=torch.Generator().manual_seed(2))


def flux_in_float64(node: Any, timesteps: list[float]) -> torch.Tensor:
    """The same, by the reference."""
    network, text = Network(channels=1), torch.full((1, 3, 5), 0.4)
    generator: Any = noise.seeded(node.seed)
    eta = node.eta if node.scheduler == "kdpm_2_a" else 0.0
    return flow_in_float64(
        lambda x, t: x - t * network(x[:, None], 1000 * t, text)[:, 0],
        start(), torch.tensor(timesteps, dtype=torch.float64),
        lambda: torch.randn(1, 16, 12, generator=generator), eta, node.s_noise,
    )  # fmt: skip


def main(checkout: str) -> int:
    """Run the cases."""
    without(*ABSENT.split())
    sys.path.insert(0, checkout)
    from invokeai.frontend.cli.arg_parser import InvokeAIArgs

    InvokeAIArgs.did_parse = False  # so that its defaults are taken, and no folder of settings is written
    from invokeai.app.invocations.flux_denoise import FluxDenoiseInvocation
    from invokeai.backend.flux.sampling_utils import clip_timestep_schedule_fractional, get_schedule

    report, ranges = Report(), [(0.0, 1.0), (0.4, 1.0), (0.0, 0.7)]
    cases = list(itertools.product(NAMES, MODELS, ranges))
    theirs = [stable_diffusion(name, MODELS[model], *part) for name, model, part in cases]
    pack = loaded("kdpm2_nodes", INTEGRATIONS / "invokeai" / "kdpm2_nodes" / "__init__.py")
    for case, expected in zip(cases, theirs, strict=True):
        report.compare(f"{case}", stable_diffusion(case[0], MODELS[case[1]], *case[2]), expected)

    full = get_schedule(num_steps=8, image_seq_len=16, shift=True)
    FluxDenoiseInvocation._run_diffusion = lambda node, schedule: flux(node, schedule)
    for name, eta, s_noise, (a, b) in itertools.product(pack.LABELS, (1.0, 0.4), (1.0, 0.9), ranges):
        schedule = clip_timestep_schedule_fractional(full, a, b)
        node = pack.FluxDenoiseKDPM2Invocation(id="1", scheduler=name, eta=eta, s_noise=s_noise, seed=7)
        made, steps = node._run_diffusion(schedule)
        report.compare(f"FLUX {name}, eta {eta}, s_noise {s_noise}, {a} to {b}", made, flux_in_float64(node, schedule))
        assert steps == list(range(1, len(steps) + 1))
    return report.done()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
