"""Coloured, pyramid and offset noise: their covariances, which are known."""

import copy
import pickle

import numpy as np
import pytest
import torch

from kdpm2 import KDPM2AncestralDiscreteScheduler
from kdpm2.noise import Coloured, Offset, Pyramid, kind_named, name_of

KINDS = ["coloured", "coloured:2", "coloured:-1", "pyramid", "pyramid:0.9", "offset:0.5"]
SHAPES = [(2, 6), (2, 3, 8), (2, 3, 6, 8), (2, 2, 3, 4, 4), (2, 1), (3,)]
DRAWN = 6000


def drawn(name: str, shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Many samples of a kind, of shape (N, ...)."""
    like = torch.zeros(DRAWN, *shape[1:], dtype=dtype)
    return kind_named(name)(torch.Generator().manual_seed(0)).draw(0, like)  # type: ignore[call-arg]


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_element_has_unit_variance(name: str, shape: tuple[int, ...]) -> None:
    noise = drawn(name, shape)
    # A variance of N numbers is known to √(2/N); 6 of these for the worst of all elements.
    assert (noise.square().mean(0) - 1).abs().max() < 6 * (2 / DRAWN) ** 0.5
    assert noise.mean(0).abs().max() < 6 / DRAWN**0.5


@pytest.mark.parametrize("exponent", [-1.0, 0.0, 1.0, 2.0])
def test_the_power_of_coloured_noise_falls_with_the_frequency(exponent: float) -> None:
    noise = drawn(f"coloured:{exponent}", (1, 1, 16))
    power = torch.fft.rfft(noise, dim=-1).abs().square().mean((0, 1)).numpy()[1:]
    slope = np.polyfit(np.log(np.arange(1, 9)), np.log(power), 1)[0]
    assert slope == pytest.approx(-exponent, abs=0.06)


def test_offset_noise_is_alike_within_a_channel() -> None:
    noise = drawn("offset:0.5", (1, 2, 4, 4)).flatten(2)
    within = (noise[:, 0, 0] * noise[:, 0, 9]).mean()
    across = (noise[:, 0, 0] * noise[:, 1, 0]).mean()
    assert within == pytest.approx(0.25 / 1.25, abs=0.07)
    assert across == pytest.approx(0, abs=0.07)


def test_neighbours_of_pyramid_noise_are_alike() -> None:
    noise = drawn("pyramid:0.9", (1, 1, 16, 16))[:, 0]
    near, far = ((noise[:, 8, 7] * noise[:, 8, x]).mean() for x in (8, 15))
    assert near > 0.4
    assert near > far + 0.1


@pytest.mark.parametrize("name", KINDS)
def test_a_sample_does_not_depend_on_its_neighbours(name: str) -> None:
    kind, like = kind_named(name), torch.zeros(3, 2, 4, 6)
    together = kind([torch.Generator().manual_seed(i) for i in range(3)]).draw(0, like)  # type: ignore[call-arg]
    alone = kind([torch.Generator().manual_seed(2)]).draw(0, like[:1])  # type: ignore[call-arg]
    torch.testing.assert_close(together[2:], alone, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", KINDS)
def test_a_copy_goes_on_as_the_first(name: str) -> None:
    kind, like = kind_named(name), torch.zeros(2, 2, 4)
    first = kind([torch.Generator().manual_seed(i) for i in range(2)])  # type: ignore[call-arg]
    others = [copy.deepcopy(first), pickle.loads(pickle.dumps(first)), kind.of_state(first.state(), like)]
    expected = first.draw(0, like)
    for other in others:
        assert type(other) is kind
        assert torch.equal(other.draw(0, like), expected)


def test_names_and_their_numbers() -> None:
    assert kind_named("coloured") is Coloured is kind_named("coloured:1")
    assert kind_named("pyramid:0.7") is Pyramid
    assert kind_named("offset:0.3") is kind_named("offset:0.30")
    assert issubclass(kind_named("offset:0.3"), Offset)
    assert kind_named(str(name_of(kind_named("coloured:2")))) is kind_named("coloured:2")


@pytest.mark.parametrize(
    ("name", "message"),
    {
        "pink": "noise must be one of 'gaussian', 'brownian', 'philox', 'coloured', 'pyramid', 'offset', got 'pink'",
        "gaussian:1": "noise must be 'gaussian' without a number, got 'gaussian:1'",
        "coloured:": "noise must end in a number after the colon, got 'coloured:'",
        "coloured:nan": "the number of coloured noise must be a number from -4 to 4, got nan",
        "pyramid:2": "the number of pyramid noise must be a number from 0 to 1, got 2",
    }.items(),
)
def test_wrong_names(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind_named(name)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_scheduler_draws_it(dtype: torch.dtype) -> None:
    scheduler = KDPM2AncestralDiscreteScheduler(noise="coloured:4", final_sigmas_type="sigma_min")
    scheduler.set_timesteps(1)
    scheduler.seed([1, 2])
    sample = torch.zeros(2, 3, 8, 8, dtype=dtype)
    for timestep in scheduler.timesteps:
        scaled = scheduler.scale_model_input(sample, timestep)
        sample = scheduler.step(torch.zeros_like(scaled), timestep, sample).prev_sample
    assert sample.dtype is dtype
    flat = sample.float()
    assert (flat[..., 1:] - flat[..., :-1]).square().mean() < flat.square().mean()  # of white noise it is the double
