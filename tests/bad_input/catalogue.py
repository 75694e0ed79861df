"""The catalogue of wrong arguments, configurations and files."""

import numpy as np
import torch

from kdpm2 import Denoiser, noise_schedule
from tests.bad_input.calls import (
    DYNAMIC,
    EDM,
    FLOW,
    HUGE,
    INF,
    KARRAS,
    NAN,
    NO_CHOICES,
    NO_FLAGS,
    NO_FLOAT_ARRAYS,
    NO_FLOATS,
    NO_INTEGERS,
    NO_NUMBERS,
    NO_SEQUENCES,
    NO_TENSORS,
    NO_TIMESTEPS,
    NOT_BY_STEP,
    NOT_DENSE,
    NOT_FLAT,
    NOT_POSITIVE,
    STAGES,
    WITHOUT_VALUE,
    Case,
    X,
    add_noise,
    ancestral,
    begin,
    begin_scaling,
    brownian,
    brownian_call,
    construct,
    denoiser,
    discrete,
    each,
    from_config,
    from_config_of,
    from_other_config,
    guided,
    guided_call,
    identity,
    index_for_timestep,
    karras,
    load,
    load_config_of,
    load_other,
    sample,
    sample_dpm_2,
    sample_dpm_2_ancestral,
    scale_model_input,
    scale_noise,
    seed,
    set_another,
    set_begin_index,
    set_brownian,
    set_own,
    set_timesteps,
    step,
    step_arrays,
    step_both,
    vp,
)
from tests.bad_input.modules import MODULES

