"""The pack in ComfyUI's server: its workflow file, sent to the server's API, around a tiny network on the CPU.

    KDPM2_COMFYUI=path/to/ComfyUI python -m tests.integrations.run_in_comfyui

It runs in an environment with ComfyUI's requirements. The workflow's checkpoint, text encoder and decoder are replaced
by tiny ones. Nothing else of it is. A folder, if one is named, gets the pictures.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[2]
PACK = ROOT / "integrations" / "comfyui"
PORT = 8211
ADDRESS = f"http://127.0.0.1:{PORT}"
TINY = {
    "CheckpointLoaderSimple": "TinyCheckpoint",
    "CLIPTextEncode": "TinyTextEncode",
    "VAEDecode": "TinyDecode",
}


def asked(path: str, body: dict[str, Any] | None = None) -> Any:
    """What the server answers."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(ADDRESS + path, data, headers), timeout=60) as answer:
        return json.load(answer)


def waited_for(what: Callable[[], Any], seconds: float) -> Any:
    """What a function gives, once it gives something."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            if found := what():
                return found
        except urllib.error.URLError:
            pass
        time.sleep(0.5)
    raise TimeoutError("the server gave no answer in time")


def ran(workflow: dict[str, Any], output: Path) -> dict[str, list[np.ndarray[Any, Any]]]:
    """The pictures that each node of a workflow saves."""
    prompt = asked("/prompt", {"prompt": workflow})["prompt_id"]
    told = waited_for(lambda: asked(f"/history/{prompt}").get(prompt), 300)
    if told["status"]["status_str"] != "success":
        raise RuntimeError(json.dumps(told["status"]["messages"], indent=1))
    return {
        node: [np.asarray(Image.open(output / image["filename"])).astype(int) for image in made["images"]]
        for node, made in told["outputs"].items()
    }


def workflow_of(name: str, **inputs: dict[str, Any]) -> dict[str, Any]:
    """The pack's workflow with tiny nodes, a model type for its checkpoint, and these inputs of its nodes."""
    workflow: dict[str, Any] = json.loads((PACK / "workflow.json").read_text())
    for node in workflow.values():
        node["class_type"] = TINY.get(node["class_type"], node["class_type"])
    workflow["1"]["inputs"]["ckpt_name"] = name
    workflow["4"]["inputs"] |= {"width": 256, "height": 256}
    for number, changed in inputs.items():
        workflow[number.removeprefix("node_")]["inputs"] |= changed
    return workflow


def with_ksampler(workflow: dict[str, Any], sampler: str, scheduler: str) -> dict[str, Any]:
    """The same run with the stock KSampler."""
    inputs = {"seed": 7, "steps": 12, "cfg": 7.0, "sampler_name": sampler, "scheduler": scheduler, "denoise": 1.0}
    links = {"model": ["1", 0], "positive": ["2", 0], "negative": ["3", 0], "latent_image": ["4", 0]}
    return workflow | {"7": {"class_type": "KSampler", "inputs": inputs | links}}


def checked(output: Path, pictures: Path | None) -> None:
    """Run the workflow for a model with noise added and one with noise mixed in, and say what came of it."""
    menus = asked("/object_info/KSampler")["KSampler"]["input"]["required"]
    print("samplers at the end of KSampler's menu:", menus["sampler_name"][0][-2:])
    print("schedulers at the end of KSampler's menu:", menus["scheduler"][0][-7:])
    for name in ("EPS", "FLOW"):
        made = ran(workflow_of(name), output)
        (second,) = ran(workflow_of(name, node_7={"noise_seed": 8}, node_4={"batch_size": 1}), output)["9"]
        print(f"{name}: image 1 of seed 7 is that of seed 8 alone: {np.array_equal(made['9'][1], second)}")
        like_stock = {"eta": 1.0, "per_image": False}
        ours = ran(workflow_of(name, node_5=like_stock), output)["9"]
        for sampler in ("dpm_2_ancestral", "kdpm2_ancestral"):
            stock = ran(with_ksampler(workflow_of(name), sampler, "karras"), output)["9"]
            apart = max(int(abs(a - b).max()) for a, b in zip(ours, stock, strict=True))
            print(f"{name}: KSampler with {sampler} is apart by at most {apart} of 255")
    if pictures is not None:
        pictures.mkdir(exist_ok=True)
        for file in output.glob("*.png"):
            shutil.copy(file, pictures)


def main() -> None:
    """Start the server in a folder of its own, and stop it."""
    checkout = Path(os.environ["KDPM2_COMFYUI"]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        (base / "custom_nodes").mkdir()
        (base / "custom_nodes" / "kdpm2-nodes").symlink_to(PACK)
        (base / "custom_nodes" / "tiny_nodes.py").symlink_to(Path(__file__).with_name("tiny_nodes.py"))
        options = ["--cpu", "--port", str(PORT), "--base-directory", folder, "--database-url", "sqlite:///:memory:"]
        paths = os.pathsep.join([str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
        log = base / "log"
        with log.open("w") as told:
            server = subprocess.Popen(
                [sys.executable, str(checkout / "main.py"), *options],
                cwd=checkout,
                env=os.environ | {"PYTHONPATH": paths},
                stdout=told,
                stderr=subprocess.STDOUT,
            )
        try:
            waited_for(lambda: asked("/system_stats"), 180)
            checked(base / "output", Path(sys.argv[1]) if len(sys.argv) > 1 else None)
        except BaseException:
            print(log.read_text()[-6000:])
            raise
        finally:
            server.terminate()
            server.wait(30)


if __name__ == "__main__":
    main()
