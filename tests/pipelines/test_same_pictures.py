"""A pipeline of diffusers draws the same pictures from the same seed when its scheduler is exchanged for kdpm2's.

Random networks could hide a difference by saturated or constant pictures, so each comparison shows as well that its
pictures vary and depend on the seed, and includes every input of the network on the way.
"""

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any, NamedTuple

import diffusers
import numpy as np
import pytest
import torch
from diffusers.utils.torch_utils import randn_tensor
from numpy.typing import NDArray

import kdpm2
from tests.reference import unscheduled

from .conftest import CLASSES, Comparison

Pictures = NDArray[np.float32]
Generators = torch.Generator | list[torch.Generator]
STEPS = 4

SCHEDULERS = ("KDPM2AncestralDiscreteScheduler", "KDPM2DiscreteScheduler")
CONFIGS: dict[str, dict[str, Any]] = {
    "default": {},
    "karras": {"use_karras_sigmas": True},
    "stable diffusion": {"beta_schedule": "scaled_linear", "timestep_spacing": "leading"},
    "v-prediction": {"prediction_type": "v_prediction", "timestep_spacing": "trailing"},
    "exponential": {"use_exponential_sigmas": True},
    "beta": {"use_beta_sigmas": True},
}


class Run(NamedTuple):
    pictures: Pictures
    inputs: torch.Tensor
    timesteps: torch.Tensor


def every_config(name: str, values: Sequence[Any], *schedulers: str) -> pytest.MarkDecorator:
    """Every configuration with every value of the parameter `name`, and each of these two with both schedulers.

    All three together are slow: that a value fails with one configuration and one of the schedulers alone would need
    a fault in all of them at once.
    """
    chosen = [
        pytest.param(
            (scheduler, config),
            value,
            marks=[pytest.mark.slow] if (i + j + k) % 2 else [],
            id=f"{scheduler} {config}-{value if isinstance(value, str) else i}",
        )
        for (k, scheduler), (j, config), (i, value) in product(*map(enumerate, (schedulers, CONFIGS, values)))
    ]
    # The oldest pytest takes the scope of the fixture for that of a function, where not all of it is indirect.
    return pytest.mark.parametrize(("reference", name), chosen, indirect=["reference"], scope="module")


@pytest.fixture(scope="module")
def reference(request: pytest.FixtureRequest) -> Any:
    """A scheduler of diffusers, with the offset that a Stable Diffusion pipeline would set anyway, with a warning."""
    scheduler, config = request.param
    return unscheduled(getattr(diffusers, scheduler), **CONFIGS[config], steps_offset=1)


@pytest.fixture(scope="module")
def mild(reference: Any) -> Any:
    """For pixels: so little noise that what a random network leaves of it mostly stays within black and white."""
    return unscheduled(type(reference), **{**reference.config, "beta_start": 1e-4, "beta_end": 1e-3})


@pytest.fixture
def seeds_tell(request: pytest.FixtureRequest) -> bool:
    """Whether to show that the pictures depend on the seed, once for all configurations of the scheduler."""
    _, config = request.node.callspec.params["reference"]
    return bool(config == "default")


def exchanged(scheduler: Any) -> Any:
    return getattr(kdpm2, type(scheduler).__name__).from_config(scheduler.config)


def one_generator(seed: int) -> Generators:
    return torch.Generator().manual_seed(seed)


def generator_each(seed: int) -> Generators:
    return [torch.Generator().manual_seed(2 * seed + i) for i in range(2)]


def watched(unet: Any, draw: Callable[[Generators], Pictures], generators: Generators) -> Run:
    calls: list[tuple[torch.Tensor, torch.Tensor]] = []
    with unet.register_forward_pre_hook(lambda _, args: calls.append((args[0].clone(), args[1].float()))):
        pictures = draw(generators)
    inputs, timesteps = zip(*calls, strict=True)
    return Run(pictures, torch.stack(inputs), torch.stack(timesteps))


