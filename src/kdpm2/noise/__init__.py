"""Where the random part of a step comes from: kinds of noise behind one protocol, `draw(step, like)`.

The same seed and kind give the same noise wherever they are asked for: by a scheduler, `kdpm2.sample` or
`kdpm2.batching`. A new kind is a class in a file, and an entry in `NOISES` of `kdpm2.noise.kinds`.
"""

from kdpm2.noise.brownian import Brownian, OnPath
from kdpm2.noise.counted import Philox
from kdpm2.noise.gaussian import LONGEST_SIDE, Gaussian, gaussian, gaussian_like
from kdpm2.noise.kinds import NOISES, kind_named, name_of
from kdpm2.noise.seeds import (
    LARGEST_SEED,
    Generators,
    Seeds,
    checked_generators,
    checked_seeds,
    drawn_seeds,
    generator_of,
    seeded,
)
from kdpm2.noise.shaped import Coloured, Offset, Pyramid
from kdpm2.noise.source import Noise, Source

__all__ = [
    "LARGEST_SEED",
    "LONGEST_SIDE",
    "NOISES",
    "Brownian",
    "Coloured",
    "Gaussian",
    "Generators",
    "Noise",
    "Offset",
    "OnPath",
    "Philox",
    "Pyramid",
    "Seeds",
    "Source",
    "checked_generators",
    "checked_seeds",
    "drawn_seeds",
    "gaussian",
    "gaussian_like",
    "generator_of",
    "kind_named",
    "name_of",
    "seeded",
]
