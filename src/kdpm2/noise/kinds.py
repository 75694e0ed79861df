"""The kinds of noise by name. A name may end in a number, as in ``coloured:1.5``."""

from kdpm2 import _check
from kdpm2.noise.brownian import OnPath
from kdpm2.noise.counted import Philox
from kdpm2.noise.gaussian import Gaussian
from kdpm2.noise.shaped import SHAPED, Shaped, with_parameter
from kdpm2.noise.source import Noise

NOISES: dict[str, type[Noise]] = {"gaussian": Gaussian, "brownian": OnPath, "philox": Philox, **SHAPED}


def kind_named(name: str) -> type[Noise]:
    """The kind of noise of a name.

    Raises:
        TypeError: If `name` is no text.
        ValueError: If there is no such kind, or its number is out of range.
    """
    base, colon, number = name.partition(":") if isinstance(name, str) else (name, "", "")
    kind = NOISES[_check.choice("noise", base, NOISES)]
    if not colon:
        return kind
    if not issubclass(kind, Shaped):
        raise ValueError(f"noise must be {base!r} without a number, got {_check.shown(name)}")
    try:
        parameter = float(number)
    except ValueError:
        raise ValueError(f"noise must end in a number after the colon, got {_check.shown(name)}") from None
    return kind if parameter == kind.parameter else with_parameter(base, parameter)


def name_of(kind: type[Noise]) -> str | None:
    """The name of a kind; None if it has none."""
    if issubclass(kind, Shaped):
        return kind.name if kind is SHAPED[kind.name] else f"{kind.name}:{kind.parameter!r}"
    return next((name for name, each in NOISES.items() if each is kind), None)
