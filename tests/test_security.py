"""Files that others have made are never executed, and the command writes one file, where it is told to, or none."""

import json
import os
import pickle
import re
import resource
import shlex
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DDPMScheduler,
)
from PIL import Image
from transformers import CLIPTextConfig
from typer.testing import CliRunner, Result

from kdpm2 import cli
from kdpm2.cli import contact_sheet, output

WEIGHTS = "diffusion_pytorch_model.safetensors"
QUICK = ("--steps", "2", "--number", "1")


class Payload:
    """Unpickled, it makes the folder `marker`."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.marker),)


def write_json(path: Path, value: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value))


def change_json(path: Path, **entries: object) -> None:
    write_json(path, {**json.loads(path.read_text()), **entries})


def write_pickle(path: Path, marker: Path) -> None:
    """A pickle as torch writes it, and one that any unpickler would take."""
    path.parent.mkdir(exist_ok=True)
    torch.save({"weight": Payload(marker)}, path)


def write_code(path: Path, marker: Path) -> None:
    """A module that makes the folder `marker` when it is imported, and has the classes that it is asked for."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        f"import os\nos.mkdir({str(marker)!r})\n"
        "from diffusers import DDPMPipeline as Evil, UNet2DModel as EvilModel\n"
        "from transformers import PreTrainedTokenizerFast as EvilTokenizer\n"
    )


def run(*arguments: str, stdin: str = "") -> Result:
    return CliRunner(env={"COLUMNS": "4000", "NO_COLOR": "1"}).invoke(cli.app, arguments, input=stdin)


def refused(folder: Path, marker: Path, *arguments: str) -> str:
    """What `kdpm2 sample` says to a pipeline, having executed and written nothing, though the user would say yes."""
    picture = folder.parent / "a.png"
    result = run("sample", "--pipeline", str(folder), "--output", str(picture), *QUICK, *arguments, stdin="y\n" * 9)
    assert not marker.exists()
    assert result.exit_code == 2, (result.output, result.exception)
    assert isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.output
    assert not picture.exists()
    message: str = result.output.split("Error", 1)[1]
    assert "Invalid value" in message
    assert sum(any(letter.isalnum() for letter in line) for line in message.splitlines()) == 1, message
    return message


@pytest.fixture
def folder(unconditional: Path, tmp_path: Path) -> Path:
    """A pipeline on pixels, to be spoilt."""
    return shutil.copytree(unconditional, tmp_path / "model")


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "executed"


def only_a_text_encoder(folder: Path) -> Path:
    """What is left of a text-to-image pipeline up to the component that is loaded first; its folder."""
    write_json(
        folder / "model_index.json",
        {
            "_class_name": "StableDiffusionPipeline",
            "text_encoder": ["transformers", "CLIPTextModel"],
            "scheduler": ["diffusers", "DDPMScheduler"],  # looked at before anything is loaded
        },
    )
    DDPMScheduler().save_pretrained(folder / "scheduler")
    CLIPTextConfig(
        vocab_size=99, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2
    ).save_pretrained(folder / "text_encoder")
    return folder / "text_encoder"


def with_index(folder: Path, prefix: str, shard: str) -> None:
    weight_map = dict.fromkeys(("weight", "conv_in.weight"), shard)
    write_json(folder / f"{prefix}.safetensors.index.json", {"metadata": {"total_size": 1}, "weight_map": weight_map})


# --- Nothing is unpickled --------------------------------------------------------------------------------------------


def test_the_payloads_of_these_tests_work(tmp_path: Path, marker: Path) -> None:
    write_pickle(tmp_path / "a.bin", marker)
    torch.load(tmp_path / "a.bin", weights_only=False)
    assert marker.is_dir()


@pytest.mark.parametrize("name", ["bin", "ckpt", "pt", "pth", "pkl"])
@pytest.mark.parametrize("where", ["unet", "."])
def test_pickled_weights_alone_are_refused(folder: Path, marker: Path, name: str, where: str) -> None:
    (folder / "unet" / WEIGHTS).unlink()
    write_pickle(folder / where / f"diffusion_pytorch_model.{name}", marker)
    assert f"{folder} cannot be loaded: " in refused(folder, marker)


def test_pickled_weights_of_a_text_encoder_are_refused(tmp_path: Path, marker: Path) -> None:
    write_pickle(only_a_text_encoder(tmp_path / "model") / "pytorch_model.bin", marker)
    message = refused(tmp_path / "model", marker, "--prompt", "a")
    assert re.search(r"safetensors|Unable to load weights from .*pytorch_model\.bin", message)  # an old transformers'


