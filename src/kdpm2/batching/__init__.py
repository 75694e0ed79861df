"""Requests at different steps in one batch: admitted at any time, each with its own steps, eta and prediction type.

A sampler is a table, and a request's state is its stage and two samples, so that requests that have nothing in common
but the network are advanced together: `BatchedSolver` does that, and leaves the network to its caller. `serve` and
`Server` are the loop around it, for one thread and for many.

References:
    | Batches whose members come and go at each step, for language models: Orca (Yu et al., 2022),
      https://www.usenix.org/conference/osdi22/presentation/yu
"""

from kdpm2.batching.request import Request
from kdpm2.batching.server import Server
from kdpm2.batching.serving import Result, serve
from kdpm2.batching.solver import BatchedSolver, Finished, Inputs

__all__ = ["BatchedSolver", "Finished", "Inputs", "Request", "Result", "Server", "serve"]
