"""A stage in one pass over memory, on a GPU: what `kdpm2.update` does, by one Triton kernel.

The kernel reads each tensor once and writes each result once,

    after      = x · sample + model · m + anchor · anchor + noise · noise,
    next input = next_scale · after,
    denoised   = denoised_x · sample + denoised_model · m,

with m the model's output, or uncond + guidance · (model output - uncond), computed in float32 and rounded once. The
coefficients are those of a `kdpm2.table.Row`, or each sample takes its own from a table on the device, so that samples
at different stages are one batch. The noise is a tensor, or that of `kdpm2.philox`, which then is never in memory.

A tensor whose coefficient is 0 is not read. A sample's results do not depend on its neighbours, bit for bit.

Nothing here waits for the device, and Triton is imported when a tensor first comes that it could serve.

References:
    | Triton (Tillet et al., 2019): https://doi.org/10.1145/3315508.3329973, https://triton-lang.org
    | Classifier-free diffusion guidance (Ho and Salimans, 2022): https://arxiv.org/abs/2207.12598
"""

import os
from functools import cache
from typing import Any

import torch

from kdpm2 import _check
from kdpm2._check_tensor import is_dense
from kdpm2.philox import Draw, Q, check_index
from kdpm2.table import Row
from kdpm2.update._indexed import COLUMNS as COLUMNS

DTYPES = frozenset({torch.float16, torch.bfloat16, torch.float32})

