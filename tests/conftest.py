import os

import hypothesis
import pytest
import torch

os.environ["HF_HUB_OFFLINE"] = "1"

# `pytest --hypothesis-profile thorough` draws twenty times as many configurations.
hypothesis.settings.register_profile("thorough", max_examples=2000, deadline=None)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
