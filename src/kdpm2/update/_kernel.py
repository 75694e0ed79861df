r"""The Triton kernel of `kdpm2.update`: a stage in one pass over memory.

A program has BLOCK elements next to one another of each of the LANES normals that a block of `kdpm2.philox` gives, so
that what it reads and writes is contiguous, and no normal is made twice. What it takes that is uniform over a sample,
its row and its seed, it takes once.

A term whose coefficient is 0 is not read, so that what lies there, as in the anchor of a sample at the start of a
step, does not matter.
"""

import triton
import triton.language as tl

from kdpm2 import philox
from kdpm2.update._indexed import COLUMNS as _COLUMNS

if tuple(map(int, triton.__version__.split(".")[:2])) < (3, 3):
    # Earlier ones do not compile bfloat16 for a GPU without it.
    raise ImportError(f"kdpm2 needs Triton 3.3 or later, got {triton.__version__}")

Q = tl.constexpr(philox.Q)
COLUMNS = tl.constexpr(len(_COLUMNS))
X, MODEL, ANCHOR, NOISE = (tl.constexpr(_COLUMNS.index(name)) for name in ("x", "model", "anchor", "noise"))
UNIT = tl.constexpr(2.0**-32)
HALF_UNIT = tl.constexpr(2.0**-33)
TWO_PI = tl.constexpr(6.283185307179586)


@triton.jit
def _turned(u):  # type: ignore[no-untyped-def]
    """Cosine and sine of 2πu, for u from 0 to 1.

    Those of a library are ready for angles of any size, and what they keep at hand for that is more code than the rest
    of the kernel. Here the angle is at most π/4 from a multiple of π/2, and Taylor's series end below half a unit.
    """
    quarters = tl.floor(tl.fma(u, 4.0, 0.5))
    angle = TWO_PI * (u - quarters * 0.25)
    square = angle * angle
    sine = tl.fma(tl.fma(tl.fma(square, 1 / 362880, -1 / 5040), square, 1 / 120), square, -1 / 6)
    sine = tl.fma(sine * square, angle, angle)
    cosine = tl.fma(tl.fma(tl.fma(square, 1 / 40320, -1 / 720), square, 1 / 24), square, -1 / 2)
    cosine = tl.fma(cosine, square, 1.0)
    quadrant = quarters.to(tl.int32)
    odd = (quadrant & 1) != 0
    first = tl.where(odd, sine, cosine)
    second = tl.where(odd, cosine, sine)
    return tl.where(((quadrant + 1) & 2) != 0, -first, first), tl.where((quadrant & 2) != 0, -second, second)


@triton.jit
def _pair(first, second):  # type: ignore[no-untyped-def]
    """Two normals of two words, by Box and Muller."""
    u = first.to(tl.float32) * UNIT + HALF_UNIT
    v = second.to(tl.float32) * UNIT + HALF_UNIT
    # Where u is 1, a logarithm that is an approximation may be above 0.
    radius = tl.sqrt(tl.maximum(-2.0 * tl.log(u), 0.0))
    cosine, sine = _turned(v)
    return radius * cosine, radius * sine


@triton.jit(do_not_specialize=["programs"])
def stage(  # type: ignore[no-untyped-def]
    out,
    denoised_out,
    sample,
    model_output,
    anchor,
    noise,
    seeds,
    draws,
    rows,
    x_factor,
    model_factor,
    anchor_factor,
    noise_factor,
    denoised_x,
    denoised_model,
    elements,
    programs,
    DRAW_EACH: tl.constexpr,
    LANES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One program; there are `programs` for each sample of `elements` elements. What is None is not there."""
    program = tl.program_id(0)
    number = program // programs
    place = program % programs
    group = place // (Q // BLOCK)
    first = (place % (Q // BLOCK)) * BLOCK
    start = group.to(tl.int64) * (Q * LANES) + first
    base = number.to(tl.int64) * elements + start
    left = elements - start
    offsets = tl.arange(0, BLOCK)

    if rows is not None:
        row = rows + number * COLUMNS
        x_factor = tl.load(row + X)
        model_factor = tl.load(row + MODEL)
        anchor_factor = tl.load(row + ANCHOR)
        noise_factor = tl.load(row + NOISE)
    # How much there is to be read of each: nothing where the factor is 0.
    sample_left = tl.where(x_factor != 0, left, 0)
    if denoised_out is not None:
        sample_left = tl.where(denoised_x != 0, left, sample_left)
    anchor_left = tl.where(anchor_factor != 0, left, 0)
    noise_left = tl.where(noise_factor != 0, left, 0)

    z0 = tl.zeros([BLOCK], tl.float32)
    z1 = z0
    z2 = z0
    z3 = z0
    if seeds is not None:  # noqa: SIM102 - this is known when the kernel is compiled, and that is not
        if noise_factor != 0:
            seed = tl.load(seeds + number)
            draw = tl.load(draws + number * DRAW_EACH).to(tl.uint32)
            block = (group * Q + first + offsets).to(tl.uint32)
            zero = block * 0
            w0, w1, w2, w3 = tl.philox(seed, block, zero + draw, zero, zero)
            z0, z1 = _pair(w0, w1)
            z2, z3 = _pair(w2, w3)

    for lane in tl.static_range(LANES):
        at = base + lane * Q + offsets
        there = offsets < left - lane * Q
        x = tl.load(sample + at, mask=offsets < sample_left - lane * Q, other=0.0).to(tl.float32)
        m = tl.load(model_output + at, mask=there, other=0.0).to(tl.float32)
        after = tl.fma(model_factor, m, x_factor * x)
        if anchor is not None:
            held = tl.load(anchor + at, mask=offsets < anchor_left - lane * Q, other=0.0).to(tl.float32)
            after = tl.fma(anchor_factor, held, after)
        if noise is not None:
            drawn = tl.load(noise + at, mask=offsets < noise_left - lane * Q, other=0.0).to(tl.float32)
            after = tl.fma(noise_factor, drawn, after)
        if seeds is not None:
            if lane == 0:
                after = tl.fma(noise_factor, z0, after)
            elif lane == 1:
                after = tl.fma(noise_factor, z1, after)
            elif lane == 2:
                after = tl.fma(noise_factor, z2, after)
            else:
                after = tl.fma(noise_factor, z3, after)
        tl.store(out + at, after, mask=there)
        if denoised_out is not None:
            tl.store(denoised_out + at, tl.fma(denoised_model, m, denoised_x * x), mask=there)


DEVICE = "cuda" if isinstance(stage, triton.JITFunction) else "cpu"
"""What it runs on: TRITON_INTERPRET=1 makes Triton's decorator return something else, for a CPU."""
