r"""DPM2 with about one network call a step: each step keeps the estimate of the step before.

A step of DPM2 calls the network where it starts, to get to its midpoint, and then at the midpoint. At η = 1 the
midpoint has the next step's noise level. So the estimate of the clean sample that was made there takes the place of the
next step's first call. N steps make N+1 calls: the first step makes two, and a last step that goes to 0 makes its own.

With x the sample at the start of a step and D the kept estimate, the midpoint's sample is a mix, :math:`u = f x + g D`,
with f and g of the first stage's row. A run holds u and D. The sample follows from both, :math:`x = (u - g D)/f`, and
the second stage leads from it to the next x, as ever. What is read next is :math:`u' = f' x' + g' D'`. So a stage is
still one row, of u, of the network's output, of the anchor, which is D here, and of noise.

After a restart the estimate is that of a much lower level. The step up is then made by a call of its own.

At the same number of network calls this is nearer to a fine run than DPM2 a is: see docs/options.md.

References:
    A step that evaluates once, from a predicted sample, is old: predictor-corrector methods do so (Hairer, Nørsett &
    Wanner, Solving Ordinary Differential Equations I, chapter III).
"""

from dataclasses import replace

import numpy as np

from kdpm2.spacing import Steps
from kdpm2.table import Row, StageTable


def keeping_estimates(table: StageTable, steps: Steps) -> StageTable:
    """DPM2 whose steps keep the estimate of the step before.

    Args:
        table: Of DPM2, from `kdpm2.table.dpm2`.
        steps: Those that the table was made of.
    """
    two = table.mid > 0
    # Steps whose first stage is left out: they start where the step before ends, and both have a midpoint.
    keeps = np.append(False, two[1:] & two[:-1] & (steps.starts[1:] == steps.sigmas[1:-1])) if len(two) else two
    firsts = [table.row(int(stage)).of_denoised() for stage in table.first_stage]
    left: list[int] = []
    rows, entry_rows = table.rows.copy(), table.entry_rows.copy()
    for stage in range(len(table)):
        step, starts = int(table.step[stage]), bool(table.starts_step[stage])
        if starts and keeps[step]:
            continue
        left.append(stage)
        if not starts:
            following = firsts[step + 1] if step + 1 < len(two) and keeps[step + 1] else None
            rows[stage] = _merged(table.row(stage), firsts[step], following)
            entry_rows[stage] = _merged(Row._make(table.entry_rows[stage]), None, following)
    return replace(
        table,
        step=table.step[left],
        starts_step=np.diff(table.step[left], prepend=-1) > 0,
        stage_sigmas=table.stage_sigmas[left],
        stage_timesteps=table.stage_timesteps[left],
        stage_alphas=table.stage_alphas[left],
        rows=rows[left],
        entry_rows=entry_rows[left],
        keeps_estimate=True,
    )


def _merged(second: Row, first: Row | None, following: Row | None) -> Row:
    """One row for a second stage: before it, the sample is worked out; after it, the next midpoint's.

    Args:
        second: The row of the stage.
        first: The first row of its step, of the clean sample. None for a run that begins here, without an estimate.
        following: That of the next step, if it keeps the estimate.
    """
    of_clean = second.of_denoised()
    read, anchor = of_clean.x, of_clean.anchor
    if first is not None:
        read, anchor = of_clean.x + of_clean.anchor / first.x, -of_clean.anchor * first.model / first.x
    carried, mixed = (1.0, 0.0) if following is None else (following.x, following.model)
    read, clean = carried * read, carried * of_clean.model + mixed
    p, q = second.denoised_x, second.denoised_model
    return second._replace(x=read + clean * p, model=clean * q, anchor=carried * anchor, noise=carried * second.noise)
