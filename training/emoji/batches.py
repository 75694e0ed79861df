"""Batches of pictures: kinds in turn, mirrored, and in other colours as far as their kind allows."""

import torch
from torch import Tensor

from training.emoji.pictures import KINDS, Pictures

_AS_IT_IS = 0.5  # share of the pictures that keep their colours


class Batches:
    """Batches of pictures in [-1, 1]. The rarer a kind is, the more often each of its pictures is drawn.

    Args:
        pictures: Those to draw from.
    """

    def __init__(self, pictures: Pictures) -> None:
        self.kinds = torch.tensor(pictures.kinds)
        self._hsv = hsv(torch.tensor(pictures.pixels).permute(0, 3, 1, 2) / 255)
        self._turns = torch.tensor([kind.hues for kind in KINDS])
        counts = torch.bincount(self.kinds, minlength=len(KINDS))
        self._weights = counts[self.kinds].float() ** -0.5

    def draw(self, count: int) -> tuple[Tensor, Tensor]:
        """Pictures (count, 3, 24, 24) and their kinds (count,)."""
        pick = torch.multinomial(self._weights, count, replacement=True)
        kinds = self.kinds[pick]
        turn = self._turns[kinds] * (2 * torch.rand(count) - 1)
        turn = torch.where(torch.rand(count) < _AS_IT_IS, 0, turn)
        hue, saturation, value = (each[pick] for each in self._hsv)
        pictures = rgb(hue + turn[:, None, None], saturation, value) * 2 - 1
        mirrored = torch.rand(count, 1, 1, 1) < 0.5
        return torch.where(mirrored, pictures.flip(3), pictures), kinds


def hsv(pictures: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Hue in turns, saturation and value, each (n, h, w), of pictures (n, 3, h, w) in [0, 1]."""
    red, green, blue = pictures.unbind(1)
    value = pictures.amax(1)
    chroma = value - pictures.amin(1)
    some = chroma.clamp(min=1e-6)
    from_red, from_green, from_blue = (green - blue) / some, 2 + (blue - red) / some, 4 + (red - green) / some
    sixths = torch.where(value == red, from_red, torch.where(value == green, from_green, from_blue))
    return sixths / 6, chroma / value.clamp(min=1e-6), value


def rgb(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """Pictures (n, 3, h, w) in [0, 1] of what `hsv` gives; turns of the hue beyond one count as well."""
    places = (hue[:, None] * 6 + torch.tensor([5.0, 3.0, 1.0])[:, None, None]) % 6
    share = torch.minimum(places, 4 - places).clamp(0, 1)
    return (1 - saturation[:, None] * share) * value[:, None]
