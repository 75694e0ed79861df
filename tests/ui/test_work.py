"""Long work of windows: told as it goes, stopped by a word, one after another."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL

from kdpm2.cli.drawing import Held
from kdpm2.cli.watching import Seen
from kdpm2.ui.estimates import Strip, pictures
from kdpm2.ui.work import Stopped, Worker


def test_news_come_in_order_and_errors_too() -> None:
    def work(_: Held, tell: Callable[[int | None], None]) -> None:
        for number in range(3):
            tell(None)
            tell(number)
        raise OSError("no more")

    news = Worker().streamed("a", work)
    assert [next(news), next(news), next(news)] == [0, 1, 2]
    with pytest.raises(OSError, match="no more"):
        next(news)


@pytest.mark.parametrize("when", ["in line", "at work"])
def test_a_session_is_stopped_and_no_other(when: str) -> None:
    worker, told = Worker(), list[None]()

    def work(_: Held, tell: Callable[[str | None], None]) -> None:
        for _turn in range(10**6):
            tell("news")
            told.append(None)

    worker.begin("a")
    worker.stop("b")
    if when == "in line":
        worker.stop("a")
    news = worker.streamed("a", work)
    if when == "at work":
        assert next(news) == "news"
        worker.stop("a")
    with pytest.raises(Stopped):
        for _ in news:
            pass
    assert (not told) == (when == "in line")
    worker.begin("a")  # what was stopped does not stop what comes next
    assert next(worker.streamed("a", work)) == "news"


def test_a_window_that_is_closed_leaves_no_work_behind() -> None:
    ended = threading.Event()

    def work(_: Held, tell: Callable[[int | None], None]) -> None:
        try:
            while True:
                tell(1)
        finally:
            ended.set()

    news = Worker().streamed("a", work)
    assert next(news) == 1
    news.close()  # type: ignore[attr-defined]
    assert ended.is_set()


def test_one_window_draws_at_a_time() -> None:
    worker, at_work, most = Worker(), 0, 0

    def work(_: Held, tell: Callable[[int | None], None]) -> None:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        for number in range(50):
            tell(number)
        at_work -= 1

    seen: dict[str, list[int]] = {}
    threads = [
        threading.Thread(target=lambda name=name: seen.update({name: list(worker.streamed(name, work))}))
        for name in "abc"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert seen == {name: list(range(50)) for name in "abc"}


class Pipe:
    vae: Any = None


def seen(stage: int, samples: torch.Tensor) -> Seen:
    return Seen(stage, 39, stage % 2 == 0, 1.0, samples)


def test_the_strip_grows_by_the_steps_that_it_shows() -> None:
    strip, sizes = Strip(20), []
    for stage in range(39):
        image = strip.add(Pipe(), seen(stage, torch.zeros(6, 1, 8, 8)))
        if image is not None:
            sizes.append(image.size)
    assert len(sizes) == 12  # of 20 steps, the first and the last among them
    assert len(set(sizes)) == 1  # so that the page does not jump


def test_estimates_of_latents_are_decoded() -> None:
    torch.manual_seed(0)
    pipe = Pipe()
    pipe.vae = AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, latent_channels=2, scaling_factor=0.5)
    latents = torch.randn(2, 2, 8, 8)
    images = pictures(pipe, latents)
    assert images is not None
    expected = pipe.vae.decode(latents / 0.5).sample[1, :, 3, 4].clamp(-1, 1)
    assert images[1].getpixel((4, 3)) == tuple(int(v) for v in ((expected / 2 + 0.5) * 255).round())
    assert pictures(pipe, torch.randn(2, 16, 4)) is None
