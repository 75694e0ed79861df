"""What programs do to a scheduler's tensors: move them, assign them, edit them, subclass what holds them."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.configuration_utils import register_to_config

import kdpm2
from tests import oracle

CLASSES = [kdpm2.KDPM2AncestralDiscreteScheduler, kdpm2.KDPM2DiscreteScheduler]
ANCESTRAL, DISCRETE = CLASSES
FLOW: dict[str, Any] = {"prediction_type": "flow_prediction"}
MODEL = ["betas", "alphas", "alphas_cumprod", "log_sigmas"]
SCHEDULE = ["sigmas", "sigmas_interpol"]
each_class = pytest.mark.parametrize("cls", CLASSES)


def made(cls: Any, steps: int = 4, **options: Any) -> Any:
    scheduler = cls(**options)
    scheduler.set_timesteps(steps)
    return scheduler


def run(scheduler: Any, begin: int = 0) -> Any:
    x = torch.ones(2, 3) * 5
    generator = torch.Generator().manual_seed(0)
    for t in scheduler.timesteps[begin:]:
        output = oracle.network(scheduler.scale_model_input(x, t), t)
        x = scheduler.step(output, t, x, generator=generator).prev_sample
    return x


@each_class
@pytest.mark.parametrize("name", [*MODEL, *SCHEDULE, "timesteps"])
@pytest.mark.parametrize("mid_run", [False, True])
@pytest.mark.parametrize("how", [lambda x: x.to("cpu"), torch.clone, lambda x: x.double(), lambda x: x.half()])
def test_its_own_values_may_be_assigned_at_any_time(cls: Any, name: str, mid_run: bool, how: Any) -> None:
    plain, moved = made(cls), made(cls)
    expected = run(plain)
    moved.set_timesteps(4)
    if name == "timesteps" and how(torch.tensor(0.1)).dtype == torch.half:
        return  # rounded timesteps are others
    x, generator = torch.ones(2, 3) * 5, torch.Generator().manual_seed(0)
    for i, t in enumerate(moved.timesteps):
        if i == (3 if mid_run else 0):
            value = how(getattr(moved, name))
            setattr(moved, name, value)
            assert getattr(moved, name) is value
        output = oracle.network(moved.scale_model_input(x, t), t)
        x = moved.step(output, t, x, generator=generator).prev_sample
    assert torch.equal(x, expected)
    moved.set_timesteps(4)
    assert torch.equal(run(moved), expected)


@each_class
def test_a_tensor_that_was_read_is_the_one_that_is_held(cls: Any) -> None:
    scheduler = made(cls)
    for name in (*MODEL, *SCHEDULE):
        assert getattr(scheduler, name) is getattr(scheduler, name)
    before = scheduler.sigmas
    scheduler.set_timesteps(5)
    assert len(scheduler.sigmas) == 12 != len(before)
    with torch.inference_mode():
        scheduler.set_timesteps(5)
        assert not scheduler.sigmas.is_inference()


@each_class
@pytest.mark.parametrize("how", ["in place", "through NumPy", "assigned", "levels alone"])
def test_edited_sigmas_are_where_the_run_goes(cls: Any, how: str) -> None:
    levels = [10.0, 4.0, 2.0, 0.5, 0.0]
    scheduler, custom = made(cls), made(cls)
    told = scheduler.timesteps.clone()
    layout = torch.tensor([10.0, 4, 4, 2, 2, 0.5, 0.5, 0, 0, 0])
    if how == "in place":
        scheduler.sigmas.copy_(layout)
    elif how == "through NumPy":
        scheduler.sigmas.numpy()[:] = layout.numpy()
    else:
        scheduler.sigmas = layout if how == "assigned" else torch.tensor(levels)
    custom.set_timesteps(sigmas=levels, timesteps=told[::2].tolist())
    x = torch.ones(2, 3)
    for i, t in enumerate(told):
        one, other = (each.scale_model_input(x, u) for each, u in ((scheduler, t), (custom, custom.timesteps[i])))
        torch.testing.assert_close(one, other)
        generators = [torch.Generator().manual_seed(i) for _ in range(2)]
        one = scheduler.step(one * 0.1, t, x, generator=generators[0]).prev_sample
        other = custom.step(other * 0.1, custom.timesteps[i], x, generator=generators[1]).prev_sample
        torch.testing.assert_close(one, other)
        x = one
    assert torch.equal(scheduler.timesteps, told)
    scheduler.set_timesteps(4)
    assert scheduler.sigmas[0] != 10


@each_class
def test_the_starts_of_a_flow_are_edited_and_its_midpoints_follow(cls: Any) -> None:
    for change in (lambda q: q[0].mul_(0.99), lambda q: q.copy_(3 * q / (1 + 2 * q)), lambda q: q[2].mul_(1.0004)):
        scheduler = made(cls, **FLOW)
        starts = slice(0, None, 2)
        change(scheduler.sigmas)
        expected = scheduler.sigmas[starts].clone()
        x = torch.randn(2, 3)
        for i, t in enumerate(scheduler.timesteps):
            x = scheduler.step(x * 0.1, t, x, generator=_seeded()).prev_sample
            if i < 6:
                torch.testing.assert_close(scheduler.sigmas[starts], expected)
    scheduler = made(cls, **FLOW)
    scheduler.sigmas[1] *= 1.0005  # a midpoint alone
    with pytest.raises(ValueError, match="sigmas holds values that are no schedule"):
        scheduler.step(x, scheduler.timesteps[0], x)


@each_class
def test_a_run_starts_from_the_noise_of_the_edited_sigmas(cls: Any) -> None:
    scheduler = made(cls)
    scheduler.sigmas *= 0.5
    assert scheduler.init_noise_sigma == scheduler.sigmas[0]
    scheduler.scale_model_input(torch.ones(2), scheduler.timesteps[0])
    assert scheduler.init_noise_sigma == scheduler.sigmas[0]
    by_numpy = made(cls)
    by_numpy.sigmas.numpy()[:] *= 0.5
    assert by_numpy.init_noise_sigma == by_numpy.sigmas[0]
    for name in ("sigmas", "betas", "alphas_cumprod"):
        other = made(cls)
        setattr(other, name, None)
        with pytest.raises((TypeError, ValueError), match=name):
            other.set_timesteps(4) if name != "sigmas" else other.scale_model_input(torch.ones(2), 999)


@each_class
def test_sigmas_edited_in_mid_run_count_from_there(cls: Any) -> None:
    scheduler, x = made(cls), torch.ones(2, 3)
    for i, t in enumerate(scheduler.timesteps):
        if i == 4:
            scheduler.sigmas[3:5] *= 0.5  # σ₂, twice
        scaled = scheduler.scale_model_input(x, t)
        if i == 4:
            torch.testing.assert_close(scaled, x / (scheduler.sigmas[4] ** 2 + 1) ** 0.5)
        x = scheduler.step(scaled * 0.1, t, x).prev_sample


@each_class
@pytest.mark.parametrize(
    ("name", "edit"),
    [
        ("sigmas", lambda held: held[0].fill_(1e-3)),  # rising
        ("sigmas", lambda held: held[1].fill_(5.0)),  # one of two that are the same level
        ("sigmas", lambda held: held[-1].fill_(5.0)),
        ("sigmas", lambda held: held.fill_(torch.nan)),
        ("sigmas", lambda _: torch.ones(3)),
        ("sigmas", lambda _: "sigmas"),
        ("sigmas_interpol", lambda held: held.mul_(2)),
        ("timesteps", lambda _: torch.arange(3.0)),
        ("timesteps", lambda held: held.flip(0)),
        ("timesteps", lambda _: None),
    ],
)
def test_an_edit_without_a_meaning_is_refused_by_the_next_call(cls: Any, name: str, edit: Any) -> None:
    scheduler = made(cls)
    new = edit(getattr(scheduler, name))
    if not isinstance(new, torch.Tensor) or new.ndim:
        setattr(scheduler, name, new)
    for call in (scheduler.scale_model_input, lambda x, t: scheduler.step(x, t, x)):
        with pytest.raises(ValueError, match=rf"{name} holds values that are no schedule of this sampler: call set_"):
            call(torch.ones(2), 999)
    scheduler.set_timesteps(4)
    assert run(scheduler).isfinite().all()


@each_class
@pytest.mark.parametrize("name", ["betas", "alphas_cumprod"])
@pytest.mark.parametrize("in_place", [False, True])
def test_an_edited_model_counts_from_the_next_schedule_on(cls: Any, name: str, in_place: bool) -> None:
    other = cls(beta_start=0.0001, beta_end=0.02)
    scheduler = made(cls)
    before = scheduler.sigmas[0].item()
    assert scheduler.alphas_cumprod[-1] != other.alphas_cumprod[-1]
    if in_place:
        getattr(scheduler, name).copy_(getattr(other, name))
    else:
        setattr(scheduler, name, getattr(other, name).double())
    assert scheduler.sigmas[0] == before
    for _ in range(2):
        scheduler.set_timesteps(4)
        other.set_timesteps(4)
        torch.testing.assert_close(scheduler.sigmas, other.sigmas, rtol=1e-4, atol=0)
    torch.testing.assert_close(scheduler.log_sigmas, other.log_sigmas, rtol=1e-4, atol=1e-4)


@each_class
@pytest.mark.parametrize("name", ["alphas", "log_sigmas"])
def test_what_follows_from_betas_is_not_set_by_itself(cls: Any, name: str) -> None:
    scheduler = made(cls)
    setattr(scheduler, name, getattr(scheduler, name) * 2)
    with pytest.raises(ValueError, match=f"{name} must not be assigned: it follows from betas"):
        scheduler.set_timesteps(4)


@each_class
def test_a_flow_has_no_betas_to_set(cls: Any) -> None:
    scheduler = made(cls, **FLOW)
    scheduler.betas = torch.ones(3)
    with pytest.raises(ValueError, match="betas must not be assigned: a flow model has none"):
        scheduler.set_timesteps(4)


@each_class
@pytest.mark.parametrize("options", [FLOW, {**FLOW, "flow_shift": 3.0}, {**FLOW, "use_flow_sigmas": True}], ids=str)
def test_the_sigmas_of_a_flow_are_those_of_its_stages_in_a_run(cls: Any, options: dict[str, Any]) -> None:
    scheduler = made(cls, 6, **options)
    clean, noise, x = torch.zeros(1, 4), torch.ones(1, 4), torch.randn(1, 4)
    for i, t in enumerate(scheduler.timesteps):
        torch.testing.assert_close(scheduler.sigmas[i] * 1000, t, rtol=1e-5, atol=1e-3)
        level = scheduler.scale_noise(clean, t[None], noise)[0, 0]
        torch.testing.assert_close(scheduler.sigmas[i], level)
        x = scheduler.step(x * 0.1, t, x).prev_sample
    if "use_flow_sigmas" not in options:
        assert len(scheduler.sigmas) == len(scheduler.timesteps) + 1
        assert scheduler.sigmas[-1] == 0


@each_class
@pytest.mark.parametrize("options", [{}, FLOW], ids=str)
def test_part_of_the_timesteps_is_the_end_of_the_run(cls: Any, options: dict[str, Any]) -> None:
    for take in (lambda x: x[4:], lambda x: x[4:].clone()):
        whole, part = made(cls, 6, **options), made(cls, 6, **options)
        part.timesteps = take(part.timesteps)
        assert torch.equal(run(whole, 4), run(part))
        assert part.index_for_timestep(part.timesteps[0]) == 4


@each_class
def test_other_timesteps_are_what_the_loop_says(cls: Any) -> None:
    scheduler = made(cls, 6)
    scheduler.timesteps = torch.arange(11.0).flip(0)
    assert run(scheduler).isfinite().all()
    scheduler.timesteps += 0.25
    assert scheduler.index_for_timestep(7.25) == 3
    assert run(scheduler).isfinite().all()


def cosmos(base: Any) -> Any:
    class Own(base):
        """As a training project has it: options of its own, by names that are ours too, and sigmas of its own."""

        @register_to_config
        def __init__(self, sigma_min: float = 0.002, sigma_max: float = 80.0, sigma_data: float = 1.0, **kwargs: Any):
            self.sigmas: Any = None
            self.timesteps: Any = None
            super().__init__(prediction_type="epsilon", **kwargs)

        def set_timesteps(self, num_inference_steps: int | None = None, device: Any = None, *_: Any, **__: Any) -> None:
            super().set_timesteps(num_inference_steps, device)
            self.sigmas = torch.linspace(self.config.sigma_max, self.config.sigma_min, num_inference_steps or 1)

    return Own


@each_class
def test_a_subclass_keeps_its_own_options(cls: Any) -> None:
    own = cosmos(cls)
    scheduler = own(sigma_max=40.0, timestep_spacing="trailing")
    assert scheduler.config.sigma_max == 40
    assert scheduler.config.sigma_data == 1
    assert scheduler.config.timestep_spacing == "trailing"
    scheduler.set_timesteps(4)
    assert scheduler.sigmas.tolist() == pytest.approx(np.linspace(40, 0.002, 4))
    # They are not ours: its model has betas, and the top of its schedule is theirs.
    assert scheduler.table.sigmas[0] == pytest.approx(made(cls, timestep_spacing="trailing").table.sigmas[0])
    again = own.from_config(scheduler.config)
    assert again.config.sigma_max == 40
    scheduler.config.use_karras_sigmas = True  # ours
    scheduler.set_timesteps(4)
    assert scheduler.table.sigmas[1] == pytest.approx(
        made(cls, timestep_spacing="trailing", use_karras_sigmas=True).table.sigmas[1]
    )


@each_class
def test_a_subclass_that_hands_its_options_on_sets_ours(cls: Any) -> None:
    class Own(cls):
        @register_to_config
        def __init__(self, num_train_timesteps: int = 500, eta: float = 0.5, s_noise: float = 1.1, **kwargs: Any):
            super().__init__(num_train_timesteps=num_train_timesteps, s_noise=s_noise, **kwargs)

    scheduler = made(Own)
    assert len(scheduler) == 500
    assert scheduler.config.s_noise == 1.1
    plain = made(cls, num_train_timesteps=500, s_noise=1.1)
    assert torch.equal(run(scheduler), run(plain))


@each_class
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))])
def test_a_copy_holds_tensors_of_its_own_run(cls: Any, copied: Any) -> None:
    scheduler = made(cls)
    scheduler.seed(5)
    x = torch.ones(2, 3)
    for t in scheduler.timesteps[:3]:
        scheduler.sigmas[0]
        x = scheduler.step(scheduler.scale_model_input(x, t) * 0.1, t, x).prev_sample
    other = copied(scheduler)
    ends = []
    for each in (other, scheduler):  # the one does not move the other's state, nor its noise
        y = x
        for t in each.timesteps[3:]:
            y = each.step(each.scale_model_input(y, t) * 0.1, t, y).prev_sample
        ends.append(y)
    assert torch.equal(ends[0], ends[1])


@each_class
def test_a_stage_may_be_set_as_programs_set_it(cls: Any) -> None:
    scheduler, x = made(cls), torch.ones(2, 3)
    for t in scheduler.timesteps:
        scheduler._init_step_index(t)  # before every step, as DemoFusion does
        x = scheduler.step(scheduler.scale_model_input(x, t) * 0.1, t, x, generator=_seeded()).prev_sample
    scheduler.set_timesteps(4)
    y = torch.ones(2, 3)
    for t in scheduler.timesteps:
        y = scheduler.step(scheduler.scale_model_input(y, t) * 0.1, t, y, generator=_seeded()).prev_sample
    assert torch.equal(x, y)
    scheduler.step(y, scheduler.timesteps[0], y)
    scheduler._step_index = None
    assert scheduler.step_index is None
    scheduler._begin_index = 4
    assert scheduler.begin_index == 4
    scheduler._step_index = 2
    assert scheduler.step_index == 2
    with pytest.raises(ValueError, match="_step_index must be an integer from 0 to 6, got 9"):
        scheduler._step_index = 9


def _seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_what_community_pipelines_ask_of_any_scheduler() -> None:
    scheduler = made(DISCRETE)
    levels = np.array([10.0, 1.0, 0.1])
    np.testing.assert_allclose(
        scheduler._sigma_to_t(levels, scheduler.log_sigmas.numpy()),
        np.interp(np.log(levels), scheduler.log_sigmas.numpy(), np.arange(1000)),
        rtol=1e-5,
    )
    u = np.linspace(0, 1, 5)
    karras = (14.6 ** (1 / 7) + u * (0.03 ** (1 / 7) - 14.6 ** (1 / 7))) ** 7
    np.testing.assert_allclose(scheduler._convert_to_karras(np.array([14.6, 0.03]), 5), karras)
    np.testing.assert_allclose(
        scheduler._convert_to_exponential(np.array([14.6, 0.03]), 5), np.geomspace(14.6, 0.03, 5)
    )
    assert scheduler._convert_to_beta(np.array([14.6, 0.03]), 5)[[0, -1]].tolist() == [14.6, 0.03]
    flow = made(DISCRETE, **FLOW)
    np.testing.assert_allclose(flow.time_shift(np.log(3.0), 1.0, 0.5), 3 * 0.5 / (1 + 2 * 0.5))
    flow.set_shift(3.0)
    flow.set_timesteps(4)
    assert flow.table.sigmas[1] == pytest.approx(made(DISCRETE, **FLOW, flow_shift=3.0).table.sigmas[1])
    with pytest.raises(ValueError, match="shift is for flow models, and this is a model with betas, got 3"):
        scheduler.set_shift(3.0)
