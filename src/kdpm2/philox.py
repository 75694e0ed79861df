r"""Standard normal noise as a pure function of a seed, the number of the draw and the place in the sample.

Philox 4x32-10 encrypts a counter of four 32-bit words with a key of two such words. Here every sample has its own
stream:

.. math:: \mathrm{key} = (\mathrm{seed} \bmod 2^{32},\ \lfloor \mathrm{seed} / 2^{32} \rfloor),\qquad
    \mathrm{counter} = (\mathrm{block},\ \mathrm{draw},\ 0,\ 0).

There is no state. So a sample's noise does not depend on its neighbours, on earlier draws, on the device or on the
number of threads. A GPU kernel can make it where it is added, and `kdpm2.update` does.

The four words of a block give four uniform numbers, :math:`u_i = 2^{-32} w_i + 2^{-33}` in float32, never 0. By Box and
Muller these give four normal numbers, none of them above 6.77:

.. math:: z_0 = \sqrt{-2\ln u_0}\,\cos 2\pi u_1,\quad z_1 = \sqrt{-2\ln u_0}\,\sin 2\pi u_1,\quad
    z_2 = \sqrt{-2\ln u_2}\,\cos 2\pi u_3,\quad z_3 = \sqrt{-2\ln u_2}\,\sin 2\pi u_3.

Element e of a sample, counted as in C, is normal :math:`\lfloor e/Q \rfloor \bmod 4` of block :math:`\lfloor e/4Q
\rfloor\,Q + e \bmod Q`: the results of neighbouring blocks lie next to one another in memory, Q elements at a time.

The words are the same everywhere, bit for bit. The normals are the same to 1e-5, because devices differ in their
logarithms, sines and cosines.

References:
    | Parallel random numbers: as easy as 1, 2, 3 (Salmon et al., 2011): https://doi.org/10.1145/2063384.2063405
    | Its authors' known answers: https://github.com/DEShawResearch/random123
    | A note on the generation of random normal deviates (Box and Muller, 1958):
      https://doi.org/10.1214/aoms/1177706645
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import torch

from kdpm2 import _check

Q = 1024
"""How many elements next to one another take the same normal of their blocks."""

Word: TypeAlias = torch.Tensor | int

_ROUNDS = 10
_MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
_KEY_STEPS = 0x9E3779B9, 0xBB67AE85
_MASK = 0xFFFFFFFF


def signed(seed: int) -> int:
    """A seed from 0 to 2^64 - 1 as the int64 number with the same 64 bits."""
    return (seed + 2**63) % 2**64 - 2**63


def words(counter: tuple[Word, Word, Word, Word], key: tuple[Word, Word]) -> tuple[torch.Tensor, ...]:
    """Philox 4x32-10: the four words of each counter under its key.

    Args:
        counter: Integers or int64 tensors from 0 to 2^32 - 1 whose shapes broadcast; one at least is a tensor.
        key: The same.

    Returns:
        Four int64 tensors of the common shape, from 0 to 2^32 - 1.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        # A product may have 64 bits, and int64 is undefined beyond 63, where compilers rely on that. With multipliers
        # less 2^32, which are negative, it stays within; its low word is the same, and its high word lacks the counter.
        product0, product2 = (_MULTIPLIERS[0] - 2**32) * c0, (_MULTIPLIERS[1] - 2**32) * c2
        c0, c1, c2, c3 = (
            ((product2 >> 32) + c2) ^ c1 ^ k0,
            product2 & _MASK,
            ((product0 >> 32) + c0) ^ c3 ^ k1,
            product0 & _MASK,
        )
        k0, k1 = (k0 + _KEY_STEPS[0]) & _MASK, (k1 + _KEY_STEPS[1]) & _MASK
    return tuple(torch.broadcast_tensors(*map(torch.as_tensor, (c0, c1, c2, c3))))


