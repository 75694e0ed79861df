"""What holds for every configuration, drawn at random."""

import gc
import pickle
import threading
import weakref
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import kdpm2
from kdpm2 import KDPM2AncestralDiscreteScheduler as Ancestral
from kdpm2 import KDPM2DiscreteScheduler as Discrete
from kdpm2 import update

CURVES = [
    "use_karras_sigmas",
    "use_exponential_sigmas",
    "use_beta_sigmas",
    "use_polyexponential_sigmas",
    "use_lu_lambdas",
]


@st.composite
def schedulers(draw: st.DrawFn, steps: st.SearchStrategy[int] | None = None) -> Any:
    """A scheduler of any family, class and options, with its timesteps set."""
    family = draw(st.sampled_from(["vp", "flow", "edm"]))
    options: dict[str, Any] = {
        "num_train_timesteps": draw(st.sampled_from([100, 1000])),
        "discard_next_to_last_sigma": draw(st.booleans()),
        "final_sigmas_type": draw(st.sampled_from(["zero", "sigma_min"])),
        "s_noise": draw(st.floats(0.5, 1.5)),
    }
    if draw(st.booleans()):
        options[draw(st.sampled_from(CURVES))] = True
    if family == "vp":
        options["prediction_type"] = draw(st.sampled_from(["epsilon", "sample", "v_prediction"]))
        options["beta_schedule"] = draw(st.sampled_from(["linear", "scaled_linear", "squaredcos_cap_v2"]))
        options["timestep_spacing"] = draw(
            st.sampled_from(["linspace", "leading", "trailing", "simple", "sgm_uniform"])
        )
        options["steps_offset"] = draw(st.integers(0, 1))
        options["rescale_betas_zero_snr"] = draw(st.booleans())
    elif family == "flow":
        options["prediction_type"] = "flow_prediction"
        options["timestep_spacing"] = draw(st.sampled_from(["linspace", "trailing", "simple", "sgm_uniform"]))
        options["flow_shift"] = draw(st.floats(0.5, 5.0))
        if options.get("use_lu_lambdas"):
            # Both ends: the one sigma of a run of one step is 1, which no curve that starts below it can end at.
            options |= {"sigma_max": 0.99, "sigma_min": 0.01}
    else:
        options["prediction_type"] = draw(st.sampled_from(["epsilon", "v_prediction"]))
        options["sigma_data"] = draw(st.floats(0.1, 2.0))
        if options.get("use_beta_sigmas") or not any(name in options for name in CURVES):
            options.pop("use_beta_sigmas", None)
            options["use_karras_sigmas"] = True
    if draw(st.booleans()):
        scheduler: Any = Ancestral(**options, eta=draw(st.floats(0, 1)))
    else:
        churn = 0.0 if family == "flow" else draw(st.floats(0, 10))
        scheduler = Discrete(**options, s_churn=churn)
    scheduler.set_timesteps(draw(st.integers(1, 90) if steps is None else steps))
    return scheduler


few = st.integers(1, 6)


def network(x: torch.Tensor, timestep: Any) -> torch.Tensor:
    """Smooth and bounded, and the same for every sample of a batch."""
    return torch.tanh(x + float(timestep) / 1000) * 0.5


def run(scheduler: Any, x: torch.Tensor, stages: slice = slice(None), generators: Any = None) -> torch.Tensor:
    for timestep in scheduler.timesteps[stages]:
        output = network(scheduler.scale_model_input(x, timestep), timestep)
        x = scheduler.step(output, timestep, x, generator=generators).prev_sample
    return x


def start(scheduler: Any, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    noise = torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(0))
    scaled: torch.Tensor = noise * scheduler.init_noise_sigma.to(dtype)
    return scaled


def one_each(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in range(count)]


