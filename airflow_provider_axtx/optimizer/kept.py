"""Keeps the client that made the last proposal of this process, so that the next one need not rebuild it.

It is used only if the next snapshot is what the client holds, apart from trials that have ended since and what was
observed of them. Anything else (trials of another process, another definition, an outcome that was overwritten) is
found by comparing the two snapshots, and the client is rebuilt.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from airflow_provider_axtx.core.records import ExperimentSnapshot, Observation, TrialRecord
from airflow_provider_axtx.core.status import is_terminal_trial_status
from airflow_provider_axtx.optimizer.ax_logging import quiet_import
from airflow_provider_axtx.spec.experiment import ExperimentSpec
from airflow_provider_axtx.spec.generation import check_factory

with quiet_import():
    from airflow_provider_axtx.optimizer.rebuild import Rebuilt, catch_up, rebuild, with_uniform_errors


@dataclass(frozen=True)
class _Since:
    """What has happened since a client was kept: which trials have ended, and what was observed.

    :param observations: all those of each trial of which any is new.
    """

    trials: list[TrialRecord]
    observations: list[Observation]


#: At most one client with the snapshot that it holds. It is taken out while it is in use: two threads never share it.
_kept: list[tuple[Rebuilt, ExperimentSnapshot]] = []


def client_for(snapshot: ExperimentSnapshot, allowed_factories: Sequence[str] | None) -> Rebuilt:
    """Return a client that holds the snapshot, as ``rebuild``: the one that was kept, if it is that client.

    :param allowed_factories: see ``rebuild``.
    :raises InvalidInputError: see ``rebuild``.
    """
    try:
        kept, held = _kept.pop()
    except IndexError:
        return rebuild(snapshot, allowed_factories=allowed_factories)
    since = _since(kept.spec, held, snapshot)
    if since is None:
        return rebuild(snapshot, allowed_factories=allowed_factories)
    check_factory(kept.spec.generation.factory, allowed_factories)
    catch_up(kept, since.trials, since.observations)
    return kept


def keep(rebuilt: Rebuilt, snapshot: ExperimentSnapshot) -> None:
    """Keep a client for the next proposal.

    :param snapshot: what it holds, its own proposals included.
    """
    _kept[:] = [(rebuilt, snapshot)]


def _since(spec: ExperimentSpec, held: ExperimentSnapshot, now: ExperimentSnapshot) -> _Since | None:
    """Return what has happened between two snapshots, or None when a kept client cannot catch up with it."""
    if _definition(held) != _definition(now) or len(held.trials) != len(now.trials):
        return None
    if now.generator_state not in (held.generator_state, json.loads(json.dumps(held.generator_state))):
        return None
    ended = []
    for old, new in zip(held.trials, now.trials, strict=True):
        if not _is_same_trial(old, new):
            return None
        if is_terminal_trial_status(old.status):
            if new.status != old.status:
                return None
        elif is_terminal_trial_status(new.status):
            ended.append(new)
    # A metric of which some observations have no standard error has none: the client holds another one then.
    seen = with_uniform_errors(spec, now.observations)
    known, present = set(with_uniform_errors(spec, held.observations)), set(seen)
    touched = {one.trial_index for one in present - known}
    if known - present or any(is_terminal_trial_status(held.trials[index].status) for index in touched):
        return None
    return _Since(ended, [one for one in seen if one.trial_index in touched])


def _definition(snapshot: ExperimentSnapshot) -> ExperimentSnapshot:
    """Return all of a snapshot that is not about single trials."""
    return replace(snapshot, trials=(), observations=(), generator_state=None, version=0)


def _is_same_trial(old: TrialRecord, new: TrialRecord) -> bool:
    return old is new or (
        (old.index, old.arm_name, old.parameters, old.origin, old.generation_node, old.generation)
        == (new.index, new.arm_name, new.parameters, new.origin, new.generation_node, new.generation)
    )
