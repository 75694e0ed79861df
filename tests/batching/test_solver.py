"""One batch of requests at different stages: the same samples as alone, by every way of making them."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import kdpm2
from kdpm2 import noise_schedule, spacing, update
from kdpm2.batching import BatchedSolver
from kdpm2.batching import solver as solver_module
from kdpm2.philox import Draw
from kdpm2.table import Churn, StageTable, dpm2
from kdpm2.update import _fused as fused
from tests.batching.requests import MODELS, SHAPE, Wanted, advanced, network, wanted

SCHEDULE = noise_schedule.discrete()
NOISES = [*kdpm2.noise.NOISES]


def table(steps: int = 3, eta: float = 1.0, **options: Any) -> StageTable:
    return dpm2(SCHEDULE, spacing.steps(SCHEDULE, steps), eta=eta, **options)


def drawn(count: int, dtype: torch.dtype = torch.float32, shape: Any = SHAPE, most_steps: int = 12) -> list[Wanted]:
    random = np.random.default_rng(1)
    return [wanted(random, dtype, most_steps, shape) for _ in range(count)]


def run(solver: BatchedSolver, queue: list[Wanted], every: int = 2) -> dict[int, torch.Tensor]:
    """Samples of requests of which one comes every few stages, as far as there is room."""
    requests: dict[int, Wanted] = {}
    samples: dict[int, torch.Tensor] = {}
    waiting, now = list(queue), 0
    while waiting or len(solver):
        if waiting and now % every == 0 and solver.room != 0:
            each = waiting.pop(0)
            requests[solver.admit(each.table, each.x, each.seed)] = each
        samples |= {finished.id: finished.sample for finished in advanced(solver, requests)}
        now += 1
    return samples


@pytest.fixture
def compiled_without_inductor(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Torch's graph is made, but run as it is, which spares the compiler's seconds."""
    torch.compiler.reset()
    compiled = torch.compile(solver_module._stage, backend="aot_eager", fullgraph=True, dynamic=False)
    monkeypatch.setattr(solver_module, "_compiled_stage", lambda: compiled)
    yield
    torch.compiler.reset()


@pytest.mark.parametrize("capacity", [None, 5])
@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("shape", [SHAPE, (), (5,), (2, 33, 31)])
def test_samples_are_those_made_alone(noise: str, capacity: int | None, shape: Any) -> None:
    queue = drawn(8, torch.float64, shape)
    solver = BatchedSolver(shape, capacity=capacity, dtype=torch.float64, noise=noise)
    samples = run(solver, queue)
    for id, each in enumerate(queue):
        torch.testing.assert_close(samples[id], each.alone(noise), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float16, 0.05), (torch.bfloat16, 0.3)])
