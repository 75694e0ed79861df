"""A diffusers pipeline's network as a denoiser, for the loops of `kdpm2.sampling` and for `kdpm2.batching`."""

from collections.abc import Sequence
from typing import Any

import torch

from kdpm2 import _check
from kdpm2.denoiser import Around, Denoiser, Outputs
from kdpm2.guidance import Interval, guided


def denoiser_of(
    pipe: Any,
    prompt: str | Sequence[str] | None = None,
    negative_prompt: str | Sequence[str] | None = None,
    labels: Sequence[int] | None = None,
    guidance_scale: float = 1.0,
    *,
    guidance_plus_plus: bool = False,
    guidance_interval: Interval = None,
    guidance_rescale: float = 0.0,
) -> Denoiser:
    """The network of a pipeline as a denoiser, together with its prompt or labels.

    Its samples are those that the pipeline's network works on. For Stable Diffusion these are latents, which `pipe.vae`
    decodes.

    Args:
        pipe: A pipeline like Stable Diffusion's, with `unet` and `encode_prompt`, or one for a network on pixels, as
            `kdpm2.zoo.digits()` and `DDPMPipeline`.
        prompt: For Stable Diffusion: one for all samples, or one for each.
        negative_prompt: The prompt that guidance leads away from. None for "".
        labels: For a network on pixels that takes them: one for all samples, or one for each. None for no class.
        guidance_scale: From 0 to 100; 1 is the network's own distribution.
        guidance_plus_plus: CFG++, as `plus_plus` of `kdpm2.guided`.
        guidance_interval: As `interval` of `kdpm2.guided`.
        guidance_rescale: As `rescale` of `kdpm2.guided`.

    Returns:
        A denoiser that takes no more conditioning.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range, or the pipeline is of another kind.
    """
    from kdpm2.schedulers import KDPM2AncestralDiscreteScheduler

    scale = _check.number("guidance_scale", guidance_scale, 0, 100)
    unet, config = getattr(pipe, "unet", None), getattr(getattr(pipe, "scheduler", None), "config", None)
    if unet is None or config is None:
        raise TypeError(f"pipe must be a diffusers pipeline with a unet and a scheduler, got a {type(pipe).__name__}")
    scheduler: Any = KDPM2AncestralDiscreteScheduler.from_config(config)
    guides = scale != 1 or _check.flag("guidance_plus_plus", guidance_plus_plus)
    name, cond, uncond = _conditioning(pipe, unet, prompt, negative_prompt, labels, guides)

    def network(x: torch.Tensor, timestep: torch.Tensor, cond: torch.Tensor | None = None) -> torch.Tensor:
        output: torch.Tensor = unet(x, timestep, **({} if cond is None else {name: cond})).sample
        return output

    trained = Denoiser(network, scheduler._schedule, scheduler.config.prediction_type)
    if cond is None:
        return trained
    if not guides:
        return _Bound(trained, {"cond": cond})
    whole = guided(trained, scale, plus_plus=guidance_plus_plus, interval=guidance_interval, rescale=guidance_rescale)
    return _Bound(whole, {"cond": cond, "uncond": uncond})


class _Bound(Around):
    """A denoiser with its conditioning."""

    def __init__(self, denoiser: Denoiser, given: dict[str, torch.Tensor | None]) -> None:
        super().__init__(denoiser)
        self._given = given

    def outputs(self, x: torch.Tensor, timestep: torch.Tensor, **conditioning: Any) -> Outputs:
        """What the denoiser says, with its conditioning."""
        given = {name: _for_all(value, len(x)) for name, value in self._given.items()}
        return self.inner.outputs(x, timestep, **given, **conditioning)


def _conditioning(
    pipe: Any, unet: Any, prompt: Any, negative_prompt: Any, labels: Any, guides: bool
) -> tuple[str, torch.Tensor | None, torch.Tensor | None]:
    """The name of what the network is conditioned on, and its value with and without the prompt or label."""
    if hasattr(pipe, "encode_prompt"):
        if labels is not None:
            raise ValueError(f"labels must be None for a pipeline with prompts, got {_check.shown(labels)}")
        if getattr(unet.config, "addition_embed_type", None) is not None:
            raise ValueError(f"pipe must have a network that reads prompts alone, got a {type(pipe).__name__}")
        return "encoder_hidden_states", *_embedded(pipe, prompt, negative_prompt, guides)
    if prompt is not None or negative_prompt is not None:
        raise ValueError("prompt must be None for a pipeline without prompts, got one")
    return "class_labels", *_classes(unet, labels, guides)


@torch.no_grad()
def _embedded(pipe: Any, prompt: Any, negative_prompt: Any, guides: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The embeddings of the prompts, and of what guidance leads away from."""
    for name, value in (("prompt", prompt), ("negative_prompt", negative_prompt)):
        listed = not isinstance(value, str) and isinstance(value, Sequence) and value
        texts = list(value) if listed else [value]
        if not all(isinstance(text, str) for text in texts) and (name == "prompt" or value is not None):
            raise TypeError(f"{name} must be a text or a list of texts, got {_check.shown(value)}")
    prompts = [prompt] if isinstance(prompt, str) else list(prompt)
    away = negative_prompt or ""
    away = [away] * len(prompts) if isinstance(away, str) else list(away)
    if len(away) != len(prompts):
        raise ValueError(f"negative_prompt must be one, or one for each of {len(prompts)} prompts, got {len(away)}")
    embedded = pipe.encode_prompt(prompts, pipe.device, 1, guides, negative_prompt=away if guides else None)
    return embedded[0], embedded[1] if guides else None


def _classes(unet: Any, labels: Any, guides: bool) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """The classes, and the last one, which stands for none."""
    count = getattr(unet.config, "num_class_embeds", None)
    if count is None:
        if labels is not None or guides:
            raise ValueError("labels and guidance_scale must be None and 1 for a network without classes")
        return None, None
    if labels is not None and (isinstance(labels, (str, bytes)) or not hasattr(labels, "__getitem__")):
        raise TypeError(f"labels must be a list of integers, got {_check.shown(labels)}")
    held = [count - 1] if labels is None else _check.listed("labels", labels, _check.MOST_STEPS, "labels")
    if not held:
        raise ValueError("labels must hold at least one label, got none")
    chosen = [_check.integer("each of labels", label, 0, count - 1) for label in held]
    given = torch.tensor(chosen, device=unet.device)
    return given, torch.full_like(given, count - 1)


def _for_all(given: torch.Tensor | None, count: int) -> torch.Tensor:
    assert given is not None
    if len(given) not in (1, count):
        raise ValueError(f"x must hold a sample for each of {len(given)} prompts or labels, got {count}")
    return given.expand(count, *given.shape[1:])
