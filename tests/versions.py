"""The installed versions, and what they have: the suite runs with the oldest and the newest that pyproject admits."""

import inspect
import platform
from collections.abc import Callable
from importlib import metadata
from typing import Any


def takes(called: Callable[..., Any], *names: str) -> bool:
    """Whether a function or a class has parameters of these names."""
    return inspect.signature(called).parameters.keys() >= set(names)


if __name__ == "__main__":  # for `make test-matrix`
    installed = {each.metadata["Name"]: each.version for each in metadata.distributions()}
    packages = [name for name in ("diffusers", "transformers", "torch", "numpy", "scipy") if name in installed]
    print(f"Python {platform.python_version()}", *(f"{name} {installed[name]}" for name in packages), sep=", ")
