"""A catalogue of wrong arguments, configurations and files: each is refused in words, and a run goes on undisturbed.

A case is a call that is given a scheduler in mid-run, and the message with which it has to be refused.
"""

import inspect
import json
import logging
import math
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import diffusers
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import kdpm2
from kdpm2 import Denoiser, noise_schedule, sampling
from kdpm2 import KDPM2AncestralDiscreteScheduler as Ancestral
from kdpm2 import KDPM2DiscreteScheduler as Discrete
from kdpm2.noise import Brownian
from tests import oracle

Case: TypeAlias = tuple[Callable[[Any], object], str]

# Both add noise in the second stage of each step.
RUNS: dict[str, Callable[[], Any]] = {"ancestral": Ancestral, "discrete": lambda: Discrete(s_churn=2.0)}
STEPS, STAGES = 4, 7
REFUSED = (TypeError, ValueError)

NAN, INF, HUGE = math.nan, math.inf, 10**12
X = torch.linspace(-1, 1, 6).reshape(2, 3)
FLOW: dict[str, Any] = {"prediction_type": "flow_prediction"}
EDM: dict[str, Any] = {"sigma_data": 0.5}
KARRAS: dict[str, Any] = {"use_karras_sigmas": True}
DYNAMIC: dict[str, Any] = {**FLOW, "use_dynamic_shifting": True}


def each(
    call: Callable[..., object], name: str, values: Mapping[str, Any] | Iterable[Any], message: str, **context: Any
) -> dict[str, Case]:
    """A case for each wrong value of the argument `name`, by its id."""
    labelled = values if isinstance(values, Mapping) else {repr(value)[:40]: value for value in values}
    where = f" with {', '.join(f'{key}={value!r}' for key, value in context.items())}" if context else ""

    def case(value: Any) -> Callable[[Any], object]:
        return lambda scheduler: call(scheduler, **{name: value}, **context)

    return {
        f"{call.__name__} {name}={label}{where}": (case(value), message.replace("NAME", name))
        for label, value in labelled.items()
    }


def construct(scheduler: Any, **options: Any) -> object:
    return type(scheduler)(**options)


def construct_of_ten_million_betas(scheduler: Any, beta: float) -> object:
    return construct(scheduler, trained_betas=np.full(10**7, beta, dtype=np.float32))


def ancestral(scheduler: Any, **options: Any) -> object:
    return Ancestral(**options)


def discrete(scheduler: Any, **options: Any) -> object:
    return Discrete(**options)


def from_config(scheduler: Any, **words: Any) -> object:
    return type(scheduler).from_config(scheduler.config, **words)


def from_other_config(scheduler: Any, **words: Any) -> object:
    return type(scheduler).from_config(words)


def loaded(cls: Any, text: bytes) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "scheduler_config.json").write_bytes(text)
        return cls.from_pretrained(folder)


def load(scheduler: Any, **words: Any) -> object:
    return loaded(type(scheduler), json.dumps({**json.loads(type(scheduler)().to_json_string()), **words}).encode())


def from_config_of(scheduler: Any, name: str) -> object:
    return type(scheduler).from_config(getattr(diffusers, name)().config)


def load_config_of(scheduler: Any, name: str) -> object:
    return loaded(type(scheduler), getattr(diffusers, name)().to_json_string().encode())


def load_other(scheduler: Any, **words: Any) -> object:
    return loaded(type(scheduler), json.dumps(words).encode())


def set_timesteps(scheduler: Any, **arguments: Any) -> object:
    return scheduler.set_timesteps(**{"num_inference_steps": 5, **arguments})


def set_own(scheduler: Any, **arguments: Any) -> object:
    return scheduler.set_timesteps(**arguments)


SET_BY_RUNS = set(inspect.signature(Ancestral.set_timesteps).parameters)


def set_another(scheduler: Any, **arguments: Any) -> object:
    """`set_timesteps` of a scheduler of the same class with other options."""
    options = {name: arguments.pop(name) for name in set(arguments) - SET_BY_RUNS}
    return type(scheduler)(**options).set_timesteps(**{"num_inference_steps": 5, **arguments})


