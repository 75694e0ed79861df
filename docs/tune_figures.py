"""Tuned noise levels beside the untuned ones, on the built-in digits: the tables of docs/tuning.md.

    python -m docs.tune_figures measure tune.jsonl     # hours on one core; goes on where it was stopped
    python -m docs.tune_figures beside tune.jsonl
    python -m docs.tune_figures table tune.jsonl --what read

Each setting is tuned on 32 digits, as `kdpm2 tune --samples 32` does. Then it is measured on digits of other seeds: the
mean distance to the fine run, how many a classifier reads as their label, and the Fréchet distance of the pixels to the
real digits.
"""

import json
import runpy
from itertools import chain, product
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from sklearn.datasets import load_digits
from sklearn.svm import SVC

import kdpm2
from kdpm2 import curves, spacing
from kdpm2.tuning import tune
from kdpm2.tuning.bench import Bench, distances

STEPS = (5, 8, 4, 6, 12, 16)
ETAS = (0.0, 1.0, 0.5)
GUIDANCE = (1.0, 3.0)
UNTUNED: dict[str, dict[str, Any]] = {
    "linspace": {},
    "Karras": {"sigma_curve": "karras"},
    "exponential": {"sigma_curve": "exponential"},
    "AYS": {"sigma_curve": "ays_sd15"},
}
TUNED_ON, SHAPE, OTHER_SEED = 32, (1, 8, 8), 100_000

app = typer.Typer()
frechet_distance = runpy.run_path(str(Path(__file__).parents[1] / "training" / "evaluate.py"))["frechet_distance"]


def denoiser(guidance: float, count: int) -> Any:
    """The digits' network for classes in turn."""
    return kdpm2.denoiser_of(kdpm2.zoo.digits(), labels=[i % 10 for i in range(count)], guidance_scale=guidance)


@app.command()
def measure(path: Path, count: int = 40, share: str = "0/1") -> None:
    """Measure every setting that the file does not hold yet; a share like 1/2 does every second one."""
    torch.set_grad_enabled(False)
    real = load_digits()
    pixels = real.data / 8 - 1
    reader = SVC(C=10, gamma=0.06).fit(pixels, real.target)
    done = {(row["guidance"], row["steps"], row["eta"]) for row in rows(path)}
    part, parts = map(int, share.split("/"))
    for i, (guidance, steps, eta) in enumerate(product(GUIDANCE, STEPS, ETAS)):
        if (guidance, steps, eta) in done or i % parts != part:
            continue
        tuned = tune(denoiser(guidance, TUNED_ON), (TUNED_ON, *SHAPE), steps, eta=eta)
        model = denoiser(guidance, count)
        high, low = model.schedule.sigma_max, model.schedule.sigma_min
        levels = {"tuned": tuned.sigmas}
        for (name, options), discard in product(UNTUNED.items(), (False, True)):
            made = spacing.steps(model.schedule, steps, discard_next_to_last_sigma=discard, **options)
            levels[name + " −1" * discard] = made.sigmas
        device, highest = torch.device("cpu"), max(high, curves.ALIGN_YOUR_STEPS["sd15"][0])
        bench = Bench(model, (count, *SHAPE), eta, highest, OTHER_SEED, device, torch.float32, int)
        reference = bench.run(np.append(curves.karras(high, low, min(8 * steps, 64)), 0.0)).samples
        row: dict[str, Any] = {"guidance": guidance, "steps": steps, "eta": eta, "chosen": tuned.name}
        row |= {"calls": tuned.calls, "sigmas": tuned.sigmas.tolist(), "measured": {}}
        for name, each in {**levels, "fine": None}.items():
            samples = reference if each is None else bench.run(each).samples
            apart = distances(samples, reference)
            flat = samples.clamp(-1, 1).reshape(count, -1).double().numpy()
            row["measured"][name] = {
                "distance": float(apart.mean()),
                "error": float(apart.std(ddof=1) / np.sqrt(count)),
                "squared": float(np.square(apart).mean()),
                "apart": apart.round(5).tolist(),
                "read": float((reader.predict(flat) == np.arange(count) % 10).mean()),
                "frechet": frechet_distance(flat, pixels),
            }
        with path.open("a") as file:
            file.write(json.dumps(row) + "\n")


def rows(path: Path) -> list[dict[str, Any]]:
    """The settings that were measured."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def ordered(paths: list[Path]) -> list[dict[str, Any]]:
    """The settings of all files, in the order of the tables."""
    return sorted(chain(*map(rows, paths)), key=lambda row: (row["guidance"], row["eta"], row["steps"]))


@app.command()
def beside(paths: list[Path]) -> None:
    """Print the tuned levels beside the best of the untuned ones; * where the two are within two errors."""
    print(
        "| guidance | η | steps | tuned | best of the others | Karras | linspace | Fréchet: tuned, that one, fine run |"
    )
    print("| ---: | ---: | ---: | ---: | :--- | ---: | ---: | ---: |")
    for row in ordered(paths):
        found = row["measured"]
        best = min((name for name in found if name not in ("tuned", "fine")), key=lambda n: float(found[n]["distance"]))
        gain = np.array(found[best]["apart"]) - np.array(found["tuned"]["apart"])
        same = abs(gain.mean()) <= 2 * gain.std(ddof=1) / np.sqrt(len(gain))
        shown = {name: f"{each['distance']:.4f}" for name, each in found.items()}
        spread = ", ".join(f"{found[name]['frechet']:.2f}" for name in ("tuned", best, "fine"))
        print(
            f"| {row['guidance']:g} | {row['eta']:g} | {row['steps']} | {shown['tuned']}{'*' * bool(same)} "
            f"| {shown[best]} {best} | {shown['Karras']} | {shown['linspace']} | {spread} |"
        )


@app.command()
def table(paths: list[Path], what: Annotated[str, typer.Option(help="distance, read or frechet")] = "distance") -> None:
    """Print one figure of every schedule, as Markdown."""
    names = ["tuned", *(name + " −1" * discard for name in UNTUNED for discard in (False, True)), "fine"]
    print("| guidance | η | steps | " + " | ".join(names) + " |")
    print("| ---: | ---: | ---: | " + " | ".join("---:" for _ in names) + " |")
    for row in ordered(paths):
        found = [row["measured"][name][what] for name in names]
        cells = [f"{value:.1%}" if what == "read" else f"{value:.4f}" for value in found]
        print(f"| {row['guidance']:g} | {row['eta']:g} | {row['steps']} | {' | '.join(cells)} |")


if __name__ == "__main__":
    app()
