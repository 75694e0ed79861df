"""SGLang-Diffusion with our package: its registry, its loader, its preparation of timesteps, and the calls of its loop.

`python -m tests.integrations.run_sglang FOLDER`, where FOLDER holds the package sglang, from its wheel. Flows are
compared with float64, other models with diffusers' KDPM2.
"""

import inspect
import itertools
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import torch

from kdpm2 import noise
from tests.integrations.checkouts import INTEGRATIONS, Network, Report, flow_in_float64, loaded, shells, without

PLACE = "sglang.multimodal_gen.runtime"
SHAPE = (2, 4, 8, 8)


def modules(folder: Path) -> Any:
    """SGLang's registry, loader, and stage that prepares timesteps."""
    absent = "server_args utils platforms distributed pipelines_core.schedule_batch pipelines_core.stages.validators"
    without(*(f"{PLACE}.{name}" for name in absent.split()))
    packages = "models models.schedulers loader.component_loaders pipelines_core.stages"
    shells(folder, *(f"{PLACE}.{name}" for name in packages.split()))
    for name, held in (
        (f"{PLACE}.loader.component_loaders.component_loader", {"ComponentLoader": object}),
        (f"{PLACE}.pipelines_core.stages.base", {"PipelineStage": object}),
    ):
        shells(folder, name)
        vars(sys.modules[name]).update(held)
    from sglang.multimodal_gen.runtime.loader.component_loaders import scheduler_loader
    from sglang.multimodal_gen.runtime.pipelines_core.stages import timestep_preparation

    timestep_preparation.get_local_torch_device = lambda: torch.device("cpu")
    return SimpleNamespace(loader=scheduler_loader, preparation=timestep_preparation)


def load(sglang: Any, name: str, config: dict[str, Any], shift: float | None) -> Any:
    """By SGLang's loader, from what a model's file holds."""
    sglang.loader.get_diffusers_component_config = lambda component_path: dict(config)
    asked = SimpleNamespace(scheduler_class_override=name, flow_shift=shift)
    return sglang.loader.SchedulerLoader().load_customized("folder", SimpleNamespace(pipeline_config=asked))


def picture(sglang: Any, scheduler: Any, sigmas: list[float] | None, generator: Any) -> torch.Tensor:
    """Two latents: SGLang's stage, and its loop's calls of the scheduler."""
    stage = sglang.preparation.TimestepPreparationStage.__new__(sglang.preparation.TimestepPreparationStage)
    stage.scheduler, stage.prepare_extra_set_timesteps_kwargs = scheduler, []
    request = SimpleNamespace(
        scheduler=None, timesteps=None, rollout=False, num_inference_steps=10, sigmas=sigmas, n_tokens=None,
        is_warmup=True, extra={},
    )  # fmt: skip
    pipeline = SimpleNamespace(prepare_sigmas=lambda sigmas, count: sigmas)
    request = stage.forward(request, SimpleNamespace(pipeline_config=pipeline))
    network, text = Network(), torch.full((2, 3, 5), 0.4)
    x: torch.Tensor = start() * scheduler.init_noise_sigma
    request.scheduler.set_begin_index(0)
    for t in request.timesteps:
        output = network(request.scheduler.scale_model_input(x, t), t.expand(2), text)
        options = {"generator": generator, "eta": 0.0}
        x = request.scheduler.step(model_output=output, timestep=t, sample=x, **options, return_dict=False)[0]
    return x


def _without(step: Any, **given: Any) -> Any:
    """A call of `step` without what it does not take, as SGLang leaves it out."""
    known = inspect.signature(step).parameters
    return step(**{name: value for name, value in given.items() if name in known})


def start() -> torch.Tensor:
    """The latents that runs begin with."""
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def main(folder: str) -> int:
    """Run the cases."""
    sglang, report = modules(Path(folder)), Report()
    loaded("kdpm2_sglang", INTEGRATIONS / "sglang" / "kdpm2_sglang" / "__init__.py")
    levels = torch.linspace(1.0, 0.1, 10, dtype=torch.float64)
    network, text = Network(), torch.full((2, 3, 5), 0.4)
    sd3 = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0}
    wan = dict(diffusers.UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True).config)
    wan |= {"_class_name": "UniPCMultistepScheduler", "flow_shift": 3.0}
    ways = itertools.product((sd3, wan), (None, 7.0), (None, [11, 12]), ("KDPM2AncestralScheduler", "KDPM2Scheduler"))
    for config, shift, seeds, name in ways:
        moved = 3.0 if shift is None else shift
        shifted = torch.cat([moved * levels / (1 + (moved - 1) * levels), torch.zeros(1, dtype=torch.float64)])
        # A request's own generators, or the seed of the scheduler's file: once for the batch.
        mine: Any
        own: Any
        mine, own = ([torch.Generator().manual_seed(seed) for seed in seeds] if seeds else None for _ in range(2))
        if seeds is None:
            own = noise.seeded(5)
        seed = {"seed": 5} if "Ancestral" in name else {}
        made = picture(sglang, load(sglang, name, config | seed, shift), levels.tolist(), mine)
        expected = flow_in_float64(
            lambda x, t: x - t.reshape(-1, 1, 1, 1) * network(x, 1000 * t, text), start(), shifted,
            partial(noise.gaussian, SHAPE, torch.float32, torch.device("cpu"), own),
            1.0 if "Ancestral" in name else 0.0,
        )  # fmt: skip
        report.compare(f"{config['_class_name']}, shift {shift}, seeds {seeds}, {name}", made, expected)
    scaled = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
    for predicted, ancestral in itertools.product(("epsilon", "v_prediction"), (True, False)):
        config = {"_class_name": "EulerDiscreteScheduler", "prediction_type": predicted, "steps_offset": 1, **scaled}
        kind = "KDPM2AncestralScheduler" if ancestral else "KDPM2Scheduler"
        theirs = getattr(diffusers, kind.replace("Scheduler", "DiscreteScheduler")).from_config(dict(config))
        made = picture(sglang, load(sglang, kind, config, None), None, torch.Generator().manual_seed(3))
        theirs.step = partial(_without, theirs.step)
        expected = picture(sglang, theirs, None, torch.Generator().manual_seed(3))
        report.compare(f"betas, {predicted}, {kind}", made, expected)
    return report.done()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
