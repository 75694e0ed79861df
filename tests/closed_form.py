"""What a table does to the variance of Gaussian data, exactly: no samples are drawn."""

from kdpm2.table import StageTable


def variance_after(table: StageTable, data: float, flow: bool = False) -> float:
    """The variance at the end of a run that starts from noise of `table.start`.

    Args:
        table: Of any network's prediction.
        data: The variance of the data, which have mean 0.
        flow: Whether samples are mixed as (1-σ)·x0 + σ·n.
    """

    def kept(level: float) -> float:
        return 1 - level if flow else 1.0

    start = float(table.sigmas[0])
    variance = table.initial_scale**2 * (kept(start) ** 2 * data + start**2) + table.initial_noise**2
    at_start, factor = variance, 1.0
    for stage in range(len(table)):
        row, level = table.row(stage), float(table.stage_sigmas[stage])
        if table.starts_step[stage]:
            at_start, factor = variance, 1.0
        towards = kept(level) * data / (kept(level) ** 2 * data + level**2)
        output = (towards - row.denoised_x) / row.denoised_model  # what the network says for a sample of 1
        factor = (row.x + row.model * output) * factor + row.anchor
        variance = factor**2 * at_start + row.noise**2
    return variance