def now(scheduler: Any) -> torch.Tensor:
    timestep: torch.Tensor = scheduler.timesteps[scheduler.step_index]
    return timestep


def step(scheduler: Any, **arguments: Any) -> object:
    return scheduler.step(**{"model_output": X, "timestep": now(scheduler), "sample": X, **arguments})


def step_both(scheduler: Any, sample: Any) -> object:
    return scheduler.step(sample, now(scheduler), sample)


def scale_model_input(scheduler: Any, **arguments: Any) -> object:
    return scheduler.scale_model_input(**{"sample": X, "timestep": now(scheduler), **arguments})


def another(scheduler: Any) -> Any:
    made = type(scheduler)()
    made.set_timesteps(STEPS)
    return made


def begin(scheduler: Any, **arguments: Any) -> object:
    return another(scheduler).step(**{"model_output": X, "sample": X, **arguments})


def begin_scaling(scheduler: Any, **arguments: Any) -> object:
    return another(scheduler).scale_model_input(**{"sample": X, **arguments})


def add_noise(scheduler: Any, **arguments: Any) -> object:
    timesteps = scheduler.timesteps[:1]
    return scheduler.add_noise(**{"original_samples": X, "noise": X, "timesteps": timesteps, **arguments})


def scale_noise(scheduler: Any, **arguments: Any) -> object:
    return scheduler.scale_noise(**{"sample": X, "noise": X, "timestep": scheduler.timesteps[:1], **arguments})


def seed(scheduler: Any, **arguments: Any) -> object:
    return scheduler.seed(**arguments)


def set_begin_index(scheduler: Any, **arguments: Any) -> object:
    return scheduler.set_begin_index(**arguments)


def index_for_timestep(scheduler: Any, **arguments: Any) -> object:
    return scheduler.index_for_timestep(**arguments)


