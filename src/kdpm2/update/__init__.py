"""One row applied to tensors: the only arithmetic of a stage that costs time."""

from kdpm2.update.eager import advance as advance
from kdpm2.update.eager import apply as apply
from kdpm2.update.eager import denoised as denoised
from kdpm2.update.eager import input_scales as input_scales
from kdpm2.update.eager import noised as noised
