"""What Triton makes of calls for a GPU that need not be there: prints, as JSON, code and how many kernels there are.

Triton compiles what it would launch, arguments and all, for an A100 that takes part in nothing else.
"""

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from kdpm2.philox import Draw
from kdpm2.table import Row
from kdpm2.update import _fused as fused
from kdpm2.update import _kernel

ROWS = [
    Row(scale=0.3, x=0.7, model=-1.3, anchor=0.9, noise=0.4, denoised_x=0.6, denoised_model=-2.1),
    Row(scale=1.0, x=1.0, model=16.0, anchor=0.0, noise=0.0, denoised_x=1.0, denoised_model=0.0),
]


class A100:
    """As much of a driver as compiling needs."""

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 80, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, _: int = 0) -> int:
        return 0


class Compiled:
    """Stands for the kernel, and holds what is compiled instead of launched."""

    def __init__(self) -> None:
        self.kernels: list[Any] = []

    def __getitem__(self, grid: Any) -> Callable[..., None]:
        return lambda *args, **kwargs: self.kernels.append(_kernel.stage.warmup(*args, grid=grid, **kwargs))


def from_rows(dtype: torch.dtype) -> None:
    """The drop-in's calls."""
    for row, samples in (ROWS[0], 1), (ROWS[1], 1), (ROWS[0], 3), (ROWS[0], 16):
        fused.apply(row, *(torch.zeros(samples, 4, 64, 64, dtype=dtype) for _ in range(4)))


def from_a_table(dtype: torch.dtype) -> None:
    """Those of a batch that has everything."""
    for samples in 2, 3, 16:
        x, number = torch.zeros(samples, 4, 64, 64, dtype=dtype), torch.zeros(samples, dtype=torch.int64)
        fused.each(torch.zeros(samples, len(Row._fields)), x, x, x, Draw(number, number))


def main() -> None:
    """Print the first code of every kind of call, and the number of kernels that its calls need."""
    driver.set_active(A100())
    made: dict[str, tuple[str, int]] = {}
    for calls in (from_rows, from_a_table):
        for dtype in (torch.float32, torch.bfloat16):
            compiled = Compiled()
            kernel = SimpleNamespace(stage=compiled, DEVICE="cpu")  # where the tensors are
            with mock.patch.object(fused, "_kernel", lambda kernel=kernel: kernel):
                calls(dtype)
            kernels = compiled.kernels
            made[f"{calls.__name__} {dtype}"] = kernels[0].asm["ptx"], len(set(map(id, kernels)))
    print(json.dumps(made))


if __name__ == "__main__":
    main()
