import itertools
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from kdpm2 import noise_schedule, philox, spacing, table
from kdpm2.update import COLUMNS
from kdpm2.update import _fused as fused

Floats: TypeAlias = NDArray[np.float64]

DTYPES = [torch.float16, torch.bfloat16, torch.float32]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
FLOAT32_EPS = float(torch.finfo(torch.float32).eps)
ROW = table.Row(scale=0.3, x=0.7, model=-1.3, anchor=0.9, noise=0.4, denoised_x=0.6, denoised_model=-2.1)


def drawn(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape).to(DEVICE, dtype)


def exactly(tensor: torch.Tensor) -> Floats:
    values: Floats = tensor.double().cpu().numpy()
    return values


def check_rounded_once(result: torch.Tensor, *terms: Floats, known_to: Floats | float = 0.0) -> None:
    """`result` is the sum of the terms, as far as float32 goes and they are known, rounded to its dtype."""
    exact = sum(terms, np.zeros(result.shape))
    rounding = known_to + 4 * FLOAT32_EPS * np.sum(np.abs(np.broadcast_arrays(*terms)), axis=0)
    if result.dtype is not torch.float32:
        rounding += np.ldexp(float(torch.finfo(result.dtype).eps) / 4, np.frexp(exact)[1])
    assert (np.abs(exactly(result) - exact) <= rounding).all()


def check_stage(
    row: table.Row,
    results: tuple[torch.Tensor, torch.Tensor],
    sample: torch.Tensor,
    model_output: torch.Tensor,
    anchor: torch.Tensor | None,
    noise: torch.Tensor | None,
) -> None:
    x, m = exactly(sample), exactly(model_output)
    optional = [c * exactly(t) for c, t in ((row.anchor, anchor), (row.noise, noise)) if t is not None]
    check_rounded_once(results[0], row.x * x, row.model * m, *optional)
    check_rounded_once(results[1], row.denoised_x * x, row.denoised_model * m)
    assert {result.dtype for result in results} == {sample.dtype}


@pytest.mark.parametrize("sample_dtype", DTYPES)
@pytest.mark.parametrize("model_dtype", DTYPES)
def test_each_tensor_has_its_own_dtype(sample_dtype: torch.dtype, model_dtype: torch.dtype) -> None:
    x, m = drawn(3, 50, dtype=sample_dtype), drawn(3, 50, dtype=model_dtype)
    for anchor_dtype, noise_dtype in itertools.product(DTYPES, repeat=2):
        anchor, noise = drawn(3, 50, dtype=anchor_dtype), drawn(3, 50, dtype=noise_dtype)
        check_stage(ROW, fused.apply(ROW, x, m, anchor, noise), x, m, anchor, noise)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("prediction_type", ["epsilon", "sample", "v_prediction"])
def test_rows_of_a_table(dtype: torch.dtype, prediction_type: str) -> None:
    schedule = noise_schedule.discrete()
    stages = table.dpm2(schedule, spacing.steps(schedule, 4), prediction_type)
    for number, anchored in itertools.product(range(len(stages)), (True, False)):
        row = stages.row(number, anchored)
        x, m = (drawn(400, dtype=dtype) for _ in range(2))
        anchor, noise = (drawn(400, dtype=dtype) if c else None for c in (row.anchor, row.noise))
        results = fused.apply(row, x, m, anchor, noise)
        check_stage(row, results, x, m, anchor, noise)
        assert torch.equal(fused.advance(row, x, m, anchor, noise), results[0])


@pytest.mark.parametrize(
    "shape",
    [
        (),
        (1,),
        (32,),
        (2, 31),
        (3, 1, 511),
        (1, 4, 16, 16),
        (1025,),
        (3, 1, 4, 17, 19),
        (1, 4096),
        (4097,),
        (2, 7, 683),
    ],
)
def test_any_shape(shape: tuple[int, ...]) -> None:
    tensors = [drawn(*shape) for _ in range(4)]
    check_stage(ROW, fused.apply(ROW, *tensors), *tensors)


def test_in_place() -> None:
    tensors = [drawn(1500, dtype=torch.bfloat16) for _ in range(4)]
    expected = fused.advance(ROW, *tensors)
    for place in range(4):
        given = [tensor.clone() for tensor in tensors]
        x, m, anchor, noise = given
        assert fused.advance(ROW, x, m, anchor, noise, out=given[place]) is given[place]
        assert torch.equal(given[place], expected)
        assert all(torch.equal(a, b) for i, (a, b) in enumerate(zip(given, tensors, strict=True)) if i != place)


