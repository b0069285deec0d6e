"""How each experiment stands, computed once for each change.

A list must not read every observation at each refresh, and a refresh only what has changed since the last one.
"""

from __future__ import annotations

import json
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from airflow_provider_axtx.core.completed import CompletedTrial
from airflow_provider_axtx.core.errors import SchemaVersionError, StoreUnavailableError
from airflow_provider_axtx.spec.experiment import ExperimentSpec
from airflow_provider_axtx.spec.ranking import Goal, Standing, goals, standing
from airflow_provider_axtx.store.views import OVERLAP_SECONDS, ExperimentLine, ExperimentViews

log = logging.getLogger(__name__)

#: Shown in place of what cannot be shown.
UNREADABLE = "The definition of this experiment cannot be read here. The log of the API server says why."
_KEPT = 500
#: The standing of an experiment of which nothing is known.
NOTHING = Standing(None, (), (), ())
T = TypeVar("T")
K = TypeVar("K")
#: Experiments whose completed trials are kept, to read only the new ones: some megabytes for 10,000 trials.
_KEPT_TRIALS = 20


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


@dataclass(frozen=True)
class _Read:
    """The completed trials of an experiment as they were last read.

    :param cursor: read again from here on.
    """

    cursor: float
    trials: dict[int, CompletedTrial]


class RankedExperiments:
    """Caches ``Ranked`` until the experiment changes; requests are answered in several threads."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[Any, ...], Ranked] = OrderedDict()
        self._read: OrderedDict[str, _Read] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, store: ExperimentViews, line: ExperimentLine) -> Ranked:
        """Return how an experiment stands."""
        ranked = self.known(line)
        if ranked is None:
            ranked = _shown(line, lambda spec: standing(spec, self.completed(store, line)))
            with self._lock:
                _keep(self._kept, _key(line), ranked, _KEPT)
        return ranked

    def known(self, line: ExperimentLine) -> Ranked | None:
        """Return how an experiment stands, or None when that has to be computed."""
        key = _key(line)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def completed(self, store: ExperimentViews, line: ExperimentLine) -> list[CompletedTrial]:
        """Return the completed trials, of which only those are read that have changed since the last call."""
        name = line.summary.name
        with self._lock:
            known = self._read.get(line.uid)
        found = {one.index: one for one in store.completed(name, None if known is None else known.cursor)}
        if known is not None and _baseline(found) == _baseline(known.trials):
            found = dict(sorted({**known.trials, **found}.items()))
        elif known is not None:
            # Trials that were read before may have the baseline's parameterization.
            found = {one.index: one for one in store.completed(name)}
        with self._lock:
            _keep(self._read, line.uid, _Read(line.summary.last_activity_at - OVERLAP_SECONDS, found), _KEPT_TRIALS)
        return list(found.values())


def unranked(line: ExperimentLine) -> Ranked:
    """Return an experiment's definition without how it stands."""
    return _shown(line, lambda spec: NOTHING)


def _keep(kept: OrderedDict[K, T], key: K, value: T, most: int) -> None:
    kept[key] = value
    kept.move_to_end(key)
    while len(kept) > most:
        kept.popitem(last=False)


def _key(line: ExperimentLine) -> tuple[Any, ...]:
    return (line.uid, line.definition, line.summary.last_activity_at, tuple(line.summary.trial_counts.items()))


def _baseline(trials: dict[int, CompletedTrial]) -> set[str]:
    return {one.arm_name for one in trials.values() if one.is_baseline}


def _shown(line: ExperimentLine, judged: Callable[[ExperimentSpec], Standing]) -> Ranked:
    try:
        spec = ExperimentSpec.from_store(json.loads(line.definition))
        found = judged(spec)
        return Ranked(spec, tuple(goals(spec)), found, found.best_value)
    except (StoreUnavailableError, SchemaVersionError):
        raise
    except Exception:
        # A newer version may have written a definition that this one cannot read. The other experiments are shown.
        log.exception("The experiment %r cannot be shown.", line.summary.name)
        return Ranked(None, (), NOTHING, None, UNREADABLE)
