"""Ending what no task waits for any more: apps that still run, and trials that were never settled."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from airflow_provider_axtx.core.app_observation import AppObservation, LostAppPolicy
from airflow_provider_axtx.core.errors import (
    AppElsewhereError,
    ResultsPendingError,
    SchedulerUnavailableError,
    StoreUnavailableError,
    is_final,
)
from airflow_provider_axtx.core.records import AIRFLOW, AttemptRecord, OpenTrial, TaskIdentity
from airflow_provider_axtx.lifecycle.attempts import (
    CANCEL_SECONDS,
    CLAIM_SECONDS,
    abandon,
    adopt,
    cancel_attempt,
    evaluate,
    poll_attempt,
    recorded_end,
)
from airflow_provider_axtx.lifecycle.complete import conclude, fail_unreadable
from airflow_provider_axtx.lifecycle.last_line import with_last_line
from airflow_provider_axtx.lifecycle.launchers import LauncherFor, cached_launchers
from airflow_provider_axtx.lifecycle.reading import RESULT_PATIENCE_SECONDS, outage_seconds

if TYPE_CHECKING:
    from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher
    from airflow_provider_axtx.store.experiments import ExperimentStore

log = logging.getLogger(__name__)

#: Tells whether the DAG run of a task is queued or running.
IsActive = Callable[[TaskIdentity], bool]


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
    """A trial that no task will settle any more, or an app that no task waits for.

    :param attempt: its last attempt, or the attempt whose app may still run; None when it was never submitted.
    :param owner: the task that submitted the attempt or, without one, asked for the trial.
    :param asked_by: the task that asked for the trial.
    """

    experiment: str
    trial_index: int
    attempt: AttemptRecord | None
    owner: TaskIdentity = field(default_factory=TaskIdentity)
    asked_by: TaskIdentity = field(default_factory=TaskIdentity)

    @property
    def generation(self) -> int | None:
        """That of the owner's DAG run, which only its trial's row tells; None when another one asked for the trial."""
        return self.asked_by.dag_run_generation if self.asked_by.has_dag_run_id_of(self.owner) else None

    def __str__(self) -> str:
        return f"trial {self.trial_index} of {self.experiment!r}"


@dataclass(frozen=True)
class Reaped:
    """What became of an orphan; ``trial_status`` is terminal."""

    experiment: str
    trial_index: int
    trial_status: str
    message: str


def orphans_of(store: ExperimentStore, task: TaskIdentity, scope: TaskScope | None = None) -> list[Orphan]:
    """Return what tasks of a DAG run leave behind: their open trials, and their apps whose end is not recorded.

    :param task: any task of the DAG run.
    :param scope: which tasks; None is all of the DAG run's.
    """
    trials = store.open_trials(dag_run=task.dag_run)
    attempts = store.open_attempts(dag_id=task.dag_id, run_id=task.run_id, installation=task.installation)
    found = [o for o in _orphans(store, trials, attempts) if _is_within(o, scope or TaskScope())]
    # A task that outlives the deletion of its DAG run ends nothing of the one that was created again.
    return [orphan for orphan in found if (orphan.generation or 0) <= task.dag_run_generation]


def _is_within(orphan: Orphan, scope: TaskScope) -> bool:
    # A trial that a row of schema 0001 holds does not say which task asked for it.
    return not orphan.owner.task_id or scope.contains(orphan.owner.task_id, orphan.owner.map_index)


def orphans_without_dag_run(
    store: ExperimentStore,
    active: Collection[tuple[str, str]],
    experiment: str | None = None,
    installation: str | None = None,
) -> list[Orphan]:
    """Return what DAG runs have left behind that are not active any more.

    Attempts and trials that no Airflow task asked for are left alone, and so are those of other installations.

    :param active: (dag_id, run_id) of every DAG run that is queued or running.
    :param experiment: only this experiment's.
    :param installation: identity of this Airflow deployment; None is every deployment.
    """
    attempts = store.open_attempts(experiment=experiment, installation=installation)
    attempts = [one for one in attempts if one.identity.dag_id]
    attempts = [one for one in attempts if (one.identity.dag_id, one.identity.run_id) not in active]
    found = _orphans(store, store.open_trials(experiment=experiment), attempts)
    return [orphan for orphan in found if _is_orphaned(orphan, active, installation)]


def _is_orphaned(orphan: Orphan, active: Collection[tuple[str, str]], installation: str | None) -> bool:
    owner = orphan.owner
    is_ours = installation is None or owner.installation == installation
    return bool(owner.dag_id) and is_ours and (owner.dag_id, owner.run_id) not in active


def settle_ended_dag_runs(
    store: ExperimentStore,
    launcher_for: LauncherFor,
    experiment: str,
    task: TaskIdentity,
    is_active: IsActive,
) -> list[Reaped]:
    """Settle what ended DAG runs of this Airflow have left open in an experiment, before a loop goes on with it.

    Their trials would otherwise always count as in flight, and Ax would wait for them.

    :param task: the task that is about to go on with the experiment.
    :param is_active: tells whether the DAG run of a task is queued or running.
    """
    answers: dict[str, bool] = {}
    found = []
    attempts = store.open_attempts(experiment=experiment, installation=task.installation)
    for orphan in _orphans(store, store.open_trials(experiment=experiment), attempts):
        owner = orphan.owner
        if not owner.dag_id or owner.installation != task.installation:
            continue
        if owner.has_dag_run_id_of(task):
            # A deleted DAG run is over, although one of its id runs. What may be our own is left alone: a retry once
            # cancelled its own live apps, whose rows name no generation.
            is_over = orphan.generation is not None and orphan.generation < task.dag_run_generation
        else:
            if owner.dag_run not in answers:
                answers[owner.dag_run] = is_active(owner)
            is_over = not answers[owner.dag_run]
        if is_over:
            found.append(orphan)
    return reap(store, launcher_for, found, "its DAG run is over and left it open") if found else []


def _orphans(store: ExperimentStore, trials: list[OpenTrial], attempts: list[AttemptRecord]) -> list[Orphan]:
    asked_by = {(trial.experiment, trial.trial_index): trial.requested_by for trial in trials}
    found: dict[tuple[str, int], Orphan] = {}
    for attempt in attempts:
        key = (attempt.experiment, attempt.trial_index)
        found[key] = Orphan(*key, attempt, attempt.identity, asked_by.get(key) or store.requested_by(*key))
    for trial in trials:
        key = (trial.experiment, trial.trial_index)
        if key not in found:
            last = store.latest_attempt(*key)
            # The task that submitted it last waits for it, also when another task asked for the trial.
            owner = trial.requested_by if last is None else last.identity
            found[key] = Orphan(*key, last, owner, trial.requested_by)
    return [found[key] for key in sorted(found)]


@dataclass
class _Reaping:
    """One reap: first every app is cancelled, then all are waited for together."""

    store: ExperimentStore
    launcher_for: LauncherFor
    reason: str
    policy: LostAppPolicy
    is_active: IsActive | None
    reaped: dict[tuple[str, int], Reaped] = field(default_factory=dict)
    stuck: dict[tuple[str, int], str] = field(default_factory=dict)
    #: Other hosts, which alone can observe some of the apps.
    hosts: set[str] = field(default_factory=set)
    #: Apps whose end, or whose results, are waited for.
    waiting: dict[tuple[str, int], tuple[AttemptRecord, AppObservation | None]] = field(default_factory=dict)
    #: When the results of an app could not be read for the first time, on the monotonic clock.
    unreadable_since: dict[tuple[str, int], float] = field(default_factory=dict)

    def begin(self, orphan: Orphan) -> None:
        """Settle what can be settled at once, and cancel the app that still runs."""
        if self.is_active is not None and self.is_active(orphan.owner):
            log.warning("%s is left alone: its DAG run has become active again.", orphan)
            return
        if orphan.attempt is None:
            self.store.complete(orphan.experiment, orphan.trial_index, status="ABANDONED", reason=self.reason)
            self._note(orphan.experiment, orphan.trial_index, "ABANDONED", self.reason)
            return
        if (recorded := recorded_end(orphan.attempt)) is not None:
            self.conclude(orphan.attempt, recorded)
            return
        if orphan.attempt.scheduler == AIRFLOW:
            # Airflow has ended the tasks of its body; no scheduler knows anything about it.
            self.conclude(orphan.attempt, AppObservation("CANCELLED", self.reason))
            return
        launcher = self.launcher_for(orphan.attempt)
        attempt = adopt(self.store, launcher, orphan.attempt)
        observed = poll_attempt(self.store, launcher, attempt, self.policy)
        if observed.is_terminal:
            observed = with_last_line(self.launcher_for, attempt, observed)
            self.conclude(attempt, replace(observed, ended_at=observed.ended_at or time.time()))
            return
        attempt = cancel_attempt(self.store, launcher, attempt, self.reason)
        self.waiting[attempt.experiment, attempt.trial_index] = (attempt, None)

    def note_stuck(self, orphan: Orphan, error: Exception) -> None:
        """Keep why an orphan could not be ended; the others are ended all the same."""
        log.error("%s could not be ended", orphan, exc_info=error)
        self.stuck[orphan.experiment, orphan.trial_index] = f"{type(error).__name__}: {error}"
        if isinstance(error, AppElsewhereError) and orphan.attempt is not None and orphan.attempt.host:
            self.hosts.add(orphan.attempt.host)

    def conclude(self, attempt: AttemptRecord, observed: AppObservation) -> None:
        """Record the end of an app and the results of its trial; results that cannot be read yet are waited for."""
        key = (attempt.experiment, attempt.trial_index)
        try:
            answer = conclude(self.store, attempt, observed)
        except ResultsPendingError:
            self.waiting[key] = (attempt, observed)
            return
        except StoreUnavailableError:
            raise  # it says nothing about the results
        except Exception as error:
            log.warning("The results of %s cannot be read", attempt, exc_info=True)
            since = self.unreadable_since.setdefault(key, time.monotonic())
            if not is_final(error) and time.monotonic() < since + RESULT_PATIENCE_SECONDS + outage_seconds(attempt):
                self.waiting[key] = (attempt, observed)
                return
            answer = fail_unreadable(self.store, attempt, observed, error).to_json()
        self.waiting.pop(key, None)
        self._note(*key, answer["trial_status"], answer["message"])

    def poll(self) -> None:
        """Poll the apps that are waited for, those of one launcher in one batch."""
        batches: dict[int, tuple[TorchXLauncher, list[AttemptRecord]]] = {}
        for attempt, observed in list(self.waiting.values()):
            launcher = self.launcher_for(attempt)
            if observed is not None:
                self.each(attempt, functools.partial(self.conclude, attempt, observed))
            elif attempt.app_handle is not None:
                batches.setdefault(id(launcher), (launcher, []))[1].append(attempt)
            else:
                self.each(attempt, functools.partial(self._find, launcher, attempt))
        for launcher, attempts in batches.values():
            try:
                seen = launcher.observe([str(attempt.app_handle) for attempt in attempts])
            except SchedulerUnavailableError as error:
                log.warning("Polling again: %s", error)
                continue
            for attempt in attempts:
                self.each(attempt, functools.partial(self._judge, attempt, seen[str(attempt.app_handle)]))

    def each(self, attempt: AttemptRecord, action: Callable[[], None]) -> None:
        """Do something about one attempt; what it raises is logged and does not keep the others from their turn."""
        try:
            action()
        except Exception:
            log.exception("%s: trying again", attempt)

    def _judge(self, attempt: AttemptRecord, seen: AppObservation) -> None:
        observed = evaluate(self.store, attempt, seen, self.policy)
        if observed.is_terminal:
            self.conclude(attempt, replace(observed, ended_at=observed.ended_at or time.time()))

    def _find(self, launcher: TorchXLauncher, attempt: AttemptRecord) -> None:
        """Cancel an app whose submission has arrived meanwhile; conclude when none can arrive any more."""
        found = adopt(self.store, launcher, attempt)
        if found.app_handle is not None:
            launcher.cancel(found.app_handle)
            self.waiting[found.experiment, found.trial_index] = (found, None)
        elif launcher.refuses_duplicates or time.time() > attempt.requested_at + CLAIM_SECONDS:
            self.conclude(attempt, AppObservation("CANCELLED", attempt.cancel_reason or self.reason))

    def give_up(self) -> None:
        """Settle the trials of apps that are not gone in time; their attempts stay open for the next reap.

        The trial of an app that has succeeded stays open too when its results could not be read in time.
        """
        for key, (attempt, observed) in self.waiting.items():
            if observed is not None and observed.app_state == "SUCCEEDED":
                self.stuck[key] = f"the results of {attempt.app_handle} cannot be read yet"
                continue
            answer = abandon(self.store, attempt, self.reason)
            self._note(*key, answer["trial_status"], answer["message"])
            self.stuck[key] = f"{attempt.app_handle} is not gone although it was cancelled"

    def _note(self, experiment: str, index: int, status: str, message: str) -> None:
        self.reaped[experiment, index] = Reaped(experiment, index, status, message)


def reap(
    store: ExperimentStore,
    launcher_for: LauncherFor,
    orphans: Iterable[Orphan],
    reason: str,
    *,
    policy: LostAppPolicy | None = None,
    is_active: IsActive | None = None,
    seconds: float = max(CANCEL_SECONDS, CLAIM_SECONDS, RESULT_PATIENCE_SECONDS),
) -> list[Reaped]:
    """End every orphan. One whose app has succeeded is completed with its results; any other app is cancelled.

    All apps are cancelled first and then waited for together. Each orphan is on its own: whatever error one raises, the
    others are ended.

    :param reason: recorded for what is abandoned.
    :param is_active: asked again just before an app is cancelled: a DAG run that is active again keeps its apps.
    :param seconds: how long the end of the cancelled apps is awaited.
    :return: what became of them, in their order.
    :raises SchedulerUnavailableError: after all were tried, when some could not be ended; calling again is safe.
    """
    orphans = list(orphans)
    reaping = _Reaping(store, cached_launchers(launcher_for), reason, policy or LostAppPolicy(), is_active)
    for orphan in orphans:
        try:
            reaping.begin(orphan)
        except Exception as error:  # noqa: BLE001 - kept: the others are to be ended
            reaping.note_stuck(orphan, error)
    deadline, pause = time.monotonic() + seconds, 0.05
    while reaping.waiting and time.monotonic() < deadline:
        time.sleep(pause)
        pause = min(pause * 2, 1.0)
        reaping.poll()
    reaping.give_up()
    if reaping.stuck:
        told = "; ".join(f"{experiment}/{index}: {why}" for (experiment, index), why in sorted(reaping.stuck.items()))
        raise SchedulerUnavailableError(
            f"{len(reaping.stuck)} of {len(orphans)} trials could not be ended: {told}.",
            fix="look at the errors above, then clear this task or run 'airflow ax reap'."
            + "".join(
                f" If the host {host} does not exist any more, run 'airflow ax reap --lost-host {host}'."
                for host in sorted(reaping.hosts)
            ),
        )
    return [reaping.reaped[key] for key in sorted(reaping.reaped)]


def end_task(
    store: ExperimentStore,
    launcher_for: LauncherFor,
    task: TaskIdentity,
    reason: str,
    *,
    seconds: float = CANCEL_SECONDS,
    other_than: str | None = None,
) -> list[Reaped]:
    """End all apps of one task, and settle its trials: the task has ended for good.

    What a later try of the task goes on with is left alone.

    :param reason: recorded for what is abandoned.
    :param other_than: name of an experiment that is left alone, since the task goes on with it.
    :param seconds: how long the end of the cancelled apps is awaited.
    :raises SchedulerUnavailableError: after all were tried, when some could not be ended; calling again is safe.
    """
    scope = TaskScope(task_ids=frozenset({task.task_id}), map_index=task.map_index)
    own = [
        orphan
        for orphan in orphans_of(store, task, scope)
        if orphan.owner.task_id and orphan.owner.try_number <= task.try_number and orphan.experiment != other_than
    ]
    return reap(store, launcher_for, own, reason, seconds=seconds) if own else []
