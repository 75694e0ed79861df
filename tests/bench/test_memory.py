import pytest
import torch
from benchmarks.memory import peak


def several() -> None:
    first = torch.empty(1000)
    second = torch.empty(500)
    del first
    third = torch.empty(2000, dtype=torch.float64)
    del second, third
    torch.empty(10)


def in_place() -> None:
    x = torch.ones(1000)
    x.neg_().relu_()


def hidden_in_an_operation() -> None:
    torch.ones(1000, dtype=torch.float16).float().to(torch.float64)


@pytest.mark.parametrize(
    ("run", "most"),
    [
        (several, 500 * 4 + 2000 * 8),
        (in_place, 1000 * 4),
        (hidden_in_an_operation, 1000 * 4 + 1000 * 8),
        (lambda: None, 0),
    ],
)
def test_known_allocations(run: object, most: int) -> None:
    assert callable(run)
    assert peak(run) == most


def test_what_was_there_before_is_not_counted() -> None:
    there = [torch.ones(4000)]

    def run() -> None:
        there.clear()
        there.append(torch.empty(100))

    assert peak(run) == 400