def check_same(
    difference: Comparison,
    label: str,
    pipeline: Any,
    unet: Any,
    theirs: Callable[[Generators], Pictures],
    ours: Callable[[Generators], Pictures],
    seeds_tell: bool,
    generators: Callable[[int], Generators] = one_generator,
) -> None:
    expected, run = watched(unet, theirs, generators(0)), watched(unet, ours, generators(0))
    assert difference(label, run.pictures, expected.pictures, pipeline) <= 1e-4
    level = expected.inputs.std(dim=(1, 2, 3, 4), keepdim=True)
    torch.testing.assert_close(run.inputs / level, expected.inputs / level, rtol=0, atol=1e-4)
    torch.testing.assert_close(run.timesteps, expected.timesteps, rtol=0, atol=1e-3)

    assert expected.pictures.std(axis=(1, 2)).min() > 0.03
    assert np.mean((expected.pictures == 0) | (expected.pictures == 1)) < 0.5
    assert not seeds_tell or np.abs(ours(generators(1)) - run.pictures).max() > 0.1


class Task(NamedTuple):
    pipeline: Any
    arguments: dict[str, Any]
    channels: int = 4
    generators: Callable[[int], Generators] = one_generator


IMAGES = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
MASK = torch.zeros(2, 1, 16, 16)
MASK[:, :, 4:13, 2:11] = 1
GUIDED = {"prompt": ["red fox", "a blue bird"], "negative_prompt": ["dull", "grey"], "guidance_scale": 5.0}

TASKS = {
    "text": Task(diffusers.StableDiffusionPipeline, GUIDED),
    "text, no guidance": Task(diffusers.StableDiffusionPipeline, {"prompt": "red fox", "guidance_scale": 1.0}),
    "text, generator each": Task(diffusers.StableDiffusionPipeline, GUIDED, generators=generator_each),
    **{
        f"image, strength {strength}": Task(
            diffusers.StableDiffusionImg2ImgPipeline, {**GUIDED, "image": IMAGES, "strength": strength}
        )
        for strength in (0.3, 0.5, 0.8, 1.0)
    },
    **{
        f"inpaint, {channels} channels, strength {strength}": Task(
            diffusers.StableDiffusionInpaintPipeline,
            {**GUIDED, "image": IMAGES, "mask_image": MASK, "strength": strength},
            channels,
        )
        for channels, strength in product((4, 9), (0.5, 1.0))
    },
}


@every_config("title", list(TASKS), *SCHEDULERS)
def test_stable_diffusion(
    components: dict[str, Any],
    unets: dict[int, Any],
    reference: Any,
    title: str,
    difference: Comparison,
    seeds_tell: bool,
) -> None:
    task = TASKS[title]
    unet = unets[task.channels]
    pipeline = task.pipeline(**components, unet=unet, scheduler=reference)
    pipeline.set_progress_bar_config(disable=True)

    def with_scheduler(scheduler: Any) -> Callable[[Generators], Pictures]:
        def draw(generators: Generators) -> Pictures:
            pipeline.scheduler = scheduler
            options = {"num_inference_steps": STEPS, "output_type": "np", "generator": generators}
            pictures: Pictures = pipeline(**task.arguments, **options).images
            return pictures

        return draw

    theirs, ours = with_scheduler(reference), with_scheduler(exchanged(pipeline.scheduler))
    check_same(
        difference, f"{title}, {type(reference).__name__}", pipeline, unet, theirs, ours, seeds_tell, task.generators
    )


@pytest.mark.parametrize("library", [diffusers, kdpm2])
def test_stable_diffusion_corrects_an_old_configuration(
    components: dict[str, Any], unets: dict[int, Any], library: Any
) -> None:
    outdated = library.KDPM2AncestralDiscreteScheduler(timestep_spacing="leading", steps_offset=0)
    with pytest.warns(FutureWarning, match="steps_offset"):
        pipeline = diffusers.StableDiffusionPipeline(**components, unet=unets[4], scheduler=outdated)
    pipeline.scheduler.set_timesteps(STEPS)
    assert pipeline.scheduler.timesteps[::2].tolist() == [751, 501, 251, 1]