CONSTRUCTOR: dict[str, Case] = {
    **each(construct, "num_train_timesteps", [0, -1, *NO_INTEGERS], "NAME must be an integer at least 1, got"),
    **each(construct, "num_train_timesteps", [0, -1, "1"], "NAME must be an integer at least 1, got", **FLOW),
    **{
        id_: case
        for name in ("beta_start", "beta_end")
        for id_, case in (
            each(construct, name, [-0.1, 2, NAN, INF, *NO_NUMBERS, None], "^NAME must be a number from 0 to 1, got")
            | each(construct, name, [0, 1], "NAME=.*every beta must lie between 0 and 1, both excluded, got")
        ).items()
    },
    **each(construct, "beta_start", [1e-30], "betas must give alphas_cumprod that decrease strictly.*check beta_start"),
    **each(construct, "beta_schedule", NO_CHOICES, "NAME must be one of 'linear', 'scaled_linear', 'squ"),
    **each(construct, "trained_betas", NO_SEQUENCES, "NAME must be a flat list or array of numbers|NAME must hold"),
    **each(construct, "trained_betas", NOT_FLAT, "NAME must hold at least one number in one dimension"),
    **each(construct, "trained_betas", [[0.1]], "NAME must be None for a flow or an EDM model", **FLOW),
    **each(construct, "trained_betas", [[0.1]], "NAME must be None for a flow or an EDM model", **EDM),
    **each(construct, "timestep_spacing", NO_CHOICES, "NAME must be one of 'linspace', ", **FLOW),
    **each(construct, "base_shift", [NAN, INF, 10**400, *NO_NUMBERS], "NAME must be a finite number", **FLOW),
    **each(construct, "max_shift", [NAN, INF, 10**400, *NO_NUMBERS], "NAME must be a finite number", **FLOW),
    **each(construct, "base_image_seq_len", [0, -1, 256.0, "1", True], "NAME must be an integer from", **FLOW),
    **each(construct, "max_image_seq_len", [0, -1, HUGE, 4096.0, "1"], "NAME must be an integer from", **FLOW),
    **each(construct, "max_image_seq_len", [256], "NAME must differ from base_image_seq_len, got 256", **FLOW),
    **each(construct, "discard_next_to_last_sigma", [*NO_FLAGS, None], "NAME must be True or False"),
    **each(construct, "final_sigmas_type", NO_CHOICES, "NAME must be one of 'zero', 'sigma_min', got"),
    **each(
        construct,
        "trained_betas",
        {
            label: np.array([0.001] * 999 + [value], dtype=np.float64)
            for label, value in {"nan": NAN, "inf": INF, "0": 0.0, "1": 1.0, "-1": -1.0}.items()
        },
        "NAME: every beta must lie between 0 and 1, both excluded, got",
    ),
    **each(construct, "trained_betas", {"too large": [0.5] * 1000}, "must give alphas_cumprod.*check.* trained_betas"),
    **{
        id_: case
        for name in (
            "use_karras_sigmas",
            "use_exponential_sigmas",
            "use_beta_sigmas",
            "use_polyexponential_sigmas",
            "use_lu_lambdas",
            "rescale_betas_zero_snr",
            "use_flow_sigmas",
            "use_dynamic_shifting",
        )
        for id_, case in each(construct, name, NO_FLAGS, "NAME must be True or False, got").items()
    },
    **each(construct, "prediction_type", NO_CHOICES, "NAME must be one of 'epsilon', 'sample', 'v_prediction'"),
    **each(
        construct, "timestep_spacing", NO_CHOICES, "NAME must be one of 'linspace', 'leading', 'trailing', 'simple'"
    ),
    **each(construct, "timestep_spacing", ["leading"], "NAME must be one of 'linspace', 'trailing', 'simple'", **FLOW),
    **each(construct, "steps_offset", [-1, 1001, *NO_INTEGERS], "NAME must be an integer from 0 to 1000, got"),
    **each(construct, "ays_sigmas", ["sd3", "", 1, True, []], "NAME must be one of 'sd15', 'sdxl', 'svd', got"),
    **each(construct, "ays_sigmas", ["sd15"], "ays_sd15 sigmas must be at most 1 for a flow model, got 14.615", **FLOW),
    **each(construct, "ays_sigmas", ["sd15"], "rho must be None for ays_sd15 sigmas, got 3", rho=3.0),
    **each(construct, "ays_sigmas", ["sd15"], "only one of .* may be set, got use_karras_sigmas, NAME", **KARRAS),
    **each(
        construct,
        "tuned_sigmas",
        [5, "sd15", True, ["a", "b"], [[2.0, 1.0]]],
        "NAME must be a flat list or array of numbers",
    ),
    **each(
        construct,
        "tuned_sigmas",
        [[], [1.0], [1.0, 2.0], [2.0, 2.0], [2.0, 0.0], [2.0, -1.0], [NAN, 1.0], [INF, 1.0], [2.0, NAN]],
        "NAME must hold (noise levels from 1e-18|at least one number)",
    ),
    **each(construct, "tuned_sigmas", [[2.0, 1.0]], r"NAME must hold noise levels from 1e-18 to 1 .*, got", **FLOW),
    **each(construct, "tuned_sigmas", [[2.0, 1.0]], "rho must be None for tuned sigmas, got 3", rho=3.0),
    **each(construct, "tuned_sigmas", [[2.0, 1.0]], "only one of .* may be set, got use_karras_sigmas, NAME", **KARRAS),
    **each(construct, "use_beta_sigmas", [True], "only one of .* may be set, got use_karras_sigmas, NAME", **KARRAS),
    **each(construct, "sigma_min", NOT_POSITIVE, "NAME must be a (finite )?number (from 0|above 0)", **KARRAS),
    **each(construct, "sigma_max", NOT_POSITIVE, "NAME must be a (finite )?number (from 0|above 0)", **KARRAS),
    **each(construct, "sigma_min", [0, NAN, "1"], "NAME must be a (finite )?number (from 0|above 0)", **EDM),
    **each(construct, "sigma_max", [0, NAN, "1"], "NAME must be a (finite )?number (from 0|above 0)", **EDM),
    **each(construct, "sigma_min", [1.0], "NAME, sigma_max and rho must be None without a curve"),
    **each(construct, "sigma_max", [1.0], "sigma_min, NAME and rho must be None without a curve"),
    **each(construct, "rho", [7.0], "sigma_min, sigma_max and NAME must be None without a curve"),
    **each(construct, "sigma_min", [5.0], "NAME must be below sigma_max=1, got 5", sigma_max=1.0, **KARRAS),
    **each(construct, "sigma_min", [1.0], "NAME must be below sigma_max=1, got 1", sigma_max=1.0, **KARRAS),
    **each(construct, "sigma_min", [100.0], "sigma_max must be above NAME=100, got 80", **EDM),
    **each(construct, "sigma_max", [2.0], "NAME must be at most 1 for a flow model, got 2", **KARRAS, **FLOW),
    **each(construct, "use_lu_lambdas", [True], "sigma_max must be below 1 .* with use_lu_lambdas", **FLOW),
    **each(construct, "rho", [0, 0.01, 101, -1, NAN, INF, *NO_NUMBERS], "NAME must be a number from 0.1 to", **KARRAS),
    **each(construct, "rho", [7.0], "NAME must be None for exponential sigmas", use_exponential_sigmas=True),
    **each(construct, "rescale_betas_zero_snr", [True], "NAME must be False for 1 timestep", num_train_timesteps=1),
    **each(construct, "timestep_type", NO_CHOICES, "NAME must be one of 'discrete', 'continuous', got"),
    **each(construct, "flow_shift", [*NOT_POSITIVE, None], "NAME must be a (finite )?number (from 0|above 0)", **FLOW),
    **each(construct, "flow_shift", [2.0, NAN, "3", None, [3.0]], "NAME, .* must be 1, .* for a model that is no flow"),
    **each(construct, "use_dynamic_shifting", [True], "NAME .* must be 1, False .* for a model that is no flow"),
    **each(construct, "shift_terminal", [0.1, NAN], "NAME must be 1, False and None for a model that is no flow"),
    **each(
        construct, "shift_terminal", [-0.1, 1.1, NAN, INF, *NO_NUMBERS], "NAME must be a number from 0 to 1", **FLOW
    ),
    **each(construct, "shift_terminal", [0, 1], "NAME must be above 0 and below the first sigma", **FLOW),
    **each(construct, "time_shift_type", NO_CHOICES, "NAME must be one of 'exponential', 'linear', got"),
    **each(construct, "sigma_data", NOT_POSITIVE, "NAME must be a (finite )?number (from 0|above 0)"),
    **each(construct, "sigma_data", [0.5], "NAME must be None for a flow model, got 0.5", **FLOW),
    **each(
        construct,
        "s_noise",
        [-0.1, 1001, NAN, INF, *NOT_BY_STEP, None],
        "NAME must (be a (number from 0|flat list)|h(old|ave) )",
    ),
    **each(construct, "shift", [1.0], "unexpected keyword argument 'NAME'"),
    **each(
        ancestral,
        "eta",
        [-0.1, 1.1, NAN, INF, *NOT_BY_STEP, None],
        "NAME must (be a (number from 0|flat list)|h(old|ave) )",
    ),
    **each(
        ancestral, "noise", [*NO_CHOICES, "Gaussian"], "NAME must be one of 'gaussian', 'brownian', 'philox', .*got"
    ),
    **each(discrete, "s_churn", [-1, NAN, *NO_NUMBERS, None], "NAME must be a number from 0 to inf, got"),
    **each(discrete, "s_tmin", [-1, NAN, *NO_NUMBERS, None], "NAME must be a number from 0 to inf, got"),
    **each(discrete, "s_tmax", [-1, NAN, *NO_NUMBERS], "NAME must be a number from 0 to inf, got"),
}

