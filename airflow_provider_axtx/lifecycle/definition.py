"""Changes of an experiment's definition, asked for by its users or by its DAG: checked by Ax, recorded once."""

from __future__ import annotations

import logging
import uuid
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_axtx.core.errors import ExperimentExistsError, InvalidInputError
from airflow_provider_axtx.core.failpoints import crash_point
from airflow_provider_axtx.core.steering import Action, Change, NewChange
from airflow_provider_axtx.lifecycle.conflicts import retry_conflicts
from airflow_provider_axtx.spec.changes import changed_spec, changes_between, check_change, taken_up
from airflow_provider_axtx.spec.differences import differences
from airflow_provider_axtx.spec.experiment import ExperimentSpec

if TYPE_CHECKING:
    from airflow_provider_axtx.core.records import ExperimentSnapshot, TaskIdentity
    from airflow_provider_axtx.store.experiments import ExperimentStore

log = logging.getLogger(__name__)

#: What a task does when its DAG gives another definition than the recorded one.
OnChange = Literal["refuse", "update"]
#: Where a change was asked for that a DAG file makes.
VIA_DAG = "dag"


def carry_out_change(store: ExperimentStore, snapshot: ExperimentSnapshot, change: Change) -> None:
    """Carry out an open change of the definition, or settle it with the reason why it cannot be.

    :raises StoreConflictError: when another process was first; read the experiment again.
    """
    try:
        spec = _checked(snapshot, change.arguments.get("changes"))
    except InvalidInputError as error:
        log.warning("The definition is not changed as %s asked: %s", change.requested_by, error)
        store.settle_change(change, f"refused: {error}")
        return
    _record(store, snapshot, change, spec)


def _checked(snapshot: ExperimentSnapshot, changes: object) -> ExperimentSpec:
    spec = changed_spec(snapshot.spec, changes, has_trials=bool(snapshot.trials))
    # Only now: importing Ax is slow.
    from airflow_provider_axtx.optimizer import changes as of_ax

    of_ax.check_change(snapshot, spec)
    return spec


def _record(
    store: ExperimentStore, snapshot: ExperimentSnapshot, asked: Change | NewChange, spec: ExperimentSpec
) -> None:
    found = differences(snapshot.spec, spec)
    crash_point("definition.before_change")
    change = store.change_definition(
        snapshot.name, asked, spec.to_json(), differences=found, expected_version=snapshot.version
    )
    crash_point("definition.after_change")
    log.info("The definition of %r is changed %s: %s", snapshot.name, change.outcome, "; ".join(found))


@retry_conflicts
def resume_definition(
    store: ExperimentStore, spec: ExperimentSpec, on_change: OnChange, created_by: TaskIdentity | None
) -> None:
    """Compare the definition that a DAG gives with the recorded one, and change that if the DAG asks for it.

    What users have changed since stays: a change is only what differs from the definition that a DAG gave last, and is
    not recorded already.

    :raises ExperimentExistsError: when it differs and ``on_change`` is ``refuse``; names what differs.
    :raises InvalidInputError: when Ax cannot change it; names the field, its value and the fix.
    """
    stored = store.spec(spec.name)
    given = ExperimentSpec.from_store(_given_last(store, spec.name, stored, created_by))
    before = taken_up(given, spec, ExperimentSpec.from_store(stored))
    found = differences(before.to_json(), spec)
    if not found:
        _note_taken_up(store, given, spec, created_by)
        if differences(stored, spec):
            log.info("Experiment %r goes on with the definition that its users have changed since.", spec.name)
        return
    if on_change == "refuse":
        raise ExperimentExistsError(
            f"The experiment {spec.name!r} exists with another definition: {'; '.join(found)}.",
            fix='restore the stored values, pass on_change="update" to change them, or choose another name for the '
            "new definition.",
        )
    snapshot = store.snapshot(spec.name)
    # First: the changes that follow hold only what can be changed.
    check_change(before, spec, has_trials=True)
    changes = changes_between(before, spec)
    asked = _of_dag(Action.CHANGE_DEFINITION, {"changes": changes}, spec, created_by)
    _record(store, snapshot, asked, _checked(snapshot, changes))


def _given_last(
    store: ExperimentStore, name: str, stored: dict[str, Any], created_by: TaskIdentity | None
) -> dict[str, Any]:
    """Return the definition that a DAG gave last; before the first change of it that is the one of the creation.

    What one DAG has taken up counts for that DAG: another one that shares the experiment has not changed anything.
    """
    given, first = None, None
    for change in store.changes(name):
        if change.changes_definition or change.requested_by == _asker(created_by):
            given = change.arguments.get("given", given)
        if change.changes_definition:
            first = first or change.arguments["before"]
    return given or first or stored


def _asker(created_by: TaskIdentity | None) -> str:
    return "" if created_by is None else f"DAG {created_by.dag_id}"


def _note_taken_up(
    store: ExperimentStore, before: ExperimentSpec, spec: ExperimentSpec, created_by: TaskIdentity | None
) -> None:
    """Record that a DAG gives what users have changed: when they change it again, the DAG has not changed anything."""
    if found := differences(before.to_json(), spec):
        text = f"The DAG file has taken up what users had changed: {'; '.join(found)}."
        store.steer(spec.name, _of_dag(Action.NOTE, {"text": text}, spec, created_by))


def _of_dag(
    action: Action, arguments: dict[str, Any], spec: ExperimentSpec, created_by: TaskIdentity | None
) -> NewChange:
    return NewChange(
        action,
        request_id=uuid.uuid4().hex,
        requested_by=_asker(created_by),
        via=VIA_DAG,
        reason="" if created_by is None else f"DAG run {created_by.run_id}",
        arguments={**arguments, "given": spec.to_json()},
    )
