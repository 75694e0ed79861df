"""Seeds and generators: what the random part of a run starts from.

The same seed gives the same picture as in diffusers, because draws follow its conventions. There is one generator for
the batch, or a list with one for each sample. With a list, a sample's noise does not depend on its neighbours.
Generators on the CPU serve every device, because their numbers are the same everywhere.

A seed has 64 bits. torch's own `manual_seed` looks at the last 32 of them on a CPU.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import torch

from kdpm2 import _check

Generators: TypeAlias = torch.Generator | Sequence[torch.Generator] | None
Seeds: TypeAlias = int | Sequence[int] | None

LARGEST_SEED = 2**64 - 1
_MOST_SEEDS = 100_000
_NOISE_OF_STEPS = 0xD1B54A32  # any number of 32 bits that no seed is likely to differ from another by
_COUNTED_BY_TORCH = 2**32
# Where torch's state of a CPU generator holds the 624 words of its Mersenne twister, eight bytes each.
_WORDS = slice(24, 24 + 624 * 8)


def checked_seeds(name: str, seeds: Any) -> int | list[int] | None:
    """One seed, a list of seeds, or None; TypeError or ValueError for anything else."""
    if seeds is None:
        return None
    if isinstance(seeds, (np.ndarray, torch.Tensor)) and seeds.ndim:
        seeds = seeds[: _MOST_SEEDS + 1].tolist()
    if isinstance(seeds, (str, bytes, bytearray, memoryview)) or not isinstance(seeds, Sequence):
        return _check.integer(name, seeds, 0, LARGEST_SEED)
    held = _check.listed(name, seeds, _MOST_SEEDS, "integers")
    if not held:
        raise ValueError(f"{name} must be an integer or hold one for each sample, got none")
    return [_check.integer(f"each of {name}", seed, 0, LARGEST_SEED) for seed in held]


def generator_of(seed: int) -> torch.Generator:
    """A generator on the CPU for a seed of 64 bits. Up to 32 bits it is the one that `manual_seed` makes."""
    generator = torch.Generator(device="cpu").manual_seed(seed)
    if seed >= _COUNTED_BY_TORCH:
        words = np.random.RandomState([seed % 2**32, seed // 2**32]).get_state(legacy=False)["state"]["key"]
        state = generator.get_state()
        state[_WORDS] = torch.from_numpy(words.astype(np.uint64).view(np.uint8))
        generator.set_state(state)
    return generator


def seeded(seeds: Seeds) -> Generators:
    """Generators on the CPU for the noise of steps: one for a seed, a list for a list, None for None.

    The numbers differ from those of a generator with that seed. Such a generator usually makes the initial sample, and
    the first step would otherwise add the same noise again.
    """
    seeds = checked_seeds("seeds", seeds)
    if seeds is None:
        return None
    if isinstance(seeds, int):
        return _of_steps(seeds)
    return [_of_steps(seed) for seed in seeds]


def _of_steps(seed: int) -> torch.Generator:
    return generator_of(seed ^ _NOISE_OF_STEPS)


def drawn_seeds(generator: Generators, shape: Sequence[int] = ()) -> int | list[int]:
    """One new seed from each generator for a batch of `shape`; an int if there is one generator for the batch.

    Raises:
        TypeError: If `generator` is or holds something else.
        ValueError: If a list's length is not the batch size.
    """
    if generator is None or isinstance(generator, torch.Generator):
        return _drawn_seed(generator)
    generators = checked_generators(generator, shape)
    return _drawn_seed(generators[0]) if len(generators) == 1 else [_drawn_seed(g) for g in generators]


def checked_generators(generator: Any, shape: Sequence[int]) -> list[torch.Generator]:
    """The generators for a batch of `shape`: one, or one for each sample.

    Raises:
        TypeError: If `generator` is or holds something else.
        ValueError: If a list's length is not the batch size.
    """
    generators = listed(generator)
    check_count(generators, shape)
    return generators


def listed(generator: Any) -> list[torch.Generator]:
    """One generator, or a list of them, as a list; TypeError for anything else."""
    if isinstance(generator, torch.Generator):
        return [generator]
    if not isinstance(generator, (list, tuple)) or not all(isinstance(g, torch.Generator) for g in generator):
        raise TypeError(f"generator must be a torch.Generator or a list of them, got {_check.shown(generator)}")
    return list(generator)


def check_count(generators: list[torch.Generator], shape: Sequence[int]) -> None:
    """ValueError unless there is one generator, or one for each sample."""
    if len(generators) != 1 and tuple(shape[:1]) != (len(generators),):
        raise ValueError(
            f"generator must be one generator or a list of one a sample, got {len(generators)} generators or seeds "
            f"for a sample of shape {tuple(shape)}"
        )


def _drawn_seed(generator: torch.Generator | None) -> int:
    device = "cpu" if generator is None else generator.device
    return int(torch.randint(2**63 - 1, (), generator=generator, device=device))
