"""Make the pictures of the documentation: emoji from the built-in model, noise levels, and one step."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks import report
from benchmarks.plot import draw_latencies
from matplotlib.figure import Figure
from numpy.typing import NDArray

import kdpm2
from docs import style
from kdpm2 import KDPM2AncestralDiscreteScheduler, KDPM2DiscreteScheduler, noise_schedule, spacing, table
from kdpm2.guidance import Guidance
from kdpm2.zoo.pixels import outputs

FIGURES = Path(__file__).parent / "figures"
_SHOWN = ("face", "person", "plant", "fruit", "vehicle", "clothes", "heart", "flag")
LABELS = [kdpm2.zoo.KINDS.index(kind) for kind in _SHOWN]
SEEDS = list(range(8))
GUIDANCE = 2.0
Images = NDArray[np.float32]


def draw(cls: Any, steps: int, labels: list[int], seeds: list[int], **options: Any) -> Images:
    """Emoji (n, 24, 24, 3) in [0, 1], one a seed."""
    pipe = kdpm2.zoo.emoji()
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = cls.from_config(pipe.scheduler.config, **options)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    images: Images = pipe(labels, None, steps, GUIDANCE, generators, output_type="np").images
    return images


def noise() -> torch.Tensor:
    """White noise, one a seed."""
    return torch.cat([torch.randn(1, 3, 24, 24, generator=torch.Generator().manual_seed(seed)) for seed in SEEDS])


def rows(name: str, rows: dict[str, Images], columns: list[str] | None = None, title: str = "") -> None:
    """Write a picture of labelled rows of emoji."""
    count = len(next(iter(rows.values())))
    height = 0.86 * len(rows) + (0.35 if columns else 0) + (0.35 if title else 0)
    figure = Figure(figsize=(2.6 + 0.82 * count, height), layout="constrained")
    grid = np.atleast_2d(figure.subplots(len(rows), count))
    for (label, images), axes in zip(rows.items(), grid, strict=True):
        for axis, image in zip(axes, images, strict=True):
            axis.imshow(image, interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            axis.grid(False)
        axes[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=18)
    for axis, head in zip(grid[0], columns or [], strict=False):
        axis.set_title(head, fontsize=18)
    if title:
        figure.suptitle(title, color=style.INK, fontsize=18)
    style.save(figure, FIGURES / name)


def steps() -> None:
    """From noise to emoji: what the sampler holds at some of its stages, each scaled to be seen."""
    pipe = kdpm2.zoo.emoji()
    scheduler: Any = KDPM2AncestralDiscreteScheduler.from_config(pipe.scheduler.config, discard_next_to_last_sigma=True)
    scheduler.set_timesteps(8)
    x, labels = noise() * scheduler.init_noise_sigma, torch.tensor(LABELS)
    scheduler.seed(SEEDS)
    pictures = {"noise": shown(x)}
    for stage, t in enumerate(scheduler.timesteps):
        with torch.no_grad():
            scaled = scheduler.scale_model_input(x, t)
            output = outputs(pipe.unet, scaled, t, labels, Guidance(GUIDANCE)).followed
        x = scheduler.step(output, t, x).prev_sample
        calls = stage + 1
        if calls in (5, 9, 11, 13, len(scheduler.timesteps)):
            pictures[f"{calls} calls"] = shown(x)
    rows("steps.png", pictures)


def shown(x: torch.Tensor) -> Images:
    """Pictures in [0, 1] of samples of any noise level."""
    scaled = x / x.std(dim=(1, 2, 3), keepdim=True).clamp(min=0.75) * 0.75
    return (scaled / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy()


def eta() -> None:
    """The same seeds with more and more of their noise new."""
    pictures = {
        f"eta {eta}": draw(KDPM2AncestralDiscreteScheduler, 12, LABELS, SEEDS, eta=eta) for eta in (0.0, 0.3, 0.6, 1.0)
    }
    rows("eta.png", pictures)


def brownian() -> None:
    """One seed in more and more steps, with noise of its own each time and with one path."""
    counts = [5, 10, 20, 40, 80, 160]
    pictures = {
        f"{kdpm2.zoo.KINDS[label]}, {noise}": np.concatenate(
            [draw(KDPM2AncestralDiscreteScheduler, n, [label], [7], noise=noise) for n in counts]
        )
        for label in (LABELS[0], LABELS[-2])
        for noise in ("gaussian", "brownian")
    }
    rows("brownian.png", pictures, [str(n) for n in counts], title="steps")


def churn() -> None:
    """The deterministic sampler with more and more churn."""
    pictures = {f"s_churn {c}": draw(KDPM2DiscreteScheduler, 20, LABELS, SEEDS, s_churn=c) for c in (0.0, 2.0, 8.0)}
    rows("churn.png", pictures)


def next_to_last_sigma() -> None:
    """Few steps, with and without the sigma before the last."""
    pictures = {}
    for name, plain in (("linspace", True), ("Karras", False)):
        for discard in (False, True):
            options = {"use_karras_sigmas": not plain, "discard_next_to_last_sigma": discard}
            label = f"{name}, {'left out' if discard else 'all'}"
            pictures[label] = draw(KDPM2AncestralDiscreteScheduler, 5, LABELS, SEEDS, **options)
    rows("next_to_last_sigma.png", pictures)


def fewer_steps() -> None:
    """The same seeds in fewer and fewer steps, for the tutorial."""
    options = {"use_karras_sigmas": False, "eta": 0.5}
    pictures = {
        f"{n} steps": draw(KDPM2AncestralDiscreteScheduler, n, LABELS, SEEDS, **options) for n in (2, 3, 4, 6, 10, 20)
    }
    rows("fewer_steps.png", pictures)


def sigmas() -> None:
    """The noise levels of twelve steps, by spacing and by curve."""
    figure = Figure(figsize=(11, 7), layout="constrained")
    spacings, curves = figure.subplots(1, 2, sharey=True)
    trained = kdpm2.zoo.emoji().scheduler.config
    for name, marker in zip(("linspace", "leading", "trailing", "simple", "sgm_uniform"), "os^Dv", strict=True):
        plot(spacings, name, marker, trained, use_karras_sigmas=False, timestep_spacing=name)
    for name, marker in zip(("karras", "exponential", "beta", "polyexponential"), "os^D", strict=True):
        rho = {"rho": 2.0} if name == "polyexponential" else {}
        label = f"{name}, rho 2" if rho else name
        plot(curves, label, marker, trained, use_karras_sigmas=False, sigma_curve=name, **rho)
    plot(curves, "ays_sd15", "v", trained, use_karras_sigmas=False, sigma_curve="ays_sd15")
    spacings.set(yscale="log", xlabel="step", ylabel="noise level (sigma)", title="spacings")
    curves.set(xlabel="step", title="curves")
    for axes in (spacings, curves):
        axes.set_xticks(range(0, 12, 2))
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15))
    style.save(figure, FIGURES / "sigmas.png")


def plot(axes: Any, label: str, marker: str, trained: Any, **options: Any) -> None:
    """One line: where the steps start."""
    scheduler: Any = KDPM2AncestralDiscreteScheduler.from_config(trained, **options)
    scheduler.set_timesteps(12)
    axes.plot(scheduler.table.sigmas[:-1], marker=marker, markersize=6, label=label)


def one_step() -> None:
    """One step of DPM2 with eta 0.7, for data that is -1 or 1, give or take 0.3."""
    model = kdpm2.zoo.GaussianMixture(torch.tensor([[-1.0], [1.0]], dtype=torch.float64), 0.3)
    start, end, x = 4.0, 1.6, 1.2
    steps = spacing.Steps(np.array([start, end]), np.array([start]))
    made = table.dpm2(noise_schedule.SigmaConditioned(), steps, "sample", eta=0.7)
    middle, down, up = (float(values[0]) for values in (made.mid, made.down, made.up))

    def slope(x: float, sigma: float) -> float:
        clean = model(torch.tensor([[x]], dtype=torch.float64), torch.tensor([sigma], dtype=torch.float64))
        return (x - float(clean)) / sigma

    figure = Figure(figsize=(11, 6.6), layout="constrained")
    axes = figure.subplots()
    for ahead in np.linspace(-9, 9, 25):  # where samples go without noise
        levels, path = np.linspace(6, 0.4, 200), [ahead]
        for sigma, following in itertools.pairwise(levels):
            path.append(path[-1] + (following - sigma) * slope(path[-1], sigma))
        axes.plot(levels, path, color=style.INK, alpha=0.35, linewidth=1)
    first = x + (middle - start) * slope(x, start)
    second = x + (down - start) * slope(first, middle)
    drawn = second + up
    arrows = [
        ((start, x), (middle, first), style.BLUE, "-"),
        ((start, x), (down, second), style.GREEN, "-"),
        ((down, second), (end, drawn), style.RED, "--"),
    ]
    for tail, head, color, line in arrows:
        axes.annotate("", head, tail, arrowprops={"arrowstyle": "-|>", "color": color, "lw": 3.5, "ls": line})
    marks = [
        (start, x, style.INK, "anchor", (0, 18), "center"),
        (middle, first, style.BLUE, "1. midpoint", (-4, -34), "center"),
        (down, second, style.GREEN, "2. down", (4, -34), "center"),
        (end, drawn, style.RED, "3. up, by noise", (-4, 18), "left"),
    ]
    for sigma, at, color, words, offset, ha in marks:
        axes.plot(sigma, at, "o", color=color, markersize=12)
        axes.annotate(words, (sigma, at), offset, textcoords="offset points", color=color, ha=ha, weight="bold")
    axes.set(xlim=(4.6, 0.62), ylim=(-0.6, 2.6), xscale="log")
    axes.set(xlabel="noise level (σ), falling to the right", ylabel="sample (x)")
    axes.grid(False)
    axes.set_xticks([start, middle, end, down], ["σ", "mid", "σ'", "down"])
    axes.xaxis.minorticks_off()
    style.save(figure, FIGURES / "one_step.png")


def batching_latency() -> None:
    """How long requests wait, as `make batching` measured it."""
    measured = FIGURES.parents[1] / "benchmarks" / "batching.json"
    draw_latencies(report.read(measured.read_text(encoding="utf-8")).records, FIGURES / "batching_latency.png")


def main() -> None:
    """Write every picture."""
    FIGURES.mkdir(exist_ok=True)
    with style.styled():
        emoji = (steps, eta, brownian, churn, next_to_last_sigma, fewer_steps)
        for picture in (*emoji, sigmas, one_step, batching_latency):
            picture()
            print(picture.__name__, flush=True)


if __name__ == "__main__":
    main()
