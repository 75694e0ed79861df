r"""Where the steps of a run start: N of the trained timesteps, or of a flow's noise levels, evenly spaced.

A model of discrete timesteps has its timesteps spaced (T trained ones, N steps, i = 0 .. N-1 from the top), and their
sigmas read off. A flow has its sigmas spaced, and then shifted towards noise:

============  =====================================================================  ===================================
spacing       timestep                                                               sigma of a flow, before its shift
============  =====================================================================  ===================================
linspace      :math:`(N-1-i)\,(T-1)/(N-1)`; one step starts at :math:`T-1`           evenly from 1 to the smallest
leading       :math:`(N-1-i)\lfloor T/N \rfloor + \text{offset}`, with N at most T   none
trailing      :math:`\mathrm{round}(T - i\,T/N) - 1`, with N at most T               :math:`1 - i/N`
simple        :math:`T - 1 - \lfloor i\,T/N \rfloor`, with N at most T               :math:`1-\lfloor i\,T/N\rfloor/T`
sgm_uniform   :math:`(1 - i/N)\,(T-1)`                                               the first N of N+1 linspace ones
ddim_uniform  leading, with an offset of 1                                           (timestep + 1) / T
beta57        :math:`\mathrm{round}(F^{-1}(1-i/N)\,(T-1))`, F that of Beta(.5, .7)   (timestep + 1) / T
============  =====================================================================  ===================================

ComfyUI makes more steps of ddim_uniform where N does not divide T, and fewer of beta57 where timesteps coincide. Here
there are N: beta57 does not round where they would coincide.

The network is conditioned on float32 timesteps, so a spaced timestep is rounded to float32 before its sigma is read.

References:
    | linspace, leading, trailing: Table 2 of Common Diffusion Noise Schedules and Sample Steps are Flawed (Lin et al.,
      2023), https://arxiv.org/abs/2305.08891
    | simple, sgm_uniform, ddim_uniform: https://github.com/comfyanonymous/ComfyUI
    | beta57: Beta Sampling is All You Need (Lee et al., 2024), https://arxiv.org/abs/2407.12173, with the numbers of
      https://github.com/ClownsharkBatwing/RES4LYF
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kdpm2 import _check

Floats = NDArray[np.float64]
Limit = Literal["never", "visited", "always"]
"""When N may be at most T: never, where the starts are visited as they are, or always."""


class TimestepSpacing(NamedTuple):
    """One way to space starts.

    Attributes:
        timesteps: From (N, T, offset), the timesteps.
        timesteps_limited: When N may be at most T for them.
        levels: From (N, T, the smallest), the sigmas of a flow before its shift; None for a spacing without.
        levels_limited: When N may be at most T for them.
    """

    timesteps: Callable[[int, int, int], Floats]
    timesteps_limited: Limit = "never"
    levels: Callable[[int, int, float], Floats] | None = None
    levels_limited: Limit = "never"


def _linspace(count: int, trained: int, offset: int) -> Floats:
    if count == 1:
        return np.array([trained - 1.0])
    return np.linspace(0, trained - 1, count, dtype=np.float32)[::-1].astype(np.float64)


def _leading(count: int, trained: int, offset: int) -> Floats:
    ratio = trained // count
    # The offset may not push the first timestep past the last trained one, as it would with as many steps as timesteps.
    offset = min(offset, trained - 1 - (count - 1) * ratio)
    return np.arange(count - 1, -1, -1, dtype=np.float64) * ratio + offset


def _trailing(count: int, trained: int, offset: int) -> Floats:
    # The exact count matters: rounding of trained / count makes a half-open range one entry too long now and then.
    return np.arange(trained, 0, -trained / count)[:count].round() - 1


def _simple(count: int, trained: int, offset: int) -> Floats:
    return np.asarray(trained - 1.0 - np.arange(count) * trained // count, dtype=np.float64)


def _sgm_uniform(count: int, trained: int, offset: int) -> Floats:
    return _linspace(count + 1, trained, offset)[:-1]


def _ddim_uniform(count: int, trained: int, offset: int) -> Floats:
    return _leading(count, trained, 1)


def _beta57(count: int, trained: int, offset: int) -> Floats:
    from scipy.special import betaincinv  # as in `curves.beta`

    exact: Floats = betaincinv(0.5, 0.7, 1 - np.arange(count) / count) * (trained - 1)
    rounded = exact.round()
    return rounded if np.all(np.diff(rounded) < 0) else exact


TIMESTEP_SPACINGS: dict[str, TimestepSpacing] = {
    "linspace": TimestepSpacing(_linspace, levels=lambda count, trained, smallest: np.linspace(1, smallest, count)),
    "leading": TimestepSpacing(_leading, "always"),
    "trailing": TimestepSpacing(
        _trailing, "visited", levels=lambda count, trained, smallest: 1 - np.arange(count) / count
    ),
    "simple": TimestepSpacing(
        _simple,
        "visited",
        levels=lambda count, trained, smallest: 1 - np.arange(count) * trained // count / trained,
        levels_limited="visited",
    ),
    "sgm_uniform": TimestepSpacing(
        _sgm_uniform, levels=lambda count, trained, smallest: np.linspace(1, smallest, count + 1)[:-1]
    ),
    "ddim_uniform": TimestepSpacing(
        _ddim_uniform,
        "always",
        levels=lambda count, trained, smallest: (_ddim_uniform(count, trained, 0) + 1) / trained,
        levels_limited="always",
    ),
    "beta57": TimestepSpacing(
        _beta57, levels=lambda count, trained, smallest: (_beta57(count, trained, 0) + 1) / trained
    ),
}
_OF_FLOWS = {name: spacing.levels for name, spacing in TIMESTEP_SPACINGS.items() if spacing.levels is not None}


def checked_name(name: str) -> str:
    """`name` if there is such a spacing; ValueError otherwise."""
    return _check.choice("timestep_spacing", name, TIMESTEP_SPACINGS)


def spaced_timesteps(name: str, count: int, trained: int, offset: int, visited: bool) -> Floats:
    """The timesteps of a model of discrete timesteps at which `count` steps start.

    Args:
        name: The spacing.
        count: N, at least 1.
        trained: T, at least 1.
        offset: Added to "leading" timesteps, as far as T allows; from 0 to T.
        visited: Whether they are visited as they are, and are not the ends of a curve.

    Raises:
        TypeError: If `offset` is no integer.
        ValueError: If there is no such spacing, or too few timesteps for it.
    """
    spacing = TIMESTEP_SPACINGS[checked_name(name)]
    _check_limit(name, spacing.timesteps_limited, count, trained, visited)
    return spacing.timesteps(count, trained, _check.integer("steps_offset", offset, 0, trained))


def spaced_levels(name: str, count: int, trained: int, smallest: float, visited: bool) -> Floats:
    """The noise levels of a flow, before its shift, at which `count` steps start.

    Args:
        name: The spacing.
        count: N, at least 1.
        trained: T, at least 1.
        smallest: Last of the levels, for those that end there.
        visited: As in `spaced_timesteps`.

    Raises:
        ValueError: If there is no such spacing for flows, or too few timesteps for it.
    """
    levels = _OF_FLOWS[_check.choice("timestep_spacing", name, _OF_FLOWS)]
    _check_limit(name, TIMESTEP_SPACINGS[name].levels_limited, count, trained, visited)
    return levels(count, trained, smallest)


def _check_limit(name: str, limited: Limit, count: int, trained: int, visited: bool) -> None:
    if count > trained and (limited == "always" or (visited and limited == "visited")):
        raise ValueError(
            f"num_inference_steps must be at most num_train_timesteps={trained} with timestep_spacing={name!r}, "
            f"got {count}"
        )
