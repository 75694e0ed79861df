"""What is refused: in words, before any work, and with nothing left behind."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from kdpm2 import cli
from kdpm2.generate import generate
from tests.generate.made import pictures


def kdpm2(*arguments: object) -> Result:
    words = ["generate", *map(str, arguments), "--engine", "local", "--format", "png"]
    return CliRunner(env={"COLUMNS": "300", "NO_COLOR": "1"}).invoke(cli.app, words)


ROWS: dict[str, tuple[str, str]] = {
    "no rows": ("id,seed\n", "rows must hold at least one row, got none"),
    "no columns": ("", "rows must have a name for each column"),
    "a column twice": ("id,id\n1,2\n", "rows must have a name for each column, each another"),
    "a cell too many": ("id,seed\n1,2,3\n", "rows must have 2 cells"),
    "an unknown option": (
        "id,stpes\n1,2\n",
        "columns must be options of the model or its scheduler, got 'stpes': did you",
    ),
    "a column that is no option": ("id,source\n1,web\n", "--keep keeps columns that are none"),
    "an option of the other sampler": ("id,s_churn\n1,2\n", "the ancestral sampler has no option s_churn"),
    "an id twice": ("id,seed\na,1\nb,2\na,3\n", "id must be another in every row, got 'a' in rows 0 and 2"),
    "no id": ("id,seed\na,1\n,2\n", "row 1: id must be"),
    "no seed": (
        "id,seed\na,1\nb,\n",
        "row 1 (id 'b'): seed must be an integer from 0 to 18446744073709551615, got None",
    ),
    "seed NaN": ("id,seed\na,nan\n", "row 0 (id 'a'): seed must be an integer from 0 to 18446744073709551615, got nan"),
    "a negative seed": ("id,seed\na,-1\n", "seed must be an integer from 0 to 18446744073709551615, got -1"),
    "half a seed": ("id,seed\na,1.5\n", "seed must be an integer from 0 to 18446744073709551615, got 1.5"),
    "steps 0": ("id,steps\na,0\n", "steps must be an integer from 1 to 100000, got 0"),
    "steps in words": ("id,steps\na,ten\n", "steps must be an integer from 1 to 100000, got 'ten'"),
    "more steps than trained": ("id,steps,spacing,sigmas\na,1001,leading,plain\n", "at most num_train_timesteps=1000"),
    "eta infinite": ("id,eta\na,inf\n", "eta must be a finite number, got inf"),
    "eta negative": ("id,eta\na,-1\n", "eta must be"),
    "eta in words": ("id,eta\na,high\n", "eta must be a number, numbers with commas between them, or a window"),
    "eta by step too large": ('id,eta\na,"1,2"\n', "each of eta must be a number from 0 to 1, got 2"),
    "a window without a value": ("id,eta\na,end=0.5\n", "eta must have a value, got only end"),
    "restarts that go down": ('id,restarts\na,"2,1"\n', "sigma_max of restarts must be above sigma_min=2, got 1"),
    "no such label": ("id,label\na,12\n", "row 0 (id 'a'): label must be from 0 to 9, or any, got 12"),
    "no such curve": ("id,sigmas\na,cubic\n", "sigmas must be one of 'plain', 'karras'"),
    "a falling interval": (
        'id,guidance,guidance_interval\na,2,"5,1"\n',
        "guidance_interval must be two noise levels, the lower first, as in 0.3,5, got '5,1'",
    ),
    "an interval in words": ('id,guidance,guidance_interval\na,2,"5,x"\n', "guidance_interval must be"),
    "an interval without guidance": ('id,guidance_interval\na,"1,5"\n', "guidance_interval needs a guidance_scale"),
    "a prompt for digits": ("id,prompt\na,cat\n", "prompt must be left out, as this pipeline takes none, got 'cat'"),
}


@pytest.mark.parametrize(("text", "message"), ROWS.values(), ids=ROWS)
def test_rows(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "rows.csv").write_text(text)
    result = kdpm2(tmp_path / "rows.csv", tmp_path / "output")
    assert result.exit_code == 2, result.output
    assert message in result.output
    assert "Traceback" not in result.output
    assert not (tmp_path / "output").exists()


OPTIONS: dict[str, tuple[str, str]] = {
    "two names and a number": ("rows.csv output --number 3", "must be two names, or OUTPUT alone with --number"),
    "one name": ("output", "must be two names"),
    "labels without a number": ("rows.csv output --labels 1", "needs --number"),
    "no such file": ("nothing.csv output", "rows must be a file that is there, got nothing.csv"),
    "another kind of file": (
        "rows.txt output",
        "rows must be a file or a folder of files that end in .parquet or .csv",
    ),
    "an empty folder": ("empty output", "rows must be a folder with files that end in"),
    "keep what is not there": ("rows.csv output --keep source", "keep must name columns that hold something"),
    "keep an option": ("rows.csv output --keep eta", "keep must name columns that are no options, got 'eta'"),
    "a label too large": ("output --number 2 --labels 11", "label must be from 0 to 9, or any, got 11"),
    "no such option": ("rows.csv output --set beta_strat=1", "got 'beta_strat': did you mean 'beta_start'?"),
    "no such device": ("rows.csv output --device abacus", "'abacus' cannot be used here"),
    "no such pipeline": ("rows.csv output --pipeline ./nothing", "there is no folder './nothing'"),
    "a pipeline that is none": ("rows.csv output --pipeline ./empty", "./empty cannot be loaded"),
    "a file for the output": ("rows.csv rows.csv", "output must be a folder, got the file rows.csv"),
    "a folder of something else": ("rows.csv full", "output must be a new folder, or one of kdpm2 generate, got full"),
    "actors without Ray": ("rows.csv output --actors 2", "cluster must be left out without Ray"),
}


@pytest.mark.parametrize(("words", "message"), OPTIONS.values(), ids=OPTIONS)
def test_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.csv").write_text("id,seed\na,1\n")
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("all of it")
    result = kdpm2(*words.split())
    assert result.exit_code == 2, result.output
    assert message in result.output
    assert "Traceback" not in result.output
    assert not list(tmp_path.rglob("part-*"))
    assert [path.name for path in (tmp_path / "full").iterdir() if path.name != ".lock"] == ["thesis.txt"]


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    """No folder can be made in /proc, by nobody."""
    result = kdpm2("--number", 2, "/proc/output")
    assert result.exit_code == 2
    assert "output must be a folder that can be written to, got /proc/output" in result.output


OF_ANOTHER_RUN: dict[str, dict[str, Any]] = {
    "rows": {"rows": [{"id": "a", "steps": 2}, {"id": "c", "steps": 2}]},
    "a row more": {"rows": [{"id": "a", "steps": 2}, {"id": "b", "steps": 2}, {"id": "c"}]},
    "options": {"options": {"eta": 0.5}},
    "format": {"format": "webdataset"},
    "rows_per_file": {"rows_per_file": 1},
    "dtype": {"dtype": "bfloat16"},
}


@pytest.mark.parametrize("change", OF_ANOTHER_RUN.values(), ids=OF_ANOTHER_RUN)
def test_a_folder_of_another_run(tmp_path: Path, change: dict[str, Any]) -> None:
    first: dict[str, Any] = {"rows": [{"id": "a", "steps": 2}, {"id": "b", "steps": 2}], "format": "png"}
    generate(**first, output=tmp_path / "output", engine="local")
    before = pictures(tmp_path / "output")
    with pytest.raises(ValueError, match="output must be a folder of the same r"):
        generate(**{**first, **change}, output=tmp_path / "output", engine="local")
    assert pictures(tmp_path / "output") == before


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": "kdpm2 generate 9"}', '{"format": "kdpm2 generate 1"}'])
def test_a_plan_that_cannot_be_read(tmp_path: Path, content: str) -> None:
    (tmp_path / "kdpm2.json").write_text(content)
    with pytest.raises(ValueError, match=re.escape("its kdpm2.json cannot be read")):
        generate([{"id": 1}], tmp_path, format="png", engine="local")


WRONG: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "rows None": ({"rows": None}, TypeError, "rows must be a path or an iterable of mappings"),
    "rows of lists": ({"rows": [[1]]}, TypeError, "rows must hold mappings"),
    "a format": ({"format": "jpeg"}, ValueError, "format must be one of 'parquet', 'webdataset', 'png'"),
    "an engine": ({"engine": "steam"}, ValueError, "engine must be one of 'auto', 'local', 'ray'"),
    "a batch": ({"batch": 0}, ValueError, "batch must be an integer from 1"),
    "a dtype": ({"dtype": "int8"}, ValueError, "dtype must be one of"),
    "options": ({"options": 3}, TypeError, "options must be a mapping"),
    "an option": ({"options": {"colour": 1}}, ValueError, "options must be options of the model or its scheduler"),
    "keep": ({"keep": "source"}, TypeError, "keep must be a list of columns"),
    "a seed": ({"seed": -1}, ValueError, "seed must be an integer from 0"),
    "a device": ({"device": 3}, TypeError, "device must be a name"),
}


@pytest.mark.parametrize(("change", "kind", "message"), WRONG.values(), ids=WRONG)
def test_from_python(tmp_path: Path, change: dict[str, Any], kind: type[Exception], message: str) -> None:
    arguments: dict[str, Any] = {"rows": [{"id": 1, "steps": 2}], "format": "png", "engine": "local"}
    with pytest.raises(kind, match=message):
        generate(**{**arguments, **change}, output=tmp_path / "output")
    assert not (tmp_path / "output").exists()


def test_some_rows_of_json_lines_say_less_than_others(tmp_path: Path) -> None:
    text = '{"id": 1, "steps": 2}\n\n{"id": 2, "steps": null, "eta": 0.5}\n'
    (tmp_path / "rows.jsonl").write_text(text)
    result = kdpm2(tmp_path / "rows.jsonl", tmp_path / "output", "--steps", 3)
    assert result.exit_code == 0, result.output
    lines = (tmp_path / "output" / "pictures" / "part-000000" / "metadata.jsonl").read_text().splitlines()
    assert [(said["steps"], said["eta"]) for said in map(json.loads, lines)] == [(2, None), (3, 0.5)]


def test_a_line_that_is_no_row(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"id": 1}\n[1]\n')
    result = kdpm2(tmp_path / "rows.jsonl", tmp_path / "output")
    assert "rows must be a JSON object a line; line 2 of" in result.output
    (tmp_path / "rows.jsonl").write_text('{"id": 1}\n{"id\n')
    result = kdpm2(tmp_path / "rows.jsonl", tmp_path / "output")
    assert "rows cannot be read from" in result.output
    assert not (tmp_path / "output").exists()
