"""`kdpm2.tune`: noise levels for one model and one number of steps."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kdpm2 import _check, curves
from kdpm2._check_tensor import floating_dtype
from kdpm2._progress import bar
from kdpm2.denoiser import Network, as_denoiser
from kdpm2.noise import LARGEST_SEED
from kdpm2.noise_schedule import NoiseSchedule
from kdpm2.tuning.bench import Bench, calls_of, distances
from kdpm2.tuning.mesh import LocalError, measured
from kdpm2.tuning.polish import polished
from kdpm2.tuning.report import TUNED, Tried, Tuned
from kdpm2.tuning.untuned import Untuned, known

Floats = NDArray[np.float64]

CALLS = 400
"""How many network calls of a batch may be spent on up to 16 steps."""

_CALLS_A_STEP = 25  # beyond
_LEAST_CALLS_A_STEP = 16
_MOST_STEPS = 1000
_FINER = 8
_FOR_REFERENCE = 1 / 3
_FOR_UNTUNED = 0.4


@torch.no_grad()
def tune(
    denoiser: Network,
    shape: Sequence[int],
    steps: int,
    *,
    eta: float = 1.0,
    seed: int = 0,
    calls: int | None = None,
    sigma_min: float | None = None,
    sigma_max: float | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    progress: bool = False,
) -> Tuned:
    """Noise levels at which so many steps come closest to a run of many.

    The same arguments give the same levels on the same machine. On Ctrl-C it returns the best levels so far, if there
    are some.

    Args:
        denoiser: A `kdpm2.Denoiser` without further conditioning, as `kdpm2.denoiser_of(pipe, prompt)` is; or a
            function of x (B, ...) and sigma (B,) that returns the clean sample.
        shape: Of the batch, (B, ...), B at least 4. The search looks at the first half; the second half decides.
        steps: N, from 2 to 1000.
        eta: The stochasticity of the runs, from 0 to 1.
        seed: Sample i starts from noise of seed + i. The Brownian path of the steps has this seed.
        calls: How many network calls may be spent, each for the whole batch; at least 16 N. None for 400, or 25 N from
            17 steps on.
        sigma_min: Smallest noise level, for a function that has no schedule to say so; else None.
        sigma_max: Largest noise level, likewise. Runs start here.
        device: Of the samples.
        dtype: Of the samples, floating point.
        progress: Whether to show a bar of network calls.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range, or contradicts another.
    """
    model = as_denoiser(denoiser)
    count = _check.integer("steps", steps, 2, _MOST_STEPS)
    least = _LEAST_CALLS_A_STEP * count
    allowed = max(CALLS, _CALLS_A_STEP * count) if calls is None else _check.integer("calls", calls, least, 10**9)
    eta = _check.number("eta", eta, 0, 1)
    batch = _checked_shape(shape)
    first = _check.integer("seed", seed, 0, LARGEST_SEED - batch[0])
    high, low = _range(model.schedule, sigma_max, sigma_min)
    rivals = known(model.schedule, count, high, low)
    highest = max([high, *(float(each.levels[0]) for each in rivals)])
    with bar(total=allowed, unit="call", disable=not _check.flag("progress", progress)) as shown:
        bench = Bench(
            model, batch, eta, highest, first, torch.device(device), floating_dtype("dtype", dtype), shown.update
        )
        return _Search(bench, rivals, count, eta, allowed, high, low).found()


def _checked_shape(shape: Any) -> tuple[int, ...]:
    if isinstance(shape, (str, bytes)) or not isinstance(shape, Sequence) or len(shape) < 1:
        raise TypeError(f"shape must be that of a batch, (B, ...), got {_check.shown(shape)}")
    return tuple(_check.integer("each of shape", n, 1 if i else 4, 10**9) for i, n in enumerate(shape))


def _range(schedule: NoiseSchedule, sigma_max: Any, sigma_min: Any) -> tuple[float, float]:
    """The largest and the smallest noise level of runs."""
    if np.isfinite(schedule.sigma_max) and schedule.sigma_min > 0:
        if not sigma_max is sigma_min is None:
            raise ValueError(
                f"sigma_min and sigma_max must be None for {schedule.named}, which has a range of its own, "
                f"got {_check.shown(sigma_min)} and {_check.shown(sigma_max)}"
            )
        return schedule.sigma_max, schedule.sigma_min
    if sigma_min is None or (sigma_max is None and not schedule.flow):
        raise ValueError(f"sigma_min and sigma_max must be given for {schedule.named}, which has no range of its own")
    high = schedule.sigma_max if sigma_max is None else _check.positive("sigma_max", sigma_max)
    low = _check.positive("sigma_min", sigma_min)
    if not low < high <= schedule.largest:
        raise ValueError(
            f"sigma_min must be below sigma_max, and that at most {schedule.largest:g}, got {low:g} and {high:g}"
        )
    return high, low


class _Search:
    """One search: what it may spend, and what it has seen."""

    def __init__(
        self, bench: Bench, rivals: list[Untuned], steps: int, eta: float, allowed: int, high: float, low: float
    ) -> None:
        self.bench, self.rivals, self.steps, self.eta, self.allowed = bench, rivals, steps, eta, allowed
        self.low = low
        fine = max(min(_FINER * steps, int(allowed * _FOR_REFERENCE + 1) // 2), steps + 2)
        self.fine = np.append(curves.karras(high, low, fine), 0.0)
        self.reference: torch.Tensor | None = None
        # By name: the levels, and the error of each sample.
        self.tried: dict[str, tuple[Floats, Floats]] = {}

    def found(self) -> Tuned:
        """Search, and choose."""
        stopped = False
        try:
            self.search()
        except KeyboardInterrupt:
            if not self.tried:
                raise
            stopped = True
        return replace(self.chosen(), stopped=stopped)

    def search(self) -> None:
        """Make the fine run, and try the mesh, the untuned levels, and what is around the best of them."""
        traced = self.bench.run(self.fine, trace=True)
        self.reference = traced.samples
        local = measured(self.bench, self.fine, traced, self.steps)
        del traced
        self.tried[TUNED] = self.errors(local.levels(self.steps))
        for each in self.promising(local):
            self.tried[each.name] = self.errors(each.levels)
        levels, errors = min(self.tried.values(), key=lambda tried: float(_searched(tried[1]).mean()))
        seen: dict[bytes, tuple[Floats, Floats]] = {}

        def measure(levels: Floats) -> Floats:
            seen[levels.tobytes()] = self.errors(levels)
            return _searched(seen[levels.tobytes()][1])

        bounds = (self.low, local.highest_last)
        for better in polished(levels, _searched(errors), measure, self.affordable, bounds):
            self.tried[TUNED] = seen[better.tobytes()]

    def promising(self, local: LocalError) -> list[Untuned]:
        """The untuned levels of the smallest predicted errors, as many as may be tried."""
        fit = [each for each in self.rivals if each.levels[-2] <= local.highest_last]
        most = int((self.allowed - self.bench.calls) * _FOR_UNTUNED) // calls_of(self.steps)
        return sorted(fit, key=lambda each: local.predicted(each.levels))[: max(most, 1)]

    def affordable(self) -> bool:
        """Whether one more run of N steps may be made."""
        return self.bench.calls + calls_of(self.steps) <= self.allowed

    def errors(self, levels: Floats) -> tuple[Floats, Floats]:
        """Levels, and how far each sample is from that of the fine run."""
        assert self.reference is not None
        return levels, distances(self.bench.run(levels).samples, self.reference)

    def chosen(self) -> Tuned:
        """The best so far, by the samples that were held out."""
        tried = []
        for name, (levels, errors) in self.tried.items():
            held_out = _held_out(errors)
            uncertainty = float(held_out.std(ddof=1) / np.sqrt(len(held_out)))
            tried.append(Tried(name, levels, float(held_out.mean()), uncertainty))
        tried.sort(key=lambda each: each.error)
        # One untuned curve alone, chosen by the search: the best of many by the samples held out would be so by luck.
        by_search = sorted(self.tried, key=lambda name: float(_searched(self.tried[name][1]).mean()))
        rival = next((name for name in by_search if name != TUNED), TUNED)
        name = min((TUNED, rival), key=lambda name: float(np.sqrt(_held_out(self.tried[name][1])).mean()))
        best = next(each for each in tried if each.name == name)
        untuned = next((each.options for each in self.rivals if each.name == best.name), None)
        return Tuned(
            sigmas=best.levels,
            name=best.name,
            options=self.options(untuned, best.levels),
            tried=tuple(tried),
            steps=self.steps,
            eta=self.eta,
            reference_steps=len(self.fine) - 1,
            samples=len(held_out),
            calls=self.bench.calls,
        )

    def options(self, untuned: dict[str, Any] | None, levels: Floats) -> dict[str, Any]:
        """The options of a scheduler that ask for levels, and for no others."""
        none: dict[str, Any] = dict.fromkeys(curves.FLAGS, False) | dict.fromkeys((*curves.BY_VALUE, "rho"))
        none |= {"discard_next_to_last_sigma": False, "final_sigmas_type": "zero"}
        if self.bench.schedule.default_curve is None:  # else they are the model's own range
            none |= {"sigma_min": None, "sigma_max": None}
        if untuned:
            return none | untuned
        end = min(self.low, levels[-2] / 2)
        return none | {"tuned_sigmas": [float(f"{level:.6g}") for level in (*levels[:-1], end)]}


def _searched(distances: Floats) -> Floats:
    """What the search looks at: the roots of the first half. A sample that has become another one weighs less so."""
    return np.sqrt(distances[: len(distances) // 2])


def _held_out(distances: Floats) -> Floats:
    return distances[len(distances) // 2 :]
