"""The operator that attaches trials which Ax did not propose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.core.inputs import Templated, is_given, is_templated, shorten
from airflow_provider_axtx.operators._foreign import own_experiment, readable_experiment
from airflow_provider_axtx.operators.base import (
    BaseAxOperator,
    airflow_errors,
    check_name_at_parse,
    current_identity,
)

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_axtx.core.records import TaskIdentity
    from airflow_provider_axtx.spec.attachment import Attachment
    from airflow_provider_axtx.spec.experiment import ExperimentSpec

_SOURCES = ("trials", "table", "from_experiment")


def _not_one(given: Sequence[str]) -> InvalidInputError:
    return InvalidInputError(
        f"{len(given)} of {', '.join(_SOURCES)} are given{': ' if given else ''}{', '.join(given)}.",
        fix=f"give one of {', '.join(_SOURCES)}: it says which trials are attached.",
    )


class AxAttachTrialsOperator(BaseAxOperator):
    """Attaches trials to an experiment: a baseline, points that are known to be good, results of earlier work.

    Values out of bounds, of a wrong type, or of an unknown parameter are refused before anything is recorded. All
    trials are attached or none; a retry of the task attaches nothing more. Give one of ``trials``, ``table`` and
    ``from_experiment``.

    ```python
    from airflow.sdk import DAG
    from airflow_provider_axtx.operators.ax import AxAttachTrialsOperator

    with DAG("attach"):
        known = [{"parameters": {"x1": 1.0, "x2": 3.0}, "results": {"booth_eval": 0.0}}]
        AxAttachTrialsOperator(task_id="attach", experiment_name="my-experiment", trials=known)
    ```

    :param experiment_name: the experiment (templated).
    :param trials: a list of ``{"parameters": {...}, "results": {...}, "baseline": false}``, one of them, or the JSON
        text of either (templated). ``results`` are ``{metric: mean}`` or ``{metric/mean: m, metric/sem: s}``; a trial
        without them is to be run.
    :param table: rows as a list of objects, or the path or fsspec URL of a CSV file: a column for each parameter and
        each known metric, and optionally ``baseline`` (templated).
    :param from_experiment: another experiment of the store, whose completed trials that fit the search space are
        attached with their results: a warm start (templated). The DAG file may name one of another DAG; a template may
        not, unless its author shares it (``shared_with``).
    :param ax_conn_id: connection of the experiment store.
    :return: the trials that are to be run, ready for ``expand(trial=...)``; those with results are not among them.
    """

    template_fields: Sequence[str] = ("experiment_name", *_SOURCES, "ax_conn_id")
    template_fields_renderers = {"trials": "json", "table": "json"}

    def __init__(
        self,
        *,
        experiment_name: Templated[str],
        trials: Templated[Sequence[Mapping[str, Any]] | Mapping[str, Any]] | None = None,
        table: Templated[Sequence[Mapping[str, Any]]] | None = None,
        from_experiment: Templated[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.experiment_name = experiment_name
        self.trials = trials
        self.table = table
        self.from_experiment = from_experiment
        check_name_at_parse("experiment_name", experiment_name)
        self.note_template("from_experiment", from_experiment)
        given = self._given_sources()
        known = [name for name in given if not is_templated(getattr(self, name))]
        # A template may turn out not to be given.
        if not given or len(known) > 1 or (known and len(given) > 1):
            raise _not_one(given)
        if known == ["from_experiment"]:
            check_name_at_parse("from_experiment", from_experiment)

    def _given_sources(self) -> list[str]:
        return [name for name in _SOURCES if is_given(getattr(self, name))]

    @airflow_errors
    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Check the trials and record them, or return the trials that an earlier try of this task attached."""
        from airflow_provider_axtx.lifecycle.attach import attach_trials
        from airflow_provider_axtx.spec.experiment import ExperimentSpec

        store = self.ax_hook.store
        task = current_identity(context, store)
        experiment = own_experiment(self, store, task.dag_id)
        spec = ExperimentSpec.from_store(store.spec(experiment))
        attachments = self._attachments(spec, task)
        to_run = attach_trials(store, experiment, attachments, task_key=task.task_key, requested_by=task)
        self.log.info("%s trials attached to %r, %s are to be run.", len(attachments), spec.name, len(to_run))
        return [trial.to_json() for trial in to_run]

    def _attachments(self, spec: ExperimentSpec, task: TaskIdentity) -> list[Attachment]:
        from airflow_provider_axtx.lifecycle.attach import trials_of
        from airflow_provider_axtx.spec.attachment import read_rows, read_trials

        given = self._given_sources()
        if len(given) != 1:
            raise _not_one(given)
        if given == ["trials"]:
            return read_trials(spec, self.trials)
        if given == ["table"]:
            return read_rows(spec, self._rows())
        source = readable_experiment(self, self.ax_hook.store, task.dag_id, "from_experiment")
        if source == spec.name:
            raise InvalidInputError(
                f"from_experiment and experiment_name are both {source!r}.",
                fix="name another experiment as from_experiment.",
            )
        return trials_of(self.ax_hook.store, source, spec)

    def _rows(self) -> Sequence[Mapping[str, Any]]:
        from airflow_provider_axtx.lifecycle.attach import read_csv

        if isinstance(self.table, str):
            return read_csv(self.table)
        if not isinstance(self.table, (list, tuple)) or not all(isinstance(row, Mapping) for row in self.table):
            raise InvalidInputError(
                f"table must be a list of objects or the path of a CSV file, not {shorten(self.table)}.",
                fix="give one object for each row.",
            )
        return self.table
