"""Measure the built-in digits model: are its digits read as what they should be, and are they spread like real ones?

Both figures are for the ancestral sampler on Karras sigmas. The reader is a support-vector classifier trained on the
real digits; the Fréchet distance compares mean and covariance of the 64 pixels, in [-1, 1]:

    |μ₁ - μ₂|² + tr(C₁ + C₂ - 2 (C₁ C₂)^½)
"""

from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import cross_val_score
from sklearn.svm import SVC

from kdpm2 import zoo

Floats = NDArray[np.float64]


def frechet_distance(a: Floats, b: Floats) -> float:
    """Fréchet distance between Gaussians fitted to two sets of points, each of shape (n, d)."""
    covariance_a, covariance_b = np.cov(a.T), np.cov(b.T)
    # The trace of the square root of a product of covariances: its eigenvalues are real and not negative.
    root_trace = np.sqrt(np.linalg.eigvals(covariance_a @ covariance_b).real.clip(0)).sum()
    mean = np.square(a.mean(0) - b.mean(0)).sum()
    return float(mean + np.trace(covariance_a) + np.trace(covariance_b) - 2 * root_trace)


def draw(labels: NDArray[Any], steps: int, guidance_scale: float, seed: int) -> Floats:
    """Samples of shape (n, 64) in [-1, 1], sample i with seed + i."""
    pipe = zoo.digits()
    pipe.set_progress_bar_config(desc=f"{len(labels)} digits")
    generators = [torch.Generator().manual_seed(seed + i) for i in range(len(labels))]
    images = pipe(labels.tolist(), None, steps, guidance_scale, generators, output_type="np").images
    return np.asarray(images, dtype=np.float64).reshape(len(labels), -1) * 2 - 1


def evaluate(
    steps: Annotated[int, typer.Option(help="Sampling steps.")] = 25,
    guidance_scale: Annotated[float, typer.Option(help="1 is the model as it is.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Seed of the first sample.")] = 0,
) -> None:
    """Print the share of samples read as their label, and the Fréchet distances."""
    real = load_digits()
    pixels, targets = real.data / 8 - 1, real.target
    reader = SVC(C=10, gamma=0.06)
    on_real = cross_val_score(reader, pixels, targets, cv=10).mean()
    reader.fit(pixels, targets)

    labels = np.arange(1000) % 10
    read_as = reader.predict(draw(labels, steps, guidance_scale, seed))
    print(f"read as their label: {np.mean(read_as == labels):.1%} of 1,000 samples")
    print(f"  (the reader itself: {on_real:.1%} of real digits it has not seen, 10-fold cross-validation)")

    samples = draw(targets, steps, guidance_scale, seed)
    shuffled = np.random.default_rng(seed).permutation(pixels)
    half = len(pixels) // 2
    print(f"Fréchet distance, {len(samples):,} samples to the real digits: {frechet_distance(samples, pixels):.3f}")
    print(
        f"  (one random half of the real digits to the other: {frechet_distance(shuffled[:half], shuffled[half:]):.3f})"
    )


if __name__ == "__main__":
    typer.run(evaluate)
