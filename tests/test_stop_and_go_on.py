"""Runs that are stopped and go on: bit for bit the run that was not."""

from pathlib import Path
from typing import Any

import pytest
import torch

import kdpm2
from kdpm2 import KDPM2AncestralDiscreteScheduler as Ancestral
from kdpm2 import KDPM2DiscreteScheduler as Discrete
from kdpm2 import sampling, state
from kdpm2.noise import NOISES

SIGMAS = sampling.get_sigmas_karras(5, 0.1, 10.0)
SCHEDULE = kdpm2.noise_schedule.discrete()


def network(x: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
    return torch.tanh(0.5 * x) + 0.1 * torch.cos(timestep).reshape(-1, 1, 1).to(x)


DENOISER = kdpm2.Denoiser(network, SCHEDULE)


def start(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return (torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0)) * SIGMAS[0]).to(dtype)


def states(dtype: torch.dtype, **options: Any) -> tuple[torch.Tensor, list[dict[str, Any]]]:
    """The samples of an uncut run, and its state before every step."""
    kept: list[dict[str, Any]] = []
    samples = kdpm2.sample(
        DENOISER, start(dtype), SIGMAS, callback=lambda told: kept.append(told["state"]()), **options
    )
    return samples, kept


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("seeds", [3, [4, 2**40]])
@pytest.mark.parametrize("noise", NOISES)
def test_a_run_of_sample_goes_on_bit_for_bit(noise: str, seeds: Any, dtype: torch.dtype, tmp_path: Path) -> None:
    samples, kept = states(dtype, noise=noise, seeds=seeds)
    assert len(kept) == 5
    for held in kept:
        state.save(tmp_path / "state", held)
        again = kdpm2.sample(DENOISER, None, SIGMAS, noise=noise, resume=state.load(tmp_path / "state"))
        assert torch.equal(again, samples)
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


@pytest.mark.parametrize("noise", NOISES)
def test_compiled_runs_go_on_too(noise: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from kdpm2 import loop

    torch.compiler.reset()
    compiled = torch.compile(loop._stage, backend="aot_eager")
    monkeypatch.setattr(loop, "_compiled_stage", lambda: compiled)
    samples, kept = states(torch.float32, noise=noise, seeds=3, mode="compile")
    for held in kept:
        again = kdpm2.sample(DENOISER, None, SIGMAS, noise=noise, resume=held, mode="compile")
        assert torch.equal(again, samples)
    torch.compiler.reset()


def test_torch_s_global_generator_goes_on_too() -> None:
    torch.manual_seed(5)
    samples, kept = states(torch.float32)
    torch.manual_seed(6)
    assert torch.equal(kdpm2.sample(DENOISER, None, SIGMAS, resume=kept[2]), samples)


def test_a_state_does_not_change_as_the_run_goes_on() -> None:
    samples, kept = states(torch.float32, seeds=3)
    for _ in range(2):
        assert torch.equal(kdpm2.sample(DENOISER, None, SIGMAS, resume=kept[1]), samples)


def test_another_run_s_state_is_refused(tmp_path: Path) -> None:
    _, kept = states(torch.float32, seeds=3)
    with pytest.raises(ValueError, match="state must be that of a run with the same steps, eta and prediction type"):
        kdpm2.sample(DENOISER, None, SIGMAS[1:], resume=kept[1])
    with pytest.raises(ValueError, match="state must be that of a run with the same steps"):
        kdpm2.sample(DENOISER, None, SIGMAS, eta=0.5, resume=kept[1])
    with pytest.raises(ValueError, match="noise must be that of the run that was stopped, 'gaussian', got 'philox'"):
        kdpm2.sample(DENOISER, None, SIGMAS, noise="philox", resume=kept[1])
    with pytest.raises(TypeError, match="resume must be a state that a callback was given, or None, got 5"):
        kdpm2.sample(DENOISER, None, SIGMAS, resume=5)  # type: ignore[arg-type]
    (tmp_path / "other").write_bytes(b"something else")
    with pytest.raises(ValueError, match=r"file must be one that kdpm2\.state\.save wrote"):
        state.load(tmp_path / "other")
    with pytest.raises(FileNotFoundError):
        state.load(tmp_path / "nothing")


def made(cls: Any, noise: str) -> Any:
    options = {"noise": noise} if cls is Ancestral else {"s_churn": 2.0}
    scheduler = cls(**options)
    scheduler.set_timesteps(4)
    return scheduler


def stepped(scheduler: Any, sample: torch.Tensor, stage: int) -> torch.Tensor:
    timestep = scheduler.timesteps[stage]
    output = network(scheduler.scale_model_input(sample, timestep), timestep.reshape(1))
    after: torch.Tensor = scheduler.step(output, timestep, sample, return_dict=False)[0]
    return after


@pytest.mark.parametrize(("cls", "noise"), [*((Ancestral, noise) for noise in NOISES), (Discrete, "gaussian")])
@pytest.mark.parametrize("seeds", [3, [4, 2**40]])
def test_a_scheduler_s_run_goes_on_bit_for_bit(cls: Any, noise: str, seeds: Any, tmp_path: Path) -> None:
    for cut in range(8):
        uncut, first = made(cls, noise), made(cls, noise)
        uncut.seed(seeds)
        first.seed(seeds)
        sample, expected = start(), start()
        for stage in range(7):
            expected = stepped(uncut, expected, stage)
        for stage in range(min(cut, 7)):
            sample = stepped(first, sample, stage)
        state.save(tmp_path / "state", first.state_dict() | {"sample": sample})
        loaded = state.load(tmp_path / "state")
        sample = loaded.pop("sample")
        second = made(cls, noise)
        second.load_state_dict(loaded)
        for stage in range(cut, 7):
            sample = stepped(second, sample, stage)
        assert torch.equal(sample, expected)


def test_a_scheduler_refuses_another_run_s_state() -> None:
    held = made(Ancestral, "gaussian").state_dict()
    other = Ancestral()
    other.set_timesteps(5)
    with pytest.raises(ValueError, match="state must be that of a run with the same steps"):
        other.load_state_dict(held)
    with pytest.raises(TypeError, match=r"state_dict must be what state_dict\(\) returned"):
        other.load_state_dict({})