SET_TIMESTEPS: dict[str, Case] = {
    **each(set_own, "num_inference_steps", [0, -1, *NO_INTEGERS], "NAME must be an integer at least 1"),
    **each(
        set_another, "num_inference_steps", [1001], "NAME must be at most num_train_time", timestep_spacing="leading"
    ),
    **each(
        set_another, "num_inference_steps", [1001], "NAME must be at most num_train_time", timestep_spacing="simple"
    ),
    **each(
        set_timesteps,
        "num_train_timesteps",
        [0, -1, 1001, *(value for value in NO_INTEGERS if value is not None)],
        "NAME must be an integer from 1 to 1000, got",
    ),
    **each(set_another, "num_train_timesteps", [10], "NAME must be None for a flow model, got 10", **FLOW),
    **each(set_another, "num_train_timesteps", [10], "NAME must be None for an EDM model, got 10", **EDM),
    **each(set_own, "num_train_timesteps", [10], "NAME must be None with sigmas", sigmas=[1.0]),
    **each(set_timesteps, "device", ["no such", "", 1.5, -1, ["cpu"]], "NAME must be one that torch can use here, got"),
    **{
        id_: case
        for name in ("sigmas", "timesteps")
        for id_, case in (
            each(set_own, name, NO_SEQUENCES, "^NAME must be a flat list or array of numbers, got")
            | each(set_own, name, NOT_FLAT, "^NAME must hold at least one number in one dimension, got")
            | each(set_own, name, WITHOUT_VALUE, "^NAME must all be finite numbers from 0 to")
            | each(set_own, name, [[1.0, 2.0], [1.0, 1.0], [1.0, 0.0, 0.0]], "^NAME must fall strictly, got")
        ).items()
    },
    **each(set_own, "sigmas", [[0.0]], "NAME must hold at least one noise level above 0, got none"),
    **each(set_own, "timesteps", [[2, 1]], "NAME must be as many as sigmas, 1 above 0, got 2", sigmas=[1.0]),
    **each(set_own, "timesteps", [[1000, 500], [500, -1]], "NAME must all be finite numbers from 0 to 999, got"),
    **each(set_another, "sigmas", [[2.0, 1.0]], "NAME must all be finite numbers from 0 to 1, got 2", **FLOW),
    **each(
        set_own,
        "num_inference_steps",
        [3, -1, "2", True, NAN, [2], np.array([2, 2])],
        "NAME must be (None or the number of steps given, 2|an integer at least 1), got",
        sigmas=[2.0, 1.0],
    ),
    **each(set_another, "mu", [None, NAN, *NO_NUMBERS], "NAME must be a (finite )?number", **DYNAMIC),
    **each(set_timesteps, "mu", [NAN, INF, *NO_NUMBERS], "NAME must be a finite number, got"),
    **each(
        set_brownian,
        "sigmas",
        [[1.0, 0.5, 0.4999999], [1.0, 0.4999999, 0.4999998]],
        "NAME must be at least 1e-6 apart with noise='brownian', got",
    ),
    **each(set_own, "sigmas", [[1e19, 1.0], [1.0, 1e-19]], "NAME must (all be finite|give noise levels of at least)"),
    **each(set_another, "mu", [INF, -INF, 1e9, -1e9], "NAME.* must be .*finite", **DYNAMIC),
    **each(set_another, "mu", [0, -1, INF], "NAME must be .*number", **DYNAMIC, time_shift_type="linear"),
    **each(set_timesteps, "shift", [3.0], "unexpected keyword argument 'NAME'"),
}

