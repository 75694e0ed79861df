import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import torch

os.environ["HF_HUB_OFFLINE"] = "1"
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # looked at where Triton is imported

# `pytest --hypothesis-profile thorough` draws twenty times as many configurations.
hypothesis.settings.register_profile("thorough", max_examples=2000, deadline=None)

COMPARED = "compared pictures"
"""What a test notes of two runs of a pipeline that it compared: its classes, a label, and the largest difference."""


# Small tensors lose more by handing work to a second thread than they gain, most of all on a busy machine.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes that tests start


@pytest.fixture(scope="session", autouse=True)
def _references_are_made_fast() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        if "diffusers" in sys.modules:  # else no test that was collected has use for it
            from tests import reference

            reference.make_first_schedules_once(patch)
        yield


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def text_to_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a saved pipeline that takes prompts, not to be written to."""
    from diffusers import PNDMScheduler, StableDiffusionPipeline

    from tests.pipelines.conftest import latent_unet, spelling_tokenizer, stable_diffusion

    parts = stable_diffusion(spelling_tokenizer(tmp_path_factory))
    folder = tmp_path_factory.mktemp("text_to_image")
    pipeline = StableDiffusionPipeline(**parts, unet=latent_unet(), scheduler=PNDMScheduler(skip_prk_steps=True))
    pipeline.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def unconditional(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a saved pipeline on pixels, not to be written to."""
    from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=8,
        block_out_channels=(8, 8),
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
    )
    folder = tmp_path_factory.mktemp("unconditional")
    DDPMPipeline(unet, DDPMScheduler()).save_pretrained(folder)
    return folder


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say how far apart the pictures were that this run compared; from the reports, which xdist's workers send too."""
    reports = [report for each in terminalreporter.stats.values() for report in each]
    seen = [
        value
        for report in reports
        if getattr(report, "when", None) == "call"
        for name, value in report.user_properties
        if name == COMPARED
    ]
    if not seen:
        return
    classes = {each for comparison in seen for each in comparison["pipelines"]}
    line = f"pictures compared {len(seen)} times, over {len(classes)} pipeline classes; largest difference"
    for dtype in sorted({comparison["dtype"] for comparison in seen}, reverse=True):
        worst = max((each for each in seen if each["dtype"] == dtype), key=lambda each: float(each["difference"]))
        line += f" in {dtype} {worst['difference']:.1e} ({worst['label']}),"
    terminalreporter.write_line(line.removesuffix(","))
