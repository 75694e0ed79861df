"""A whole run as one CUDA graph: recorded once, then played with new samples, new noise and new conditioning.

A run launches hundreds of operations. For a small network, such as a robot's policy, launching them takes longer than
computing them. A graph is launched once. It is recorded the first time that a network comes with a shape, a dtype, a
schedule and a kind of conditioning. The last few graphs of a network are kept as long as the network. Each keeps the
memory that its run needs.

What a run reads is copied into the recorded memory: the samples, tensors in the conditioning, and the noise. The noise
is one tensor for each step. With `kdpm2.philox` it is the seeds alone, which is better for large samples. Values that
are not tensors are recorded, and another value needs another graph.

The network must do the same operations for all values, and must not wait for the device. Its weights may change in
place. They must not move to other memory, and other attributes must not change. After such a change, use a new object
for the network.

References:
    https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
"""

import dataclasses
import weakref
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from typing import Any

import torch

from kdpm2 import loop, update
from kdpm2.loop import Run
from kdpm2.noise import Source

DEVICES = ("cuda",)

MOST_KEPT = 8
"""How many graphs are kept for one network."""

_kept: weakref.WeakKeyDictionary[Any, OrderedDict[Hashable, "Recording"]] = weakref.WeakKeyDictionary()


def played(run: Run, x: torch.Tensor) -> torch.Tensor:
    """The samples of `kdpm2.loop.eager`, by a graph.

    Raises:
        ValueError: If `x` is not on a CUDA device.
        TypeError: If the conditioning holds something that is neither a tensor nor can be told apart from another.
    """
    if x.device.type not in DEVICES:
        raise ValueError(f"mode must be 'eager' or 'compile' for x on {x.device}: graphs are CUDA's")
    key = (
        run.table.rows.tobytes(),
        run.table.stage_timesteps.tobytes(),
        run.table.keeps_estimate,
        run.start,
        (x.shape, x.dtype, x.device),
        _autocast(x.device.type),
        run.noise.streams is None,
        _kind("conditioning", run.conditioning),
    )
    # A bound method is made anew each time that it is asked for; what it is bound to stays.
    network: Any = run.model.network
    owner = getattr(network, "__self__", network)
    try:
        graphs = _kept.setdefault(owner, OrderedDict())
    except TypeError:
        raise TypeError(
            f"the network must be a function or an object that can be referred to weakly with mode='graph', "
            f"got {type(owner).__name__}"
        ) from None
    function = getattr(network, "__func__", None)  # a method may be another one by the same name
    called = (getattr(network, "__name__", None), None if function is None else weakref.ref(function))
    named = (called, type(run.model), key)
    if named not in graphs:
        graphs[named] = Recording(run, x)
        if len(graphs) > MOST_KEPT:
            graphs.popitem(last=False)
    graphs.move_to_end(named)
    return graphs[named].play(run, x)


class _Held(Source):
    """Noise in memory that a graph reads from: that of each step, or the streams that it is made of."""

    def __init__(self, steps: dict[int, torch.Tensor], streams: torch.Tensor | None) -> None:
        self.steps, self.streams = steps, streams

    def draw(self, step: int, like: torch.Tensor) -> torch.Tensor:
        return self.steps[step]


class Recording:
    """One graph, and the memory that it reads from and writes to.

    Args:
        run: What it does; the network is called three times a stage for it, with the first samples and their noise.
        x: Shape (B, ...), on a CUDA device: samples like those that it will start from.
    """

    def __init__(self, run: Run, x: torch.Tensor) -> None:
        table = run.table
        adds: list[int] = table.step[run.start :][table.adds_noise[run.start :]].tolist()
        with torch.inference_mode(False), torch.no_grad():  # later runs write to it, which may be in no such mode
            self._x = x.clone(memory_format=torch.contiguous_format)
            self._conditioning = _copied(run.conditioning)
            streams = None if run.noise.streams is None else run.noise.streams.clone()
            self._noise = _Held({step: torch.zeros_like(self._x) for step in adds if streams is None}, streams)
        recorded = dataclasses.replace(run, noise=self._noise, conditioning=self._conditioning, disable=True)
        held = update.on_device(table, x.device, x.dtype)

        enabled, dtype = _autocast(x.device.type)
        # Weights that were cast before would not be cast in the graph, and be gone when it is played.
        with torch.autocast(x.device.type, dtype=dtype, enabled=enabled, cache_enabled=False):
            # As torch asks for: what is set up by a first call is not to be recorded.
            aside = torch.cuda.Stream(x.device)
            aside.wait_stream(torch.cuda.current_stream(x.device))
            with torch.cuda.stream(aside):
                for _ in range(2):
                    loop.eager(recorded, self._x, held)
            torch.cuda.current_stream(x.device).wait_stream(aside)
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.device(x.device), torch.cuda.graph(self._graph):
                self._result = loop.eager(recorded, self._x, held)

    def play(self, run: Run, x: torch.Tensor) -> torch.Tensor:
        """The samples that the run leads to from `x`, a new tensor."""
        self._x.copy_(x)
        _copy_into(self._conditioning, run.conditioning)
        if self._noise.streams is not None and run.noise.streams is not None:
            self._noise.streams.copy_(run.noise.streams)
        for step, noise in self._noise.steps.items():
            noise.copy_(run.noise.draw(step, x))
        self._graph.replay()
        return self._result.clone()


def _autocast(device: str) -> tuple[bool, torch.dtype]:
    """Whether torch casts what networks compute on such a device, and to which dtype."""
    if not hasattr(torch, "get_autocast_dtype"):  # before torch 2.4 there were functions for CUDA alone
        return torch.is_autocast_enabled(), torch.get_autocast_gpu_dtype()
    return torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)


def _kind(name: str, value: Any) -> Hashable:
    """What must be the same for one graph to serve."""
    if isinstance(value, torch.Tensor):
        return (value.shape, value.dtype, value.device)
    if isinstance(value, Mapping):
        return tuple((key, _kind(key, each)) for key, each in value.items())
    if isinstance(value, (list, tuple)):
        return (type(value), *(_kind(name, each) for each in value))
    try:
        hash(value)
    except TypeError:
        raise TypeError(
            f"{name} must hold tensors, or values that can be told apart by their hash, with mode='graph', "
            f"got {type(value).__name__}"
        ) from None
    return (type(value), value)


def _copied(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, Mapping):
        return {key: _copied(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        copies = map(_copied, value)
        return value._make(copies) if hasattr(value, "_make") else type(value)(copies)  # a named tuple has fields
    return value


def _copy_into(mine: Any, given: Any) -> None:
    if isinstance(given, torch.Tensor):
        mine.copy_(given)
    elif isinstance(given, Mapping):
        for key, each in given.items():
            _copy_into(mine[key], each)
    elif isinstance(given, (list, tuple)):
        for each, other in zip(mine, given, strict=True):
            _copy_into(each, other)
