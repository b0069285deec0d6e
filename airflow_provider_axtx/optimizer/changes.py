"""Has Ax check a change of a definition before it is recorded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from airflow_provider_axtx.core.completed import completed_trials
from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.core.records import EarlierDefinition, ExperimentSnapshot
from airflow_provider_axtx.optimizer.ax_logging import quiet_import
from airflow_provider_axtx.spec.experiment import ExperimentSpec
from airflow_provider_axtx.spec.problems import Problem, raise_for

with quiet_import():
    from ax.exceptions.core import AxError

    from airflow_provider_axtx.optimizer.engine import validate
    from airflow_provider_axtx.optimizer.rebuild import rebuild_without_strategy


def check_change(snapshot: ExperimentSnapshot, after: ExperimentSpec) -> None:
    """Check that Ax can go on with another definition.

    :param after: already compared with the definition before by ``spec.changes``.
    :raises InvalidInputError: with the field, its value and the fix, or with Ax's own message.
    """
    raise_for("The change", _unobserved(snapshot, after))
    validate(after)
    before = EarlierDefinition(snapshot.spec, len(snapshot.trials))
    try:
        rebuild_without_strategy(replace(snapshot, spec=after.to_json(), history=(*snapshot.history, before)))
    except (AxError, ValueError, KeyError, TypeError, NotImplementedError) as error:
        raise InvalidInputError(
            f"Ax refuses the change of experiment {snapshot.name!r}: {type(error).__name__}: {error}",
            fix="change the field that Ax names, or choose another name for the new definition.",
        ) from error


def _unobserved(snapshot: ExperimentSnapshot, after: ExperimentSpec) -> Iterator[Problem]:
    """Yield the metrics of objective and constraints that completed trials did not report."""
    required = set(after.required_metrics)
    for trial in completed_trials(snapshot.trials, snapshot.observations):
        if missing := sorted(required - trial.results.keys()):
            named = [text for text in (after.objective, *after.outcome_constraints) if any(m in text for m in missing)]
            fix = "name metrics that every completed trial has, or choose another name for the new definition."
            text = f"needs {', '.join(missing)}, which trial {trial.index} did not report"
            yield Problem("objective and outcome_constraints", named, text, fix)
            return
