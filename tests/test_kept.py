"""Steps that keep the estimate of the step before: by the formulas, in closed form, and through every door."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from typer.testing import CliRunner

import kdpm2
from kdpm2 import Denoiser, KDPM2AncestralDiscreteScheduler, KDPM2DiscreteScheduler, cli, spacing
from kdpm2.batching import BatchedSolver, Request, serve
from kdpm2.kept import keeping_estimates
from kdpm2.noise import seeded
from kdpm2.restart import restarted
from kdpm2.table import Churn, StageTable, dpm2
from tests import families
from tests.closed_form import variance_after
from tests.families import start

EDM, PREDICTED, LEVELS = families.MODELS["EDM"]
MODELS = families.MODELS | {"EDM": (EDM, PREDICTED, [*LEVELS[:-1], 0.02])}  # which ends above 0


def network(x: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
    return torch.tanh(x) + timestep.reshape(-1, *[1] * (x.ndim - 1)) / 5000


def model(name: str) -> Denoiser:
    return families.denoiser(name, network)


def table_of(name: str, eta: float = 1.0) -> StageTable:
    schedule, _, sigmas = MODELS[name]
    return keeping_estimates(plain_table(name, eta), spacing.given(schedule, sigmas))


def plain_table(name: str, eta: float = 1.0) -> StageTable:
    schedule, prediction, sigmas = MODELS[name]
    return dpm2(schedule, spacing.given(schedule, sigmas), prediction, eta)


def by_formulas(name: str, eta: float) -> torch.Tensor:
    """DPM2, but that every step after the first has the estimate of the step before for its first."""
    sigmas, plain = MODELS[name][2], plain_table(name, eta)
    generator: Any = seeded(5)
    x, kept = start(name), None
    for step, (sigma, following) in enumerate(pairwise(sigmas)):
        if following == 0:
            return model(name)(x, torch.tensor(sigma, dtype=torch.float64))
        down, mid = float(plain.down[step]), float(plain.mid[step])
        ratio = (1 - following) / (1 - down) if name == "flow" else 1.0
        if kept is None:
            kept = model(name)(x, torch.tensor(sigma, dtype=torch.float64))
        at_mid = x + (mid - sigma) * (x - kept) / sigma
        kept = model(name)(at_mid, torch.tensor(mid, dtype=torch.float64))
        x = ratio * (x + (down - sigma) * (at_mid - kept) / mid)
        if plain.up[step] > 0:
            x = x + plain.up[step] * torch.randn(3, 4, dtype=torch.float64, generator=generator)
    return x


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("name", MODELS)
def test_by_the_formulas(name: str, eta: float) -> None:
    made = kdpm2.sample(model(name), start(name), MODELS[name][2], eta=eta, seeds=5, keep_estimate=True)
    torch.testing.assert_close(made, by_formulas(name, eta), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("name", "calls"), [("betas", 6), ("flow", 6), ("EDM", 6)])
def test_the_stages(name: str, calls: int) -> None:
    made, plain = table_of(name), plain_table(name)
    assert len(made) == calls
    mids = [float(level) for level in plain.mid if level]
    ends = [MODELS[name][2][-2]] if MODELS[name][2][-1] == 0 else []
    np.testing.assert_allclose(made.stage_sigmas, [MODELS[name][2][0], *mids, *ends])
    assert made.first_stage.tolist() == [0, *range(2, 2 + len(plain.mid) - 1)]


def variance(table: StageTable, data: float, flow: bool) -> float:
    """The variance at the end of a run on normal data: what each draw of noise adds, by its coefficient."""

    def kept(level: float) -> float:
        return 1 - level if flow else 1.0

    first = float(table.sigmas[0])
    draws: NDArray[np.float64] = np.zeros(len(table) + 1)
    draws[0] = np.sqrt(kept(first) ** 2 * data + first**2)
    estimate = np.zeros_like(draws)
    for stage in range(len(table)):
        row, level = table.row(stage), float(table.stage_sigmas[stage])
        towards = kept(level) * data / (kept(level) ** 2 * data + level**2)
        output = (towards - row.denoised_x) / row.denoised_model * draws
        after = row.x * draws + row.model * output + row.anchor * estimate
        estimate = row.denoised_x * draws + row.denoised_model * output
        after[stage + 1] += row.noise
        draws = after
    return float(np.square(draws).sum())


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("name", MODELS)
def test_order_two_in_closed_form(name: str, eta: float) -> None:
    """With about as many network calls, the error is below that of DPM2, too."""
    schedule, prediction, _ = MODELS[name]
    flow, data = name == "flow", 0.25
    last = 0.01
    exact = ((1 - last) ** 2 if flow else 1.0) * data + last**2

    def steps(count: int) -> spacing.Steps:
        levels = np.linspace(1, last, count + 1) if flow else np.geomspace(20, last, count + 1)
        return spacing.given(schedule, levels)

    plain = {count: dpm2(schedule, steps(count), prediction, eta) for count in (80, 160, 320)}
    errors = [
        abs(variance(keeping_estimates(table, steps(count)), data, flow) - exact) for count, table in plain.items()
    ]
    assert np.log2(np.array(errors[:-1]) / errors[1:]).min() > 1.8
    # 160 steps of about one call, and 80 of two.
    assert errors[1] < abs(variance_after(plain[80], data, flow) - exact)


def loop(scheduler: Any, name: str, x: torch.Tensor, first: int = 0) -> torch.Tensor:
    timesteps = scheduler.timesteps[first:]
    for timestep in timesteps:
        output = network(scheduler.scale_model_input(x, timestep), timestep.double())
        x = scheduler.step(output, timestep, x).prev_sample
    return x


def scheduler_of(name: str, cls: Any, **options: Any) -> Any:
    options |= {"prediction_type": "flow_prediction"} if name == "flow" else {"prediction_type": "v_prediction"}
    options |= {"beta_start": 0.0001, "beta_end": 0.02} if name == "betas" else {}
    made = cls(keep_estimate=True, **options)
    made.set_timesteps(6)
    made.seed(5)
    return made


CLASSES = [KDPM2AncestralDiscreteScheduler, KDPM2DiscreteScheduler]


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("name", ["betas", "flow"])
def test_a_scheduler_makes_the_same(name: str, cls: Any) -> None:
    scheduler = scheduler_of(name, cls)
    assert len(scheduler.timesteps) == 7
    assert scheduler.order == 1
    x = torch.randn(3, 4, dtype=torch.float64) * scheduler.init_noise_sigma
    denoiser = Denoiser(network, scheduler._schedule, scheduler.config.prediction_type)
    eta = 1.0 if cls is KDPM2AncestralDiscreteScheduler else 0.0
    levels = scheduler.table.sigmas
    expected = kdpm2.sample(denoiser, x, levels, eta=eta, seeds=5, keep_estimate=True)
    torch.testing.assert_close(loop(scheduler, name, x), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(kdpm2.sample(denoiser, x, scheduler.table, seeds=5), expected, rtol=1e-5, atol=1e-5)
    assert cls.from_config(scheduler.config).config.keep_estimate is True


@pytest.mark.parametrize("cls", CLASSES)
def test_a_run_that_begins_anywhere_has_the_noise_of_its_level(cls: Any) -> None:
    """As image-to-image does: a perfect network brings the picture back from each stage."""
    scheduler = scheduler_of("betas", cls, s_noise=0.0)
    picture = torch.randn(3, 4, dtype=torch.float64)
    for first in range(len(scheduler.timesteps)):
        scheduler.set_timesteps(6)
        timesteps = scheduler.timesteps[first:]
        scheduler.set_begin_index(first)
        x = scheduler.add_noise(picture, torch.randn(3, 4, dtype=torch.float64), timesteps[:1])
        for place, timestep in enumerate(timesteps):
            row = scheduler.table.row(first + place)
            output = (picture - row.denoised_x * x) / row.denoised_model  # what says the picture
            x, clean = scheduler.step(output, timestep, x, return_dict=False)
            torch.testing.assert_close(clean, picture)
        torch.testing.assert_close(x, picture)


def test_a_scheduler_stopped_in_mid_run_goes_on() -> None:
    whole, other = (scheduler_of("betas", KDPM2AncestralDiscreteScheduler) for _ in range(2))
    x = torch.randn(3, 4, dtype=torch.float64) * whole.init_noise_sigma
    state: dict[str, Any] = {}
    for place, timestep in enumerate(whole.timesteps):
        if place == 3:
            state, middle = whole.state_dict(), x
        x = whole.step(network(whole.scale_model_input(x, timestep), timestep.double()), timestep, x).prev_sample
    other.load_state_dict(state)
    assert torch.equal(loop(other, "betas", middle, 3), x)


def test_a_clean_sample_that_the_caller_writes_to_changes_nothing() -> None:
    one, other = (scheduler_of("betas", KDPM2DiscreteScheduler) for _ in range(2))
    x = y = torch.randn(3, 4, dtype=torch.float64) * one.init_noise_sigma
    for timestep in one.timesteps:
        x = one.step(network(one.scale_model_input(x, timestep), timestep.double()), timestep, x).prev_sample
        told = other.step(network(other.scale_model_input(y, timestep), timestep.double()), timestep, y)
        told.pred_original_sample.clamp_(-0.1, 0.1)
        y = told.prev_sample
    assert torch.equal(x, y)


def test_a_run_that_was_stopped_goes_on() -> None:
    seen: list[Any] = []
    whole = kdpm2.sample(
        model("flow"), start("flow"), MODELS["flow"][2], seeds=5, keep_estimate=True,
        callback=lambda told: seen.append(told["state"]()),
    )  # fmt: skip
    for state in seen:
        again = kdpm2.sample(model("flow"), None, MODELS["flow"][2], keep_estimate=True, resume=state)
        assert torch.equal(again, whole)


@pytest.mark.parametrize("name", ["betas", "flow"])
def test_a_compiler_makes_the_same(name: str) -> None:
    made, compiled = (
        kdpm2.sample(model(name), start(name), table_of(name), seeds=5, mode=mode) for mode in ("eager", "compile")
    )
    torch.testing.assert_close(made, compiled, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("noise", ["gaussian", "philox"])
def test_requests_of_both_kinds_share_calls(noise: str) -> None:
    sigmas = MODELS["betas"][2]
    asked: list[dict[str, Any]] = [{"keep_estimate": True}, {}, {"keep_estimate": True, "eta": 0.0}]
    requests = [Request(sigmas=sigmas, x=start("betas")[i], seed=i, **each) for i, each in enumerate(asked)]
    results = serve(model("betas"), requests, shape=(4,), dtype=torch.float64, max_batch=3, noise=noise)
    made = {each.request.seed: each.sample for each in results}
    for i, each in enumerate(asked):
        x = start("betas")[i : i + 1]
        alone = kdpm2.sample(model("betas"), x, sigmas, seeds=[i], noise=noise, **each)[0]
        torch.testing.assert_close(made[i], alone, rtol=1e-9, atol=1e-9)


def test_a_solver_that_was_stopped_goes_on(tmp_path: Path) -> None:
    solver = BatchedSolver((4,), dtype=torch.float64)
    for seed in range(2):
        solver.admit(table_of("betas") if seed else plain_table("betas"), start("betas")[seed], seed)

    def finished(solver: BatchedSolver, calls: int) -> dict[int, torch.Tensor]:
        done: dict[int, torch.Tensor] = {}
        for _ in range(calls):
            inputs = solver.next_inputs()
            done.update(solver.advance(network(inputs.x, inputs.timestep)))
        return done

    finished(solver, 3)
    solver.snapshot(tmp_path / "state")
    whole, again = finished(solver, 6), finished(BatchedSolver.restore(tmp_path / "state"), 6)
    assert whole.keys() == again.keys() == {0, 1}
    assert all(torch.equal(whole[id], again[id]) for id in whole)


def test_after_a_restart_the_network_is_called_for_the_sample() -> None:
    schedule, prediction, sigmas = MODELS["betas"]
    steps = restarted(schedule, spacing.given(schedule, sigmas), [{"sigma_min": 0.7, "sigma_max": 3.0, "steps": 2}])
    made = keeping_estimates(dpm2(schedule, steps, prediction), steps)
    assert len(made) == 6 + 1 + 2  # the call after the noise, and two midpoints
    assert np.isclose(made.stage_sigmas, 3).any()
    falling = spacing.given(schedule, sigmas)
    churned = keeping_estimates(dpm2(schedule, falling, prediction, 0.0, churn=Churn(1.0)), falling)
    assert len(churned) == 6
    assert churned.initial_noise > 0


def test_what_cannot_be() -> None:
    guided = kdpm2.guided(model("betas"), 0.7, plus_plus=True)
    with pytest.raises(ValueError, match="plus_plus must be False with keep_estimate"):
        kdpm2.sample(guided, start("betas"), MODELS["betas"][2], keep_estimate=True)
    with pytest.raises(TypeError, match="keep_estimate must be True or False, got 1"):
        kdpm2.sample(model("betas"), start("betas"), MODELS["betas"][2], keep_estimate=1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="keep_estimate must be False with a table, which says this itself"):
        kdpm2.sample(model("betas"), start("betas"), plain_table("betas"), keep_estimate=True)
    scheduler = scheduler_of("betas", KDPM2AncestralDiscreteScheduler)
    scheduler.sigmas[1] *= 2
    with pytest.raises(ValueError, match="sigmas holds values that are no schedule"):
        scheduler.scale_model_input(start("betas"), scheduler.timesteps[0])


def test_the_command(tmp_path: Path) -> None:
    written = []
    for name, options in {"kept": ["--keep-estimate"], "plain": []}.items():
        words = ["sample", "--steps", "4", "--number", "2", "--output", str(tmp_path / name), *options]
        result = CliRunner().invoke(cli.app, words)
        assert result.exit_code == 0, result.output
        written.append((tmp_path / name / "00000.png").read_bytes())
    assert written[0] != written[1]