# Refused between the two stages of a step; between two steps a batch may change.
IN_STEP: dict[str, Case] = {
    **each(
        step_both,
        "sample",
        {"turned": X.T, "empty": X[:0], "a part": X[:1]},
        "NAME must keep the shape and device that it had when this step began",
    ),
}

STEP: dict[str, Case] = {
    **{
        id_: case
        for call, name in ((step, "sample"), (step, "model_output"), (scale_model_input, "sample"))
        for id_, case in (
            each(call, name, NO_TENSORS, "^NAME must be a tensor, or all samples NumPy arrays, got")
            | each(call, name, NO_FLOATS, r"^NAME must be floating point, got torch\.")
            | each(call, name, NOT_DENSE, "^NAME must be (a dense tensor|of 16 bits at least), got")
        ).items()
    },
    **each(scale_model_input, "sample", NO_FLOAT_ARRAYS, "NAME must be (floating point|of 64 bits|an array without)"),
    **{
        id_: case
        for name in ("sample", "model_output")
        for id_, case in each(
            step_arrays, name, NO_FLOAT_ARRAYS, "NAME must be (floating point|of 64 bits|an array without)"
        ).items()
    },
    **each(step, "return_dict", [0, 1, None, "no"], "NAME must be True or False, got"),
    **each(step, "sample", {"an array": X.numpy()}, "NAME must be a tensor, or all samples NumPy arrays, got"),
    **each(step, "model_output", {"an array": X.numpy()}, "NAME must be a tensor, or all samples NumPy arrays, got"),
    **each(
        step,
        "sample",
        {"flat": X[0], "one": X[:1], "none": X[:0], "turned": X.T, "elsewhere": X.to("meta")},
        "NAME must keep the shape and device that it had when this step began",
    ),
    **each(step, "model_output", {"one": X[:1], "none": X[:0]}, r"NAME must have the shape of sample, \(2, 3\), got"),
    **each(step, "model_output", {"elsewhere": X.to("meta")}, "NAME must be on the device of sample, cpu, got meta"),
    **IN_STEP,
    **{
        id_: case
        for call in (step, scale_model_input)
        for id_, case in (
            each(call, "timestep", [-1.0, NAN, INF, 998.5], "NAME must be that of stage")
            | each(call, "timestep", NO_TIMESTEPS, "NAME must be a number or a tensor of numbers, got")
            | each(call, "timestep", {"too large": 10**400}, "NAME must hold numbers that fit into a float, got")
            | each(call, "timestep", {"empty": [], "no array": np.ones(0)}, "NAME must hold at least one number")
        ).items()
    },
    **{
        id_: case
        for call in (begin, begin_scaling)
        for id_, case in (
            each(
                call, "timestep", [-1.0, NAN, INF, 998.5], "NAME must be one of the 7 in scheduler.timesteps, from 999"
            )
            | each(call, "timestep", NO_TIMESTEPS, "NAME must be a number or a tensor of numbers, got")
            | each(call, "timestep", {"two": torch.tensor([999.0, 0.0])}, "NAME must be the same for every sample, got")
            | each(
                call, "timestep", {"empty": torch.ones(0), "no list": []}, "NAME must hold at least one number in one"
            )
        ).items()
    },
    "step timestep of another stage": (
        lambda scheduler: step(scheduler, timestep=scheduler.timesteps[(scheduler.step_index + 2) % STAGES]),
        "timestep must be that of stage .* at which this run stands, got",
    ),
    "scale_model_input timestep of another stage": (
        lambda scheduler: scale_model_input(scheduler, timestep=scheduler.timesteps[scheduler.step_index - 1]),
        "timestep must be that of stage .* at which this run stands, got",
    ),
    **each(step, "steps", [1], "unexpected keyword argument 'NAME'"),
}