@given(schedulers())
def test_every_schedule(scheduler: Any) -> None:
    table, steps = scheduler._table, scheduler.num_inference_steps
    ends_at_zero = scheduler.config.final_sigmas_type == "zero"
    assert len(scheduler.timesteps) == len(table) == 2 * steps - ends_at_zero
    assert np.all(np.diff(table.sigmas) < 0)
    assert (table.sigmas[-1] == 0) == ends_at_zero
    assert np.isfinite(table.rows).all()
    assert np.isfinite(table.entry_rows).all()
    following = table.sigmas[1:]
    ratio = (1 - following) / (1 - table.down) if scheduler._schedule.flow else 1.0
    np.testing.assert_allclose((table.down * ratio) ** 2 + table.up**2, following**2, rtol=1e-12, atol=1e-15)
    assert scheduler.timesteps.dtype == torch.float32
    if scheduler._schedule.trained_timesteps is not None:
        assert scheduler.timesteps.min() >= 0
        assert scheduler.timesteps.max() <= scheduler.config.num_train_timesteps - 1
    elif scheduler._schedule.flow:
        assert scheduler.timesteps.max() <= scheduler.config.num_train_timesteps


@settings(deadline=None)
@given(schedulers(few), st.floats(0.1, 10))
def test_scaled_data_give_a_scaled_result_for_a_linear_model(scheduler: Any, scale: float) -> None:
    def linear(x: torch.Tensor, factor: float) -> torch.Tensor:
        scheduler._step_index = None
        generator = torch.Generator().manual_seed(1)
        for timestep in scheduler.timesteps:
            output = 0.3 * scheduler.scale_model_input(x, timestep)
            stage = scheduler.step_index
            noise = scheduler._table.rows[stage, 4]
            x = scheduler.step(output, timestep, x, generator=generator).prev_sample
            if noise:  # the noise is part of the data that are scaled
                again = torch.Generator().manual_seed(1)
                again.set_state(states.pop(0))
                x = x + (factor - 1) * noise * torch.randn(x.shape, dtype=x.dtype, generator=again)
                states.append(generator.get_state())
        return x

    x = start(scheduler, 2, 3, dtype=torch.float64)
    states = [torch.Generator().manual_seed(1).get_state()]
    once = linear(x, 1.0)
    states = [torch.Generator().manual_seed(1).get_state()]
    torch.testing.assert_close(linear(scale * x, scale), scale * once, rtol=1e-9, atol=1e-9)


@settings(deadline=None)
@given(schedulers(few), st.permutations(range(4)))
def test_a_permuted_batch_gives_permuted_samples(scheduler: Any, order: list[int]) -> None:
    x = start(scheduler, 4, 5)
    expected = run(scheduler, x, generators=one_each(4))[order]
    generators = [one_each(4)[i] for i in order]
    assert torch.equal(run(scheduler, x[order], generators=generators), expected)


@settings(deadline=None)
@given(schedulers(few), st.data())
def test_a_run_cut_anywhere_goes_on_as_if_it_were_whole(scheduler: Any, data: st.DataObject) -> None:
    scheduler.seed([3, 4])
    x = start(scheduler, 2, 3)
    whole = run(scheduler, x)
    cut = data.draw(st.integers(0, len(scheduler.timesteps)))
    half = run(scheduler, x, slice(0, cut))
    resumed, half = pickle.loads(pickle.dumps((scheduler, half)))
    assert torch.equal(run(resumed, half, slice(cut, None)) if cut < len(scheduler.timesteps) else half, whole)


@settings(deadline=None)
@given(schedulers(few), st.sampled_from([torch.float16, torch.bfloat16]))
def test_half_precision_is_within_half_a_unit_of_the_exact_stage(scheduler: Any, dtype: torch.dtype) -> None:
    table = scheduler._table
    for stage in range(len(table)):
        row = table.row(stage)
        given_ = [torch.randn(40).to(dtype) for _ in range(4)]
        x, m, anchor, noise = given_
        result, _ = update.apply(row, x, m, anchor if row.anchor else None, noise if row.noise else None)
        terms = [c * t.double() for c, t in zip(row[1:5], given_, strict=True)]
        exact = sum(terms[1:], terms[0])
        finite = exact.abs() < torch.finfo(dtype).max
        _, exponent = torch.frexp(exact)
        least = torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps  # of what is below the normal numbers
        half_unit = torch.ldexp(torch.full_like(exact, torch.finfo(dtype).eps / 4), exponent).clamp(min=least / 2)
        # Besides the one rounding there is that of float32 terms, relative to the largest of them.
        slack = 4 * torch.finfo(torch.float32).eps * sum((term.abs() for term in terms), torch.zeros_like(exact))
        assert ((result.double() - exact).abs() <= half_unit + slack)[finite].all()


