"""Ending what nobody waits for: apps that still run, trials that were never settled."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_axtx.core.app_observation import AppObservation, LostAppPolicy
from airflow_provider_axtx.core.errors import AxtxError, SchedulerUnavailableError
from airflow_provider_axtx.core.keys import dag_run_key
from airflow_provider_axtx.core.records import AttemptRecord, OpenTrial
from airflow_provider_axtx.core.status import is_terminal_trial_status
from airflow_provider_axtx.lifecycle.attempts import adopt, await_cancelled, cancel_attempt, poll_attempt
from airflow_provider_axtx.lifecycle.complete import complete_trial, finalize

if TYPE_CHECKING:
    from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher
    from airflow_provider_axtx.store.experiments import ExperimentStore

log = logging.getLogger(__name__)

#: Gives the engine through which a run was submitted.
LauncherFor = Callable[[AttemptRecord], "TorchXLauncher"]


@dataclass(frozen=True)
class TaskScope:
    """The tasks of a DAG run whose trials and attempts one reap may end. Without any field set it is all of them.

    :param task_ids: ids of these tasks.
    :param prefix: every task whose id starts with it, for example ``"tune."`` for the tasks of the group ``tune``.
    :param map_index: only this mapped instance of the tasks; None is every instance.
    """

    task_ids: frozenset[str] | None = None
    prefix: str | None = None
    map_index: int | None = None

    def contains(self, task_id: str, map_index: int) -> bool:
        """Return whether what a task instance submitted or generated belongs to this scope."""
        if self.map_index is not None and map_index != self.map_index:
            return False
        if self.task_ids is None and self.prefix is None:
            return True
        has_prefix = self.prefix is not None and task_id.startswith(self.prefix)
        return has_prefix or task_id in (self.task_ids or ())


@dataclass(frozen=True)
class Orphan:
    """A trial that nobody will settle any more, or an app that nobody waits for.

    :param run: its last attempt, or the attempt whose app may still run; None when it was never submitted.
    """

    experiment: str
    trial_index: int
    attempt: AttemptRecord | None


@dataclass(frozen=True)
class Reaped:
    """What became of an orphan; ``trial_status`` is terminal."""

    experiment: str
    trial_index: int
    trial_status: str
    message: str


def orphans_of(store: ExperimentStore, dag_id: str, run_id: str) -> list[Orphan]:
    """Return what a DAG run leaves behind: its trials that are open, and its apps whose end is not recorded."""
    open_trials = store.open_trials(dag_run=dag_run_key(dag_id, run_id))
    return _orphans(store, open_trials, store.open_attempts(dag_id=dag_id, run_id=run_id))


def orphans_without_dag_run(
    store: ExperimentStore, active: Collection[tuple[str, str]], experiment: str | None = None
) -> list[Orphan]:
    """Return what DAG runs have left behind that are not active any more.

    :param active: (dag_id, run_id) of every DAG run that is queued or running.
    :param experiment: only this experiment's.
    """
    active_keys = {dag_run_key(*identity) for identity in active}
    attempts = [
        attempt
        for attempt in store.open_attempts(experiment=experiment)
        if attempt.identity.dag_id and (attempt.identity.dag_id, attempt.identity.run_id) not in active
    ]
    trials = [trial for trial in store.open_trials(experiment=experiment) if trial.dag_run not in active_keys]
    found = _orphans(store, trials, attempts)
    # A trial of an ended DAG run may have been submitted by one that goes on.
    return [
        o for o in found if o.attempt is None or (o.attempt.identity.dag_id, o.attempt.identity.run_id) not in active
    ]


def _orphans(store: ExperimentStore, trials: list[OpenTrial], attempts: list[AttemptRecord]) -> list[Orphan]:
    found = {
        (attempt.experiment, attempt.trial_index): Orphan(attempt.experiment, attempt.trial_index, attempt)
        for attempt in attempts
    }
    for trial in trials:
        key = (trial.experiment, trial.trial_index)
        if key not in found:
            found[key] = Orphan(*key, store.latest_attempt(*key))
    return [found[key] for key in sorted(found)]


def reap(
    store: ExperimentStore,
    launcher_for: LauncherFor,
    orphans: list[Orphan],
    reason: str,
    *,
    policy: LostAppPolicy | None = None,
) -> list[Reaped]:
    """End every orphan. One whose app has succeeded is completed with its results; any other app is cancelled.

    :param reason: recorded for what is abandoned.
    :return: what became of them, in their order.
    :raises SchedulerUnavailableError: after all were tried, when some could not be ended; calling again is safe.
    """
    reaped, stuck = [], []
    for orphan in orphans:
        try:
            reaped.append(_reap_one(store, launcher_for, orphan, reason, policy or LostAppPolicy()))
        except AxtxError as error:
            # Whatever it is (a scheduler, a tracker that is away, a connection that was removed): the others are ended.
            log.error("Trial %s of %r could not be ended: %s", orphan.trial_index, orphan.experiment, error)
            stuck.append(f"{orphan.experiment}/{orphan.trial_index}")
    if stuck:
        raise SchedulerUnavailableError(
            f"{len(stuck)} of {len(orphans)} trials could not be ended: {', '.join(stuck)}.",
            fix="look at the errors above, then clear this task or run 'airflow ax reap'.",
        )
    return reaped


def _reap_one(
    store: ExperimentStore, launcher_for: LauncherFor, orphan: Orphan, reason: str, policy: LostAppPolicy
) -> Reaped:
    if orphan.attempt is None:
        store.complete(orphan.experiment, orphan.trial_index, status="ABANDONED", reason=reason)
        return Reaped(orphan.experiment, orphan.trial_index, "ABANDONED", reason)
    launcher = launcher_for(orphan.attempt)
    attempt = adopt(store, launcher, orphan.attempt)
    observed = poll_attempt(store, launcher, attempt, policy)
    if not observed.is_terminal:
        attempt = await_cancelled(store, launcher, cancel_attempt(store, launcher, attempt, reason))
        observed = AppObservation("CANCELLED", attempt.message or reason)
    outcome = finalize(store, attempt, observed)
    if outcome.trial_status == "COMPLETED" and not is_terminal_trial_status(
        store.trial(attempt.experiment, attempt.trial_index).status
    ):
        completed = complete_trial(store, outcome)
        return Reaped(attempt.experiment, attempt.trial_index, completed["trial_status"], completed["message"])
    return Reaped(attempt.experiment, attempt.trial_index, outcome.trial_status, outcome.message)
