"""Models that come with the package, and the pipeline that samples from them."""

from kdpm2.zoo.digits import NO_LABEL, digits
from kdpm2.zoo.pixels import PixelPipeline

__all__ = ["NO_LABEL", "PixelPipeline", "digits"]