def identity(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    return x


def sample(scheduler: Any, **arguments: Any) -> object:
    return kdpm2.sample(**{"denoiser": identity, "x": X, "sigmas": [2.0, 1.0, 0.0], **arguments})


def sample_dpm_2_ancestral(scheduler: Any, **arguments: Any) -> object:
    wanted: dict[str, Any] = {"model": identity, "x": X, "sigmas": [2.0, 1.0, 0.0], "disable": True, **arguments}
    return sampling.sample_dpm_2_ancestral(**wanted)


def sample_dpm_2(scheduler: Any, **arguments: Any) -> object:
    wanted: dict[str, Any] = {"model": identity, "x": X, "sigmas": [2.0, 1.0, 0.0], "disable": True, **arguments}
    return sampling.sample_dpm_2(**wanted)


def denoiser(scheduler: Any, **arguments: Any) -> object:
    return Denoiser(**{"network": identity, "schedule": noise_schedule.EDM(), **arguments})


def guided(scheduler: Any, **arguments: Any) -> object:
    return kdpm2.guided(**{"model": identity, "scale": 2.0, **arguments})


def guided_call(scheduler: Any, **halves: Any) -> object:
    return kdpm2.guided(lambda x, sigma, cond: x, 2.0)(X, torch.ones(2), **{"cond": X, "uncond": X, **halves})


def brownian(scheduler: Any, **arguments: Any) -> object:
    return Brownian(**{"like": X, "sigma_min": 0.0, "sigma_max": 1.0, "seeds": 1, **arguments})


def brownian_call(scheduler: Any, **arguments: Any) -> object:
    return Brownian(X, 0.0, 1.0, 1)(**{"sigma": 1.0, "sigma_next": 0.5, **arguments})


def karras(scheduler: Any, **arguments: Any) -> object:
    return sampling.get_sigmas_karras(**{"n": 5, "sigma_min": 0.1, "sigma_max": 10.0, **arguments})


def vp(scheduler: Any, **arguments: Any) -> object:
    return sampling.get_sigmas_vp(**{"n": 5, **arguments})


NO_INTEGERS: list[Any] = [1.5, NAN, INF, "1", None, True, [1]]
NO_NUMBERS: list[Any] = ["1", [1.0], True, 1j]
NOT_POSITIVE: list[Any] = [0, -1, NAN, INF, *NO_NUMBERS]
NO_CHOICES: list[Any] = ["even", "", None, 1, []]
NO_FLAGS: list[Any] = [1, 0.0, "True", NAN, []]
NO_FLOATS: dict[str, torch.Tensor] = {
    "integers": X.long(),
    "booleans": X > 0,
    "complex": X * 1j,
}
NO_TENSORS: dict[str, Any] = {"none": None, "a list": [1.0], "a number": 1.0, "text": "x", "an object": object}
NO_SEQUENCES: dict[str, Any] = {
    "text": "abc",
    "texts": ["a"],
    "ragged": [[1.0], [2.0, 1.0]],
    "complex": [1j],
    "a mapping": {"a": 1},
    "a set": {1.0},
    "an iterator": iter([1.0]),
    "sparse": torch.ones(2).to_sparse(),
}
NOT_FLAT: dict[str, Any] = {"empty": [], "a number": 5.0, "nested": [[1.0, 0.5]], "a scalar": torch.tensor(5.0)}
WITHOUT_VALUE: dict[str, Any] = {"nan": [NAN], "none": [None], "infinity": [INF, 1.0], "negative": [1.0, -1.0]}

CONSTRUCTOR: dict[str, Case] = {
    **each(construct, "num_train_timesteps", [0, -1, *NO_INTEGERS], "NAME must be an integer at least 1, got"),
    **each(construct, "num_train_timesteps", [0, -1, "1"], "NAME must be an integer at least 1, got", **FLOW),
    **each(construct, "num_train_timesteps", [0, -1, "1"], "NAME must be an integer at least 1, got", **EDM),
    **{
        id_: case
        for name in ("beta_start", "beta_end")
        for id_, case in (
            each(construct, name, [-0.1, 2, NAN, INF, *NO_NUMBERS, None], "^NAME must be a number from 0 to 1, got")
            | each(construct, name, [0, 1], "NAME=.*every beta must lie between 0 and 1, both excluded, got")
        ).items()
    },
    **each(construct, "beta_start", [1e-30], "betas must give alphas_cumprod that decrease strictly.*check beta_start"),
    **each(construct, "beta_schedule", [*NO_CHOICES, b"linear"], "NAME must be one of 'linear', 'scaled_linear', 'squ"),
    **each(construct, "trained_betas", NO_SEQUENCES, "NAME must be a flat list or array of numbers|NAME must hold"),
    **each(construct, "trained_betas", NOT_FLAT, "NAME must hold at least num_train_timesteps=1000 numbers in one dim"),
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
    **each(construct, "ays_sigmas", ["sd15"], "NAME must be None for a flow model", **FLOW),
    **each(construct, "ays_sigmas", ["sd15"], "NAME must be None .* with sigma_min, sigma_max or rho", rho=3.0),
    **each(construct, "ays_sigmas", ["sd15"], "only one of .* may be set, got use_karras_sigmas, NAME", **KARRAS),
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
        construct, "s_noise", [-0.1, 1001, NAN, INF, *NO_NUMBERS, None], "NAME must be a number from 0 to 1000, got"
    ),
    **each(construct, "shift", [1.0], "unexpected keyword argument 'NAME'"),
    **each(ancestral, "eta", [-0.1, 1.1, NAN, INF, *NO_NUMBERS, None], "NAME must be a number from 0 to 1, got"),
    **each(ancestral, "noise", [*NO_CHOICES, "Gaussian"], "NAME must be one of 'gaussian', 'brownian', got"),
    **each(discrete, "s_churn", [-1, NAN, *NO_NUMBERS, None], "NAME must be a number from 0 to inf, got"),
    **each(discrete, "s_churn", [1.0], "NAME must be 0 for a flow model", **FLOW),
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
    **each(set_another, "num_train_timesteps", [10], "NAME must be None for this model, got 10", **FLOW),
    **each(set_another, "num_train_timesteps", [10], "NAME must be None for this model, got 10", **EDM),
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
    **each(set_own, "sigmas", [[1.0]], "only one of NAME and timesteps may be given, got both", timesteps=[1]),
    **each(set_own, "timesteps", [[1000, 500], [500, -1]], "NAME must all be finite numbers from 0 to 999, got"),
    **each(set_another, "sigmas", [[2.0, 1.0]], "NAME must all be finite numbers from 0 to 1, got 2", **FLOW),
    **each(
        set_own,
        "num_inference_steps",
        [3, -1, "2", True, NAN, [2]],
        "NAME must be None or the number of steps given, 2, got",
        sigmas=[2.0, 1.0],
    ),
    **each(set_another, "mu", [None, NAN, *NO_NUMBERS], "NAME must be a number", **DYNAMIC),
    **each(set_another, "mu", [INF, -INF, 1e9, -1e9], "NAME.* must be .*finite", **DYNAMIC),
    **each(set_another, "mu", [0, -1, INF], "NAME must be .*number", **DYNAMIC, time_shift_type="linear"),
    **each(set_timesteps, "shift", [3.0], "unexpected keyword argument 'NAME'"),
}

