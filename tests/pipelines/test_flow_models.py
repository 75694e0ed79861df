"""The pipelines of flow-matching models run with the swap on one line, though diffusers has no KDPM2 for them.

There are no pictures of diffusers' to compare with: what a run visits is compared with the pipeline's own scheduler,
and what it computes with a loop by hand.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise, product
from pathlib import Path
from typing import Any, NamedTuple

import diffusers
import numpy as np
import pytest
import torch
from diffusers.utils.torch_utils import randn_tensor
from numpy.typing import NDArray

import kdpm2
from tests.versions import takes

from .conftest import WIDTH, random_network

Pictures = NDArray[np.float32]
Generators = torch.Generator | list[torch.Generator]

STEPS = 4
SIDE = 16  # of a picture, in pixels
SCHEDULERS = ("KDPM2AncestralDiscreteScheduler", "KDPM2DiscreteScheduler")
EULER = diffusers.FlowMatchEulerDiscreteScheduler
GUIDANCE = 3.0

IMAGE = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


class Network(NamedTuple):
    """A network in miniature, with its autoencoder, and the shape of the latents that it works on."""

    transformer: Any
    autoencoder: Any
    latents: tuple[int, ...]


class Model(NamedTuple):
    """A pipeline in diffusers, and the scheduler configuration that its checkpoint comes with."""

    network: str
    scheduler: dict[str, Any]


TEXT_TO_IMAGE = {"sd3": diffusers.StableDiffusion3Pipeline, "flux": diffusers.FluxPipeline}
SD3 = {
    "sd3": Model("sd3", {"shift": 3.0}),
    **(
        {"sd3, dynamic shift": Model("sd3", {"use_dynamic_shifting": True})}
        if takes(TEXT_TO_IMAGE["sd3"].__call__, "mu")  # from 0.32 on
        else {}
    ),
}
FLUX = {
    "flux-dev": Model("flux", {"shift": 3.0, "use_dynamic_shifting": True}),
    "flux-schnell": Model("flux", {"shift": 1.0}),
}
MODELS = {**SD3, **FLUX}
IMAGE_TO_IMAGE = {"sd3": diffusers.StableDiffusion3Img2ImgPipeline, "flux": diffusers.FluxImg2ImgPipeline}
ABSENT = {
    network: {f"{part}{number}": None for part in ("text_encoder", "tokenizer") for number in numbers}
    for network, numbers in (("sd3", ("", "_2", "_3")), ("flux", ("", "_2")))
}


@pytest.fixture(scope="module")
def networks() -> dict[str, Network]:
    def autoencoder(channels: int) -> Any:
        return random_network(
            diffusers.AutoencoderKL,
            block_out_channels=(8, WIDTH),
            norm_num_groups=4,
            down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D"),
            up_block_types=("UpDecoderBlock2D", "UpDecoderBlock2D"),
            latent_channels=channels,
            sample_size=SIDE,
            shift_factor=0.0609,
            scaling_factor=1.5035,
            use_quant_conv=False,
            use_post_quant_conv=False,
        )

    sd3 = random_network(
        diffusers.SD3Transformer2DModel,
        sample_size=SIDE // 2,
        patch_size=1,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=4,
        caption_projection_dim=32,
        joint_attention_dim=32,
        pooled_projection_dim=64,
    )
    flux = random_network(
        diffusers.FluxTransformer2DModel,
        patch_size=1,
        in_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        axes_dims_rope=[4, 4, 8],
    )
    half, quarter = SIDE // 2, SIDE // 4
    return {
        "sd3": Network(sd3, autoencoder(4), (4, half, half)),
        # Packed: each token holds two by two latents of one channel.
        "flux": Network(flux, autoencoder(1), (quarter * quarter, 4)),
    }


def built(networks: dict[str, Network], model: Model, classes: dict[str, Any] = TEXT_TO_IMAGE, **parts: Any) -> Any:
    """A pipeline with the scheduler of its checkpoint, and no text encoders: prompts are given as embeddings."""
    network = networks[model.network]
    pipeline = classes[model.network](
        transformer=network.transformer,
        vae=network.autoencoder,
        scheduler=EULER(**model.scheduler),
        **{**ABSENT[model.network], **parts},
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def swapped(pipeline: Any, scheduler: str) -> Any:
    pipeline.scheduler = getattr(kdpm2, scheduler).from_config(pipeline.scheduler.config)
    return pipeline


def prompts(pipeline: Any, count: int = 1) -> dict[str, Any]:
    """The same two random prompts, to be heeded and to be avoided, for each picture."""
    config, generator = pipeline.transformer.config, torch.Generator().manual_seed(1)
    tokens = torch.randn(2, 1, 5, config.joint_attention_dim, generator=generator)
    pooled = torch.randn(2, 1, config.pooled_projection_dim, generator=generator)
    (heeded, avoided), (heeded_pooled, avoided_pooled) = tokens.repeat(1, count, 1, 1), pooled.repeat(1, count, 1)
    given = {"prompt_embeds": heeded, "pooled_prompt_embeds": heeded_pooled}
    if isinstance(pipeline, (diffusers.StableDiffusion3Pipeline, diffusers.StableDiffusion3Img2ImgPipeline)):
        given |= {"negative_prompt_embeds": avoided, "negative_pooled_prompt_embeds": avoided_pooled}
    return given


def seeded(*seeds: int) -> Generators:
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return generators if len(seeds) > 1 else generators[0]


def drawn(pipeline: Any, *seeds: int, **options: Any) -> Pictures:
    """Pictures whose initial samples come from one generator for each of the seeds, the first if there are none."""
    # Where a pipeline does not ask for the size, it is that of its image.
    size = {"height": SIDE, "width": SIDE} if takes(pipeline.__call__, "height", "width") else {}
    given = {"num_inference_steps": STEPS, "output_type": "np", "generator": seeded(*(seeds or (0,)))}
    arguments = {**size, **given, "guidance_scale": GUIDANCE, **options}
    pictures: Pictures = pipeline(**prompts(pipeline, len(seeds) or 1), **arguments).images
    return pictures


@contextmanager
def watched(transformer: Any) -> Iterator[list[dict[str, Any]]]:
    """The keyword arguments of each call of the network."""
    calls: list[dict[str, Any]] = []
    hook = transformer.register_forward_pre_hook(lambda _, __, given: calls.append(dict(given)), with_kwargs=True)
    with hook:
        yield calls


def step_sigmas(scheduler: Any) -> torch.Tensor:
    """The N+1 noise levels at which the steps of a run start and end."""
    return torch.tensor(scheduler.table.sigmas, dtype=torch.float32)


def every_model(models: dict[str, Model] = MODELS, turn: int = 0, **more: Sequence[Any]) -> pytest.MarkDecorator:
    """Each model with one of the two schedulers in turn, and in turn with each value of one more parameter, if any.

    The others are slow. With a third parameter each two of the three meet in what is not.
    """
    name, values = next(iter(more.items())) if more else ("", [None])
    chosen = [
        pytest.param(
            model,
            scheduler,
            *([value] if more else []),
            marks=[pytest.mark.slow] if (i + j + k + turn) % 2 else [],
            id="-".join([title, scheduler, *([str(value)] if more else [])]),
        )
        for (i, (title, model)), (j, scheduler), (k, value) in product(
            enumerate(models.items()), enumerate(SCHEDULERS), enumerate(values)
        )
    ]
    return pytest.mark.parametrize(("model", "scheduler", *([name] if more else [])), chosen)


@every_model(steps=[1, 4, 7])
def test_a_run_visits_the_noise_levels_of_the_pipelines_own_scheduler(
    networks: dict[str, Network], model: Model, scheduler: str, steps: int
) -> None:
    pipeline = built(networks, model)
    with watched(pipeline.transformer) as theirs:
        drawn(pipeline, num_inference_steps=steps)
    expected = pipeline.scheduler.sigmas
    with watched(swapped(pipeline, scheduler).transformer) as ours:
        pictures = drawn(pipeline, num_inference_steps=steps)

    torch.testing.assert_close(step_sigmas(pipeline.scheduler), expected, rtol=0, atol=1e-6)
    assert (len(theirs), len(ours)) == (steps, 2 * steps - 1)
    for their_call, our_call in zip(theirs, ours[::2], strict=True):
        torch.testing.assert_close(our_call["timestep"], their_call["timestep"], rtol=1e-6, atol=0)
    assert np.isfinite(pictures).all()
    assert pictures.std() > 0.03
    assert np.mean((pictures == 0) | (pictures == 1)) < 0.5


if takes(TEXT_TO_IMAGE["sd3"].__call__, "sigmas"):  # from 0.32 on

    @every_model()
    def test_sigmas_passed_to_the_pipeline_are_visited(
        networks: dict[str, Network], model: Model, scheduler: str
    ) -> None:
        pipeline = built(networks, model)
        drawn(pipeline, num_inference_steps=3, sigmas=[1.0, 0.7, 0.2])
        expected = pipeline.scheduler.sigmas
        drawn(swapped(pipeline, scheduler), num_inference_steps=3, sigmas=[1.0, 0.7, 0.2])
        torch.testing.assert_close(step_sigmas(pipeline.scheduler), expected, rtol=0, atol=1e-6)


@every_model(turn=1)
def test_a_seed_fixes_the_pictures(networks: dict[str, Network], model: Model, scheduler: str) -> None:
    pipeline = swapped(built(networks, model), scheduler)

    def after(noise_seed: int, global_seed: int) -> Pictures:
        torch.manual_seed(global_seed)
        state = torch.get_rng_state()
        pipeline.scheduler.seed(noise_seed)
        pictures = drawn(pipeline)
        assert torch.equal(torch.get_rng_state(), state)
        return pictures

    pictures = after(5, global_seed=1)
    np.testing.assert_array_equal(after(5, global_seed=2), pictures)
    np.testing.assert_array_equal(drawn(pipeline), pictures)
    other = np.abs(after(6, global_seed=1) - pictures).max()
    assert other > 0.1 if scheduler == "KDPM2AncestralDiscreteScheduler" else other == 0
    assert np.abs(drawn(pipeline, 1) - pictures).max() > 0.1


@every_model()
def test_a_picture_with_a_seed_of_its_own_does_not_depend_on_its_neighbour(
    networks: dict[str, Network], model: Model, scheduler: str
) -> None:
    pipeline = swapped(built(networks, model), scheduler)
    pipeline.scheduler.seed([1, 2])
    first, second = drawn(pipeline, 10, 20)
    pipeline.scheduler.seed([2, 1])
    swapped_second, swapped_first = drawn(pipeline, 20, 10)
    pipeline.scheduler.seed([2])
    (alone,) = drawn(pipeline, 20)
    np.testing.assert_allclose(alone, second, rtol=0, atol=1e-5)
    np.testing.assert_allclose([swapped_first, swapped_second], [first, second], rtol=0, atol=1e-5)
    assert np.abs(first - second).max() > 0.1


@every_model(seeds=[(10,), (10, 20)])
def test_a_pipeline_beside_a_loop_by_hand(
    networks: dict[str, Network], model: Model, scheduler: str, seeds: tuple[int, ...]
) -> None:
    pipeline = built(networks, model)
    drawn(pipeline)
    sigmas = pipeline.scheduler.sigmas.double().tolist()
    velocity = network_by_hand(pipeline, len(seeds))

    swapped(pipeline, scheduler).scheduler.seed(5)
    latents = initial_latents(networks[model.network], seeds)
    pictures = drawn(pipeline, *seeds, latents=latents, output_type="latent")
    eta = 1.0 if scheduler == "KDPM2AncestralDiscreteScheduler" else 0.0
    by_hand = drawn_by_hand(velocity, latents, sigmas, eta, seed=5)
    torch.testing.assert_close(pictures, by_hand, rtol=0, atol=1e-4)
    assert (by_hand - latents).abs().max() > 0.1


def initial_latents(network: Network, seeds: Sequence[int]) -> torch.Tensor:
    drawn_noise: torch.Tensor = randn_tensor((len(seeds), *network.latents), generator=seeded(*seeds))
    return drawn_noise


def drawn_by_hand(
    velocity: Callable[[torch.Tensor, float], torch.Tensor],
    x: torch.Tensor,
    sigmas: Sequence[float],
    eta: float,
    seed: int,
) -> torch.Tensor:
    generator: Any = kdpm2.noise.seeded(seed)
    for sigma, following in pairwise(sigmas):
        slope = velocity(x, sigma)
        if following == 0:
            return x - sigma * slope
        down = following * (1 + eta * (following / sigma - 1))
        ratio = (1 - following) / (1 - down)
        up = math.sqrt(max(following**2 - (down * ratio) ** 2, 0))
        mid = math.sqrt(sigma * down)
        slope = velocity(x + (mid - sigma) * slope, mid)
        noise = torch.randn(x.shape, generator=generator) if eta else torch.zeros(())
        x = ratio * (x + (down - sigma) * slope) + up * noise
    raise AssertionError("the last sigma must be 0")


def network_by_hand(pipeline: Any, count: int) -> Callable[[torch.Tensor, float], torch.Tensor]:
    """What the network predicts for a sample at a noise level, guided if the pipeline guides it."""
    given, network = prompts(pipeline, count), pipeline.transformer

    @torch.no_grad()
    def sd3(x: torch.Tensor, sigma: float) -> torch.Tensor:
        avoided, heeded = (
            network(
                hidden_states=x,
                timestep=torch.full((count,), 1000 * sigma),
                encoder_hidden_states=given[f"{prefix}prompt_embeds"],
                pooled_projections=given[f"{prefix}pooled_prompt_embeds"],
            ).sample
            for prefix in ("negative_", "")
        )
        guided: torch.Tensor = avoided + GUIDANCE * (heeded - avoided)
        return guided

    @torch.no_grad()
    def flux(x: torch.Tensor, sigma: float) -> torch.Tensor:
        side = SIDE // 4
        places = torch.tensor([[0.0, row, column] for row in range(side) for column in range(side)])
        predicted: torch.Tensor = network(
            hidden_states=x,
            timestep=torch.full((count,), sigma),
            encoder_hidden_states=given["prompt_embeds"],
            pooled_projections=given["pooled_prompt_embeds"],
            txt_ids=torch.zeros(given["prompt_embeds"].shape[1], 3),
            img_ids=places,
        ).sample
        return predicted

    return sd3 if isinstance(pipeline, diffusers.StableDiffusion3Pipeline) else flux


@torch.no_grad()
def encoded(autoencoder: Any, generator: torch.Generator) -> torch.Tensor:
    """The latents of the image, sampled as pipelines do."""
    sampled = autoencoder.encode(2 * IMAGE - 1).latent_dist.sample(generator)
    latents: torch.Tensor = (sampled - autoencoder.config.shift_factor) * autoencoder.config.scaling_factor
    return latents


@torch.no_grad()
def decoded(autoencoder: Any, latents: torch.Tensor) -> Pictures:
    pixels = autoencoder.decode(latents / autoencoder.config.scaling_factor + autoencoder.config.shift_factor).sample
    pictures: Pictures = (pixels / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy()
    return pictures


@every_model(SD3)
def test_an_image_is_kept_the_more_the_lower_the_strength(
    networks: dict[str, Network], components: dict[str, Any], model: Model, scheduler: str
) -> None:
    steps, generator = 10, torch.Generator().manual_seed(0)
    # Before 0.33 its constructor asks the tokenizer how long a prompt may be.
    pipeline = built(networks, model, IMAGE_TO_IMAGE, tokenizer=components["tokenizer"])
    drawn(pipeline, image=IMAGE, strength=1.0, num_inference_steps=steps)
    sigmas = pipeline.scheduler.sigmas
    clean = encoded(pipeline.vae, generator)
    noise = torch.randn(clean.shape, generator=generator)

    swapped(pipeline, scheduler).scheduler.seed(5)
    distances = [0.0]
    for strength, skipped in ((0.3, 7), (0.6, 4), (1.0, 0)):
        arguments = {"image": IMAGE, "strength": strength, "num_inference_steps": steps}
        with watched(pipeline.transformer) as calls:
            pictures = drawn(pipeline, **arguments)
        assert np.isfinite(pictures).all()
        np.testing.assert_array_equal(drawn(pipeline, **arguments), pictures)
        assert np.abs(drawn(pipeline, 1, **arguments) - pictures).max() > 0.05

        # Twice: the prompt to be avoided comes along.
        expected = ((1 - sigmas[skipped]) * clean + sigmas[skipped] * noise).repeat(2, 1, 1, 1)
        torch.testing.assert_close(calls[0]["hidden_states"], expected, rtol=0, atol=1e-6)
        assert len(calls) == 2 * (steps - skipped) - 1
        distances.append(float(np.abs(pictures - decoded(pipeline.vae, clean)).mean()))
    assert distances == sorted(set(distances))


@every_model(FLUX, turn=1)
def test_flux_begins_where_its_pipeline_says(networks: dict[str, Network], model: Model, scheduler: str) -> None:
    """That pipeline takes the 2N-1 stages for the steps, and has to begin at the noise level it means all the same."""
    steps, stages = 10, 19
    pipeline = swapped(built(networks, model, IMAGE_TO_IMAGE), scheduler)
    pipeline.scheduler.seed(5)
    for strength in (1.0, 0.9, 0.6, 0.3, 0.1):
        arguments = {"image": IMAGE, "strength": strength, "num_inference_steps": steps}
        with watched(pipeline.transformer) as calls:
            pictures = drawn(pipeline, **arguments)
        assert np.isfinite(pictures).all()
        assert pictures.std() > 0.03
        np.testing.assert_array_equal(drawn(pipeline, **arguments), pictures)
        first = int(stages - stages * strength)
        assert len(calls) == stages - first
        begun_at = calls[0]["timestep"].item()
        assert begun_at == pytest.approx(pipeline.scheduler.timesteps[first].item() / 1000, rel=1e-6)
        # With a scheduler whose stages are its steps the pipeline leaves out this many of the N.
        sigmas = step_sigmas(pipeline.scheduler)
        meant = int(steps - steps * strength)
        assert sigmas[min(meant + 1, steps)] <= begun_at <= sigmas[max(meant - 1, 0)]


@every_model(turn=1)
def test_a_saved_pipeline_draws_the_same_pictures(
    networks: dict[str, Network], model: Model, scheduler: str, tmp_path: Path
) -> None:
    before = swapped(built(networks, model), scheduler)
    before.save_pretrained(tmp_path)
    after = diffusers.DiffusionPipeline.from_pretrained(tmp_path, **ABSENT[model.network])
    after.set_progress_bar_config(disable=True)
    assert type(after.scheduler) is getattr(kdpm2, scheduler)
    assert type(after) is type(before)
    for pipeline in (before, after):
        pipeline.scheduler.seed(5)
    np.testing.assert_allclose(drawn(after), drawn(before), rtol=0, atol=1e-6)
    assert torch.equal(after.scheduler.sigmas, before.scheduler.sigmas)


@every_model()
def test_the_pipelines_own_scheduler_is_taken_back(networks: dict[str, Network], model: Model, scheduler: str) -> None:
    given = {"base_shift": 0.4, "max_shift": 1.3, "base_image_seq_len": 200, "max_image_seq_len": 5000}
    theirs = EULER(**{**model.scheduler, **given})
    ours = getattr(kdpm2, scheduler).from_config(theirs.config)
    back = EULER.from_config(ours.config)
    assert {name: back.config[name] for name in theirs.config if not name.startswith("_")} == {
        name: value for name, value in theirs.config.items() if not name.startswith("_")
    }
    for each in (theirs, back):
        each.set_timesteps(STEPS, mu=0.8)
    torch.testing.assert_close(back.sigmas, theirs.sigmas, rtol=0, atol=0)

    pipeline = built(networks, model)
    expected = drawn(pipeline)
    pipeline.scheduler = EULER.from_config(swapped(pipeline, scheduler).scheduler.config)
    np.testing.assert_array_equal(drawn(pipeline), expected)


if hasattr(diffusers, "WanPipeline"):  # from 0.33 on

    @pytest.mark.parametrize(
        ("scheduler", "solver", "steps"),  # each two of the three meet
        [
            (SCHEDULERS[0], "UniPCMultistepScheduler", 4),
            (SCHEDULERS[0], "DPMSolverMultistepScheduler", 10),
            (SCHEDULERS[1], "UniPCMultistepScheduler", 10),
            (SCHEDULERS[1], "DPMSolverMultistepScheduler", 4),
        ],
    )
    def test_a_video_pipeline_runs_from_the_configuration_of_a_multistep_solver(
        scheduler: str, solver: str, steps: int
    ) -> None:
        flow_shift = 3.0
        theirs = getattr(diffusers, solver)(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=flow_shift
        )
        transformer = random_network(
            diffusers.WanTransformer3DModel,
            num_attention_heads=2,
            attention_head_dim=12,
            in_channels=4,
            out_channels=4,
            text_dim=32,
            freq_dim=16,
            ffn_dim=32,
            num_layers=1,
        )
        pipeline = diffusers.WanPipeline(None, None, None, theirs, transformer)
        pipeline.set_progress_bar_config(disable=True)
        heeded, avoided = torch.randn(2, 1, 5, 32, generator=torch.Generator().manual_seed(1))

        def film() -> torch.Tensor:
            size = {"height": 32, "width": 32, "num_frames": 5, "num_inference_steps": steps}
            options = {"output_type": "latent", "generator": seeded(0)}
            frames: torch.Tensor = pipeline(
                prompt_embeds=heeded, negative_prompt_embeds=avoided, guidance_scale=GUIDANCE, **size, **options
            ).frames
            return frames

        expected = film()
        swapped(pipeline, scheduler).scheduler.seed(5)
        frames = film()
        # Theirs are spaced towards the smallest trained sigma, ours towards 0; the shift multiplies that at most.
        closest = flow_shift / theirs.config.num_train_timesteps
        torch.testing.assert_close(step_sigmas(pipeline.scheduler), theirs.sigmas, rtol=0, atol=closest)
        assert torch.isfinite(frames).all()
        assert torch.equal(film(), frames)
        pipeline.scheduler.seed(6)
        if scheduler == "KDPM2AncestralDiscreteScheduler":
            assert (film() - frames).abs().max() > 0.1
        else:
            assert torch.equal(film(), frames)
            # Both follow the same flow.
            assert (frames - expected).std() < 0.1 * expected.std()
