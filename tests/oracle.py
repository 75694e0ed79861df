"""The sampler as its papers write it: one step at a time, in extended precision, with nothing taken from kdpm2."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

Extended = np.longdouble
Array = NDArray[Any]
Network = Callable[[Array, Any], Array]


def network(x: "torch.Tensor", timestep: "torch.Tensor") -> "torch.Tensor":
    """A stand-in for a network: smooth, bounded, different at every timestep."""
    return (1.3 * x + timestep.to(x.dtype) / 1000).tanh() + 0.1 * x


def array_network(x: Array, timestep: Any) -> Array:
    """The same for arrays."""
    return np.asarray(np.tanh(1.3 * x + np.asarray(timestep, dtype=x.dtype) / 1000) + 0.1 * x)


def denoised(prediction_type: str, sigma: Any, x: Array, output: Array) -> Array:
    if prediction_type == "epsilon":
        return np.asarray(x - sigma * output)
    if prediction_type == "v_prediction":
        alpha = 1 / np.sqrt(1 + sigma**2)
        return np.asarray(alpha * (alpha * x) - alpha * sigma * output)
    return output


def stages(
    x: Array,
    sigmas: Array,
    timesteps: Array,
    prediction_type: str,
    eta: float,
    noises: Iterator[Array],
    begin: int = 0,
    model: Network = array_network,
) -> Iterator[Array]:
    """The sample after every stage from stage `begin` on; `sigmas` ends with 0, `timesteps` holds one a stage."""

    def slope(x: Array, sigma: Any, stage: int) -> Array:
        scaled = np.asarray(x / np.sqrt(1 + sigma**2), dtype=np.float64)
        output = model(scaled, timesteps[stage]).astype(Extended)
        return np.asarray((x - denoised(prediction_type, sigma, x, output)) / sigma)

    x, sigmas = x.astype(Extended), sigmas.astype(Extended)
    for i in range(begin // 2, len(sigmas) - 1):
        sigma, following = sigmas[i], sigmas[i + 1]
        if following == 0:
            yield x - sigma * slope(x, sigma, 2 * i)
            return
        up = min(following, eta * np.sqrt(following**2 * (sigma**2 - following**2) / sigma**2))
        down = np.sqrt(following**2 - up**2)
        middle = np.exp((np.log(sigma) + np.log(down)) / 2)
        if 2 * i + 1 == begin:
            x = x + slope(x, middle, begin) * (down - middle)
        else:
            x_middle = x + slope(x, sigma, 2 * i) * (middle - sigma)
            yield x_middle
            x = x + slope(x_middle, middle, 2 * i + 1) * (down - sigma)
        x = x + up * next(noises) if eta else x
        yield x
