"""The Triton kernel on a GPU: whether it is right, and how much of the memory's speed it has.

`python -m benchmarks.gpu.kernel` prints both. With `--device cpu` it checks small tensors in Triton's interpreter, to
see that this file works.

An error is given as a share of what it may be: half a unit in the last place of the result's dtype, and 4 units of
float32 in the terms of which the result is the sum. 1 is the most that is right.

A time is that of one launch among many in a CUDA graph, so that what Python does between two is not in it. Bytes are
what has to be read and written, once each. Beside it stands `torch.Tensor.copy_`, which reads one tensor and writes one
of the same size and dtype. What fits into the GPU's cache stays there, for both.
"""

import argparse
import math
import os
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import NamedTuple

import torch

from kdpm2.philox import Draw
from kdpm2.table import Row
from kdpm2.update import COLUMNS
from kdpm2.update import _fused as fused

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
LAUNCHES, REPLAYS = 20, 11
SMALL = ((1, 32), (3, 1000), (2, 4, 32, 32), (5, 3, 7, 61))
MEDIUM = ((1, 4, 128, 128), (8, 16, 128, 128), (7, 3, 333, 111), (4096, 32))
LARGE = (2**13 + 1, 2**16)
"""More than 2^31 bytes of float32."""
LARGER = (2**17 + 1, 2**14)
"""More than 2^31 elements."""
NOISE_DIFFERS_BY = 1e-5
"""What two devices may make of the same words, by their logarithms and sines."""
MOST_CHECKED = 2**24  # elements that are compared at once, or one sample


class Checked(NamedTuple):
    """One comparison with float64."""

    case: str
    dtypes: str
    shape: tuple[int, ...]
    share_of_allowed: float
    """The largest error, as a share of what it may be."""

    @property
    def right(self) -> bool:
        """Whether no error is larger than it may be; NaN is."""
        return self.share_of_allowed <= 1


class Timed(NamedTuple):
    """One measurement."""

    case: str
    dtype: str
    elements: int
    microseconds: float
    gigabytes_per_second: float
    share_of_copy: float


class Stage(NamedTuple):
    """What a stage reads: a row for each sample, and tensors like the sample."""

    rows: torch.Tensor
    sample: torch.Tensor
    model_output: torch.Tensor
    anchor: torch.Tensor
    noise: torch.Tensor | Draw | None = None


def run(stage: Stage) -> torch.Tensor:
    """The samples after the stage."""
    return fused.each(*stage)


