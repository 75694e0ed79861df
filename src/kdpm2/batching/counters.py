"""What a `Server` counts."""

from dataclasses import dataclass


@dataclass
class Counters:
    """Counts since a server was made.

    Attributes:
        done: Requests whose futures have a sample.
        failed: Requests whose futures have an error; those whose deadline passed are among them.
        cancelled: Requests whose futures were cancelled.
        begun: Requests that had their first stage.
        waited: How long those waited for it from when they were taken, in seconds, all together.
        longest_wait: How long one of them waited at most.
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
        """The mean and the largest wait, 0 where none has begun."""
        return {
            "waiting_seconds_mean": self.waited / max(self.begun, 1),
            "waiting_seconds_largest": self.longest_wait,
        }
