"""What stands in for CUDA graphs where there is no GPU: a recording of torch's operations, and of the memory they use.

Playing it repeats the operations on that memory, and nothing else: not the Python between them, no draw, no copy of an
argument. What a graph needs and its recording forgot is missing here too.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from kdpm2 import graph


class Recorded(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.operations: list[Any] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        self.operations.append((function, args, kwargs or {}, result))
        return result

    @torch.inference_mode()  # a graph's memory may be written to whatever mode it was recorded in
    def replay(self) -> None:
        for function, args, kwargs, result in self.operations:
            again = function(*args, **kwargs)
            for new, old in zip(tree_leaves(again), tree_leaves(result), strict=True):
                if isinstance(old, torch.Tensor) and new is not old:
                    old.copy_(new)


@contextmanager
def graphs_on_the_cpu() -> Iterator[list[Recorded]]:
    """Let `kdpm2.graph` record on the CPU; the recordings made so far."""
    made: list[Recorded] = []

    def new() -> Recorded:
        made.append(Recorded())
        return made[-1]

    with (
        mock.patch.object(graph, "DEVICES", ("cpu",)),
        mock.patch.object(torch.cuda, "CUDAGraph", new),
        mock.patch.object(torch.cuda, "graph", lambda recorded: recorded),
        mock.patch.object(torch.cuda, "Stream", mock.MagicMock()),
        mock.patch.object(torch.cuda, "current_stream", mock.MagicMock()),
        mock.patch.object(torch.cuda, "stream", return_value=nullcontext()),
        mock.patch.object(torch.cuda, "device", return_value=nullcontext()),
    ):
        yield made