def test_pickled_weights_next_to_safetensors_are_left_alone(
    folder: Path, marker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("unet/diffusion_pytorch_model.bin", "unet/pytorch_model.bin", "model.ckpt", "scheduler/scheduler.pt"):
        write_pickle(folder / name, marker)
    never_unpickle(monkeypatch)
    picture = folder.parent / "a.png"
    result = run("sample", "--pipeline", str(folder), "--output", str(picture), *QUICK)
    assert result.exit_code == 0, result.output
    assert picture.is_file()
    assert not marker.exists()


@pytest.mark.parametrize("shard", ["weights.bin", "weights.pt", "weights", "../weights.bin", "/{outside}/weights.bin"])
def test_an_index_that_names_a_pickle_is_refused(
    folder: Path, marker: Path, shard: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "unet" / WEIGHTS).unlink()
    shard = shard.replace("/{outside}", str(folder.parent))
    write_pickle(folder / "unet" / shard, marker)
    with_index(folder / "unet", "diffusion_pytorch_model", shard)
    opened = unpickled(monkeypatch)
    refused(folder, marker)
    assert not opened


@pytest.mark.parametrize("shard", ["weights.bin", "../weights.bin"])
def test_an_index_of_a_text_encoder_that_names_a_pickle_is_refused(
    tmp_path: Path, marker: Path, shard: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = only_a_text_encoder(tmp_path / "model")
    write_pickle(encoder / shard, marker)
    with_index(encoder, "model", shard)
    opened = unpickled(monkeypatch)
    refused(tmp_path / "model", marker, "--prompt", "a")
    assert not opened


@pytest.mark.parametrize("component", ["DDPMPipeline", "OnnxRuntimeModel"])
def test_components_that_load_other_than_safetensors_are_refused(folder: Path, marker: Path, component: str) -> None:
    shutil.copytree(folder, folder / "inner")
    shutil.rmtree(folder / "unet")
    (folder / "inner").rename(folder / "unet")
    (folder / "unet" / "unet" / WEIGHTS).unlink()
    write_pickle(folder / "unet" / "unet" / "diffusion_pytorch_model.bin", marker)
    change_json(folder / "model_index.json", unet=["diffusers", component])
    assert "its unet must be a model with weights in safetensors" in refused(folder, marker)


def never_unpickle(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("unpickled")

    monkeypatch.setattr(torch, "load", fail)
    for name in ("load", "loads", "Unpickler", "_Unpickler"):
        monkeypatch.setattr(pickle, name, fail)


def unpickled(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What `torch.load` is asked for from now on."""
    opened: list[object] = []

    def load(file: object, **_: object) -> dict[str, object]:
        opened.append(file)
        return {}

    monkeypatch.setattr(torch, "load", load)
    return opened


def test_the_built_in_models_are_safetensors_and_json(monkeypatch: pytest.MonkeyPatch) -> None:
    from kdpm2 import zoo

    never_unpickle(monkeypatch)
    for model in (zoo.digits, zoo.emoji):
        pipe: Any = model()
        pipe.set_progress_bar_config(disable=True)
        assert np.std(pipe(labels=[3], num_inference_steps=2, output_type="np").images) > 0.1
    files = [path for path in Path(str(zoo.__file__)).parent.joinpath("weights").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".safetensors", ".json", ".txt"}


# --- Nothing is executed ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entries", "code"),
    [
        ({"unet": ["my_module", "EvilModel"]}, "unet/my_module.py"),
        ({"unet": ["my_module", "EvilModel"]}, "my_module.py"),
        ({"unet": ["diffusers", "EvilModel"]}, "unet/diffusers.py"),
        ({"_class_name": ["my_module", "Evil"]}, "my_module.py"),
        ({"_class_name": ["pipeline", "Evil"]}, "pipeline.py"),
        ({"_class_name": ["owner/name", "Evil"]}, "pipeline.py"),
        ({"_class_name": "pipeline.py"}, "pipeline.py"),
        ({"custom_pipeline": "pipeline", "_class_name": "Evil"}, "pipeline.py"),
        ({}, "None.py"),
        ({"unet": ["os", "system"]}, "os.py"),
        ({"unet": ["builtins", "exec"]}, "unet/builtins.py"),
        ({"unet": ["subprocess", "Popen"]}, "subprocess.py"),
        ({"unet": ["antigravity", "EvilModel"]}, "antigravity.py"),
        ({"unet": ["torch.nn", "Module"]}, "torch.py"),
        ({"unet": ["__class__", "EvilModel"]}, "__class__.py"),
        ({"unet": ["kdpm2.cli", "main"]}, "kdpm2.py"),
        ({"scheduler": ["my_module", "EvilModel"]}, "scheduler/my_module.py"),
    ],
)
def test_code_in_the_folder_or_of_other_libraries_is_refused(
    folder: Path, marker: Path, entries: dict[str, object], code: str
) -> None:
    before = set(sys.modules)
    write_code(folder / code, marker)
    change_json(folder / "model_index.json", **entries)
    assert f"{folder} cannot be loaded: its" in (said := refused(folder, marker)) or "it brings code" in said
    assert "antigravity" not in set(sys.modules) - before


@pytest.mark.parametrize("name", ["pipeline.py", "unet/model.py", "__init__.py", "diffusers.py", "sitecustomize.py"])
def test_code_that_nothing_names_is_ignored(folder: Path, marker: Path, name: str) -> None:
    write_code(folder / name, marker)
    change_json(folder / "model_index.json", custom_pipeline="pipeline", auto_map={"AutoModel": "model.Evil"})
    for file in ("unet/config.json", "scheduler/scheduler_config.json"):
        change_json(folder / file, auto_map={"AutoModel": "model.EvilModel"}, custom_pipeline="pipeline")
    result = run("sample", "--pipeline", str(folder), "--output", str(folder.parent / "a.png"), *QUICK, stdin="y\n")
    assert result.exit_code == 0, result.output
    assert not marker.exists()


@pytest.mark.parametrize("component", ["text_encoder", "tokenizer", "feature_extractor"])
@pytest.mark.parametrize(
    "class_name", ["AutoModel", "AutoTokenizer", "AutoProcessor", "LlavaProcessor", "CLIPProcessor", "pipeline"]
)
def test_remote_code_of_transformers_is_refused_whatever_standard_input_says(
    tmp_path: Path, marker: Path, component: str, class_name: str
) -> None:
    folder = tmp_path / "model"
    only_a_text_encoder(folder)
    (folder / "text_encoder").rename(folder / component)
    index = {"_class_name": "StableDiffusionPipeline", component: ["transformers", class_name]}
    write_json(folder / "model_index.json", index)
    auto_map = dict.fromkeys(("AutoConfig", "AutoModel", "AutoProcessor", "AutoImageProcessor"), "code.EvilModel")
    evil = {"auto_map": {**auto_map, "AutoTokenizer": ["code.EvilTokenizer", "code.EvilTokenizer"]}}
    change_json(folder / component / "config.json", model_type="evil", **evil)
    for file in ("tokenizer_config.json", "preprocessor_config.json", "processor_config.json"):
        write_json(folder / component / file, {**evil, "tokenizer_class": "EvilTokenizer"})
    write_code(folder / component / "code.py", marker)
    refused(folder, marker, "--prompt", "a")


@pytest.mark.parametrize("class_name", ["EvilModel", "UNet2DModel", "DiffusionPipeline", "os", None, 3, ["os", "x"]])
def test_the_class_that_a_scheduler_names_for_itself_counts_for_nothing(
    folder: Path, marker: Path, class_name: object
) -> None:
    write_code(folder / "scheduler" / "os.py", marker)
    config = folder / "scheduler" / "scheduler_config.json"
    change_json(config, _class_name=class_name, auto_map={"SchedulerMixin": "os.EvilModel"})
    result = run("sample", "--pipeline", str(folder), "--output", str(folder.parent / "a.png"), *QUICK)
    assert isinstance(result.exception, SystemExit | None), result.exception
    assert not marker.exists()
    result = run("schedule", "--pipeline", str(folder))
    assert isinstance(result.exception, SystemExit | None), result.exception
    assert not marker.exists()


# --- Broken files are named ------------------------------------------------------------------------------------------


def header(length: int, text: bytes = b"") -> bytes:
    return struct.pack("<Q", length) + text


@pytest.mark.parametrize(
    "spoil",
    [
        lambda weights: b"",
        lambda weights: weights[:1000],
        lambda weights: weights[:-1],
        lambda weights: b"\x80\x04garbage" * 99,
        lambda weights: header(2**63) + weights[8:],
        lambda weights: header(2**40) + weights[8:],
        lambda weights: header(2, b"[]"),
        lambda weights: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
    ],
)
def test_spoilt_weights_are_refused(folder: Path, marker: Path, spoil: Callable[[bytes], bytes]) -> None:
    weights = folder / "unet" / WEIGHTS
    weights.write_bytes(spoil(weights.read_bytes()))
    assert "cannot be loaded: " in refused(folder, marker)


@pytest.mark.parametrize("file", ["model_index.json", "unet/config.json", "scheduler/scheduler_config.json"])
@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe\x00", b"[]", b"3", b"null", b'"os"', b"[" * 100_000])
def test_configurations_that_are_no_object_are_refused(folder: Path, marker: Path, file: str, text: bytes) -> None:
    (folder / file).write_bytes(text)
    refused(folder, marker)


@pytest.mark.parametrize(
    ("file", "entries"),
    [
        ("model_index.json", {"_class_name": None}),
        ("model_index.json", {"_class_name": 3}),
        ("model_index.json", {"_class_name": {}}),
        ("model_index.json", {"_class_name": "UNet2DModel"}),
        ("model_index.json", {"_class_name": "__name__"}),
        ("model_index.json", {"_class_name": "DiffusionPipeline"}),
        ("model_index.json", {"unet": 3}),
        ("model_index.json", {"unet": "diffusers"}),
        ("model_index.json", {"unet": []}),
        ("model_index.json", {"unet": [None, None]}),
        ("model_index.json", {"unet": [1, 2]}),
        ("model_index.json", {"unet": ["diffusers", 2]}),
        ("model_index.json", {"unet": ["diffusers", None]}),
        ("model_index.json", {"unet": ["diffusers", "no_such_class"]}),
        ("model_index.json", {"unet": ["diffusers", "DDPMScheduler"]}),
        ("model_index.json", {"scheduler": [None, None]}),
        ("model_index.json", {"scheduler": ["diffusers", "UNet2DModel"]}),
        ("unet/config.json", {"block_out_channels": "wide"}),
        ("unet/config.json", {"block_out_channels": [8, -8]}),
        ("unet/config.json", {"down_block_types": ["os", "system"]}),
        ("unet/config.json", {"in_channels": None}),
        ("unet/config.json", {"in_channels": 10**9}),
        ("unet/config.json", {"sample_size": "big"}),
        ("unet/config.json", {"sample_size": None}),
        ("unet/config.json", {"sample_size": -8}),
        ("unet/config.json", {"quantization_config": {"quant_method": "evil"}}),
    ],
)
def test_configurations_of_wrong_types_are_refused(
    folder: Path, marker: Path, file: str, entries: dict[str, object]
) -> None:
    change_json(folder / file, **entries)
    refused(folder, marker)


# --- One file is written, where the command is told to, and whole -----------------------------------------------------

AUDITED = """
import json, sys

seen = []
CHANGES = ("os.rename", "os.remove", "os.link", "os.symlink", "os.mkdir", "os.rmdir", "os.truncate", "os.chmod",
    "shutil.", "subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.fork", "socket.", "pickle.find_class")

def watch(event, arguments):
    if event == "open":
        path, mode, flags = arguments
        if isinstance(path, int) or path == "/dev/null" or not flags & 0o1103:  # to write, to create, to truncate
            return
    elif event in ("compile", "exec"):
        code = arguments[1] if event == "compile" else getattr(arguments[0], "co_filename", None)
        if sys.argv[1] not in str(code):
            return
    elif not event.startswith(CHANGES):
        return
    seen.append([event, *map(str, arguments)])

sys.addaudithook(watch)
from kdpm2 import cli

for arguments in json.loads(sys.argv[2]):
    cli.app(["sample", *arguments], standalone_mode=False)
print(json.dumps(seen))
"""


def clean_environment(home: Path) -> dict[str, str]:
    """Without the settings that keep libraries off the network, and with empty folders for their caches."""
    settings = ("HF_", "TRANSFORMERS_", "XDG_", "TORCHINDUCTOR_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(settings)}
    (home / "tmp").mkdir(parents=True)
    return {
        **kept,
        "HOME": str(home),
        "TMPDIR": str(home / "tmp"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
    }


def notes_a_version(path: Path, home: Path) -> bool:
    """Whether it is where old versions of diffusers and transformers note, when imported, which version a cache has."""
    notes = [home / ".cache/huggingface/hub" / name for name in ("version.txt", "version_diffusers_cache.txt")]
    return path.is_relative_to(home) and any(path == note or path in note.parents for note in notes)


def of_an_import(event: list[str], home: Path) -> bool:
    """What libraries do when diffusers is imported, before anything is loaded.

    torch looks where temporary files can be, and makes an empty folder there for its compiler. urllib3 looks whether
    there is IPv6, by a socket that it binds to this machine, connects to nothing and closes.
    """
    if event[0].startswith("socket."):
        return event[0] == "socket.__new__" or event[::2] == ["socket.bind", "('::1', 0)"]
    path = Path(event[1])
    return path.parent == home / "tmp" or notes_a_version(path, home)


def test_a_run_writes_its_picture_and_connects_to_nothing(
    unconditional: Path, text_to_image: Path, tmp_path: Path
) -> None:
    models = tmp_path / "models"
    shutil.copytree(unconditional, models / "pixels")
    shutil.copytree(text_to_image, models / "text")
    write_code(models / "pixels" / "pipeline.py", tmp_path / "executed")
    before = {path: path.stat().st_mtime_ns for path in models.rglob("*")}
    (pictures := tmp_path / "pictures").mkdir()
    runs = [
        [*QUICK, "--output", str(pictures / "digits.png")],
        [*QUICK, "--output", str(pictures / "pixels.png"), "--pipeline", str(models / "pixels")],
        [*QUICK, "--output", str(pictures / "text.png"), "--pipeline", str(models / "text"), "--prompt", "a cat"],
        [*QUICK, "--output", str(pictures / "text.png"), "--force"],
    ]
    home = tmp_path / "home"
    ran = subprocess.run(
        [sys.executable, "-c", AUDITED, str(models), json.dumps(runs)],
        env=clean_environment(home),
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    events = json.loads(ran.stdout.splitlines()[-1])
    own = [event for event in events if not of_an_import(event, home)]
    assert all(event[1].startswith(str(pictures)) for event in own), own
    # What code that is not Python's writes is not audited: what there is afterwards tells.
    left = [path for path in home.rglob("*") if not notes_a_version(path, home)]
    assert all(path.name == "tmp" or path.name.startswith("torchinductor_") for path in left)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "models", "pictures"]
    assert sorted(path.name for path in pictures.iterdir()) == ["digits.png", "pixels.png", "text.png"]
    assert {path: path.stat().st_mtime_ns for path in models.rglob("*")} == before
    # The name itself is never opened: a complete file takes it.
    named = [event for event in own if event[0] == "open" and Path(event[1]).suffix]
    assert len(named) >= 4
    assert all(Path(event[1]).name.startswith(".kdpm2-") for event in named)
    placed = [event[:3] for event in own if event[0] in ("os.link", "os.rename")]
    assert [event for event, *_ in placed] == ["os.link", "os.link", "os.link", "os.rename"]
    assert [Path(target).name for *_, target in placed] == ["digits.png", "pixels.png", "text.png", "text.png"]


# A process that has imported everything forks one for each case, stops it where it says that it is, and looks. Whether
# there is an old file is another thing in turn: each two of moment, signal and file meet.
KILLED = """
import json, os, signal, sys, time
from pathlib import Path

import kdpm2.zoo.handwriting
from kdpm2 import cli
from kdpm2.cli import contact_sheet

def stop(*_, **__):
    os.write(ready, b".")
    while True:
        time.sleep(0.05)

def half(image, path, text):
    path.write_bytes(b"half")
    stop()

def whole(image, path, text, save=contact_sheet.save):
    save(image, path, text)
    stop()

MOMENTS = {"drawing": (sys.modules["kdpm2.cli.sample"], "drawn", stop), "writing": (contact_sheet, "save", half),
    "written": (contact_sheet, "save", whole)}
pipe = kdpm2.zoo.digits()
kdpm2.zoo.handwriting.digits = lambda: pipe
first = ["sample", "--steps", "1", "--number", "1", "--output", str(Path(sys.argv[1], "first.png"))]
cli.app(first, standalone_mode=False)  # which imports what is left to be imported
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a process in the background does not have
results = []
for i, (moment, (owner, name, replacement)) in enumerate(MOMENTS.items()):
    for j, number in enumerate(("SIGKILL", "SIGTERM", "SIGINT")):
        for old in ((b"of value", None)[(i + j) % 2],):
            folder = Path(sys.argv[1], f"{moment}-{number}-{old is None}")
            folder.mkdir()
            picture = folder / "there.png"
            if old is not None:
                picture.write_bytes(old)
            waiting, ready = os.pipe()
            child = os.fork()
            if not child:
                setattr(owner, name, replacement)
                sys.argv[1:] = ["sample", "--steps", "2", "--number", "1", "--output", str(picture), "--force"]
                try:
                    cli.main()
                except SystemExit as end:
                    os._exit(end.code)  # at once: libraries wait for threads, which a fork does not have
            os.close(ready)
            assert os.read(waiting, 1) == b"."
            os.kill(child, getattr(signal, number))
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            os.close(waiting)
            kept = picture.read_bytes() if picture.exists() else None
            others = [path.name for path in folder.iterdir() if path != picture]
            results.append([moment, number, kept == old, status, others])
print(json.dumps(results))
"""


@pytest.mark.slow
def test_a_killed_run_leaves_the_old_file_or_none(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    results = json.loads(ran.stdout.splitlines()[-1])
    assert len(results) == 9
    assert "Traceback" not in ran.stderr
    for moment, number, kept, status, others in results:
        assert kept, (moment, number)
        assert status in {"SIGKILL": [-9], "SIGTERM": [128 + 15], "SIGINT": [1, 130]}[number]  # 1 of older clicks
        if number == "SIGKILL" and moment != "drawing":  # nothing can clean up after that
            assert len(others) == 1
            assert others[0].startswith(".kdpm2-")
        else:
            assert not others, (moment, number)


COMMANDS = [["sample", *QUICK, "--output"], ["schedule", "--steps", "2", "--plot"]]


@pytest.fixture(params=COMMANDS, ids=["sample", "schedule"])
def command(request: pytest.FixtureRequest) -> list[str]:
    return request.param  # type: ignore[no-any-return]


def appears(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """Have `path` written by someone else between the command's look at it and the end of its run."""
    look = output.check

    def check(*arguments: Any) -> Any:
        suffix = look(*arguments)
        path.write_bytes(b"of value")
        return suffix

    for module in (sys.modules["kdpm2.cli.sample"], sys.modules["kdpm2.cli.schedule"]):
        monkeypatch.setattr(module, "check", check)


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_appears_during_the_run_is_not_overwritten(
    tmp_path: Path, command: list[str], links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = tmp_path / "there.png"
    appears(monkeypatch, there)
    if not links:
        without_links(monkeypatch)
    result = run(*command, str(there))
    assert result.exit_code == 2
    assert f"{there} has appeared since the run began" in result.output
    assert there.read_bytes() == b"of value"
    assert [*tmp_path.iterdir()] == [there]
    assert run(*command, str(there), "--force").exit_code == 0
    assert Image.open(there).size[0] > 10


def without_links(monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)


def test_file_systems_without_hard_links(tmp_path: Path, command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    without_links(monkeypatch)
    assert run(*command, str(tmp_path / "a.png")).exit_code == 0
    assert Image.open(tmp_path / "a.png").size[0] > 10
    assert [*tmp_path.iterdir()] == [tmp_path / "a.png"]


@pytest.mark.parametrize("content", [b"of value", None])
def test_a_link_is_replaced_if_told_and_what_it_leads_to_never_changes(
    tmp_path: Path, command: list[str], content: bytes | None
) -> None:
    (elsewhere := tmp_path / "elsewhere").mkdir()
    target, link = elsewhere / "target.png", tmp_path / "link.png"
    if content is not None:
        target.write_bytes(content)
    link.symlink_to(target)
    result = run(*command, str(link))
    assert result.exit_code == 2
    assert "link.png is there already; --force overwrites it" in result.output
    assert link.is_symlink()
    assert run(*command, str(link), "--force").exit_code == 0
    assert not link.is_symlink()
    assert Image.open(link).size[0] > 10
    assert [path.read_bytes() for path in elsewhere.iterdir()] == ([] if content is None else [content])


@pytest.mark.parametrize("force", [(), ("--force",)])
def test_what_is_no_file_stays(tmp_path: Path, command: list[str], force: tuple[str, ...]) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "link.png").symlink_to(tmp_path / "folder.png")
    for name in ("pipe.png", "folder.png", "link.png"):
        result = run(*command, str(tmp_path / name), *force)
        assert result.exit_code == 2
        assert f"{name} is no file" in result.output
    assert (tmp_path / "pipe.png").is_fifo()
    assert (tmp_path / "link.png").is_symlink()
    assert not [*(tmp_path / "folder.png").iterdir()]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a" * 252 + ".png", "cannot be written: File name too long"),
        ("a" * 300 + "/a.png", "cannot be written: File name too long"),
        ("file/a.png", "does not exist"),
        ("loop/a.png", "does not exist|Too many levels"),
        ("/proc/self/a.png", "cannot be written: "),
    ],
)
def test_places_that_cannot_be_written_are_refused_before_the_run(
    tmp_path: Path, command: list[str], name: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "loop").symlink_to("loop")
    result = run(*command, str(tmp_path / name))
    assert result.exit_code == 2
    assert re.search(reason, result.output)
    assert isinstance(result.exception, SystemExit)


def test_a_folder_without_permission_is_refused_before_the_run(
    tmp_path: Path, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The administrator, as whom tests may run, has every permission: the system's answer is made up."""

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", denied)
    result = run(*command, str(tmp_path / "a.png"))
    assert result.exit_code == 2
    assert "a.png cannot be written: Permission denied" in result.output


@pytest.mark.parametrize(
    ("name", "command"),  # both commands hand the name to the same code
    [
        (name, COMMANDS[place % 2])
        for place, name in enumerate(
            ["--force.png", "-.png", "a" * 251 + ".png", "猫 \n.png", ".hidden.png", "a\udcff.png"]
        )
    ],
)
def test_names_are_names_whatever_they_look_like(
    tmp_path: Path, command: list[str], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*command, name)
    assert result.exit_code == 0, (result.output, result.exception)
    assert os.listdir() == [name]
    assert run(*command, name).exit_code == 2


@contextmanager
def small_disk() -> Iterator[None]:
    """No file may grow over a kilobyte, as on a full disk; for no longer than that, since pytest may write to one."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("old", [b"of value", None])
def test_a_full_disk(tmp_path: Path, command: list[str], old: bytes | None) -> None:
    picture = tmp_path / "a.png"
    if old is not None:
        picture.write_bytes(old)
    with small_disk():
        result = run(*command, str(picture), "--force")
    assert result.exit_code == 2, result.exception
    assert "a.png cannot be written: File too large" in result.output
    assert [path.read_bytes() for path in tmp_path.iterdir()] == ([] if old is None else [old])


def test_the_picture_is_as_readable_as_any_new_file(tmp_path: Path, command: list[str]) -> None:
    """And not for its owner alone, as temporary files are."""
    assert run(*command, str(tmp_path / "a.png")).exit_code == 0
    (tmp_path / "b").touch()
    assert (tmp_path / "a.png").stat().st_mode == (tmp_path / "b").stat().st_mode


# --- What a prompt can hold -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "kept"),
    [
        ("\x1b[2J\x07\r\n\x7f tEXt IEND", None),
        ("'; touch executed; echo $(touch executed) `touch executed`\n--force", None),
        ("a" * 1_000_000, None),
        ("猫" * 300_000, None),
        ("\ud800 and \udcff", "\\ud800 and \\udcff"),
    ],
    ids=["control", "shell", "long", "long and not ASCII", "not UTF-8"],
)
def test_any_prompt_is_kept_or_spelt_out(tmp_path: Path, prompt: str, kept: str | None) -> None:
    picture = tmp_path / "a.png"
    contact_sheet.save(Image.new("L", (4, 4)), picture, {"parameters": prompt, "command": shlex.join(["x", prompt])})
    image: Any = Image.open(picture)
    assert image.text["parameters"] == (prompt if kept is None else kept)
    assert image.text["command"] == shlex.join(["x", prompt if kept is None else kept])


def test_the_prompt_of_a_run_is_kept(text_to_image: Path, tmp_path: Path) -> None:
    prompt = "\x1b[2J\x07\r\n\x7f tEXt IEND '; touch executed; $(touch executed) `touch executed`\n--force"
    result = run(
        "sample", *QUICK, "--pipeline", str(text_to_image), "--prompt", prompt, "--output", str(tmp_path / "b.png")
    )
    assert result.exit_code == 0, (result.output, result.exception)
    image: Any = Image.open(tmp_path / "b.png")
    assert image.text["parameters"].startswith(f"{prompt}\nSteps: 2, ")
    assert prompt in shlex.split(image.text["command"])
