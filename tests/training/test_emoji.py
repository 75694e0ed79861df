import colorsys

import numpy as np
import pytest
import torch
from training.emoji.batches import Batches, hsv, rgb
from training.emoji.muon import Muon, orthogonal
from training.emoji.pictures import KINDS, Pictures


def test_colours_are_turned_as_python_turns_them() -> None:
    torch.manual_seed(0)
    pictures = torch.rand(2, 3, 4, 4)
    pictures[0, :, 0, 0] = 0.5
    hue, saturation, value = hsv(pictures)
    turned = rgb(hue + 0.3, saturation, value)
    for picture in range(2):
        for y in range(4):
            for x in range(4):
                h, s, v = colorsys.rgb_to_hsv(*pictures[picture, :, y, x].tolist())
                expected = colorsys.hsv_to_rgb((h + 0.3) % 1, s, v)
                assert turned[picture, :, y, x].tolist() == pytest.approx(expected, abs=1e-5)


def test_a_batch_has_each_picture_with_its_kind_and_rare_kinds_more_often() -> None:
    shades = np.array([10] * 90 + [200] * 10, dtype=np.uint8)
    kind_of = {10: 1, 200: 8}  # kinds whose colours are not turned
    assert all(KINDS[kind].hues == 0 for kind in kind_of.values())
    pixels = np.broadcast_to(shades[:, None, None, None], (100, 24, 24, 3)).copy()
    kinds = np.array([kind_of[int(shade)] for shade in shades])
    torch.manual_seed(0)
    drawn, labels = Batches(Pictures(pixels, kinds, [""] * 100)).draw(2000)
    assert drawn.shape == (2000, 3, 24, 24)
    shown = ((drawn[:, 0, 0, 0] + 1) * 127.5).round().int().tolist()
    assert [kind_of[shade] for shade in shown] == labels.tolist()
    assert (labels == 8).float().mean() == pytest.approx(1 / 4, abs=0.05)  # √10 to √90


def test_moves_are_orthogonal_and_lead_downhill() -> None:
    torch.manual_seed(0)
    for shape in ((8, 40), (40, 8)):
        values = torch.linalg.svdvals(orthogonal(torch.randn(shape)))
        assert 0.6 < values.min() <= values.max() < 1.3
    weight, target = torch.nn.Parameter(torch.zeros(6, 5, 3, 3)), torch.randn(6, 5, 3, 3)
    optimizer = Muon([weight], lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        (weight - target).square().mean().backward()
        optimizer.step()
    assert (weight - target).abs().mean() < 0.3 * target.abs().mean()
