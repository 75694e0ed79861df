"""What a `Server` counts."""

from dataclasses import dataclass


@dataclass
class Counters:
    """Counts since a server was made.

    Attributes:
        done: Requests whose futures have a sample.
        failed: Requests whose futures have an error, including those whose deadline passed.
        cancelled: Requests whose futures were cancelled.
        begun: Requests that had their first stage.
        waited: How many seconds these waited for it, added up. The wait starts when the server takes the request.
        longest_wait: The longest of these waits, in seconds.
    """

    done: int = 0
    failed: int = 0
    cancelled: int = 0
    begun: int = 0
    waited: float = 0.0
    longest_wait: float = 0.0

    def ended(self, cancelled: bool, failed: bool) -> None:
        """Count a request that is done."""
        if cancelled:
            self.cancelled += 1
        elif failed:
            self.failed += 1
        else:
            self.done += 1

    def began(self, seconds: float) -> None:
        """Count a request that has its first stage after so many seconds."""
        self.begun += 1
        self.waited += seconds
        self.longest_wait = max(self.longest_wait, seconds)

    def waiting_seconds(self) -> dict[str, float]:
        """The mean and the largest wait, in seconds; 0 if no request has begun."""
        return {
            "waiting_seconds_mean": self.waited / max(self.begun, 1),
            "waiting_seconds_largest": self.longest_wait,
        }
