"""The sampler that a caller of a loop asks for: noise levels and options, or a table of his own."""

import warnings
from numbers import Real
from typing import Any

import numpy as np

from kdpm2 import _check
from kdpm2.by_step import ByStep, by_step, shown
from kdpm2.kept import keeping_estimates
from kdpm2.noise_schedule import NoiseSchedule
from kdpm2.spacing import given
from kdpm2.table import LARGEST_SCALE, Churn, StageTable, dpm2


def asked_for(
    schedule: NoiseSchedule,
    sigmas: Any,
    prediction_type: str,
    eta: ByStep = 1.0,
    s_noise: ByStep = 1.0,
    churn: Churn | None = None,
    keep_estimate: bool = False,
) -> StageTable:
    """The sampler that a caller asks for.

    Args:
        schedule: What the model was trained on.
        sigmas: Where the steps start, and the end, as `kdpm2.spacing.given` takes them; or a `StageTable`, which stays
            as it is.
        prediction_type: As in `dpm2`.
        eta: As in `dpm2`.
        s_noise: As in `dpm2`.
        churn: As in `dpm2`.
        keep_estimate: Whether each step keeps the estimate of the step before (`kdpm2.kept`).

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range, or if another option is given with a table, which has its own.

    Warns:
        UserWarning: If the sigmas rise and `eta` is not 0. No noise is added where they do.
    """
    keeps = _check.flag("keep_estimate", keep_estimate)
    if isinstance(sigmas, StageTable):
        plain = isinstance(eta, Real) and isinstance(s_noise, Real) and eta == s_noise == 1
        if not plain or (churn is not None and churn.s_churn):
            raise ValueError("eta and s_noise must be 1, and s_churn 0, with a table, which has its own")
        if keeps and not sigmas.keeps_estimate:
            raise ValueError("keep_estimate must be False with a table, which says this itself")
        return sigmas
    steps = given(schedule, sigmas, may_rise=True)
    if np.any(by_step("eta", eta, steps.sigmas[:-1], LARGEST_SCALE)[np.diff(steps.sigmas) > 0]):
        told = f"sigmas rise, and no noise is added where they do: eta={shown(eta)} is for the steps that fall"
        warnings.warn(told, stacklevel=3)
    table = dpm2(schedule, steps, prediction_type, eta, s_noise, churn)
    return keeping_estimates(table, steps) if keeps else table
