"""One row applied to tensors: the only arithmetic of a stage that costs time.

A stage is the linear combination that `kdpm2.table` worked out, written with as few passes over memory as torch has:
terms with coefficient 0 are not read, a term with coefficient 1 starts the sum, and the others are added in place to
the new tensor. float16 and bfloat16 are computed in float32 and rounded once, float64 in float64. No argument is
written to, and no result shares memory with one.
"""

import torch

from kdpm2.table import Row


def scaled(row: Row, sample: torch.Tensor) -> torch.Tensor:
    """The network's input: `sample` in the units the model was trained in, same shape, dtype and device."""
    return _combination(sample.dtype, (row.scale, sample))


def advanced(
    row: Row,
    sample: torch.Tensor,
    model_output: torch.Tensor,
    anchor: torch.Tensor | None = None,
    noise: torch.Tensor | None = None,
) -> torch.Tensor:
    """The sample after the stage.

    Args:
        row: The stage's coefficients.
        sample: Any shape: what the stage reads, before scaling.
        model_output: Same shape: the network's output.
        anchor: Same shape: the sample at the start of the step, for a midpoint that has one.
        noise: Same shape: a standard normal draw, for a stage that adds noise.

    Returns:
        A new tensor with the shape, dtype and device of `sample`.
    """
    terms = [(row.x, sample), (row.model, model_output)]
    if anchor is not None:
        terms.append((row.anchor, anchor))
    if noise is not None:
        terms.append((row.noise, noise))
    return _combination(sample.dtype, *terms)


def denoised(row: Row, sample: torch.Tensor, model_output: torch.Tensor) -> torch.Tensor:
    """The network's estimate of the clean sample, as a new tensor with the shape, dtype and device of `sample`."""
    return _combination(sample.dtype, (row.denoised_x, sample), (row.denoised_model, model_output))


def noised(sample: torch.Tensor, noise: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """sample + sigma · noise, as a new tensor with the dtype of `sample`; the three shapes broadcast."""
    working = _working_dtype(sample, noise)
    return torch.addcmul(sample.to(working), noise.to(working), sigma.to(working)).to(sample.dtype)


def _working_dtype(*tensors: torch.Tensor) -> torch.dtype:
    return torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32


def _combination(dtype: torch.dtype, *terms: tuple[float, torch.Tensor]) -> torch.Tensor:
    present = [term for term in terms if term[0] != 0]
    working = _working_dtype(*(tensor for _, tensor in present))
    present.sort(key=lambda term: term[0] != 1)
    (coefficient, first), *others = present
    total = first.to(working)
    if coefficient != 1:
        total = total * coefficient
    elif others:
        (coefficient, second), *others = others
        total = torch.add(total, second.to(working), alpha=coefficient)
    elif total is first:
        total = first.clone()
    for coefficient, tensor in others:
        total.add_(tensor.to(working), alpha=coefficient)
    return total.to(dtype)
