"""Models that come with the package: the digits, the emoji and their pipeline, and denoisers known in closed form."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kdpm2.zoo.closed_form import GaussianMixture, gaussian
    from kdpm2.zoo.handwriting import NO_LABEL, digits
    from kdpm2.zoo.pictographs import KINDS, emoji
    from kdpm2.zoo.pixels import PixelPipeline

__all__ = ["KINDS", "NO_LABEL", "GaussianMixture", "PixelPipeline", "digits", "emoji", "gaussian"]

# The denoisers do without diffusers, which the pipeline is made of.
_HOMES = {
    "GaussianMixture": "closed_form",
    "gaussian": "closed_form",
    "KINDS": "pictographs",
    "emoji": "pictographs",
    "NO_LABEL": "handwriting",
    "digits": "handwriting",
    "PixelPipeline": "pixels",
}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        if _HOMES[name] != "closed_form":
            import_module("kdpm2._progress")  # before diffusers
        return getattr(import_module(f"kdpm2.zoo.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'kdpm2.zoo' has no attribute {name!r}")