def largest_error(stage: Stage, result: torch.Tensor, first: int = 0) -> float:
    """The largest share of what an error may be, over the samples from the first on."""
    samples, elements = stage.sample.shape[0], math.prod(stage.sample.shape[1:])
    at_once = max(1, MOST_CHECKED // elements)
    worst = 0.0
    for start in range(first, samples, at_once):
        part = slice(start, min(start + at_once, samples))
        exact, allowed = expected(stage, part, elements)
        error = ((result[part].reshape(-1, elements).double() - exact).abs() / allowed(result.dtype)).max().item()
        worst = max(worst, math.inf if math.isnan(error) else error)
    return worst


Allowed = Callable[[torch.dtype], torch.Tensor]


def expected(stage: Stage, part: slice, elements: int) -> tuple[torch.Tensor, Allowed]:
    """The result for some samples in float64, and what its errors may be."""

    def exactly(tensor: torch.Tensor) -> torch.Tensor:
        return tensor[part].reshape(-1, elements).double()

    row = dict(zip(COLUMNS, stage.rows[part].double().T[:, :, None], strict=True))
    x = exactly(stage.sample)
    terms = [row["x"] * x, row["model"] * exactly(stage.model_output), row["anchor"] * exactly(stage.anchor)]
    known_to = torch.zeros_like(x)
    if isinstance(stage.noise, Draw):
        drawn = Draw(stage.noise.seeds[part], stage.noise.number[part])
        terms.append(row["noise"] * drawn.like(x).double())
        known_to = NOISE_DIFFERS_BY * row["noise"].abs()
    elif stage.noise is not None:
        terms.append(row["noise"] * exactly(stage.noise))
    return bounded(terms, known_to)


def bounded(terms: list[torch.Tensor], known_to: torch.Tensor) -> tuple[torch.Tensor, Allowed]:
    """The sum of the terms, and how far a result of a dtype may be from it."""
    exact = torch.stack(terms).sum(0)
    in_float32 = known_to + 4 * torch.finfo(torch.float32).eps * torch.stack(terms).abs().sum(0)

    def allowed(dtype: torch.dtype) -> torch.Tensor:
        half_a_unit = torch.ldexp(torch.ones_like(exact) * torch.finfo(dtype).eps / 4, torch.frexp(exact)[1])
        return half_a_unit + in_float32

    return exact, allowed


def drawn(shape: tuple[int, ...], dtype: torch.dtype, device: str) -> torch.Tensor:
    """Normal numbers, made in their dtype: the largest tensors have no room beside them for another."""
    return torch.randn(shape, dtype=dtype, device=device)


def indices(number: int, below: int, device: str) -> torch.Tensor:
    """A tensor of that many indices."""
    return torch.randint(below, (number,), device=device)


def correctness(device: str = "cuda") -> list[Checked]:
    """Every kind of stage in every dtype, at sizes from tiny to beyond 32-bit offsets."""
    torch.manual_seed(0)
    table = torch.randn(5, len(COLUMNS), device=device)
    table[0, 3:5] = 0  # as at the start of a step
    checked: list[Checked] = []

    def check(case: str, stage: Stage, first: int = 0) -> None:
        given = (stage.sample, stage.model_output, stage.anchor, stage.noise)
        dtypes = ", ".join(
            str(each.dtype).removeprefix("torch.") if isinstance(each, torch.Tensor) else "-" for each in given
        )
        error = largest_error(stage, run(stage), first)
        checked.append(Checked(case, dtypes, tuple(stage.sample.shape), error))

    for shape in SMALL if device == "cpu" else SMALL + MEDIUM:
        samples = shape[0]
        rows = table[indices(samples, 5, device)]
        draw = Draw(indices(samples, 2**62, device) - 2**61, indices(samples, 2**32, device))
        for dtype in DTYPES:
            x, m, a, n = (drawn(shape, dtype, device) for _ in range(4))
            check("no noise", Stage(rows, x, m, a))
            check("noise read", Stage(rows, x, m, a, n))
            check("noise made", Stage(rows, x, m, a, draw))
            for other in DTYPES:
                if other is not dtype:
                    check("two dtypes", Stage(rows, x, m.to(other), a, n.to(other)))
            alone = run(Stage(rows[-1:], x[-1:], m[-1:], a[-1:], Draw(draw.seeds[-1:], draw.number[-1:])))
            same = 0.0 if torch.equal(alone[0], run(Stage(rows, x, m, a, draw))[-1]) else math.inf
            checked.append(
                Checked("alone as among others, bit for bit", str(dtype).removeprefix("torch."), shape, same)
            )
    if device != "cpu":
        x, m = (drawn(LARGE, torch.float32, device) for _ in range(2))
        check("above 2^31 bytes", Stage(table[[4] * LARGE[0]], x, m, x))
        x, m = (drawn(LARGER, torch.bfloat16, device) for _ in range(2))
        rows, draw = table[[4] * LARGER[0]], Draw(indices(LARGER[0], 2**62, device), indices(LARGER[0], 9, device))
        # What is new there is at the end.
        check("above 2^31 elements", Stage(rows, x, m, x), LARGER[0] - 100)
        check("the same, noise made", Stage(rows, x, m, x, draw), LARGER[0] - 100)
    return checked


def bandwidth() -> list[Timed]:
    """Each kind of stage at 2^10 to 2^26 elements."""
    device = "cuda"
    torch.manual_seed(0)
    row = Row(scale=1, x=0.7, model=-1.3, anchor=0.9, noise=0.4, denoised_x=0.6, denoised_model=-2.1)
    draw = Draw(torch.tensor([5], device=device), torch.tensor(0, device=device))
    timed: list[Timed] = []
    for dtype in DTYPES[:2]:
        for elements in (2**power for power in range(10, 27, 2)):
            x, m, anchor, noise, out = (drawn((1, elements), dtype, device) for _ in range(5))
            stages: dict[str, tuple[torch.Tensor | None, torch.Tensor | Draw | None, int]] = {
                "first": (None, None, 3),
                "midpoint, noise read": (anchor, noise, 5),
                "midpoint, noise made": (anchor, draw, 4),
            }
            size = elements * dtype.itemsize
            copied = 2 * size / seconds(lambda out=out, x=x: out.copy_(x))  # type: ignore[misc]
            for case, (kept, drawn_from, tensors) in stages.items():
                took = seconds(partial(fused.advance, row, x, m, kept, drawn_from, out))
                moved = size * tensors
                name = str(dtype).removeprefix("torch.")
                timed.append(Timed(case, name, elements, took * 1e6, moved / took / 1e9, moved / took / copied))
    return timed


def seconds(work: Callable[[], object]) -> float:
    """What one launch takes, the median over replays of a graph of many."""
    work()  # compiles
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(LAUNCHES):
            work()
    graph.replay()
    times: list[float] = []
    for _ in range(REPLAYS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / 1e3 / LAUNCHES)
    return median(times)


def main() -> None:
    """Print both tables; the exit status is 1 if something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    device = parser.parse_args().device
    if device == "cpu":
        os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported, with the first stage
        print(f"torch {torch.__version__}, Triton's interpreter")
    else:
        print(f"torch {torch.__version__}, {torch.cuda.get_device_name()}")
    checked = correctness(device)
    for each in checked:
        shape = "x".join(map(str, each.shape))
        verdict = "" if each.right else "WRONG"
        print(f"{each.case:<36} {each.dtypes:<40} {shape:>16} {each.share_of_allowed:8.3f} {verdict}")
    print(f"{sum(each.right for each in checked)} of {len(checked)} right")
    if device == "cuda":
        print(f"\n{'case':<24} {'dtype':<10} {'elements':>12} {'us':>10} {'GB/s':>10} {'of copy':>8}")
        for row in bandwidth():
            print(
                f"{row.case:<24} {row.dtype:<10} {row.elements:>12,} {row.microseconds:>10.2f} "
                f"{row.gigabytes_per_second:>10,.0f} {row.share_of_copy:>8.2f}"
            )
    raise SystemExit(not all(each.right for each in checked))


if __name__ == "__main__":
    main()
