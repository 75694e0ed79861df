"""Rows to draw, what is in an output folder, and how far two of them are apart."""

import io
import random
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kdpm2.generate.parts import FORMATS, Kept
from kdpm2.generate.plan import PICTURES, opened


def rows(count: int, seed: int = 0, steps: tuple[int, int] = (4, 40)) -> list[dict[str, Any]]:
    """Rows of the built-in model, of mixed steps and eta."""
    chance = random.Random(seed)
    return [
        {
            "id": f"picture {i}",
            "seed": chance.randrange(2**40),
            "label": chance.choice([*range(10), "any"]),
            "steps": chance.randint(*steps),
            "eta": round(chance.random(), 3),
        }
        for i in range(count)
    ]


def pictures(output: Path) -> list[Kept]:
    """Every picture in an output folder, those that are there twice too."""
    plan = opened(output)
    assert plan is not None
    kept = FORMATS[plan.settings.format](output / PICTURES, plan.columns)
    return [picture for part in range(plan.parts) if kept.is_there(part) for picture in kept.read(part)]


def levels(picture: Kept) -> NDArray[np.float64]:
    """A picture as numbers from 0 to 1."""
    return np.asarray(Image.open(io.BytesIO(picture.png)), dtype=np.float64) / 255


class Difference:
    """Two sets of pictures.

    Attributes:
        missing: Ids of the first that are not in the second, and of the second that are not in the first.
        twice: Ids that are in one of them more than once.
        largest: How far two pictures of one id are apart, from 0 to 1.
        other: How many pictures of one id are not the same bytes.
    """

    def __init__(self, first: list[Kept], second: list[Kept]) -> None:
        a, b = ({kept.made_of["id"]: kept for kept in each} for each in (first, second))
        self.missing = sorted(a.keys() ^ b.keys())
        self.twice = len(first) - len(a) + len(second) - len(b)
        both = [(a[id], b[id]) for id in a.keys() & b.keys()]
        self.other = sum(one.png != two.png for one, two in both)
        self.largest = max((float(np.abs(levels(one) - levels(two)).max()) for one, two in both), default=0.0)
        assert all(one.made_of == two.made_of for one, two in both)

    def __str__(self) -> str:
        return (
            f"missing {len(self.missing)}, twice {self.twice}, other bytes {self.other}, "
            f"largest difference {self.largest:g}"
        )

    @property
    def none(self) -> bool:
        """Whether they are the same."""
        return not (self.missing or self.twice or self.other)
