"""The pictures of a plan, drawn with a pipeline that stays loaded while plans need the same one."""

from collections.abc import Iterator
from typing import Any

from kdpm2._progress import bar
from kdpm2.cli.loading import device_of, dtype_of, load
from kdpm2.cli.options import refuse, refused_by
from kdpm2.cli.pictures import Drawn, Picture
from kdpm2.cli.plan import Plan
from kdpm2.cli.watching import Watch, watched


class Held:
    """The pipeline that was loaded last. Another one takes its place, so that one at a time is in memory."""

    def __init__(self) -> None:
        self._key: tuple[object, ...] | None = None
        self._pipe: Any = None
        self._config: Any = None

    def pipeline(self, plan: Plan) -> Any:
        """The pipeline of a plan, with its scheduler; ends the command if it cannot be loaded."""
        key = plan.model.name, plan.model.built_in, plan.device, plan.dtype
        if key == self._key:
            self._pipe.scheduler = plan.scheduler_of(self._config)
            return self._pipe

        def own_kept(config: Any) -> Any:
            self._config = config
            return plan.scheduler_of(config)

        device, dtype = device_of(plan.device), dtype_of(plan.dtype)
        self._key = self._pipe = None
        self._pipe = load("--pipeline", plan.model, dtype, own_kept).to(device)
        self._key = key
        return self._pipe


def drawn(
    pipe: Any, plan: Plan, pictures: list[Picture], watch: Watch | None = None, bars: bool = True
) -> Iterator[list[Drawn]]:
    """Pictures of a plan, a batch at a time.

    Args:
        pipe: The pipeline of the plan.
        plan: How they are drawn.
        pictures: Those of the plan that are wanted.
        watch: Called after each call of the network. What it raises ends the run.
        bars: Whether to show progress bars.
    """
    batches = [pictures[i : i + plan.together] for i in range(0, len(pictures), plan.together)]
    if len(batches) > 1 or not bars:
        pipe.set_progress_bar_config(disable=True)  # one bar for all batches says enough
    with bar(total=len(pictures), unit="image", disable=len(batches) == 1 or not bars) as progress:
        for batch in batches:
            with watched(pipe.scheduler, watch):
                images = _draw_batch(pipe, plan, batch)
            yield images
            progress.update(len(batch))


def _draw_batch(pipe: Any, plan: Plan, pictures: list[Picture]) -> list[Drawn]:
    from kdpm2.noise import generator_of

    seeds, count = [picture.seed for picture in pictures], len(pictures)
    # For the noise of steps, where the pipeline does not pass the generators on.
    pipe.scheduler.seed(seeds)
    arguments = dict(plan.called)
    for name in ("prompt", "negative_prompt"):
        if name in arguments:
            arguments[name] = [arguments[name]] * count
    if pictures[0].label is not None:
        arguments["labels"] = [plan.model.class_of(each.label) for each in pictures if each.label is not None]
    elif plan.model.on_pixels:
        arguments["num_images"] = count
    try:
        images = getattr(pipe(generator=[generator_of(seed) for seed in seeds], **arguments), "images", None)
    except ValueError as error:  # by the custom of diffusers and of kdpm2: an argument is not what it should be
        raise refused_by(error, {**plan.options, **plan.called}) from error
    if images is None or len(images) != count:
        refuse("--pipeline", f"it must draw one image for each seed, got {'none' if images is None else len(images)}")
    return [Drawn(*picture, image) for picture, image in zip(pictures, images, strict=True)]
