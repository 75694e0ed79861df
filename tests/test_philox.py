import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from kdpm2 import philox

MASK = 2**32 - 1
FIRST_TWO_SEEDS = torch.tensor([11, 2**40 + 3])


def enciphered(counter: list[int], key: list[int]) -> list[int]:
    """Philox 4x32-10 in Python's integers, as the paper has it."""
    for _ in range(10):
        high0, low0 = divmod(0xD2511F53 * counter[0], 2**32)
        high1, low1 = divmod(0xCD9E8D57 * counter[2], 2**32)
        counter = [high1 ^ counter[1] ^ key[0], low1, high0 ^ counter[3] ^ key[1], low0]
        key = [(key[0] + 0x9E3779B9) & MASK, (key[1] + 0xBB67AE85) & MASK]
    return counter


def element(seed: int, draw: int, e: int) -> float:
    """One normal of the definition, in float64."""
    block, lane = e // (4 * philox.Q) * philox.Q + e % philox.Q, e // philox.Q % 4
    uniforms = [(word + 0.5) / 2**32 for word in enciphered([block, draw, 0, 0], [seed & MASK, seed >> 32])]
    u, v = uniforms[lane // 2 * 2 : lane // 2 * 2 + 2]
    return math.sqrt(-2 * math.log(u)) * (math.sin, math.cos)[lane % 2 == 0](2 * math.pi * v)


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_the_authors_known_answers(counter: str, key: str, expected: str) -> None:
    c0, c1, c2, c3 = (torch.tensor(int(word, 16)) for word in counter.split())
    k0, k1 = (int(word, 16) for word in key.split())
    assert " ".join(f"{int(word):08x}" for word in philox.words((c0, c1, c2, c3), (k0, k1))) == expected


def test_words_broadcast() -> None:
    w = philox.words((torch.arange(3), torch.tensor([[4], [5]]), 0, 0), (6, 7))
    assert [[[int(word[i, j]) for word in w] for j in range(3)] for i in range(2)] == [
        [enciphered([j, i + 4, 0, 0], [6, 7]) for j in range(3)] for i in range(2)
    ]


@pytest.mark.parametrize("seed", [0, 5, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1])
@pytest.mark.parametrize("draw", [0, 3, MASK])
def test_every_element_has_its_place(seed: int, draw: int) -> None:
    q, elements = philox.Q, 9 * philox.Q + 5
    seeds = torch.from_numpy(np.array([seed], dtype=np.uint64).view(np.int64))
    noise = philox.normal(seeds, draw, (1, elements))[0]
    for e in (0, 1, q - 1, q, 2 * q, 3 * q + 7, 4 * q - 1, 4 * q, 5 * q + 1, 8 * q, 9 * q - 1, 9 * q, elements - 1):
        assert noise[e].item() == pytest.approx(element(seed, draw, e), abs=1e-5)


@pytest.mark.parametrize(
    "shape", [(2,), (2, 1), (2, 3, 5, 7), (2, 1023), (2, 1025), (2, 4, 1024), (2, 4097), (2, 3, 2731)]
)
def test_a_shorter_sample_is_the_beginning_of_a_longer_one(shape: tuple[int, ...]) -> None:
    noise = philox.normal(FIRST_TWO_SEEDS, 2, shape)
    assert noise.shape == shape
    assert noise.dtype == torch.float32
    longer = philox.normal(FIRST_TWO_SEEDS, 2, (2, 20_000))
    assert torch.equal(noise.reshape(2, -1), longer[:, : math.prod(shape[1:])])


@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0), (2, 3, 0)])
def test_nothing_is_drawn_for_nothing(shape: tuple[int, ...]) -> None:
    assert philox.normal(torch.arange(shape[0]), 0, shape).shape == shape


def test_a_sample_depends_on_its_own_seed_and_draw_alone() -> None:
    seeds, draws = torch.tensor([7, -8, 9]), torch.tensor([0, 4, 2])
    batch = philox.normal(seeds, draws, (3, 2, 3000))
    for i in range(3):
        assert torch.equal(batch[i : i + 1], philox.normal(seeds[i : i + 1], draws[i : i + 1], (1, 2, 3000)))
        assert torch.equal(batch[i : i + 1], philox.normal(seeds[i : i + 1], int(draws[i]), (1, 2, 3000)))
    assert torch.equal(philox.normal(seeds, 4, (3, 50)), philox.normal(seeds, torch.tensor(4), (3, 50)))


