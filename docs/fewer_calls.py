r"""Fewer network calls than DPM2 a: is the same accuracy to be had? The tables of docs/options.md.

    python -m docs.fewer_calls measure normal calls.jsonl     # exact, minutes; also: mixture, digits (an hour)
    python -m docs.fewer_calls table digits calls.jsonl       # --show law, read or spread
    python -m docs.fewer_calls law law.jsonl --calls 9        # Fréchet distances of 400 digits

At η = 1 a step's midpoint has the next step's σ. So the network is called twice at every σ but the first: once for the
midpoint, which the deterministic half of the step reaches, and once for the sample to which the noise was added. With D
for the estimate of the clean sample, a step of DPM2 a from x at σ is

.. math::
    u = D_1 + \tfrac{mid}{\sigma}(x - D_1),\quad D_1 = D(x, \sigma),\quad D_2 = D(u, mid),\qquad
    x' = D_1 + \tfrac{down}{\sigma}(x - D_1) + \tfrac{\sigma - down}{mid}(D_2 - D_1) + up\,\varepsilon.

Schemes with fewer calls take something else for one of the two estimates:

- *kept estimate*: :math:`D_1` is the :math:`D_2` of the step before. One call a step.
- *kept slope*: so is the slope. This is :math:`D_1 = D_2 + (x - u)`, with x - u, the noise, taken for data.
- *kept, normal*: in between, :math:`D_1 = D_2 + \tfrac{s^2}{s^2+\sigma^2}(x - u)`, which is right for normal data.
- *in turn*: every second step has no midpoint, and is one of Euler's method.
- *first if small*: the estimate is kept where :math:`D_2 - D_1` of the step before was below a tolerance.
- *second if small*: there the step has no midpoint.

Two other samplers stand beside them: Euler a, and a two-step method (DPM-Solver++ 2M SDE, Lu et al., 2022,
https://arxiv.org/abs/2211.01095), which adds :math:`(1-\tfrac{down}{\sigma})\tfrac{h}{2h_{before}}
(D_1 - D_{before})` to Euler's step, with h for the length of a step in log σ.

All runs of one measurement start from one noise and draw from one Brownian path. The strong error is the root mean
square distance to a fine run of DPM2 a; of samples, the mean distance. The levels and the tolerance are those that are
best for a scheme and a number of calls: on half of the samples, and the other half is measured.
"""

import json
import runpy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import pairwise, product
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.svm import SVC

import kdpm2
from kdpm2 import curves, spacing
from kdpm2.noise import Brownian
from kdpm2.zoo import GaussianMixture

Floats = NDArray[np.float64]
Tensor = torch.Tensor

CALLS = (7, 9, 13, 17, 25, 33)
LEVELS: dict[str, dict[str, Any]] = {
    "AYS": {"sigma_curve": "ays_sd15"},
    "AYS −1": {"sigma_curve": "ays_sd15", "discard_next_to_last_sigma": True},
    "linspace −1": {"discard_next_to_last_sigma": True},
    "Karras −1": {"sigma_curve": "karras", "discard_next_to_last_sigma": True},
    "exponential −1": {"sigma_curve": "exponential", "discard_next_to_last_sigma": True},
}
"""The best of the curves for one scheme or the other; −1 is without the sigma before the last."""
TOLERANCES = (0.1, 0.2, 0.4)
FINE, LOWEST, SEED = 128, 2e-3, 100_000
STD = 0.5
"""s of *kept, normal*."""

app = typer.Typer()
frechet_distance = runpy.run_path(str(Path(__file__).parents[1] / "training" / "evaluate.py"))["frechet_distance"]


@dataclass(frozen=True)
class Scheme:
    """What a step does.

    Attributes:
        keeps: The first estimate is the midpoint's of the step before, plus this function of σ times x - u.
        midpoint: Whether steps have a midpoint.
        skips: Which call is skipped where the two estimates of the step before are close: none, "first" or "second".
        extrapolates: Whether a step goes on with half of the change since the step before.
    """

    keeps: Callable[[float], float] | None = None
    midpoint: bool = True
    skips: str | None = None
    extrapolates: bool = False

    def steps(self, calls: int) -> int:
        """How many steps so many calls make."""
        if not self.midpoint:
            return calls
        return calls - 1 if self.keeps and not self.skips else (calls + 1) // 2


