r"""The other way to hold the samples of a run, for a loop that never scales: :math:`x / \sqrt{1+\sigma^2}`.

This multiplies the columns of a table's rows, and changes nothing else.
"""

from dataclasses import replace

import numpy as np

from kdpm2.table import Row, StageTable


def variance_preserving(table: StageTable) -> StageTable:
    r"""The same sampler for samples that are held as :math:`x / \sqrt{1+\sigma^2}`.

    Args:
        table: Of a variance-preserving model: what the network reads is then the sample itself.

    Raises:
        ValueError: If the table is that of another model.
    """
    read = table.rows[:, Row._fields.index("scale")]
    if not np.allclose(read, 1 / np.hypot(1, table.stage_sigmas), rtol=1e-9):
        raise ValueError("sample_space must be None for a model that is not variance preserving")
    made = np.append(read[1:], 1 / np.hypot(1, table.sigmas[-1]))
    anchor = read[table.first_stage[table.step]]
    one = np.ones_like(read)
    # Of each column, in the order of Row: what it is multiplied by, and divided by.
    multiplied = np.array([one, made, made, made, made, one, one]).T
    divided = np.array([read, read, one, anchor, one, read, one]).T
    rows, entry_rows = (each * multiplied / divided for each in (table.rows, table.entry_rows))
    # What is given to the first stage stands at its level, churn included.
    return replace(
        table,
        rows=rows,
        entry_rows=entry_rows,
        stage_alphas=table.stage_alphas * read,
        initial_noise=0.0,
        initial_scale=1.0,
        start=1.0,
    )
