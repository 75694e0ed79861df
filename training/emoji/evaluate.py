"""Measure the emoji model: is a sample read as its kind, are samples spread like real pictures, and are they copies?

The reader is a small network that learned from the real pictures, and how well it reads is told of emoji that another
one did not learn from. The Fréchet distance is that of `training/evaluate.py`, between features of the reader. A
sample's neighbour is the nearest of all pictures that training could have shown, mirrored and in other colours, by the
root mean square over the pixels in [0, 1].
"""

import re
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file

from kdpm2.zoo.built_in import EMOJI
from kdpm2.zoo.cells import CellUNet
from kdpm2.zoo.pixels import PixelPipeline
from training.emoji.batches import hsv, rgb
from training.emoji.pictures import FOLDER, KINDS, SIZE, Pictures, pictures
from training.emoji.progress import scheduler
from training.emoji.reader import Reader
from training.evaluate import frechet_distance

Floats = NDArray[np.float64]
_PARTS = 5  # one of which the reader does not learn from, where it is itself measured
_EMOJI = re.compile(r"flag: [^(]+|[^:(]+")  # what a name says without skin and style
_TURNS = 8  # in how many colours a picture may be a neighbour
_SHOWN, _ENLARGED, _GAP = 20, 3, 4
_BATCH = 64


def draw(weights: Path, labels: NDArray[Any], steps: int, guidance_scale: float, seed: int) -> Floats:
    """Samples (n, 24, 24, 3) in [0, 1], sample i with seed + i."""
    network: Any = CellUNet.from_config(CellUNet.load_config(weights / "unet"))
    network.load_state_dict(load_file(weights / "unet" / "diffusion_pytorch_model.safetensors"))
    pipe: Any = PixelPipeline(network.eval(), scheduler())
    pipe.set_progress_bar_config(disable=True)
    made = []
    for first in range(0, len(labels), _BATCH):
        some = labels[first : first + _BATCH].tolist()
        generators = [torch.Generator().manual_seed(seed + first + i) for i in range(len(some))]
        made.append(pipe(some, None, steps, guidance_scale, generators, output_type="np").images)
    return np.concatenate(made).astype(np.float64)


def could_be_shown(real: Pictures) -> NDArray[np.float32]:
    """All that training could have shown, (n, 24·24·3) in [0, 1]: the real pictures first."""
    known = torch.tensor(real.pixels).permute(0, 3, 1, 2) / 255
    hue, saturation, value = hsv(known)
    far = torch.tensor([kind.hues for kind in KINDS])[torch.tensor(real.kinds)]
    variants = [known]
    for turn in np.linspace(-1, 1, _TURNS):
        some = far > 0
        variants.append(rgb((hue + turn * far[:, None, None])[some], saturation[some], value[some]))
    every = torch.cat(variants)
    both = torch.cat([every, every.flip(3)]).permute(0, 2, 3, 1)
    return both.reshape(len(both), -1).numpy()


def nearest(samples: Floats, known: NDArray[np.float32]) -> tuple[NDArray[np.int64], Floats]:
    """For each sample the place of its neighbour, and how far it is."""
    distances = torch.cdist(torch.tensor(samples.reshape(len(samples), -1), dtype=torch.float32), torch.tensor(known))
    least = distances.min(1)
    return least.indices.numpy(), least.values.double().numpy() / known.shape[1] ** 0.5


