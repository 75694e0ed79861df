from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.svm import SVC

import kdpm2
from kdpm2 import zoo
from kdpm2.zoo.handwriting import WEIGHTS


@pytest.fixture(scope="module")
def pipe() -> zoo.PixelPipeline:
    made = zoo.digits()
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture(scope="module")
def reader() -> SVC:
    digits = load_digits()
    return SVC(C=10, gamma=0.06).fit(digits.data / 8 - 1, digits.target)


def draw(pipe: Any, labels: list[int], seed: int = 0, **options: Any) -> Any:
    generators = [torch.Generator().manual_seed(seed + i) for i in range(len(labels))]
    return pipe(labels, generator=generators, output_type="np", **options).images


def read(reader: SVC, images: Any) -> Any:
    return reader.predict(images.reshape(len(images), -1) * 2 - 1)


@pytest.mark.parametrize(
    ("scheduler", "guidance_scale"),
    [(kdpm2.KDPM2AncestralDiscreteScheduler, 2.0), (kdpm2.KDPM2DiscreteScheduler, 1.0)],
)
def test_digits_are_read_as_their_label(pipe: Any, reader: SVC, scheduler: Any, guidance_scale: float) -> None:
    pipe = zoo.PixelPipeline(pipe.unet, scheduler.from_config(pipe.scheduler.config))
    pipe.set_progress_bar_config(disable=True)
    labels = [i % 10 for i in range(30)]
    images = draw(pipe, labels, num_inference_steps=10, guidance_scale=guidance_scale)
    assert np.mean(read(reader, images) == labels) > 0.95


def test_without_a_label_every_digit_comes_up(pipe: Any, reader: SVC) -> None:
    generators = [torch.Generator().manual_seed(i) for i in range(80)]
    images = pipe(num_images=80, num_inference_steps=8, generator=generators, output_type="np").images
    assert set(read(reader, images)) == set(range(10))


def test_an_image_does_not_depend_on_its_batch(pipe: Any) -> None:
    together = draw(pipe, [3, 1, 4, 1, 5], seed=10, num_inference_steps=8)
    alone = draw(pipe, [1], seed=13, num_inference_steps=8)
    np.testing.assert_allclose(together[3], alone[0], atol=1e-5)
    assert np.abs(together[1] - together[3]).max() > 0.1


@pytest.mark.parametrize(("output_type", "shape"), [("np", (2, 8, 8, 1)), ("pt", (2, 1, 8, 8))])
def test_output_forms(pipe: Any, output_type: str, shape: tuple[int, ...]) -> None:
    seeded = {"num_inference_steps": 4, "num_images": 2}
    images = pipe(**seeded, generator=torch.Generator().manual_seed(0), output_type=output_type).images
    assert images.shape == shape
    assert images.min() >= 0
    assert images.max() <= 1
    pictures = pipe(**seeded, generator=torch.Generator().manual_seed(0)).images
    np.testing.assert_allclose(np.asarray(pictures[1]) / 255, images[1].squeeze(), atol=0.5 / 255 + 1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"labels": [11]}, "each of labels must be an integer from 0 to 10, got 11"),
        ({"labels": []}, "labels must hold at least one label, got none"),
        ({"labels": [1], "num_images": 2}, "num_images must be the number of labels, 1, got 2"),
        ({"num_images": 0}, "num_images must be an integer at least 1, got 0"),
        ({"guidance_scale": -1}, "guidance_scale must be a number from 0 to 100, got -1"),
        ({"guidance_scale": 2, "guidance_interval": (5, 1)}, "interval must be two noise levels, from 0 on and rising"),
        ({"num_inference_steps": 0}, "num_inference_steps must be an integer at least 1, got 0"),
        ({"output_type": "jpeg"}, "output_type must be one of 'pil', 'np', 'pt', got 'jpeg'"),
    ],
)
def test_wrong_arguments_are_refused(pipe: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pipe(**arguments)


def test_the_weights_are_small_and_safe() -> None:
    files = [path for part in ("unet", "scheduler") for path in (WEIGHTS / part).iterdir()]
    assert {path.suffix for path in files} == {".json", ".safetensors"}
    assert sum(path.stat().st_size for path in files) < 2_000_000
