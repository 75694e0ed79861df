r"""One row applied to tensors: the only arithmetic of a stage that costs time.

.. math:: \mathrm{output} = a\,x + b\,m + c\,\mathrm{anchor} + e\,\mathrm{noise}

`apply` and `advance` take one row for the whole batch. `each` takes a row for each sample. They use one kernel on a GPU
if Triton is there, and torch operations otherwise. `at_stage` is for compilers. It uses torch operations only, and a
tensor chooses the row.
"""

from kdpm2.update._eager import begun, denoised, input_scales, noised
from kdpm2.update._indexed import (
    COLUMNS,
    DeviceTable,
    at_stage,
    denoised_by,
    network_input,
    on_device,
    renoised_at,
    renoised_by,
)
from kdpm2.update._renoised import renoised
from kdpm2.update.ways import advance, apply, each

__all__ = [
    "COLUMNS",
    "DeviceTable",
    "advance",
    "apply",
    "at_stage",
    "begun",
    "denoised",
    "denoised_by",
    "each",
    "input_scales",
    "network_input",
    "noised",
    "on_device",
    "renoised",
    "renoised_at",
    "renoised_by",
]