SCHEMES = {
    "DPM2 a": Scheme(),
    "kept estimate": Scheme(keeps=lambda sigma: 0.0),
    "kept slope": Scheme(keeps=lambda sigma: 1.0),
    "kept, normal": Scheme(keeps=lambda sigma: STD**2 / (STD**2 + sigma**2)),
    "first if small": Scheme(keeps=lambda sigma: 0.0, skips="first"),
    "second if small": Scheme(skips="second"),
    "Euler a": Scheme(midpoint=False),
    "2M": Scheme(midpoint=False, extrapolates=True),
}


@dataclass
class Problem:
    """What is sampled: a denoiser of x (..., and σ), the first noise, and the noise between two levels."""

    denoise: Callable[[Tensor, float], Tensor]
    noise: Tensor
    draw: Callable[[float, float], Tensor]
    size: Callable[[Tensor], float]


class Ran(NamedTuple):
    """A run: where it ended, and how many network calls it took."""

    samples: Tensor
    calls: int


@cache
def schedule() -> Any:
    """The noise levels of the digits' network, for every problem."""
    return kdpm2.denoiser_of(kdpm2.zoo.digits(), labels=[0]).schedule


def run(scheme: Scheme, problem: Problem, levels: Floats, eta: float, tolerance: float = np.inf) -> Ran:
    """A run over levels that end at 0."""
    x, calls, close = problem.noise * float(levels[0]), 0, False
    kept: tuple[Tensor, Tensor] | None = None
    before: tuple[Tensor, float] | None = None
    for sigma, following in pairwise(levels[:-1].tolist()):
        down, up, _ = map(float, schedule().coordinates.split(*map(np.float64, (sigma, following, eta))))
        mid, to_clean = (sigma * down) ** 0.5, 1 - down / sigma
        if scheme.keeps and kept and (close or not scheme.skips):
            first = kept[1] + scheme.keeps(sigma) * (x - kept[0])
        else:
            first, calls = problem.denoise(x, sigma), calls + 1
        after = x + to_clean * (first - x)
        if scheme.midpoint and not (scheme.skips == "second" and close):
            u = first + mid / sigma * (x - first)
            second, calls = problem.denoise(u, mid), calls + 1
            after = after + (sigma - down) / mid * (second - first)
            kept, close = (u, second), problem.size(second - first) < tolerance
        else:
            close = False
        length = float(np.log(sigma / following))
        if scheme.extrapolates and before:
            after = after + to_clean * length / before[1] / 2 * (first - before[0])
        before = (first, length)
        x = after + up * problem.draw(sigma, following) if up else after
    return Ran(problem.denoise(x, float(levels[-2])), calls + 1)


def fine_levels(highest: float, steps: int = FINE) -> Floats:
    """Where a fine run goes."""
    return np.append(curves.karras(highest, LOWEST, steps), 0.0)


def levels_of(name: str, steps: int) -> Floats:
    """The levels of a run, by a name."""
    return spacing.steps(schedule(), steps, **LEVELS[name]).sigmas


def pixels() -> Floats:
    """The real digits, shape (1797, 64), from -1 to 1."""
    return np.asarray(load_digits().data / 8 - 1)


def flat(samples: Tensor) -> Floats:
    """Samples as the real digits are."""
    return np.asarray(samples.clamp(-1, 1).flatten(1).double().numpy())