def normal(seeds: torch.Tensor, draw: int | torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """Standard normal noise for a batch, where each sample has its own seed.

    Nothing is read back from the device. Under `torch.compile`, a draw that is a tensor is compiled once. Each number
    is compiled anew.

    Args:
        seeds: Shape (B,), int64: the 64 bits of each sample's seed. A seed s from 2^63 on is written as s - 2^64.
        draw: The number of the draw, from 0 to 2^32 - 1. In a run this is the number of the step. An int64 tensor of
            shape () or (B,) is allowed, too: one number for all, or one for each sample. It is not checked, but taken
            modulo 2^32.
        shape: Shape (B, ...) of the noise, with fewer than 2^32 elements a sample.

    Returns:
        A float32 tensor on the device of `seeds`.

    Raises:
        TypeError: If an argument has the wrong type, or a tensor the wrong dtype.
        ValueError: If a shape is wrong, `draw` is out of range or on another device, or a sample too large.
    """
    samples, elements = _checked(seeds, draw, shape)
    seed, draw = seeds[:, None], draw.reshape(-1, 1) & _MASK if isinstance(draw, torch.Tensor) else draw
    # Of the last 4Q elements, maybe fewer, the first Q decide how many blocks they need.
    groups, left = elements // (4 * Q), elements % (4 * Q)
    whole = groups * Q
    # Masked, though never above: TorchInductor makes a range of an index times a number, with a step of 32 bits.
    block = torch.arange(whole + min(left, Q), device=seeds.device) & _MASK
    u0, u1, u2, u3 = (_uniform(word) for word in words((block, draw, 0, 0), (seed & _MASK, (seed >> 32) & _MASK)))
    noise = torch.empty(samples, elements, dtype=torch.float32, device=seeds.device)
    grouped, rest = noise[:, : 4 * whole].unflatten(1, (groups, 4, Q)), noise[:, 4 * whole :]
    for pair, (u, v) in enumerate(((u0, u1), (u2, u3))):
        radius, angle = (-2 * u.log()).sqrt(), 2 * math.pi * v
        for lane, z in enumerate((radius * angle.cos(), radius * angle.sin()), 2 * pair):
            grouped[:, :, lane] = z[:, :whole].unflatten(1, (groups, Q))
            part = rest[:, lane * Q : (lane + 1) * Q]
            part.copy_(z[:, whole : whole + part.shape[1]])
    return noise.reshape(tuple(shape))


class Draw(NamedTuple):
    """Noise that is made where it is needed.

    Attributes:
        seeds: Shape (B,), int64, as `normal` takes them.
        number: Shape () or (B,), int64: the number of the draw.
    """

    seeds: torch.Tensor
    number: torch.Tensor

    def like(self, sample: torch.Tensor) -> torch.Tensor:
        """The noise, with the shape of a sample (B, ...)."""
        return normal(self.seeds, self.number, tuple(sample.shape))


def _uniform(word: torch.Tensor) -> torch.Tensor:
    return word.float() * 2.0**-32 + 2.0**-33


def _checked(seeds: Any, draw: Any, shape: Any) -> tuple[int, int]:
    """How many samples there are, and of how many elements each; TypeError or ValueError as `normal` says."""
    if not isinstance(shape, (tuple, list)) or not shape:
        raise TypeError(f"shape must be a tuple of one integer at least, got {_check.shown(shape)}")
    for length in shape:
        if type(length) is not int or length < 0:
            _check.integer("each of shape", length, 0)
    samples, elements = shape[0], math.prod(shape[1:])
    check_index("seeds", seeds, samples)
    if isinstance(draw, torch.Tensor):
        check_index("draw", draw, samples, one_for_all=True)
        if draw.device != seeds.device:
            raise ValueError(f"draw must be on the device of seeds, {seeds.device}, got {draw.device}")
    elif type(draw) is not int or not 0 <= draw <= _MASK:
        _check.integer("draw", draw, 0, _MASK)
    if elements > _MASK:
        raise ValueError(f"shape must have fewer than 2^32 elements a sample, got {elements}")
    return samples, elements


def check_index(name: str, value: Any, samples: int, one_for_all: bool = False) -> None:
    """`value` is an int64 tensor of shape (samples,), or () if one may do for all; TypeError or ValueError if not."""
    if not isinstance(value, torch.Tensor) or value.dtype is not torch.int64:
        got = value.dtype if isinstance(value, torch.Tensor) else _check.shown(value)
        raise TypeError(f"{name} must be an int64 tensor, got {got}")
    if tuple(value.shape) != (samples,) and not (one_for_all and not value.ndim):
        allowed = f"() or ({samples},)" if one_for_all else f"({samples},)"
        raise ValueError(f"{name} must have shape {allowed}, got {tuple(value.shape)}")
