"""Which checkpoints stay: those of trials that may run again, and of the best ones."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_axtx.core.completed import completed_trials
from airflow_provider_axtx.core.errors import AxtxError
from airflow_provider_axtx.core.failpoints import crash_point
from airflow_provider_axtx.core.keys import checkpoint_dir_for
from airflow_provider_axtx.launcher import tracker
from airflow_provider_axtx.spec.experiment import ExperimentSpec
from airflow_provider_axtx.spec.halving import promoting
from airflow_provider_axtx.spec.ranking import standing

if TYPE_CHECKING:
    from airflow_provider_axtx.core.checkpoints import Keep
    from airflow_provider_axtx.core.records import AttemptRecord
    from airflow_provider_axtx.store.experiments import ExperimentStore

log = logging.getLogger(__name__)

#: Trials with these statuses never run again, so that no attempt of theirs will look for a checkpoint.
_NEVER_AGAIN = ("COMPLETED", "EARLY_STOPPED")


def prune_checkpoints(store: ExperimentStore, experiment: str, keep: Keep, *, is_over: bool = False) -> list[int]:
    """Remove the checkpoints that are not kept. What cannot be removed now is removed by the next call.

    Those of a FAILED or ABANDONED trial stay until the experiment is removed: a Clear, or a user, may run it again.
    Those of a paused trial stay until the experiment has ended: it may be promoted.

    :param keep: ``best`` keeps those of the best trial, or of the trials on the Pareto frontier; ``none`` keeps none.
    :param is_over: whether the experiment has ended.
    :return: indexes of the trials whose checkpoints were removed.
    """
    if keep == "all":
        return []
    facts = store.snapshot(experiment)
    spec = ExperimentSpec.from_store(facts.spec)
    kept: Sequence[int] = ()
    if keep == "best":
        kept = standing(spec, completed_trials(facts.trials, facts.observations)).best_trials
    never_again = _NEVER_AGAIN if promoting(spec) is None or is_over else ("COMPLETED",)
    gone = {trial.index for trial in facts.trials if trial.status in never_again and trial.index not in kept}
    removed = [
        attempt
        for attempt in store.attempts(experiment)
        if attempt.trial_index in gone and attempt.may_have_checkpoint and _remove(attempt)
    ]
    crash_point("checkpoints.after_removed")
    if removed:
        store.note_checkpoints_removed(experiment, [attempt.submission_key for attempt in removed])
    return sorted({attempt.trial_index for attempt in removed})


def with_checkpoints(
    store: ExperimentStore, experiment: str, trials: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return trials with ``checkpoint_dir``: where their checkpoints are, or None when they have none.

    :param trials: JSON objects with ``trial_index``, such as ``optimizer.best`` returns.
    """
    return [{**trial, "checkpoint_dir": _checkpoint_of(store, experiment, trial["trial_index"])} for trial in trials]


def _checkpoint_of(store: ExperimentStore, experiment: str, trial_index: int) -> str | None:
    last = store.latest_attempt(experiment, trial_index)
    if last is None or not last.may_have_checkpoint:
        return None
    try:
        found = tracker.has_checkpoint(last.tracker_base, last.submission_key)
    except AxtxError as error:
        # The task that needs it may run where the folder can be reached.
        log.warning("It is not known whether trial %s has checkpoints: %s", trial_index, error)
        found = True
    return checkpoint_dir_for(last.tracker_base, last.submission_key) if found else None


def _remove(attempt: AttemptRecord) -> bool:
    try:
        tracker.remove_checkpoint(
            attempt.tracker_base, attempt.submission_key, root_must_exist=attempt.tracker_may_be_elsewhere
        )
    except AxtxError as error:
        log.warning("The checkpoints of %s are left: %s", attempt, error)
        return False
    return True
