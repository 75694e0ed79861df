"""Tables that are not DPM2's own making: those of other solvers, of callers, of clean samples, and in another space.

As all tests of the core, without torch.
"""

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from kdpm2 import noise_schedule, spacing, table
from kdpm2.asked_for import asked_for
from kdpm2.kept import keeping_estimates
from kdpm2.noise_schedule import NoiseSchedule
from kdpm2.sample_space import variance_preserving
from tests.closed_form import variance_after

BETAS, FLOW, EDM = noise_schedule.discrete(), noise_schedule.RectifiedFlow(), noise_schedule.EDM()
FAMILIES = {"betas": (BETAS, "v_prediction"), "flow": (FLOW, "flow_prediction"), "EDM": (EDM, "epsilon")}
LEVELS = [9.0, 4.0, 1.0, 0.3, 0.0]


def heun(schedule: NoiseSchedule, steps: spacing.Steps, prediction_type: str, noise: float = 0.0) -> table.StageTable:
    """Heun's method: the mean of the slopes at both ends of a step, but in a last step that goes to 0."""
    start, end = steps.sigmas[:-1], steps.sigmas[1:]
    two = end > 0
    where = np.repeat(np.arange(len(start)), 1 + two)
    second = np.diff(where, prepend=-1) == 0
    size = (end - start)[where]
    # From x at the end, s·d is the way back to the start: x - h·d1 + h/2·(d1 + d2), with h·d1 = x - anchor.
    return table.of_stages(
        schedule,
        steps,
        prediction_type,
        step=where,
        level=np.where(second, end[where], start[where]),
        x=np.where(second, 0.5, 1.0),
        slope=np.where(second, size / 2, size),
        anchor=np.where(second, 0.5, 0.0),
        noise=np.where(np.append(~second[1:], True), noise, 0.0),
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_another_solver_has_its_order(name: str) -> None:
    """Heun's error falls with the square of the step, for normal data whose variance is known."""
    schedule, prediction = FAMILIES[name]
    flow = name == "flow"
    errors = []
    for count in (40, 80, 160):
        levels = np.linspace(0.9, 0.02, count + 1) if flow else np.geomspace(40, 0.02, count + 1)
        made = heun(schedule, spacing.given(schedule, levels), prediction)
        kept, data = (1 - levels) if flow else np.ones_like(levels), 0.25
        exact = kept**2 * data + levels**2
        # The run starts with the noise of its first level alone in every test but this one.
        scaled = variance_after(made, data, flow) / (kept[0] ** 2 * data + levels[0] ** 2)
        errors.append(abs(scaled - exact[-1] / exact[0]))
    assert np.log2(np.array(errors[:-1]) / errors[1:]).min() > 1.9


def test_what_a_table_of_another_solver_says() -> None:
    steps = spacing.given(BETAS, LEVELS)
    made = heun(BETAS, steps, "epsilon", noise=0.1)
    assert made.step.tolist() == [0, 0, 1, 1, 2, 2, 3]
    assert made.starts_step.tolist() == [True, False, True, False, True, False, True]
    assert made.stage_sigmas.tolist() == [9, 4, 4, 1, 1, 0.3, 0.3]
    assert made.up.tolist() == [0.1] * 4
    assert (made.start, made.initial_noise, made.initial_scale) == (9, 0, 1)
    assert made.down.tolist() == LEVELS[1:]
    np.testing.assert_allclose(made.stage_timesteps, BETAS.timestep(made.stage_sigmas))
    assert made.trained_up_to == BETAS.sigma_max
    assert made.highest == max(BETAS.sigma_max, 9)
    # One that begins in the middle of a step goes to its end by Euler's method.
    row = made.row(1, anchored=False)  # which reads the sample at the end of the step
    assert row.x * 2.0 + row.model * 0.7 == pytest.approx(2.0)
    assert row.anchor == 0
    assert row.noise == pytest.approx(0.1)
    bare = noise_schedule.SigmaConditioned(False)
    assert heun(bare, spacing.given(bare, LEVELS), "sample").trained_up_to == 0
    assert heun(bare, spacing.given(bare, LEVELS), "sample").highest == 9
    assert table.dpm2(bare, spacing.given(bare, LEVELS), "sample").trained_up_to == 0


def test_a_row_from_the_clean_sample() -> None:
    made = table.dpm2(BETAS, spacing.given(BETAS, LEVELS), "v_prediction", eta=0.5)
    x, output, anchor = 1.7, -0.4, 2.2
    for stage in range(len(made)):
        row = made.row(stage)
        clean = row.denoised_x * x + row.denoised_model * output
        other = row.of_denoised()
        after, expected = other.x * x + other.model * clean, row.x * x + row.model * output
        assert after == pytest.approx(expected)
        assert (other.anchor, other.noise, other.scale) == (row.anchor, row.noise, row.scale)
        assert other.denoised_x * x + other.denoised_model * clean == clean
        assert other.anchor * anchor == row.anchor * anchor


@pytest.mark.parametrize("levels", [LEVELS, LEVELS[:-1]])
def test_samples_that_are_held_scaled(levels: list[float]) -> None:
    """Stage after stage the sample over the root of 1 + sigma²: of one run, held in the other way."""
    made = table.dpm2(BETAS, spacing.given(BETAS, levels), "v_prediction", 0.7, churn=table.Churn(0.4))
    other = variance_preserving(made)
    assert (other.start, other.initial_noise, other.initial_scale) == (1, 0, 1)
    random = np.random.default_rng(0)
    x = random.standard_normal(5) * made.stage_sigmas[0]
    held, anchor, held_anchor = x / np.hypot(1, made.stage_sigmas[0]), x, x
    for stage in range(len(made)):
        if made.starts_step[stage]:
            anchor, held_anchor = x, held
        row, scaled = made.row(stage), other.row(stage)
        np.testing.assert_allclose(scaled.scale * held, row.scale * x)
        output, noise = np.tanh(row.scale * x), random.standard_normal(5)
        for_clean = (
            row.denoised_x * x + row.denoised_model * output,
            scaled.denoised_x * held + scaled.denoised_model * output,
        )
        np.testing.assert_allclose(*for_clean, atol=1e-12)
        x = row.x * x + row.model * output + row.anchor * anchor + row.noise * noise
        held = scaled.x * held + scaled.model * output + scaled.anchor * held_anchor + scaled.noise * noise
        level = np.append(made.stage_sigmas, levels[-1])[stage + 1]
        np.testing.assert_allclose(held, x / np.hypot(1, level), atol=1e-12)
    entered, plain = other.row(1, anchored=False), made.row(1, anchored=False)
    roots = [np.hypot(1, level) for level in made.stage_sigmas[1:3]]
    after = plain.x * 2.0 * roots[0] + plain.model * 0.3
    assert entered.x * 2.0 + entered.model * 0.3 == pytest.approx(after / roots[1])
    np.testing.assert_allclose(other.stage_alphas, 1 / np.hypot(1, made.stage_sigmas))


@pytest.mark.parametrize("schedule", [FLOW, EDM])
def test_other_models_are_not_held_scaled(schedule: NoiseSchedule) -> None:
    made = table.dpm2(schedule, spacing.given(schedule, [0.9, 0.5, 0.0]), next(iter(schedule.predictions)))
    with pytest.raises(ValueError, match="sample_space must be None for a model that is not variance preserving"):
        variance_preserving(made)


def test_what_the_data_is_multiplied_by_at_each_stage() -> None:
    for name, (schedule, prediction) in FAMILIES.items():
        levels = [0.9, 0.4, 0.1, 0.0] if name == "flow" else LEVELS
        steps = spacing.given(schedule, levels)
        for made in (table.dpm2(schedule, steps, prediction), heun(schedule, steps, prediction)):
            expected = 1 - made.stage_sigmas if name == "flow" else np.ones(len(made))
            np.testing.assert_allclose(made.stage_alphas, expected)


def test_a_table_that_is_given_is_taken_as_it_is() -> None:
    made = table.dpm2(BETAS, spacing.given(BETAS, LEVELS), "epsilon", eta=0.3)
    assert asked_for(BETAS, made, "epsilon") is made
    assert asked_for(BETAS, made, "epsilon", 1, 1.0, table.Churn()) is made
    others: list[dict[str, Any]] = [{"eta": 0.5}, {"s_noise": 0.5}, {"eta": 0.5, "s_noise": 0.5}, {"eta": [1, 1]}]
    others += [{"eta": 2.0, "s_noise": 2.0}]
    for options in [*others, {"eta": 2.0}, {"churn": table.Churn(1.0)}]:
        with pytest.raises(ValueError, match="eta and s_noise must be 1, and s_churn 0, with a table"):
            asked_for(BETAS, made, "epsilon", **options)


def test_a_table_says_itself_whether_it_keeps_estimates() -> None:
    steps = spacing.given(BETAS, LEVELS)
    plain = table.dpm2(BETAS, steps, "epsilon")
    assert not plain.keeps_estimate
    kept = keeping_estimates(plain, steps)
    assert kept.keeps_estimate
    assert asked_for(BETAS, kept, "epsilon", keep_estimate=True) is kept
    with pytest.raises(ValueError, match="keep_estimate must be False with a table"):
        asked_for(BETAS, plain, "epsilon", keep_estimate=True)


def test_what_a_stage_reads_and_keeps_for_the_next() -> None:
    steps = spacing.given(BETAS, [*LEVELS[:3], 0.0])
    plain = table.dpm2(BETAS, steps, "epsilon")
    # Two steps of two stages, and one that goes to 0. A step's second stage needs the sample that its first had.
    assert plain.reads_midpoint.tolist() == [False, True, False, True, False]
    assert plain.keeps_anchor == [True, False, True, False, False]
    assert plain.adds_noise.tolist() == [False, True, False, True, False]
    kept = keeping_estimates(plain, steps)
    # A midpoint's sample is read twice in a row, and the estimate that was made at the first is needed at the second.
    assert kept.reads_midpoint.tolist() == [False, True, True, False]
    assert kept.keeps_anchor == [True, True, False, False]
    assert heun(BETAS, steps, "epsilon").keeps_anchor == plain.keeps_anchor
    # Another solver's anchor counts within its step alone.
    assert replace(kept, keeps_estimate=False).keeps_anchor == [True, False, False, False]


def test_sigmas_that_are_given_are_ancestral_if_nothing_is_said() -> None:
    made = asked_for(BETAS, LEVELS, "epsilon")
    np.testing.assert_array_equal(made.rows, table.dpm2(BETAS, spacing.given(BETAS, LEVELS), eta=1.0).rows)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asked_for(BETAS, [2.0, 5.0, 1.0, 0.0], "epsilon", eta=0.0)
        asked_for(BETAS, [2.0, 5.0, 1.0, 0.0], "epsilon", eta=[0.0, 0.0, 1.0])
        asked_for(BETAS, [2.0, 2.0, 1.0, 0.0], "epsilon", eta=1.0)


def test_fresh_noise_where_sigmas_rise_brings_a_warning_at_the_callers_line() -> None:
    # A door of the package is in a file of its own.
    call = "lambda: asked_for(BETAS, [2.0, 2.5, 1.0, 0.0], 'epsilon', eta=0.5)"
    door = eval(compile(call, "door.py", "eval"), globals())
    with pytest.warns(UserWarning, match=r"sigmas rise, and no noise is added where they do: eta=0.5") as told:
        made = door()
    assert told[0].filename == __file__
    assert made.up[0] == 0
    assert made.up[1] > 0


def test_levels_of_ones_own() -> None:
    given = spacing.given(BETAS, [2.0, 5.0, 1.0], may_rise=True)
    assert given.sigmas.tolist() == [2, 5, 1]
    np.testing.assert_allclose(given.timesteps, BETAS.timestep([2.0, 5.0]))
    with pytest.raises(ValueError, match=r"sigmas must not rise unless eta is 0, got \[2.0, 5.0, 1.0\]"):
        spacing.given(BETAS, [2.0, 5.0, 1.0])
    with pytest.raises(ValueError, match=r"sigmas must not rise unless eta is 0, got \[0.5, 0.6, 0.0\]"):
        spacing.given(BETAS, [0.5, 0.6, 0.0])
    assert spacing.given(BETAS, [2.0, 2.0, 0.0]).sigmas.tolist() == [2, 2, 0]
    assert spacing.given(FLOW, [1.0, 1e-18]).sigmas.tolist() == [1, 1e-18]
    assert not len(spacing.given(BETAS, [2.0]).timesteps)
    for wrong in ([2.0, 0.0, 0.0], [2.0, 1e-19], [np.nan, 0.0], [-1.0, 0.0], [2.0, -1.0]):
        with pytest.raises(ValueError, match="sigmas must be finite numbers above 0, from 1e-18 and at most 1e"):
            spacing.given(BETAS, wrong, may_rise=True)
    with pytest.raises(ValueError, match="at most 1, the last of which may be 0"):
        spacing.given(FLOW, [1.1, 0.0])


def test_timesteps_may_be_told_for_the_final_zero_too() -> None:
    with_it, without = (spacing.custom(BETAS, [5.0, 1.0, 0.0], told) for told in ([900.0, 300.0, 0.0], [900.0, 300.0]))
    assert with_it.timesteps.tolist() == without.timesteps.tolist() == [900, 300]
    with pytest.raises(ValueError, match="timesteps must be as many as sigmas, 2 above 0, got 1"):
        spacing.custom(BETAS, [5.0, 1.0, 0.0], [900.0])


def test_tuned_levels_are_a_curve_of_their_own() -> None:
    assert spacing.steps(BETAS, 2, tuned_sigmas=[10.0, 1.0, 0.1]).sigmas.tolist() == pytest.approx([10, 1, 0])
    with pytest.raises(ValueError, match="sigma_curve must be None with tuned_sigmas, got 'karras'"):
        spacing.steps(BETAS, 2, sigma_curve="karras", tuned_sigmas=[10.0, 1.0, 0.1])


def test_a_run_without_steps_starts_from_its_sample() -> None:
    made = table.dpm2(FLOW, spacing.given(FLOW, [0.5]), "flow_prediction")
    assert (len(made), made.initial_scale, made.initial_noise, made.start) == (0, 1, 0, 0.5)


def test_the_first_steps_churn_is_scaled_by_the_noise_of_that_step() -> None:
    steps = spacing.given(BETAS, LEVELS)
    plain, other = (
        table.dpm2(BETAS, steps, eta=0.0, s_noise=s_noise, churn=table.Churn(1.0))
        for s_noise in (1.0, [0.5, 1.0, 1.0, 2.0])
    )
    assert plain.initial_noise > 0
    assert other.initial_noise == pytest.approx(plain.initial_noise / 2)
    assert table.Churn() == table.Churn(0.0, 0.0, np.inf)