# Refused where a stage adds noise, and ignored elsewhere.
GENERATOR: dict[str, Case] = {
    **each(
        step,
        "generator",
        {
            "a number": 5,
            "text": "g",
            "numbers": [5],
            "none": [None],
            "one none": [torch.Generator(), None],
            "numpy": np.random.RandomState(0),
            "true": True,
        },
        "NAME must be a torch.Generator or a list of them, got",
    ),
    **each(
        step,
        "generator",
        {"empty": [], "three": [torch.Generator() for _ in range(3)], "no tuple": ()},
        r"NAME must be one generator or a list of one a sample, got \d generators or seeds for a sample of shape",
    ),
}

METHODS: dict[str, Case] = {
    **{
        id_: case
        for name in ("original_samples", "noise")
        for id_, case in (
            each(add_noise, name, NOT_DENSE, "^NAME must be (a dense tensor|of 16 bits at least), got")
            | each(add_noise, name, NO_TENSORS, "^NAME must be a tensor, or all samples NumPy arrays, got")
            | each(add_noise, name, NO_FLOATS, r"^NAME must be floating point, got torch\.")
        ).items()
    },
    **each(
        add_noise, "noise", {"turned": X.T, "none": X[:0]}, r"NAME must have a shape that broadcasts with original_s"
    ),
    **each(add_noise, "noise", {"elsewhere": X.to("meta")}, "NAME must be on the device of original_samples, cpu, got"),
    **each(add_noise, "timesteps", [-1.0, NAN, INF, 998.5], "timestep must be one of the 7 in scheduler.timesteps"),
    **each(add_noise, "timesteps", NO_TIMESTEPS, "timestep must be a number or a tensor of numbers, got"),
    **each(index_for_timestep, "timestep", NO_TIMESTEPS, "NAME must be a number or a tensor of numbers, got"),
    **each(
        add_noise, "timesteps", {"3": torch.zeros(3), "0": torch.ones(0)}, "NAME must hold one timestep, or one a sam"
    ),
    **each(scale_noise, "noise", {**NO_TENSORS, **NO_FLOATS}, "NAME must be (a tensor|floating point)"),
    **each(scale_noise, "timestep", [-1.0, NAN, None, "999"], "NAME must be (one of the 7|a number or a tensor)"),
    **each(
        seed, "seed", [-1, 2**64, *(value for value in NO_INTEGERS if value not in (None, [1]))], "NAME must be an int"
    ),
    **each(seed, "seed", [{}, np.array(1.5), torch.tensor(1.5)], "NAME must be an integer from 0 to"),
    **each(seed, "seed", {"none": [], "no array": np.array([])}, "NAME must be an integer or hold one for each sample"),
    **each(
        seed, "seed", [[1, -1], [None], [True], [1, [2]], np.array([1.5])], "each of NAME must be an integer from 0"
    ),
    **each(set_begin_index, "begin_index", [-1, STAGES, *NO_INTEGERS], "NAME must be an integer from 0 to 6, got"),
    **each(index_for_timestep, "timestep", [-1.0, NAN, 998.5], "NAME must be one of the 7 in scheduler.timesteps"),
    **each(
        index_for_timestep, "timestep", {"two": torch.tensor([999.0, 999.0])}, "NAME must be one( of the 7|.*, got 2)"
    ),
}