def evaluate(
    folder: Annotated[Path, typer.Option(help="Folder of the pictures, and of the sheet of neighbours.")] = FOLDER,
    weights: Annotated[Path, typer.Option(help="Folder of the weights and configurations.")] = EMOJI.folder,
    steps: Annotated[int, typer.Option(help="Sampling steps.")] = 20,
    guidance_scale: Annotated[float, typer.Option(help="1 is the model as it is.")] = 2.0,
    number: Annotated[int, typer.Option(help="Samples.")] = 600,
    seed: Annotated[int, typer.Option(help="Seed of the first sample.")] = 0,
) -> None:
    """Print the share of samples read as their kind, the Fréchet distances, and how far the nearest pictures are."""
    real = pictures(folder)
    reader = Reader(real, seed)
    labels = np.arange(number) % len(KINDS)
    samples = draw(weights, labels, steps, guidance_scale, seed)
    right = reader.kinds(_as_input(samples)).numpy() == labels
    print(f"read as their kind: {right.mean():.1%} of {number} samples")
    chance = np.random.default_rng(seed)
    unseen = _unseen(real, chance)
    another = Reader(_some(real, ~unseen), seed).kinds(_as_input(real.pixels[unseen] / 255)).numpy()
    on_real = another == real.kinds[unseen]
    every = [np.mean(on_real[real.kinds[unseen] == kind]) for kind in range(len(KINDS))]
    print(f"  (of real emoji that a reader has not seen: {np.mean(every):.1%}, every kind counting the same)")
    for kind, known in zip(KINDS, every, strict=True):
        print(f"  {kind.name}: {right[labels == KINDS.index(kind)].mean():.0%}, and {known:.0%} of unseen real ones")

    features = reader.features(_as_input(real.pixels / 255)).numpy().astype(np.float64)
    of_samples = reader.features(_as_input(samples)).numpy().astype(np.float64)
    halves = np.array_split(chance.permutation(len(features)), 2)

    def balanced(places: NDArray[np.int64]) -> Floats:
        """As many of each kind as there are samples of it."""
        of_kinds = [places[real.kinds[places] == kind] for kind in range(len(KINDS))]
        drawn: Floats = features[np.concatenate([chance.choice(some, number) for some in of_kinds])]
        return drawn

    whole = balanced(np.arange(len(features)))
    print(f"Fréchet distance, samples to the real pictures: {frechet_distance(of_samples, whole):.3f}")
    print(f"  (one random half of the real pictures to the other: {frechet_distance(*map(balanced, halves)):.3f})")

    known = could_be_shown(real)
    places, distances = nearest(samples, known)
    print(f"to the nearest picture of the training: {np.median(distances):.3f} in the middle of all samples")
    for share in (0.05, 0.25, 0.75):
        print(f"  {share:.0%} are nearer than {np.quantile(distances, share):.3f}")
    _side_by_side(samples[:_SHOWN], known[places[:_SHOWN]]).save(folder / "neighbours.png")


def _as_input(pixels: Floats) -> torch.Tensor:
    """Pixels (n, 24, 24, 3) in [0, 1] as networks take them."""
    return torch.tensor(pixels, dtype=torch.float32).permute(0, 3, 1, 2) * 2 - 1


def _some(real: Pictures, those: NDArray[np.bool_]) -> Pictures:
    return Pictures(real.pixels[those], real.kinds[those], [real.names[place] for place in np.flatnonzero(those)])


def _unseen(real: Pictures, chance: np.random.Generator) -> NDArray[np.bool_]:
    """A part of all emoji, each with all its skins and styles."""
    emoji = [found[0] for name in real.names if (found := _EMOJI.match(name))]
    part = dict(zip(sorted(set(emoji)), chance.permutation(len(set(emoji))) % _PARTS, strict=True))
    return np.array([part[each] == 0 for each in emoji])


def _side_by_side(samples: Floats, neighbours: NDArray[np.float32]) -> Image.Image:
    """Samples above their neighbours, ten a row."""
    side, columns = SIZE * _ENLARGED, 10
    rows = -(-len(samples) // columns)
    sheet = Image.new("RGB", (columns * (side + _GAP), rows * 2 * (side + _GAP)), "white")
    for i, pair in enumerate(zip(samples, neighbours.reshape(-1, SIZE, SIZE, 3), strict=True)):
        for below, picture in enumerate(pair):
            image = Image.fromarray((picture * 255).round().astype(np.uint8))
            place = (i % columns) * (side + _GAP), (i // columns * 2 + below) * (side + _GAP)
            sheet.paste(image.resize((side, side), Image.Resampling.NEAREST), place)
    return sheet


if __name__ == "__main__":
    typer.run(evaluate)
