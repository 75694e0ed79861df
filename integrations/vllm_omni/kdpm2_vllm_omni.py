"""kdpm2's schedulers for vLLM-Omni, by name.

vLLM-Omni's proposed registry (its pull request 6277) finds them by the entry points `vllm_omni.schedulers`. Release
0.30 has none. There, `install` is a general plugin, and the environment variables KDPM2_SCHEDULER and KDPM2_OPTIONS say
what pipelines get when they load FlowMatchEulerDiscreteScheduler.
"""

import json
import os
from typing import Any

from kdpm2 import KDPM2AncestralDiscreteScheduler, KDPM2DiscreteScheduler


class KDPM2Scheduler(KDPM2DiscreteScheduler):
    """DPM2 without noise."""


class KDPM2AncestralScheduler(KDPM2AncestralDiscreteScheduler):
    """DPM2 with ancestral sampling, whose noise has a seed: vLLM-Omni's pipelines pass no generator to a step."""

    @classmethod
    def from_config(
        cls, config: Any = None, return_unused_kwargs: bool = False, *, seed: int = 0, **kwargs: Any
    ) -> Any:
        """As ours.

        Args:
            config: A model's scheduler configuration.
            return_unused_kwargs: Whether to return a pair, with what was not used.
            seed: Of the noise of every run. All ranks draw the same numbers.
            kwargs: Options to be set instead of what the configuration says.
        """
        made = super().from_config(config, return_unused_kwargs, **kwargs)
        scheduler: Any = made[0] if isinstance(made, tuple) else made
        scheduler.seed(seed)
        return made


SCHEDULERS: dict[str, Any] = {"kdpm2": KDPM2Scheduler, "kdpm2_ancestral": KDPM2AncestralScheduler}


def _options(text: str) -> dict[str, Any]:
    try:
        options = json.loads(text)
    except json.JSONDecodeError:
        options = None
    if not isinstance(options, dict):
        raise ValueError(f'KDPM2_OPTIONS must be a JSON object, for instance {{"seed": 0}}, got {text!r}')
    return options


def install() -> None:
    """Have pipelines that load FlowMatchEulerDiscreteScheduler load the scheduler that the environment names.

    Raises:
        ValueError: If it names another, or there are options that are no JSON object, or options and no scheduler.
    """
    name, text = os.environ.get("KDPM2_SCHEDULER"), os.environ.get("KDPM2_OPTIONS")
    if not name and not text:
        return
    if name not in SCHEDULERS:
        raise ValueError(f"KDPM2_SCHEDULER must be one of {', '.join(SCHEDULERS)}, got {name!r}")
    from diffusers import FlowMatchEulerDiscreteScheduler

    options = _options(text or "{}")

    def from_pretrained(cls: type, *args: Any, **kwargs: Any) -> Any:
        return SCHEDULERS[name].from_pretrained(*args, **options | kwargs)

    FlowMatchEulerDiscreteScheduler.from_pretrained = classmethod(from_pretrained)
