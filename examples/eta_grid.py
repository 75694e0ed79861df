"""A labelled grid: the same seeds, from no fresh noise at all (eta 0) to ancestral sampling (eta 1)."""

import torch
from PIL import Image, ImageDraw

from kdpm2 import KDPM2AncestralDiscreteScheduler, zoo

ETAS = (0.0, 0.3, 0.6, 1.0)
SEEDS = range(8)
SIDE, LEFT, TOP = 64, 56, 16


def main() -> None:
    """Write eta_grid.png."""
    pipe = zoo.digits()
    pipe.set_progress_bar_config(disable=True)
    grid = Image.new("L", (LEFT + SIDE * len(SEEDS), TOP + SIDE * len(ETAS)), "white")
    pen = ImageDraw.Draw(grid)
    for column, seed in enumerate(SEEDS):
        pen.text((LEFT + SIDE * column + 4, 2), f"seed {seed}", fill="black")
    for row, eta in enumerate(ETAS):
        pen.text((4, TOP + SIDE * row + SIDE // 2), f"eta {eta}", fill="black")
        pipe.scheduler = KDPM2AncestralDiscreteScheduler.from_config(pipe.scheduler.config, eta=eta)
        generators = [torch.Generator().manual_seed(seed) for seed in SEEDS]
        digits = pipe(labels=list(SEEDS), num_inference_steps=8, generator=generators).images
        for column, digit in enumerate(digits):
            place = (LEFT + SIDE * column, TOP + SIDE * row)
            grid.paste(digit.resize((SIDE, SIDE), Image.Resampling.BICUBIC), place)
    grid.save("eta_grid.png")
    print("eta_grid.png")


if __name__ == "__main__":
    main()
