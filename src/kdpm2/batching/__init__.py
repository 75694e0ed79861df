"""Requests at different steps in one batch: admitted at any time, each with its own steps, eta and prediction type.

A sampler is a table, and the state of a request is its stage and two samples. So requests can be advanced together even
if they share nothing but the network. `BatchedSolver` does this, and its caller calls the network. `serve` and `Server`
are loops around it: `serve` for one thread, `Server` for many.

References:
    | Batches whose members come and go at each step, for language models: Orca (Yu et al., 2022),
      https://www.usenix.org/conference/osdi22/presentation/yu
"""

from kdpm2.batching.request import Request
from kdpm2.batching.server import Server
from kdpm2.batching.serving import Result, serve
from kdpm2.batching.solver import BatchedSolver, Finished, Inputs

__all__ = ["BatchedSolver", "Finished", "Inputs", "Request", "Result", "Server", "serve"]
