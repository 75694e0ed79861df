"""kdpm2's schedulers for SGLang-Diffusion: an external model package, which registers them by name when imported.

SGLang makes a scheduler of its class and of the options in the model's file that the constructor takes, and leaves the
others out. A flow's `shift` would be left out, and with it that the model is a flow. So these constructors take every
option, and read the file as `from_config` does.
"""

from typing import Any

from sglang.multimodal_gen.runtime.models.registry import ModelRegistry
from sglang.multimodal_gen.runtime.models.schedulers.base import BaseScheduler

from kdpm2 import KDPM2AncestralDiscreteScheduler, KDPM2DiscreteScheduler

_NOT_OF_FLOWS = {"beta_start", "beta_end", "beta_schedule", "trained_betas", "sigma_data", "discard_next_to_last_sigma"}


def _translated(own: Any, config: dict[str, Any]) -> dict[str, Any]:
    """The options of ours that a model's scheduler file means; SGLang has taken the name of its class out."""
    if not _NOT_OF_FLOWS & config.keys():
        config = {"_class_name": "FlowMatchEulerDiscreteScheduler", **config}
    made = own.from_config(config)
    return {name: made.config[name] for name in own._defaults()}


class KDPM2Scheduler(KDPM2DiscreteScheduler):
    """DPM2 without noise.

    Args:
        config: What the model's scheduler file holds.
    """

    def __init__(self, **config: Any) -> None:
        super().__init__(**_translated(KDPM2DiscreteScheduler, config))

    @property
    def num_train_timesteps(self) -> int:
        """As SGLang asks every scheduler for it."""
        return len(self)


class KDPM2AncestralScheduler(KDPM2AncestralDiscreteScheduler):
    """DPM2 with ancestral sampling.

    Args:
        seed: Of the noise, where SGLang passes no generator to a step; every rank draws the same.
        config: What the model's scheduler file holds.
    """

    def __init__(self, seed: int = 0, **config: Any) -> None:
        super().__init__(**_translated(KDPM2AncestralDiscreteScheduler, config))
        self.seed(seed)

    @property
    def num_train_timesteps(self) -> int:
        """As SGLang asks every scheduler for it."""
        return len(self)


for _each in (KDPM2Scheduler, KDPM2AncestralScheduler):
    BaseScheduler.register(_each)
    ModelRegistry.register_model(_each.__name__, _each)
