"""Calls that are given a scheduler in mid-run and one wrong value, and the values that are wrong wherever they stand.

A case is such a call, and the message with which it has to be refused.
"""

import inspect
import json
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
import torch

import kdpm2
from kdpm2 import (
    Denoiser,
    curves,
    noise,
    noise_schedule,
    sampling,
    spacing,
    table,
    zoo,
)
from kdpm2 import KDPM2AncestralDiscreteScheduler as Ancestral
from kdpm2 import KDPM2DiscreteScheduler as Discrete
from kdpm2.noise import Brownian
from tests import oracle

Case: TypeAlias = tuple[Callable[[Any], object], str]

# All add noise in the second stage of each step.
RUNS: dict[str, Callable[[], Any]] = {
    "ancestral": Ancestral,
    "discrete": lambda: Discrete(s_churn=2.0),
    "brownian": lambda: Ancestral(noise="brownian"),
    "own sigmas": Ancestral,
}
STEPS, STAGES = 4, 7
OWN_SIGMAS = [14.0, 3.0, 1.0, 0.3]
REFUSED = (TypeError, ValueError)

NAN, INF, HUGE = math.nan, math.inf, 10**12
X = torch.linspace(-1, 1, 6).reshape(2, 3)
FLOW: dict[str, Any] = {"prediction_type": "flow_prediction"}
EDM: dict[str, Any] = {"sigma_data": 0.5}
KARRAS: dict[str, Any] = {"use_karras_sigmas": True}
DYNAMIC: dict[str, Any] = {**FLOW, "use_dynamic_shifting": True}


@contextmanager
def costing_little() -> Iterator[None]:
    """What is done within takes less than a second and 32 MiB."""
    tracemalloc.start()
    began = time.perf_counter()
    try:
        yield
        taken, (_, peak) = time.perf_counter() - began, tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken < 1
    assert peak < 2**25


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


def set_brownian(scheduler: Any, **arguments: Any) -> object:
    return Ancestral(noise="brownian").set_timesteps(**arguments)


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


def step_arrays(scheduler: Any, **arguments: Any) -> object:
    return scheduler.step(**{"model_output": X.numpy(), "timestep": now(scheduler), "sample": X.numpy(), **arguments})


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


def exponential(scheduler: Any, **arguments: Any) -> object:
    return sampling.get_sigmas_exponential(**{"n": 5, "sigma_min": 0.1, "sigma_max": 10.0, **arguments})


def polyexponential(scheduler: Any, **arguments: Any) -> object:
    return sampling.get_sigmas_polyexponential(**{"n": 5, "sigma_min": 0.1, "sigma_max": 10.0, **arguments})


def karras(scheduler: Any, **arguments: Any) -> object:
    return sampling.get_sigmas_karras(**{"n": 5, "sigma_min": 0.1, "sigma_max": 10.0, **arguments})


def spaced(scheduler: Any, **arguments: Any) -> object:
    return spacing.steps(**{"schedule": noise_schedule.discrete(), "num_inference_steps": 5, **arguments})


def spaced_flow(scheduler: Any, **arguments: Any) -> object:
    return spacing.steps(**{"schedule": noise_schedule.RectifiedFlow(), "num_inference_steps": 5, **arguments})


def custom(scheduler: Any, **arguments: Any) -> object:
    return spacing.custom(noise_schedule.discrete(), **arguments)


def curve(scheduler: Any, kind: str, **arguments: Any) -> object:
    asked, made = {"sigma_max": 10.0, "sigma_min": 0.1, "count": 5, **arguments}, curves.SIGMA_CURVES[kind]
    if made.to_zero:
        del asked["sigma_min"]
    return made.levels(**asked)


def align_your_steps(scheduler: Any, **arguments: Any) -> object:
    return curves.align_your_steps(**{"model": "sd15", "count": 5, **arguments})


def discrete_schedule(scheduler: Any, **arguments: Any) -> object:
    return noise_schedule.discrete(**arguments)


def from_alphas_cumprod(scheduler: Any, **arguments: Any) -> object:
    return noise_schedule.from_alphas_cumprod(**arguments)


def variance_preserving(scheduler: Any, **arguments: Any) -> object:
    given = noise_schedule.discrete()
    return noise_schedule.VariancePreserving(
        **{"betas": given.betas, "alphas_cumprod": given.alphas_cumprod, **arguments}
    )


def rectified_flow(scheduler: Any, **arguments: Any) -> object:
    return noise_schedule.RectifiedFlow(**arguments)


def edm(scheduler: Any, **arguments: Any) -> object:
    return noise_schedule.EDM(**arguments)


def timestep_of(scheduler: Any, sigma: Any) -> object:
    return noise_schedule.discrete().timestep(sigma)


def sigma_of(scheduler: Any, timestep: Any) -> object:
    return noise_schedule.EDM().sigma(timestep)