STEP: dict[str, Case] = {
    **{
        id_: case
        for call, name in ((step, "sample"), (step, "model_output"), (scale_model_input, "sample"))
        for id_, case in (
            each(call, name, NO_TENSORS, "^NAME must be a tensor, or all samples NumPy arrays, got")
            | each(call, name, NO_FLOATS, r"^NAME must be floating point, got torch\.")
        ).items()
    },
    **each(step, "sample", {"an array": X.numpy()}, "NAME must be a tensor, or all samples NumPy arrays, got"),
    **each(step, "model_output", {"an array": X.numpy()}, "NAME must be a tensor, or all samples NumPy arrays, got"),
    **each(step, "sample", {"flat": X[0], "one": X[:1], "none": X[:0], "turned": X.T}, r"have the shape of sample, \("),
    **each(step, "model_output", {"one": X[:1], "none": X[:0]}, r"NAME must have the shape of sample, \(2, 3\), got"),
    **each(step, "sample", {"elsewhere": X.to("meta")}, "model_output must be on the device of sample, meta, got cpu"),
    **each(
        step_both,
        "sample",
        {"turned": X.T, "empty": X[:0], "a part": X[:1], "double": X.double(), "half": X.half()},
        "NAME must keep the shape, dtype and device that it had when this run began",
    ),
    **{
        id_: case
        for call in (step, scale_model_input)
        for id_, case in each(call, "timestep", [-1.0, NAN, INF, 998.5], "NAME must be that of stage").items()
    },
    **{
        id_: case
        for call in (begin, begin_scaling)
        for id_, case in (
            each(
                call, "timestep", [-1.0, NAN, INF, 998.5], "NAME must be one of the 7 in scheduler.timesteps, from 999"
            )
            | each(call, "timestep", NO_TENSORS | {"a number": True, "a list": 1j}, "NAME must be a number or a tensor")
            | each(call, "timestep", {"two": torch.tensor([999.0, 0.0])}, "NAME must be the same for every sample, got")
            | each(call, "timestep", {"none": torch.ones(0)}, "NAME must be the same for every sample, got")
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
            "mapping": {},
            "true": True,
            "the class": torch.Generator,
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
            each(add_noise, name, NO_TENSORS, "^NAME must be a tensor, or all samples NumPy arrays, got")
            | each(add_noise, name, NO_FLOATS, r"^NAME must be floating point, got torch\.")
        ).items()
    },
    **each(
        add_noise, "noise", {"turned": X.T, "none": X[:0]}, r"NAME must have a shape that broadcasts with original_s"
    ),
    **each(add_noise, "noise", {"elsewhere": X.to("meta")}, "NAME must be on the device of original_samples, cpu, got"),
    **each(add_noise, "timesteps", [-1.0, NAN, INF, 998.5], "timestep must be one of the 7 in scheduler.timesteps"),
    **each(add_noise, "timesteps", [None, "999", 1j, True], "timestep must be a number or a tensor of numbers, got"),
    **each(
        add_noise, "timesteps", {"3": torch.zeros(3), "0": torch.ones(0)}, "NAME must hold one timestep, or one a sam"
    ),
    **each(scale_noise, "noise", {**NO_TENSORS, **NO_FLOATS}, "NAME must be (a tensor|floating point)"),
    **each(scale_noise, "timestep", [-1.0, NAN, None, "999"], "NAME must be (one of the 7|a number or a tensor)"),
    **each(
        seed, "seed", [-1, 2**64, *(value for value in NO_INTEGERS if value not in (None, [1]))], "NAME must be an int"
    ),
    **each(seed, "seed", [b"1", 1j, {}, {1}, np.array(1.5), torch.tensor([1, 2])], "NAME must be an integer from 0 to"),
    **each(seed, "seed", {"none": [], "no array": np.array([])}, "NAME must be an integer or hold one for each sample"),
    **each(
        seed, "seed", [[1, -1], [None], [True], [1, [2]], np.array([1.5])], "each of NAME must be an integer from 0"
    ),
    **each(set_begin_index, "begin_index", [-1, STAGES, *NO_INTEGERS], "NAME must be an integer from 0 to 6, got"),
    **each(index_for_timestep, "timestep", [-1.0, NAN, 998.5], "NAME must be one of the 7 in scheduler.timesteps"),
    **each(index_for_timestep, "timestep", [None, "999", 1j], "NAME must be a number or a tensor of numbers, got"),
    **each(index_for_timestep, "timestep", {"two": torch.tensor([999.0, 999.0])}, "NAME must be one timestep, got 2"),
}

