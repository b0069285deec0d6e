"""The part of ``ExperimentStore`` that is about attempts."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from airflow_provider_axtx.core.app_observation import AppObservation
from airflow_provider_axtx.core.records import AttemptRecord, FirstAttempt, TaskIdentity, TrialEnd, TrialRecord
from airflow_provider_axtx.store import _attempt_ends, _attempt_rows, _experiment_rows
from airflow_provider_axtx.store._database import Database
from airflow_provider_axtx.store.tables import runs


class AttemptRecords:
    """The attempts of trials: each the submission of one app."""

    _db: Database

    def begin_attempt(
        self,
        name: str,
        index: int,
        *,
        scheduler: str,
        identity: TaskIdentity,
        tracker_base: str | None = None,
        tracker_root: str | None = None,
        expected_attempt: int | None = None,
        reopen_reason: str | None = None,
        cpus: int = 0,
        gpus: int = 0,
        lookup_options: dict[str, Any] | None = None,
        host: str | None = None,
        is_promoted: bool = False,
    ) -> AttemptRecord:
        """Record that the trial's next attempt is about to be submitted; a CANDIDATE trial becomes STAGED.

        :param tracker_base: where the app reports its results; None makes one of its own under ``tracker_root``.
        :param expected_attempt: number of the last run that the caller has seen, plus 1. Of two processes that race
            for the same attempt one gets the run and the other ``StoreConflictError``. None takes the next number.
        :param reopen_reason: run a FAILED or ABANDONED trial again; the reason is recorded, old observations go.
        :param cpus: cores that the app asks for, with ``gpus`` the base of the resource-hours.
        :param lookup_options: what the scheduler needs to find the app again (a JSON object).
        :param host: the host on which alone the app can be observed; None for a scheduler of a cluster.
        :param is_promoted: an EARLY_STOPPED trial goes on with a larger budget; its observations stay.
        :raises InvalidInputError: without ``tracker_base`` and ``tracker_root``.
        :raises StoreConflictError: when ``expected_attempt`` is not the next one; read the latest run again.
        :raises TrialStateError: when the attempt before has not ended, or the trial is terminal and not reopened.
        """
        new = _attempt_rows.NewAttempt(
            claim=uuid.uuid4().hex,
            scheduler=scheduler,
            tracker_base=tracker_base,
            tracker_root=tracker_root,
            identity=identity,
            expected_attempt=expected_attempt,
            reopen_reason=reopen_reason,
            cpus=cpus,
            gpus=gpus,
            lookup_options=lookup_options,
            host=host,
            is_promoted=is_promoted,
        )
        return self._db.write("begin_attempt", lambda connection: _attempt_rows.begin(connection, name, index, new))

    def begin_first_attempts(
        self,
        name: str,
        first: Sequence[FirstAttempt],
        *,
        scheduler: str,
        identity: TaskIdentity,
        lookup_options: dict[str, Any] | None = None,
        host: str | None = None,
    ) -> list[AttemptRecord]:
        """Record for several CANDIDATE trials that their first attempt is about to be submitted; they become STAGED.

        :return: the attempts in the order of ``first``.
        :raises StoreConflictError: when one of the trials is another process's or has ended; nothing is recorded then.
        """
        common = _attempt_rows.NewAttempt(
            claim=uuid.uuid4().hex,
            scheduler=scheduler,
            tracker_base=None,
            tracker_root=None,
            identity=identity,
            expected_attempt=1,
            reopen_reason=None,
            lookup_options=lookup_options,
            host=host,
        )
        return self._db.write(
            "begin_first_attempts", lambda connection: _attempt_rows.begin_first(connection, name, first, common)
        )

    def record_handles(self, submitted: Sequence[tuple[AttemptRecord, str]]) -> list[AttemptRecord]:
        """Record the app handles of several attempts, each as ``record_handle``.

        :raises TrialStateError: when one of the runs has another handle already; nothing is recorded then.
        """
        return self._db.write("record_handles", lambda connection: _attempt_rows.record_handles(connection, submitted))

    def record_handle(self, attempt: AttemptRecord, app_handle: str) -> AttemptRecord:
        """Record the scheduler's app handle; the trial becomes RUNNING. The same handle again changes nothing.

        When the run was ended meanwhile (its submitter was slow and taken for dead), it is opened again with its
        cancellation requested: look at ``cancel_requested_at`` of the answer.

        :raises TrialStateError: when the run has another handle already.
        """
        return self._db.write(
            "record_handle",
            lambda connection: _attempt_rows.record_handle(connection, attempt.submission_key, app_handle),
        )

    def request_cancel(self, attempt: AttemptRecord, reason: str) -> AttemptRecord:
        """Record that the run is to be cancelled, before it is attempted; the first reason stays.

        Nothing changes when the run has ended.
        """
        return self._db.write(
            "request_cancel",
            lambda connection: _attempt_rows.request_cancel(connection, attempt.submission_key, reason),
        )

    def note_unseen(self, attempt: AttemptRecord, seen: bool) -> int:
        """Count consecutive polls in which the scheduler did not know the app; ``seen`` sets the count to 0.

        :return: the count, this poll included.
        """
        key = attempt.submission_key
        before = self._db.read(lambda connection: _attempt_rows.unseen_polls(connection, key))
        # Fixed before it is written: repeating "add 1" after a lost connection would count one poll twice.
        polls = 0 if seen else before + 1
        if polls == before:
            return polls
        return self._db.write("note_unseen", lambda connection: _attempt_rows.set_unseen_polls(connection, key, polls))

    def finish_attempt(
        self, attempt: AttemptRecord, app_state: str, message: str, *, is_infrastructure_failure: bool = False
    ) -> AttemptRecord:
        """Record the app's terminal ``AppState``; the first one stays.

        :param is_infrastructure_failure: the app ended through no fault of its own (lost, preempted, node failure).

        :raises InvalidInputError: for a state that is not terminal.
        """
        return self._db.write(
            "finish_attempt",
            lambda connection: _attempt_ends.finish(
                connection, attempt.submission_key, app_state, message, is_infrastructure_failure
            ),
        )

    def finish_observed(self, attempt: AttemptRecord, observed: AppObservation) -> AttemptRecord:
        """Record that the app has ended, as ``finish_attempt``, with its times; another attempt of the trial follows.

        :param observed: a terminal observation.
        :raises InvalidInputError: for a state that is not terminal.
        """
        return self._db.write(
            "finish_observed",
            lambda connection: _attempt_ends.finish_observed(connection, attempt.submission_key, observed),
        )

    def end_attempt(
        self, attempt: AttemptRecord, observed: AppObservation, trial_end: TrialEnd | None = None
    ) -> tuple[AttemptRecord, TrialRecord]:
        """Record that the app has ended and, in the same transaction, what becomes of its trial.

        What was recorded first stays, of the attempt as of the trial. The trial is left as it is when another attempt
        has followed, and when the app has succeeded and ``trial_end`` is None: another task reads the results.

        :param observed: a terminal observation.
        :param trial_end: how the trial ends if the app has succeeded.
        :return: the attempt and the trial as they are recorded now.
        :raises InvalidInputError: for a state that is not terminal, or an observation that cannot be kept.
        """
        return self._db.write(
            "end_attempt",
            lambda connection: _attempt_ends.end(connection, attempt, observed, trial_end),
        )

    def pass_to_try(self, attempt: AttemptRecord, identity: TaskIdentity) -> AttemptRecord:
        """Record that a later try of the task goes on with the attempt: an earlier try that comes back owns nothing."""
        if identity.try_number <= attempt.identity.try_number or not identity.is_task_of(attempt.identity):
            return attempt
        return self._db.write(
            "pass_to_try", lambda connection: _attempt_rows.pass_to_try(connection, attempt.submission_key, identity)
        )

    def note_started(self, started: Sequence[tuple[AttemptRecord, float]]) -> list[AttemptRecord]:
        """Record when apps began to run; the first time stays.

        :param started: each attempt with the time in seconds since the epoch.
        :return: the attempts as they are recorded now.
        """
        return self._db.write("note_started", lambda connection: _attempt_rows.note_started(connection, started))

    def note_poll_failure(self, attempt: AttemptRecord) -> int:
        """Count consecutive polls that the scheduler has not answered, over all processes; return the count."""
        key = attempt.submission_key
        failures = self._db.read(lambda connection: _attempt_rows.poll_failures(connection, key)) + 1
        return self._db.write(
            "note_poll_failure", lambda connection: _attempt_rows.set_poll_failures(connection, key, failures)
        )

    def clear_poll_failures(self, attempt: AttemptRecord) -> None:
        """Note that the scheduler has answered; writes only when it had not answered before."""
        key = attempt.submission_key
        if self._db.read(lambda connection: _attempt_rows.poll_failures(connection, key)):
            self._db.write(
                "clear_poll_failures", lambda connection: _attempt_rows.set_poll_failures(connection, key, 0)
            )

    def attempts(self, name: str, index: int | None = None) -> list[AttemptRecord]:
        """Return the runs of the experiment, or of one trial, in order of trial and attempt."""

        def work(connection: sa.Connection) -> list[AttemptRecord]:
            _experiment_rows.require(connection, name)
            found = [runs.c.experiment == name] + ([] if index is None else [runs.c.trial_index == index])
            return [_attempt_rows.record(row) for row in connection.execute(_attempt_rows.select(*found))]

        return self._db.read(work)

    def attempt(self, name: str, index: int, attempt: int) -> AttemptRecord:
        """Return one run.

        :raises TrialNotFoundError: when there is no such run.
        """
        return self._db.read(lambda connection: _attempt_rows.attempt(connection, name, index, attempt))

    def latest_attempt(self, name: str, index: int) -> AttemptRecord | None:
        """Return the trial's last attempt, or None before the first."""
        found = self._db.read(lambda connection: _attempt_rows.of_trial(connection, name, index))
        return _attempt_rows.record(found[-1]) if found else None

    def open_attempts(
        self,
        *,
        experiment: str | None = None,
        dag_id: str | None = None,
        run_id: str | None = None,
        installation: str | None = None,
    ) -> list[AttemptRecord]:
        """Return the attempts whose end is not recorded: all, or those that have the values given."""
        query = _attempt_rows.unfinished(experiment, dag_id, run_id, installation)
        return self._db.read(lambda connection: [_attempt_rows.record(row) for row in connection.execute(query)])

    def attempt_by_key(self, submission_key: str) -> AttemptRecord | None:
        """Return the attempt with this submission key, or None."""
        query = _attempt_rows.select(runs.c.submission_key == submission_key)
        found = self._db.read(lambda connection: connection.execute(query).one_or_none())
        return None if found is None else _attempt_rows.record(found)