class Normal:
    """Normal data with the covariance of the digits, exactly: each run is linear in the noise.

    A sample is held as its coefficients, one for the first noise and one for each stretch of the path, for each of the
    64 axes of the covariance.
    """

    def __init__(self) -> None:
        variances = np.linalg.eigvalsh(np.cov(pixels().T)).clip(1e-8)
        self._variances = torch.from_numpy(variances)[:, None]

    def measured(self, ran: Callable[[Problem, Floats], Ran], levels: Floats, eta: float) -> dict[str, Any]:
        """The errors of a run over levels."""
        fine = np.unique(np.concatenate([fine_levels(levels[0], 3 * FINE), levels]))[::-1]
        places = {float(level): place for place, level in enumerate(fine)}
        lengths = torch.from_numpy(np.sqrt(fine[:-1] - fine[1:]))

        def draw(sigma: float, following: float) -> Tensor:
            noise, between = torch.zeros(1, len(fine), dtype=torch.float64), slice(places[sigma], places[following])
            noise[0, 1:][between] = lengths[between] / (sigma - following) ** 0.5
            return noise

        start = torch.zeros(64, len(fine), dtype=torch.float64)
        start[:, 0] = 1
        problem = Problem(self._denoise, start, draw, lambda x: float(x.square().sum(dim=1).mean().sqrt()))
        end, calls = ran(problem, levels)
        error = problem.size(end - run(Scheme(), problem, fine, eta).samples)
        deviations = end.square().sum(dim=1).sqrt() - self._variances[:, 0].sqrt()
        spread = problem.size(end) / float(self._variances.mean().sqrt())
        law = float(deviations.square().mean().sqrt())
        return {"calls": calls, "choice": error, "strong": error, "error": 0.0, "law": law, "spread": spread}

    def _denoise(self, x: Tensor, sigma: float) -> Tensor:
        return self._variances / (self._variances + sigma**2) * x


class Sampled:
    """Samples of one batch, and their fine run."""

    def __init__(self, denoise: Callable[[Tensor, Tensor], Tensor], noise: Tensor, eta: float) -> None:
        highest = curves.ALIGN_YOUR_STEPS["sd15"][0]  # a little above the model's own
        path = Brownian(noise, 0.0, highest, SEED)
        self._problem = Problem(
            lambda x, sigma: denoise(x, torch.full(x.shape[:1], sigma, dtype=x.dtype)),
            noise,
            path,
            lambda x: float(x.double().square().mean().sqrt()),
        )
        self._highest, self._eta = highest, eta

    @cached_property
    def fine(self) -> Tensor:
        """What the fine run leads to."""
        return run(Scheme(), self._problem, fine_levels(self._highest), self._eta).samples

    def ran(self, scheme: Scheme, levels: Floats) -> Tensor:
        """What a run over levels leads to."""
        return run(scheme, self._problem, levels, self._eta).samples

    def measured(self, ran: Callable[[Problem, Floats], Ran], levels: Floats, eta: float) -> dict[str, Any]:
        """The errors of a run over levels."""
        end, calls = ran(self._problem, levels)
        apart = (end - self.fine).flatten(1).double().square().mean(dim=1).sqrt().numpy()
        half = len(apart) // 2
        spread = float(
            end.double().std(dim=0).square().mean().sqrt() / self.fine.double().std(dim=0).square().mean().sqrt()
        )
        told = {"calls": calls, "choice": float(apart[:half].mean()), "strong": float(apart[half:].mean())}
        told |= {"error": float(apart[half:].std(ddof=1) / np.sqrt(len(apart) - half)), "spread": spread}
        return told | self.law(end)

    def law(self, end: Tensor) -> dict[str, float]:
        """How far the samples are from the fine run's as a set: quadratic Wasserstein distances along directions."""
        angles = torch.arange(8, dtype=end.dtype) * torch.pi / 8
        directions = torch.stack([angles.cos(), angles.sin()])
        a, b = ((each @ directions).sort(dim=0).values for each in (end, self.fine))
        return {"law": float((a - b).square().mean().sqrt())}


class Digits(Sampled):
    """The built-in network."""

    def __init__(self, count: int, eta: float) -> None:
        real = load_digits()
        self._labels = np.arange(count) % 10
        self._reader = SVC(C=10, gamma=0.06).fit(pixels(), real.target)
        noise = torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(SEED))
        super().__init__(kdpm2.denoiser_of(kdpm2.zoo.digits(), labels=self._labels.tolist()), noise, eta)

    def law(self, end: Tensor) -> dict[str, float]:
        """The Fréchet distance of the pixels to the real digits, and how many are read as their label."""
        shown = flat(end)
        read = float((self._reader.predict(shown) == self._labels).mean())
        return {"law": float(frechet_distance(shown, pixels())), "read": read}


def mixture(count: int, eta: float) -> Sampled:
    """Four Gaussians in the plane."""
    means = torch.tensor([[-0.8, 0.2], [0.6, -0.4], [0.3, 0.9], [-0.2, -0.7]], dtype=torch.float64)
    noise = torch.randn(count, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(SEED))
    return Sampled(GaussianMixture(means, 0.2), noise, eta)


