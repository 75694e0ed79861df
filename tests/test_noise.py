from typing import Any

import pytest
import torch

from kdpm2.noise import gaussian

CPU = torch.device("cpu")


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def test_one_generator_draws_the_whole_batch() -> None:
    expected = torch.randn(2, 3, generator=generators(7)[0])
    assert torch.equal(gaussian((2, 3), torch.float32, CPU, generators(7)[0]), expected)
    assert torch.equal(gaussian((2, 3), torch.float32, CPU, generators(7)), expected)


def test_without_a_generator_torchs_own_is_used() -> None:
    torch.manual_seed(5)
    expected = torch.randn(2, 3)
    torch.manual_seed(5)
    assert torch.equal(gaussian((2, 3), torch.float32, CPU), expected)


def test_a_sample_does_not_depend_on_its_neighbours() -> None:
    both = gaussian((2, 3), torch.float32, CPU, generators(1, 2))
    assert torch.equal(both[1:], gaussian((1, 3), torch.float32, CPU, generators(2)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_draw_is_made_in_its_dtype(dtype: torch.dtype) -> None:
    expected = torch.randn(50, dtype=dtype, generator=generators(3)[0])
    assert torch.equal(gaussian((50,), dtype, CPU, generators(3)), expected)


@pytest.mark.parametrize("wrong", [5, "seed", [5], [None]])
def test_something_else_is_a_type_error(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"generator must be a torch.Generator or a list of them, got"):
        gaussian((2, 3), torch.float32, CPU, wrong)


@pytest.mark.parametrize("shape", [(2, 3), ()])
def test_a_list_must_have_one_a_sample(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="got 3 generators or seeds for a sample of shape"):
        gaussian(shape, torch.float32, CPU, generators(1, 2, 3))


class Elsewhere(torch.Generator):
    device = torch.device("cuda:0")


def test_a_generator_of_another_device_is_refused() -> None:
    with pytest.raises(
        ValueError, match="generator must be on the CPU or on the sample's device cpu, got one on cuda:0"
    ):
        gaussian((2,), torch.float32, CPU, Elsewhere())
