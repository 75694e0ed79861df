"""SD.Next with our extension: its list of samplers, its choice by name and by model, and its options.

`python -m tests.integrations.run_sdnext CHECKOUT`. SD.Next hands the scheduler to pipelines of diffusers, whose loop is
run here around a small network. Models with betas are compared with SD.Next's own KDPM2, flows with float64.
"""

import itertools
import sys
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import Any

import diffusers
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.pipelines import DiffusionPipeline  # noqa: F401 - before there are stand-ins, for which it would look
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import StableDiffusionXLPipeline

from kdpm2 import noise
from tests.integrations.checkouts import INTEGRATIONS, Network, Report, flow_in_float64, loaded, without

ABSENT = (
    "processing images timer vae image errors res4lyf schedulers logger sd_hijack_schedulers script_callbacks "
    "errorlimiter paths theme sd_models modelloader generation_parameters_copypaste call_queue ui_common ui_loadsave "
    "ui_history ui_components ui_symbols"
)
OPTIONS: dict[str, Any] = {
    "scheduler_eta": 1.0,
    "schedulers_base_shift": 0.5,
    "schedulers_beta_end": 0.0,
    "schedulers_beta_schedule": "default",
    "schedulers_beta_start": 0.0,
    "schedulers_dynamic_shift": False,
    "schedulers_fallback": False,
    "schedulers_max_shift": 1.15,
    "schedulers_prediction_type": "default",
    "schedulers_rescale_betas": False,
    "schedulers_shift": 3.0,
    "schedulers_sigma": "default",
    "schedulers_timestep_spacing": "default",
    "schedulers_timesteps": "",
    "schedulers_timesteps_range": 1000,
}
SCALED = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


class FluxPipeline(SimpleNamespace):
    """A model by the name of its class, which is what SD.Next looks at."""


class StableDiffusionPipeline(SimpleNamespace):
    """Another."""


def model_of(scheduler: Any, cls: type = StableDiffusionPipeline) -> Any:
    """What SD.Next knows of a model."""
    return cls(scheduler=scheduler, default_scheduler=None)


def modules(checkout: str) -> Any:
    """SD.Next's sampler modules."""
    without(*(f"modules.{name}" for name in ABSENT.split()), "gradio")
    sys.path.insert(0, checkout)
    shared: Any = ModuleType("modules.shared")
    shared.opts, shared.state, shared.sd_model_type = SimpleNamespace(**OPTIONS), SimpleNamespace(), "sd"
    shared.cmd_opts = SimpleNamespace(ui_config=None)
    sys.modules["modules.shared"] = shared
    scripts: Any = ModuleType("modules.scripts_manager")
    scripts.Script, scripts.AlwaysVisible = object, object()
    sys.modules["modules.scripts_manager"] = scripts
    import modules

    modules.shared, modules.scripts_manager = shared, scripts
    from modules import errors, sd_samplers

    errors.ValidationError = ValueError
    sd_samplers.list_samplers()
    return sd_samplers


def show_settings(extension: Any) -> None:
    """The extension's settings on SD.Next's page, whose own code refuses what it cannot show."""
    from modules import options, shared

    labels: dict[str, Any] = {"scheduler_eta": options.OptionInfo(1.0, "eta", component_args={"visible": False})}
    vars(shared.opts).update(
        data={}, data_labels=labels, add_option=labels.__setitem__, ui_disabled=[], quicksettings_list=[]
    )
    shared.OptionInfo = options.OptionInfo
    from modules import ui_settings

    extension.settings()
    assert list(labels) == ["scheduler_eta", "kdpm2_s_noise"]
    for name, info in labels.items():
        assert info.visible
        ui_settings.create_setting_component(name)


def pictured(scheduler: Any, **schedule: Any) -> torch.Tensor:
    """Two latents by the loop of diffusers' pipelines; those of flows pass no generator."""
    network, text = Network(), torch.full((2, 3, 5), 0.4)
    scheduler.set_timesteps(**schedule)
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1)) * scheduler.init_noise_sigma
    options = StableDiffusionXLPipeline.prepare_extra_step_kwargs(
        SimpleNamespace(scheduler=scheduler), torch.Generator().manual_seed(2), 1.0
    )
    options = {} if "sigmas" in schedule else options
    for t in scheduler.timesteps:
        output = network(scheduler.scale_model_input(x, t), t.expand(2), text)
        x = scheduler.step(output, t, x, **options, return_dict=False)[0]
    made: torch.Tensor = x
    return made


def main(checkout: str) -> int:
    """Run the cases."""
    sd_samplers, report = modules(checkout), Report()
    from modules import sd_samplers_diffusers, shared

    extension = loaded("kdpm2_samplers", INTEGRATIONS / "sdnext" / "scripts" / "kdpm2_samplers.py")
    extension.register()
    assert [each.name for each in sd_samplers.all_samplers].count("DPM2 a (kdpm2)") == 1
    show_settings(extension)
    assert sd_samplers_diffusers.samplers_data_diffusers[-1].name == "Same as primary"
    models = {
        "Stable Diffusion": diffusers.PNDMScheduler(**SCALED, steps_offset=1, skip_prk_steps=True),
        "v-prediction": diffusers.DDIMScheduler(**SCALED, prediction_type="v_prediction"),
    }
    for (model, own), sigma, spacing, ancestral in itertools.product(
        models.items(), ("default", "karras", "exponential", "betas"), ("default", "leading", "trailing"), (True, False)
    ):
        vars(shared.opts).update(OPTIONS, schedulers_sigma=sigma, schedulers_timestep_spacing=spacing)
        names = ("DPM2 a (kdpm2)", "KDPM2 a") if ancestral else ("DPM2 (kdpm2)", "KDPM2")
        made = [
            pictured(sd_samplers.create_sampler(name, model_of(own)), num_inference_steps=10, device="cpu")
            for name in names
        ]
        report.compare(f"{model}, {sigma}, {spacing}, {names[1]}", *made)

    flux = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift=3.0)
    still = FlowMatchEulerDiscreteScheduler(shift=3.0)
    extension.Seeds().process_batch(None, seeds=[3, 4])
    text, network = torch.full((2, 3, 5), 0.4), Network()
    for (own, shift, mu), eta in itertools.product([(flux, 0.0, 0.9), (still, 3.0, None)], (1.0, 0.4, 0.0)):
        vars(shared.opts).update(OPTIONS, scheduler_eta=eta, schedulers_shift=shift)
        model = model_of(own, FluxPipeline)
        vars(shared.opts).update(schedulers_fallback=True)
        scheduler = sd_samplers.create_sampler("DPM2 a (kdpm2)", model)
        assert type(scheduler).__name__ == "KDPM2AncestralFlowMatchScheduler"
        assert model.scheduler is scheduler
        levels = torch.linspace(1.0, 0.1, 10, dtype=torch.float64)
        moved = torch.exp(torch.tensor(mu or torch.tensor(3.0).log().item(), dtype=torch.float64))
        shifted = torch.cat([moved / (moved + 1 / levels - 1), torch.zeros(1, dtype=torch.float64)])
        generators = noise.seeded([3, 4])
        start = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
        draw = partial(noise.gaussian, start.shape, start.dtype, start.device, generators)
        expected = flow_in_float64(
            lambda x, t: x - t.reshape(-1, 1, 1, 1) * network(x, 1000 * t, text), start, shifted, draw, eta
        )
        drawn = pictured(scheduler, sigmas=levels.tolist(), device="cpu", **({} if mu is None else {"mu": mu}))
        report.compare(f"flow, mu {mu}, shift {shift}, eta {eta}", drawn, expected)
    return report.done()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