def settings(eta: float, only: list[str], those: list[int]) -> Iterator[tuple[str, int, float]]:
    """Schemes, numbers of steps and tolerances. Those of few calls come first."""
    for calls in those:
        for name in only:
            scheme = SCHEMES[name]
            if eta != 1 and name in ("kept slope", "kept, normal"):
                continue  # x and u are not at one level
            for tolerance in TOLERANCES if scheme.skips else (np.inf,):
                # What a tolerance saves goes into more steps; which of them take so many calls is seen when they ran.
                least = scheme.steps(calls)
                most = round(1.35 * least) if scheme.skips else least
                yield from ((name, steps, tolerance) for steps in dict.fromkeys((least, most)))


@app.command()
def measure(
    what: str,
    path: Path,
    eta: float = 1.0,
    count: int = 64,
    only: Annotated[list[str] | None, typer.Option()] = None,
    calls: Annotated[list[int] | None, typer.Option()] = None,
) -> None:
    """Measure every run of normal data, a mixture or the digits that the file does not hold yet, or only some."""
    torch.set_grad_enabled(False)
    keys = ("what", "eta", "scheme", "levels", "steps", "tolerance")
    done = {tuple(row[key] for key in keys) for row in rows(path)}
    problem: Any = Normal() if what == "normal" else mixture(2000, eta) if what == "mixture" else Digits(count, eta)
    for (name, steps, tolerance), levels in product(settings(eta, only or list(SCHEMES), calls or list(CALLS)), LEVELS):
        key = (what, eta, name, levels, steps, tolerance)
        if key in done:
            continue
        done.add(key)

        def ran(of: Problem, at: Floats, name: str = name, tolerance: float = tolerance) -> Ran:
            return run(SCHEMES[name], of, at, eta, tolerance)

        found = problem.measured(ran, levels_of(levels, steps), eta)
        with path.open("a") as file:
            file.write(json.dumps(dict(zip(keys, key, strict=True)) | found) + "\n")


@app.command()
def law(
    path: Path,
    count: int = 400,
    eta: float = 1.0,
    levels: str = "AYS",
    calls: Annotated[list[int] | None, typer.Option()] = None,
) -> None:
    """Measure the Fréchet distance of many digits, and how far it is below that of DPM2 a.

    The error of the difference is that of the jackknife, which leaves out a twentieth of the digits.
    """
    torch.set_grad_enabled(False)
    digits, real, groups = Digits(count, eta), pixels(), 20
    for each in calls or CALLS:
        first: Floats = np.empty(0)
        for name in ("DPM2 a", "kept estimate", "Euler a", "2M"):
            end = digits.ran(SCHEMES[name], levels_of(levels, SCHEMES[name].steps(each)))
            shown = flat(end)
            left = [np.arange(count) % groups != group for group in range(groups)]
            distances = np.array([frechet_distance(shown[some], real) for some in left])
            first = first if len(first) else distances
            error = float(np.sqrt((groups - 1) * np.var(distances - first)))
            below = float(np.mean(first - distances))
            told = {"scheme": name, "calls": each, "levels": levels, "count": count, "below": below, "error": error}
            with path.open("a") as file:
                file.write(json.dumps(told | digits.law(end)) + "\n")


def rows(path: Path) -> list[dict[str, Any]]:
    """The runs that were measured."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@app.command()
def table(
    what: str,
    path: Path,
    eta: float = 1.0,
    show: Annotated[str, typer.Option(help="strong, law, spread or read")] = "strong",
    by: Annotated[str, typer.Option(help="What levels are chosen by: choice (the strong error) or law")] = "choice",
) -> None:
    """Print one figure of every scheme with its best levels, as Markdown."""
    measured = [row for row in rows(path) if row["what"] == what and row["eta"] == eta]
    print("| scheme | " + " | ".join(f"{calls} calls" for calls in CALLS) + " |")
    print("| :--- |" + " ---: |" * len(CALLS))
    for name in SCHEMES:
        cells = []
        for calls in CALLS:
            least = 0 if SCHEMES[name].skips else calls
            fits = [row for row in measured if row["scheme"] == name and least <= row["calls"] <= calls]
            best = min(fits, key=lambda row: float(row[by])) if fits else None
            cells.append("" if best is None else f"{best[show]:.4f} {best['levels']}")
        if any(cells):
            print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    app()
