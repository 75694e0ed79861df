"""A run that is stopped and goes on: the samples are the same, bit for bit, in another process too."""

import tempfile
from pathlib import Path
from typing import Any

import torch

import kdpm2
from kdpm2 import spacing, state, zoo

STEPS, SEEDS, STOPPED = 10, [1, 2, 3], 4
DENOISER = kdpm2.denoiser_of(zoo.digits(), labels=[7])
LEVELS = spacing.steps(DENOISER.schedule, STEPS, sigma_curve="karras")
NOISE = torch.randn(len(SEEDS), 1, 8, 8, generator=torch.Generator().manual_seed(0)) * LEVELS.sigmas[0]


def main() -> None:
    """Stop a run in the middle of its steps, and compare what comes of it with a run that was left alone."""
    uncut = kdpm2.sample(DENOISER, NOISE, LEVELS.sigmas, seeds=SEEDS)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "run.safetensors"

        def kept(told: dict[str, Any]) -> None:
            state.save(file, told["state"]())
            if told["i"] == STOPPED:
                raise KeyboardInterrupt  # as if someone had stopped it

        try:
            kdpm2.sample(DENOISER, NOISE, LEVELS.sigmas, seeds=SEEDS, callback=kept)
        except KeyboardInterrupt:
            resumed = kdpm2.sample(DENOISER, None, LEVELS.sigmas, resume=state.load(file))
    same = torch.equal(uncut, resumed)
    print(f"{len(resumed)} samples, stopped after {STOPPED} of {STEPS} steps: {'the same' if same else 'other'}")


if __name__ == "__main__":
    main()
