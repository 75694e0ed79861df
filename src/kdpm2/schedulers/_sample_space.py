"""How a loop holds its samples: as x0 + σ·n, scaled for the network, or divided by √(1+σ²), never scaled.

diffusers' KDPM2 takes samples of the first kind. A loop around it multiplies the initial noise by `init_noise_sigma`,
gives the network what `scale_model_input` returns, and passes the unscaled sample to `step`. Loops written for DDPM or
DDIM hold samples of the second kind, and do none of this. With `sample_space="variance_preserving"` the scheduler works
in such a loop.
"""

from collections.abc import Callable

import torch

from kdpm2.sample_space import variance_preserving
from kdpm2.schedulers._attributes import Attributes
from kdpm2.schedulers._configuration import logger

# Of 16 normal numbers, the root mean square lies between these bounds for noise of standard deviation 1, and above them
# for noise of 6, but for one time in a hundred thousand; and the mean is not this near to it.
_ENOUGH_TO_TELL, _FAR_FROM_1 = 16, 6.0
_LEAST, _MOST, _EVEN = 0.3, 2.0, 0.8


def no_tensor() -> object:
    """A weak reference to no tensor."""
    return None


class InSampleSpace(Attributes):
    """Which kind of samples a run gets, and the warnings for loops that mix the kinds."""

    is_scale_input_called = False
    """Whether `scale_model_input` was called since the schedule was set."""

    _never_scales = False
    """Whether a run was seen to begin as those of loops do that never scale."""

    _scaled: Callable[[], object]
    _scales_input: bool
    _warned: set[str]

    def _warn(self, message: str) -> None:
        """Warn once a scheduler."""
        if message not in self._warned:
            self._warned.add(message)
            logger.warning("%s: %s", type(self).__name__, message)

    def _check_scaled(self, stage: int, sample: torch.Tensor) -> None:
        """Check that the loop scales the network's input, and passes the unscaled sample to `step`."""
        if self.is_scale_input_called:
            self._warn(
                "step was given the sample that scale_model_input returned, and the picture will be wrong: step "
                "the sample before scaling, or set sample_space='variance_preserving' for a loop that does so"
            )
        elif self._run.stage is None and stage == 0 and self._is_variance_preserving(sample):
            self._hold_variance_preserving()
            self._warn(
                "step was called without scale_model_input, on noise of standard deviation 1, so samples are taken for "
                "ones divided by √(1+σ²): set sample_space='variance_preserving' to say so"
            )
        else:
            self._warn(
                "step was called without scale_model_input, and the picture will be wrong: give the network what "
                "scale_model_input returns, or set sample_space='variance_preserving' for a loop that never scales"
            )

    def _is_variance_preserving(self, sample: torch.Tensor) -> bool:
        """Whether a run begins with noise of standard deviation 1, although noise of a far larger σ is expected."""
        asked = self._options_of_run.sample_space is not None or not self._schedule.stepped_unscaled
        few = sample.numel() < _ENOUGH_TO_TELL or self._table.stage_sigmas[0] < _FAR_FROM_1
        if asked or few or sample.is_meta:
            return False
        values = sample.detach().float()
        mean, square = torch.stack([values.mean(), values.square().mean()]).tolist()
        return bool(_LEAST < square**0.5 < _MOST and abs(mean) < _EVEN * square**0.5)

    def _hold_variance_preserving(self) -> None:
        """Treat the samples of this schedule's runs as variance-preserving."""
        self._run = self._run._replace(table=variance_preserving(self._table))
        self._in_variance_preserving, self._scales_input = True, False
        self._never_scales = True  # from now on, so that no request of a service is taken otherwise
        self._scales.clear()
