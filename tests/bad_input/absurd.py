"""Counts and lengths that no memory holds, or that no model has."""

from kdpm2 import curves
from tests.bad_input.calls import (
    EDM,
    FLOW,
    HUGE,
    KARRAS,
    TOO_MANY,
    Case,
    align_your_steps,
    construct,
    curve,
    custom,
    discrete_schedule,
    each,
    exponential,
    from_alphas_cumprod,
    from_config,
    gaussian,
    karras,
    load,
    polyexponential,
    rectified_flow,
    sample,
    sample_dpm_2,
    seed,
    set_another,
    set_begin_index,
    set_own,
    set_timesteps,
    spaced,
    spaced_flow,
    vp,
    zoo_gaussian,
)

LONGEST = "NAME must be an integer at least 1 and at most 100000, got"
HOLD_AT_MOST = "NAME must hold at most 10000[01] numbers, got more"

ABSURD: dict[str, Case] = {
    **{
        id_: case
        for context in ({}, FLOW, EDM, KARRAS, {"beta_schedule": "squaredcos_cap_v2"}, {"trained_betas": [0.1]})
        for call in (construct, from_config, load)
        for id_, case in each(call, "num_train_timesteps", [100_001, 10**400], LONGEST, **context).items()
        if context == {} or call is construct
    },
    **{
        id_: case
        for context in ({}, FLOW, EDM, KARRAS, {"timestep_spacing": "leading"}, {"timestep_spacing": "sgm_uniform"})
        for id_, case in each(set_another, "num_inference_steps", [100_001, HUGE], LONGEST, **context).items()
    },
    **each(spaced, "num_inference_steps", [HUGE], LONGEST),
    **each(spaced_flow, "num_inference_steps", [HUGE], LONGEST),
    **each(spaced, "num_train_timesteps", [HUGE], "NAME must be an integer from 1 to 1000, got"),
    **each(rectified_flow, "num_train_timesteps", [HUGE], LONGEST),
    **each(discrete_schedule, "num_train_timesteps", [HUGE], LONGEST),
    **{
        id_: case
        for call in (karras, exponential, polyexponential, vp)
        for id_, case in each(call, "n", [HUGE], LONGEST).items()
    },
    **{
        id_: case
        for kind in curves.SIGMA_CURVES
        if curves.SIGMA_CURVES[kind].has_ends
        for id_, case in each(
            curve, "count", [HUGE], "NAME must be an integer from 1 to 100001, got", kind=kind
        ).items()
    },
    **each(align_your_steps, "count", [HUGE], "NAME must be an integer from 1 to 100001, got"),
    **each(set_own, "num_inference_steps", [HUGE], "NAME must be None or the number of steps given, 1", sigmas=[1.0]),
    **each(set_timesteps, "num_train_timesteps", [HUGE, 2**70, 10**400], "NAME must be an integer from 1 to 1000, got"),
    **each(construct, "steps_offset", [HUGE, 10**400], "NAME must be an integer from 0 to 1000, got"),
    **each(set_begin_index, "begin_index", [HUGE, 10**400], "NAME must be an integer from 0 to 6, got"),
    **each(seed, "seed", [10**400], "NAME must be an integer from 0 to"),
    **each(seed, "seed", {"a list": [1] * 200_000}, "NAME must hold at most 100000 integers"),
    **{
        id_: case
        for call, name in (
            (construct, "trained_betas"),
            (from_config, "trained_betas"),
            (from_alphas_cumprod, "alphas_cumprod"),
            (set_own, "sigmas"),
            (set_own, "timesteps"),
            (custom, "sigmas"),
            (sample, "sigmas"),
            (sample_dpm_2, "sigmas"),
        )
        for id_, case in each(call, name, TOO_MANY, HOLD_AT_MOST).items()
    },
    **each(gaussian, "shape", {"a huge side": (2**80,)}, "each of NAME must be an integer from 0 to"),
    **each(zoo_gaussian, "dimensions", [0, HUGE, 10**400], "NAME must be an integer from 1 to 1000000, got"),
}
