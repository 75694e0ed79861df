"""Normal noise from torch's generators: independent numbers, one after another."""

from collections.abc import Sequence
from typing import Any

import torch

from kdpm2 import _check
from kdpm2._check_tensor import floating_dtype, without_waiting
from kdpm2.noise.seeds import Generators, Seeds, check_count, listed, seeded
from kdpm2.noise.source import Noise
from kdpm2.table import StageTable

LONGEST_SIDE = 2**40  # more than any memory holds


class Gaussian(Noise):
    """Noise from a generator for the batch, from one for each sample, or from torch's global one.

    Args:
        generators: As `gaussian` takes them.
    """

    drawn_on = True

    def __init__(self, generators: Generators) -> None:
        # A list of one serves the whole batch, as that one does, and costs more at each draw.
        alone = isinstance(generators, list) and len(generators) == 1 and isinstance(generators[0], torch.Generator)
        self.generators = generators[0] if alone else generators  # type: ignore[index]

    @classmethod
    def of(cls, seeds: Seeds, table: StageTable, like: torch.Tensor) -> "Gaussian":
        """From generators on the CPU, whose numbers are the same everywhere. None for torch's global one."""
        return cls(seeded(seeds))

    @classmethod
    def of_generators(cls, generator: Generators, table: StageTable, like: torch.Tensor) -> "Gaussian":
        """From these generators themselves."""
        return cls(generator)

    def draw(self, step: int, like: torch.Tensor) -> torch.Tensor:
        """The next numbers of the generators, whatever the step."""
        return gaussian_like(like, self.generators)

    def state(self) -> dict[str, Any]:
        """The states of the generators."""
        if self.generators is None:
            of_gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
            return {"global": torch.get_rng_state(), **{f"cuda:{i}": each for i, each in enumerate(of_gpus)}}
        return {"generators": torch.stack([generator.get_state() for generator in listed(self.generators)])}

    @classmethod
    def of_state(cls, state: dict[str, Any], like: torch.Tensor) -> "Gaussian":
        """From generators in these states. If it was torch's global generator, that one is set to its state."""
        if "global" in state:
            torch.set_rng_state(state["global"])
            for device in sorted(state.keys() - {"global"}):
                torch.cuda.set_rng_state(state[device], device)
            return cls(None)
        generators = [torch.Generator(device="cpu") for _ in state["generators"]]
        for generator, each in zip(generators, state["generators"], strict=True):
            generator.set_state(each.clone())  # torch takes for granted that a state lies in memory as its own would
        return cls(generators)


def gaussian(
    shape: Sequence[int],
    dtype: torch.dtype,
    device: torch.device,
    generator: Generators = None,
) -> torch.Tensor:
    """Standard normal noise.

    Args:
        shape: Shape of the batch. The first dimension counts the samples.
        dtype: A floating-point dtype. The noise is drawn in it.
        device: The device of the result.
        generator: One for the batch, a list with one for each sample, or None for torch's global generator.

    Raises:
        TypeError: If `generator` is or holds something else.
        ValueError: If a list's length is not the batch size, or a generator's device cannot serve `device`.
    """
    _check_drawable(shape, dtype, device)
    return _drawn(shape, dtype, device, generator)


def gaussian_like(like: torch.Tensor, generator: Generators = None) -> torch.Tensor:
    """`gaussian` with the shape, dtype and device of a dense floating-point tensor. They are not checked."""
    # To spell the three out costs torch a microsecond, as much as a small sample's numbers.
    if generator is None:
        return torch.randn_like(like, memory_format=torch.contiguous_format)
    if isinstance(generator, torch.Generator) and generator.device == like.device:
        return torch.empty_like(like, memory_format=torch.contiguous_format).normal_(generator=generator)
    return _drawn(like.shape, like.dtype, like.device, generator)


def _check_drawable(shape: Any, dtype: Any, device: Any) -> None:
    if not isinstance(device, torch.device):
        raise TypeError(f"device must be a torch.device, got {_check.shown(device)}")
    floating_dtype("dtype", dtype)
    if not isinstance(shape, (tuple, list)):
        raise TypeError(f"shape must be a tuple of integers, got {_check.shown(shape)}")
    for length in shape:
        if type(length) is not int or not 0 <= length <= LONGEST_SIDE:
            _check.integer("each of shape", length, 0, LONGEST_SIDE)


def _drawn(shape: Sequence[int], dtype: torch.dtype, device: torch.device, generator: Generators) -> torch.Tensor:
    if generator is None:
        return torch.randn(shape, dtype=dtype, device=device)
    generators = listed(generator)
    for g in generators:
        if g.device.type not in (device.type, "cpu"):
            raise ValueError(f"generator must be on the CPU or on the sample's device {device}, got one on {g.device}")

    def draw(shape: Sequence[int], g: torch.Generator) -> torch.Tensor:
        return without_waiting(torch.randn(shape, generator=g, device=g.device, dtype=dtype), device)

    if len(generators) == 1:
        return draw(shape, generators[0])
    check_count(generators, shape)
    return torch.cat([draw((1, *shape[1:]), g) for g in generators])
