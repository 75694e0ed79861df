"""A stage as torch operations, its coefficients Python floats: as few passes over memory as torch has for it.

Terms with coefficient 0 are not read, a first term with coefficient 1 is not copied, and what follows the first new
tensor is added to it in place. float16 and bfloat16 are computed in float32 and rounded once, float64 in float64.
No argument is written to but the one that is given `into`, and no other shares memory with a result.
"""

import torch

from kdpm2.table import Row, StageTable


def input_scales(table: StageTable, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    """What samples of this dtype are multiplied by to be the network's input: a tensor of shape () for each stage.

    They are on the CPU, for samples on any device. torch multiplies by them in half the time that it needs for Python's
    numbers. Half precision is multiplied in float32 and rounded once. If the sample has no dimensions, the product is a
    float32 tensor.
    """
    with torch.inference_mode(False):  # kept for later runs, of which one may need gradients
        return torch.from_numpy(table.rows[:, 0]).to(_working_dtype(dtype)).unbind()


def apply(
    row: Row,
    sample: torch.Tensor,
    model_output: torch.Tensor,
    anchor: torch.Tensor | None = None,
    noise: torch.Tensor | None = None,
    into: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The sample after the stage, and the network's estimate of the clean sample.

    Args:
        row: The stage's coefficients.
        sample: Any shape: what the stage reads, before scaling.
        model_output: Same shape: the network's output.
        anchor: Same shape: the sample at the start of the step; needed if `row.anchor` is not 0.
        noise: Same shape: a standard normal draw; needed if `row.noise` is not 0.
        into: `noise`, if nobody needs it any more: a float32 sample is made in its memory.

    Returns:
        Two tensors with the shape, dtype and device of `sample`, new but for `into`.
    """
    dtype = sample.dtype
    if dtype is torch.float32 and model_output.dtype is dtype and (noise is None or noise.dtype is dtype):
        if into is not None and not _may_write(sample, model_output, anchor):
            into = None
        advanced = _advanced(row, sample, model_output, anchor, noise, into)
        return advanced, _sum(row.denoised_x, sample, row.denoised_model, model_output)
    return advance(row, sample, model_output, anchor, noise, into), denoised(row, sample, model_output)


def denoised(row: Row, sample: torch.Tensor, model_output: torch.Tensor) -> torch.Tensor:
    """The network's estimate of the clean sample alone, a new tensor."""
    dtype = sample.dtype
    if dtype is torch.float32 and model_output.dtype is torch.float32:
        return _sum(row.denoised_x, sample, row.denoised_model, model_output)
    return _rounded_sum(row.denoised_x, sample, row.denoised_model, model_output)


def advance(
    row: Row,
    sample: torch.Tensor,
    model_output: torch.Tensor,
    anchor: torch.Tensor | None = None,
    noise: torch.Tensor | None = None,
    into: torch.Tensor | None = None,
) -> torch.Tensor:
    """The sample after the stage alone, from the same arguments as `apply`.

    `into` may also be the anchor, the sample if there is no anchor, or memory of its own.
    """
    dtype = sample.dtype
    if dtype is torch.float32 and model_output.dtype is torch.float32 and (noise is None or noise.dtype is dtype):
        if into is not None and not (into.dtype is dtype and _may_write(sample, model_output, anchor)):
            into = None
        return _advanced(row, sample, model_output, anchor, noise, into)
    if noise is None and (anchor is None or row.x == 0):
        kept, factor = (sample, row.x) if anchor is None else (anchor, row.anchor)
        return _rounded_sum(factor, kept, row.model, model_output)
    lifted = model_output.to(_working_dtype(dtype, model_output.dtype))
    noise = None if noise is None else noise.to(lifted.dtype)
    return _advanced(row, sample, lifted, anchor, noise, None).to(dtype)


def noised(
    sample: torch.Tensor, noise: torch.Tensor, sigma: torch.Tensor, alpha: torch.Tensor | None = None
) -> torch.Tensor:
    """A noisy sample, alpha · sample + sigma · noise: a new tensor with the dtype and device of `sample`.

    The shapes broadcast; `sigma` and `alpha` (1 if None) may be float64 and on the CPU.
    """
    working = _working_dtype(sample.dtype, noise.dtype)
    clean = sample.to(working)
    if alpha is not None:
        clean = clean * alpha.to(working).to(sample.device)
    return torch.addcmul(clean, noise.to(working), sigma.to(working).to(sample.device)).to(sample.dtype)


def begun(table: StageTable, sample: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """The sample that the first stage reads: raised by the noise that is added before the first step."""
    scale, sigma = torch.tensor([table.initial_scale, table.initial_noise], dtype=torch.float64, device="cpu")
    return noised(sample, noise, sigma, None if table.initial_scale == 1 else scale)


def _advanced(
    row: Row,
    sample: torch.Tensor,
    model_output: torch.Tensor,
    anchor: torch.Tensor | None,
    noise: torch.Tensor | None,
    into: torch.Tensor | None,
) -> torch.Tensor:
    """The sum of the terms, in the dtype of `model_output` and `noise` where that is the wider one."""
    kept, factor, x = (sample, row.x, 0.0) if anchor is None else (anchor, row.anchor, row.x)
    if noise is None:
        total = _sum(factor, kept, row.model, model_output, into)
    else:  # what may stand in the memory that is written to is read first
        total = _sum(factor, kept, row.noise, noise, into).add_(model_output, alpha=row.model)
    return total.add_(sample, alpha=x) if x else total


def _may_write(sample: torch.Tensor, model_output: torch.Tensor, anchor: torch.Tensor | None) -> bool:
    """Whether results can be made in given memory: they cannot where torch records how they came about."""
    return not torch.is_grad_enabled() or not (
        sample.requires_grad or model_output.requires_grad or (anchor is not None and anchor.requires_grad)
    )


def _working_dtype(*dtypes: torch.dtype) -> torch.dtype:
    return torch.float64 if torch.float64 in dtypes else torch.float32


def _sum(a: float, x: torch.Tensor, b: float, y: torch.Tensor, into: torch.Tensor | None = None) -> torch.Tensor:
    """The sum a · x + b · y, in a new tensor or in the memory of `into`, which may be that of `x` or `y`."""
    if a == 1:
        return torch.add(x, y, alpha=b, out=into)
    if a == 0:
        return torch.mul(y, b, out=into)
    if into is x:
        return x.mul_(a).add_(y, alpha=b)
    return torch.mul(y, b, out=into).add_(x, alpha=a)


def _rounded_sum(a: float, x: torch.Tensor, b: float, y: torch.Tensor) -> torch.Tensor:
    """The sum a · x + b · y in the dtype of `x`, rounded once: a new tensor."""
    if x.dtype is y.dtype and x.is_cpu and x.dtype.itemsize == 2:
        if a == 1:  # unlike an addition, torch makes this in float32
            return torch.addcmul(x, y, torch.ones((), dtype=x.dtype, device=x.device), value=b)
        if a == 0:
            return torch.mul(y, b)
    return _sum(a, x, b, y.to(_working_dtype(x.dtype, y.dtype))).to(x.dtype)
