"""The web UI of AUTOMATIC1111, or Forge, with our extension: its own sampler, guidance, masks, schedules and seeds.

`python -m tests.integrations.run_webui CHECKOUT`. Where the web UI's own DPM2 a is right, the pictures are compared
with those, else with `flow_in_float64`.
"""

import importlib.util
import itertools
import math
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import diffusers.pipelines.flux.pipeline_flux  # before there are stand-ins, for which it would look
import torch

from tests.integrations.checkouts import INTEGRATIONS, Network, Report, flow_in_float64, loaded, without

SHAPE = (4, 8, 8)
OURS, STOCK = "DPM2 a (kdpm2)", "DPM2 a"
OPTIONS: dict[str, Any] = {
    "always_discard_next_to_last_sigma": False,
    "beta_dist_alpha": 0.6,
    "beta_dist_beta": 0.6,
    "batch_cond_uncond": True,
    "enable_quantization": False,
    "eta_ancestral": 1.0,
    "eta_noise_seed_delta": 0,
    "forge_try_reproduce": "None",
    "hide_samplers": [],
    "img2img_extra_noise": 0,
    "img2img_fix_steps": False,
    "live_preview_content": "Combined",
    "live_previews_enable": False,
    "no_dpmpp_sde_batch_determinism": False,
    "pad_cond_uncond": False,
    "pad_cond_uncond_v0": False,
    "randn_source": "CPU",
    "refiner_switch_by_sample_steps": True,
    "rho": 0.0,
    "s_churn": 0.0,
    "s_min_uncond_all": False,
    "s_noise": 1.0,
    "s_tmax": 0.0,
    "s_tmin": 0.0,
    "sgm_noise_multiplier": False,
    "show_progress_every_n_steps": 0,
    "sigma_max": 0.0,
    "sigma_min": 0.0,
    "skip_early_cond": 0.0,
    "use_old_karras_scheduler_sigmas": False,
    "kdpm2_keep_next_to_last_sigma": False,
}


