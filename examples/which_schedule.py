"""Which schedule is best at 8 steps? The one whose digits come closest to those of many steps, from the same noise."""

import numpy as np
import torch
from numpy.typing import NDArray

from kdpm2 import KDPM2DiscreteScheduler, zoo

STEPS, MANY = 8, 40
SCHEDULES = {
    "linspace": {},
    "trailing": {"timestep_spacing": "trailing"},
    "karras": {"sigma_curve": "karras"},
    "exponential": {"sigma_curve": "exponential"},
    "beta": {"sigma_curve": "beta"},
    "lu": {"sigma_curve": "lu"},
    "ays_sd15": {"sigma_curve": "ays_sd15"},
}


def draw(steps: int, **options: object) -> NDArray[np.float32]:
    """Ten digits, (10, 8, 8, 1) in [0, 1]."""
    pipe = zoo.digits()
    pipe.set_progress_bar_config(disable=True)
    trained = {"beta_schedule": "scaled_linear", "prediction_type": "v_prediction"}
    pipe.scheduler = KDPM2DiscreteScheduler(**trained, **options)
    generators = [torch.Generator().manual_seed(seed) for seed in range(10)]
    images: NDArray[np.float32] = pipe(
        labels=range(10), num_inference_steps=steps, generator=generators, output_type="np"
    ).images
    return images


def main() -> None:
    """Print the schedules, the best one first."""
    reference = draw(MANY, sigma_curve="karras")
    errors = {
        name: float(np.sqrt(np.mean((draw(STEPS, **options) - reference) ** 2))) for name, options in SCHEDULES.items()
    }
    print(f"how far {STEPS} steps are from {MANY}, root mean square of a pixel in 0 to 1")
    for name in sorted(errors, key=lambda name: errors[name]):
        print(f"{name:>12}  {errors[name]:.4f}")


if __name__ == "__main__":
    main()