@every_config("generators", [one_generator, generator_each], "KDPM2AncestralDiscreteScheduler")
def test_unconditional(
    pixel_unets: dict[int | None, Any],
    mild: Any,
    generators: Callable[[int], Generators],
    difference: Comparison,
    seeds_tell: bool,
) -> None:
    """This pipeline neither scales the network's input nor starts at the scheduler's noise level: all the same."""
    pipeline = diffusers.DDPMPipeline(pixel_unets[None], mild)
    pipeline.set_progress_bar_config(disable=True)

    def with_scheduler(scheduler: Any) -> Callable[[Generators], Pictures]:
        def draw(generators: Generators) -> Pictures:
            pipeline.scheduler = scheduler
            options = {"num_inference_steps": STEPS, "output_type": "np", "generator": generators}
            pictures: Pictures = pipeline(batch_size=2, **options).images
            return pictures

        return draw

    theirs, ours = with_scheduler(mild), with_scheduler(exchanged(mild))
    check_same(difference, generators.__name__, pipeline, pixel_unets[None], theirs, ours, seeds_tell, generators)


def test_unconditional_needs_a_scheduler_that_takes_a_generator(pixel_unets: dict[int | None, Any]) -> None:
    pipeline = diffusers.DDPMPipeline(pixel_unets[None], diffusers.KDPM2DiscreteScheduler())
    with pytest.raises(TypeError, match="unexpected keyword argument 'generator'"):
        pipeline(num_inference_steps=STEPS)
    pipeline = diffusers.DDPMPipeline(pixel_unets[None], kdpm2.KDPM2DiscreteScheduler())
    assert np.isfinite(pipeline(num_inference_steps=STEPS, output_type="np").images).all()


LABELLED: dict[str, tuple[int | None, list[int] | None, float, Callable[[int], Generators]]] = {
    "no classes": (None, None, 1.0, one_generator),
    "labels, generator each": (CLASSES, [0, 2], 1.0, generator_each),
    "labels, guided": (CLASSES, [0, 2], 3.0, one_generator),
}


@every_config("title", list(LABELLED), *SCHEDULERS)
def test_pixel_pipeline_beside_a_loop_by_hand(
    pixel_unets: dict[int | None, Any], mild: Any, title: str, difference: Comparison, seeds_tell: bool
) -> None:
    classes, labels, guidance, generators = LABELLED[title]
    unet = pixel_unets[classes]
    pipeline = kdpm2.zoo.PixelPipeline(unet, exchanged(mild))
    pipeline.set_progress_bar_config(disable=True)

    def ours(generators: Generators) -> Pictures:
        options: dict[str, Any] = {"num_inference_steps": STEPS, "output_type": "np", "generator": generators}
        pictures: Pictures = pipeline(labels, None if labels else 2, guidance_scale=guidance, **options).images
        return pictures

    def by_hand(generators: Generators) -> Pictures:
        return drawn_by_hand(unet, mild, labels, guidance, generators)

    label = f"{labels} at guidance {guidance:g}, {type(mild).__name__}"
    check_same(difference, label, pipeline, unet, by_hand, ours, seeds_tell, generators)


@torch.no_grad()
def drawn_by_hand(
    unet: Any, scheduler: Any, labels: Sequence[int] | None, guidance: float, generators: Generators
) -> Pictures:
    chosen = None if labels is None else torch.tensor(labels)
    takes_generator = isinstance(scheduler, diffusers.KDPM2AncestralDiscreteScheduler)
    noise = {"generator": generators} if takes_generator else {}

    scheduler.set_timesteps(STEPS)
    x = randn_tensor((2, 3, 8, 8), generator=generators) * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        scaled = scheduler.scale_model_input(x, t)
        if chosen is not None and guidance != 1:
            no_label = torch.full_like(chosen, CLASSES - 1)
            without, given = unet(torch.cat([scaled, scaled]), t, torch.cat([no_label, chosen])).sample.chunk(2)
            output = without + guidance * (given - without)
        else:
            output = unet(scaled, t, chosen).sample
        x = scheduler.step(output, t, x, **noise).prev_sample
    pictures: Pictures = (x / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy()
    return pictures
