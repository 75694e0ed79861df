"""KDPM2 in ComfyUI: a sampler and noise levels as nodes, and both in the stock KSampler's menus."""

from typing import Any


async def comfy_entrypoint() -> Any:
    """What ComfyUI calls once, when it loads the pack."""
    from . import menus, nodes

    menus.extend()
    return nodes.Pack()
