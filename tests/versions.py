"""What the installed versions have: the suite runs with the oldest and with the newest that pyproject admits."""

import inspect
from collections.abc import Callable
from typing import Any


def takes(called: Callable[..., Any], *names: str) -> bool:
    """Whether a function or a class has parameters of these names."""
    return inspect.signature(called).parameters.keys() >= set(names)
