"""How a scheduler is made from a configuration, and how its options are read from one.

The options of a run are those that `config` holds when `set_timesteps` is called. It does not matter how they came
there. Edits are saved with the rest.
"""

import inspect
import os
from collections.abc import Mapping
from functools import cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from diffusers import KDPM2AncestralDiscreteScheduler as Reference
from diffusers.configuration_utils import ConfigMixin
from diffusers.utils import logging

from kdpm2 import _check
from kdpm2.schedulers import _options
from kdpm2.schedulers._translate import translated

if TYPE_CHECKING:
    from typing_extensions import Self

logger = logging.get_logger(f"diffusers.{__name__}")  # heeds what users have told diffusers about its warnings

_OPTIONS_OF_DIFFUSERS = frozenset(inspect.signature(Reference.__init__).parameters)


@cache
def defaults_of(cls: type) -> dict[str, Any]:
    """The options of a class, with their defaults."""
    parameters = inspect.signature(cls.__init__).parameters  # type: ignore[misc]
    return {name: parameter.default for name, parameter in parameters.items() if name != "self"}


class Configured(ConfigMixin):
    """How a scheduler handles its configuration."""

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any] | None = None, return_unused_kwargs: bool = False, **kwargs: Any
    ) -> "Self | tuple[Self, dict[str, Any]]":
        """A scheduler from the configuration of this one or of another.

        The configurations of diffusers' schedulers for models with betas, flow models and EDM models are translated. If
        something that changes pictures is left out, a warning names it.

        Args:
            config: A scheduler's `config`, or what its JSON file holds.
            return_unused_kwargs: Whether to return a pair: the scheduler, and the keywords that were not used.
            kwargs: Options that replace those of the configuration. Unknown ones are ignored with a warning.

        Raises:
            TypeError: If an option has the wrong type.
            ValueError: If an option is out of range, or contradicts another, or the configuration is for models that
                these samplers cannot serve.
        """
        words: Any = config
        if config is not None and not isinstance(config, (Mapping, str, os.PathLike)):
            raise TypeError(f"config must be a mapping of a scheduler's options, got {_check.shown(config)}")
        known = cls._own_options()
        if isinstance(config, Mapping):
            asked = {name: value for name, value in kwargs.items() if name in known or name == "shift"}
            words, warnings = translated(config, cls, asked)
            for warning in warnings:
                logger.warning("%s", warning)
            kwargs.pop("shift", None)  # an option of ours by another name, which the words have now
        unknown = sorted(kwargs.keys() - known)
        if unknown and not return_unused_kwargs:
            meant = "".join(_check.meant(name, known - {"self"}) for name in unknown)
            logger.warning("%s has no option %s: ignored%s", cls.__name__, ", ".join(unknown), meant)
        scheduler: Self | tuple[Self, dict[str, Any]] = super().from_config(words, return_unused_kwargs, **kwargs)
        return scheduler

    @classmethod
    def load_config(cls, *args: Any, **kwargs: Any) -> Any:
        """The content of a configuration file. The arguments are those of diffusers.

        Raises:
            OSError: If there is no such file, or it is no JSON.
            ValueError: If it is JSON that Python cannot read, or holds anything but options.
        """
        try:
            loaded = super().load_config(*args, **kwargs)
        except RecursionError:
            raise ValueError(
                f"{cls.config_name} must be JSON of options and their values, got one nested too deeply"
            ) from None
        except ValueError as error:
            if "integer string conversion" not in str(error):
                raise
            raise ValueError(
                f"{cls.config_name} must hold numbers that Python can read, got an integer of too many digits"
            ) from None
        config = loaded[0] if isinstance(loaded, tuple) else loaded
        if not isinstance(config, Mapping):
            raise ValueError(f"{cls.config_name} must hold a mapping of options, got {_check.shown(config)}")
        return loaded

    @classmethod
    def _own_options(cls) -> set[str]:
        return set(inspect.signature(cls.__init__).parameters)

    @classmethod
    def _defaults(cls) -> dict[str, Any]:
        """The options, with their defaults, of the kdpm2 class that this one is or derives from."""
        raise NotImplementedError

    def register_to_config(self, **kwargs: Any) -> None:
        """Set options in the configuration; they count from the next `set_timesteps` on.

        A subclass may have an option of the same name with another meaning. If its constructor does not pass this
        option on, it keeps the subclass's value, and this class does not read it.
        """
        left = kwargs.get("_use_default_values")
        held = self.__dict__.get("_internal_dict")
        if left is None and held is not None and "_use_default_values" in held:  # what is set now is no default
            kwargs["_use_default_values"] = [name for name in held["_use_default_values"] if name not in kwargs]
        if left is not None and held is not None and "_of_subclass" not in self.__dict__:
            self._of_subclass = {
                name: kwargs.pop(name)
                for name in left
                if name in held and name not in _OPTIONS_OF_DIFFUSERS and held[name] != kwargs[name]
            }
            own = [name for name in held.get("_use_default_values", []) if name in self._of_subclass]
            kwargs["_use_default_values"] = [name for name in left if name not in self._of_subclass] + own
        super().register_to_config(**kwargs)

    def to_json_string(self) -> str:
        """The configuration as it is now, as JSON."""
        self._note_edits()
        numbers = _options.plain(self.config)
        if numbers:
            self.register_to_config(**numbers)
        text: str = super().to_json_string()
        return text

    def _note_edits(self) -> None:
        """Copy edits of the configuration's attributes into its items, which are saved and passed on."""
        config = self.config
        attributes = vars(config)
        changed = {
            name: attributes[name]
            for name, value in config.items()
            if name[0] != "_" and attributes.get(name, value) is not value
        }
        # diffusers' schedulers of flows have another name for it: of the two, the one that was edited counts.
        noted = self.__dict__.get("_noted_shift")
        if noted is not None:
            both = {name: changed.get(name, config[name]) for name in ("shift", "flow_shift")}
            shift = both["shift"] if both["shift"] != noted else both["flow_shift"]
            if shift != noted:
                changed |= {"shift": shift, "flow_shift": shift}
                self._noted_shift = shift
        if changed:
            self.register_to_config(**changed | _options.plain(changed))

    def _options(self) -> SimpleNamespace:
        """The options of ours as the configuration holds them now."""
        self._note_edits()
        config, other = self.config, self.__dict__.get("_of_subclass", {})
        ends = config.get("_ends_of_curve") or (None, None)
        return SimpleNamespace(
            **{name: config.get(name, default) for name, default in self._defaults().items()} | other,
            ends_of_curve=tuple(ends),
        )
