r"""One row applied to tensors: the only arithmetic of a stage that costs time.

.. math:: \mathrm{output} = a\,x + b\,m + c\,\mathrm{anchor} + e\,\mathrm{noise}

`apply` and `advance` take a row of numbers for the whole batch, `each` takes a row for each sample. They choose the way
themselves: one kernel on a GPU that Triton serves, and torch operations elsewhere. `at_stage` is those operations
alone, with the row chosen by a tensor, for compilers.
"""

from kdpm2.update._eager import denoised, input_scales, noised
from kdpm2.update._indexed import COLUMNS, DeviceTable, at_stage, network_input, on_device
from kdpm2.update.ways import advance, apply, each

__all__ = [
    "COLUMNS",
    "DeviceTable",
    "advance",
    "apply",
    "at_stage",
    "denoised",
    "each",
    "input_scales",
    "network_input",
    "noised",
    "on_device",
]
