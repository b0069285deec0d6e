"""Removes ended experiments with all that their trials have left on disk.

Files first, rows last: a process that is killed in between leaves rows, from which the next call finds what is left.
What was removed is recorded with each attempt, so that hosts that hold files of one experiment take turns.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_provider_axtx.core.completed import completed_trials
from airflow_provider_axtx.core.errors import (
    AppElsewhereError,
    AxtxError,
    ExperimentNotFoundError,
    TrackerUnavailableError,
    TrialStateError,
)
from airflow_provider_axtx.core.failpoints import crash_point
from airflow_provider_axtx.core.records import AttemptRecord, TaskIdentity
from airflow_provider_axtx.lifecycle.launchers import LauncherFor, cached_launchers
from airflow_provider_axtx.spec.experiment import ExperimentSpec
from airflow_provider_axtx.spec.ranking import standing

if TYPE_CHECKING:
    from airflow_provider_axtx.store.experiments import ExperimentStore, ExperimentUse

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Retention:
    """What is removed, and what stays.

    :param idle_since: experiments stay that had any activity after this time (seconds since the epoch), unless a user
        has asked for their deletion; None removes them whatever their age.
    :param experiment: only this one; None is all.
    :param keep_best: keep the rows of each experiment, and the files of its best trial, or of those on its Pareto
        frontier. Only the files of the other trials go. What a user has asked to delete goes whole.
    :param installation: identity of this Airflow deployment. What another one has worked on stays.
    :param lost_hosts: names of hosts that do not exist any more: what was on them is gone.
    """

    idle_since: float | None = None
    experiment: str | None = None
    keep_best: bool = False
    installation: str = ""
    lost_hosts: Collection[str] = ()


@dataclass(frozen=True)
class CleanedUp:
    """What became of an experiment.

    :param result: ``removed``, ``files removed`` or ``left``; ``to be removed`` or ``files to be removed`` before.
    :param attempts: number of attempts whose files were removed, or are to be.
    :param reason: why it was left.
    """

    experiment: str
    result: str
    attempts: int = 0
    reason: str = ""


#: Tells whether the DAG run of a task is queued or running.
IsActive = Callable[[TaskIdentity], bool]


def clean_up(
    store: ExperimentStore,
    launcher_for: LauncherFor,
    retention: Retention,
    *,
    is_active: IsActive,
    dry_run: bool = False,
) -> list[CleanedUp]:
    """Remove the experiments that have ended and are idle. Each is on its own: whatever keeps one, the others go.

    An experiment stays, with the reason, while it has an open trial, an attempt without a recorded end or a task whose
    DAG run is active, and when files of it cannot be reached from this machine.

    :param dry_run: remove nothing.
    :return: a line for each experiment that was removed, or would be, or was left for another reason than its age.
    :raises ExperimentNotFoundError: when the experiment that ``retention`` names does not exist.
    """
    cleaning = _Cleaning(store, cached_launchers(launcher_for), retention, is_active, dry_run)
    lines = []
    for name in _candidates(store, retention):
        try:
            line = cleaning.clean(name)
        except ExperimentNotFoundError:  # another process has removed it
            continue
        except AxtxError as error:
            line = CleanedUp(name, "left", reason=str(error))
        except Exception as error:
            # For example a definition that a newer version has written: the other experiments are removed.
            log.exception("%r cannot be removed", name)
            line = CleanedUp(name, "left", reason=f"{type(error).__name__}: {error}")
        if line is not None:
            lines.append(line)
    return lines


def _candidates(store: ExperimentStore, retention: Retention) -> list[str]:
    summaries = store.summaries() if retention.experiment is None else [store.summary(retention.experiment)]
    limit, to_go = retention.idle_since, store.to_be_deleted()
    return [one.name for one in summaries if limit is None or one.last_activity_at <= limit or one.name in to_go]


@dataclass
class _Cleaning:
    store: ExperimentStore
    launcher_for: LauncherFor
    retention: Retention
    is_active: IsActive
    dry_run: bool
    #: By folder or URL of trackers, and whether it has to exist: why it cannot be reached. A dead file system is not
    #: waited for at each attempt.
    unreachable: dict[tuple[str, bool], TrackerUnavailableError] = field(default_factory=dict)

    def clean(self, name: str) -> CleanedUp | None:
        """Remove one experiment, or the files of its trials; None when there is nothing to remove."""
        use = self.store.use(name)
        limit = use.last_activity_at if use.is_to_go else self.retention.idle_since
        keep_best = self.retention.keep_best and not use.is_to_go
        if limit is not None and use.last_activity_at > limit:
            return None
        if (reason := use.open_because or self._used_by(use)) is not None:
            return CleanedUp(name, "left", reason=reason)
        every, kept = self.store.attempts(name), self._best_trials(name) if keep_best else ()
        wanted = [one for one in every if one.has_files and one.trial_index not in kept]
        if keep_best and not wanted:
            return None
        result = "files removed" if keep_best else "removed"
        if self.dry_run:
            return CleanedUp(name, result.replace("removed", "to be removed"), len(wanted))
        removed, left = self._remove_files(wanted)
        self.store.note_files_removed(name, removed)
        crash_point("cleanup.after_files")
        if left:
            return CleanedUp(name, "left", len(removed), _told(left))
        if not keep_best:
            keys = [one.submission_key for one in every]
            self.store.delete(name, use.uid, keys, idle_since=limit)
        return CleanedUp(name, result, len(removed))

    def _used_by(self, use: ExperimentUse) -> str | None:
        """Return which task still uses an experiment that has no open trial at the moment, or None."""
        for task in sorted(use.tasks, key=lambda task: (task.dag_id, task.run_id)):
            if task.installation not in ("", self.retention.installation):
                return "tasks of another Airflow deployment have worked on it"
            if task.dag_id and self.is_active(task):
                return f"the DAG run {task.run_id!r} of DAG {task.dag_id!r}, which has worked on it, is active"
        return None

    def _best_trials(self, name: str) -> Collection[int]:
        """Return the trials whose files stay."""
        facts = self.store.snapshot(name)
        spec = ExperimentSpec.from_store(facts.spec)
        return standing(spec, completed_trials(facts.trials, facts.observations)).best_trials

    def _remove_files(self, attempts: Iterable[AttemptRecord]) -> tuple[list[str], list[str]]:
        """Remove the files of attempts.

        :return: the submission keys of those that have none left, and why others have.
        """
        removed, left = [], []
        for attempt in attempts:
            try:
                self._remove_files_of(attempt)
                removed.append(attempt.submission_key)
            except AxtxError as error:
                log.warning("The files of %s are left: %s", attempt, error)
                left.append(str(error))
        return removed, left

    def _remove_files_of(self, attempt: AttemptRecord) -> None:
        if not self._remove_app(attempt):
            raise TrialStateError(
                f"the app {attempt.app_handle or attempt.submission_key} has not ended",
                fix="cancel it, or wait until it has ended.",
            )
        crash_point("cleanup.after_app")
        self._remove_tracker(attempt)
        crash_point("cleanup.after_tracker")

    def _remove_app(self, attempt: AttemptRecord) -> bool:
        """Remove the folder of an app; return False when the app has not ended."""
        from airflow_provider_axtx.launcher.scheduler_registry import leaves_files

        if not leaves_files(attempt.scheduler):
            return True
        try:
            return self.launcher_for(attempt).remove_files(attempt.submission_key)
        except AppElsewhereError:
            if attempt.host in self.retention.lost_hosts:
                return True
            raise

    def _remove_tracker(self, attempt: AttemptRecord) -> None:
        from airflow_provider_axtx.launcher.tracker import remove_checkpoint, remove_tracker

        must_exist = attempt.tracker_may_be_elsewhere
        root = attempt.tracker_base.rstrip("/").rpartition("/")[0], must_exist
        if root in self.unreachable:
            raise self.unreachable[root]
        try:
            # An app of this host alone had its tracker here; one of a cluster may have it where this host has not.
            for remove in (remove_tracker, remove_checkpoint):
                remove(attempt.tracker_base, attempt.submission_key, root_must_exist=must_exist)
        except TrackerUnavailableError as error:
            # An error of the file system concerns this tracker alone, except the one that tells of no answer.
            if isinstance(error.__cause__, TimeoutError) or not isinstance(error.__cause__, OSError):
                self.unreachable[root] = error
            raise


def _told(reasons: Iterable[str]) -> str:
    """Return why files were left, each reason once."""
    return " ".join(f"{number} attempt(s): {reason}" for reason, number in Counter(reasons).items())
