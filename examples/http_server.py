"""An HTTP server of the built-in digits, with FastAPI: pip install fastapi uvicorn, and python examples/http_server.py.

Then open http://127.0.0.1:8000/generate?digit=3&seed=7 in a browser. Requests share network calls, whatever their
steps. If a client leaves, its request is cancelled. If too many requests wait, the next one gets status 429 at once.
/metrics is for Prometheus.
"""

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import torch
import uvicorn
from fastapi import FastAPI, HTTPException, Query, Request, Response
from PIL import Image

from kdpm2 import Denoiser, batching, noise_schedule, spacing, zoo

SCHEDULE = noise_schedule.discrete(beta_schedule="scaled_linear")  # what the digits model was trained on
UNET = zoo.digits().unet
DENOISER = Denoiser(lambda x, t, label: UNET(x, t, label.long()).sample, SCHEDULE, "v_prediction")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Have a server's thread while the app runs."""
    app.state.server = batching.Server(DENOISER, max_batch=16, shape=(1, 8, 8), queue_size=64)
    yield
    await asyncio.to_thread(app.state.server.close, cancel=True)


app = FastAPI(lifespan=lifespan)


@app.get("/generate")
async def generate(
    request: Request,
    digit: Annotated[int, Query(ge=0, le=10)] = 10,  # 10 is any
    seed: Annotated[int, Query(ge=0, lt=2**64)] = 0,
    steps: Annotated[int, Query(ge=1, le=100)] = 20,
    eta: Annotated[float, Query(ge=0, le=1)] = 1.0,
) -> Response:
    """A PNG of one digit."""
    sigmas = spacing.steps(SCHEDULE, steps, sigma_curve="karras").sigmas
    wanted = batching.Request(sigmas=sigmas, eta=eta, seed=seed, conditioning={"label": torch.tensor(digit)})
    try:
        future = app.state.server.submit(wanted, timeout=0)
    except TimeoutError:
        raise HTTPException(429, "too many requests wait", {"Retry-After": "1"}) from None
    sample = asyncio.wrap_future(future)
    while not sample.done():
        await asyncio.wait({sample}, timeout=0.1)
        if await request.is_disconnected():
            sample.cancel()  # and with it the request
            return Response(status_code=499)  # which nobody hears
    pixels = (sample.result()[0] / 2 + 0.5).clamp(0, 1).mul(255).round().byte().numpy()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return Response(file.getvalue(), media_type="image/png")


@app.get("/health")
def health() -> str:
    """That the server is there."""
    return "ok"


@app.get("/metrics")
def metrics() -> Response:
    """The server's counters."""
    lines = [f"kdpm2_{name} {value}" for name, value in app.state.server.counters().items()]
    return Response("\n".join(lines) + "\n", media_type="text/plain; version=0.0.4")


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=8000)