def test_standard_normal() -> None:
    noise = philox.normal(torch.arange(100), 1, (100, 10_000)).double().flatten().numpy()
    assert stats.kstest(noise, "norm").pvalue > 1e-3
    for power, moment in ((1, 0), (2, 1), (3, 0), (4, 3)):
        # The variance of the mean of a million powers, from the normal's moments: (2k-1)!! of each even power 2k.
        spread = math.sqrt((math.prod(range(2 * power - 1, 0, -2)) - moment**2) / noise.size)
        assert abs((noise**power).mean() - moment) < 4 * spread
    assert 4.5 < abs(noise).max() < 6.77


@pytest.mark.parametrize("other", [{"seed": 1}, {"seed": 2**32}, {"seed": -1}, {"draw": 1}, {"first": philox.Q}])
def test_other_seeds_draws_and_places_are_independent(other: dict[str, int]) -> None:
    n = 200_000
    one = philox.normal(torch.tensor([0]), 0, (1, n))[0]
    first = other.get("first", 0)
    two = philox.normal(torch.tensor([other.get("seed", 0)]), other.get("draw", 0), (1, n + first))[0, first:]
    for a, b in ((one, two), (one.abs(), two.abs())):
        assert abs(np.corrcoef(a.numpy(), b.numpy())[0, 1]) < 4 / math.sqrt(n)


def test_compiles_once_for_all_seeds_and_draws() -> None:
    graphs = []

    def backend(graph: torch.fx.GraphModule, _: list[torch.Tensor]) -> Any:
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(philox.normal, fullgraph=True, backend=backend)
    for seed in range(4):
        seeds, draw = torch.tensor([seed, -seed]), torch.tensor(2 * seed)
        assert torch.equal(compiled(seeds, draw, (2, 5000)), philox.normal(seeds, draw, (2, 5000)))
    assert len(graphs) == 1


@pytest.mark.slow
def test_compiled_it_is_the_same_noise() -> None:
    # A product beyond 2^63, or one of an index, comes out wrong where it is compiled for the CPU.
    seeds, draw = torch.tensor([1, -5]), torch.tensor(7)
    compiled = torch.compile(philox.normal, fullgraph=True)
    torch.testing.assert_close(compiled(seeds, draw, (2, 5000)), philox.normal(seeds, draw, (2, 5000)))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"seeds": [1, 2]}, TypeError, r"seeds must be an int64 tensor, got \[1, 2\]"),
        ({"seeds": torch.tensor([1.0, 2.0])}, TypeError, r"seeds must be an int64 tensor, got torch.float32"),
        ({"seeds": torch.tensor([1])}, ValueError, r"seeds must have shape \(2,\), got \(1,\)"),
        ({"draw": -1}, ValueError, r"draw must be an integer from 0 to 4294967295, got -1"),
        ({"draw": 2**32}, ValueError, r"draw must be an integer from 0 to 4294967295, got 4294967296"),
        ({"draw": 1.5}, TypeError, r"draw must be an integer from 0 to 4294967295, got 1.5"),
        ({"draw": torch.tensor([1, 2, 3])}, ValueError, r"draw must have shape \(\) or \(2,\), got \(3,\)"),
        ({"draw": torch.tensor(1, dtype=torch.int32)}, TypeError, r"draw must be an int64 tensor, got torch.int32"),
        ({"draw": torch.tensor(1, device="meta")}, ValueError, r"draw must be on the device of seeds, cpu, got meta"),
        ({"shape": ()}, TypeError, r"shape must be a tuple of one integer at least, got \(\)"),
        ({"shape": 2}, TypeError, r"shape must be a tuple of one integer at least, got 2"),
        ({"shape": (2, -3)}, ValueError, r"each of shape must be an integer at least 0, got -3"),
        ({"shape": (2, 2.5)}, TypeError, r"each of shape must be an integer at least 0, got 2.5"),
        (
            {"shape": (2, 2**16, 2**16)},
            ValueError,
            r"shape must have fewer than 2\^32 elements a sample, got 4294967296",
        ),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        philox.normal(**{"seeds": torch.tensor([1, 2]), "draw": 0, "shape": (2, 5), **arguments})


def test_it_is_float32_whatever_torch_takes_for_the_default() -> None:
    expected = philox.normal(FIRST_TWO_SEEDS, 3, (2, 5))
    torch.set_default_dtype(torch.float64)
    try:
        noise = philox.normal(FIRST_TWO_SEEDS, 3, (2, 5))
    finally:
        torch.set_default_dtype(torch.float32)
    assert noise.dtype == torch.float32
    assert torch.equal(noise, expected)