FUNCTIONS: dict[str, Case] = {
    **each(
        sample,
        "x",
        {**NO_TENSORS, **NO_FLOATS, "an array": X.numpy(), "a scalar": torch.tensor(1.0)},
        "NAME must be a floating-point tensor of shape",
    ),
    **each(sample, "sigmas", NO_SEQUENCES, "NAME must be a flat tensor or list of numbers, got"),
    **each(sample, "sigmas", {**NOT_FLAT, "none": None}, "NAME must hold at least one number in one dimension, got"),
    **each(sample, "sigmas", {**WITHOUT_VALUE, "two zeros": [1.0, 0.0, 0.0]}, "NAME must be finite numbers above 0"),
    **each(sample, "sigmas", [[1.0, 2.0, 0.0]], "NAME must not rise unless eta is 0, got"),
    **each(sample, "sigmas", [[2.0, 0.0]], "NAME must be finite numbers above 0 and at most 1", flow=True),
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
            call, name, [-1, 1001, NAN, INF, *NO_NUMBERS, None], "NAME must be a number from 0 to 1000, got"
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
    **each(sample, "noise", NO_CHOICES, "NAME must be one of 'gaussian', 'brownian', got"),
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
    **each(brownian, "sigma_min", [-1.0, 1.0, 2.0, NAN, INF], "sigma_max must be above NAME=.*, which is at least 0"),
    **each(brownian, "sigma_max", [-1.0, 0.0, NAN], "NAME must be above sigma_min=0, which is at least 0, got"),
    **each(brownian_call, "sigma", [-1.0, 2.0, INF], "NAME and sigma_next must lie between 0 and 1, got"),
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
                call, "trained_betas", [[0.1], [], [[0.1]]], "NAME must hold at least num_train_timesteps=1000 number"
            )
            | each(call, "trained_betas", ["a", {"a": 1}, ["a"]], "NAME must be a flat list or array of numbers, got")
            | each(call, "use_karras_sigmas", [1, "yes"], "NAME must be True or False, got")
            | each(call, "prediction_type", ["noise", None], "NAME must be one of 'epsilon', 'sample', 'v_prediction'")
            | each(
                call, "beta_schedule", ["sigmoid", None], "NAME must be one of 'linear', 'scaled_linear', 'squaredcos"
            )
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

ABSURD: dict[str, Case] = {
    **{
        id_: case
        for spacing in ("leading", "trailing", "simple")
        for id_, case in each(
            set_another,
            "num_inference_steps",
            [10**7, HUGE],
            "NAME must be at most num_train_timesteps=1000 with",
            timestep_spacing=spacing,
        ).items()
    },
    **each(set_own, "num_inference_steps", [HUGE], "NAME must be None or the number of steps given, 1", sigmas=[1.0]),
    **each(set_timesteps, "num_train_timesteps", [HUGE, 2**70, 10**400], "NAME must be an integer from 1 to 1000, got"),
    **each(construct, "num_train_timesteps", [HUGE], "trained_betas must hold at least NAME=1", trained_betas=[0.1]),
    **each(load, "num_train_timesteps", [HUGE], "trained_betas must hold at least NAME=1", trained_betas=[0.1]),
    **each(construct, "steps_offset", [HUGE, 10**400], "NAME must be an integer from 0 to 1000, got"),
    **each(set_begin_index, "begin_index", [HUGE, 10**400], "NAME must be an integer from 0 to 6, got"),
    **each(seed, "seed", [10**400], "NAME must be an integer from 0 to"),
    **each(
        construct_of_ten_million_betas,
        "beta",
        [1e-9, 0.02],
        "betas must give alphas_cumprod that decrease strictly .* over 10000000 timesteps: check .*trained_betas",
    ),
}

