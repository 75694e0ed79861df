"""One line puts KDPM2 into a diffusers pipeline: python examples/pipeline_swap.py [FOLDER OR HUB ID].

Where the hub cannot be reached, a tiny pipeline with random weights stands in, and its picture is nothing but noise.
"""

import sys
from typing import Any

import torch
from diffusers import DiffusionPipeline

from kdpm2 import KDPM2AncestralDiscreteScheduler


def load(name: str) -> Any:
    """The pipeline of this name, or its stand-in."""
    try:
        return DiffusionPipeline.from_pretrained(name)
    except OSError:
        from tiny_stable_diffusion import pipeline

        print(f"{name} cannot be loaded here: a tiny pipeline with random weights stands in")
        return pipeline()


def main() -> None:
    """Write swapped.png."""
    pipe = load(sys.argv[1] if len(sys.argv) > 1 else "stable-diffusion-v1-5/stable-diffusion-v1-5")
    pipe.to("cuda" if torch.cuda.is_available() else "cpu")
    pipe.scheduler = KDPM2AncestralDiscreteScheduler.from_config(pipe.scheduler.config, use_karras_sigmas=True)
    print(pipe.scheduler)
    generator = torch.Generator().manual_seed(0)
    image = pipe("a lighthouse in a storm", num_inference_steps=12, generator=generator).images[0]
    image.save("swapped.png")
    print("swapped.png")


if __name__ == "__main__":
    main()