def affine(scheduler: Any, **arguments: Any) -> object:
    wanted = {"schedule": noise_schedule.EDM(), "prediction_type": "epsilon", "sigma": np.ones(2), **arguments}
    return kdpm2.Denoiser(lambda x, t: x, wanted["schedule"], wanted["prediction_type"]).schedule.affine(
        wanted["prediction_type"], wanted["sigma"]
    )


def dpm2(scheduler: Any, **arguments: Any) -> object:
    schedule = noise_schedule.discrete()
    return table.dpm2(**{"schedule": schedule, "steps": spacing.steps(schedule, 5), **arguments})


def gaussian(scheduler: Any, **arguments: Any) -> object:
    return noise.gaussian(**{"shape": (2, 3), "dtype": torch.float32, "device": torch.device("cpu"), **arguments})


def call_denoiser(scheduler: Any, **arguments: Any) -> object:
    denoiser = Denoiser(identity, noise_schedule.discrete())
    return denoiser(**{"x": X, **arguments})


def mixture(scheduler: Any, **arguments: Any) -> object:
    return zoo.GaussianMixture(**{"means": X, "std": 1.0, **arguments})


def call_mixture(scheduler: Any, **arguments: Any) -> object:
    return zoo.GaussianMixture(X, 1.0)(**{"x": X, "sigma": torch.ones(2), **arguments})


def zoo_gaussian(scheduler: Any, **arguments: Any) -> object:
    return zoo.gaussian(**{"std": 1.0, **arguments})


def vp(scheduler: Any, **arguments: Any) -> object:
    return sampling.get_sigmas_vp(**{"n": 5, **arguments})


NO_INTEGERS: list[Any] = [1.5, NAN, INF, "1", None, True, [1]]
NO_NUMBERS: list[Any] = ["1", [1.0], True, np.array([1.0]), torch.ones(1)]
NOT_BY_STEP: list[Any] = ["1", True, [], [-1.0], ["1"], np.array([NAN]), {}, {"value": "1"}, {"value": 1, "start": 2}]
NOT_POSITIVE: list[Any] = [0, -1, NAN, INF, 1e300, 1e-300, 10**400, *NO_NUMBERS]
NO_CHOICES: list[Any] = ["even", "", None, 1, []]
NO_FLAGS: list[Any] = [1, "True", []]
NO_FLOATS: dict[str, torch.Tensor] = {
    "integers": X.long(),
    "booleans": X > 0,
    "complex": X * 1j,
}
NOT_DENSE: dict[str, Any] = {
    "sparse": X.to_sparse(),
    "eight bits": X.to(torch.float8_e4m3fn),
}
NO_FLOAT_ARRAYS: dict[str, Any] = {
    "integers": np.ones((2, 3), dtype=int),
    "truths": np.ones((2, 3)) > 0,
    "complex": np.ones((2, 3)) * 1j,
    "objects": np.full((2, 3), None),
    "masked": np.ma.masked_less(X.numpy(), 0),
    "128 bits": np.ones((2, 3), dtype=np.longdouble),
}
NO_TIMESTEPS: dict[str, Any] = {
    "none": None,
    "text": "999",
    "texts": ["999"],
    "true": True,
    "truths": torch.tensor([True]),
    "objects": np.array([None]),
}
NO_TENSORS: dict[str, Any] = {"none": None, "a list": [1.0], "a number": 1.0, "text": "x"}
NO_SEQUENCES: dict[str, Any] = {
    "text": "abc",
    "texts": ["a"],
    "numbers in words": ["1.0", "0.5"],
    "truths": [True, False],
    "nothing": [None],
    "ragged": [[1.0], [2.0, 1.0]],
    "nested": [[1.0, 0.5]],
    "a number": 5.0,
    "a mapping": {"a": 1},
    "an iterator": iter([1.0]),
    "on no device": torch.ones(2, device="meta"),
    "truths of numpy": np.ones(2) > 0,
    "masked": np.ma.array([1.0, 0.5], mask=[False, True]),
}
NOT_FLAT: dict[str, Any] = {"empty": [], "of two dimensions": np.array([[1.0, 0.5]]), "a scalar": torch.tensor(5.0)}
WITHOUT_VALUE: dict[str, Any] = {"nan": [NAN], "infinity": [INF, 1.0], "negative": [1.0, -1.0]}


TOO_MANY: dict[str, Any] = {
    "a list": [0.001] * 200_000,
    "an array": np.full(200_000, 0.001),
}


def ready(run: str) -> Any:
    """A scheduler before its run of four steps."""
    scheduler = RUNS[run]()
    if run == "own sigmas":
        scheduler.set_timesteps(sigmas=OWN_SIGMAS)
    else:
        scheduler.set_timesteps(STEPS)
    return scheduler


def begun(run: str) -> Any:
    """A scheduler between the two stages of its first step."""
    scheduler = ready(run)
    first = scheduler.timesteps[0]
    scheduler.step(oracle.network(scheduler.scale_model_input(X, first), first), first, X)
    return scheduler