GROUPS = (CONSTRUCTOR, SET_TIMESTEPS, STEP, GENERATOR, METHODS, FUNCTIONS, CONFIGURATIONS)
CATALOGUE: dict[str, Case] = {id_: case for group in GROUPS for id_, case in group.items()}


def begun(run: str) -> Any:
    """A scheduler between the two stages of its first step."""
    scheduler = RUNS[run]()
    scheduler.set_timesteps(STEPS)
    first = scheduler.timesteps[0]
    scheduler.step(oracle.network(scheduler.scale_model_input(X, first), first), first, X)
    return scheduler


@contextmanager
def unchanged(scheduler: Any) -> Iterator[None]:
    """Every attribute is to be the very same object afterwards, and torch's global generator where it was."""
    before, config, random = dict(vars(scheduler)), dict(scheduler.config), torch.get_rng_state()
    timesteps, anchor = scheduler.timesteps.clone(), scheduler._anchor.clone()
    yield
    assert vars(scheduler).keys() == before.keys()
    assert all(vars(scheduler)[name] is value for name, value in before.items())
    assert repr(dict(scheduler.config)) == repr(config)
    assert torch.equal(scheduler.timesteps, timesteps)
    assert torch.equal(scheduler._anchor, anchor)
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize(("wrong", "message"), CATALOGUE.values(), ids=CATALOGUE)
def test_a_wrong_call_is_refused_in_words_and_changes_nothing(wrong: Callable[[Any], object], message: str) -> None:
    for run in RUNS:
        scheduler = begun(run)
        with unchanged(scheduler), pytest.raises(REFUSED, match=message):
            wrong(scheduler)


@pytest.mark.parametrize(("wrong", "message"), ABSURD.values(), ids=[id_[:80] for id_ in ABSURD])
def test_an_absurd_size_is_refused_before_it_costs_anything(wrong: Callable[[Any], object], message: str) -> None:
    scheduler = begun("ancestral")
    tracemalloc.start()
    began = time.perf_counter()
    try:
        with unchanged(scheduler), pytest.raises(REFUSED, match=message):
            wrong(scheduler)
        taken, (_, peak) = time.perf_counter() - began, tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken < 5
    assert peak < 2**30


def run_through(run: str, noise: str, interruptions: list[tuple[int, bool, str]]) -> list[torch.Tensor]:
    """The samples of a run into which wrong calls break, before or after its input is scaled."""
    scheduler = RUNS[run]()
    scheduler.set_timesteps(STEPS)
    torch.manual_seed(3)
    if noise == "seed":
        scheduler.seed([1, 2])
    generator = torch.Generator().manual_seed(4) if noise == "generator" else None
    x, samples = X, []

    def interrupt(stage: int, scaled: bool) -> None:
        for id_ in (id_ for *place, id_ in interruptions if place == [stage, scaled]):
            if id_ not in GENERATOR or not scheduler.state_in_first_order:
                with pytest.raises(REFUSED):
                    CATALOGUE[id_][0](scheduler)

    for stage, timestep in enumerate(scheduler.timesteps):
        interrupt(stage, False)
        scaled = scheduler.scale_model_input(x, timestep)
        interrupt(stage, True)
        output = oracle.network(scaled, timestep)
        x = scheduler.step(output, timestep, x, generator=generator).prev_sample
        samples.append(x)
    return samples


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(sorted(RUNS)),
    st.sampled_from(["global", "seed", "generator"]),
    # From the second stage on: only then is it a run that stages may be out of order with.
    st.lists(st.tuples(st.integers(1, STAGES - 1), st.booleans(), st.sampled_from(sorted(CATALOGUE))), min_size=1),
)
def test_a_run_goes_on_as_if_no_wrong_call_had_been_made(
    run: str, noise: str, interruptions: list[tuple[int, bool, str]]
) -> None:
    undisturbed = run_through(run, noise, [])
    disturbed = run_through(run, noise, interruptions)
    assert all(torch.equal(a, b) for a, b in zip(undisturbed, disturbed, strict=True))