FUNCTIONS: dict[str, Case] = {
    **each(
        sample,
        "x",
        {**NO_TENSORS, **NO_FLOATS, "an array": X.numpy(), "a scalar": torch.tensor(1.0)},
        "NAME must be a floating-point tensor of shape",
    ),
    **each(sample, "sigmas", NO_SEQUENCES, "NAME must be a flat list or array of numbers, got"),
    **each(sample, "sigmas", NOT_FLAT, "NAME must hold at least one number in one dimension, got"),
    **each(sample, "sigmas", {**WITHOUT_VALUE, "two zeros": [1.0, 0.0, 0.0]}, "NAME must be finite numbers above 0"),
    **each(sample, "sigmas", [[2.0, 0.0]], "NAME must be finite numbers above 0, from 1e-18 and at most 1", flow=True),
    **{
        id_: case
        for call, name in (
            (sample, "eta"),
            (sample, "s_noise"),
            (sample_dpm_2_ancestral, "eta"),
            (sample_dpm_2_ancestral, "s_noise"),
            (sample_dpm_2, "s_noise"),
            (guided, "scale"),
        )
        for id_, case in each(
            call,
            name,
            [-1, 1001, NAN, INF, *NOT_BY_STEP, None],
            "NAME must (be a (number from 0|flat list)|h(old|ave) )",
        ).items()
    },
    **{
        id_: case
        for name in ("s_churn", "s_tmin", "s_tmax")
        for id_, case in each(
            sample_dpm_2, name, [-1, NAN, *NO_NUMBERS, None], "NAME must be a number from 0 to inf, got"
        ).items()
    },
    **each(sample, "seeds", [-1, 2**64, 1.5, "1", True], "NAME must be an integer from 0 to"),
    **each(sample, "seeds", [[]], "NAME must be an integer or hold one for each sample, got none"),
    **each(sample, "seeds", [[1, 2, 3]], "NAME must be one seed, or one for each of the 2 samples, got 3"),
    **each(
        sample, "seeds", [[1, 2, 3]], "NAME must be one seed, or one for each of the 2 samples, got 3", noise="brownian"
    ),
    **each(sample, "noise", NO_CHOICES, "NAME must be one of 'gaussian', 'brownian', 'philox', .*got"),
    **each(sample, "mode", NO_CHOICES, "NAME must be one of 'eager', 'compile', 'graph', got"),
    **each(sample, "progress", [1, "x", None, []], "NAME must be True or False, got"),
    **each(sample, "flow", [1, "x", []], "NAME must be True or False, got"),
    **each(
        sample,
        "flow",
        [False],
        "NAME must be None or True for this denoiser, got False",
        denoiser=Denoiser(identity, noise_schedule.RectifiedFlow(), "flow_prediction"),
    ),
    **each(sample, "denoiser", [None, 5, "model", []], "network must be callable, got"),
    **each(
        sample,
        "denoiser",
        {
            "turned": lambda x, sigma: x.T,
            "a part": lambda x, sigma: x[:1],
            "an array": lambda x, sigma: x.numpy()[None],
        },
        "the model must return a tensor with the shape of x",
    ),
    **each(denoiser, "network", [None, 5, "model", []], "NAME must be callable, got"),
    **each(denoiser, "schedule", [None, 5, "flow", []], "NAME must be one of kdpm2.noise_schedule, got"),
    **each(denoiser, "prediction_type", ["sample", *NO_CHOICES], "NAME must be one of 'epsilon', 'v_prediction'"),
    **each(guided, "model", [None, 5, "model", []], "network must be callable, got"),
    **each(guided_call, "cond", [None, 5, "a", [1]], r"\bNAME\b.* a tensor or a mapping of keyword arguments, got"),
    **each(
        guided_call,
        "uncond",
        {"none": None, "a number": 5},
        r"\bNAME\b.* a tensor or a mapping of keyword arguments, got",
    ),
    **each(guided_call, "uncond", {"a part": X[:1]}, r"cond must be a tensor of shape \(2, ...\) in cond and uncond"),
    **each(guided_call, "uncond", {"other names": {"c": X}}, "cond must have the same names in cond and uncond, got"),
    **each(brownian, "seeds", [-1, 2**64, 1.5, "1", True], "NAME must be an integer from 0 to"),
    **each(brownian, "seeds", [[1], [1, 2, 3]], "NAME must hold one for each sample of shape"),
    **each(brownian, "sigma_min", [-1.0, NAN, INF, *NO_NUMBERS, None], r"NAME must be a number from 0 to 1e\+18, got"),
    **each(brownian, "sigma_min", [1.0, 2.0], "sigma_max must be above NAME=.* by at least 1e-6, got 1"),
    **each(brownian, "sigma_max", [-1.0, NAN, INF, *NO_NUMBERS, None], r"NAME must be a number from 0 to 1e\+18, got"),
    **each(brownian, "sigma_max", [0.0, 1e-9], "NAME must be above sigma_min=0 by at least 1e-6, got"),
    **each(brownian, "like", NO_TENSORS | NO_FLOATS | NOT_DENSE, "NAME must be (a tensor|floating|a dense|of 16 bits)"),
    **each(brownian_call, "sigma", [-1.0, 2.0], "NAME and sigma_next must lie between 0 and 1, got"),
    **each(brownian_call, "sigma", [NAN, INF, *NO_NUMBERS, None], "NAME must be a finite number, got"),
    **each(brownian_call, "sigma_next", [1.0], "sigma and NAME must be at least 1e-6 apart, got"),
    **each(karras, "n", [0, -1, *NO_INTEGERS], "NAME must be an integer at least 1, got"),
    **each(karras, "sigma_min", [*NOT_POSITIVE, None], "NAME must be a (finite )?number (from 0|above 0)"),
    **each(karras, "sigma_max", [*NOT_POSITIVE, None], "NAME must be a (finite )?number (from 0|above 0)"),
    **each(karras, "sigma_min", [20.0], "NAME must be at most sigma_max=10, got 20"),
    **each(karras, "rho", [*NOT_POSITIVE, None], "NAME must be a (finite )?number (from 0|above 0)"),
    **each(vp, "n", [0, -1, *NO_INTEGERS], "NAME must be an integer at least 1, got"),
    **each(vp, "beta_d", [0, NAN, "1", None], "NAME must be a (finite )?number (from 0|above 0)"),
    **each(vp, "beta_min", [-1, NAN, "1", None], "NAME must be a number from 0 to inf, got"),
    **each(vp, "eps_s", [0, NAN, "1", None], "NAME must be a (finite )?number (from 0|above 0)"),
}

