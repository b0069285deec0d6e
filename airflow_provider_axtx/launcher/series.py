"""The values of one metric as they are read: the final one, and the curve. However many there are, it stays small."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from airflow_provider_axtx.launcher.tracker import MAX_STEPS


@dataclass
class Series:
    """The values of one metric.

    :param take: which value is the final one, as in ``MetricSource``.
    """

    take: str | float = "last"
    count: int = 0
    #: A curve of at most ``MAX_STEPS`` steps; of several values at one step the last one counts.
    curve: dict[float, float] = field(default_factory=dict)
    _value: float | None = None

    def add(self, value: float, step: float | None = None) -> None:
        """Add the next value; a step that is not a finite number counts as none."""
        self.count += 1
        if step is not None and math.isfinite(step):
            if step in self.curve or len(self.curve) < MAX_STEPS:
                self.curve[step] = value
        else:
            step = None
        if self._replaces(value, step):
            self._value = value

    def final(self) -> float | None:
        """Return the value that counts, or None when there is none."""
        return self._value

    def _replaces(self, value: float, step: float | None) -> bool:
        if not isinstance(self.take, str):
            return step == self.take
        if self.take == "last" or self._value is None or math.isnan(self._value):
            return True
        return value > self._value if self.take == "max" else value < self._value
