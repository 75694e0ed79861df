"""Progress bars: the notebook's where there is one to show them.

A notebook without ipywidgets has the terminal's, without ado. Who imports diffusers imports this first: diffusers takes
its bars from the same module of tqdm, which would warn.
"""

import warnings

from tqdm import TqdmWarning

with warnings.catch_warnings():
    warnings.simplefilter("ignore", TqdmWarning)
    from tqdm.auto import tqdm as bar

__all__ = ["bar"]
