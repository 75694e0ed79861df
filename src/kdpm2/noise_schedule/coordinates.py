r"""What a sample of noise level σ is: data and noise added, or mixed. How a step splits follows from that.

An ancestral step goes from σ to σ' in two parts. The solver goes down to *down*. Then the sample is multiplied by
*ratio*, and fresh noise of standard deviation *up* brings it up to σ'. η says how much of the noise is fresh. Where
noise is added, :math:`x = x_0 + \sigma n`,

.. math::
    \mathrm{up} = \min(\sigma',\ \eta\,\sigma'\sqrt{1-(\sigma'/\sigma)^2}),\qquad
    \mathrm{down} = \sqrt{\sigma'^2-\mathrm{up}^2},\qquad
    \mathrm{ratio} = 1.

Where it is mixed in, :math:`x = (1-\sigma)\,x_0 + \sigma n`, as in a flow, the data has to be scaled for it:

.. math::
    \mathrm{down} = \max(0,\ \sigma'(1+\eta(\sigma'/\sigma-1))),\qquad
    \mathrm{ratio} = \frac{1-\sigma'}{1-\mathrm{down}},\qquad
    \mathrm{up} = \sqrt{\sigma'^2-\mathrm{down}^2\,\mathrm{ratio}^2}.

A step that goes up, as where a picture is taken back to noise, adds none of the noise itself, whatever η: down = σ',
up = 0, ratio = 1. Fresh noise would take the place of the picture that is to be kept.

Fresh noise alone, without a step, raises a sample from σ to :math:`\hat\sigma`. It is multiplied by *carry*, and noise
of standard deviation *added* is added. Where noise is added, carry = 1 and :math:`\mathrm{added} =
\sqrt{\hat\sigma^2-\sigma^2}`. In a flow,

.. math::
    \mathrm{carry} = \frac{1-\hat\sigma}{1-\sigma},\qquad
    \mathrm{added} = \sqrt{\hat\sigma^2-\mathrm{carry}^2\,\sigma^2}.

Churn by γ multiplies the ratio of noise to data by 1+γ. This is :math:`\hat\sigma = \sigma(1+\gamma)` where noise is
added, and :math:`\hat\sigma = \sigma(1+\gamma)/(1+\gamma\sigma)` in a flow.

References:
    | The ancestral step: https://github.com/crowsonkb/k-diffusion; that of flows:
      https://github.com/comfyanonymous/ComfyUI
    | The shift of flows: Scaling Rectified Flow Transformers for High-Resolution Image Synthesis (Esser et al., 2024),
      equation 23, https://arxiv.org/abs/2403.03206; its end: https://github.com/Lightricks/LTX-Video
"""

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from kdpm2 import _check

Floats = NDArray[np.float64]


class Coordinates(ABC):
    """How samples hold their data and their noise.

    Attributes:
        largest: The largest noise level that a sample may have, trained or not.
        shifts: Whether sigmas are shifted towards noise. This includes sigmas that a caller gives, as pipelines of
            flows expect.
    """

    largest: ClassVar[float]
    shifts: ClassVar[bool]

    @abstractmethod
    def alpha(self, sigma: Floats) -> Floats:
        """What the data is multiplied by at each noise level."""

    @abstractmethod
    def split(self, sigma: Floats, following: Floats, eta: Floats) -> tuple[Floats, Floats, Floats]:
        """The triple (down, up, ratio) of steps from `sigma` to `following`, each of shape (N,)."""

    @abstractmethod
    def raised(self, sigma: Floats, raised: Floats) -> tuple[Floats, Floats]:
        """The pair (carry, added) of samples that noise alone takes from `sigma` up to `raised`."""

    @abstractmethod
    def churned(self, sigma: Floats, gamma: Floats) -> Floats:
        """The noise levels that churn by gamma raises `sigma` to."""

    def warped(self, sigmas: Floats, shift: float, shift_terminal: float | None) -> Floats:
        """Noise levels, shifted towards noise and stretched to their end. Unchanged if nothing is shifted."""
        return sigmas


