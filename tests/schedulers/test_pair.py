"""The pair that a stage returns is a tuple of two, whenever its second is worked out."""

import copy
import pickle
from typing import Any

import pytest
import torch

import kdpm2

CLASSES = [kdpm2.KDPM2AncestralDiscreteScheduler, kdpm2.KDPM2DiscreteScheduler]
DTYPES = [torch.float16, torch.float32, torch.float64]


def both(cls: Any, dtype: torch.dtype = torch.float32) -> tuple[Any, Any, torch.Tensor, torch.Tensor]:
    """The pair and the output object of the same stage, and what they were made of."""
    x, output = torch.randn(2, 3, dtype=dtype), torch.randn(2, 3, dtype=dtype)
    scheduler = cls(prediction_type="v_prediction")
    scheduler.set_timesteps(5)
    result = copy.deepcopy(scheduler).step(output, scheduler.timesteps[0], x)
    return scheduler.step(output, scheduler.timesteps[0], x, return_dict=False), result, x, output


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cls", CLASSES)
def test_it_holds_what_the_output_object_holds(cls: Any, dtype: torch.dtype) -> None:
    pair, result, *_ = both(cls, dtype)
    first, second = pair
    assert torch.equal(first, result.prev_sample)
    assert torch.equal(second, result.pred_original_sample)
    assert second.dtype == dtype


@pytest.mark.parametrize("cls", CLASSES)
def test_it_is_a_tuple(cls: Any) -> None:
    pair: Any
    pair, result, *_ = both(cls)
    first, second = result.prev_sample, result.pred_original_sample
    assert isinstance(pair, tuple)
    assert len(pair) == 2
    assert pair[0] is pair[-2]
    assert torch.equal(pair[1], second)
    assert pair[1] is pair[-1]
    assert pair[:] == (pair[0], pair[1])
    assert pair == tuple(pair) == (*pair,)
    assert hash(pair) == hash(tuple(pair))
    assert repr(pair) == repr((first, second))
    assert len(pair + (0,)) == 3  # noqa: RUF005 (that it can be added to is what is tested)
    with pytest.raises(IndexError):
        pair[len(pair)]
    again = pickle.loads(pickle.dumps(pair))
    assert type(again) is tuple
    assert torch.equal(again[1], second)
    assert torch.equal(copy.deepcopy(pair)[1], second)


@pytest.mark.parametrize(
    "use",
    [
        lambda pair: (0,) + pair,  # noqa: RUF005 (that it can be added to is what is tested)
        lambda pair: pair * 2,
        lambda pair: 2 * pair,
        lambda pair: pair != tuple(pair),
        lambda pair: pair != pair[:1],
        lambda pair: type(pair)(each * 2 for each in pair),
    ],
)
def test_it_is_joined_and_searched_as_the_tuple_of_its_two(use: Any) -> None:
    # Of one element each, so that torch says whether two of them are equal.
    scheduler = CLASSES[0]()
    scheduler.set_timesteps(5)
    pair = scheduler.step(torch.ones(1), scheduler.timesteps[0], torch.ones(1), return_dict=False)
    fresh = copy.copy(pair)
    assert type(fresh) is tuple
    made, expected = use(pair), use(fresh)
    assert type(made) is type(expected)
    assert made == expected


def test_what_it_holds_can_be_looked_for_in_it() -> None:
    scheduler = CLASSES[0]()
    scheduler.set_timesteps(5)
    first = scheduler.timesteps[0]
    pairs = [scheduler.step(torch.ones(1), first, torch.ones(1), return_dict=False)]
    second = copy.copy(pairs[0])[1]
    assert second in pairs[0]
    assert pairs[0].index(second) == 1
    assert pairs[0].count(second) == 1
    assert torch.zeros(1) not in pairs[0]


@pytest.mark.parametrize("which", ["sample", "model_output"])
def test_what_has_changed_before_it_is_read_is_not_read_wrongly(which: str) -> None:
    pair, result, x, output = both(CLASSES[0])
    (x if which == "sample" else output).mul_(2)
    assert torch.equal(pair[0], result.prev_sample)
    with pytest.raises(RuntimeError, match="pred_original_sample is worked out when it is read"):
        pair[1]


def test_what_was_read_once_is_kept() -> None:
    pair, result, x, _ = both(CLASSES[0])
    second = pair[1]
    x.mul_(2)
    assert pair[1] is second
    assert torch.equal(second, result.pred_original_sample)


def test_gradients_and_inference_tensors() -> None:
    scheduler = CLASSES[0]()
    scheduler.set_timesteps(5)
    x, output = torch.randn(2, 3, requires_grad=True), torch.randn(2, 3)
    second = scheduler.step(output, scheduler.timesteps[0], x, return_dict=False)[1]
    with torch.no_grad():
        assert second.requires_grad
    scheduler.set_timesteps(5)
    with torch.inference_mode():
        pair = scheduler.step(output.clone(), scheduler.timesteps[0], x.clone(), return_dict=False)
    assert torch.equal(pair[1], second.detach())