def test_what_has_no_part_is_not_read() -> None:
    nothing = torch.full((40,), math.nan, device=DEVICE)
    m = drawn(40)
    row = ROW._replace(x=0, anchor=0, noise=0, denoised_x=0)
    after, denoised = fused.apply(row, nothing, m, nothing, nothing)
    check_rounded_once(after, row.model * exactly(m))
    check_rounded_once(denoised, row.denoised_model * exactly(m))
    for name in ("x", "anchor", "noise"):
        assert fused.advance(row._replace(**{name: 1.0}), nothing, m, nothing, nothing).isnan().all()
    assert fused.apply(row._replace(denoised_x=1.0), nothing, m)[1].isnan().all()


def made_rows(stages: list[int]) -> torch.Tensor:
    """Rows of some stages, of which stage 0 has no use for an anchor or noise."""
    rows = torch.randn(6, len(COLUMNS))
    rows[0, [COLUMNS.index("anchor"), COLUMNS.index("noise")]] = 0
    return rows[stages].to(DEVICE)


def per_sample(rows: torch.Tensor, ndim: int) -> dict[str, Floats]:
    """The coefficients of each sample, to be multiplied with tensors."""
    columns = exactly(rows).T.reshape(len(COLUMNS), -1, *[1] * (ndim - 1))
    return dict(zip(COLUMNS, columns, strict=True))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(4,), (4, 37), (4, 3, 20, 25)])
def test_each_sample_at_its_own_stage(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    rows = made_rows([5, 0, 2, 2])
    x, m, noise, anchor = drawn(*shape, dtype=dtype), drawn(*shape), drawn(*shape), drawn(*shape, dtype=dtype)
    anchor[1] = noise[1] = math.nan
    after = fused.each(rows, x, m, anchor, noise)
    row = per_sample(rows, len(shape))
    moved = [row["anchor"] * np.nan_to_num(exactly(anchor)), row["noise"] * np.nan_to_num(exactly(noise))]
    check_rounded_once(after, row["x"] * exactly(x), row["model"] * exactly(m), *moved)


def test_rows_may_be_strided_or_of_float64() -> None:
    rows, (x, m, anchor) = made_rows([1, 2, 0]), (drawn(3, 60) for _ in range(3))
    expected = fused.each(rows, x, m, anchor)
    assert torch.equal(fused.each(rows.double(), x, m, anchor), expected)
    assert torch.equal(fused.each(rows.T.contiguous().T, x, m, anchor), expected)


def test_one_row_for_all_is_that_row_for_each() -> None:
    x, m, anchor, noise = (drawn(3, 700) for _ in range(4))
    rows = torch.tensor([ROW] * 3, device=DEVICE)
    assert torch.equal(fused.each(rows, x, m, anchor, noise), fused.advance(ROW, x, m, anchor, noise))


NOISE_ALONE = table.Row(scale=1, x=0, model=0, anchor=0, noise=1, denoised_x=0, denoised_model=0)
SEEDS, DRAWS = [3, -4, 2**40 + 5], [0, 6, 2**32 - 1]


def made_noise(*shape: int, seeds: list[int], draw: list[int] | int) -> torch.Tensor:
    nothing = torch.zeros(shape, device=DEVICE)
    number = philox.Draw(torch.tensor(seeds, device=DEVICE), torch.tensor(draw, device=DEVICE))
    made = fused.advance(NOISE_ALONE, nothing, nothing, None, number)
    assert torch.equal(fused.each(torch.tensor([NOISE_ALONE] * shape[0]), nothing, nothing, nothing, number), made)
    return made


@pytest.mark.parametrize("shape", [(3,), (3, 1), (3, 32), (3, 1000), (3, 1024), (3, 5, 300), (3, 4096), (3, 2, 2049)])
def test_noise_in_the_kernel_is_that_of_philox(shape: tuple[int, ...]) -> None:
    made = made_noise(*shape, seeds=SEEDS, draw=DRAWS)
    expected = philox.normal(torch.tensor(SEEDS), torch.tensor(DRAWS), shape)
    torch.testing.assert_close(made.cpu(), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(
        made_noise(*shape, seeds=SEEDS, draw=6).cpu(), philox.normal(torch.tensor(SEEDS), 6, shape), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("elements", [32, 1000, 4100])
def test_noise_does_not_depend_on_the_batch(elements: int) -> None:
    made = made_noise(3, elements, seeds=SEEDS, draw=DRAWS)
    assert torch.equal(made_noise(3, elements, seeds=SEEDS, draw=DRAWS), made)
    for i, (seed, draw) in enumerate(zip(SEEDS, DRAWS, strict=True)):
        assert torch.equal(made_noise(1, elements, seeds=[seed], draw=[draw])[0], made[i])
        assert torch.equal(made_noise(2, elements, seeds=[9, seed], draw=[8, draw])[1], made[i])


@pytest.mark.parametrize("dtype", DTYPES)
def test_noise_is_added_before_the_one_rounding(dtype: torch.dtype) -> None:
    rows = made_rows([3, 0, 1])
    x, m, anchor = (drawn(3, 1200, dtype=dtype) for _ in range(3))
    seeds, draw = torch.tensor(SEEDS), torch.tensor(DRAWS)
    after = fused.each(rows, x, m, anchor, philox.Draw(seeds.to(DEVICE), draw.to(DEVICE)))
    row, noise = per_sample(rows, 2), exactly(philox.normal(seeds, draw, x.shape))
    terms = [row["x"] * exactly(x), row["model"] * exactly(m), row["anchor"] * exactly(anchor), row["noise"] * noise]
    # Two ways to compute a logarithm and a sine differ.
    check_rounded_once(after, *terms, known_to=1e-5 * np.abs(row["noise"]))


@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0)])
def test_nothing_to_do(shape: tuple[int, ...]) -> None:
    nothing = torch.empty(shape, device=DEVICE)
    each = torch.zeros(shape[0], dtype=torch.int64, device=DEVICE)
    after = fused.each(made_rows([1] * shape[0]), nothing, nothing, nothing, philox.Draw(each, each))
    assert after.shape == shape
    assert not fused.available(nothing)


