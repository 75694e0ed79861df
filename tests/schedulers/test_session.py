"""What a scheduler is to someone who tries it out at a prompt."""

import pydoc
import subprocess
import sys
from copy import copy, deepcopy
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

import kdpm2
from kdpm2.schedulers._configuration import defaults_of
from tests import oracle

Ancestral, Discrete = kdpm2.KDPM2AncestralDiscreteScheduler, kdpm2.KDPM2DiscreteScheduler
BOTH = [Ancestral, Discrete]


@pytest.fixture(autouse=True)
def _warnings_reach_pytest() -> Any:
    diffusers.utils.logging.enable_propagation()
    yield
    diffusers.utils.logging.disable_propagation()


@pytest.mark.parametrize("cls", BOTH)
def test_help_explains_every_option(cls: Any) -> None:
    shown = pydoc.plain(pydoc.render_doc(cls))
    for name, default in defaults_of(cls).items():
        explained = shown.split(f"      {name}: ", 1)[1].split(f"Default: {default!r}.", 1)[0]
        assert len(explained) > 15, name


def drawn(scheduler: Any, **options: Any) -> Any:
    scheduler.set_timesteps(5)
    x = torch.linspace(-1, 1, 12).reshape(1, 3, 2, 2) * scheduler.init_noise_sigma
    generator = torch.Generator().manual_seed(0)
    for timestep in scheduler.timesteps:
        output = oracle.network(scheduler.scale_model_input(x, timestep), timestep)
        x = scheduler.step(output, timestep, x, generator=generator, **options).prev_sample
    return x


@pytest.mark.parametrize(
    ("cls", "name", "value"),
    [
        (Ancestral, "eta", 0),
        (Ancestral, "use_karras_sigmas", True),
        (Ancestral, "sigma_min", 0.1),
        (Discrete, "s_churn", 4.0),
        (Discrete, "prediction_type", "v_prediction"),
    ],
)
def test_an_option_that_is_assigned_says_where_it_is_set(
    cls: Any, name: str, value: Any, caplog: pytest.LogCaptureFixture
) -> None:
    scheduler = cls()
    before = drawn(scheduler)
    setattr(scheduler, name, value)
    setattr(scheduler, name, value)
    assert len(caplog.records) == 1  # once
    assert f"use scheduler.register_to_config({name}={value!r}), or from_config(..., {name}={value!r})" in caplog.text
    assert getattr(scheduler, name) == value
    # Pipelines assign some to every scheduler, and their pictures are to be those of diffusers' classes.
    assert torch.equal(before, drawn(scheduler))
    scheduler.register_to_config(**{name: value})
    if name != "sigma_min":
        assert not torch.equal(before, drawn(scheduler))
    twin = deepcopy(copy(scheduler))
    assert getattr(twin, name) == scheduler.config[name] == value
    assert len(caplog.records) == 1


def test_an_option_that_is_assigned_its_own_value_is_nothing_to_speak_of(caplog: pytest.LogCaptureFixture) -> None:
    scheduler = Ancestral(eta=0.5)
    scheduler.eta = 0.5
    scheduler.latents = torch.ones(2)
    Discrete().eta = 0.5
    assert not caplog.records
    with pytest.raises(AttributeError):
        Discrete().eta  # noqa: B018


def test_a_subclass_keeps_attributes_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    class Own(kdpm2.KDPM2AncestralDiscreteScheduler):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self.noise = np.random.default_rng(0)

    scheduler = Own(eta=0.5)
    assert isinstance(scheduler.noise, np.random.Generator)
    assert torch.equal(drawn(scheduler), drawn(Ancestral(eta=0.5)))
    assert not caplog.records


@pytest.mark.parametrize("cls", BOTH)
def test_the_eta_of_a_call_is_said_to_play_no_part(cls: Any, caplog: pytest.LogCaptureFixture) -> None:
    plain = drawn(cls())
    assert torch.equal(plain, drawn(cls(), eta=0.0))
    assert not caplog.records
    assert torch.equal(plain, drawn(cls(), eta=0.3))
    assert len(caplog.records) == 1  # once a scheduler
    assert "eta=0.3" in caplog.text
    assert "from_config(..., eta=0.3)" in caplog.text
    if cls is Ancestral:  # SD.Next passes the user's own to the scheduler's constructor and to every step
        caplog.clear()
        drawn(cls(eta=0.3), eta=0.3)
        assert not caplog.records
    scheduler = cls()
    scheduler.set_timesteps(2)
    x = torch.ones(1, 2)
    for wrong, error in (("much", TypeError), (float("nan"), ValueError), (None, TypeError)):
        with pytest.raises(error, match="eta must be a finite number"):
            scheduler.step(x, scheduler.timesteps[0], x, eta=wrong)


def test_what_a_scheduler_says_of_itself() -> None:
    scheduler = Ancestral(use_karras_sigmas=True, eta=0.5, prediction_type="v_prediction")
    scheduler.set_timesteps(12)
    assert repr(scheduler) == (
        "KDPM2AncestralDiscreteScheduler(\n"
        "  model: a model with 1000 betas (linear) that predicts v_prediction\n"
        "  noise levels: curve karras, from 25.15 to 0.02917, and to 0\n"
        "  steps: 12, in 23 network calls\n"
        "  eta: 0.5, gaussian noise\n"
        ")"
    )
    flow = Discrete(prediction_type="flow_prediction", flow_shift=3.0)
    flow.set_timesteps(4)
    assert "model: a flow model" in repr(flow)
    assert "spacing linspace, from 1 to " in repr(flow)
    assert "eta: 0, deterministic" in repr(flow)
    assert "s_churn 3" in repr(Discrete(s_churn=3.0))
    assert "an EDM model" in repr(Ancestral(sigma_data=0.5))
    assert repr(Ancestral.__new__(Ancestral)) == "KDPM2AncestralDiscreteScheduler()"


@pytest.mark.parametrize("cls", BOTH)
def test_a_typo_names_the_option_that_was_meant(cls: Any, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(
        TypeError, match=r"unexpected keyword argument 'use_karas_sigmas': did you mean 'use_karras_sigmas'\?"
    ):
        cls(use_karas_sigmas=True)
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'colour'$"):
        cls(colour="red")
    cls.from_config(cls().config, beta_strat=0.1)
    assert "has no option beta_strat: ignored: did you mean 'beta_start'?" in caplog.text


NOTEBOOK = """
import sys, types, warnings
ipython = types.ModuleType("IPython")
class Shell:
    config = {"IPKernelApp": {}}
ipython.get_ipython = Shell
sys.modules["IPython"] = ipython
sys.modules["ipywidgets"] = None  # not installed
warnings.simplefilter("error")
from kdpm2._progress import bar
with bar(total=3) as shown:
    shown.update(3)
print(type(shown).__module__)
"""


def test_a_notebook_without_widgets_has_a_bar_and_no_warning() -> None:
    done = subprocess.run([sys.executable, "-c", NOTEBOOK], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    assert "3/3" in done.stderr
