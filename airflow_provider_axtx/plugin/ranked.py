"""How each experiment stands, computed once for each change: a list must not read every observation at each refresh."""

from __future__ import annotations

import json
import logging
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from airflow_provider_axtx.core.errors import SchemaVersionError, StoreUnavailableError
from airflow_provider_axtx.spec.experiment import ExperimentSpec
from airflow_provider_axtx.spec.ranking import Goal, Standing, goals, standing
from airflow_provider_axtx.store.views import ExperimentLine, ExperimentViews

log = logging.getLogger(__name__)

#: Shown in place of what cannot be shown.
UNREADABLE = "The definition of this experiment cannot be read here. The log of the API server says why."
_KEPT = 500


@dataclass(frozen=True)
class Ranked:
    """An experiment's definition, and how it stands.

    :param spec: the definition; None when it cannot be read.
    :param goals: its objectives.
    :param best_value: value of the best trial, or None.
    :param problem: why there is no more to show, or None.
    """

    spec: ExperimentSpec | None
    goals: tuple[Goal, ...]
    standing: Standing
    best_value: float | None
    problem: str | None = None


class RankedExperiments:
    """Caches ``Ranked`` until the experiment changes; requests are answered in several threads."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[Any, ...], Ranked] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, store: ExperimentViews, line: ExperimentLine) -> Ranked:
        """Return how an experiment stands."""
        key = (line.uid, line.summary.last_activity_at, tuple(line.summary.trial_counts.items()))
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        ranked = _rank(store, line)
        with self._lock:
            self._kept[key] = ranked
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return ranked


def _rank(store: ExperimentViews, line: ExperimentLine) -> Ranked:
    try:
        spec = ExperimentSpec.from_store(json.loads(line.definition))
        wanted = tuple(goals(spec))
        found = standing(spec, store.completed(line.summary.name))
        return Ranked(spec, wanted, found, found.best_value)
    except (StoreUnavailableError, SchemaVersionError):
        raise
    except Exception:
        # A newer version may have written a definition that this one cannot read. The other experiments are shown.
        log.exception("The experiment %r cannot be shown.", line.summary.name)
        return Ranked(None, (), Standing(None, (), (), ()), None, UNREADABLE)
