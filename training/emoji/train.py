"""Train the built-in emoji model and write it where the package ships it.

A run writes a checkpoint every few minutes, and one that is started again goes on from there. All that is random in a
step follows from the seed and the number of the step, so that an interruption changes nothing.
"""

import time
from pathlib import Path
from typing import Annotated

import diffusers
import torch
import typer
from tqdm import tqdm

from kdpm2.zoo.built_in import EMOJI
from training.emoji.batches import Batches
from training.emoji.pictures import FOLDER, pictures
from training.emoji.progress import scheduler, show
from training.emoji.run import Run

_SECONDS_BETWEEN_CHECKPOINTS = 120


def train(
    folder: Annotated[Path, typer.Option(help="Folder for the pictures, checkpoints and samples.")] = FOLDER,
    output: Annotated[Path, typer.Option(help="Folder for the weights and configurations.")] = EMOJI.folder,
    seed: Annotated[int, typer.Option(help="Seed of the weights, the batches and the noise.")] = 0,
    steps: Annotated[int, typer.Option(help="Optimizer steps.")] = 4500,
    batch: Annotated[int, typer.Option(help="Pictures a step.")] = 64,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 1.5e-3,
    every: Annotated[int, typer.Option(help="Steps between two sheets of samples.")] = 500,
) -> None:
    """Train from a seed, or go on with what is in the folder."""
    batches = Batches(pictures(folder))
    run = Run(seed, learning_rate, steps)
    checkpoint = folder / "checkpoint.pt"
    if checkpoint.exists():
        run.restore(torch.load(checkpoint, weights_only=True))
    saved = time.monotonic()
    with tqdm(initial=run.step, total=steps, unit="step", mininterval=20) as progress:
        while run.step < steps:
            started = time.process_time()
            torch.manual_seed((seed << 32) + run.step + 1)
            run.learn(*batches.draw(batch))
            if run.step % every == 0 or run.step == steps:
                show(run, folder)
            run.cpu_seconds += time.process_time() - started
            if time.monotonic() - saved > _SECONDS_BETWEEN_CHECKPOINTS or run.step == steps:
                _save(run, checkpoint)
                saved = time.monotonic()
            recent = run.losses[-100:]
            progress.set_postfix(
                loss=f"{sum(recent) / len(recent):.4f}", core_minutes=f"{run.cpu_seconds / 60:.1f}", refresh=False
            )
            progress.update()
    run.average.half().save_pretrained(output / "unet")
    # Of diffusers' class: a configuration of nothing but what the network asks for fits every class.
    scheduler(diffusers.KDPM2AncestralDiscreteScheduler).save_pretrained(output / "scheduler")


def _save(run: Run, checkpoint: Path) -> None:
    """Write a checkpoint, whole or not at all."""
    unfinished = checkpoint.with_suffix(".new")
    torch.save(run.state(), unfinished)
    unfinished.replace(checkpoint)


if __name__ == "__main__":
    typer.run(train)
