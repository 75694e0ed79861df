"""That the projects are given the same to do."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from benchmarks import loops, pairs, report

import kdpm2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "always"),
    [(loops.policy, True), (loops.policy, False), (partial(loops.digits, 1), True)],
    ids=["policy", "policy, set once", "digits"],
)
def test_whole_loops_make_the_same_samples(model: Callable[[], loops.Model], always: bool) -> None:
    torch.manual_seed(0)
    made = model()
    samples = {}
    for of in (loops._of_schedulers, loops._of_sample, loops._of_k_diffusion):
        for project, loop in of(made, always).items():
            for _ in range(1 if always else 2):  # a second loop is one like the first
                torch.manual_seed(1)
                with torch.no_grad():
                    samples[project] = loop()
    assert {"diffusers", "kdpm2", "kdpm2.sample", "k-diffusion"} <= samples.keys()
    for project, sample in samples.items():
        # k-diffusion interpolates the logarithms of sigmas where the others do the sigmas themselves.
        tolerance = 0.1 if project == "k-diffusion" else 1e-3
        torch.testing.assert_close(sample, samples["diffusers"], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("device", "compiles", "modes"),
    [
        ("cpu", False, ["eager"]),
        ("cpu", True, ["eager", "compile"]),
        ("cuda", True, ["eager", "compile", "graph"]),
    ],
)
def test_every_mode_that_sample_has_here(
    device: str, compiles: bool, modes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def sample(denoiser: object, x: object, sigmas: object, *, mode: str = "eager") -> None: ...

    monkeypatch.setattr(kdpm2, "sample", sample)
    monkeypatch.setattr(loops, "_compiles", lambda device: compiles)
    found = loops.modes(torch.device(device))
    assert [arguments["mode"] for arguments in found.values()] == modes
    assert set(found) <= set(report.PROJECTS)


def test_a_draw_is_a_new_tensor_and_no_numbers() -> None:
    like, state = torch.zeros(3), torch.get_rng_state()
    with pairs.drawing_nothing(like, 2):
        first, second = torch.randn(3), torch.randn_like(like)
    assert first.shape == second.shape == like.shape
    assert first.data_ptr() != second.data_ptr()
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(torch.randn(3), torch.randn(3))
    with pytest.raises(RuntimeError, match="there must be 2 draws of noise in each run, got 1"):  # noqa: SIM117
        with pairs.drawing_nothing(like, 2):
            torch.randn(3)


@pytest.mark.parametrize("dtype", pairs.DTYPES.values(), ids=pairs.DTYPES)
def test_without_its_noise_nothing_is_drawn_on_the_clock(dtype: torch.dtype) -> None:
    works = pairs.works((2, 3, 4), dtype, noise=False)
    assert list(works) == ["diffusers", "kdpm2", "k-diffusion", "kdpm2.sample", "copy_"]
    for name, work in works.items():
        with work() as run:
            before = torch.get_rng_state()
            assert run() == (50 if name == "copy_" else 10 * 49.5)
            assert torch.equal(before, torch.get_rng_state())
