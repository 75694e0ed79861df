"""What a stage returns as a pair: the sample after it, and the clean sample, which is worked out when it is read.

Nearly every pipeline takes the first of the two and drops the other, which would cost a pass over memory each time.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import torch

from kdpm2 import update
from kdpm2.table import Row


class Pair(tuple[torch.Tensor, torch.Tensor]):
    """(prev_sample, pred_original_sample): a tuple of two, however it is unpacked, indexed, compared or joined.

    The second raises RuntimeError if the sample or the network's output that it is made of was changed in place before
    it was read for the first time. Code in C that looks into a tuple's memory without asking it, as `torch.stack` and
    `torch.compile` do with their arguments, has to be given `tuple(pair)`.
    """

    _denoised: torch.Tensor | None = None

    def __new__(cls, items: Iterable[Any] = ()) -> Any:
        """A plain tuple of any items: libraries that map over a tuple make one of its type from the results."""
        return tuple(items)

    @staticmethod
    def of(prev_sample: torch.Tensor, row: Row, sample: torch.Tensor, model_output: torch.Tensor) -> "Pair":
        """The sample after a stage, and what the clean one is made of, with the number of changes made to it so far.

        Raises:
            RuntimeError: If torch does not count them, as for inference tensors.
        """
        later = (row, sample, model_output, sample._version, model_output._version)
        pair: Pair = tuple.__new__(Pair, (prev_sample, later))
        return pair

    def _whole(self) -> tuple[torch.Tensor, torch.Tensor]:
        later: Any = tuple.__getitem__(self, 1)
        if self._denoised is None:
            row, sample, model_output, *versions = later
            if versions != [sample._version, model_output._version]:
                raise RuntimeError(
                    "pred_original_sample is worked out when it is read, and the sample or the model output of its "
                    "stage was changed in place since: read it before that, or call step with return_dict=True"
                )
            self._denoised = update.denoised(row, sample, model_output)
        return tuple.__getitem__(self, 0), self._denoised

    def __getitem__(self, index: Any) -> Any:
        return tuple.__getitem__(self, 0) if index == 0 else self._whole()[index]

    def __iter__(self) -> Iterator[torch.Tensor]:
        yield tuple.__getitem__(self, 0)
        yield self._whole()[1]

    def __eq__(self, other: object) -> bool:
        return self._whole() == (other._whole() if isinstance(other, Pair) else other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self._whole())

    def __contains__(self, item: object) -> bool:
        return item in self._whole()

    def index(self, *args: Any) -> int:
        return self._whole().index(*args)

    def count(self, item: Any) -> int:
        return self._whole().count(item)

    def __add__(self, other: Any) -> Any:
        return self._whole() + other

    def __radd__(self, other: Any) -> Any:
        return other + self._whole()

    def __mul__(self, times: Any) -> Any:
        return self._whole() * times

    def __rmul__(self, times: Any) -> Any:
        return self._whole() * times

    def __repr__(self) -> str:
        return repr(self._whole())

    def __reduce__(self) -> tuple[Any, ...]:
        return tuple, (self._whole(),)
