"""How many digits are read as their label, with and without the sigma before the last: the table of docs/options.md.

The reader is a support-vector classifier trained on the real digits. Each row is 1,000 digits, seeds 0 to 999.
"""

from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.svm import SVC

import kdpm2

STEPS = (5, 8, 12)
COUNT = 1000
CONFIGURATIONS: list[tuple[str, Any, dict[str, Any]]] = [
    ("ancestral, linspace", kdpm2.KDPM2AncestralDiscreteScheduler, {"use_karras_sigmas": False}),
    ("ancestral, Karras", kdpm2.KDPM2AncestralDiscreteScheduler, {"use_karras_sigmas": True}),
    ("discrete, linspace", kdpm2.KDPM2DiscreteScheduler, {"use_karras_sigmas": False}),
    ("discrete, Karras", kdpm2.KDPM2DiscreteScheduler, {"use_karras_sigmas": True}),
]


def main() -> None:
    """Print the table."""
    real = load_digits()
    reader = SVC(C=10, gamma=0.06).fit(real.data / 8 - 1, real.target)
    labels = np.arange(COUNT) % 10
    pipe = kdpm2.zoo.digits()
    pipe.set_progress_bar_config(disable=True)
    trained = pipe.scheduler.config
    print(f"| {'sampler':<20} | steps | all sigmas | next to last left out |")
    print(f"| {'---':<20} | ----: | ---------: | --------------------: |")
    for name, cls, options in CONFIGURATIONS:
        for steps in STEPS:
            shares = []
            for discard in (False, True):
                pipe.scheduler = cls.from_config(trained, discard_next_to_last_sigma=discard, **options)
                generators = [torch.Generator().manual_seed(seed) for seed in range(COUNT)]
                images = pipe(labels.tolist(), num_inference_steps=steps, generator=generators, output_type="np").images
                shares.append(np.mean(reader.predict(images.reshape(COUNT, -1) * 2 - 1) == labels))
            print(f"| {name:<20} | {steps:>5} | {shares[0]:>10.1%} | {shares[1]:>21.1%} |", flush=True)


if __name__ == "__main__":
    main()
