"""Tuned noise levels: against closed forms, for three families of models."""

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from typer.testing import CliRunner, Result

import kdpm2
from kdpm2 import KDPM2AncestralDiscreteScheduler, KDPM2DiscreteScheduler, cli, curves, spacing, zoo
from kdpm2.noise_schedule import EDM, NoiseSchedule, RectifiedFlow, discrete
from kdpm2.tuning import Tuned
from kdpm2.tuning.mesh import LocalError
from kdpm2.tuning.polish import moved
from kdpm2.tuning.untuned import known

Floats = NDArray[np.float64]

FAMILIES: dict[str, tuple[NoiseSchedule, str]] = {
    "vp": (discrete(beta_schedule="scaled_linear"), "v_prediction"),
    "flow": (RectifiedFlow(1000, 3.0), "flow_prediction"),
    "edm": (EDM(0.002, 80.0, 1.0), "epsilon"),
}
every_family = pytest.mark.parametrize("family", FAMILIES)


def denoiser(family: str, means: torch.Tensor, std: float) -> kdpm2.Denoiser:
    """A network of a family that predicts what is exact for a mixture."""
    schedule, predicts = FAMILIES[family]
    exact = zoo.GaussianMixture(means, std, flow=schedule.flow)

    def network(x: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        sigma = schedule.sigma(timestep[:1].double().numpy())
        p, q = (float(each[0]) for each in schedule.affine(predicts, sigma))
        sample = x / float(schedule.input_scale(sigma)[0])
        return (exact(sample, torch.from_numpy(sigma).expand(len(x))) - p * sample) / q

    return kdpm2.Denoiser(network, schedule, predicts)


def gaussian(family: str, std: float = 0.4) -> kdpm2.Denoiser:
    return denoiser(family, torch.zeros(1, 3, dtype=torch.float64), std)


def mixture(family: str) -> kdpm2.Denoiser:
    means = torch.randn(4, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return denoiser(family, means, 0.5)


def tuned(model: kdpm2.Denoiser, steps: int, eta: float = 0.0, **options: Any) -> Tuned:
    shape = options.pop("shape", (24, 3))
    return kdpm2.tune(model, shape, steps, eta=eta, dtype=torch.float64, **options)


def untuned(schedule: NoiseSchedule, steps: int) -> dict[str, Floats]:
    """The fixed levels, as `kdpm2.spacing` has them: linspace, Karras, exponential, Align Your Steps."""
    named: dict[str, dict[str, Any]] = {name: {"sigma_curve": name} for name in ("karras", "exponential")}
    if schedule.default_curve is None:
        named["linspace"] = {}
    if not schedule.flow and schedule.sigma_max < 20:
        named |= {name: {"sigma_curve": name} for name in ("ays_sd15", "ays_sdxl")}
    return {
        f"{name}, {discard}": spacing.steps(schedule, steps, discard_next_to_last_sigma=discard, **options).sigmas
        for name, options in named.items()
        for discard in (False, True)
    }


@every_family
@pytest.mark.parametrize("steps", [4, 5, 8])
def test_for_gaussian_data_the_exact_error_is_at_most_every_fixed_curve_s(family: str, steps: int) -> None:
    model = gaussian(family)
    schedule = model.schedule

    def error(sigmas: Floats) -> float:
        """How far off the run is that starts from one standard deviation of noise: the exact flow only scales it."""
        top = float(sigmas[0])
        x = torch.full((1, 3), top, dtype=torch.float64)
        alpha = 1 - top if schedule.flow else 1.0
        exact = x * 0.4 / (alpha**2 * 0.4**2 + top**2) ** 0.5
        return float((kdpm2.sample(model, x, sigmas, eta=0) - exact).abs().max())

    best = min(map(error, untuned(schedule, steps).values()))
    assert error(tuned(model, steps).sigmas) <= best


@every_family
@pytest.mark.parametrize("steps", [4, 6])
def test_for_a_mixture_fresh_samples_come_closer_than_on_every_fixed_curve(family: str, steps: int) -> None:
    model = mixture(family)
    found = tuned(model, steps, shape=(40, 8))
    noise = torch.randn(400, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(5))

    def made(sigmas: Floats) -> torch.Tensor:
        return kdpm2.sample(model, noise * float(sigmas[0]), sigmas, eta=0)

    high, low = model.schedule.sigma_max, model.schedule.sigma_min
    exact = made(np.append(curves.exponential(high, low, 200), 0.0))
    errors = {
        name: float((made(sigmas) - exact).square().mean(dim=1).sqrt().mean())
        for name, sigmas in untuned(model.schedule, steps).items()
    }
    assert float((made(found.sigmas) - exact).square().mean(dim=1).sqrt().mean()) <= min(errors.values())


@every_family
def test_it_is_reproducible_and_stays_within_its_budget(family: str) -> None:
    calls = 0
    model = mixture(family)

    def counted(x: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return model.predict(x, timestep)

    watched = kdpm2.Denoiser(counted, model.schedule, model.prediction_type)
    first = tuned(watched, 6, eta=0.7, shape=(4, 8))
    assert calls == first.calls <= 400
    again, other = (tuned(model, 6, eta=0.7, shape=(4, 8), seed=seed) for seed in (0, 1))
    np.testing.assert_array_equal(first.sigmas, again.sigmas)
    assert str(first) == str(again) != str(other)
    small = tuned(model, 6, shape=(4, 8), calls=100)
    assert small.calls <= 100
    assert not small.stopped
    assert tuned(model, 17, shape=(4, 8)).calls <= 425


@every_family
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_the_levels_go_into_a_configuration_and_are_visited(family: str, eta: float, tmp_path: Path) -> None:
    found = tuned(gaussian(family), 5, eta)
    assert found.sigmas[-1] == 0
    assert (np.diff(found.sigmas) < 0).all()
    assert len(found.sigmas) == 6
    schedule, predicts = FAMILIES[family]
    of_model: dict[str, Any] = {"prediction_type": predicts, "use_karras_sigmas": True}
    name, value = {
        "vp": ("beta_schedule", "scaled_linear"),
        "flow": ("flow_shift", 3.0),
        "edm": ("sigma_data", 1.0),
    }[family]
    of_model[name] = value
    for cls in (KDPM2AncestralDiscreteScheduler, KDPM2DiscreteScheduler):
        scheduler: Any = cls.from_config(cls(**of_model).config, **found.options)
        scheduler.save_pretrained(tmp_path)
        loaded = cls.from_pretrained(tmp_path)
        loaded.set_timesteps(5)
        np.testing.assert_allclose(loaded.table.sigmas, found.sigmas, rtol=1e-5)
        loaded.set_timesteps(10)
        assert len(loaded.table.sigmas) == 11
    assert schedule.sigma_min <= found.sigmas[-2] * 1.0001


def test_a_table_is_interpolated_in_log_sigma() -> None:
    schedule = FAMILIES["vp"][0]
    knots = [14.0, 2.0, 0.5, 0.02]
    own = spacing.steps(schedule, 3, tuned_sigmas=knots).sigmas
    np.testing.assert_allclose(own, [14.0, 2.0, 0.5, 0.0])
    twice = spacing.steps(schedule, 6, tuned_sigmas=knots).sigmas
    np.testing.assert_allclose(twice, [14.0, 28**0.5, 2.0, 1.0, 0.5, 0.1, 0.0])
    table = curves.ALIGN_YOUR_STEPS["sd15"]
    for steps in (5, 10, 23):
        published = spacing.steps(schedule, steps, sigma_curve="ays_sd15")
        np.testing.assert_array_equal(published.sigmas, spacing.steps(schedule, steps, tuned_sigmas=table).sigmas)
    without = spacing.steps(schedule, 3, tuned_sigmas=knots, discard_next_to_last_sigma=True).sigmas
    np.testing.assert_allclose(without[:3], spacing.steps(schedule, 4, tuned_sigmas=knots).sigmas[:3])
    flow = spacing.custom(FAMILIES["flow"][0], [1.0, 0.5], tuned_sigmas=[1.0, 0.7, 0.1]).sigmas
    np.testing.assert_allclose(flow, [1.0, 0.7, 0.0])


def test_what_is_chosen_is_reported_best_first() -> None:
    found = tuned(mixture("vp"), 5, shape=(16, 8))
    errors = [each.error for each in found.tried]
    assert errors == sorted(errors)
    assert {"tuned", found.name} <= {each.name for each in found.tried}
    assert found.samples == 8
    assert found.reference_steps == 40
    text = str(found)
    assert f"{found.calls} network calls" in text
    assert [line for line in text.splitlines() if line.startswith(f"> {found.name}")]


def test_stopped_it_returns_the_best_so_far() -> None:
    model = mixture("vp")

    def stopping(after: int) -> kdpm2.Denoiser:
        left = after

        def network(x: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
            nonlocal left
            left -= 1
            if left < 0:
                raise KeyboardInterrupt
            return model.predict(x, timestep)

        return kdpm2.Denoiser(network, model.schedule, model.prediction_type)

    found = tuned(stopping(150), 5, shape=(4, 8))
    assert found.stopped
    assert "stopped early" in str(found)
    assert len(found.sigmas) == 6
    with pytest.raises(KeyboardInterrupt):
        tuned(stopping(10), 5, shape=(4, 8))


def test_a_function_of_sigma_says_its_range() -> None:
    found = kdpm2.tune(zoo.gaussian(0.5, 3), (8, 3), 4, eta=0, sigma_min=0.02, sigma_max=10.0, dtype=torch.float64)
    assert found.sigmas[0] == pytest.approx(10.0)
    assert found.sigmas[-2] >= 0.02 * 0.999


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 1}, "steps must be an integer from 2 to 1000, got 1"),
        ({"steps": 2.5}, "steps must be an integer from 2 to 1000, got 2.5"),
        ({"eta": 1.5}, "eta must be a number from 0 to 1, got 1.5"),
        ({"eta": float("nan")}, "eta must be a number from 0 to 1, got nan"),
        ({"shape": 5}, r"shape must be that of a batch, \(B, ...\), got 5"),
        ({"shape": (2, 3)}, "each of shape must be an integer from 4 to .*, got 2"),
        ({"shape": (8, 0)}, "each of shape must be an integer from 1 to .*, got 0"),
        ({"calls": 10}, "calls must be an integer from 64 to .*, got 10"),
        ({"seed": -1}, "seed must be an integer from 0 to .*, got -1"),
        ({"dtype": torch.int64}, "dtype must be a floating-point torch.dtype"),
        ({"progress": 1}, "progress must be True or False, got 1"),
        ({"sigma_max": 3.0}, "sigma_min and sigma_max must be None for a model with betas"),
        ({"denoiser": zoo.gaussian(1.0, 3)}, "sigma_min and sigma_max must be given for a denoiser"),
        ({"denoiser": zoo.gaussian(1.0, 3), "sigma_max": 1.0, "sigma_min": 2.0}, "sigma_min must be below sigma_max"),
        ({"denoiser": 5}, "network must be callable, got 5"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"denoiser": gaussian("vp"), "shape": (8, 3), "steps": 4} | arguments
    with pytest.raises((TypeError, ValueError), match=message):
        kdpm2.tune(given.pop("denoiser"), given.pop("shape"), given.pop("steps"), **given)


def test_levels_share_the_local_error_evenly() -> None:
    log_sigma = np.linspace(2.0, -3.0, 2001)
    density = 1 + np.exp(-np.square(log_sigma))
    shared = np.append(0.0, np.cumsum((density[1:] + density[:-1]) / 2 * 0.0025))
    local = LocalError(log_sigma, shared, 1e-9 * np.exp(log_sigma), np.exp(2.0), 3.0, 1.0)
    starts = np.log(local.levels(8)[:-1])
    parts = np.diff(np.interp(-starts, -log_sigma, shared))
    np.testing.assert_allclose(parts, parts.mean(), rtol=1e-3)
    assert np.diff(-starts)[3] < np.diff(-starts)[0]
    assert local.predicted(local.levels(8)) < local.predicted(np.append(np.exp(np.linspace(2, -3, 8)), 0.0))


@pytest.mark.parametrize("direction", [0, 1, 2, 3])
@pytest.mark.parametrize("by", [-50.0, -0.5, 0.3, 50.0])
def test_a_move_keeps_the_first_level_and_the_bounds(direction: int, by: float) -> None:
    levels = np.array([80.0, 10.0, 2.0, 0.5, 0.1, 0.0])
    changed = moved(levels, direction, by, (0.01, 1.0))
    assert changed[0] == pytest.approx(80.0)
    assert (np.diff(changed) <= 0).all()
    assert changed[-1] == 0
    assert 0.0099 <= changed[-2] <= 1.01
    np.testing.assert_allclose(moved(levels, direction, 0.0, (0.01, 1.0)), levels)


def test_untuned_levels_are_those_of_the_options_that_ask_for_them() -> None:
    for schedule, _ in FAMILIES.values():
        for each in known(schedule, 6, schedule.sigma_max, schedule.sigma_min):
            made = spacing.steps(schedule, 6, **each.options)
            np.testing.assert_allclose(made.sigmas, each.levels, rtol=1e-12)


def command(*arguments: str) -> Result:
    model = [] if "--pipeline" in arguments else ["--model", "digits"]  # the quicker one
    return CliRunner(env={"COLUMNS": "300", "NO_COLOR": "1"}).invoke(cli.app, ["tune", *model, *arguments])


def test_the_command_writes_a_configuration(tmp_path: Path) -> None:
    output = tmp_path / "scheduler_config.json"
    arguments = ["--steps", "3", "--samples", "4", "--calls", "60", "--labels", "3,any", "--output", str(output)]
    result = command(*arguments, "--eta", "0.5")
    assert result.exit_code == 0, result.output
    assert "network calls of a batch" in result.output
    saved = json.loads(output.read_text())
    assert saved["eta"] == 0.5
    assert saved["prediction_type"] == "v_prediction"
    scheduler: Any = KDPM2AncestralDiscreteScheduler.from_pretrained(tmp_path)
    scheduler.set_timesteps(3)
    line = next(line for line in result.output.splitlines() if line.startswith("sigmas: "))
    said = [float(word) for word in line.removeprefix("sigmas: ").split(", ")]
    np.testing.assert_allclose(scheduler.table.sigmas, said, rtol=1e-3)
    sampled = next(line for line in result.output.splitlines() if line.startswith("kdpm2 sample "))
    words = [*shlex.split(sampled)[1:], "--number", "1", "--output", str(tmp_path / "a.png")]
    drawn = CliRunner().invoke(cli.app, words)
    assert drawn.exit_code == 0, drawn.output
    shown = CliRunner().invoke(cli.app, ["schedule", "--pipeline", str(tmp_path), "--steps", "3"])
    assert shown.exit_code == 0
    levels = [float(line.split()[3]) for line in shown.output.splitlines()[1:-1]]
    np.testing.assert_allclose(levels, scheduler.table.stage_sigmas, rtol=1e-4)
    refused = command(*arguments)
    assert refused.exit_code == 2
    assert "is there already; --force overwrites it" in refused.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--steps 1", "must be a whole number from 2 to 1000, got '1'"),
        ("--eta 2", "must be a number from 0 to 1, got '2'"),
        ("--samples 2", "must be a whole number from 4 to 10000, got '2'"),
        ("--calls 20", "calls must be an integer from 128 to"),
        ("--labels 12", "each must be from 0 to 9, or any, got '12'"),
        ("--prompt cat", "this pipeline takes none"),
        ("--output a.txt", "must end in .json, got a.txt"),
        ("--pipeline no/such/thing", "must be a folder, or a hub id"),
    ],
)
def test_wrong_options_of_the_command_are_refused(
    arguments: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = command(*arguments.split())
    assert result.exit_code == 2, result.output
    assert message in result.output
    assert not list(tmp_path.iterdir())
