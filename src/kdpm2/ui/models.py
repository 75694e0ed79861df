"""The models that the page offers: the built-in ones, and those that the command names."""

from collections.abc import Mapping, Sequence
from typing import Any

from kdpm2.cli.loading import Model, built_in, describe
from kdpm2.cli.options import Refusal
from kdpm2.cli.plan import Plan, planned
from kdpm2.ui.settings import Settings, WrongSettingError, in_words, settings
from kdpm2.zoo.built_in import BUILT_IN


class Models:
    """What a window may draw with. A name that is not among them is never looked for.

    Args:
        pipelines: Folders or hub ids; each is described at once, which ends the command for one that cannot be loaded.
    """

    def __init__(self, pipelines: Sequence[str]) -> None:
        self._models = {name: built_in(which) for name, which in BUILT_IN.items()}
        self._models |= {name: describe("--pipeline", name) for name in pipelines}

    @property
    def names(self) -> list[str]:
        """As the page offers them."""
        return list(self._models)

    def named(self, name: str) -> Model:
        """A model; a `WrongSettingError` for one that is not offered."""
        model = self._models.get(name)
        if model is None:
            raise WrongSettingError(f"{name} is not among the models of this page: start kdpm2 ui --pipeline {name}")
        return model

    def settings(self, said: Mapping[str, Any]) -> Settings:
        """What the values of the page's settings ask for; a `WrongSettingError` for what the command does not take."""
        return settings(said, self.named(said["pipeline"]))

    def plan(self, said: Mapping[str, Any]) -> Plan:
        """The plan of the page's settings; a `WrongSettingError` for what cannot be drawn."""
        asked, number = self.settings(said)
        try:
            return planned(asked, number, lambda option, name: self.named(name))
        except Refusal as error:
            raise in_words(error) from error
