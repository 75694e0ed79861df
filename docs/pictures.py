"""Make the pictures of docs/options.md from the digits model: a row for each setting, a column for each seed."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

import kdpm2
from kdpm2 import KDPM2AncestralDiscreteScheduler, KDPM2DiscreteScheduler

FIGURES = Path(__file__).parent / "figures"
LABELS = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
Images = NDArray[np.float32]


def draw(cls: Any, steps: int, labels: list[int], seeds: list[int], **options: Any) -> Images:
    """Digits (n, 8, 8) in [0, 1], one a seed."""
    pipe = kdpm2.zoo.digits()
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = cls.from_config(pipe.scheduler.config, **options)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    images: Images = pipe(labels, num_inference_steps=steps, generator=generators, output_type="np").images
    return images[..., 0]


def rows(name: str, rows: dict[str, Images], columns: list[str] | None = None) -> None:
    """Write a picture of labelled rows of digits."""
    count = len(next(iter(rows.values())))
    figure = Figure(figsize=(1.6 + 0.72 * count, 0.78 * len(rows) + (0.3 if columns else 0)), layout="constrained")
    grid = np.atleast_2d(figure.subplots(len(rows), count))
    for (label, images), axes in zip(rows.items(), grid, strict=True):
        for axis, image in zip(axes, images, strict=True):
            axis.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="bicubic")
            axis.set(xticks=[], yticks=[])
        axes[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=10)
    for axis, title in zip(grid[0], columns or [], strict=False):
        axis.set_title(title, fontsize=9)
    figure.savefig(FIGURES / name, dpi=90)


def eta() -> None:
    """The same seeds with more and more of their noise new."""
    seeds = list(range(10))
    rows(
        "eta.png",
        {
            f"eta {eta}": draw(KDPM2AncestralDiscreteScheduler, 12, LABELS, seeds, eta=eta)
            for eta in (0.0, 0.3, 0.6, 1.0)
        },
    )


def brownian() -> None:
    """One seed in more and more steps, with noise of its own each time and with one path."""
    steps = [5, 10, 20, 40, 80, 160]
    pictures = {
        f"{noise}, {label}": np.concatenate(
            [draw(KDPM2AncestralDiscreteScheduler, n, [label], [7], noise=noise) for n in steps]
        )
        for label in (3, 5)
        for noise in ("gaussian", "brownian")
    }
    rows("brownian.png", pictures, [f"{n} steps" for n in steps])


def churn() -> None:
    """The deterministic sampler with more and more churn."""
    rows(
        "churn.png",
        {f"s_churn {c}": draw(KDPM2DiscreteScheduler, 20, LABELS, list(range(10)), s_churn=c) for c in (0.0, 2.0, 8.0)},
    )


def next_to_last_sigma() -> None:
    """Few steps, with and without the sigma before the last."""
    pictures = {}
    for name, plain in (("linspace", True), ("Karras", False)):
        for discard in (False, True):
            options = {"use_karras_sigmas": not plain, "discard_next_to_last_sigma": discard}
            label = f"{name}, {'left out' if discard else 'all'}"
            pictures[label] = draw(KDPM2AncestralDiscreteScheduler, 5, LABELS, list(range(10)), **options)
    rows("next_to_last_sigma.png", pictures)


def sigmas() -> None:
    """The noise levels of twelve steps, by spacing and by curve."""
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    spacings, curves = figure.subplots(1, 2, sharey=True)
    trained = kdpm2.zoo.digits().scheduler.config
    for name in ("linspace", "leading", "trailing", "simple", "sgm_uniform"):
        plot(spacings, name, trained, use_karras_sigmas=False, timestep_spacing=name)
    for name in ("karras", "exponential", "beta", "polyexponential"):
        rho = {"rho": 2.0} if name == "polyexponential" else {}
        plot(curves, name, trained, **({"use_karras_sigmas": False} | {f"use_{name}_sigmas": True}), **rho)
    plot(curves, "ays_sd15", trained, use_karras_sigmas=False, ays_sigmas="sd15")
    spacings.set(yscale="log", xlabel="step", ylabel="sigma", title="spacings")
    curves.set(xlabel="step", title="curves (polyexponential with rho 2)")
    for axes in (spacings, curves):
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(FIGURES / "sigmas.png", dpi=90)


def plot(axes: Any, label: str, trained: Any, **options: Any) -> None:
    """One line: where the steps start."""
    scheduler = KDPM2AncestralDiscreteScheduler.from_config(trained, **options)
    scheduler.set_timesteps(12)
    sigmas = scheduler.sigmas[[0, *range(1, 24, 2)]]
    axes.plot(sigmas[:-1], "o-", markersize=4, label=label)


def main() -> None:
    """Write every picture."""
    FIGURES.mkdir(exist_ok=True)
    for picture in (eta, brownian, churn, next_to_last_sigma, sigmas):
        picture()
        print(picture.__name__, flush=True)


if __name__ == "__main__":
    main()
