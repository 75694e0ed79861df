"""The ways through a run lead to the same samples, and keep no more memory and wait no more than they say."""

import gc
import weakref
from collections.abc import Callable, Iterator
from types import MethodType
from typing import Any, NamedTuple

import pytest
import torch
from benchmarks.memory import peak
from torch.utils._python_dispatch import TorchDispatchMode

import kdpm2
from kdpm2 import graph, loop, noise_schedule, philox, sampling, spacing, update
from kdpm2.update import _fused as fused
from tests.cuda_stand_in import graphs_on_the_cpu

NOISES = ["gaussian", "brownian", "philox"]
SCHEDULES = {
    "epsilon": (noise_schedule.discrete(), "epsilon"),
    "v_prediction": (noise_schedule.discrete(), "v_prediction"),
    "sample": (noise_schedule.discrete(), "sample"),
    "edm": (noise_schedule.EDM(0.5), "epsilon"),
    "flow": (noise_schedule.RectifiedFlow(), "flow_prediction"),
}


class Network(torch.nn.Module):
    """Small, and different at every timestep and for every condition."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(6, 6)

    def forward(self, x: torch.Tensor, timestep: torch.Tensor, by: Any = 1.0) -> torch.Tensor:
        output: torch.Tensor = torch.tanh(self.layer(x)) * by + (timestep / 1000).reshape(-1, 1)
        return output


def denoiser(model: str = "v_prediction") -> kdpm2.Denoiser:
    schedule, prediction_type = SCHEDULES[model]
    return kdpm2.Denoiser(Network(), schedule, prediction_type)


def started(model: str = "v_prediction", steps: int = 5, batch: int = 3) -> tuple[torch.Tensor, Any]:
    schedule, _ = SCHEDULES[model]
    sigmas = spacing.steps(schedule, steps).sigmas
    return torch.randn(batch, 6) * float(sigmas[0]), sigmas


@pytest.fixture(autouse=True)
def _compiled_anew() -> Iterator[None]:
    torch.compiler.reset()
    loop._compiled_stage.cache_clear()
    yield
    loop._compiled_stage.cache_clear()
    torch.compiler.reset()


@pytest.fixture
def compiled_without_inductor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch's graph is made, but run as it is, which spares the compiler's seconds."""
    compiled = torch.compile(loop._stage, backend="aot_eager")
    monkeypatch.setattr(loop, "_compiled_stage", lambda: compiled)


