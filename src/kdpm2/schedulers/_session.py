"""Help for someone who tries a scheduler out: it explains its options, says what it is, and warns of `eta = 0`."""

import textwrap
from collections.abc import Callable
from functools import wraps
from numbers import Real
from typing import Any

from diffusers.configuration_utils import register_to_config

from kdpm2 import _check
from kdpm2.by_step import is_zero, shown
from kdpm2.noise_schedule import VariancePreserving
from kdpm2.schedulers import _options
from kdpm2.schedulers._attributes import Attributes
from kdpm2.schedulers._configuration import defaults_of
from kdpm2.schedulers._explained import OPTIONS
from kdpm2.table import StageTable

_LINE = 116


class Option:
    """An option as an attribute. A program may assign to it, but no run reads it, and a warning says so.

    Some pipelines assign an `eta` or a `sigma_min` to every scheduler, because some schedulers read these there. If
    they counted here, pictures would differ from those with diffusers' classes.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, scheduler: Any, owner: type) -> Any:
        """What was assigned. If nothing was, diffusers raises its own error."""
        if scheduler is None:
            return self
        if self._name not in scheduler.__dict__:
            raise AttributeError(self._name)
        return scheduler.__dict__[self._name]

    def __set__(self, scheduler: Any, value: Any) -> None:
        """Keep the value. Unless the option has this value already, say where it is set."""
        scheduler.__dict__[self._name] = value
        # A subclass may have an attribute of its own that is called as an option of ours.
        plain = isinstance(value, (str, Real, type(None)))
        told = plain and value == scheduler.__dict__.get("_internal_dict", {}).get(self._name)
        if "_run" in scheduler.__dict__ and not told and (plain or type(scheduler).__module__ == "kdpm2"):
            shown = f"{self._name}={_check.shown(value)}"
            scheduler._warn(
                f"the attribute {self._name} plays no part: it is an option of the configuration, which set_timesteps "
                f"reads: use scheduler.register_to_config({shown}), or from_config(..., {shown})"
            )


class InSession(Attributes):
    """What help and a prompt show of a scheduler."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Explain the options of a kdpm2 class, and notice when one is assigned."""
        super().__init_subclass__(**kwargs)
        if cls.__module__ != "kdpm2":
            return
        own: Any = cls
        options = defaults_of(own)
        cls.__doc__ = f"{(cls.__doc__ or '').rstrip()}\n\n    Args:\n{_listed(options)}\n"
        for name in options:
            setattr(cls, name, Option(name))

    def __repr__(self) -> str:
        """What a run of this scheduler is; `config` has every option."""
        name = type(self).__name__
        if "_run" not in self.__dict__:
            return f"{name}()"
        options, table = self._options_of_run, self.__dict__["_run"].table
        model = self._schedule.named
        if isinstance(self._schedule, VariancePreserving):
            joined = "of its own" if options.trained_betas is not None else f"{options.beta_schedule}"
            model = f"a model with {self._schedule.trained_timesteps} betas ({joined})"
        curve = "tuned" if options.tuned_sigmas is not None else _options.spacing_options(options)["sigma_curve"]
        spaced = f"curve {curve}" if curve else f"spacing {options.timestep_spacing}"
        return (
            f"{name}(\n"
            f"  model: {model} that predicts {options.prediction_type}\n"
            f"  noise levels: {spaced}, {_levels(table)}\n"
            f"  steps: {len(table.up)}, in {len(table)} network calls\n"
            f"  {_noise(options)}\n"
            ")"
        )

    def _check_eta(self, eta: Any) -> None:
        """Say where eta is set if a user has passed one to a pipeline. Pipelines pass 0 by themselves."""
        if _check.finite("eta", eta) not in (0, getattr(self._options_of_run, "eta", 0)):
            self._warn(
                f"eta={eta:g} of a pipeline's call plays no part: it is an option of the scheduler; "
                f"use scheduler.register_to_config(eta={eta:g}), or from_config(..., eta={eta:g})"
                if hasattr(type(self), "eta")
                else f"eta={eta:g} plays no part: this scheduler is deterministic; "
                f"KDPM2AncestralDiscreteScheduler.from_config(..., eta={eta:g}) has that option"
            )

    def _warn(self, message: str) -> None:
        raise NotImplementedError  # `InSampleSpace` has it


def _levels(table: StageTable) -> str:
    if not len(table):
        return "none"
    starts, end = table.sigmas[:-1], table.sigmas[-1]
    return f"from {starts[0]:.4g} to {starts[-1]:.4g}, and to {end:.4g}"


def _noise(options: Any) -> str:
    if hasattr(options, "eta"):
        stochastic = not is_zero(options.eta)
        return f"eta: {shown(options.eta)}, {options.noise} noise" if stochastic else "eta: 0, deterministic"
    return f"eta: 0, with s_churn {options.s_churn:g}" if options.s_churn else "eta: 0, deterministic"


def _listed(options: dict[str, Any]) -> str:
    lines = []
    for name, default in options.items():
        text = f"{name}: {OPTIONS[name]} Default: {default!r}."
        lines += textwrap.wrap(text, _LINE, initial_indent=" " * 8, subsequent_indent=" " * 12, break_on_hyphens=False)
    return "\n".join(lines)


def constructor(init: Callable[..., None]) -> Any:
    """The constructor of a scheduler. It stores its arguments as the configuration, and explains typos."""
    registered = register_to_config(init)

    @wraps(init)
    def made(self: Any, *args: Any, **kwargs: Any) -> None:
        known = defaults_of(made_by(self))
        for name in kwargs:
            if name not in known and name[:1] != "_":
                raise TypeError(
                    f"{type(self).__name__}.__init__() got an unexpected keyword argument {name!r}"
                    + _check.meant(name, known)
                )
        registered(self, *args, **kwargs)

    def made_by(scheduler: Any) -> type:
        """The class whose constructor this is. The constructor of a subclass may have other options."""
        return next(cls for cls in type(scheduler).__mro__ if cls.__dict__.get("__init__") is made)

    return made
