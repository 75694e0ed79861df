"""The scheduler files of public models: our sigmas are the trained ones, or a warning or an error says what is not.

What a model was trained on is worked out here once more, in float64 NumPy, from the formulas alone.
"""

import json
import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from kdpm2 import KDPM2AncestralDiscreteScheduler as Ancestral
from kdpm2 import KDPM2DiscreteScheduler as Discrete
from tests.schedulers.real_configurations import ROWS, Row
from tests.versions import takes

Array = NDArray[np.float64]

BOTH: list[Any] = [Ancestral, Discrete]
SERVED = [row for row in ROWS if row.outcome != "refused"]
REFUSED = [row for row in ROWS if row.outcome == "refused"]
LEFT_OUT = ("clip_sample", "thresholding", "stochastic_sampling")
DOORS = ("file", "memory", "saved")
# Options that diffusers' classes of an older version drop from a file.
OF_LATER_CLASSES = (
    "invert_sigmas",
    "rescale_betas_zero_snr",
    "shift_terminal",
    "stochastic_sampling",
    "time_shift_type",
    "use_dynamic_shifting",
    "use_flow_sigmas",
    "use_karras_sigmas",
)
STEPS = 10
MU = 0.8

# What diffusers' classes say of a model where its file does not, besides 1000 timesteps and epsilon.
_USUAL: dict[str, Any] = {"beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear"}
_STABLE: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "CogVideoXDDIMScheduler": {**_STABLE, "snr_shift_scale": 3.0},
    "CogVideoXDPMScheduler": {**_STABLE, "snr_shift_scale": 3.0},
    "HeunDiscreteScheduler": {**_STABLE, "beta_schedule": "linear"},
    "LCMScheduler": _STABLE,
    "UnCLIPScheduler": {"beta_schedule": "squaredcos_cap_v2"},
}
# The least sigma that may stand for infinity where the last timestep is pure noise: the root of 2^24.
_PURE_NOISE = 4096.0


def shifted(u: Array, shift: float) -> Array:
    return shift * u / (1 + (shift - 1) * u)


def betas_of(facts: dict[str, Any]) -> Array:
    count: int = facts["num_train_timesteps"]
    kind: str = facts["beta_schedule"]
    if kind in ("squaredcos_cap_v2", "exp"):
        at = np.arange(count + 1) / count
        bar: Array = np.exp(-12 * at) if kind == "exp" else np.cos((at + 0.008) / 1.008 * math.pi / 2) ** 2
        return np.minimum(1 - bar[1:] / bar[:-1], 0.999)
    start: float = facts["beta_start"]
    end: float = facts["beta_end"]
    if kind == "sigmoid":
        return start + (end - start) / (1 + np.exp(-np.linspace(-6, 6, count)))
    return np.linspace(start, end, count) if kind == "linear" else np.linspace(start**0.5, end**0.5, count) ** 2


class Model:
    """What a row says its model was trained on."""

    def __init__(self, row: Row) -> None:
        self.file = row.file
        self.name: str = row.file["_class_name"]
        defaults = _DEFAULTS.get(self.name, _USUAL)
        self.facts = {"num_train_timesteps": 1000, "prediction_type": "epsilon", **defaults, **row.file}

    @property
    def family(self) -> str:
        if self.name.startswith("FlowMatch") or self.facts.get("use_flow_sigmas"):
            return "flow"
        return "edm" if self.name.startswith("EDM") else "betas"

    @property
    def continuous(self) -> bool:
        return self.family == "edm" or self.facts.get("timestep_type") == "continuous"

    @property
    def shift(self) -> float:
        """That of a run whose pipeline passes MU."""
        if self.facts.get("use_dynamic_shifting"):
            return MU if self.facts.get("time_shift_type") == "linear" else math.exp(MU)
        return float(self.facts.get("shift", self.facts.get("flow_shift", 1.0)))

    def stretched(self, sigmas: Array) -> Array:
        """So that the last one is `shift_terminal`."""
        terminal: float | None = self.facts.get("shift_terminal")
        return sigmas if terminal is None else 1 - (1 - sigmas) * (1 - terminal) / (1 - sigmas[-1])

    @cached_property
    def levels(self) -> Array:
        """The trained sigma of every whole timestep of a model with betas; infinite for pure noise."""
        bars = np.cumprod(1 - betas_of(self.facts))
        scale: float = self.facts.get("snr_shift_scale", 1.0)
        bars = bars / (scale + (1 - scale) * bars)
        if self.facts.get("rescale_betas_zero_snr"):
            roots = np.sqrt(bars)
            bars = ((roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])) ** 2
        with np.errstate(divide="ignore"):
            return np.sqrt((1 - bars) / bars)

    @cached_property
    def finite(self) -> Array:
        """The levels, with a number for infinity."""
        levels = self.levels
        return np.where(np.isinf(levels), max(_PURE_NOISE, 1.5 * levels[-2]), levels)

    def told(self, timestep: float) -> float:
        """The sigma that the network takes a timestep for: between whole ones, log σ is linear in t."""
        if self.family == "flow":
            return float(timestep) / float(self.facts["num_train_timesteps"])
        if self.continuous:
            return math.exp(4 * timestep)
        return float(np.exp(np.interp(timestep, np.arange(len(self.finite)), np.log(self.finite))))

    def output(self, x: Array, timestep: float, std: float) -> Array:
        """Exact, for data of this standard deviation: what the network says of a scaled input, of what it is told."""
        sigma, predicted = self.told(timestep), self.facts["prediction_type"]
        if self.family == "flow":
            return x * (sigma - (1 - sigma) * std**2) / ((1 - sigma) ** 2 * std**2 + sigma**2)
        scale = self.facts["sigma_data"] if self.family == "edm" else 1.0
        x = x * math.hypot(sigma, scale)
        clean = x * std**2 / (std**2 + sigma**2)
        if self.family == "edm":
            kept = scale**2 / (sigma**2 + scale**2)
            sign = -1 if predicted == "v_prediction" else 1
            return (clean - kept * x) * sign * math.hypot(sigma, scale) / (sigma * scale)
        noise = (x - clean) / sigma
        if predicted == "v_prediction":
            return (noise - sigma * clean) / math.hypot(sigma, 1)
        return clean if predicted == "sample" else noise