CONFIGURATIONS: dict[str, Case] = {
    **{
        id_: case
        for call in (from_config, load)
        for id_, case in (
            each(
                call, "num_train_timesteps", [0, None, "1000", 1000.0, True], "NAME must be an integer at least 1, got"
            )
            | each(call, "beta_end", [NAN, INF, -INF, "0.1", None, [], {}], "NAME must be a number from 0 to 1, got")
            | each(
                call,
                "trained_betas",
                ["a", {"a": 1}, ["a"], [True], [[0.1]], 0.1],
                "NAME must be a flat list or array of numbers, got",
            )
            | each(call, "use_karras_sigmas", [1, "yes"], "NAME must be True or False, got")
            | each(call, "prediction_type", ["noise", None], "NAME must be one of 'epsilon', 'sample', 'v_prediction'")
            | each(call, "beta_schedule", ["cubic", None], "NAME must be one of 'linear', 'scaled_linear', 'squaredcos")
        ).items()
    },
    **{
        id_: case
        for call in (from_other_config, load_other)
        for id_, case in (
            each(call, "invert_sigmas", [True], "NAME must be False: these samplers go from noise to data", shift=1.0)
            | each(call, "shift", ["x", 0, -1.0, NAN, None], "flow_shift must be a (finite )?number (from 0|above 0)")
            | each(call, "shift_terminal", ["x", -1.0], "NAME must be a number from 0 to 1, got", shift=1.0)
            | each(
                call, "sigma_schedule", ["linear", None, []], "NAME must be one of 'karras', 'exponential', got", **EDM
            )
            | each(
                call, "sigma_data", [0.5], "config must be of a scheduler whose models .* know, got that of one with"
            )
        ).items()
    },
    **{
        id_: case
        for name in ("CosineDPMSolverMultistepScheduler", "CMStochasticIterativeScheduler")
        for call in (from_config_of, load_config_of)
        for id_, case in each(
            call, "name", [name], "config must be of a scheduler whose models these samplers know, got that of"
        ).items()
    },
    **each(load_other, "_class_name", [5, None, {}], "`NAME` is of type string"),
}

GROUPS = (CONSTRUCTOR, SET_TIMESTEPS, STEP, GENERATOR, METHODS, FUNCTIONS, MODULES, CONFIGURATIONS)
CATALOGUE: dict[str, Case] = {id_: case for group in GROUPS for id_, case in group.items()}