_NOT_USED = Row(0, 0, 0, 0, 0, 0, 0)
_BLOCK, _SMALLEST_BLOCK = 512, 32
_ELEMENTS_A_WARP = 128  # 4 a thread: 16 bytes of float32
_MOST_ELEMENTS = 2**32 - 1


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

    Nothing is checked: it is for tensors that are `available` together.

    Returns:
        Two new tensors with the shape, dtype and device of `sample`.
    """
    after, clean = torch.empty_like(sample), torch.empty_like(sample)
    _launch(after, None, clean, sample, model_output, None, anchor, noise, row=row)
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
    if isinstance(noise, Draw):
        seeds, number = noise
        each = len(sample)
        _launch(
            after, None, None, sample, model_output, None, anchor, None, row, seeds=seeds, draw=number, samples=each
        )
    else:
        _launch(after, None, None, sample, model_output, None, anchor, noise, row)
    return after


def stage(
    rows: torch.Tensor,
    stage: torch.Tensor,
    sample: torch.Tensor,
    model_output: torch.Tensor,
    anchor: torch.Tensor | None,
    *,
    uncond: torch.Tensor | None = None,
    guidance: float | torch.Tensor = 1.0,
    noise: torch.Tensor | None = None,
    seeds: torch.Tensor | None = None,
    draw: torch.Tensor | None = None,
    want_input: bool = False,
    want_denoised: bool = False,
    out: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
    """Every sample after the stage that it is at.

    Args:
        rows: Shape (S, 8), float32, contiguous: the coefficients of each stage, in the order of `COLUMNS`.
        stage: Shape () or (B,), int64: which row each sample takes, from 0 to S-1. This is not looked at, and elsewhere
            is memory that is not the table's.
        sample: Shape (B, ...), contiguous, float16, bfloat16 or float32, as every tensor below whose shape is not said:
            what the stage reads, before scaling.
        model_output: The network's output; with `uncond`, the one under the condition.
        anchor: The sample at the start of the step; None if no sample needs it. What it holds for those that need none
            does not matter.
        uncond: The network's output without the condition.
        guidance: How far the output goes from `uncond` to `model_output` and beyond; a number, or shape (B,), float32.
        noise: A standard normal draw, instead of `seeds`.
        seeds: Shape (B,), int64: noise is `kdpm2.philox.normal(seeds, draw, sample.shape)`.
        draw: Shape () or (B,), int64: the number of each sample's draw.
        want_input: Whether the network's input of the stage after it is wanted.
        want_denoised: Whether the network's estimate of the clean sample is wanted.
        out: Where the sample after the stage is written; one of the others, such as `sample` or `anchor`, or none of
            their memory.

    Returns:
        The sample after the stage, the network's input of the next one, and the estimate of the clean sample, the
        latter two None if not wanted. All have the dtype of `sample`, the first that of `out`.

    Raises:
        TypeError: If an argument has the wrong type, or a tensor the wrong dtype.
        ValueError: If a tensor has the wrong shape or device, is not contiguous or needs a gradient, or if arguments
            contradict each other.
        RuntimeError: If Triton 3.3 or later is not there.
    """
    _check_served(sample)
    _check_fits("sample", sample, sample)
    _check_fits("model_output", model_output, sample)
    for name, tensor in ("anchor", anchor), ("uncond", uncond), ("noise", noise), ("out", out):
        if tensor is not None:
            _check_fits(name, tensor, sample)
    samples = sample.shape[0] if sample.ndim else 1
    _check_rows(rows, sample)
    _check_index("stage", stage, samples, sample, one_for_all=True)
    if isinstance(guidance, torch.Tensor):
        _check_guidance(guidance, samples, sample)
    else:
        guidance = _check.finite("guidance", guidance)
    if (seeds is None) != (draw is None) or (seeds is not None and noise is not None):
        raise ValueError("seeds must be given together with draw, and not with noise, got something else")
    if seeds is not None:
        _check_index("seeds", seeds, samples, sample)
        _check_index("draw", draw, samples, sample, one_for_all=True)
        if sample.numel() > _MOST_ELEMENTS * samples:
            raise ValueError(f"sample must have fewer than 2^32 elements each, got shape {tuple(sample.shape)}")
    after = torch.empty_like(sample) if out is None else out
    input_after = torch.empty_like(sample) if want_input else None
    clean = torch.empty_like(sample) if want_denoised else None
    _launch(
        after,
        input_after,
        clean,
        sample,
        model_output,
        uncond,
        anchor,
        noise,
        rows=rows,
        stages=stage,
        guidance=guidance,
        seeds=seeds,
        draw=draw,
        samples=1 if seeds is None and not stage.ndim and not isinstance(guidance, torch.Tensor) else samples,
    )
    return after, input_after, clean


def _launch(
    after: torch.Tensor,
    input_after: torch.Tensor | None,
    clean: torch.Tensor | None,
    sample: torch.Tensor,
    model_output: torch.Tensor,
    uncond: torch.Tensor | None,
    anchor: torch.Tensor | None,
    noise: torch.Tensor | None,
    row: Row = _NOT_USED,
    rows: torch.Tensor | None = None,
    stages: torch.Tensor | None = None,
    guidance: float | torch.Tensor = 1.0,
    seeds: torch.Tensor | None = None,
    draw: torch.Tensor | None = None,
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
    results = [after, input_after, clean]
    # The interpreter cuts off what has no room in bfloat16, where a GPU rounds.
    written = [_in_float32(result) for result in results] if kernel.DEVICE == "cpu" else results
    with torch.cuda.device_of(sample):
        kernel.stage[(samples * programs,)](
            *written,
            sample,
            model_output,
            uncond,
            anchor,
            noise,
            seeds,
            draw,
            rows,
            stages,
            guidance if isinstance(guidance, torch.Tensor) else None,
            float(row.x),
            float(row.model),
            float(row.anchor),
            float(row.noise),
            float(row.denoised_x),
            float(row.denoised_model),
            1.0 if isinstance(guidance, torch.Tensor) else guidance,
            elements,
            programs,
            DRAW_EACH=0 if draw is None else draw.ndim,
            STAGE_EACH=0 if stages is None else stages.ndim,
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


def _check_served(sample: Any) -> None:
    if not isinstance(sample, torch.Tensor):
        raise TypeError(f"sample must be a tensor, got {_check.shown(sample)}")
    kernel = _kernel()
    if kernel is None:
        raise RuntimeError("a fused stage needs Triton 3.3 or later, which cannot be imported")
    if sample.device.type != kernel.DEVICE:
        raise ValueError(f"sample must be on a device of type {kernel.DEVICE}, got {sample.device}")


def _check_fits(name: str, tensor: Any, like: torch.Tensor) -> None:
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"{name} must be a tensor, got {_check.shown(tensor)}")
    if tensor.dtype not in DTYPES or not is_dense(tensor):
        raise TypeError(f"{name} must be a dense float16, bfloat16 or float32 tensor, got {tensor.dtype}")
    if not _fits(tensor, like):
        raise ValueError(
            f"{name} must be a contiguous tensor of shape {tuple(like.shape)} on {like.device} that needs no gradient, "
            f"got shape {tuple(tensor.shape)}, strides {tensor.stride()}, on {tensor.device}, "
            f"requires_grad={tensor.requires_grad}"
        )


def _check_rows(rows: Any, sample: torch.Tensor) -> None:
    if not isinstance(rows, torch.Tensor) or rows.dtype is not torch.float32:
        got = rows.dtype if isinstance(rows, torch.Tensor) else _check.shown(rows)
        raise TypeError(f"rows must be a float32 tensor, got {got}")
    if rows.ndim != 2 or rows.shape[1] != len(COLUMNS) or not rows.is_contiguous() or rows.device != sample.device:
        raise ValueError(
            f"rows must be contiguous, of shape (S, {len(COLUMNS)}) on {sample.device}, "
            f"got shape {tuple(rows.shape)}, strides {rows.stride()}, on {rows.device}"
        )


def _check_guidance(guidance: torch.Tensor, samples: int, sample: torch.Tensor) -> None:
    if guidance.dtype is not torch.float32:
        raise TypeError(f"guidance must be a number or a float32 tensor, got {guidance.dtype}")
    if tuple(guidance.shape) != (samples,) or guidance.device != sample.device or not guidance.is_contiguous():
        raise ValueError(
            f"guidance must be a number or contiguous, of shape ({samples},) on {sample.device}, "
            f"got shape {tuple(guidance.shape)}, strides {guidance.stride()}, on {guidance.device}"
        )


def _check_index(name: str, index: Any, samples: int, sample: torch.Tensor, one_for_all: bool = False) -> None:
    check_index(name, index, samples, one_for_all)
    if index.device != sample.device or not index.is_contiguous():
        raise ValueError(
            f"{name} must be contiguous on {sample.device}, got strides {index.stride()}, on {index.device}"
        )
