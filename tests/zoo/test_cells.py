from typing import Any

import torch

from kdpm2 import KDPM2AncestralDiscreteScheduler
from kdpm2.zoo.cells import CellUNet
from kdpm2.zoo.pixels import PixelPipeline

SMALL: dict[str, Any] = {
    "sample_size": 8,
    "block_out_channels": (8, 16),
    "attention_head_dim": 8,
    "num_class_embeds": 4,
}


def test_the_network_takes_and_returns_pictures_and_sees_cells() -> None:
    network = CellUNet(**SMALL)
    assert network.of_cells.config.sample_size == 4
    assert network.of_cells.config.in_channels == 12
    timesteps = torch.tensor([3.0, 400.5])
    output = network(torch.randn(2, 3, 8, 8), timesteps, torch.tensor([0, 3])).sample
    assert output.shape == (2, 3, 8, 8)

    # A network of cells that returns what it sees returns the picture as it was.
    network.of_cells.forward = lambda cells, *_: type("Output", (), {"sample": cells})
    picture = torch.randn(1, 3, 8, 8)
    assert torch.equal(network(picture, timesteps[:1], torch.tensor([0])).sample, picture)


def test_the_pipeline_draws_in_colour_with_it(tmp_path: Any) -> None:
    torch.manual_seed(0)
    network = CellUNet(**SMALL)
    network.save_pretrained(tmp_path)
    loaded = CellUNet.from_pretrained(tmp_path)
    images = []
    for each in (network.eval(), loaded):
        pipe: Any = PixelPipeline(each, KDPM2AncestralDiscreteScheduler(prediction_type="v_prediction"))
        pipe.set_progress_bar_config(disable=True)
        images.append(pipe([0, 2], None, 3, 2.0, torch.Generator().manual_seed(1)).images)
    assert images[0][0].mode == "RGB"
    assert images[0][0].size == (8, 8)
    assert [each.tobytes() for each in images[0]] == [each.tobytes() for each in images[1]]