SAVED = Ancestral().to_json_string().encode()
NO_JSON: dict[str, bytes] = {
    "nothing": b"",
    "truncated": SAVED[: len(SAVED) // 2],
    "text": b"hello",
    "a pickle": b"\x80\x04\x95\x00\x00\xff",
    "utf-16": SAVED.decode().encode("utf-16"),
    "with a mark of its encoding": b"\xef\xbb\xbf" + SAVED,
}


@pytest.mark.parametrize("text", NO_JSON.values(), ids=NO_JSON)
def test_a_file_that_is_no_json_is_refused_as_diffusers_does(text: bytes) -> None:
    """`from_pretrained` is diffusers' own, and raises what code around pipelines catches."""
    for cls in (Ancestral, Discrete, diffusers.KDPM2AncestralDiscreteScheduler):
        with pytest.raises(OSError, match=r"scheduler_config\.json' is not a valid JSON file"):
            loaded(cls, text)


def test_unknown_keys_warn_as_in_diffusers(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("diffusers"), "propagate", True)
    text = json.dumps({**json.loads(SAVED), "bogus": 1, "beta_end": 0.02}).encode()
    for cls in (Ancestral, Discrete, diffusers.KDPM2AncestralDiscreteScheduler):
        caplog.clear()
        scheduler = loaded(cls, text)
        assert "bogus" in caplog.text
        assert "were passed to" in caplog.text
        assert scheduler.config.beta_end == 0.02


def whole_run(cls: Any, x: torch.Tensor) -> torch.Tensor:
    scheduler = cls()
    scheduler.set_timesteps(STEPS)
    scheduler.seed(1)
    for timestep in scheduler.timesteps:
        x = scheduler.step(oracle.network(scheduler.scale_model_input(x, timestep), timestep), timestep, x).prev_sample
    return x


@pytest.mark.parametrize("wrong", [NAN, INF, -INF])
@pytest.mark.parametrize("cls", [Ancestral, Discrete])
def test_what_is_no_number_in_a_sample_is_kept_where_it_is(cls: Any, wrong: float) -> None:
    x = X.clone()
    x[1, 2] = wrong
    samples, expected = whole_run(cls, x), whole_run(cls, X)
    assert not samples[1, 2].isfinite()
    samples[1, 2] = expected[1, 2]
    assert torch.equal(samples, expected)


@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0, 4)])
@pytest.mark.parametrize("cls", [Ancestral, Discrete])
def test_samples_of_size_zero_go_through(cls: Any, shape: tuple[int, ...]) -> None:
    assert whole_run(cls, torch.ones(shape)).shape == shape


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x.T.contiguous().T,
        lambda x: torch.stack([x, x], dim=-1)[..., 0],
        lambda x: x.flip(0).flip(0).expand(2, 3),
    ],
)
@pytest.mark.parametrize("cls", [Ancestral, Discrete])
def test_how_a_sample_lies_in_memory_changes_nothing(cls: Any, view: Callable[[torch.Tensor], torch.Tensor]) -> None:
    assert torch.equal(whole_run(cls, view(X)), whole_run(cls, X))


@pytest.mark.parametrize("cls", [Ancestral, Discrete])
def test_gradients_flow_through_a_run_that_is_the_same_run(cls: Any) -> None:
    x = X.clone().requires_grad_()
    samples = whole_run(cls, x)
    assert torch.equal(samples.detach(), whole_run(cls, X))
    samples.sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert x.grad.any()


def test_the_catalogue_is_long_enough() -> None:
    assert len(CATALOGUE | ABSURD) == len(ABSURD) + sum(map(len, GROUPS))
    assert len(CATALOGUE | ABSURD) >= 120
