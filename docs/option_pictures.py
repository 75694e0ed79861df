"""Make the pictures of options that change a run on its way: noise with a colour, eta by step, restarts, and inversion.

`python -m docs.option_pictures` writes them; `python -m docs.option_pictures round-trip` prints the table of inversion.
"""

import sys
from typing import Any

import torch
from matplotlib.figure import Figure

import kdpm2
from docs import style
from docs.pictures import FIGURES, LABELS, SEEDS, draw, noise, plot, rows, shown
from kdpm2 import KDPM2AncestralDiscreteScheduler, KDPM2DiscreteScheduler, spacing


def colours() -> None:
    """The same seeds with noise of other colours."""
    kinds = {"white": "gaussian", "pink": "coloured", "brown": "coloured:2", "blue": "coloured:-1"}
    kinds |= {"pyramid": "pyramid", "offset 0.3": "offset:0.3"}
    cls = KDPM2AncestralDiscreteScheduler
    rows("colours.png", {name: draw(cls, 12, LABELS, SEEDS, noise=noise) for name, noise in kinds.items()})


def eta_by_step() -> None:
    """The same seeds with fresh noise in all steps, in some, and in none."""
    etas: dict[str, Any] = {"1": 1.0, "1 to 0": [1, 0], "1, first half": {"value": 1, "end": 0.5}, "0": 0.0}
    cls = KDPM2AncestralDiscreteScheduler
    rows("eta_by_step.png", {f"eta {name}": draw(cls, 8, LABELS, SEEDS, eta=eta) for name, eta in etas.items()})


def restarts() -> None:
    """Few steps, and as many network calls with restarts."""
    once = [{"sigma_min": 0.4, "sigma_max": 2.0, "steps": 2, "times": 2}]
    cls = KDPM2DiscreteScheduler
    pictures = {
        "5 steps": draw(cls, 5, LABELS, SEEDS),
        "5, restarted": draw(cls, 5, LABELS, SEEDS, restarts=once),
        "9 steps": draw(cls, 9, LABELS, SEEDS),
    }
    rows("restarts.png", pictures)


def kept() -> None:
    """Nine network calls, and so many that more change little."""
    cls = KDPM2AncestralDiscreteScheduler
    options: dict[str, Any] = {"noise": "brownian", "use_karras_sigmas": False, "sigma_curve": "ays_sd15"}
    pictures = {
        "5 steps, 9 calls": draw(cls, 5, LABELS, SEEDS, **options),
        "8 kept, 9 calls": draw(cls, 8, LABELS, SEEDS, keep_estimate=True, **options),
        "50 steps, 99 calls": draw(cls, 50, LABELS, SEEDS, **options),
    }
    rows("kept.png", pictures)


def _emoji(labels: list[int]) -> kdpm2.Denoiser:
    return kdpm2.denoiser_of(kdpm2.zoo.emoji(), labels=labels)


def inversion() -> None:
    """Emoji, their noise, the emoji again, and the next kinds from the same noise."""
    ones, others = _emoji(LABELS), _emoji([*LABELS[1:], LABELS[0]])
    sigmas = spacing.steps(ones.schedule, 20, sigma_curve="karras").sigmas
    x = kdpm2.sample(ones, noise() * sigmas[0], sigmas, eta=0)
    back = kdpm2.invert(ones, x, sigmas)
    pictures = {"emoji": shown(x), "their noise": shown(back)}
    pictures["again"] = shown(kdpm2.sample(ones, back, sigmas[:-1], eta=0))
    pictures["next label"] = shown(kdpm2.sample(others, back, sigmas, eta=0))
    rows("inversion.png", pictures)


def guidance() -> None:
    """The same noise without guidance, with a lot of it, and with that in its three forms."""
    emoji, start = kdpm2.zoo.emoji(), noise()
    forms: dict[str, dict[str, Any]] = {
        "scale 1": {},
        "scale 5": {"guidance_scale": 5.0},
        "rescale 0.8": {"guidance_scale": 5.0, "guidance_rescale": 0.8},
        "interval 0.5, 5": {"guidance_scale": 5.0, "guidance_interval": (0.5, 5)},
        "CFG++ 0.7": {"guidance_scale": 0.7, "guidance_plus_plus": True},
    }
    pictures = {}
    for name, options in forms.items():
        denoiser = kdpm2.denoiser_of(emoji, labels=LABELS, **options)
        sigmas = spacing.steps(denoiser.schedule, 12, sigma_curve="karras").sigmas
        pictures[name] = shown(kdpm2.sample(denoiser, start * sigmas[0], sigmas, eta=0))
    rows("guidance.png", pictures)


def named_curves() -> None:
    """The noise levels of twelve steps along curves that have a name alone."""
    figure = Figure(figsize=(11, 6), layout="constrained")
    betas, flow = figure.subplots(1, 2)
    trained = kdpm2.zoo.emoji().scheduler.config
    as_flow = {"prediction_type": "flow_prediction", "flow_shift": 3.0}
    named = [{"sigma_curve": name} for name in ("kl_optimal", "laplace", "linear_quadratic", "bong_tangent")]
    for options, marker in zip([*named[:3], {"timestep_spacing": "beta57"}, named[3]], "os^vD", strict=True):
        (name,) = options.values()
        if name != "bong_tangent":
            plot(betas, name, marker, trained, use_karras_sigmas=False, **options)
        plot(flow, name, marker, as_flow, **options)
    betas.set(yscale="log", xlabel="step", ylabel="noise level (sigma)", title="betas")
    flow.set(xlabel="step", title="flow")
    for axes in (betas, flow):
        axes.set_xticks(range(0, 12, 2))
    figure.legend(*flow.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    style.save(figure, FIGURES / "named_curves.png")


def round_trip() -> None:
    """Print how far digits are from themselves after the way to their noise and back."""
    digits = kdpm2.denoiser_of(kdpm2.zoo.digits(), labels=range(10))
    start = torch.cat([torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in SEEDS])
    fine = spacing.steps(digits.schedule, 40, sigma_curve="karras").sigmas
    x = kdpm2.sample(digits, start * fine[0], fine, eta=0)
    print("| steps each way | root mean square error |\n| ---: | ---: |")
    for count in (5, 10, 20, 40, 80):
        sigmas = spacing.steps(digits.schedule, count, sigma_curve="karras").sigmas
        back = kdpm2.sample(digits, kdpm2.invert(digits, x, sigmas), sigmas[:-1], eta=0)
        print(f"| {count} | {float((back - x).square().mean().sqrt()):.1e} |")


def main() -> None:
    """Write every picture, or print the table."""
    if sys.argv[1:] == ["round-trip"]:
        round_trip()
        return
    with style.styled():
        for picture in (colours, eta_by_step, restarts, kept, inversion, guidance, named_curves):
            picture()
            print(picture.__name__, flush=True)


if __name__ == "__main__":
    main()
