"""``ExperimentStore``: the one home of experiments, trials, runs and observations."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal

import sqlalchemy as sa

from airflow_provider_axtx.core.analysis import AnalysisCard
from airflow_provider_axtx.core.errors import InvalidInputError, StoreConflictError
from airflow_provider_axtx.core.ownership import Ownership
from airflow_provider_axtx.core.records import (
    ExperimentSnapshot,
    Observation,
    OpenTrial,
    Proposal,
    TaskIdentity,
    TrialRecord,
)
from airflow_provider_axtx.core.steering import Steering
from airflow_provider_axtx.store import (
    _analysis_rows,
    _change_rows,
    _definition_rows,
    _experiment_rows,
    _lease,
    _observation_rows,
    _trial_rows,
)
from airflow_provider_axtx.store._attempts import AttemptRecords
from airflow_provider_axtx.store._dag_run_rows import DagRunRecords
from airflow_provider_axtx.store._database import DEFAULT_RETRY_SECONDS, Database
from airflow_provider_axtx.store._experiment_rows import ExperimentSummary
from airflow_provider_axtx.store._lease import Lease
from airflow_provider_axtx.store._loop_facts import LoopFactRecords
from airflow_provider_axtx.store._loop_rows import LoopRecords
from airflow_provider_axtx.store._removal_rows import ExperimentUse, RemovalRecords
from airflow_provider_axtx.store._schema import open_schema
from airflow_provider_axtx.store._steering import SteeringRecords

__all__ = ["ExperimentStore", "ExperimentSummary", "ExperimentUse", "Lease"]


class ExperimentStore(AttemptRecords, DagRunRecords, LoopRecords, LoopFactRecords, RemovalRecords, SteeringRecords):
    """Experiments, trials, runs and observations in an SQL database.

    Contract, on every database and for any number of processes and threads:

    - Each method is one short transaction: all of it or nothing is recorded. No transaction outlives a call.
    - **Idempotent.** Each method may be repeated after a crash or a lost connection, with one effect: it recognises
      what it has recorded before. A lost connection, a lock or a restart of the server is retried for
      ``retry_seconds``; a constraint is never.
    - **Generating** (``add_trials``) is serialized by compare-and-swap on ``version``. Only it and a change of the
      definition move the version.
    - **Completing** (``complete``) locks nothing but its own trial: any number of tasks complete at once.
    - Trial indexes go up from 0 without gaps. Statuses only move forward; a terminal one never changes silently.
    - **At most one unfinished run for a trial**, recorded (``begin_attempt``) before its app is submitted.
    - Floats come back exactly as they went in (from MariaDB, -0.0 as 0.0). Times are seconds since the epoch (UTC).

    Raised by every method: ``StoreUnavailableError`` when the database stays away or cannot write (disk full,
    read-only); ``ExperimentNotFoundError`` and ``TrialNotFoundError`` for what the store does not have.

    :param url: SQLAlchemy URL: ``sqlite:////absolute/path.db``, ``postgresql://...`` or ``mysql://...``.
    :param retry_seconds: for how long a transient database failure is retried.
    :param create: whether to create the tables, or upgrade them, if needed; False changes nothing in the database.
    :raises InvalidInputError: when the URL, its login or its driver cannot be used.
    :raises SchemaVersionError: when the schema is newer than this package, or not ours; with ``create=False`` also
        when it is older.
    :raises StoreNotFoundError: with ``create=False``, when there is no store yet.
    """

    def __init__(self, url: str, *, retry_seconds: float = DEFAULT_RETRY_SECONDS, create: bool = True) -> None:
        self._db = Database(url, retry_seconds)
        open_schema(self._db, create=create)

    def close(self) -> None:
        """Close this process's idle connections. The store stays usable."""
        self._db.close()

    # Experiments

    def create(
        self,
        name: str,
        spec: dict[str, Any],
        *,
        if_exists: Literal["resume", "fail"] = "resume",
        ax_version: str = "",
        created_by: TaskIdentity | None = None,
        shared_with: tuple[str, ...] = (),
    ) -> bool:
        """Create an experiment, or accept the existing one of the same definition.

        :param name: at most 100 printable characters without slashes.
        :param spec: the ``ExperimentSpec`` as a JSON object.
        :param created_by: the task that creates it, and so the DAG whose experiment it is.
        :param shared_with: patterns (``fnmatch``) of the DAG ids that may use it too.
        :return: True when it was created, False when it was there.
        :raises InvalidInputError: for a name or an ``if_exists`` that cannot be used.
        :raises ExperimentExistsError: with ``if_exists="fail"``, or when the stored definition differs.
        """
        _experiment_rows.checked_name(name)
        if if_exists not in ("resume", "fail"):
            raise InvalidInputError(f"if_exists cannot be {if_exists!r}.", fix='pass "resume" or "fail".')
        uid = uuid.uuid4().hex

        def work(connection: sa.Connection) -> bool:
            return _experiment_rows.create(
                connection,
                name,
                uid,
                spec,
                if_exists=if_exists,
                ax_version=ax_version,
                created_by=None
                if created_by is None
                else {**created_by.to_json(), **Ownership(shared_with=shared_with).to_json()},
            )

        try:
            return self._db.write("create", work)
        except StoreConflictError:
            # Another process inserted the name between our look and our insert; now we see its row.
            return self._db.write("create", work)

    def snapshot(self, name: str) -> ExperimentSnapshot:
        """Return all that Ax needs to propose the next trial, as of one moment."""
        return self._db.read(lambda connection: _snapshot(connection, name))

    def facts_for_proposal(
        self, name: str, task_key: str, first_slot: int
    ) -> tuple[ExperimentSnapshot, Steering, list[TrialRecord]]:
        """Return what is read before Ax is asked, as of one moment.

        :return: the snapshot, what users want, and the trials that the task has got in slots from ``first_slot`` on.
        """

        def work(connection: sa.Connection) -> tuple[ExperimentSnapshot, Steering, list[TrialRecord]]:
            changes = _change_rows.of_experiments(connection, [name])[name]
            granted = _trial_rows.granted(connection, name, task_key, first=first_slot)
            return _snapshot(connection, name), Steering.of(changes), granted

        return self._db.read(work)

    def uid(self, name: str) -> str:
        """Return the random id that the experiment was given at its creation."""
        uid: str = self._db.read(lambda connection: _experiment_rows.require(connection, name)).uid
        return uid

    def spec(self, name: str) -> dict[str, Any]:
        """Return the ``ExperimentSpec`` as a JSON object."""
        return self._db.read(lambda connection: _experiment_rows.definition(connection, name))

    def ownership(self, name: str) -> Ownership:
        """Return which DAG the experiment belongs to, and with which DAGs it is shared."""
        return self._db.read(lambda connection: _experiment_rows.ownership(connection, name))

    def share(self, name: str, shared_with: tuple[str, ...]) -> None:
        """Record with which DAGs the experiment is shared, in place of what is recorded.

        :param shared_with: patterns (``fnmatch``) of DAG ids.
        """
        self._db.write("share", lambda connection: _experiment_rows.share(connection, name, shared_with))

    def app(self, name: str) -> dict[str, Any] | None:
        """Return what the experiment's trials run, as the first submission recorded it; None before it."""
        app: dict[str, Any] | None = self._db.read(lambda connection: _experiment_rows.require(connection, name)).app
        return app

    def record_app(self, name: str, app: dict[str, Any], *, replace: bool = False) -> dict[str, Any]:
        """Record what the experiment's trials run (component, its arguments, scheduler); the first one stays.

        :param app: a JSON object.
        :param replace: put it in place of what is recorded.
        :return: the recorded one.
        """
        recorded = self._db.read(lambda connection: _experiment_rows.require(connection, name)).app
        if recorded is not None and (recorded == app or not replace):
            known: dict[str, Any] = recorded
            return known
        return self._db.write(
            "record_app", lambda connection: _experiment_rows.record_app(connection, name, app, replace)
        )

    def summaries(self) -> list[ExperimentSummary]:
        """Return one line for each experiment, in the order of their names."""
        return self._db.read(_experiment_rows.summaries)

    def summary(self, name: str) -> ExperimentSummary:
        """Return the one line for this experiment."""
        found = self._db.read(lambda connection: _experiment_rows.summaries(connection, [name]))
        if not found:
            raise _experiment_rows.not_found(name)
        return found[0]

    def finish(self, name: str, reason: str) -> str:
        """Record why the experiment has ended (search space exhausted, budget spent); the first reason stays.

        :return: the recorded reason.
        """
        return self._db.write("finish", lambda connection: _experiment_rows.finish(connection, name, reason))

    def plan(self, name: str, planned_trials: int) -> None:
        """Record how many trials the experiment is meant to have when what runs now has ended; for displays only."""
        self._db.write("plan", lambda connection: _experiment_rows.plan(connection, name, planned_trials))

    def lease(self, name: str, owner: str, seconds: float) -> AbstractContextManager[Lease]:
        """Hold the experiment's lease, so that two tasks do not fit the same model at once.

        Only a saving: correctness rests on the compare-and-swap of ``add_trials``.

        :param owner: who holds it, the same for every retry of a task: a retry need not wait for its dead predecessor.
        :param seconds: how long it lasts, and at most how long to wait for another's.
        :return: a context with the ``Lease``; when it was not taken, the work goes on all the same.
        """
        return _lease.hold(self._db, name, owner, seconds)

    # Trials

    def trials(self, name: str) -> list[TrialRecord]:
        """Return the experiment's trials in order of their index."""

        def work(connection: sa.Connection) -> list[TrialRecord]:
            _experiment_rows.require(connection, name)
            return list(_trial_rows.all_records(connection, name))

        return self._db.read(work)

    def trial(self, name: str, index: int) -> TrialRecord:
        """Return one trial."""
        return self._db.read(lambda connection: _trial_rows.record(_trial_rows.require(connection, name, index)))

    def observations(self, name: str, index: int) -> list[Observation]:
        """Return a trial's observations in order of metric and step, the final value (step None) last."""

        def work(connection: sa.Connection) -> list[Observation]:
            _trial_rows.require(connection, name, index)
            return list(_observation_rows.observed(connection, name, index))

        return self._db.read(work)

    def evidence(self, name: str, index: int) -> dict[str, Any] | None:
        """Return what an app reported and Ax could not be given, or None."""
        row = self._db.read(lambda connection: _trial_rows.require(connection, name, index))
        found: dict[str, Any] | None = row.evidence
        return found

    def granted(self, name: str, task_key: str, *, first_slot: int = 0) -> list[TrialRecord]:
        """Return the trials that this task has got already, in slot order.

        :param task_key: as made by ``core.keys.task_key``.
        :param first_slot: without those of the slots before this one.
        """
        return self._db.read(lambda connection: _trial_rows.granted(connection, name, task_key, first=first_slot))

    def add_trials(
        self,
        name: str,
        proposal: Proposal,
        *,
        task_key: str,
        first_slot: int,
        expected_version: int,
        requested_by: TaskIdentity | None = None,
        planned_trials: int | None = None,
    ) -> list[TrialRecord]:
        """Record proposed trials and the generator state with them, if no others were added since the facts were read.

        The lease of the task is released in the same transaction.

        :param task_key: the requesting task (``core.keys.task_key``); with the slot it makes each request key.
        :param first_slot: slot of the first trial within the task's request, from 0.
        :param expected_version: ``ExperimentSnapshot.version`` that the proposal was made from.
        :param requested_by: the requesting task, recorded with the trials: a reaper asks whose they are.
        :param planned_trials: see ``plan``; None leaves what is recorded.
        :return: the recorded trials; those of an earlier call when the request keys are known.
        :raises StoreConflictError: when the version has moved; read the facts and propose again.
        """
        if not proposal.trials:
            return []
        return self._db.write(
            "add_trials",
            lambda connection: _trial_rows.add(
                connection, name, proposal, task_key, first_slot, expected_version, requested_by, planned_trials
            ),
        )

    def complete(
        self,
        name: str,
        index: int,
        *,
        status: str,
        observations: Sequence[Observation] = (),
        reason: str | None = None,
        overwrite: bool = False,
        evidence: dict[str, Any] | None = None,
    ) -> TrialRecord:
        """Record how a trial ended. The same status and observations again change nothing.

        :param status: a terminal Ax ``TrialStatus`` name.
        :param observations: the trial's final values, which replace those recorded before, and steps that are to be
            recorded with them. Steps recorded before are kept.
        :param reason: why it failed or was abandoned.
        :param overwrite: replace the outcome of a terminal trial.
        :param evidence: what the app reported, kept as it is when Ax cannot be given it.
        :raises InvalidInputError: for a status that is not terminal, or a value that is not a finite number.
        :raises TrialStateError: for another outcome of a terminal trial.
        """
        # The experiment's version is not moved: a proposal made from facts read before this completion is as good as
        # one that was asked for a moment earlier, and a common row would make all completing tasks queue for its lock.
        outcome = _trial_rows.checked_outcome(index, status, observations, reason, evidence)
        return self._db.write(
            "complete",
            lambda connection: _trial_rows.complete(connection, name, index, outcome, overwrite=overwrite),
        )

    def record_progress(self, name: str, index: int, observations: Sequence[Observation]) -> None:
        """Record progressive results of a trial that has not ended: those (metric, step) that are not recorded yet.

        Nothing changes when the trial has ended.

        :param observations: each with its step.
        :raises InvalidInputError: for one without a step, or with a value that is not a finite number.
        """
        checked = _observation_rows.checked(index, observations)
        if any(observation.step is None for observation in checked):
            raise InvalidInputError(
                f"Trial {index} has a progressive result without a step.", fix="complete the trial with final values."
            )
        self._db.write("record_progress", lambda connection: _trial_rows.add_progress(connection, name, index, checked))

    def open_trials(self, *, dag_run: str | None = None, experiment: str | None = None) -> list[OpenTrial]:
        """Return the trials that have not ended, of the named DAG run (``names.dag_run_key``) or experiment, or all."""
        return self._db.read(lambda connection: _trial_rows.unsettled(connection, dag_run, experiment))

    # Analyses

    def record_analyses(self, name: str, cards: Sequence[AnalysisCard]) -> None:
        """Record the experiment's analysis cards in place of those recorded before."""
        self._db.write("record_analyses", lambda connection: _analysis_rows.replace(connection, name, cards))

    def analyses(self, name: str) -> list[AnalysisCard]:
        """Return the experiment's newest analysis cards in their order; empty before the first analysis."""
        return self._db.read(lambda connection: _analysis_rows.recorded(connection, name))


def _snapshot(connection: sa.Connection, name: str) -> ExperimentSnapshot:
    row = _experiment_rows.require(connection, name)
    return ExperimentSnapshot(
        name=row.name,
        uid=row.uid,
        spec=row.spec,
        generator_state=row.generator_state,
        version=row.version,
        trials=_trial_rows.all_records(connection, name),
        observations=_observation_rows.observed(connection, name),
        history=_definition_rows.history(connection, name),
    )
