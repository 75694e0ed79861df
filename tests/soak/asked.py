"""What the soak asks for: requests that a seed says all of, a small network, and each sample made alone."""

import random
import threading
from collections import OrderedDict
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

import kdpm2
from kdpm2.batching import Request
from kdpm2.noise import generator_of

SHAPE = (4, 16)
"""As many numbers as the widest instruction of a CPU takes, or a multiple: else the last of a batch are computed by
others, which round differently, and a sample's bits depend on its place."""
SEEDS = 1000
_KEPT = 2000
TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 2e-2}
"""Of samples whose largest number is 1 or less; in proportion of larger ones, whose last place is."""
POISON = -1.0
"""A label with which the network fails."""


def clean(
    x: torch.Tensor,
    sigma: torch.Tensor,
    label: torch.Tensor | None = None,
    by: torch.Tensor | None = None,
    more: dict[str, torch.Tensor] | None = None,
) -> torch.Tensor:
    """The clean samples that normal data of deviation 1/2 let one expect, bent a little; the mean is a condition."""
    each = (-1, 1, 1)
    working = x.to(torch.promote_types(x.dtype, torch.float32))
    mean = torch.zeros_like(working)
    if label is not None:
        mean = mean + 0.1 * label.to(mean.dtype).reshape(each)
    if by is not None:
        mean = mean + by
    if more is not None:
        mean = mean + more["by"] * more["scale"].reshape(each)
    share = 0.25 / (0.25 + sigma * sigma)
    return (mean + (working - mean) * share.reshape(each) + 0.05 * torch.sin(working)).to(x.dtype)


class Asked(NamedTuple):
    """All of a sample but its priority, its deadline and its key."""

    seed: int
    sigmas: NDArray[np.float64]
    eta: float
    x: torch.Tensor | None
    conditioning: dict[str, Any]

    def request(self, **more: Any) -> Request:
        """The same as a request."""
        return Request(
            **{
                "sigmas": self.sigmas,
                "eta": self.eta,
                "x": self.x,
                "seed": self.seed,
                "conditioning": self.conditioning,
                **more,
            }
        )


def asked(seed: int, steps: int | None = None) -> Asked:
    """What a seed says: steps, eta, whether the start is given, and one of five kinds of conditioning."""
    chance = random.Random(seed)
    steps = chance.randint(1, 8) if steps is None else steps
    generator = torch.Generator().manual_seed(seed)
    levels = np.append(np.geomspace(2.0, 0.1, steps), 0.0)
    eta = chance.choice([0.0, 0.5, 1.0, 1.0])
    by = torch.randn(SHAPE, generator=generator)
    conditioning: dict[str, Any] = chance.choice(
        [
            {},
            {"label": seed % 10},
            {"label": seed % 10 + 0.5},
            {"by": by},
            {"more": {"by": by, "scale": 1 + seed / SEEDS}},
        ]
    )
    x = torch.randn(SHAPE, generator=generator) * 2 if chance.random() < 0.5 else None
    return Asked(seed, levels, eta, x, conditioning)


class Alone:
    """Samples made by `kdpm2.sample`, one at a time; the last ones are kept. From any thread."""

    def __init__(self) -> None:
        self._made: OrderedDict[tuple[int, int, torch.dtype, str], torch.Tensor] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, one: Asked, dtype: torch.dtype, noise: str) -> torch.Tensor:
        """The sample that was asked for."""
        key = (one.seed, len(one.sigmas), dtype, noise)
        with self._lock:
            if key not in self._made:
                self._made[key] = _alone(one, dtype, noise)
                if len(self._made) > _KEPT:  # or the memory that is watched would grow
                    self._made.popitem(last=False)
            return self._made[key]


def _alone(one: Asked, dtype: torch.dtype, noise: str) -> torch.Tensor:
    if one.x is None:
        x = torch.randn((1, *SHAPE), generator=generator_of(one.seed), dtype=dtype).mul(float(one.sigmas[0]))
    else:
        x = one.x[None].to(dtype)
    given = batched(one.conditioning)
    return kdpm2.sample(clean, x, one.sigmas, eta=one.eta, seeds=[one.seed], noise=noise, conditioning=given)[0]


def batched(value: Any) -> Any:
    """Conditioning of one sample as a network takes it."""
    if isinstance(value, dict):
        return {name: batched(each) for name, each in value.items()}
    return value[None] if isinstance(value, torch.Tensor) else torch.tensor([value])
