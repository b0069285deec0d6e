"""The part of ``ExperimentStore`` that is about what users want of experiments."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa

from airflow_provider_axtx.core.analysis import AnalysisCard
from airflow_provider_axtx.core.records import Parameters, Proposal, TaskIdentity, TrialRecord
from airflow_provider_axtx.core.steering import Asked, Change, NewChange, Steering
from airflow_provider_axtx.store import _analysis_rows, _change_rows, _definition_rows, _experiment_rows
from airflow_provider_axtx.store._database import Database


class SteeringRecords:
    """What users want of experiments: recorded here, carried out by the tasks that work on them."""

    _db: Database

    def steer(self, name: str, new: NewChange) -> Change:
        """Record a change of what is wanted of an experiment. The same request id again records nothing more.

        A change that lets the experiment go on (``run`` after ``drain`` or ``stop``, other limits) also takes back for
        what reason its loops have ended, so that each decides anew.

        :return: the recorded change.
        :raises InvalidInputError: for a request id that cannot be used, or was used for another change.
        :raises TrialStateError: when the trial that it names cannot be stopped or run again, or the change that is to
            be withdrawn is not open.
        """
        return self._db.write("steer", lambda connection: _change_rows.add(connection, name, new))

    def changes(self, name: str) -> list[Change]:
        """Return all changes of an experiment in their order."""

        def work(connection: sa.Connection) -> list[Change]:
            _experiment_rows.require(connection, name)
            return _change_rows.of_experiments(connection, [name])[name]

        return self._db.read(work)

    def steering(self, name: str) -> Steering:
        """Return what is wanted of an experiment now; of one that does not exist, that it runs."""
        return Steering.of(self._db.read(lambda connection: _change_rows.of_experiments(connection, [name]))[name])

    def last_asked(self, names: Collection[str]) -> list[Asked]:
        """Return, of each of these experiments, the last change of each kind for which a waiting task is woken."""
        return self._db.read(lambda connection: _change_rows.last_asked(connection, names))

    def settle_change(self, change: Change, outcome: str) -> None:
        """Record that a change was carried out; the first outcome stays."""
        self._db.write(
            "settle_change", lambda connection: _change_rows.settle(connection, change, outcome, time.time())
        )

    def backfill_values(self, name: str) -> Parameters:
        """Return the values of parameters that were added to the experiment, for trials that are older."""
        definition = self._db.read(lambda connection: _experiment_rows.definition(connection, name))
        given = {one["name"]: one.get("backfill_value") for one in definition.get("parameters", ())}
        return {parameter: value for parameter, value in given.items() if value is not None}

    def change_definition(
        self,
        name: str,
        asked: Change | NewChange,
        definition: dict[str, Any],
        *,
        differences: Sequence[str],
        expected_version: int,
    ) -> Change:
        """Put a definition in place of the recorded one, for the trials that follow.

        :param asked: the open ``change_definition`` that asks for it, or a new one, which is recorded and carried out.
        :param definition: the new ``ExperimentSpec`` as a JSON object.
        :param differences: what differs, in words.
        :param expected_version: ``ExperimentSnapshot.version`` that the definition was checked against.
        :return: the change as carried out.
        :raises StoreConflictError: when the version has moved, or the change is not open any more; read both again.
        """
        return self._db.write(
            "change_definition",
            lambda connection: _definition_rows.apply(
                connection, asked, name, definition, differences, expected_version
            ),
        )

    def record_explanation(
        self, name: str, cards: Sequence[AnalysisCard], asked: Sequence[Change], outcome: str
    ) -> None:
        """Record what the model says about an experiment in place of what was said before.

        :param cards: charts as data; the first one has ``completed``, how many trials they rest on.
        :param asked: the open changes that are carried out with it.
        :param outcome: what becomes of them.
        """
        self._db.write(
            "record_explanation",
            lambda connection: _analysis_rows.replace_explanation(connection, name, cards, asked, outcome),
        )

    def explanation(self, name: str) -> list[AnalysisCard]:
        """Return what the model said last about an experiment; empty before the first time."""
        return self._db.read(lambda connection: _analysis_rows.explanation(connection, name))

    def explained(self, name: str) -> int:
        """Return on how many completed trials the recorded explanation rests, 0 before the first."""
        return self._db.read(lambda connection: _analysis_rows.explained(connection, name))

    def add_queued_trial(
        self,
        change: Change,
        proposal: Proposal,
        *,
        task_key: str,
        slot: int,
        expected_version: int,
        requested_by: TaskIdentity | None = None,
    ) -> TrialRecord:
        """Record the trial of an open ``queue_trial`` or ``retry_trial``, and that the change is carried out.

        :param proposal: the one trial, and the generator state as it was.
        :param task_key: the task that runs the trial, as for ``add_trials``.
        :param slot: slot of the trial within the task's request.
        :param expected_version: ``ExperimentSnapshot.version`` that the proposal was made from.
        :return: the recorded trial; that of an earlier call when the slot is taken.
        :raises StoreConflictError: when the version has moved, or the change is not open any more; read both again.
        """
        return self._db.write(
            "add_queued_trial",
            lambda connection: _change_rows.add_queued_trial(
                connection, change, proposal, task_key, slot, expected_version, requested_by
            ),
        )

    def reopen_trial(self, change: Change) -> TrialRecord:
        """Carry out an open ``retry_trial``: a FAILED trial becomes a CANDIDATE, and its observations go.

        Nothing changes when the change was carried out before, or the trial is not FAILED any more.
        """
        return self._db.write("reopen_trial", lambda connection: _change_rows.reopen_trial(connection, change))
