"""Other programs' own sampling code, imported from a checkout, with stand-ins for what it imports and never runs.

Each `run_<client>.py` beside this is a process of its own: `python -m tests.integrations.run_<client> CHECKOUT` prints
one line a case, and exits with 1 if a picture of ours is off. The tests run them where a checkout is named.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch

INTEGRATIONS = Path(__file__).parents[2] / "integrations"
CLOSE = 2e-5
"""Of the largest value of the reference: what float32 leaves of ten steps."""


class Absent(ModuleType):
    """A module that has everything, and does nothing."""

    __path__: list[str] = []  # noqa: RUF012

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        made = MagicMock(name=f"{self.__name__}.{name}")
        setattr(self, name, made)
        return made


class Absentees(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the modules of these names, and all within them."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if any(name == each or name.startswith(f"{each}.") for each in self.names):
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec: Any) -> ModuleType:
        return Absent(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        return


def without(*names: str) -> None:
    """From now on, modules of these names are stand-ins."""
    sys.meta_path.insert(0, Absentees(names))


def shells(root: Path, *names: str) -> None:
    """Packages of these names, and those around them, whose own code is not run: modules within them are found."""
    for name in names:
        parts = name.split(".")
        for count in range(1, len(parts) + 1):
            package = ModuleType(".".join(parts[:count]))
            package.__path__ = [str(root.joinpath(*parts[:count]))]
            sys.modules.setdefault(package.__name__, package)


def loaded(name: str, path: Path) -> Any:
    """The module of a file."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


class Network(torch.nn.Module):
    """A small random network that reads the sample, the time and what it is conditioned on."""

    def __init__(self, channels: int = 4, width: int = 8) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.into, self.out = (torch.nn.Conv2d(a, b, 3, padding=1) for a, b in ((channels, width), (width, channels)))
        for parameter in self.parameters():
            parameter.data.normal_(generator=generator).mul_(0.2)

    def forward(self, x: torch.Tensor, t: torch.Tensor, context: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        told = torch.sin(t.reshape(-1, 1, 1, 1).to(x) / 200) + context.to(x).mean(dim=(1, 2)).reshape(-1, 1, 1, 1)
        made: torch.Tensor = self.out(torch.tanh(self.into(x) + told))
        return made


def flow_in_float64(
    denoised: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    x: torch.Tensor,
    sigmas: torch.Tensor,
    noise: Callable[[], torch.Tensor],
    eta: float = 1.0,
    s_noise: float = 1.0,
) -> torch.Tensor:
    """DPM2 for samples (1-σ)·x0 + σ·n: below the next level as ComfyUI goes, then up to it as variances add."""
    x = x.double()

    def slope(x: torch.Tensor, sigma: float) -> torch.Tensor:
        told = torch.full((len(x),), sigma, dtype=torch.float64).float()
        return (x - denoised(x.float(), told).double()) / sigma

    for sigma, after in itertools.pairwise(sigmas.double().tolist()):
        down = after * (1 + (after / sigma - 1) * eta)
        d = slope(x, sigma)
        if not after:
            x = x - sigma * d
            break
        middle = (sigma * down) ** 0.5
        x = x + (down - sigma) * slope(x + (middle - sigma) * d, middle)
        if eta:
            kept = (1 - after) / (1 - down)
            x = kept * x + max(after**2 - (kept * down) ** 2, 0) ** 0.5 * s_noise * noise().double()
    end: torch.Tensor = x.float()
    return end


class Report:
    """The differences of a run, printed as they are found."""

    def __init__(self, limit: float = CLOSE) -> None:
        self.limit, self.cases, self.largest = limit, 0, 0.0

    def compare(self, what: str, actual: torch.Tensor, expected: torch.Tensor) -> float:
        """The largest difference, as a part of the largest value expected."""
        assert actual.shape == expected.shape, what
        assert torch.isfinite(expected).all(), what
        off = float((actual.double() - expected.double()).abs().max() / expected.abs().max())
        self.cases, self.largest = self.cases + 1, max(self.largest, off if off == off else torch.inf)
        print(f"{what}: {off:.1e}")
        return off

    def done(self) -> int:
        """The exit code, after a line for all."""
        print(f"{self.cases} cases, largest difference {self.largest:.1e}, {self.limit:.0e} allowed")
        return 0 if self.cases and self.largest <= self.limit else 1


def run(client: str, variable: str) -> str:
    """What a client's run prints, with the checkout that an environment variable names; skips the test without."""
    checkout = os.environ.get(variable)
    if not checkout:
        pytest.skip(f"{variable} names no checkout")
    command = [sys.executable, "-m", f"tests.integrations.run_{client}", checkout]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=INTEGRATIONS.parent, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout
