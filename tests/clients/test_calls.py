"""Programs can do with our schedulers what they do with any: every row of the table in `calls.py`, for both classes."""

import copy
from typing import Any

import pytest
import torch

import kdpm2

from .calls import REFUSED, ROWS, Refused, Row, theirs_like

CLASSES = [kdpm2.KDPM2AncestralDiscreteScheduler, kdpm2.KDPM2DiscreteScheduler]


each_class = pytest.mark.parametrize("cls", CLASSES, ids=["ancestral", "discrete"])


@each_class
@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
@torch.no_grad()
def test_the_right_thing_comes_of_it(cls: Any, row: Row) -> None:
    row.check(cls)


@each_class
@pytest.mark.parametrize("row", REFUSED.values(), ids=REFUSED)
def test_refused_as_diffusers_refuses_it(cls: Any, row: Refused) -> None:
    for scheduler in (theirs_like(cls), cls()):
        before = copy.deepcopy(scheduler)
        with pytest.raises(row.error):
            row.attempt(scheduler)
        assert scheduler.config == before.config