class Added(Coordinates):
    """Samples x0 + σ·n."""

    largest = _check.LARGEST
    shifts = False

    def alpha(self, sigma: Floats) -> Floats:
        """1."""
        return np.ones_like(sigma)

    def split(self, sigma: Floats, following: Floats, eta: Floats) -> tuple[Floats, Floats, Floats]:
        """The pair (down, up), and no scaling."""
        ratio = _falling(sigma, following)
        # Products that vanish only with their factors: no cancellation however far apart the two sigmas are.
        up = eta * following * np.sqrt((1 - ratio) * (1 + ratio))
        down = following * np.sqrt(np.maximum((1 - eta) * (1 + eta) + (eta * ratio) ** 2, 0))
        return down, np.minimum(up, following), np.ones_like(sigma)

    def raised(self, sigma: Floats, raised: Floats) -> tuple[Floats, Floats]:
        """Noise is added, and the data stays."""
        return np.ones_like(sigma), np.sqrt(raised**2 - sigma**2)

    def churned(self, sigma: Floats, gamma: Floats) -> Floats:
        """EDM's σ(1+γ)."""
        return sigma * (1 + gamma)


class Mixed(Coordinates):
    """Samples (1-σ)·x0 + σ·n, those of a flow."""

    largest = 1.0
    shifts = True

    def alpha(self, sigma: Floats) -> Floats:
        """1 - σ."""
        return 1 - sigma

    def split(self, sigma: Floats, following: Floats, eta: Floats) -> tuple[Floats, Floats, Floats]:
        """The triple (down, up, ratio) of a flow."""
        reached = np.maximum(1 - eta * (1 - _falling(sigma, following)), 0)
        down = following * reached
        # Nothing is scaled where nothing is added; at 1 the fractions would be 0 / 0.
        left = np.where(reached == 1, 1, 1 - down)
        ratio = np.where(reached == 1, 1, (1 - following) / left)
        # σ' - down·ratio, with the difference taken by hand: nothing cancels.
        difference = following * (1 - reached) / left
        return down, np.sqrt(difference * (following + down * ratio)), ratio

    def raised(self, sigma: Floats, raised: Floats) -> tuple[Floats, Floats]:
        """Noise is mixed in, and the data shrinks."""
        left = np.where(raised > sigma, 1 - sigma, 1)
        carry = np.where(raised > sigma, 1 - raised, 1) / left
        # σ̂ - carry·σ, with the difference taken by hand: nothing cancels.
        difference = (raised - sigma) / left
        return carry, np.sqrt(difference * (raised + carry * sigma))

    def churned(self, sigma: Floats, gamma: Floats) -> Floats:
        """The ratio of noise to data times 1+γ, so at most 1."""
        return shifted(sigma, 1 + gamma)

    def warped(self, sigmas: Floats, shift: float, shift_terminal: float | None) -> Floats:
        """Shifted, s·σ / (1 + (s-1)·σ), and then stretched so that the last is `shift_terminal`."""
        sigmas = shifted(sigmas, _check.positive("shift", shift))
        if shift_terminal is None:
            return sigmas
        terminal = _check.number("shift_terminal", shift_terminal, 0, 1)
        if not 0 < terminal < sigmas[0]:
            raise ValueError(
                f"shift_terminal must be above 0 and below the first sigma {sigmas[0]:g}, got {terminal:g}"
            )
        if len(sigmas) == 1:
            return sigmas  # the first sigma, and so nothing to stretch
        return np.asarray(1 - (1 - sigmas) * (1 - terminal) / (1 - sigmas[-1]))


ADDED, MIXED = Added(), Mixed()


def _falling(sigma: Floats, following: Floats) -> Floats:
    """σ'/σ of steps that go down; 1 of those that go up, which add no noise."""
    return np.minimum(following / sigma, 1)


def shifted(sigmas: Floats, shift: float | Floats) -> Floats:
    """The noise levels of a flow moved towards noise, s·σ / (1 + (s-1)·σ); 0 and 1 stay where they are."""
    return shift * sigmas / (1 + (shift - 1) * sigmas)
