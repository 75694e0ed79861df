"""Progress bars: the notebook's where there is one to show them."""

import warnings
from typing import Any


def bar(**options: Any) -> Any:
    """A bar of tqdm, for a notebook or a terminal; for the latter too where a notebook lacks ipywidgets."""
    from tqdm import TqdmWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TqdmWarning)
        from tqdm.auto import tqdm
    return tqdm(**options)
