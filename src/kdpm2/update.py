"""One row applied to tensors: the only arithmetic of a stage that costs time.

A stage is the linear combination that `kdpm2.table` worked out, written with as few passes over memory as torch has:
terms with coefficient 0 are not read, a first term with coefficient 1 is not copied, and what follows the first new
tensor is added to it in place. float16 and bfloat16 are computed in float32 and rounded once, float64 in float64.
No argument is written to, and no result shares memory with one.
"""

import torch

from kdpm2.table import Row, StageTable


class InputScaling:
    """The network's input at every stage of a table: the sample in the units the model was trained in.

    Torch multiplies by a tensor of shape () in two thirds of the time it takes for a Python number, so that the table's
    scales are cut into such tensors when the first of them is needed.
    """

    def __init__(self, table: StageTable) -> None:
        self._table = table
        self._scales: dict[torch.dtype, tuple[torch.Tensor, ...]] = {}

    def __call__(self, stage: int, sample: torch.Tensor) -> torch.Tensor:
        """A new tensor with the shape, dtype and device of `sample`."""
        dtype = sample.dtype
        working = dtype if dtype is torch.float32 else _working_dtype(dtype)
        scales = self._scales.get(working)
        if scales is None:
            with torch.inference_mode(False):  # kept for later runs, of which one may need gradients
                scales = torch.from_numpy(self._table.rows[:, 0]).to(working).unbind()
            self._scales[working] = scales
        if working is dtype:
            return sample.mul(scales[stage])
        return sample.to(working).mul_(scales[stage]).to(dtype)


def apply(
    row: Row,
    sample: torch.Tensor,
    model_output: torch.Tensor,
    anchor: torch.Tensor | None = None,
    noise: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The sample after the stage, and the network's estimate of the clean sample.

    Args:
        row: The stage's coefficients.
        sample: Any shape: what the stage reads, before scaling.
        model_output: Same shape: the network's output.
        anchor: Same shape: the sample at the start of the step; needed if `row.anchor` is not 0.
        noise: Same shape: a standard normal draw; needed if `row.noise` is not 0.

    Returns:
        Two new tensors with the shape, dtype and device of `sample`.
    """
    dtype = sample.dtype
    if dtype is not torch.float32 or model_output.dtype is not torch.float32:
        working = _working_dtype(dtype, model_output.dtype)
        sample, model_output = sample.to(working), model_output.to(working)
        anchor = None if anchor is None else anchor.to(working)
        noise = None if noise is None else noise.to(working)
    advanced = _advanced(row, sample, model_output, anchor, noise)
    clean = _sum(row.denoised_x, sample, row.denoised_model, model_output)
    return (advanced, clean) if dtype is torch.float32 else (advanced.to(dtype), clean.to(dtype))


def denoised(row: Row, sample: torch.Tensor, model_output: torch.Tensor) -> torch.Tensor:
    """The network's estimate of the clean sample alone, a new tensor."""
    working = _working_dtype(sample.dtype, model_output.dtype)
    clean = _sum(row.denoised_x, sample.to(working), row.denoised_model, model_output.to(working))
    return clean.to(sample.dtype)


def advance(
    row: Row,
    sample: torch.Tensor,
    model_output: torch.Tensor,
    anchor: torch.Tensor | None = None,
    noise: torch.Tensor | None = None,
) -> torch.Tensor:
    """The sample after the stage alone, from the same arguments as `apply`."""
    dtype = sample.dtype
    working = _working_dtype(dtype, model_output.dtype)
    anchor = None if anchor is None else anchor.to(working)
    noise = None if noise is None else noise.to(working)
    return _advanced(row, sample.to(working), model_output.to(working), anchor, noise).to(dtype)


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


def _advanced(
    row: Row,
    sample: torch.Tensor,
    model_output: torch.Tensor,
    anchor: torch.Tensor | None,
    noise: torch.Tensor | None,
) -> torch.Tensor:
    if anchor is None:
        advanced = _sum(row.x, sample, row.model, model_output)
    elif row.x == 0:
        advanced = _sum(row.anchor, anchor, row.model, model_output)
    else:
        advanced = _sum(row.anchor, anchor, row.x, sample).add_(model_output, alpha=row.model)
    if noise is not None:
        advanced.add_(noise, alpha=row.noise)
    return advanced


def _working_dtype(*dtypes: torch.dtype) -> torch.dtype:
    return torch.float64 if torch.float64 in dtypes else torch.float32


def _sum(a: float, x: torch.Tensor, b: float, y: torch.Tensor) -> torch.Tensor:
    """The new tensor a · x + b · y."""
    if a == 1:
        return x.add(y, alpha=b)
    if a == 0:
        return y.mul(b)
    return x.mul(a).add_(y, alpha=b)