@pytest.mark.parametrize("noise", NOISES)
def test_in_other_dtypes(dtype: torch.dtype, tolerance: float, noise: str) -> None:
    queue = [each for each in drawn(12, dtype) if each.model != "edm"]
    samples = run(BatchedSolver(SHAPE, dtype=dtype, noise=noise), queue)
    for id, each in enumerate(queue):
        assert samples[id].dtype == dtype
        torch.testing.assert_close(samples[id], each.alone(noise), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("noise", NOISES)
def test_noise_is_the_same_alone_and_in_company_bit_for_bit(noise: str) -> None:
    # From 0, of a network that says 0, to a sigma above 0, at every step of which the sample is kept: all is noise.
    sigmas = np.array([3.0, 2.0, 1.0])
    zero = kdpm2.Denoiser(lambda x, t: torch.zeros_like(x), SCHEDULE)
    only_noise = dpm2(SCHEDULE, spacing.Steps(sigmas, SCHEDULE.timestep(sigmas[:-1])))
    start = torch.zeros(3, 50, 7)
    for capacity in (None, 12):
        solver = BatchedSolver(start.shape, capacity=capacity, noise=noise)
        seeds = {solver.admit(table(5), seed=1): 1}
        samples: dict[int, torch.Tensor] = {}
        for seed in (7, 2**64 - 1, 0, 12):
            solver.advance(torch.zeros_like(solver.next_inputs().x))
            seeds[solver.admit(only_noise, start, seed)] = seed
        while len(solver):
            samples |= dict(solver.advance(torch.zeros_like(solver.next_inputs().x)))
        del samples[0]
        for id, sample in samples.items():
            alone = kdpm2.sample(zero, start[None], sigmas, seeds=[seeds[id]], noise=noise)[0]
            assert sample.abs().sum() > 0
            assert torch.equal(sample, alone)


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("capacity", [None, 6])
def test_the_kernel_makes_the_same_samples(capacity: int | None, noise: str, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = drawn(6, most_steps=6)
    expected = run(BatchedSolver(SHAPE, capacity=capacity, noise=noise), queue)
    drawn_as: set[type] = set()
    each: Callable[..., torch.Tensor] = fused.each

    def noted(*args: Any) -> torch.Tensor:
        drawn_as.add(type(args[-1]))
        return each(*args)

    monkeypatch.setattr(fused, "each", noted)
    monkeypatch.setattr(update.ways, "_on_gpu", lambda tensor: True)
    made = run(BatchedSolver(SHAPE, capacity=capacity, noise=noise), queue)
    assert drawn_as - {type(None)} == {Draw if noise == "philox" else torch.Tensor}
    for id, sample in expected.items():
        torch.testing.assert_close(made[id], sample, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.usefixtures("compiled_without_inductor")
@torch._dynamo.config.patch(error_on_recompile=True)
def test_one_graph_serves_whoever_comes_and_goes(noise: str) -> None:
    options: dict[str, Any] = {"capacity": 4, "dtype": torch.float64, "noise": noise, "mode": "compile"}
    solver = BatchedSolver(SHAPE, **options)
    queue = drawn(9, torch.float64)
    requests = {solver.admit(each.table, each.x, each.seed): each for each in queue[:3]}
    advanced(solver, requests)
    solver.cancel(1)
    del requests[1]
    samples: dict[int, torch.Tensor] = {}
    while len(solver):
        samples |= {finished.id: finished.sample for finished in advanced(solver, requests)}
    for id, each in requests.items():
        torch.testing.assert_close(samples[id], each.alone(noise), rtol=1e-9, atol=1e-9)
    samples = run(BatchedSolver(SHAPE, **options), queue)
    for id, each in enumerate(queue):
        torch.testing.assert_close(samples[id], each.alone(noise), rtol=1e-9, atol=1e-9)


@pytest.mark.slow
def test_compiled_by_inductor() -> None:
    torch.compiler.reset()
    solver_module._compiled_stage.cache_clear()
    queue = drawn(4, torch.float64)
    samples = run(BatchedSolver(SHAPE, capacity=3, dtype=torch.float64, mode="compile"), queue)
    for id, each in enumerate(queue):
        torch.testing.assert_close(samples[id], each.alone(), rtol=1e-9, atol=1e-9)
    torch.compiler.reset()


def test_inputs_are_what_each_stage_reads() -> None:
    solver = BatchedSolver(SHAPE, capacity=4, dtype=torch.float64)
    each = drawn(2, torch.float64)
    ids = [solver.admit(one.table, one.x, one.seed) for one in each]
    told = solver.next_inputs()
    assert sorted(told.ids[:2]) == ids  # type: ignore[type-var]
    assert told.ids[2:] == [None, None]
    assert not told.x[2:].any()
    assert told.sigma.tolist()[2:] == [1, 1]
    assert told.timestep.tolist()[2:] == [0, 0]
    for place, id in enumerate(told.ids[:2]):
        own = each[ids.index(id)] if id is not None else each[0]
        assert told.sigma[place] == own.table.stage_sigmas[0]
        assert told.timestep[place] == own.table.stage_timesteps[0]
        torch.testing.assert_close(told.x[place], own.x * own.table.row(0).scale)


def test_a_new_sample_is_noise_of_its_seed() -> None:
    solver = BatchedSolver(SHAPE)
    churned = table(3, 0.0, churn=Churn(1.0))
    for each in (table(), churned):
        solver.admit(each, seed=5)
    inputs = solver.next_inputs()
    noise = torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(5))[0]
    for id, each in enumerate((table(), churned)):
        x = inputs.x[inputs.ids.index(id)]
        assert inputs.sigma[inputs.ids.index(id)] == pytest.approx(each.stage_sigmas[0])
        torch.testing.assert_close(x, noise * each.stage_sigmas[0] * each.row(0).scale)


def test_new_seeds_are_torchs() -> None:
    solver = BatchedSolver((1000,))
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        solver.admit(table())
    x = dict(zip(solver.next_inputs().ids, solver.next_inputs().x, strict=True))
    assert torch.equal(x[0], x[1])
    assert not torch.equal(x[0], x[2])


@pytest.mark.parametrize("noise", ["gaussian", "brownian", "philox"])
def test_churn_adds_its_noise_to_a_sample_that_is_given(noise: str) -> None:
    churned, plain = table(3, 0.0, churn=Churn(1.0)), table(3, 0.0)
    solver = BatchedSolver((4000,), noise=noise)
    x = torch.ones(4000)
    for each in (churned, plain):
        solver.admit(each, x, seed=5)
    inputs = dict(zip(solver.next_inputs().ids, solver.next_inputs().x, strict=True))
    torch.testing.assert_close(inputs[1], x * plain.row(0).scale)
    added = inputs[0] / churned.row(0).scale - 1
    assert float(added.std()) == pytest.approx(churned.initial_noise, rel=0.05)
    assert float(added.mean()) == pytest.approx(0, abs=0.1 * churned.initial_noise)


def test_what_comes_and_goes_between_inputs_and_outputs() -> None:
    each = drawn(4, torch.float64)
    solver = BatchedSolver(SHAPE, capacity=3, dtype=torch.float64)
    requests = {solver.admit(one.table, one.x, one.seed): one for one in each[:3]}
    for _ in range(2):
        advanced(solver, requests)
    ids, x, _, timestep = solver.next_inputs()
    output = network(x, timestep, torch.stack([requests[i].by for i in ids if i is not None]))
    solver.cancel(1)
    assert solver.room == 1
    requests[solver.admit(each[3].table, each[3].x, each[3].seed)] = each[3]
    assert solver.ids == [0, 2, 3]
    samples = {finished.id: finished.sample for finished in solver.advance(output)}
    while len(solver):
        samples |= {finished.id: finished.sample for finished in advanced(solver, requests)}
    assert samples.keys() == {0, 2, 3}
    for id, sample in samples.items():
        torch.testing.assert_close(sample, requests[id].alone(), rtol=1e-9, atol=1e-9)


def test_a_broken_output_stays_with_its_request() -> None:
    each = drawn(3, torch.float64)
    for capacity in (None, 4):
        solver = BatchedSolver(SHAPE, capacity=capacity, dtype=torch.float64)
        requests = {solver.admit(one.table, one.x, one.seed): one for one in each}
        ids, x, _, timestep = solver.next_inputs()
        by = torch.stack([torch.zeros(SHAPE, dtype=x.dtype) if i is None else requests[i].by for i in ids])
        output = network(x, timestep, by)
        output[ids.index(1)] = torch.nan
        samples = {finished.id: finished.sample for finished in solver.advance(output)}
        solver.cancel(1)
        requests[solver.admit(each[1].table, each[1].x, each[1].seed)] = each[1]  # in its memory
        while len(solver):
            samples |= {finished.id: finished.sample for finished in advanced(solver, requests)}
        for id in (0, 2, 3):
            torch.testing.assert_close(samples[id], requests[id].alone(), rtol=1e-9, atol=1e-9)


def test_nothing_of_the_callers_is_written_to_or_kept() -> None:
    each = drawn(1)[0]
    solver = BatchedSolver(SHAPE)
    x = each.x.clone()
    solver.admit(each.table, x, each.seed)
    x.zero_()
    seen = []
    while len(solver):
        inputs = solver.next_inputs()
        output = network(inputs.x, inputs.timestep, each.by[None])
        seen += [(tensor, tensor.clone()) for tensor in (*inputs[1:], output)]
        done = solver.advance(output)
    assert all(torch.equal(tensor, copy) for tensor, copy in seen)
    torch.testing.assert_close(done[0].sample, each.alone(), rtol=1e-4, atol=1e-4)


def test_gradients_and_inference_mode_make_no_difference() -> None:
    each = drawn(1)[0]
    with torch.inference_mode():
        solver = BatchedSolver(SHAPE)
        solver.admit(each.table, each.x, each.seed)
        inputs = solver.next_inputs()
        solver.advance(network(inputs.x, inputs.timestep, each.by[None]))
    by = each.by[None].requires_grad_()
    done: list[Any] = []
    while len(solver):
        inputs = solver.next_inputs()
        done = solver.advance(network(inputs.x, inputs.timestep, by))
    assert not done[0].sample.requires_grad
    each.by = each.by.detach()
    torch.testing.assert_close(done[0].sample, each.alone(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("noise", NOISES)
def test_nothing_is_read_back_from_the_device(noise: str) -> None:
    # On the meta device there is nothing to be read: an attempt is an error.
    solver = BatchedSolver(SHAPE, device="meta", noise=noise)
    for steps in (2, 5, 3):
        solver.admit(table(steps), seed=steps)
        done = [finished.id for finished in solver.advance(solver.next_inputs().x)]
    while len(solver):
        done += [finished.id for finished in solver.advance(solver.next_inputs().x)]
    assert sorted(done) == [0, 1, 2]


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("capacity", [None, 5])
@pytest.mark.parametrize("asked", [False, True])
def test_a_restored_solver_goes_on_bit_for_bit(capacity: int | None, noise: str, asked: bool, tmp_path: Path) -> None:
    shape = (2, 17)
    solver = BatchedSolver(shape, capacity=capacity, noise=noise)
    each = drawn(5, shape=shape)
    requests = {}
    for one in each[:4]:
        requests[solver.admit(one.table, one.x, one.seed)] = one
        advanced(solver, requests)
    if asked:
        solver.next_inputs()
    solver.cancel(2)
    requests[solver.admit(each[4].table, each[4].x, each[4].seed)] = each[4]
    solver.snapshot(tmp_path / "new" / "folder")
    restored = BatchedSolver.restore(tmp_path / "new" / "folder")
    assert (restored.ids, restored.room, restored.capacity) == (solver.ids, solver.room, solver.capacity)
    both: list[dict[int, torch.Tensor]] = [{}, {}]
    for samples, one_of in zip(both, (solver, restored), strict=True):
        while len(one_of):
            samples |= {finished.id: finished.sample for finished in advanced(one_of, requests)}
    assert both[0].keys() == both[1].keys()
    assert len(both[0]) == 4
    assert all(torch.equal(both[0][id], both[1][id]) for id in both[0])
    assert restored.admit(table()) == solver.admit(table()) == 5


def test_a_snapshot_replaces_the_one_before(tmp_path: Path) -> None:
    solver = BatchedSolver(SHAPE, dtype=torch.float16)
    solver.snapshot(tmp_path)
    assert len(BatchedSolver.restore(tmp_path)) == 0
    for seed in range(3):
        solver.admit(table(), seed=seed)
        solver.snapshot(tmp_path)
    assert BatchedSolver.restore(tmp_path, "cpu").ids == [0, 1, 2]
    assert len(list(tmp_path.iterdir())) == 3  # two files and a lock


def test_a_crash_leaves_the_older_snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    solver = BatchedSolver(SHAPE)
    solver.admit(table(), seed=0)
    solver.snapshot(tmp_path)
    solver.admit(table(), seed=1)
    replace = Path.replace

    def crashing(path: Path, target: Any) -> Any:
        if Path(target).suffix == ".json":
            raise OSError("no space left")
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", crashing)
    with pytest.raises(OSError, match="no space left"):
        solver.snapshot(tmp_path)
    assert BatchedSolver.restore(tmp_path).ids == [0]
    monkeypatch.undo()
    solver.snapshot(tmp_path)
    assert BatchedSolver.restore(tmp_path).ids == [0, 1]
    assert len(list(tmp_path.iterdir())) == 3  # two files and a lock


def flipped(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def changed(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Another state, with the digest that it should have."""
    from kdpm2.batching import folder as files

    file = folder / "batch.json"
    document = json.loads(file.read_text())
    change(document["state"])
    del document["digest"]
    file.write_text(json.dumps({**document, "digest": files._digest(document)}))


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "batch.json").unlink(),
        lambda folder: (folder / "batch.json").write_text("[]"),
        lambda folder: (folder / "batch.json").write_text("[" * 100_000),
        lambda folder: (folder / "batch.json").write_bytes(b"\x80\x04."),
        lambda folder: flipped(folder / "batch.json"),
        lambda folder: flipped(next(folder.glob("*.safetensors"))),
        lambda folder: next(folder.glob("*.safetensors")).unlink(),
        lambda folder: changed(folder, lambda state: state.pop("next_id")),
        lambda folder: changed(folder, lambda state: state.update(next_id=0)),
        lambda folder: changed(folder, lambda state: state.update(more=1)),
        lambda folder: changed(folder, lambda state: state.update(dtype="int64")),
        lambda folder: changed(folder, lambda state: state.update(shape=[3, 2])),
        lambda folder: changed(folder, lambda state: state.update(shape=None)),
        lambda folder: changed(folder, lambda state: state.update(capacity=1)),
        lambda folder: changed(folder, lambda state: state.update(most_stages=2)),
        lambda folder: changed(folder, lambda state: state.update(noise="philox")),
        lambda folder: changed(folder, lambda state: state.update(requests=[])),
        lambda folder: changed(folder, lambda state: state["requests"][0].update(stage=5)),
        lambda folder: changed(folder, lambda state: state["requests"][0].update(stages=6)),
        lambda folder: changed(folder, lambda state: state["requests"][0].update(id=1)),
        lambda folder: changed(folder, lambda state: state["requests"][0].update(seed=-1)),
        lambda folder: changed(folder, lambda state: state["requests"][0].update(seed="1")),
    ],
)
def test_only_what_was_written_is_restored(damage: Callable[[Path], None], tmp_path: Path) -> None:
    solver = BatchedSolver(SHAPE)
    for seed in range(2):
        solver.admit(table(), seed=seed)
    solver.snapshot(tmp_path)
    assert BatchedSolver.restore(tmp_path).ids == [0, 1]
    damage(tmp_path)
    with pytest.raises(ValueError, match=r"folder must hold a snapshot that BatchedSolver.snapshot wrote, unchanged"):
        BatchedSolver.restore(tmp_path)


def test_wrong_folders() -> None:
    with pytest.raises(TypeError, match="folder must be a path, got 1"):
        BatchedSolver.restore(1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="folder must be a path, got None"):
        BatchedSolver(SHAPE).snapshot(None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"shape": 3}, TypeError, "shape must be a tuple of integers, that of one sample, got 3"),
        ({"shape": (0,)}, ValueError, "each of shape must be an integer from 1 to"),
        ({"shape": (1.5,)}, TypeError, "each of shape must be an integer"),
        ({"capacity": 0}, ValueError, "capacity must be an integer from 1 to"),
        ({"capacity": "4"}, TypeError, "capacity must be an integer"),
        ({"most_stages": 0}, ValueError, "most_stages must be an integer from 1"),
        ({"dtype": torch.int64}, TypeError, "dtype must be a floating-point torch.dtype, .* got torch.int64"),
        ({"dtype": "float32"}, TypeError, "dtype must be a floating-point torch.dtype"),
        ({"device": "nowhere"}, ValueError, "device must be one that torch can use here, got 'nowhere'"),
        ({"noise": "pink"}, ValueError, "noise must be one of 'gaussian', 'brownian', 'philox', .*got 'pink'"),
        ({"mode": "graph", "capacity": 4}, ValueError, "mode must be one of 'eager', 'compile', got 'graph'"),
        ({"mode": "compile"}, ValueError, "capacity must be an integer with mode='compile'"),
    ],
)
def test_wrong_solvers(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        BatchedSolver(**{"shape": SHAPE, **arguments})


NAN = torch.full((2, *SHAPE), torch.nan)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda solver: solver.admit([[1.0]]), TypeError, r"table must be a kdpm2.table.StageTable, got \[\[1.0\]\]"),
        (lambda solver: solver.admit(table(101)), ValueError, "table must have from 1 to most_stages=199 .* got 201"),
        (lambda solver: solver.admit(table(), [1.0]), TypeError, "x must be a tensor"),
        (lambda solver: solver.admit(table(), torch.ones(SHAPE).int()), TypeError, "x must be floating point"),
        (lambda solver: solver.admit(table(), torch.ones(1, 3)), ValueError, r"shape, \(2, 3\), got \(1, 3\)"),
        (lambda solver: solver.admit(table(), seed=-1), ValueError, "seed must be an integer from 0 to .* got -1"),
        (lambda solver: solver.admit(table(), seed=1.5), TypeError, "seed must be an integer"),
        (lambda solver: solver.cancel(5), ValueError, "id must be that of one of the 2 requests there are, got 5"),
        (lambda solver: solver.cancel("0"), TypeError, "id must be an integer"),
        (lambda solver: solver.advance(None), TypeError, "model_output must be a tensor"),
        (lambda solver: solver.advance(NAN[:1]), ValueError, "model_output must have the shape of the inputs"),
        (lambda solver: solver.advance(NAN.to("meta")), ValueError, "model_output must be on the device"),
        (lambda solver: solver.advance(NAN.int()), TypeError, "model_output must be floating point"),
    ],
)
def test_what_is_refused_changes_nothing(call: Any, error: type[Exception], message: str) -> None:
    each = drawn(2, torch.float64)
    solver = BatchedSolver(SHAPE, dtype=torch.float64)
    requests = {solver.admit(one.table, one.x, one.seed): one for one in each}
    advanced(solver, requests)
    ids, x, _, timestep = solver.next_inputs()
    state = torch.random.get_rng_state()
    with pytest.raises(error, match=message):
        call(solver)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert solver.ids == [0, 1]
    done = solver.advance(network(x, timestep, torch.stack([requests[i].by for i in ids if i is not None])))
    samples = {finished.id: finished.sample for finished in done}
    while len(solver):
        samples |= {finished.id: finished.sample for finished in advanced(solver, requests)}
    for id, sample in samples.items():
        torch.testing.assert_close(sample, requests[id].alone(), rtol=1e-9, atol=1e-9)
    assert solver.admit(table()) == 2


def test_one_that_is_full_refuses() -> None:
    solver = BatchedSolver(SHAPE, capacity=1)
    assert (solver.room, solver.capacity) == (1, 1)
    solver.admit(table())
    with pytest.raises(ValueError, match="table must wait: all 1 places of this solver's capacity are taken"):
        solver.admit(table())
    solver.cancel(0)
    assert solver.admit(table()) == 1
    assert BatchedSolver(SHAPE).room is None


def test_outputs_follow_inputs() -> None:
    solver = BatchedSolver(SHAPE)
    solver.admit(table())
    with pytest.raises(ValueError, match="model_output must be made of next_inputs"):
        solver.advance(torch.zeros(1, *SHAPE))
    x = solver.next_inputs().x
    solver.advance(x)
    with pytest.raises(ValueError, match="model_output must be made of next_inputs"):
        solver.advance(x)


def test_an_empty_batch() -> None:
    for capacity in (None, 2):
        solver = BatchedSolver(SHAPE, capacity=capacity)
        inputs = solver.next_inputs()
        assert inputs.ids == [None] * (capacity or 0)
        assert inputs.x.shape == (capacity or 0, *SHAPE)
        assert solver.advance(torch.full_like(inputs.x, torch.nan)) == []
        assert not solver.next_inputs().x.any()


def test_every_kind_of_model_is_drawn() -> None:
    assert {each.model for each in drawn(40)} == set(MODELS)


def test_a_snapshot_of_version_0_1_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "copied"
    shutil.copytree(Path(__file__).with_name("snapshot_of_0_1"), folder)
    schedule = noise_schedule.discrete()
    whole, restored = BatchedSolver((3,)), BatchedSolver.restore(folder)
    for steps, seed in (3, 5), (5, 2**31):  # of which that version had made two stages
        whole.admit(dpm2(schedule, spacing.steps(schedule, steps)), seed=seed)
    samples, expected = (
        {id: sample for _ in range(9) for id, sample in solver.advance(solver.next_inputs().x.sin())}
        for solver in (restored, whole)
    )
    assert len(expected) == 2
    for id, sample in expected.items():
        torch.testing.assert_close(samples[id], sample, rtol=1e-5, atol=1e-5)
