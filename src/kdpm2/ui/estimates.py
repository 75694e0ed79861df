"""A run as it appears: each step's estimate of the clean pictures, side by side."""

from typing import Any

import torch
from PIL import Image

from kdpm2.cli.contact_sheet import enlarged, enlargement
from kdpm2.cli.watching import Seen

_MOST_ROWS, _MOST_COLUMNS = 4, 12
_WIDEST = 160  # pixels of a tile
_GAP = 2


class Strip:
    """The estimates of the first pictures of a run: a row a picture, a column a step."""

    def __init__(self, steps: int) -> None:
        count = min(steps, _MOST_COLUMNS)
        self._steps = sorted({round(i * (steps - 1) / max(1, count - 1)) for i in range(count)})
        self._columns: list[list[Image.Image]] = []
        self._step = -1

    def add(self, pipe: Any, seen: Seen) -> Image.Image | None:
        """The strip with one more column; None where this call adds none."""
        if not seen.starts_step:
            return None
        self._step += 1
        if self._step not in self._steps:
            return None
        images = pictures(pipe, seen.denoised[:_MOST_ROWS])
        if images is None:
            return None
        self._columns.append(images)
        return self._drawn()

    def _drawn(self) -> Image.Image:
        some = self._columns[0][0]
        scale = min(float(enlargement(some.size)), _WIDEST / max(some.size)) if some.width > 64 else 8
        width, height = round(some.width * scale), round(some.height * scale)
        rows = len(self._columns[0])
        size = (len(self._steps) * (width + _GAP) - _GAP, rows * (height + _GAP) - _GAP)
        sheet = Image.new("RGB", size, "#808080")
        for column, images in enumerate(self._columns):
            for row, image in enumerate(images):
                tile = enlarged(image.convert("RGB"), (width, height))
                sheet.paste(tile, (column * (width + _GAP), row * (height + _GAP)))
        return sheet


@torch.no_grad()
def pictures(pipe: Any, samples: torch.Tensor) -> list[Image.Image] | None:
    """Clean samples (B, ...) as pictures; None where nothing tells how to make some of what the network works on."""
    autoencoder = getattr(pipe, "vae", None)
    if autoencoder is not None:
        scale = getattr(autoencoder.config, "scaling_factor", None)
        if samples.ndim != 4 or scale is None or samples.shape[1] != autoencoder.config.latent_channels:
            return None
        shift = getattr(autoencoder.config, "shift_factor", None) or 0.0
        latents = (samples / scale + shift).to(autoencoder.dtype)
        samples = torch.cat([autoencoder.decode(each[None], return_dict=False)[0] for each in latents])
    if samples.ndim != 4 or samples.shape[1] not in (1, 3):
        return None
    levels = ((samples.float() / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(level[..., 0] if level.shape[-1] == 1 else level) for level in levels]
