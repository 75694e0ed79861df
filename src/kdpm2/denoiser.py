r"""What the loops of `kdpm2.sampling` sample from: a network as a denoiser.

A denoiser takes a noisy sample and its noise level. It returns its estimate of the clean sample,
:math:`\hat x_0 = D(x, \sigma)`. k-diffusion's functions call denoisers, and any function can be one. `Denoiser` makes a
denoiser of a network that predicts something else, or that takes timesteps:

.. math:: D(x, \sigma) = p\,x + q\,m(\mathrm{scale} \cdot x,\ t(\sigma))

with p, q, scale and t of its family (`kdpm2.noise_schedule`). A loop that gets a `Denoiser` calls the network itself.
The rows of its table contain p, q and scale.

References:
    | Wrappers with the same purpose: https://github.com/crowsonkb/k-diffusion (`external.py`)
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from kdpm2 import _check
from kdpm2._check_tensor import floating, is_dense
from kdpm2.noise_schedule import NoiseSchedule, SigmaConditioned, checked
from kdpm2.table import StageTable

Network = Callable[..., torch.Tensor]


class Outputs(NamedTuple):
    """What a network says of a stage.

    Attributes:
        followed: Shape (B, ...): the output that the clean sample is made of, and that the stage follows.
        unguided: Same shape: the output that tells the noise in a sample at the start of a step, as in CFG++ (see
            `kdpm2.guidance`). None if that is `followed` too.
    """

    followed: torch.Tensor
    unguided: torch.Tensor | None = None

    def of(self, place: int) -> "Outputs":
        """Those of one sample of the batch."""
        return Outputs(self.followed[place], None if self.unguided is None else self.unguided[place])


class Denoiser:
    """A network as a function of sample and sigma. It knows what the network was trained to do.

    Args:
        network: Called as network(x, timestep, **conditioning), with x of shape (B, ...) and timestep of shape (B,), in
            float32 or the wider dtype of x. It returns a tensor like x, an object with such a tensor as its `sample`
            (as diffusers' models do), or a tuple that begins with such a tensor.
        schedule: What the network was trained on: `kdpm2.noise_schedule.discrete(...)`, `RectifiedFlow(...)`,
            `EDM(...)`.
        prediction_type: What the network predicts, one of `schedule.predictions`.

    Raises:
        TypeError: If `network` cannot be called, or `schedule` is not a noise schedule.
        ValueError: If models of the schedule's family have no such prediction type.
    """

    def __init__(self, network: Network, schedule: NoiseSchedule, prediction_type: str = "epsilon") -> None:
        if not callable(network):
            raise TypeError(f"network must be callable, got {_check.shown(network)}")
        self.network = network
        self.schedule = schedule
        self.prediction_type = checked(schedule).checked_prediction(prediction_type)

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor, **conditioning: Any) -> torch.Tensor:
        """The estimate of the clean sample.

        A call copies sigma to the CPU to look up the timestep. The loops of `kdpm2.sampling` do not need this copy.

        Args:
            x: Shape (B, ...), floating point: noisy samples.
            sigma: Shape (B,) or (): their noise levels, positive.
            conditioning: Passed on to the network.

        Raises:
            TypeError: If `x` or `sigma` is no such tensor.
            ValueError: If `sigma` has another shape, or a noise level is out of range.
        """
        levels = _levels(self.schedule, floating("x", x), sigma)
        p, q = self.schedule.affine(self.prediction_type, levels)
        scale, timestep = self.schedule.input_scale(levels), self.schedule.timestep(levels)

        def like_x(values: Any) -> torch.Tensor:
            tensor = torch.as_tensor(values, device=x.device).to(torch.promote_types(x.dtype, torch.float32))
            return tensor.reshape([-1, *[1] * (x.ndim - 1)])

        conditioned_on = like_x(timestep).reshape(-1).expand(len(x))
        output = self.predict((like_x(scale) * x).to(x.dtype), conditioned_on, **conditioning)
        return (like_x(p) * x + like_x(q) * output).to(x.dtype)

    def check(self, table: StageTable) -> None:
        """See that this denoiser can be sampled by a table; ValueError if not. Any can, but for kinds that say so."""

    def predict(self, x: torch.Tensor, timestep: torch.Tensor, **conditioning: Any) -> torch.Tensor:
        """The network's output as a tensor, from its scaled input and its timestep."""
        return self.outputs(x, timestep, **conditioning).followed

    def outputs(self, x: torch.Tensor, timestep: torch.Tensor, **conditioning: Any) -> "Outputs":
        """The same, and what the noise of a step is made of if that is another output."""
        output: Any = self.network(x, timestep, **conditioning)
        if not isinstance(output, torch.Tensor):
            output = output[0] if isinstance(output, tuple) and output else getattr(output, "sample", output)
        if not isinstance(output, torch.Tensor) or output.is_nested or output.shape != x.shape:
            raise ValueError(
                f"the model must return a tensor with the shape of x, {tuple(x.shape)}, got {described(output)}"
            )
        return Outputs(floating("what the model returns", output))


class Around(Denoiser):
    """A denoiser around another one, `inner`. Its kinds differ in their `outputs`."""

    def __init__(self, inner: Denoiser) -> None:
        super().__init__(self._followed, inner.schedule, inner.prediction_type)
        self.inner = inner

    def check(self, table: StageTable) -> None:
        """As the inner one does."""
        self.inner.check(table)

    def _followed(self, x: torch.Tensor, timestep: torch.Tensor, **conditioning: Any) -> torch.Tensor:
        return self.outputs(x, timestep, **conditioning).followed


def _levels(schedule: NoiseSchedule, x: torch.Tensor, sigma: Any) -> NDArray[np.float64]:
    """The noise levels as an array of the shape of `sigma`."""
    if not isinstance(sigma, torch.Tensor) or sigma.is_nested:
        raise TypeError(f"sigma must be a tensor of shape (B,) or (), got {_check.shown(sigma)}")
    if not x.ndim:
        raise ValueError("x must have the shape (B, ...), got ()")
    if sigma.shape not in ((), (1,), x.shape[:1]):
        raise ValueError(f"sigma must have the shape ({len(x)},) or () for x of {len(x)}, got {tuple(sigma.shape)}")
    levels = _check.numbers("sigma", sigma.reshape(-1), most=max(len(x), 1))
    high = schedule.largest * (1 + 1e-6)  # a level may have been rounded on its way
    wrong = levels[~((levels >= _check.SMALLEST) & (levels <= high))]
    if len(wrong):
        raise ValueError(
            f"sigma must be a finite number above 0, from {_check.SMALLEST:g} to {high:g}, got {wrong[0]:g}"
        )
    return levels.reshape(tuple(sigma.shape))


def as_denoiser(model: Network, flow: bool | None = None) -> Denoiser:
    """`model` itself if it is a `Denoiser`; else a `Denoiser` around a function of x and sigma.

    Args:
        model: A `Denoiser`, or a function called as model(x, sigma, **conditioning).
        flow: Whether samples are mixed as (1-σ)·x0 + σ·n; None for the model's attribute `flow`, or False if there is
            none.

    Raises:
        TypeError: If `model` cannot be called.
        ValueError: If `flow` contradicts a `Denoiser`.
    """
    if isinstance(model, Denoiser):
        if flow is not None and _check.flag("flow", flow) != model.schedule.flow:
            raise ValueError(f"flow must be None or {model.schedule.flow} for this denoiser, got {flow}")
        return model
    flow = getattr(model, "flow", False) is True if flow is None else _check.flag("flow", flow)
    return Denoiser(model, SigmaConditioned(flow), "sample")


def described(value: Any) -> str:
    """A value, or a tensor's shape, dtype and device, for a message."""
    if not isinstance(value, torch.Tensor):
        return _check.shown(value)
    if not is_dense(value):
        return "a tensor that is not dense"
    return f"one of shape {tuple(value.shape)}, {value.dtype} on {value.device}"