@settings(deadline=None, max_examples=30)
@given(schedulers(few), schedulers(few))
def test_two_schedulers_on_two_threads_do_not_see_each_other(one: Any, other: Any) -> None:
    pair = [one, other]
    expected = [run(s, start(s, 2, 3), generators=one_each(2)) for s in pair]
    results: list[Any] = [None, None]

    def work(i: int) -> None:
        results[i] = run(pair[i], start(pair[i], 2, 3), generators=one_each(2))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(result, value) for result, value in zip(results, expected, strict=True))


@settings(deadline=None, max_examples=30)
@given(schedulers(few))
def test_no_tensor_is_left_alive_after_a_run(scheduler: Any) -> None:
    x = start(scheduler, 2, 3)
    seen = [weakref.ref(x)]
    for timestep in scheduler.timesteps:
        scaled = scheduler.scale_model_input(x, timestep)
        output = network(scaled, timestep)
        x, clean = scheduler.step(output, timestep, x, return_dict=False)
        seen += [weakref.ref(tensor) for tensor in (scaled, output, x, clean)]
    del x, scaled, output, clean
    gc.collect(1)  # what is older than the run need not be looked through
    assert not any(tensor() is not None for tensor in seen)


@pytest.fixture(params=[Ancestral, Discrete])
def begun(request: pytest.FixtureRequest) -> Any:
    """A scheduler that has made one stage of a run."""
    scheduler = request.param()
    scheduler.set_timesteps(5)
    x = torch.ones(2, 3)
    scheduler.scale_model_input(x, scheduler.timesteps[0])
    scheduler.step(x * 0, scheduler.timesteps[0], x)
    return scheduler


@pytest.mark.parametrize("method", ["step", "scale_model_input"])
@pytest.mark.parametrize("place", [0, 2, 8])
@pytest.mark.parametrize("form", ["view", "number"])
def test_a_stage_out_of_order_is_refused(begun: Any, method: str, place: int, form: str) -> None:
    x, timestep = torch.ones(2, 3), begun.timesteps[place]
    if form == "number":
        timestep = timestep.item()
        if abs(timestep - begun.timesteps[1].item()) < 1:
            return  # at eta = 1 a midpoint's timestep is that of the next step
    arguments: Any = (x * 0, timestep, x) if method == "step" else (x, timestep)
    with pytest.raises(ValueError, match=r"timestep must be that of stage 1, .* stages have to be made in order"):
        getattr(begun, method)(*arguments)
    assert begun.step_index == 1
    begun.step(x * 0, begun.timesteps[1], x)
    begun.set_timesteps(5)
    begun.step(x * 0, begun.timesteps[0], x)


@pytest.mark.parametrize("timestep", [lambda t: t.clone(), lambda t: t.expand(2), lambda t: t.item(), lambda t: int(t)])
def test_a_timestep_that_was_copied_or_rounded_is_in_order(begun: Any, timestep: Any) -> None:
    x = torch.ones(2, 3)
    begun.scale_model_input(x, timestep(begun.timesteps[1]))
    begun.step(x * 0, timestep(begun.timesteps[1]), x)


@pytest.mark.parametrize("change", [lambda x: x[:1], lambda x: x[..., None]])
@pytest.mark.parametrize("stages", [1, 3])
def test_a_step_keeps_the_shape_of_its_sample(change: Any, stages: int) -> None:
    for cls in (kdpm2.KDPM2AncestralDiscreteScheduler, kdpm2.KDPM2DiscreteScheduler):
        scheduler = cls()
        scheduler.set_timesteps(5)
        x = torch.ones(2, 3)
        for timestep in scheduler.timesteps[:stages]:
            x = scheduler.step(x * 0, timestep, x).prev_sample
        changed = change(x)
        with pytest.raises(ValueError, match="sample must keep the shape and device that it had when this step began"):
            scheduler.step(changed * 0, scheduler.timesteps[stages], changed)
        scheduler.step(x * 0, scheduler.timesteps[stages], x)