class WebUI:
    """Its modules, around a small network; `forge` says which of the two it is."""

    def __init__(self, checkout: Path) -> None:
        self.forge = (checkout / "modules_forge").is_dir()
        sys.argv[1:] = ["--always-cpu"]
        sys.path.insert(0, str(checkout))
        self.shared = self._shared(checkout)
        self.network = Network()
        self.sd_samplers, self.sd_samplers_kdiffusion, self.sd_schedulers, self.rng, self.prompt_parser = (
            importlib.import_module(f"modules.{name}")
            for name in ("sd_samplers", "sd_samplers_kdiffusion", "sd_schedulers", "rng", "prompt_parser")
        )
        extension = loaded("kdpm2_sampler", INTEGRATIONS / "a1111" / "scripts" / "kdpm2_sampler.py")
        extension.register()
        extension.register()
        assert [each.name for each in self.sd_samplers.all_samplers].count(OURS) == 1

    def _shared(self, checkout: Path) -> Any:
        drawing = "images sd_vae_approx sd_vae_taesd sd_models errors timer extensions util lowvram extra_networks"
        within = [f"modules.{name}" for name in f"{drawing} scripts npu_specific".split()]
        outside = ["gradio", "lark", "gguf", "torchvision", "modules_forge"]
        without(*within, *outside, *(["backend.stream", "backend.patcher", "backend.operations_gguf"] * self.forge))
        if self.forge:
            without("backend.modules.k_diffusion_extra", "backend.attention", "backend.operations", "backend.utils")
            without("backend.memory_management", "modules.devices")
        else:
            without("modules.models.diffusion", "modules.models.sd3.sd3_cond", "modules.models.sd3.mmdit", "einops")
        package = ModuleType("k_diffusion")  # as it is without the half of it that trains
        found: Any = importlib.util.find_spec("k_diffusion")
        package.__path__ = [str(checkout / "k_diffusion")] if self.forge else list(found.submodule_search_locations)
        sys.modules["k_diffusion"] = package
        shared: Any = ModuleType("modules.shared")
        shared.opts = SimpleNamespace(**OPTIONS)
        shared.state = SimpleNamespace(interrupted=False, skipped=False, sampling_step=0, sampling_steps=0)
        shared.total_tqdm = SimpleNamespace(update=lambda: None)
        shared.cmd_opts, shared.device = SimpleNamespace(use_ipex=False, use_cpu=["all"]), torch.device("cpu")
        shared.options_templates = {}
        sys.modules["modules.shared"] = shared
        import modules

        modules.shared = shared
        if self.forge:
            from backend import memory_management

            memory_management.signal_empty_cache = False
            memory_management.get_free_memory = lambda device: 1e12
            memory_management.dtype_size = lambda dtype: 4
            # Forge is for diffusers 0.31, where this one needs no scheduler.
            diffusers.FlowMatchEulerDiscreteScheduler.time_shift = lambda _, mu, power, t: (
                math.exp(mu) / (math.exp(mu) + (1 / t - 1) ** power)
            )
        for name in ("sampling", "external"):
            setattr(package, name, importlib.import_module(f"k_diffusion.{name}"))
        from modules import devices

        devices.cpu = devices.device = torch.device("cpu")
        return shared

    def use(self, kind: str) -> None:
        """Take a model of this kind."""
        model: Any = SimpleNamespace(is_sdxl=False, sd_checkpoint_info=None, cond_stage_key="txt")
        if self.forge:
            from backend.modules import k_model, k_prediction

            predictor = {
                "eps": lambda: k_prediction.Prediction(prediction_type="epsilon"),
                "v": lambda: k_prediction.Prediction(prediction_type="v_prediction"),
                "flux": lambda: k_prediction.PredictionFlux(mu=1.15),
                "sd3": lambda: k_prediction.PredictionDiscreteFlow(shift=3.0),
            }[kind]()
            vars(self.network).update(storage_dtype=torch.float32, computation_dtype=torch.float32)
            unet = SimpleNamespace(
                model=k_model.KModel(self.network, None, predictor),
                controlnet_linked_list=None,
                extra_concat_condition=None,
                model_options={},
                extra_preserved_memory_during_sampling=0,
                extra_model_patchers_during_sampling=[],
                memory_required=lambda shape: 1,
                has_online_lora=lambda: False,
                list_controlnets=list,
            )
            unet.model.memory_required = lambda shape: 1
            model.forge_objects = SimpleNamespace(unet=unet)
        elif kind == "sd3":
            from modules.models.sd3 import sd3_impls, sd3_model

            sampling = sd3_impls.ModelSamplingDiscreteFlow(shift=3.0)

            def apply(x: torch.Tensor, sigma: torch.Tensor, cond: Any) -> torch.Tensor:
                output = self.network(x, sampling.timestep(sigma), cond["c_crossattn"][0])
                made: torch.Tensor = sampling.calculate_denoised(sigma, output, x)
                return made

            model = torch.nn.Module()
            model.__dict__.update(is_sdxl=False, sd_checkpoint_info=None, cond_stage_key="txt", parameterization="eps")
            model.__dict__["apply_model"] = apply
            model.__dict__["model"] = SimpleNamespace(conditioning_key="crossattn", model_sampling=sampling)
            model.__dict__["create_denoiser"] = lambda: sd3_model.SD3Denoiser(model, sampling.sigmas)
            model.__dict__["add_noise_to_latent"] = lambda *given: sd3_model.SD3Inferencer.add_noise_to_latent(
                model, *given
            )
        else:
            betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
            model = torch.nn.Module()
            model.__dict__.update(is_sdxl=False, sd_checkpoint_info=None, cond_stage_key="txt")
            model.__dict__["alphas_cumprod"] = (1 - betas).cumprod(0).float()
            model.__dict__["parameterization"] = kind
            model.__dict__["model"] = SimpleNamespace(conditioning_key="crossattn")
            model.__dict__["apply_model"] = lambda x, t, cond: self.network(x, t, cond["c_crossattn"][0])
        self.shared.sd_model = model

    def drawn(self, name: str, scheduler: str, way: str, seeds: tuple[int, ...], **options: Any) -> torch.Tensor:
        """A batch of latents, as the web UI's processing makes them."""
        for option, value in {**OPTIONS, **options}.items():
            setattr(self.shared.opts, option, value)
        p = self._processing(scheduler, seeds, way)
        sampler = self.sd_samplers.create_sampler(name, self.shared.sd_model)
        p.sampler = sampler
        prompt, negative = self._conditioning(len(seeds))
        torch.manual_seed(0)  # Forge's masks draw from it
        image_cond = torch.zeros(len(seeds), 5, 1, 1)
        x = p.rng.next()
        if way == "text":
            made: torch.Tensor = sampler.sample(p, x, prompt, negative, image_conditioning=image_cond)
        else:
            made = sampler.sample_img2img(p, p.init_latent, x, prompt, negative, image_conditioning=image_cond)
        self.told = p.extra_generation_params
        return made

    def _processing(self, scheduler: str, seeds: tuple[int, ...], way: str) -> Any:
        generator = torch.Generator().manual_seed(9)
        p = SimpleNamespace(
            steps=10, scheduler=scheduler, hr_scheduler=None, is_hr_pass=False, sampler_noise_scheduler_override=None,
            extra_generation_params={}, denoising_strength=0.6, cfg_scale=4.0, eta=None, s_churn=0.0, s_tmin=0.0,
            s_tmax=float("inf"), s_noise=1.0, s_min_uncond=0.0, seeds=list(seeds), all_seeds=list(seeds), iteration=0,
            batch_size=len(seeds), scripts=None, refiner_switch_at=None, refiner_checkpoint_info=None, hr_cfg=1.0,
            rng=self.rng.ImageRNG(SHAPE, list(seeds)),
        )  # fmt: skip
        p.init_latent = torch.randn(1, *SHAPE, generator=generator).expand(len(seeds), -1, -1, -1)
        if way == "mask":
            p.mask = (torch.arange(8) < 4).float().expand(1, 4, 8, 8)
            p.nmask = 1 - p.mask
        return p

    def _conditioning(self, count: int) -> tuple[Any, Any]:
        parser = self.prompt_parser
        each = [parser.ScheduledPromptConditioning(99, torch.full((3, 5), value)) for value in (0.4, -0.3)]
        composed = [[parser.ComposableScheduledPromptConditioning([each[0]])] for _ in range(count)]
        return parser.MulticondLearnedConditioning((count,), composed), [[each[1]] for _ in range(count)]


