"""Stable Diffusion in miniature: the real classes with small random networks, so that nothing is downloaded."""

import json
import string
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel, UNet2DModel
from numpy.typing import NDArray
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from tests.conftest import COMPARED

Pictures = NDArray[np.float32]

PROMPT_LENGTH = 16
WIDTH = 16
SMALL = {
    "sample_size": 8,
    "block_out_channels": (WIDTH,),
    "layers_per_block": 1,
    "attention_head_dim": 4,
    "norm_num_groups": 4,
}
CLASSES = 4


class Comparison(Protocol):
    def __call__(
        self, label: str, pictures: Pictures, expected: Pictures, *pipelines: Any, dtype: str = "float32"
    ) -> float: ...


@pytest.fixture
def difference(record_property: Callable[[str, object], None]) -> Comparison:
    """The largest difference between the pictures of two runs, which the summary of the test run then counts in."""

    def measured(label: str, pictures: Pictures, expected: Pictures, *pipelines: Any, dtype: str = "float32") -> float:
        assert pictures.shape == expected.shape
        largest = float(np.abs(pictures - expected).max())
        names = [type(pipeline).__name__ for pipeline in pipelines]
        label = f"{' and '.join(names)}: {label}"
        record_property(COMPARED, {"pipelines": names, "label": label, "difference": largest, "dtype": dtype})
        return largest

    return measured


def random_network(build: Callable[..., Any], *args: Any, **config: Any) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build(*args, **config).eval()


@pytest.fixture(scope="session")
def components(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return stable_diffusion(spelling_tokenizer(tmp_path_factory))


def stable_diffusion(tokenizer: Any) -> dict[str, Any]:
    """What every Stable Diffusion pipeline takes, besides its network and its scheduler."""
    text_config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=PROMPT_LENGTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    autoencoder = random_network(
        AutoencoderKL,
        block_out_channels=(8, WIDTH),
        norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D"),
        up_block_types=("UpDecoderBlock2D", "UpDecoderBlock2D"),
        latent_channels=4,
        sample_size=16,
    )
    return {
        "vae": autoencoder,
        "text_encoder": random_network(CLIPTextModel, text_config),
        "tokenizer": tokenizer,
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }


def spelling_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A CLIP tokenizer that knows the letters and no way to merge them."""
    folder = tmp_path_factory.mktemp("tokenizer")
    letters = string.ascii_lowercase
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=PROMPT_LENGTH)


@pytest.fixture(scope="session")
def unets() -> dict[int, Any]:
    """Networks on latents by their input channels: 4, or 9 for one that is shown the mask and the masked image too."""
    return {channels: latent_unet(channels) for channels in (4, 9)}


def latent_unet(in_channels: int = 4) -> Any:
    return random_network(
        UNet2DConditionModel,
        **SMALL,
        in_channels=in_channels,
        out_channels=4,
        down_block_types=("CrossAttnDownBlock2D",),
        mid_block_type=None,
        up_block_types=("CrossAttnUpBlock2D",),
        cross_attention_dim=WIDTH,
    )


@pytest.fixture(scope="session")
def pixel_unets() -> dict[int | None, Any]:
    """Networks on pixels by the number of their classes."""
    return {
        classes: random_network(
            UNet2DModel,
            **SMALL,
            num_class_embeds=classes,
            down_block_types=("AttnDownBlock2D",),
            up_block_types=("AttnUpBlock2D",),
        )
        for classes in (None, CLASSES)
    }