# Philox first, since the compiled stage draws it; that a stage takes any noise is seen where one graph serves all.
@pytest.mark.parametrize("noise", ["philox", *(pytest.param(each, marks=pytest.mark.slow) for each in NOISES[:2])])
@pytest.mark.parametrize("model", SCHEDULES)
@pytest.mark.usefixtures("compiled_without_inductor")
def test_compiled_samples_are_the_eager_ones(model: str, noise: str) -> None:
    network, (x, sigmas) = denoiser(model), started(model)
    kwargs: dict[str, Any] = {"seeds": [1, 2, 3], "noise": noise, "conditioning": {"by": torch.randn(3, 1)}}
    expected = kdpm2.sample(network, x, sigmas, **kwargs)
    torch.testing.assert_close(kdpm2.sample(network, x, sigmas, mode="compile", **kwargs), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.usefixtures("compiled_without_inductor")
def test_compiled_in_other_dtypes(dtype: torch.dtype) -> None:
    x, sigmas = started()
    network = kdpm2.Denoiser(lambda x, t: 0.1 * x + (t / 1000).reshape(-1, 1).to(dtype), noise_schedule.discrete())
    samples = [kdpm2.sample(network, x.to(dtype), sigmas, seeds=1, mode=mode) for mode in ("eager", "compile")]
    assert samples[1].dtype == dtype
    torch.testing.assert_close(*samples)


@pytest.mark.slow
def test_compiled_by_inductor() -> None:
    network, (x, sigmas) = denoiser(), started()
    expected = kdpm2.sample(network, x, sigmas, seeds=1, noise="philox")
    torch.testing.assert_close(kdpm2.sample(network, x, sigmas, seeds=1, noise="philox", mode="compile"), expected)


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.usefixtures("compiled_without_inductor")
@torch._dynamo.config.patch(error_on_recompile=True)
def test_one_graph_serves_all_stages_steps_and_seeds(noise: str) -> None:
    network = denoiser()
    for steps in (5, 9, 2):
        for seeds in (0, [4, 5, 6]):
            for eta in (1.0, 0.5):
                x, sigmas = started(steps=steps)
                made = kdpm2.sample(network, x, sigmas, seeds=seeds, eta=eta, noise=noise, mode="compile")
                expected = kdpm2.sample(network, x, sigmas, seeds=seeds, eta=eta, noise=noise)
                torch.testing.assert_close(made, expected)


@torch._dynamo.config.patch(error_on_recompile=True)
def test_a_stage_chosen_by_a_tensor_compiles_to_one_whole_graph() -> None:
    compiled = torch.compile(update.at_stage, fullgraph=True, backend="aot_eager")
    schedule = noise_schedule.discrete()
    for eta in (0.0, 1.0):
        table = kdpm2.table.dpm2(schedule, spacing.steps(schedule, 5), "v_prediction", eta)
        held = update.on_device(table, torch.device("cpu"))
        x, previous = torch.randn(2, 3), torch.zeros(2, 3)
        for stage in range(len(table)):
            row, output, noise = table.row(stage), torch.randn(2, 3), torch.randn(2, 3)
            anchor = previous if row.anchor else None
            expected = update.advance(row, x, output, anchor, noise if row.noise else None)
            x, previous = compiled(held, held.stage[stage].clone(), x, output, previous, noise), x
            torch.testing.assert_close(x, expected)


def test_each_sample_can_be_at_a_stage_of_its_own() -> None:
    schedule = noise_schedule.discrete()
    table = kdpm2.table.dpm2(schedule, spacing.steps(schedule, 5), "v_prediction")
    held = update.on_device(table, torch.device("cpu"), torch.float64)
    stages = torch.tensor([3, 0, 8, 5])
    x, output, previous, noise = (torch.randn(4, 3, 2, dtype=torch.float64) for _ in range(4))
    made = update.at_stage(held, stages, x, output, previous, noise)
    inputs, timesteps = update.network_input(held, stages, x)
    for i, stage in enumerate(stages.tolist()):
        one = [t[i] for t in (x, output, previous, noise)]
        torch.testing.assert_close(made[i], update.advance(table.row(stage), *one))
        torch.testing.assert_close(inputs[i], x[i] * table.row(stage).scale)
        assert timesteps[i] == table.stage_timesteps[stage]


def test_the_callback_is_told_the_same_of_a_compiled_run() -> None:
    network, (x, sigmas) = denoiser(), started()
    told: dict[str, list[dict[str, Any]]] = {"eager": [], "compile": []}
    for mode, seen in told.items():
        kdpm2.sample(network, x, sigmas, seeds=1, mode=mode, callback=seen.append)
    assert len(told["compile"]) == 5
    for one, other in zip(*told.values(), strict=True):
        assert one.keys() == other.keys()
        for name in one.keys() - {"state"}:
            torch.testing.assert_close(other[name], one[name])


def test_philox_noise_is_that_of_its_seed_and_step() -> None:
    x, sigmas = started()
    zero = kdpm2.Denoiser(lambda x, t: torch.zeros_like(x), noise_schedule.discrete())
    table = kdpm2.table.dpm2(zero.schedule, spacing.steps(zero.schedule, 5))
    seeds = [7, 2**63 + 1, 0]
    made = kdpm2.sample(zero, x, sigmas, seeds=seeds, noise="philox")
    signed = torch.tensor([7, 1 - 2**63, 0])
    drawn = [up * philox.normal(signed, step, x.shape) for step, up in enumerate(table.up)]
    torch.testing.assert_close(made, x + torch.stack(drawn).sum(0))
    alone = kdpm2.sample(zero, x[1:2], sigmas, seeds=seeds[1:2], noise="philox")
    assert torch.equal(alone[0], made[1])
    successive = kdpm2.sample(zero, x, sigmas, seeds=7, noise="philox")
    assert torch.equal(successive, kdpm2.sample(zero, x, sigmas, seeds=[7, 8, 9], noise="philox"))
    assert not torch.equal(*(kdpm2.sample(zero, x, sigmas, noise="philox") for _ in range(2)))


@pytest.mark.parametrize("model", SCHEDULES)
def test_the_kernel_leads_to_the_same_samples(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network, (x, sigmas) = denoiser(model), started(model)
    expected = {noise: kdpm2.sample(network, x, sigmas, seeds=[1, 2, 3], noise=noise) for noise in NOISES}
    calls: list[str] = []

    def counted(name: str) -> Callable[..., Any]:
        original = getattr(fused, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            calls.append(name)
            return original(*args, **kwargs)

        return call

    for name in ("each", "advance"):
        monkeypatch.setattr(fused, name, counted(name))
    monkeypatch.setattr(update.ways, "_on_gpu", lambda tensor: True)
    for noise in NOISES:
        calls.clear()
        made = kdpm2.sample(network, x, sigmas, seeds=[1, 2, 3], noise=noise)
        torch.testing.assert_close(made, expected[noise], atol=1e-5, rtol=1e-5)
        assert calls == ["advance"] * 9


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("model", SCHEDULES)
def test_a_graph_is_recorded_once_and_played_with_what_is_new(model: str, noise: str) -> None:
    network = denoiser(model)
    with graphs_on_the_cpu() as recorded:
        for seeds in ([1, 2, 3], [4, 5, 6]):
            x, sigmas = started(model)
            kwargs: dict[str, Any] = {"conditioning": {"by": torch.randn(3, 1)}, "noise": noise, "seeds": seeds}
            made = kdpm2.sample(network, x, sigmas, mode="graph", **kwargs)
            kept = made.clone()
            torch.testing.assert_close(made, kdpm2.sample(network, x, sigmas, **kwargs))
            kdpm2.sample(network, x + 1, sigmas, mode="graph", **kwargs)
            assert torch.equal(made, kept)
        assert len(recorded) == 1


def test_another_graph_is_recorded_where_one_cannot_serve() -> None:
    network, (x, sigmas) = denoiser(), started()
    with graphs_on_the_cpu() as recorded:
        runs: list[tuple[tuple[Any, Any], dict[str, Any]]] = [
            ((x, sigmas), {}),
            ((x[:2], sigmas), {}),
            ((x, sigmas[1:]), {}),
            ((x, sigmas), {"eta": 0.5}),
            ((x, sigmas), {"noise": "philox"}),
            ((x, sigmas), {"conditioning": {"by": 2.0}}),
            ((x, sigmas), {"conditioning": {"by": 3.0}}),
            ((x, sigmas), {"conditioning": {"by": torch.ones(3, 1)}}),
        ]
        for count, (args, kwargs) in enumerate(runs, start=1):
            made = kdpm2.sample(network, *args, seeds=1, mode="graph", **kwargs)
            torch.testing.assert_close(made, kdpm2.sample(network, *args, seeds=1, **kwargs))
            assert len(recorded) == count
        assert count == graph.MOST_KEPT
        kdpm2.sample(network, x, sigmas, seeds=1, mode="graph")
        assert len(recorded) == count
        kdpm2.sample(network, x[:1], sigmas, mode="graph")  # one too many: the one that was not played for longest goes
        kdpm2.sample(network, x, sigmas, mode="graph")
        assert len(recorded) == count + 1
        kdpm2.sample(network, x[:2], sigmas, mode="graph")
        assert len(recorded) == count + 2


def test_graphs_go_with_their_network() -> None:
    x, sigmas = started()
    network = Network()
    with graphs_on_the_cpu() as recorded:
        for called in (network, network.forward):  # a method is another object each time
            for _ in range(2):
                kdpm2.sample(kdpm2.Denoiser(called, noise_schedule.discrete()), x, sigmas, mode="graph")
        assert len(recorded) == 2
        recorded.clear()  # the stand-in keeps what it recorded, and with it the network's weights
        recordings = [weakref.ref(recording) for recording in graph._kept[network].values()]
        del network, called
        gc.collect()
    assert [recording() for recording in recordings] == [None, None]


def test_what_cannot_be_a_graph_is_refused() -> None:
    network, (x, sigmas) = denoiser(), started()
    with pytest.raises(ValueError, match=r"mode must be 'eager' or 'compile' for x on cpu"):
        kdpm2.sample(network, x, sigmas, mode="graph")
    with pytest.raises(ValueError, match="callback must be None with mode='graph'"):
        kdpm2.sample(network, x, sigmas, mode="graph", callback=print)
    with pytest.raises(ValueError, match="mode must be"):
        kdpm2.sample(network, x, sigmas, mode="fast")
    with graphs_on_the_cpu(), pytest.raises(TypeError, match="by must hold tensors, or values that can be told apart"):
        kdpm2.sample(network, x, sigmas, mode="graph", conditioning={"by": {1, 2}})


@pytest.mark.parametrize("mode", ["eager", "compile"])
@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.usefixtures("compiled_without_inductor")
def test_the_callers_tensors_are_never_written_to(mode: str, noise: str) -> None:
    network, (x, sigmas) = denoiser(), started()
    before = x.clone()
    made = kdpm2.sample(network, x, sigmas, noise=noise, mode=mode)
    assert torch.equal(x, before)
    assert made.data_ptr() != x.data_ptr()
    fixed = torch.randn_like(x)
    kept = fixed.clone()
    sampling.sample_dpm_2_ancestral(network, x, sigmas, noise_sampler=lambda sigma, following: fixed, disable=True)
    assert torch.equal(fixed, kept)


@pytest.mark.parametrize("told", [False, True])
@pytest.mark.parametrize("model", SCHEDULES)
def test_what_the_network_and_the_callback_saw_is_never_written_to(model: str, told: bool) -> None:
    network, (x, sigmas) = denoiser(model), started(model)
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        seen.append((tensor, tensor.clone()))
        return tensor

    kept = kdpm2.Denoiser(lambda x, t: keep(network.network(keep(x), t)), network.schedule, network.prediction_type)

    def callback(said: dict[str, Any]) -> None:
        keep(said["x"])
        keep(said["denoised"])

    made = kdpm2.sample(kept, x, sigmas, callback=callback if told else None, seeds=1)
    assert all(torch.equal(tensor, copy) for tensor, copy in seen)
    torch.testing.assert_close(made, kdpm2.sample(network, x, sigmas, seeds=1))


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("model", SCHEDULES)
def test_a_loop_has_three_samples_at_once(model: str, eta: float) -> None:
    schedule, prediction_type = SCHEDULES[model]
    _, sigmas = started(model, steps=10)
    x = torch.randn(1, 4, 128, 128)
    output = torch.randn_like(x)
    network = kdpm2.Denoiser(lambda x, t: output, schedule, prediction_type)
    most = peak(lambda: kdpm2.sample(network, x, sigmas, eta=eta))
    assert most <= 3.01 * x.numel() * x.element_size()


@pytest.mark.parametrize("noise", ["gaussian", "philox"])
@pytest.mark.parametrize("mode", ["eager", "compile"])
@pytest.mark.usefixtures("compiled_without_inductor")
def test_a_loop_reads_nothing_back_from_the_device(mode: str, noise: str) -> None:
    # On the meta device there is nothing to be read: an attempt is an error.
    x, sigmas = started()
    network = kdpm2.Denoiser(lambda x, t: x * t[:, None], noise_schedule.discrete())
    assert kdpm2.sample(network, x.to("meta"), sigmas, noise=noise, mode=mode).is_meta
    with pytest.raises((RuntimeError, NotImplementedError)):
        kdpm2.sample(lambda x, sigma: x * float(x.sum()), x.to("meta"), sigmas, mode="eager")


class NothingReadBack(TorchDispatchMode):
    """Torch's operations, without those that would wait for a device or copy to or from it."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function.overloadpacket.__name__
        assert name not in ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "copy_", "index"), name
        assert name != "_to_copy" or (kwargs or {}).get("device") is None
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("passed", ["as they are", "expanded", "numbers"])
@pytest.mark.parametrize("cls", [kdpm2.KDPM2AncestralDiscreteScheduler, kdpm2.KDPM2DiscreteScheduler])
def test_a_scheduler_reads_nothing_back_whatever_timestep_it_is_given(cls: Any, passed: str) -> None:
    scheduler = cls()
    scheduler.set_timesteps(5)
    numbers = scheduler.timesteps.tolist()
    x = torch.randn(2, 3)
    with NothingReadBack():
        for i, timestep in enumerate(scheduler.timesteps):
            told = {
                "as they are": timestep,
                "expanded": timestep.expand(2),
                "numbers": numbers[i],
            }[passed]
            scaled = scheduler.scale_model_input(x, told)
            x = scheduler.step(scaled, told, x, return_dict=False)[0]
    assert scheduler.step_index is None


class Condition(NamedTuple):
    by: Any
    shift: Any


def test_a_graph_copies_the_tensors_of_named_tuples_too() -> None:
    x, sigmas = started()
    network = kdpm2.Denoiser(lambda x, t, c: 0.1 * x * c.by + c.shift, noise_schedule.discrete())
    conditions = [Condition(torch.randn(3, 1), torch.randn(6)) for _ in range(2)]
    kept = [Condition(*(tensor.clone() for tensor in condition)) for condition in conditions]
    with graphs_on_the_cpu() as recorded:
        for condition in conditions:
            kwargs: dict[str, Any] = {"conditioning": {"c": condition}, "seeds": 1}
            made = kdpm2.sample(network, x, sigmas, mode="graph", **kwargs)
            torch.testing.assert_close(made, kdpm2.sample(network, x, sigmas, **kwargs))
        assert len(recorded) == 1
    for one, other in zip(conditions, kept, strict=True):
        assert torch.equal(one.by, other.by)
        assert torch.equal(one.shift, other.shift)


@pytest.mark.parametrize("noise", ["gaussian", "philox"])
def test_a_graph_recorded_in_inference_mode_is_played_outside_of_it(noise: str) -> None:
    network, (x, sigmas) = denoiser(), started()
    kwargs: dict[str, Any] = {"conditioning": {"by": torch.randn(3, 1)}, "noise": noise, "seeds": 1}
    with graphs_on_the_cpu() as recorded:
        with torch.inference_mode():
            kdpm2.sample(network, x + 1, sigmas, mode="graph", **kwargs)
        made = kdpm2.sample(network, x.requires_grad_(), sigmas, mode="graph", **kwargs)
        assert len(recorded) == 1
    torch.testing.assert_close(made, kdpm2.sample(network, x, sigmas, **kwargs))
    assert not made.is_inference()
    assert not made.requires_grad


def test_a_graph_casts_as_it_is_told_to_with_weights_as_they_are() -> None:
    network, (x, sigmas) = denoiser(), started()
    counts = []
    with graphs_on_the_cpu() as recorded:
        for enabled in (True, False, True, False):
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
                network.network(x, torch.zeros(3))  # by which torch would keep the weights that it has cast
                made = kdpm2.sample(network, x, sigmas, seeds=1, mode="graph")
                torch.testing.assert_close(made, kdpm2.sample(network, x, sigmas, seeds=1))
            counts.append(len(recorded))
            with torch.no_grad():
                network.network.layer.weight.mul_(2)  # type: ignore[attr-defined]
        assert counts == [1, 2, 2, 2]


def test_a_graph_is_that_of_the_method_and_of_the_kind_of_denoiser() -> None:
    class Halved(kdpm2.Denoiser):
        def predict(self, x: torch.Tensor, timestep: torch.Tensor, **conditioning: Any) -> torch.Tensor:
            return super().predict(x, timestep, **conditioning) / 2

    def shifted(self: Any, x: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        return x / 2 - 1

    network, (x, sigmas) = Network(), started()
    schedule = noise_schedule.discrete()
    shifted.__name__ = "forward"
    methods: list[Any] = [network.forward, MethodType(shifted, network)]
    with graphs_on_the_cpu() as recorded:
        for kind in (kdpm2.Denoiser, Halved):
            for method in methods:
                made = kdpm2.sample(kind(method, schedule), x, sigmas, seeds=1, mode="graph")
                torch.testing.assert_close(made, kdpm2.sample(kind(method, schedule), x, sigmas, seeds=1))
        assert len(recorded) == 4
