"""A stage in one pass over memory, on a GPU: what `kdpm2.update` does, by one Triton kernel.

The kernel reads each tensor once and writes each result once,

    after    = x · sample + model · m + anchor · anchor + noise · noise,
    denoised = denoised_x · sample + denoised_model · m,

with m the model's output, computed in float32 and rounded once. The coefficients are those of a `kdpm2.table.Row`, or
each sample has a row of its own on the device, so that samples at different stages are one batch. The noise is a
tensor, or that of `kdpm2.philox`, which then is never in memory.

A tensor whose coefficient is 0 is not read. A sample's results do not depend on its neighbours, bit for bit.

Nothing here waits for the device, and Triton is imported when a tensor first comes that it could serve. Nothing is
checked: `kdpm2.update` calls this with tensors that are `available` together.

References:
    | Triton (Tillet et al., 2019): https://doi.org/10.1145/3315508.3329973, https://triton-lang.org
"""

import os
from functools import cache
from typing import Any

import torch

from kdpm2._check_tensor import is_dense
from kdpm2.philox import Draw, Q
from kdpm2.table import Row

DTYPES = frozenset({torch.float16, torch.bfloat16, torch.float32})

_NOT_USED = Row(0, 0, 0, 0, 0, 0, 0)
_BLOCK, _SMALLEST_BLOCK = 512, 32
_ELEMENTS_A_WARP = 128  # 4 a thread: 16 bytes of float32


@cache
def _kernel() -> Any:
    """The module with the kernel; None without Triton, or one that is too old."""
    try:
        from kdpm2.update import _kernel as kernel
    except ImportError:
        return None
    return kernel


def available(*tensors: torch.Tensor) -> bool:
    """Whether the kernel can serve these tensors, the sample first, together.

    It can if Triton is there, and they have one shape and are contiguous, not empty, on one CUDA device, of float16,
    bfloat16 or float32 each, and no gradient is asked for. In Triton's interpreter, which TRITON_INTERPRET=1 asks for,
    the device is the CPU. What `torch.compile` compiles it fuses by itself.
    """
    if torch.compiler.is_compiling():
        return False
    like = tensors[0]
    if not like.is_cuda and "TRITON_INTERPRET" not in os.environ:
        return False
    kernel = _kernel()
    if kernel is None or like.device.type != kernel.DEVICE:
        return False
    return like.numel() > 0 and all(_fits(tensor, like) for tensor in tensors)


def apply(
    row: Row,
    sample: torch.Tensor,
    model_output: torch.Tensor,
    anchor: torch.Tensor | None = None,
    noise: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The sample after the stage, and the network's estimate of the clean sample, as `kdpm2.update.apply`.

    Returns:
        Two new tensors with the shape, dtype and device of `sample`.
    """
    after, clean = torch.empty_like(sample), torch.empty_like(sample)
    _launch(after, clean, sample, model_output, anchor, noise, row)
    return after, clean


def advance(
    row: Row,
    sample: torch.Tensor,
    model_output: torch.Tensor,
    anchor: torch.Tensor | None = None,
    noise: torch.Tensor | Draw | None = None,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """The sample after the stage alone, from the same arguments as `apply`, or with noise that the kernel makes.

    It is written to `out` if that is there: a tensor that is `available` with the others, any of them or another.
    """
    after = torch.empty_like(sample) if out is None else out
    # A seed is a sample's; without one, all of them are one long sample.
    samples = len(sample) if isinstance(noise, Draw) else 1
    _launch(after, None, sample, model_output, anchor, noise, row, samples=samples)
    return after


def each(
    rows: torch.Tensor,
    sample: torch.Tensor,
    model_output: torch.Tensor,
    previous: torch.Tensor,
    noise: torch.Tensor | Draw | None = None,
) -> torch.Tensor:
    """The samples after a stage of which each has a row of its own, from the arguments of `kdpm2.update.each`."""
    after, samples = torch.empty_like(sample), len(sample)
    rows = rows.float().contiguous()
    _launch(after, None, sample, model_output, previous, noise, rows=rows, samples=samples)
    return after


def _launch(
    after: torch.Tensor,
    clean: torch.Tensor | None,
    sample: torch.Tensor,
    model_output: torch.Tensor,
    anchor: torch.Tensor | None,
    noise: torch.Tensor | Draw | None,
    row: Row = _NOT_USED,
    rows: torch.Tensor | None = None,
    samples: int = 1,
) -> None:
    """Run the kernel over `samples` samples: one for the whole batch, where all do the same."""
    if not sample.numel():
        return
    kernel = _kernel()
    elements = sample.numel() // samples
    lanes = 4 if elements > Q else 1
    block = min(_BLOCK, max(_SMALLEST_BLOCK, 1 << (elements - 1).bit_length()))
    groups, left = divmod(elements, lanes * Q)
    programs = groups * (Q // block) - -min(left, Q) // block
    seeds, number = noise if isinstance(noise, Draw) else (None, None)
    results = [after, clean]
    # The interpreter cuts off what has no room in bfloat16, where a GPU rounds.
    written = [_in_float32(result) for result in results] if kernel.DEVICE == "cpu" else results
    with torch.cuda.device_of(sample):
        kernel.stage[(samples * programs,)](
            *written,
            sample,
            model_output,
            anchor,
            None if isinstance(noise, Draw) else noise,
            seeds,
            number,
            rows,
            float(row.x),
            float(row.model),
            float(row.anchor),
            float(row.noise),
            float(row.denoised_x),
            float(row.denoised_model),
            elements,
            programs,
            DRAW_EACH=0 if number is None else number.ndim,
            LANES=lanes,
            BLOCK=block,
            num_warps=max(1, block // _ELEMENTS_A_WARP),
            enable_fp_fusion=False,  # the kernel says itself where to round once
        )
    for result, computed in zip(results, written, strict=True):
        if result is not None and computed is not None and computed is not result:
            result.copy_(computed)


def _in_float32(result: torch.Tensor | None) -> torch.Tensor | None:
    """A float32 tensor to be written instead of a bfloat16 one, any other as it is."""
    if result is None or result.dtype is not torch.bfloat16:
        return result
    return torch.empty_like(result, dtype=torch.float32)


def _fits(tensor: torch.Tensor, like: torch.Tensor) -> bool:
    return (
        type(tensor) in (torch.Tensor, torch.nn.Parameter)
        and is_dense(tensor)
        and tensor.dtype in DTYPES
        and tensor.shape == like.shape
        and tensor.device == like.device
        and tensor.is_contiguous()
        and not tensor.is_neg()
        and not (tensor.requires_grad and torch.is_grad_enabled())
    )
