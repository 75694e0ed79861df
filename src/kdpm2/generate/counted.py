"""What a run counts of its calls."""

from dataclasses import dataclass


@dataclass
class Calls:
    """Calls of the network, or of the pipeline where it is called as a whole.

    Attributes:
        made: How many.
        rows: The sum of how many rows each was for.
        places: The sum of how many rows each had room for.
    """

    made: int = 0
    rows: int = 0
    places: int = 0

    def add(self, made: int, rows: int, places: int) -> None:
        """Count calls."""
        self.made, self.rows, self.places = self.made + made, self.rows + rows, self.places + places
