"""A pipeline keeps kdpm2's scheduler when it is saved and loaded, and can be given diffusers' own again."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import kdpm2

Pictures = NDArray[np.float32]

ARGUMENTS = {"prompt": "red fox", "num_inference_steps": 3, "output_type": "np"}
CONFIG = {"beta_schedule": "scaled_linear", "prediction_type": "v_prediction", "use_karras_sigmas": True}
SCHEDULERS = ("KDPM2AncestralDiscreteScheduler", "KDPM2DiscreteScheduler")

LOAD_AND_DRAW = """
import json, sys
import kdpm2
import numpy, torch
from diffusers import DiffusionPipeline

torch.set_num_threads(1)
pipeline = DiffusionPipeline.from_pretrained(sys.argv[1])
assert type(pipeline.scheduler) is kdpm2.KDPM2AncestralDiscreteScheduler, type(pipeline.scheduler)
arguments = json.loads(sys.argv[2])
numpy.save(sys.argv[3], pipeline(**arguments, generator=torch.Generator().manual_seed(0)).images)
"""


def public(config: Any) -> dict[str, Any]:
    """Without what diffusers notes for itself: the class, its own version, which values were defaults."""
    return {name: value for name, value in config.items() if not name.startswith("_")}


def drawn(pipeline: Any, seed: int = 0) -> Pictures:
    pipeline.set_progress_bar_config(disable=True)
    pictures: Pictures = pipeline(**ARGUMENTS, generator=torch.Generator().manual_seed(seed)).images
    return pictures


@pytest.fixture(scope="module", params=SCHEDULERS)
def pipeline(request: pytest.FixtureRequest, components: dict[str, Any], unets: dict[int, Any]) -> Any:
    scheduler = getattr(kdpm2, request.param)(**CONFIG, steps_offset=1)
    return diffusers.StableDiffusionPipeline(**components, unet=unets[4], scheduler=scheduler)


@pytest.fixture(scope="module")
def saved(pipeline: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pipeline")
    pipeline.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def loaded(saved: Path) -> Any:
    return diffusers.DiffusionPipeline.from_pretrained(saved)


def test_the_saved_pipeline_names_kdpm2(pipeline: Any, saved: Path) -> None:
    index = json.loads((saved / "model_index.json").read_text())
    assert index["scheduler"] == ["kdpm2", type(pipeline.scheduler).__name__]


def test_loading_restores_the_scheduler(pipeline: Any, loaded: Any) -> None:
    assert type(loaded.scheduler) is type(pipeline.scheduler)
    assert public(loaded.scheduler.config) == public(pipeline.scheduler.config)


def test_the_loaded_pipeline_draws_the_same_pictures(pipeline: Any, loaded: Any) -> None:
    before = drawn(pipeline)
    np.testing.assert_allclose(drawn(loaded), before, rtol=0, atol=1e-6)
    assert np.abs(drawn(loaded, seed=1) - before).max() > 0.1


@pytest.mark.parametrize("pipeline", SCHEDULERS[:1], indirect=True)
def test_a_new_process_needs_only_to_import_kdpm2(pipeline: Any, saved: Path, tmp_path: Path) -> None:
    file = tmp_path / "pictures.npy"
    subprocess.run([sys.executable, "-c", LOAD_AND_DRAW, saved, json.dumps(ARGUMENTS), file], check=True)
    np.testing.assert_allclose(np.load(file), drawn(pipeline), rtol=0, atol=1e-6)


def test_diffusers_takes_its_own_scheduler_back(pipeline: Any, saved: Path) -> None:
    theirs = getattr(diffusers, type(pipeline.scheduler).__name__)
    back = diffusers.StableDiffusionPipeline(
        **{**pipeline.components, "scheduler": theirs.from_config(pipeline.scheduler.config)},
        requires_safety_checker=False,
    )
    from_folder = theirs.from_pretrained(saved, subfolder="scheduler")
    for config in (public(back.scheduler.config), public(from_folder.config)):
        # Options that only ours has are kept for the way back to it.
        assert config == {name: public(pipeline.scheduler.config)[name] for name in config}
    np.testing.assert_allclose(drawn(back), drawn(pipeline), rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("other", ["DDIMScheduler", "EulerDiscreteScheduler", "PNDMScheduler"])
def test_the_configuration_of_another_scheduler_gives_the_same_run(name: str, other: str) -> None:
    # Betas that are a class's default would be kept by ours, and lost by diffusers' own.
    betas = {"beta_schedule": "scaled_linear", "beta_start": 0.0001, "beta_end": 0.02}
    config = getattr(diffusers, other)(**betas, prediction_type="v_prediction").config
    theirs, ours = getattr(diffusers, name).from_config(config), getattr(kdpm2, name).from_config(config)
    for scheduler in (theirs, ours):
        scheduler.set_timesteps(5)
    torch.testing.assert_close(ours.sigmas, theirs.sigmas)
    torch.testing.assert_close(ours.timesteps, theirs.timesteps.float(), rtol=0, atol=1e-3)
    back = public(type(theirs).from_config(ours.config).config)
    assert back == {name: public(theirs.config)[name] for name in back}


@pytest.mark.parametrize("model", ["digits", "emoji"])
def test_a_built_in_pipeline_is_loaded_by_its_class(model: str, tmp_path: Path) -> None:
    before = getattr(kdpm2.zoo, model)()
    before.save_pretrained(tmp_path)
    after = kdpm2.zoo.PixelPipeline.from_pretrained(tmp_path)
    assert public(after.scheduler.config) == public(before.scheduler.config)
    arguments: dict[str, Any] = {"labels": [1, 2], "num_inference_steps": 3, "output_type": "np"}
    pictures, loaded = (p(**arguments, generator=torch.Generator().manual_seed(0)).images for p in (before, after))
    np.testing.assert_allclose(loaded, pictures, rtol=0, atol=1e-6)
