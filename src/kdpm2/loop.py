"""A run over a table, from noise to samples: stage after stage, the network is called and its row applied.

There are three ways to make the same samples. `eager` calls the network as it is. `compiled` has torch compile the
network and the row's arithmetic, once for all stages. `kdpm2.graph` records `eager` as one CUDA graph and plays it
again.

Besides what the network needs, `eager` keeps at most three tensors of the sample's size: the sample, the anchor, and
the network's input or the noise. A run never waits for the device, except for a callback.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch

from kdpm2 import philox, update
from kdpm2._progress import bar as _progress_bar
from kdpm2.denoiser import Denoiser
from kdpm2.noise import Source
from kdpm2.philox import Draw
from kdpm2.table import StageTable
from kdpm2.update import DeviceTable

Callback = Callable[[dict[str, Any]], object]


@dataclass(frozen=True)
class Run:
    """What a run is made of, without the samples that it starts from.

    Attributes:
        table: Its stages, one at least.
        model: What the network is, and how it is called.
        noise: Where the noise of steps comes from.
        conditioning: Keyword arguments of the network.
        callback: Called once a step with what k-diffusion's functions tell.
        disable: Whether to show no progress bar; None for one on a terminal.
        start: The stage at which it begins, which starts a step: 0, or where it was stopped.
        anchor: What that stage has for an anchor, in a run that was stopped.
        stopped: Makes the state of the run for the callback, from the stage, the samples and the anchor; None for no
            such thing.
        draws_every_step: Whether noise is drawn for every step but the last, even if the step adds none. k-diffusion
            uses random numbers in this way.
    """

    table: StageTable
    model: Denoiser
    noise: Source
    conditioning: dict[str, Any]
    callback: Callback | None = None
    disable: bool | None = True
    draws_every_step: bool = False
    start: int = 0
    anchor: torch.Tensor | None = None
    stopped: Callable[[int, torch.Tensor, torch.Tensor | None], dict[str, Any]] | None = None


def eager(run: Run, x: torch.Tensor, held: DeviceTable | None = None) -> torch.Tensor:
    """The samples that the run leads to, a new tensor like `x` (B, ...); `held` is its table there, if made."""
    table, noise = run.table, run.noise
    held = update.on_device(table, x.device, x.dtype) if held is None else held
    timesteps = held.timesteps[:, None].expand(-1, len(x)).unbind()
    scales = update.input_scales(table, x.dtype)
    # A sample is written over by the next of its kind, after a step or in the middle of one, unless the callback has
    # seen it, and may have kept it. That of the caller never is.
    memory: dict[bool, torch.Tensor | None] = {True: None, False: None}
    unseen = run.callback is None
    anchor, keeps = run.anchor, table.keeps_anchor
    told = _progress(run)
    for stage in range(run.start, len(table)):
        row, step, ends = table.row(stage), int(table.step[stage]), bool(table.ends_step[stage])
        # A new tensor at any scale: a network may write to what it is given.
        network_input = x.mul(scales[stage])
        model_output, unguided = run.model.outputs(network_input, timesteps[stage], **run.conditioning)
        del network_input
        if run.callback is not None and table.starts_step[stage]:
            run.callback(_told(run, stage, x, update.denoised(row, x, model_output), anchor))
        if unguided is not None:
            x, model_output = update.renoised(table, stage, x, model_output, unguided)
        drawn: torch.Tensor | Draw | None = None
        if row.noise and noise.streams is not None:
            drawn = Draw(noise.streams, held.step[stage])
        elif row.noise or (run.draws_every_step and ends and stage + 1 < len(table)):
            drawn = noise.draw(step, x)
        into = memory[ends]
        if into is None and isinstance(drawn, torch.Tensor) and noise.fresh:
            into = drawn
        kept = x if keeps[stage] else None
        if kept is not None and table.keeps_estimate:
            kept = update.denoised(row, x, model_output)
        after = update.advance(row, x, model_output, anchor, drawn if row.noise else None, into)
        del model_output, unguided, drawn, into
        memory[ends] = after if unseen else None
        x, anchor = after, kept
        told(ends)
    return x


def compiled(run: Run, x: torch.Tensor) -> torch.Tensor:
    """The same samples, each stage by one graph of the network and the row's arithmetic, the same for all stages.

    It is compiled when a network, a shape or a dtype first comes, which may take a minute. What torch cannot compile of
    the network is called as it is.
    """
    table, noise = run.table, run.noise
    held = update.on_device(table, x.device, x.dtype)
    for column in held:
        torch._dynamo.maybe_mark_dynamic(column, 0)  # other numbers of stages are no other graph
    x = x.detach().contiguous()
    # Tensors of their own from the start: to torch, arguments that are one tensor are another graph.
    previous = torch.zeros_like(x) if run.anchor is None else run.anchor.contiguous()
    drawn = torch.zeros_like(x) if noise.streams is None and table.adds_noise.any() else None
    told = _progress(run)
    for stage in range(run.start, len(table)):
        row, step = table.row(stage), int(table.step[stage])
        if row.noise and noise.streams is None:
            drawn = noise.draw(step, x)
        after, model_output, renoised = _compiled_stage()(
            run.model, held, held.stage[stage], x, previous, drawn, noise.streams, run.conditioning
        )
        if run.callback is not None and table.starts_step[stage]:
            anchor = previous if table.keeps_estimate else None
            run.callback(_told(run, stage, x, update.denoised(row, x, model_output), anchor))
        read = x if renoised is None else renoised
        x, previous = after, update.denoised(row, read, model_output) if table.keeps_estimate else read
        told(bool(table.ends_step[stage]))
    return x


@cache
def _compiled_stage() -> Callable[..., tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]]:
    return torch.compile(_stage)


def _stage(
    model: Denoiser,
    held: DeviceTable,
    stage: torch.Tensor,
    x: torch.Tensor,
    previous: torch.Tensor,
    drawn: torch.Tensor | None,
    streams: torch.Tensor | None,
    conditioning: dict[str, Any],
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """The sample after a stage, the network's output, and what the stage read in the place of `x`, if anything."""
    network_input, timestep = update.network_input(held, stage, x)
    said, unguided = model.outputs(network_input, timestep, **conditioning)
    model_output, renoised = said, None
    if unguided is not None:
        x, model_output = update.renoised_at(held, stage, x, said, unguided)
        renoised = x
    if streams is not None:
        drawn = philox.normal(streams, held.step.index_select(0, stage.reshape(1)).reshape(()), x.shape)
    return update.at_stage(held, stage, x, model_output, previous, drawn), said, renoised


def _progress(run: Run) -> Callable[[bool], object]:
    """A function to be called after each stage with whether it ends a step, which shows a bar if one is asked for."""
    if run.disable:
        return lambda ends: None
    first = int(run.table.step[run.start])
    bar = _progress_bar(total=len(run.table.sigmas) - 1, initial=first, disable=run.disable)

    def told(ends: bool) -> None:
        bar.update(int(ends))
        if bar.n == bar.total:
            bar.close()

    return told


def _told(run: Run, stage: int, x: torch.Tensor, denoised: torch.Tensor, anchor: torch.Tensor | None) -> dict[str, Any]:
    table = run.table
    step = int(table.step[stage])
    dtype = torch.promote_types(x.dtype, torch.float32)
    levels = torch.tensor([table.sigmas[step], table.stage_sigmas[stage]], dtype=dtype, device=x.device)
    told = {"x": x, "i": step, "sigma": levels[0], "sigma_hat": levels[1], "denoised": denoised}
    return told if run.stopped is None else told | {"state": partial(run.stopped, stage, x, anchor)}
