import subprocess
import sys

import pytest

import kdpm2


def imported_by(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_package_loads_nothing_heavy() -> None:
    assert not {"torch", "diffusers", "numpy", "scipy"} & imported_by("import kdpm2")


def test_the_core_is_numpy_alone() -> None:
    assert not {"torch", "diffusers", "scipy"} & imported_by("from kdpm2 import table; table.dpm2")


CORE = [
    "update",
    "update._fused",
    "noise",
    "philox",
    "denoiser",
    "loop",
    "graph",
    "sampling",
    "batching",
    "zoo.closed_form",
]


def test_beside_the_schedulers_nothing_needs_diffusers() -> None:
    """In one process: the first module that loads it ends it, and is told."""
    looks = [f"import kdpm2.{module}; assert 'diffusers' not in sys.modules, {module!r}" for module in CORE]
    assert "diffusers" not in imported_by("\n".join(looks))


@pytest.mark.parametrize("name", kdpm2.__all__)
def test_public_names_are_there(name: str) -> None:
    assert getattr(kdpm2, name) is not None
    assert name in dir(kdpm2)


def test_other_names_are_not() -> None:
    with pytest.raises(AttributeError, match="module 'kdpm2' has no attribute 'euler'"):
        kdpm2.euler  # noqa: B018
