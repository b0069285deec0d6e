"""How long a scheduler or a tracker that does not answer is asked again: one policy for tasks, triggers and loops."""

from __future__ import annotations

from dataclasses import dataclass

#: Calls in a row that were not answered, after which the waiting task is told. A failure is never a final state of an
#: app.
MAX_FAILURES = 20
#: The longest pause between two calls, in seconds, unless the interval itself is longer.
MAX_PAUSE = 300.0


@dataclass
class Patience:
    """Counts calls in a row that were not answered.

    :param interval: seconds between two calls while they are answered.
    :param failures: number of calls in a row that were not answered; a process may go on with the count of another.
    """

    interval: float
    failures: int = 0

    def note_failure(self) -> None:
        """Count a call that was not answered."""
        self.failures += 1

    def note_answer(self) -> None:
        """Begin to count anew."""
        self.failures = 0

    @property
    def is_exhausted(self) -> bool:
        """Whether so many calls were not answered that the waiting task must be told."""
        return self.failures >= MAX_FAILURES

    @property
    def pause(self) -> float:
        """Seconds until the next call: ``interval``, doubled with each failure up to ``MAX_PAUSE``."""
        return min(self.interval * 2.0 ** min(self.failures, 10), max(self.interval, MAX_PAUSE))