def opened(row: Row, door: str) -> dict[str, Any]:
    """The configuration as it comes: from the model's file, from diffusers' class in memory, or as that saves it."""
    if door == "file":
        return dict(row.file)
    other = getattr(diffusers, row.file["_class_name"], None)
    if other is None or not takes(other, *(name for name in OF_LATER_CLASSES if row.file.get(name))):
        pytest.skip(f"{row.file['_class_name']} of this diffusers does not know the model")
    with said():  # diffusers has no option for some of what files hold
        theirs = other.from_config(dict(row.file))
    for name in row.file.keys() & {"sigma_data", "final_sigmas_type", "sigma_min", "sigma_max"}:
        theirs.register_to_config(**{name: row.file[name]})  # as Cosmos' pipelines do
    if door == "memory":
        config: dict[str, Any] = theirs.config
        return config
    saved: dict[str, Any] = json.loads(theirs.to_json_string())
    return saved


@contextmanager
def said() -> Iterator[list[str]]:
    """What is said through diffusers' logging, and not shown."""
    messages: list[str] = []

    class Heard(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    logger, handler = logging.getLogger("diffusers"), Heard()
    shown, logger.handlers = logger.handlers, [handler]
    try:
        yield messages
    finally:
        logger.handlers = shown


def set_up(scheduler: Any, model: Model, steps: int) -> None:
    """Set a run as the model's pipeline sets it."""
    if not model.name.startswith("FlowMatch"):
        scheduler.set_timesteps(steps)
    elif model.file.get("use_dynamic_shifting"):
        scheduler.set_timesteps(sigmas=np.linspace(1, 1 / steps, steps), mu=MU)
    else:
        scheduler.set_timesteps(sigmas=np.linspace(1, 1 / steps, steps))


def run_of(scheduler: Any, ancestral: bool) -> tuple[Array, Array, Array]:
    """The timestep of each stage, and the sigmas at which steps start and have their midpoints."""
    told, sigmas = scheduler.timesteps.double().numpy(), scheduler.sigmas.double().numpy()
    # A flow's sigmas may have one for each stage; else each but the first and the last stands there twice.
    starts = sigmas[:-1:2] if len(sigmas) == len(told) + 1 else sigmas[:-2:2]
    assert len(told) == 2 * STEPS - 1
    assert len(starts) == STEPS
    assert sigmas[-1] == 0
    return told, starts, starts[1:] if ancestral else np.sqrt(starts[:-1] * starts[1:])


def check_flow(model: Model, scheduler: Any, ancestral: bool) -> None:
    told, starts, middles = run_of(scheduler, ancestral)
    count = model.facts["num_train_timesteps"]
    np.testing.assert_allclose(told[::2] / count, starts, rtol=1e-5)
    np.testing.assert_allclose(told[1::2] / count, middles, rtol=1e-5)
    if model.name.startswith("FlowMatch"):
        even = np.linspace(1, 1 / STEPS, STEPS)
        np.testing.assert_allclose(starts, model.stretched(shifted(even, model.shift)), rtol=1e-5)
    else:  # evenly spaced before the shift, however near to 0 they end
        assert starts[0] == pytest.approx(1, abs=2e-3)
        gaps = np.diff(shifted(starts, 1 / model.shift))
        np.testing.assert_allclose(gaps, gaps.mean(), rtol=0.01, atol=1e-3)


def spaced(model: Model, config: dict[str, Any], door: str) -> Array:
    """The timesteps at which steps start, without a curve; diffusers' defaults of another class count for nothing."""
    file = config if door == "saved" else model.file
    count: int = model.facts["num_train_timesteps"]
    spacing = file.get("timestep_spacing", "linspace")
    if spacing == "leading":
        starts = np.arange(STEPS, dtype=np.float64) * (count // STEPS)
        return starts[::-1] + float(file.get("steps_offset", 0))
    if spacing == "trailing":
        return np.round(np.arange(count, 0, -count / STEPS)) - 1.0
    return np.linspace(0, count - 1, STEPS)[::-1]


def check_betas(model: Model, scheduler: Any, expected_starts: Array, ancestral: bool) -> None:
    told, starts, middles = run_of(scheduler, ancestral)
    if model.continuous:
        np.testing.assert_allclose(np.exp(4 * told[::2]), starts, rtol=1e-3)
        np.testing.assert_allclose(np.exp(4 * told[1::2]), middles, rtol=1e-3)
        assert starts[[0, -1]] == pytest.approx([model.file["sigma_max"], model.file["sigma_min"]], rel=1e-5)
        return
    levels = model.finite
    every = np.arange(len(levels))
    np.testing.assert_allclose(told[1::2], np.interp(np.log(middles), np.log(levels), every), atol=0.02)
    if model.file.get("use_karras_sigmas"):  # whose timesteps diffusers rounds, too
        np.testing.assert_allclose(told[::2], np.interp(np.log(starts), np.log(levels), every), atol=0.51)
        return
    np.testing.assert_allclose(told[::2], expected_starts)
    pure = np.isinf(model.levels[-1]) & (told[::2] == every[-1])
    assert (starts[pure] > 0.999 * _PURE_NOISE).all()
    expected = np.where(pure, starts, np.interp(told[::2], every, levels))
    # float32, in which models are trained, holds 1 - ᾱ to about 1e-7.
    np.testing.assert_allclose(starts**2, expected**2, rtol=2e-3, atol=4e-7)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("row", SERVED, ids=lambda row: row.model)
def test_the_noise_levels_are_the_trained_ones_and_what_is_left_out_is_said(row: Row, door: str) -> None:
    model, config = Model(row), opened(row, door)
    for cls in BOTH:
        with said() as messages:
            scheduler = cls.from_config(config)
        ours = [message for message in messages if "not expected" not in message]  # diffusers' list of strange keys
        for option in LEFT_OUT:
            assert sum(option in message for message in ours) == (option in row.named), messages
        set_up(scheduler, model, STEPS)
        if model.family == "flow":
            check_flow(model, scheduler, ancestral=cls is Ancestral)
        else:
            check_betas(model, scheduler, spaced(model, config, door), ancestral=cls is Ancestral)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("row", REFUSED, ids=lambda row: row.model)
def test_models_that_these_samplers_do_not_know_are_refused(row: Row, door: str) -> None:
    config = opened(row, door)
    for cls in BOTH:
        with said(), pytest.raises(ValueError, match=row.named[0]):
            cls.from_config(config)


@pytest.mark.parametrize("row", SERVED, ids=lambda row: row.model)
def test_an_exact_network_of_the_model_gives_its_data(row: Row) -> None:
    model, std = Model(row), 0.5
    with said():
        scheduler = Discrete.from_config(dict(row.file))
    set_up(scheduler, model, 40)
    last = model.told(scheduler.timesteps[-1].item())
    noise = torch.randn(4000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = noise / noise.std() * (1 if model.family == "flow" else math.hypot(scheduler.sigmas[0].item(), std))
    for timestep in scheduler.timesteps:
        scaled = scheduler.scale_model_input(x, timestep)
        output = torch.from_numpy(model.output(scaled.numpy(), timestep.item(), std))
        x = scheduler.step(output, timestep, x).prev_sample
    # The last step gives the mean of what the data may be, which is narrower than the data.
    kept = std * (1 - last) if model.family == "flow" else std
    assert x.std().item() == pytest.approx(std * kept / math.hypot(kept, last), rel=0.03)


def test_the_table_is_as_long_as_it_should_be() -> None:
    assert len({row.model for row in ROWS}) == len(ROWS) >= 45
    assert all(row.source for row in ROWS)
    assert {row.outcome for row in ROWS} == {"right", "warned", "refused"}
