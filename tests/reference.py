"""diffusers' own KDPM2 classes, without the half second that each of their constructors takes.

They make a schedule of all trained timesteps, one by one in Python, that a loop never looks at: it sets its own.
"""

import functools
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import diffusers
import torch

CLASSES = diffusers.KDPM2AncestralDiscreteScheduler, diffusers.KDPM2DiscreteScheduler


def make_first_schedules_once(monkeypatch: Any) -> None:
    """From now on the constructors compute the schedule of each configuration once, and copy it from then on."""
    for cls in CLASSES:
        monkeypatch.setattr(cls, "set_timesteps", _first_made_once(cls.set_timesteps))


def _first_made_once(set_timesteps: Callable[..., None]) -> Callable[..., None]:
    made: dict[Any, dict[str, Any]] = {}

    @functools.wraps(set_timesteps)  # pipelines look at the signature
    def wrapped(
        self: Any, num_inference_steps: int, device: Any = None, num_train_timesteps: int | None = None
    ) -> None:
        if "timesteps" in vars(self) or num_inference_steps != num_train_timesteps or device is not None:
            set_timesteps(self, num_inference_steps, device, num_train_timesteps)
            return
        options = {name: value for name, value in self.config.items() if name != "trained_betas"}
        key = type(self), repr(options), self.betas.numpy().tobytes()
        if key not in made:
            before = set(vars(self))
            set_timesteps(self, num_inference_steps, device, num_train_timesteps)
            made[key] = {name: value for name, value in vars(self).items() if name not in before}
        for name, value in made[key].items():
            setattr(self, name, value.clone() if isinstance(value, torch.Tensor) else value)

    return wrapped


def unscheduled(cls: Any, **config: Any) -> Any:
    """A scheduler with a first schedule of two steps: for configurations that are drawn at random, each used once."""
    set_timesteps = cls.set_timesteps
    with patch.object(cls, "set_timesteps", lambda self, *_: set_timesteps(self, 2)):
        return cls(**config)
