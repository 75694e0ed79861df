"""One row applied to tensors: the only arithmetic of a stage that costs time.

`eager` makes it of torch operations, with Python's floats for coefficients, or hands it to the one kernel of `fused` on
a GPU that Triton serves. `functional` makes it of the same operations for every stage, with the table on the device,
for compilers and for samples that stand at different stages.
"""

from kdpm2.update.eager import advance, apply, denoised, input_scales, kernel_serves, noised
from kdpm2.update.functional import COLUMNS, DeviceTable, at_stage, network_input, on_device

__all__ = [
    "COLUMNS",
    "DeviceTable",
    "advance",
    "apply",
    "at_stage",
    "denoised",
    "input_scales",
    "kernel_serves",
    "network_input",
    "noised",
    "on_device",
]
