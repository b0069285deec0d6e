"""Attaches trials that Ax did not propose: by hand, from a table, from another experiment."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_axtx.core.errors import (
    InvalidInputError,
    InvalidResultError,
    TrackerUnavailableError,
)
from airflow_provider_axtx.core.failpoints import crash_point
from airflow_provider_axtx.core.status import is_terminal_trial_status
from airflow_provider_axtx.core.xcom import Trial
from airflow_provider_axtx.lifecycle.conflicts import retry_conflicts
from airflow_provider_axtx.spec.attachment import Attachment
from airflow_provider_axtx.spec.experiment import ExperimentSpec

if TYPE_CHECKING:
    from airflow_provider_axtx.core.records import TaskIdentity, TrialRecord
    from airflow_provider_axtx.store.experiments import ExperimentStore

log = logging.getLogger(__name__)


@retry_conflicts
def attach_trials(
    store: ExperimentStore,
    experiment: str,
    attachments: Sequence[Attachment],
    *,
    task_key: str,
    requested_by: TaskIdentity | None = None,
) -> list[Trial]:
    """Record trials, all or none, those with results as COMPLETED; a retry of the task attaches nothing more.

    :param attachments: the trials, checked against the experiment.
    :param task_key: identity of the attaching task, see ``core.keys.task_key``.
    :param requested_by: the attaching task, recorded with the trials.
    :return: the trials that are still to be run.
    :raises InvalidInputError: when Ax refuses one, or the experiment has a baseline already.
    """
    records = store.granted(experiment, task_key) or _attach(store, experiment, attachments, task_key, requested_by)
    return [
        Trial(experiment, record.index, record.arm_name, record.parameters)
        for record in records
        if not is_terminal_trial_status(record.status)
    ]


def _attach(
    store: ExperimentStore,
    experiment: str,
    attachments: Sequence[Attachment],
    task_key: str,
    requested_by: TaskIdentity | None,
) -> list[TrialRecord]:
    if not attachments:
        return []
    from airflow_provider_axtx.optimizer import attach

    snapshot = store.snapshot(experiment)
    proposal = attach.attach(snapshot, attachments)
    crash_point("attach.before_record")
    added = store.add_trials(
        experiment,
        proposal,
        task_key=task_key,
        first_slot=0,
        expected_version=snapshot.version,
        requested_by=requested_by,
    )
    crash_point("attach.after_record")
    return added


def trials_of(store: ExperimentStore, source: str, spec: ExperimentSpec) -> list[Attachment]:
    """Return the completed trials of another experiment that fit a search space and have the metrics it needs.

    :param source: name of the other experiment; a trial of it that does not fit is left out and logged.
    :raises ExperimentNotFoundError: when the store does not have it.
    """
    snapshot, found = store.snapshot(source), []
    final: dict[int, dict[str, Any]] = {}
    for o in snapshot.observations:
        if o.step is None and o.metric in spec.metric_names:
            final.setdefault(o.trial_index, {}).update({f"{o.metric}/mean": o.mean, f"{o.metric}/sem": o.sem})
    for trial in snapshot.trials:
        if trial.status != "COMPLETED":
            continue
        try:
            parameters = spec.read_parameters(trial.parameters)
            found.append(Attachment(parameters, spec.check_results(final.get(trial.index, {}))))
        except (InvalidInputError, InvalidResultError) as error:
            log.warning("Trial %s of experiment %r does not fit %r: %s", trial.index, source, spec.name, error.message)
    return found


def read_csv(path: str) -> list[Mapping[str, str]]:
    """Return the rows of a CSV file with a header.

    :param path: an absolute path or an fsspec URL.
    :raises InvalidInputError: there is no such file, or it cannot be used.
    :raises TrackerUnavailableError: it cannot be read just now.
    """
    import fsspec

    try:
        with fsspec.open(path, "rb") as opened:
            text = opened.read().decode("utf-8-sig")
    except (FileNotFoundError, IsADirectoryError, ValueError, ImportError) as error:
        raise InvalidInputError(
            f"table {path!r} cannot be read: {type(error).__name__}: {error}.",
            fix="give the absolute path or fsspec URL of a CSV file in UTF-8.",
        ) from error
    except Exception as error:
        raise TrackerUnavailableError(
            f"table {path!r} cannot be read: {type(error).__name__}: {error}.", fix="it is tried again."
        ) from error
    rows: list[Mapping[str, str]] = list(
        csv.DictReader(io.StringIO(text), strict=True, restkey="(more cells than columns)")
    )
    if not rows:
        raise InvalidInputError(f"table {path!r} has no rows.", fix="write a header and at least one row.")
    return rows
