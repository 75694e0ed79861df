"""What is known of the built-in models without loading one."""

import json
from pathlib import Path
from typing import Any, NamedTuple

_WEIGHTS = Path(__file__).parent / "weights"


class BuiltIn(NamedTuple):
    """A model that comes with the package.

    Attributes:
        name: That of the function of `kdpm2.zoo` which loads it.
        folder: Where its weights and configurations are.
        kinds: Its labels in their order, as words or numbers.
        first: Of these, some to begin with.
        sheet: How many pictures of it make a sheet.
        together: How many are drawn in one batch.
        guidance_scale: With which its pictures are drawn if nothing else is said.
    """

    name: str
    folder: Path
    kinds: tuple[str, ...]
    first: tuple[str, ...]
    sheet: int
    together: int
    guidance_scale: float = 1.0

    @property
    def scheduler_config(self) -> dict[str, Any]:
        """The configuration of its scheduler."""
        held: dict[str, Any] = json.loads((self.folder / "scheduler" / "scheduler_config.json").read_text())
        return held


DIGITS = BuiltIn("digits", _WEIGHTS, tuple("0123456789"), tuple("01234567"), sheet=100, together=200)
EMOJI = BuiltIn(
    "emoji",
    _WEIGHTS / "emoji",
    (
        "face",
        "person",
        "animal",
        "plant",
        "fruit",
        "food",
        "vehicle",
        "building",
        "sky",
        "clothes",
        "heart",
        "flag",
    ),
    ("face", "person", "plant", "vehicle", "building", "sky", "heart", "flag"),
    sheet=60,
    together=60,
    guidance_scale=2.0,
)
BUILT_IN = {each.name: each for each in (EMOJI, DIGITS)}
DEFAULT = EMOJI
"""What commands draw with if no model is named."""
