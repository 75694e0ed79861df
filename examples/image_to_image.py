"""Image-to-image: a 3 is noised half-way, and goes on from there as an 8. The less noise, the more of the 3 is left."""

import torch
from PIL import Image

import kdpm2
from kdpm2 import noise_schedule, spacing, zoo

SEEDS = list(range(8))
STRENGTHS = (0.2, 0.4, 0.6, 0.8)  # share of the steps that are made
STEPS = 12


def shown(samples: torch.Tensor) -> Image.Image:
    """Samples (B, 1, 8, 8) in a row."""
    row = torch.cat(list((samples[:, 0] / 2 + 0.5).clamp(0, 1)), dim=1)
    image = Image.fromarray((row * 255).round().byte().numpy())
    return image.resize((image.width * 8, image.height * 8), Image.Resampling.BICUBIC)


def main() -> None:
    """Write image_to_image.png: the originals, then a row for each strength."""
    pipe = zoo.digits()
    threes, eights = (kdpm2.denoiser_of(pipe, labels=[label], guidance_scale=1.5) for label in (3, 8))
    schedule = noise_schedule.discrete(beta_schedule="scaled_linear")  # what the digits model was trained on
    sigmas = spacing.steps(schedule, STEPS, sigma_curve="karras").sigmas
    noise = torch.randn(len(SEEDS), 1, 8, 8, generator=torch.Generator().manual_seed(0))
    originals = kdpm2.sample(threes, noise * sigmas[0], sigmas, eta=0.5, seeds=SEEDS)
    rows = [shown(originals)]
    for strength in STRENGTHS:
        left = sigmas[-1 - round(strength * STEPS) :]  # the end of the schedule
        rows.append(shown(kdpm2.sample(eights, originals + noise * left[0], left, eta=0.5, seeds=SEEDS)))
    sheet = Image.new("L", (rows[0].width, rows[0].height * len(rows)))
    for number, row in enumerate(rows):
        sheet.paste(row, (0, number * row.height))
    sheet.save("image_to_image.png")
    print("image_to_image.png")


if __name__ == "__main__":
    main()
