"""The stock KSampler's menus, with kdpm2's samplers and noise levels at their end.

ComfyUI looks a sampler up by its name among k-diffusion's functions, and a scheduler in a dictionary. So a function, an
entry and two names are added, and nothing that was there is changed. KSampler spaces one more step for samplers in
`DISCARD_PENULTIMATE_SIGMA_SAMPLERS` and leaves the next-to-last level out: for these as for its own.
"""

from functools import partial

import comfy.samplers
from comfy.k_diffusion import sampling as k_diffusion_sampling

from .levels import sigmas_of
from .sampler import sample_kdpm2, sample_kdpm2_ancestral

SAMPLERS = {"kdpm2_ancestral": sample_kdpm2_ancestral, "kdpm2": sample_kdpm2}
_SPACINGS = ("linspace", "leading", "trailing")
_CURVES = ("beta", "ays_sd15", "ays_sdxl", "ays_svd")
SCHEDULERS = {
    # What ComfyUI has already is left out.
    **{f"kdpm2_{name}": partial(sigmas_of, timestep_spacing=name) for name in _SPACINGS},
    **{f"kdpm2_{name}": partial(sigmas_of, sigma_curve=name) for name in _CURVES},
}


def extend() -> None:
    """Add the names to the menus, once."""
    for name, function in SAMPLERS.items():
        setattr(k_diffusion_sampling, f"sample_{name}", function)
        _append(comfy.samplers.KSAMPLER_NAMES, name)
        _append(comfy.samplers.SAMPLER_NAMES, name)
        _append(comfy.samplers.KSampler.SAMPLERS, name)
        comfy.samplers.KSampler.DISCARD_PENULTIMATE_SIGMA_SAMPLERS.add(name)
    for name, levels in SCHEDULERS.items():
        comfy.samplers.SCHEDULER_HANDLERS[name] = comfy.samplers.SchedulerHandler(levels)
        _append(comfy.samplers.SCHEDULER_NAMES, name)
        _append(comfy.samplers.KSampler.SCHEDULERS, name)


def _append(names: list[str], name: str) -> None:
    if name not in names:  # some of these lists are one and the same
        names.append(name)
