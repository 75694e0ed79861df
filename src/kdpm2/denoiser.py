r"""What the loops of `kdpm2.sampling` sample from: a network as a denoiser, and guidance.

A denoiser takes a noisy sample and its noise level and returns its estimate of the clean sample,
:math:`\hat x_0 = D(x, \sigma)`. That is what k-diffusion's functions call, and any function will do. `Denoiser` makes
one out of a network that predicts something else, and is conditioned otherwise:

.. math:: D(x, \sigma) = p\,x + q\,m(\mathrm{scale} \cdot x,\ t(\sigma))

with p, q and scale of `kdpm2.prediction`, t of `kdpm2.noise_schedule`. A loop that is given one calls the network
itself, and leaves p, q and scale to the rows of its table.

Classifier-free guidance with scale s is :math:`D_{none} + s\,(D_{cond} - D_{none})`, which is the same for m.

References:
    | Classifier-Free Diffusion Guidance (Ho & Salimans, 2022): https://arxiv.org/abs/2207.12598
    | Wrappers with the same purpose: https://github.com/crowsonkb/k-diffusion (`external.py`)
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from kdpm2 import _check
from kdpm2.noise_schedule import NoiseSchedule, SigmaConditioned
from kdpm2.prediction import PREDICTION_TYPES, affine, input_scale

Network = Callable[..., torch.Tensor]


class Denoiser:
    """A network with what it was trained to do, as a function of sample and sigma.

    Args:
        network: Called as network(x, timestep, **conditioning), with x of shape (B, ...) and timestep of shape (B,), in
            float32 or the wider dtype of x. Returns a tensor like x, an object with such a tensor as its `sample` (as
            diffusers' models do), or a tuple that begins with one.
        schedule: What it was trained on: `kdpm2.noise_schedule.discrete(...)`, `RectifiedFlow(...)`, `EDM(...)`.
        prediction_type: What it predicts, one of those that `kdpm2.prediction` has for the schedule's family.

    Raises:
        TypeError: If `network` cannot be called, or `schedule` is none.
        ValueError: If models of the schedule's family have no such prediction type.
    """

    def __init__(self, network: Network, schedule: NoiseSchedule, prediction_type: str = "epsilon") -> None:
        if not callable(network):
            raise TypeError(f"network must be callable, got {_check.shown(network)}")
        if not isinstance(schedule, NoiseSchedule):
            raise TypeError(f"schedule must be one of kdpm2.noise_schedule, got {_check.shown(schedule)}")
        self.network = network
        self.schedule = schedule
        self.prediction_type = _check.choice("prediction_type", prediction_type, PREDICTION_TYPES[schedule.family])

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor, **conditioning: Any) -> torch.Tensor:
        """The estimate of the clean sample.

        A call copies sigma to the CPU, to read the timestep off the schedule. The loops of `kdpm2.sampling` do not.

        Args:
            x: Shape (B, ...), floating point: noisy samples.
            sigma: Shape (B,) or (): their noise levels, positive.
            conditioning: Passed on to the network.
        """
        levels = sigma.detach().double().cpu().numpy()
        p, q = affine(self.schedule, self.prediction_type, levels)
        scale, timestep = input_scale(self.schedule, levels), self.schedule.timestep(levels)

        def like_x(values: Any) -> torch.Tensor:
            tensor = torch.as_tensor(values, device=x.device).to(torch.promote_types(x.dtype, torch.float32))
            return tensor.reshape([-1, *[1] * (x.ndim - 1)])

        conditioned_on = like_x(timestep).reshape(-1).expand(len(x))
        output = self.predict((like_x(scale) * x).to(x.dtype), conditioned_on, **conditioning)
        return (like_x(p) * x + like_x(q) * output).to(x.dtype)

    def predict(self, x: torch.Tensor, timestep: torch.Tensor, **conditioning: Any) -> torch.Tensor:
        """The network's output as a tensor, from its scaled input and its timestep."""
        output: Any = self.network(x, timestep, **conditioning)
        if isinstance(output, torch.Tensor):
            return output
        first: torch.Tensor = output.sample if hasattr(output, "sample") else output[0]
        return first


def as_denoiser(model: Network, flow: bool | None = None) -> Denoiser:
    """`model` itself if it is a `Denoiser`; else one that takes x and sigma as they are and returns the clean sample.

    Args:
        model: A `Denoiser`, or a function called as model(x, sigma, **conditioning).
        flow: Whether samples are mixed as (1-σ)·x0 + σ·n; None for what the model's attribute `flow` says, or False.

    Raises:
        TypeError: If `model` cannot be called.
        ValueError: If `flow` contradicts a `Denoiser`.
    """
    if isinstance(model, Denoiser):
        if flow not in (None, model.schedule.flow):
            raise ValueError(f"flow must be None or {model.schedule.flow} for this denoiser, got {flow}")
        return model
    flow = bool(getattr(model, "flow", False)) if flow is None else _check.flag("flow", flow)
    return Denoiser(model, SigmaConditioned(flow), "sample")


def guided(model: Network, scale: float) -> Denoiser:
    """`model` with classifier-free guidance, both halves in one batched call.

    The result takes two arguments of its own, `cond` and `uncond`: tensors of shape (B, ...), which the model gets
    stacked as its `cond`, or mappings of keyword arguments for the model, with the same names. Tensors of shape
    (B, ...) in these are stacked; everything else must be the same in both, and is passed on. Other keyword arguments
    are passed on too, tensors of shape (B, ...) repeated for the second half.

    Args:
        model: A `Denoiser`, or a function called as model(x, sigma, **conditioning).
        scale: s, from 0 (unconditional) over 1 (conditional) to 1000.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If `scale` is out of range.
    """
    denoiser = as_denoiser(model)
    scale = _check.number("scale", scale, 0, 1000)

    def both(
        x: torch.Tensor,
        timestep: torch.Tensor,
        *,
        cond: torch.Tensor | Mapping[str, Any],
        uncond: torch.Tensor | Mapping[str, Any],
        **conditioning: Any,
    ) -> torch.Tensor:
        batch = len(x)
        cond, uncond = _arguments("cond", cond), _arguments("uncond", uncond)
        stacked = {name: _stacked(name, value, value, batch) for name, value in conditioning.items()}
        for name in {**uncond, **cond}:
            if not (name in cond and name in uncond):
                missing = "uncond" if name in cond else "cond"
                raise ValueError(f"{missing} must have the names of the other, got none called {name!r}")
            stacked[name] = _stacked(name, uncond[name], cond[name], batch)
        without, with_it = denoiser.predict(torch.cat([x, x]), torch.cat([timestep, timestep]), **stacked).chunk(2)
        return torch.lerp(without, with_it, scale)

    return Denoiser(both, denoiser.schedule, denoiser.prediction_type)


def _arguments(name: str, value: Any) -> Mapping[str, Any]:
    if isinstance(value, torch.Tensor):
        return {"cond": value}
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a tensor or a mapping of keyword arguments, got {_check.shown(value)}")
    return value


def _stacked(name: str, uncond: Any, cond: Any, batch: int) -> Any:
    """What the batched call is given for one argument of both halves."""
    if isinstance(uncond, torch.Tensor) and isinstance(cond, torch.Tensor) and uncond.ndim:
        if uncond.shape != cond.shape or len(uncond) != batch:
            raise ValueError(
                f"{name} must have one shape in cond and uncond, for {batch} samples, "
                f"got {tuple(cond.shape)} and {tuple(uncond.shape)}"
            )
        return torch.cat([uncond, cond])
    same = torch.equal(uncond, cond) if isinstance(uncond, torch.Tensor) else uncond is cond or uncond == cond
    if not same:
        raise ValueError(
            f"{name} must be a tensor of shape (B, ...) to differ between cond and uncond, "
            f"got {_check.shown(cond)} and {_check.shown(uncond)}"
        )
    return cond
