"""Configuration files that are none, or that hold more than a configuration."""

import json
import logging
from pathlib import Path
from typing import Any

import diffusers
import pytest

from kdpm2 import KDPM2AncestralDiscreteScheduler as Ancestral
from kdpm2 import KDPM2DiscreteScheduler as Discrete
from tests.bad_input.calls import costing_little, loaded

SAVED = Ancestral().to_json_string().encode()
NO_JSON: dict[str, bytes] = {
    "nothing": b"",
    "truncated": SAVED[: len(SAVED) // 2],
    "text": b"hello",
    "a pickle": b"\x80\x04\x95\x00\x00\xff",
    "utf-16": SAVED.decode().encode("utf-16"),
    "with a mark of its encoding": b"\xef\xbb\xbf" + SAVED,
}


@pytest.mark.parametrize("text", NO_JSON.values(), ids=NO_JSON)
def test_a_file_that_is_no_json_is_refused_as_diffusers_does(text: bytes) -> None:
    """`from_pretrained` is diffusers' own, and raises what code around pipelines catches."""
    for cls in (Ancestral, Discrete, diffusers.KDPM2AncestralDiscreteScheduler):
        with pytest.raises(OSError, match=r"scheduler_config\.json' is not a valid JSON file"):
            loaded(cls, text)


@pytest.mark.parametrize("cls", [Ancestral, Discrete, diffusers.KDPM2AncestralDiscreteScheduler])
def test_what_is_no_file_is_refused_as_diffusers_does(cls: Any, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "folder" / "scheduler_config.json").mkdir(parents=True)
    (tmp_path / "loop").mkdir()
    (tmp_path / "loop" / "scheduler_config.json").symlink_to(tmp_path / "loop" / "scheduler_config.json")
    for folder in ("empty", "folder", "loop", "missing"):
        with pytest.raises(OSError, match=r"scheduler_config\.json"):
            cls.from_pretrained(tmp_path / folder, local_files_only=True)


BEYOND_JSON: dict[str, tuple[bytes, str]] = {
    "5000 digits": (b'{"num_train_timesteps": 1' + b"0" * 5000 + b"}", "an integer of too many digits"),
    "5000 digits of no option": (b'{"bogus": 1' + b"0" * 5000 + b"}", "an integer of too many digits"),
    "a list": (b"[1, 2]", r"must hold a mapping of options, got \[1, 2\]"),
    "a number": (b"5", "must hold a mapping of options, got 5"),
    "nothing": (b"null", "must hold a mapping of options, got None"),
    "a text": (b'"linear"', "must hold a mapping of options, got 'linear'"),
    "NaN": (SAVED.replace(b"0.012", b"NaN"), "beta_end must be a number from 0 to 1, got nan"),
    "Infinity": (SAVED.replace(b"0.012", b"-Infinity"), "beta_end must be a number from 0 to 1, got -inf"),
    "400 digits": (SAVED.replace(b"0.012", b"1" + b"0" * 400), "beta_end must be a number from 0 to 1, got 1000"),
    "1e999": (SAVED.replace(b"0.012", b"1e999"), "beta_end must be a number from 0 to 1, got inf"),
}


@pytest.mark.parametrize(("text", "message"), BEYOND_JSON.values(), ids=BEYOND_JSON)
@pytest.mark.parametrize("cls", [Ancestral, Discrete])
def test_json_that_is_no_configuration_is_refused_in_words(cls: Any, text: bytes, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        loaded(cls, text)


def test_of_a_key_given_twice_the_last_counts_as_json_has_it() -> None:
    for cls in (Ancestral, Discrete, diffusers.KDPM2AncestralDiscreteScheduler):
        assert loaded(cls, b'{"beta_end": 5, "beta_end": 0.02}').config.beta_end == 0.02


@pytest.mark.parametrize(("cls", "beta"), [(Ancestral, "0.001"), (Discrete, "7"), (Ancestral, "true")])
def test_two_million_betas_in_a_file_are_refused_once_they_are_read(cls: Any, beta: str, tmp_path: Path) -> None:
    betas = ", ".join([beta] * 2_000_000)
    (tmp_path / "scheduler_config.json").write_text(f'{{"num_train_timesteps": 1000, "trained_betas": [{betas}]}}')
    config = cls.load_config(tmp_path)
    message = r"trained_betas must (hold at most 100000 numbers|be a flat)"
    with costing_little(), pytest.raises((TypeError, ValueError), match=message):
        cls.from_config(config)


def test_unknown_keys_warn_as_in_diffusers(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("diffusers"), "propagate", True)
    text = json.dumps({**json.loads(SAVED), "bogus": 1, "beta_end": 0.02}).encode()
    for cls in (Ancestral, Discrete, diffusers.KDPM2AncestralDiscreteScheduler):
        caplog.clear()
        scheduler = loaded(cls, text)
        assert "bogus" in caplog.text
        assert "were passed to" in caplog.text
        assert scheduler.config.beta_end == 0.02
