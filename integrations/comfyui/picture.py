"""Noise levels as a picture: each step's start and the end, on a logarithmic axis."""

import math

import numpy as np
import torch
from PIL import Image, ImageDraw

WIDTH, HEIGHT = 768, 448
_LEFT, _RIGHT, _TOP, _BOTTOM = 80, 24, 40, 56
_INK, _GRID, _LINE, _POINT = (40, 40, 40), (222, 222, 222), (160, 170, 210), (48, 63, 159)


def picture(sigmas: torch.Tensor) -> torch.Tensor:
    """The picture of noise levels, as ComfyUI holds pictures: shape (1, H, W, 3), float32, from 0 to 1.

    Args:
        sigmas: Shape (N+1,). Levels above 0 are points. A 0 is one too, on the lower edge.
    """
    image = Image.new("RGB", (WIDTH, HEIGHT), "white")
    draw = ImageDraw.Draw(image)
    levels = sigmas.tolist()
    above = [level for level in levels if level > 0]
    if above:
        _plot(draw, levels, math.floor(math.log10(min(above))), math.ceil(math.log10(max(above))))
    text = f"{max(len(levels) - 1, 0)} steps"
    if levels:
        text += f", sigma from {levels[0]:.4g} to {levels[-1]:.4g}"
        text += f", the last step from {levels[-2]:.4g}" if len(levels) > 1 else ""
    draw.text((_LEFT, 14), text, fill=_INK)
    return torch.from_numpy(np.asarray(image, dtype=np.float32) / 255)[None]


def _plot(draw: ImageDraw.ImageDraw, levels: list[float], lowest: int, highest: int) -> None:
    """The axes, and the levels between powers of ten; below the lowest there is room for a 0."""
    if 0 in levels:
        lowest -= 1
    highest = max(highest, lowest + 1)

    def at(step: int, level: float) -> tuple[float, float]:
        height = (math.log10(level) - lowest) / (highest - lowest) if level > 0 else 0.0
        x = _LEFT + (WIDTH - _LEFT - _RIGHT) * step / max(len(levels) - 1, 1)
        return x, HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * height

    for power in range(lowest, highest + 1):
        _, y = at(0, 10.0**power)
        draw.line([(_LEFT, y), (WIDTH - _RIGHT, y)], fill=_GRID)
        named = "0" if power == lowest and 0 in levels else f"{10.0**power:g}"
        draw.text((_LEFT - 12, y), named, fill=_INK, anchor="rm")
    every = max(1, -(-len(levels) // 20))
    for step in range(0, len(levels), every):
        draw.text((at(step, 0)[0], HEIGHT - _BOTTOM + 12), str(step), fill=_INK, anchor="mt")
    draw.text(((_LEFT + WIDTH - _RIGHT) / 2, HEIGHT - 22), "step", fill=_INK, anchor="mt")
    points = [at(step, level) for step, level in enumerate(levels)]
    draw.line(points, fill=_LINE, width=2)
    for x, y in points:
        draw.ellipse([x - 4, y - 4, x + 4, y + 4], fill=_POINT)
