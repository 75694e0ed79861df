"""Wrong arguments of what the schedulers are made of: schedules, curves, tables, noise, loops and denoisers."""

import numpy as np
import torch

from kdpm2 import curves
from tests.bad_input.calls import (
    INF,
    NAN,
    NO_CHOICES,
    NO_FLOATS,
    NO_INTEGERS,
    NO_NUMBERS,
    NO_SEQUENCES,
    NO_TENSORS,
    NOT_BY_STEP,
    NOT_DENSE,
    NOT_POSITIVE,
    Case,
    X,
    affine,
    align_your_steps,
    call_denoiser,
    call_mixture,
    curve,
    custom,
    dpm2,
    each,
    edm,
    from_alphas_cumprod,
    gaussian,
    karras,
    mixture,
    sample,
    sample_dpm_2,
    sample_dpm_2_ancestral,
    sigma_of,
    spaced,
    timestep_of,
    variance_preserving,
    vp,
)

NOT_SIGMAS = {"zero": 0.0, "negative": -1.0, "nan": NAN, "infinite": INF, "far too large": 1e19}

MODULES: dict[str, Case] = {
    **each(
        call_denoiser, "sigma", [1.0, [1.0, 1.0], None, "1", np.ones(2)], r"NAME must be a tensor of shape \(B,\) or"
    ),
    **each(call_denoiser, "x", {"x alone": X}, "missing 1 required positional argument: 'sigma'"),
    **each(
        call_denoiser,
        "sigma",
        {label: torch.tensor([1.0, value]) for label, value in NOT_SIGMAS.items()},
        r"NAME must be a finite number above 0, from 1e-18 to 1e\+18, got",
    ),
    **each(
        call_denoiser,
        "sigma",
        {"three": torch.ones(3), "none": torch.ones(0), "two dimensions": torch.ones(2, 1)},
        r"NAME must have the shape \(2,\) or \(\) for x of 2, got",
    ),
    **each(call_denoiser, "sigma", {"truths": torch.ones(2) > 0, "complex": torch.ones(2) * 1j}, "NAME must be a flat"),
    **each(
        call_denoiser,
        "x",
        NO_TENSORS | NO_FLOATS | NOT_DENSE,
        "NAME must be (a tensor|floating point|a dense tensor|of 16 bits)",
        sigma=torch.ones(2),
    ),
    **each(sample, "callback", [1, "x", []], "NAME must be callable or None, got"),
    **each(sample, "conditioning", [1, "x", [1]], "NAME must be a mapping of keyword arguments or None, got"),
    **each(sample, "conditioning", [{1: 2}, {"x": 1}], "NAME must have names of the model's keyword arguments, got"),
    **each(sample_dpm_2, "extra_args", [1, "x", [1]], "NAME must be a mapping of keyword arguments or None, got"),
    **each(sample_dpm_2, "disable", [1, "x", []], "NAME must be True or False, got"),
    **each(sample_dpm_2_ancestral, "noise_sampler", [1, "x", []], "NAME must be callable or None, got"),
    **each(
        sample_dpm_2_ancestral,
        "noise_sampler",
        {
            "nothing": lambda sigma, following: None,
            "a part": lambda sigma, following: X[:1],
            "integers": lambda sigma, following: X.long(),
        },
        "what NAME returns must ",
    ),
    **each(sample, "sigmas", [[1.0, 0.5, 0.4999999]], "NAME must be at least 1e-6 apart with", noise="brownian"),
    **each(karras, "device", ["no such", "", 1.5, -1, ["cpu"]], "NAME must be one that torch can use here, got"),
    **each(karras, "rho", [1e-9, 1e9], "NAME must be a number from 0.1 to 100, got"),
    **each(vp, "beta_d", [1e3, 1e9], "NAME and beta_min must give an exponent of at most 80, got"),
    **{
        id_: case
        for kind in curves.SIGMA_CURVES
        if curves.SIGMA_CURVES[kind].has_ends
        for id_, case in (
            each(curve, "sigma_max", [*NOT_POSITIVE, None], "NAME must be a finite number above 0", kind=kind)
            | each(curve, "count", [0, -1, *NO_INTEGERS], "NAME must be an integer from 1 to 100001, got", kind=kind)
        ).items()
    },
    **{
        id_: case
        for kind, made in curves.SIGMA_CURVES.items()
        if made.has_ends and not made.to_zero
        for id_, case in (
            each(curve, "sigma_min", [*NOT_POSITIVE, None], "NAME must be a finite number above 0", kind=kind)
            | each(curve, "sigma_min", [20.0], "NAME must be at most sigma_max=10, got 20", kind=kind)
        ).items()
    },
    **each(curve, "rho", [0, NAN, INF, *NO_NUMBERS, None], "NAME must be a number from 0.1 to 100", kind="karras"),
    **each(curve, "alpha", [0, NAN, INF, *NO_NUMBERS, None], "NAME must be a number from 0.01 to 100", kind="beta"),
    **each(curve, "flow", [True], "sigma_max must be below 1 for a NAME model", kind="lu"),
    **each(align_your_steps, "model", NO_CHOICES, "NAME must be one of 'sd15', 'sdxl', 'svd', got"),
    **each(spaced, "schedule", [None, 5, "vp"], "NAME must be one of kdpm2.noise_schedule, got"),
    **each(spaced, "shift", [1.0, NAN, "x"], "NAME and shift_terminal must be None for a model that is no flow, got"),
    **each(spaced, "sigma_curve", ["even", "", 1, []], "NAME must be one of 'karras', "),
    **each(spaced, "tuned_sigmas", [[1.0], [1.0, 2.0], [1.0, NAN]], "NAME must hold noise levels from 1e-18"),
    **each(custom, "tuned_sigmas", ["x", 1], "NAME must be a flat list or array of numbers", sigmas=[1.0]),
    **each(custom, "sigmas", [None], "NAME or timesteps must be given, got neither"),
    **each(custom, "sigma_curve", ["even", 1], "NAME must be one of 'karras', ", sigmas=[1.0]),
    **each(from_alphas_cumprod, "alphas_cumprod", NO_SEQUENCES, "NAME must be a flat list or array of numbers"),
    **each(from_alphas_cumprod, "alphas_cumprod", [[0.5, 0.9], [NAN], [0.5, 0.0]], "betas must give NAME that"),
    **each(variance_preserving, "betas", [None, [0.1], np.ones(3)], "NAME must be a float32 array of shape"),
    **each(variance_preserving, "alphas_cumprod", [None, [0.1], np.ones(3)], "NAME must be a float32 array of shape"),
    **each(variance_preserving, "betas", {"too few": np.ones(3, dtype=np.float32)}, "NAME must be as many as alphas"),
    **each(edm, "sigma_data", [*NOT_POSITIVE, None], "NAME must be a finite number above 0"),
    **each(timestep_of, "sigma", [0.0, -1.0, NAN, [1.0, 0.0]], "NAME must be above 0, got"),
    **each(timestep_of, "sigma", ["1", None, True], "NAME must be a number or an array of numbers, got"),
    **each(sigma_of, "timestep", ["1", None, True], "NAME must be a number or an array of numbers, got"),
    **each(affine, "schedule", [None, 5, "vp"], "NAME must be one of kdpm2.noise_schedule, got"),
    **each(affine, "sigma", ["1", None, True], "NAME must be a number or an array of numbers, got"),
    **each(dpm2, "churn", [1.0, "x", (1.0, 0.0, 1.0)], "NAME must be a kdpm2.table.Churn or None, got"),
    **each(dpm2, "eta", [-1, 1001, NAN, *NOT_BY_STEP, None], "NAME must (be a (number from 0|flat list)|h(old|ave) )"),
    **each(gaussian, "shape", [None, 5, "x"], "NAME must be a tuple of integers, got"),
    **each(gaussian, "shape", [(-1,), (1.5,), ("a",), (True,)], "each of NAME must be an integer from 0 to"),
    **each(
        gaussian, "dtype", [None, "float32", torch.int64, torch.float8_e4m3fn], "NAME must be a floating-point torch"
    ),
    **each(gaussian, "device", [None, "cpu", 5], "NAME must be a torch.device, got"),
    **each(mixture, "means", NO_TENSORS | NO_FLOATS | NOT_DENSE, "NAME must be (a tensor|floating|a dense|of 16 bits)"),
    **each(mixture, "means", {"nan": X * NAN, "flat": X[0], "none": X[:0]}, "NAME must (be finite|have the shape)"),
    **each(mixture, "std", [-1, NAN, INF, *NO_NUMBERS, None], "NAME must be a number from 0 to"),
    **each(call_mixture, "x", {**NO_TENSORS, "turned": X.T}, "NAME must (be a tensor|have the shape)"),
    **each(call_mixture, "sigma", {**NO_TENSORS, "three": torch.ones(3)}, "NAME must (be a tensor|have the shape)"),
}