def own_flow_in_float64(
    model: Any, x: torch.Tensor, sigmas: torch.Tensor, extra_args: Any = None, callback: Any = None,
    disable: Any = None, eta: float = 1.0, s_noise: float = 1.0,
) -> torch.Tensor:  # fmt: skip
    """The reference, called as the web UI calls a sampler."""
    import k_diffusion.sampling

    noise = k_diffusion.sampling.default_noise_sampler(x)
    return flow_in_float64(lambda x, t: model(x, t, **extra_args), x, sigmas, lambda: noise(0, 0), eta, s_noise)


def main(checkout: str) -> int:
    """Run the cases."""
    ui, report = WebUI(Path(checkout)), Report()
    flows = ["flux", "sd3"] if ui.forge else ["sd3"]
    exact = "flow in float64"
    sampler = ui.sd_samplers_kdiffusion.KDiffusionSampler
    config = ui.sd_samplers.all_samplers_map[STOCK]
    ui.sd_samplers_kdiffusion.sampler_extra_params[own_flow_in_float64] = ["s_noise"]
    build: Callable[[Any], Any] = lambda model: sampler(own_flow_in_float64, model)  # noqa: E731
    ui.sd_samplers.all_samplers_map[exact] = config._replace(name=exact, constructor=build)
    for kind in ["eps", "v", *flows]:
        ui.use(kind)
        reference = exact if kind in flows else STOCK
        labels = [each.label for each in ui.sd_schedulers.schedulers]
        if kind in flows:  # the others are tables of levels of Stable Diffusion
            # Forge's Uniform counts Flux's noise levels as if they were timesteps, and goes up to 9,999.
            labels = ["Automatic", "SGM Uniform", "Simple", "Normal", "Beta"] + ["Uniform"] * (kind != "flux")
        ways: list[tuple[str, dict[str, Any]]] = [("text", {}), ("image", {"s_noise": 0.9}), ("mask", {})]
        ways += [("text", {"eta_ancestral": 0.5}), ("mask", {"eta_ancestral": 0.0})]
        for label, (way, options) in itertools.product(labels, ways):
            pictures = [ui.drawn(name, label, way, (3, 4), **options) for name in (OURS, reference)]
            report.compare(f"{kind}, {label}, {way}, {options}", *pictures)
        alone = torch.cat([ui.drawn(OURS, "Automatic", "text", (seed,)) for seed in (3, 4)])
        report.compare(f"{kind}, images of a batch and alone", ui.drawn(OURS, "Automatic", "text", (3, 4)), alone)
        if reference is exact:
            off = [ui.drawn(STOCK, "Simple", "text", (3, 4)), ui.drawn(exact, "Simple", "text", (3, 4))]
            print(f"{kind}, the web UI's own {STOCK}: {float((off[0] - off[1]).abs().max() / off[1].abs().max()):.1e}")
    ui.use("eps")
    kept = ui.drawn(OURS, "Karras", "text", (3,), kdpm2_keep_next_to_last_sigma=True)
    assert ui.told["Keep penultimate sigma"] is True
    own = config.options
    ui.sd_samplers.all_samplers_map["all sigmas"] = config._replace(options=own | {"discard_next_to_last_sigma": False})
    report.compare("eps, with the next-to-last sigma", kept, ui.drawn("all sigmas", "Karras", "text", (3,)))
    return report.done()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
