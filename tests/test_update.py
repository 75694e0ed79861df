import numpy as np
import pytest
import torch

from kdpm2 import noise_schedule, spacing, table, update

SCHEDULE = noise_schedule.discrete()
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def made(prediction_type: str = "v_prediction") -> table.StageTable:
    return table.dpm2(SCHEDULE, spacing.steps(SCHEDULE, 4), prediction_type)


def tensors(dtype: torch.dtype) -> list[torch.Tensor]:
    return [torch.randn(400).to(dtype) for _ in range(4)]


def half_a_unit_in_the_last_place(value: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    _, exponent = torch.frexp(value)
    return torch.ldexp(torch.ones_like(value) * torch.finfo(dtype).eps / 4, exponent)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("prediction_type", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("stage", range(7))
def test_half_precision_is_within_half_a_unit_of_float64(dtype: torch.dtype, prediction_type: str, stage: int) -> None:
    row = made(prediction_type).row(stage)
    x, m, anchor, noise = tensors(dtype)
    after, _ = update.apply(row, x, m, anchor if row.anchor else None, noise if row.noise else None)
    exact = sum(
        coefficient * tensor.double()
        for coefficient, tensor in ((row.x, x), (row.model, m), (row.anchor, anchor), (row.noise, noise))
    )
    assert isinstance(exact, torch.Tensor)
    # Besides the one rounding there is that of float32 terms, relative to the largest of them.
    slack = 4 * torch.finfo(torch.float32).eps * (abs(row.x) + abs(row.model) + row.anchor + row.noise) * 4
    assert ((after.double() - exact).abs() <= half_a_unit_in_the_last_place(exact, dtype) + slack).all()
    assert after.dtype == dtype


@pytest.mark.parametrize("dtype", DTYPES)
def test_results_are_new_and_arguments_unchanged(dtype: torch.dtype) -> None:
    given = tensors(dtype)
    before = [tensor.clone() for tensor in given]
    x, m, anchor, noise = given
    for prediction_type in ("epsilon", "sample", "v_prediction"):
        stages = made(prediction_type)
        scales = update.input_scales(stages, dtype)
        for stage in range(len(stages)):
            row = stages.row(stage)
            results = [
                x * scales[stage],
                *update.apply(row, x, m, anchor if row.anchor else None, noise if row.noise else None),
            ]
            for result in results:
                assert result.dtype == dtype
                assert result.data_ptr() not in {tensor.data_ptr() for tensor in given}
    assert all(torch.equal(a, b) for a, b in zip(given, before, strict=True))


@pytest.mark.parametrize("dtype", DTYPES)
def test_scaling(dtype: torch.dtype) -> None:
    stages = made()
    x, *_ = tensors(dtype)
    for stage, sigma in enumerate(stages.stage_sigmas):
        expected = x.double() / (sigma**2 + 1) ** 0.5
        scaled = x.mul(update.input_scales(stages, dtype)[stage])
        torch.testing.assert_close(scaled, expected.to(dtype))
        if dtype.itemsize == 2:  # rounded once
            assert torch.equal(scaled, (x.float() * float(np.float32((sigma**2 + 1) ** -0.5))).to(dtype))


def test_mixed_dtypes_are_computed_in_the_wider_one() -> None:
    row = made().row(0)
    x, m, *_ = tensors(torch.float64)
    after, denoised = update.apply(row, x.half(), m)
    assert after.dtype == torch.float16
    assert torch.equal(after, (row.x * x.half().double() + row.model * m).half())
    assert torch.equal(denoised, (row.denoised_x * x.half().double() + row.denoised_model * m).half())


def test_gradients_flow_through_a_stage() -> None:
    row = made().row(1)
    x, m, anchor, noise = (t.requires_grad_() for t in tensors(torch.float64)[:4])
    update.apply(row, x, m, anchor, noise)[0].sum().backward()
    for tensor, coefficient in ((x, row.x), (m, row.model), (anchor, row.anchor), (noise, row.noise)):
        assert tensor.grad is not None
        torch.testing.assert_close(tensor.grad, torch.full_like(tensor, coefficient))


@pytest.mark.parametrize("prediction_type", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("name", ["noise", "anchor", "sample", "memory of its own"])
def test_memory_that_is_given_up_holds_the_result(prediction_type: str, name: str) -> None:
    stages = made(prediction_type)
    for stage in range(len(stages)):
        row = stages.row(stage)
        sample, model_output, anchor, noise = tensors(torch.float32)
        read = (anchor if row.anchor else None, noise if row.noise else None)
        expected, _ = update.apply(row, sample, model_output, *read)
        given = {"noise": read[1], "anchor": read[0], "sample": None if row.anchor else sample}
        into = given.get(name, torch.empty_like(sample))
        if into is None:
            continue
        kept = [t.clone() for t in (sample, model_output, anchor, noise)]
        result = update.advance(row, sample, model_output, *read, into=into)
        assert result is into
        torch.testing.assert_close(result, expected)
        others = zip((sample, model_output, anchor, noise), kept, strict=True)
        assert all(torch.equal(a, b) for a, b in others if a is not into)


def test_given_memory_is_left_alone_where_it_cannot_hold_the_result() -> None:
    row = made().row(1)
    x, m, anchor, noise = tensors(torch.float32)
    into = noise.half()
    assert update.advance(row, x, m, anchor, noise, into=into) is not into
    assert torch.equal(into, noise.half())
    m.requires_grad_()
    before = noise.clone()
    update.advance(row, x, m, anchor, noise, into=noise).sum().backward()
    assert torch.equal(noise, before)
    assert m.grad is not None


@pytest.mark.parametrize("dtype", DTYPES)
def test_noise_of_any_dtype_leaves_the_sample_its_own(dtype: torch.dtype) -> None:
    row = made().row(1)
    x, m, anchor, noise = tensors(torch.float32)
    drawn = noise.to(dtype)
    expected = update.advance(row, x, m, anchor, drawn.float())
    for after in (update.advance(row, x, m, anchor, drawn), update.advance(row, x, m, anchor, drawn, into=drawn)):
        assert after.dtype == torch.float32
        torch.testing.assert_close(after, expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_device_that_torch_makes_tensors_on_plays_no_part(dtype: torch.dtype) -> None:
    row = made("epsilon").row(0)
    x, m, *_ = tensors(dtype)
    expected = update.apply(row, x, m)
    with torch.device("meta"):
        results = update.apply(row, x, m)
    assert all(torch.equal(a, b) for a, b in zip(results, expected, strict=True))