def strided(*shape: int) -> torch.Tensor:
    return drawn(*shape, 2)[..., 0]


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(2, 3, dtype=torch.float64, device=DEVICE),
        torch.zeros(2, 3, dtype=torch.int32, device=DEVICE),
        torch.zeros(3, 2, device=DEVICE),
        torch.zeros(2, 3, device="meta"),
        strided(2, 3),
        torch.zeros(2, 3, device=DEVICE).to_sparse(),
        torch.zeros(2, 3, device=DEVICE, requires_grad=True),
        torch.zeros(2, 3, dtype=torch.complex64, device=DEVICE).conj().imag.contiguous()._neg_view(),
    ],
    ids=["float64", "int32", "shape", "device", "strides", "sparse", "gradient", "negated"],
)
def test_what_the_kernel_does_not_serve(tensor: torch.Tensor) -> None:
    served = torch.zeros(2, 3, device=DEVICE)
    assert fused.available(served, served.half(), served.bfloat16())
    assert not fused.available(served, tensor)


def test_gradients_matter_only_where_they_are_recorded() -> None:
    parameter = torch.nn.Parameter(torch.zeros(2, 3, device=DEVICE))
    assert not fused.available(parameter)
    with torch.no_grad():
        assert fused.available(parameter)


def test_what_is_compiled_is_left_to_the_compiler() -> None:
    def branch(x: torch.Tensor) -> torch.Tensor:
        return x + 1 if fused.available(x) else x - 1

    x = torch.zeros(3, device=DEVICE)
    assert torch.equal(branch(x), x + 1)
    assert torch.equal(torch.compile(branch, fullgraph=True, backend="eager")(x), x - 1)


# A process that has imported torch, but not Triton, forks one for each environment.
SAID_IN = """
import os, sys

os.environ.pop("TRITON_INTERPRET", None)
import torch
from kdpm2.update import COLUMNS
from kdpm2.update import _fused as fused

for environment in sys.argv[1:]:
    if not os.fork():
        try:
            exec(environment)
            print(fused.available(torch.zeros(3)), "triton" in sys.modules, flush=True)
        finally:
            os._exit(0)
    os.wait()
"""


def test_what_is_available_is_said_by_a_triton_that_is_imported_for_a_tensor_that_it_could_serve() -> None:
    interpreted = "os.environ['TRITON_INTERPRET'] = '1'"
    expected = {
        "pass": "False False",
        interpreted: "True True",
        f"{interpreted}; sys.modules['triton'] = None": "False True",
        f"{interpreted}; import triton; triton.__version__ = '3.2.0'": "False True",
    }
    done = subprocess.run([sys.executable, "-c", SAID_IN, *expected], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [*expected.values()], done.stderr


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, int]]:
    cache = str(tmp_path_factory.mktemp("triton"))
    done = subprocess.run(
        [sys.executable, "-m", "tests.ptx"],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[1],
        env={**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": cache},
    )
    codes: dict[str, tuple[str, int]] = json.loads(done.stdout)
    return codes


@pytest.mark.slow
@pytest.mark.parametrize("calls", ["from_rows", "from_a_table"])
@pytest.mark.parametrize(("dtype", "load"), [("float32", "ld.global.v4.b32"), ("bfloat16", "ld.global.v2.b32")])
def test_it_compiles_for_a_gpu(compiled: dict[str, tuple[str, int]], calls: str, dtype: str, load: str) -> None:
    ptx, _ = compiled[f"{calls} torch.{dtype}"]
    # Four elements a thread and load, of each of four lanes and three tensors at least; nothing falls out of registers.
    assert ptx.count(load) >= 4 * 3
    assert ".local" not in ptx


@pytest.mark.slow
def test_other_rows_and_batches_compile_nothing_more(compiled: dict[str, tuple[str, int]]) -> None:
    assert {kernels for _, kernels in compiled.values()} == {1}
