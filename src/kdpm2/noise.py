"""Where the random part of a step comes from.

Draws follow the conventions of diffusers, so that the same seed gives the same picture: one generator for the batch,
or a list with one a sample, so that a sample's noise does not depend on its neighbours; generators on the CPU serve
any device, since their numbers are the same everywhere.
"""

from collections.abc import Sequence
from typing import TypeAlias

import torch

from kdpm2 import _check

Generators: TypeAlias = torch.Generator | Sequence[torch.Generator] | None


def gaussian(
    shape: Sequence[int],
    dtype: torch.dtype,
    device: torch.device,
    generator: Generators = None,
) -> torch.Tensor:
    """Standard normal noise.

    Args:
        shape: Shape of the batch, samples along the first dimension.
        dtype: A floating-point dtype; the draw itself is made in it.
        device: Where the result is to be.
        generator: One for the batch, a list with one for each sample, or None for torch's global generator.

    Raises:
        TypeError: If `generator` is or holds something else.
        ValueError: If a list's length is not the batch size, or a generator's device cannot serve `device`.
    """
    if generator is None:
        return _draw(shape, dtype, device, None)
    generators = [generator] if isinstance(generator, torch.Generator) else generator
    if not isinstance(generators, (list, tuple)) or not all(isinstance(g, torch.Generator) for g in generators):
        raise TypeError(f"generator must be a torch.Generator or a list of them, got {_check.shown(generator)}")
    for g in generators:
        if g.device.type not in (device.type, "cpu"):
            raise ValueError(f"generator must be on the CPU or on the sample's device {device}, got one on {g.device}")
    if len(generators) == 1:
        return _draw(shape, dtype, device, generators[0])
    if not shape or len(generators) != shape[0]:
        raise ValueError(
            f"generator must be one generator or a list of one a sample, got {len(generators)} generators "
            f"for a sample of shape {tuple(shape)}"
        )
    return torch.cat([_draw((1, *shape[1:]), dtype, device, g) for g in generators])


def _draw(
    shape: Sequence[int], dtype: torch.dtype, device: torch.device, generator: torch.Generator | None
) -> torch.Tensor:
    drawn_on = device if generator is None else generator.device
    return torch.randn(shape, generator=generator, device=drawn_on, dtype=dtype).to(device)
