"""A trial whose work any Airflow tasks do, its *body*: one task starts it, one records how it has ended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, XComArg
from airflow.sdk.definitions.xcom_arg import PlainXComArg
from airflow.sdk.exceptions import AirflowSkipException

from airflow_provider_axtx.core.app_observation import AppObservation
from airflow_provider_axtx.core.errors import InvalidInputError, TrialStateError
from airflow_provider_axtx.core.inputs import Templated, as_flag, is_given
from airflow_provider_axtx.core.records import AIRFLOW
from airflow_provider_axtx.hooks.torchx import TorchXHook
from airflow_provider_axtx.links import ExperimentLink, TrialLink, task_url
from airflow_provider_axtx.operators._foreign import recorded_trial
from airflow_provider_axtx.operators._steering import as_users_want
from airflow_provider_axtx.operators.base import BaseAxOperator, airflow_errors, current_identity

if TYPE_CHECKING:
    from airflow.sdk import Context

_FAILED = ("failed", "upstream_failed")
_SKIPPED = ("skipped", "removed")


class StartedTrial(PlainXComArg):
    """The output of a task that starts a trial, in a template too: that of the trial's own instance of the task.

    Of the output of a mapped task, Airflow's own text in a template gives the values of all instances.
    """

    def __getitem__(self, item: str) -> XComArg:
        """Return the value of a parameter."""
        return StartedTrial(self.operator, item)

    def __str__(self) -> str:
        """Return the template of the value."""
        text = super().__str__()
        if self.operator.get_closest_mapped_task_group() is None:
            return text
        return text.replace(") }}", ", map_indexes=task_instance.map_index) }}")


class AxStartTrialOperator(BaseAxOperator):
    """Starts a trial whose work is done by the tasks that follow, up to ``AxCompleteTrialOperator(trial=...)``.

    The trial is RUNNING from here on. A retry changes nothing; a Clear begins another attempt. The tasks that follow
    are skipped when the trial has its results already, or a user has stopped it. While a user has paused the
    experiment, the task is rescheduled.

    ```python
    from airflow.providers.standard.operators.bash import BashOperator
    from airflow.sdk import DAG
    from airflow_provider_axtx.operators.ax import (
        AxCompleteTrialOperator,
        AxGenerateTrialOperator,
        AxStartTrialOperator,
    )

    with DAG("body"):
        generate = AxGenerateTrialOperator(task_id="generate", experiment_name="my-experiment")
        start = AxStartTrialOperator(task_id="start", trial=generate.output)
        train = BashOperator(task_id="train", bash_command=f"echo {start.output['x1']}")
        AxCompleteTrialOperator(task_id="complete", trial=start.output, results={"booth_eval": train.output})
    ```

    :param trial: the output of a generate task (templated).
    :param tracker_base: folder or fsspec URL in which the attempt gets a folder for results that its tasks write; None
        is the connection's ``tracker_base``, or a folder in AIRFLOW_HOME (templated).
    :param allow_app_change: see ``TorchXSubmitTrialOperator``.
    :param torchx_conn_id: connection whose ``tracker_base`` is taken.
    :param ax_conn_id: connection of the experiment store.
    :return: the trial with ``attempt``, ``app_handle`` and ``tracker_base``. Each parameter is also an XCom of its own,
        ``start.output["lr"]``; so are ``trial_index`` and ``tracker_base``, unless a parameter has that name.
    """

    template_fields: Sequence[str] = ("trial", "tracker_base", "torchx_conn_id", "ax_conn_id")
    template_fields_renderers = {"trial": "json"}
    lineage_reads, lineage_writes = False, True
    operator_extra_links = (ExperimentLink(), TrialLink())

    def __init__(
        self,
        *,
        trial: Templated[Mapping[str, Any]],
        tracker_base: Templated[str] | None = None,
        allow_app_change: bool = False,
        torchx_conn_id: str = TorchXHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.trial = trial
        self.tracker_base = tracker_base
        self.allow_app_change = as_flag("allow_app_change", allow_app_change)
        self.torchx_conn_id = torchx_conn_id

    @property
    def output(self) -> XComArg:
        """The trial, as the tasks of its body take it."""
        return StartedTrial(self)

    @airflow_errors
    def execute(self, context: Context) -> dict[str, Any]:
        """Record that the trial's tasks are about to run."""
        from airflow_provider_axtx.lifecycle.body import start_trial
        from airflow_provider_axtx.lifecycle.steering import check_may_start

        store = self.ax_hook.store
        identity = current_identity(context, store, self.torchx_conn_id)
        trial = recorded_trial(store, self.trial, identity.dag_id)
        root = (
            self.tracker_base if is_given(self.tracker_base) else TorchXHook(self.torchx_conn_id).settings.tracker_root
        )
        with as_users_want(self):
            started = start_trial(
                store,
                trial,
                identity,
                app_handle=f"{AIRFLOW}://{identity.dag_id}/{self._first_task()}",
                tracker_root=str(root),
                allow_app_change=self.allow_app_change,
                check_start=lambda: check_may_start(store, trial.experiment, trial.trial_index),
            )
        if started is None:
            raise AirflowSkipException(f"Trial {trial.trial_index} has ended already and does not run again.")
        told = {"trial_index": started.trial_index, "tracker_base": started.tracker_base, **trial.parameters}
        for name, value in told.items():
            context["ti"].xcom_push(key=name, value=value)
        self.note_lineage(trial.experiment, [started.to_json()])
        return started.to_json()

    def _first_task(self) -> str:
        """Return the body's first task, to which the page leads."""
        following = sorted(task.task_id for task in self.downstream_list if not isinstance(task, EndOfBodyMixin))
        if not following:
            raise InvalidInputError(
                f"No task follows {self.task_id}, which starts a trial.",
                fix="put the tasks that do its work between it and AxCompleteTrialOperator(trial=...).",
            )
        return following[0]


class EndOfBodyMixin(BaseOperator):
    """What ``AxCompleteTrialOperator`` knows of the tasks between the start of a trial and itself.

    :param trial: the output of ``AxStartTrialOperator``; None for a trial whose app has run.
    :raises InvalidInputError: when it is something else.
    """

    start: AxStartTrialOperator | None = None

    def set_start(self, trial: object) -> None:
        """Note which task starts the trial."""
        if trial is None:
            return
        references = list(XComArg.iter_xcom_references(trial)) if isinstance(trial, XComArg) else []
        if len(references) != 1 or not isinstance(references[0][0], AxStartTrialOperator):
            raise InvalidInputError(
                f"trial of {self.task_id} is not the output of AxStartTrialOperator, but {trial!r}.",
                fix="pass start.output, with AxStartTrialOperator as the task start.",
            )
        self.start = references[0][0]

    def body_task_ids(self) -> set[str]:
        """Return the ids of the tasks between the start and this task."""
        if self.start is None:
            return set()
        return self.get_flat_relative_ids(upstream=True) & self.start.get_flat_relative_ids(upstream=False)

    def end_of_body(self, context: Context) -> AppObservation:
        """Return how the body has ended, as Airflow judges a DAG run: by its last tasks.

        :raises AirflowSkipException: the trial was not started, because it was stopped or had ended.
        :raises TrialStateError: the trial was not started, because the task that starts it has failed.
        """
        ti: Any = context["ti"]
        map_index = ti.map_index if ti.map_index is not None and ti.map_index >= 0 else None
        body, start = self.body_task_ids(), self.start.task_id if self.start else ""
        states: dict[str, Any] = ti.get_task_states(
            dag_id=ti.dag_id, run_ids=[ti.run_id], task_ids=sorted(body | self.upstream_task_ids), map_index=map_index
        ).get(ti.run_id, {})
        begun = {states[key] for key in instances_of(start, states)}
        if begun & {"skipped"}:
            raise AirflowSkipException(f"The trial was not started: {start} was skipped.")
        if begun & set(_FAILED):
            raise TrialStateError(f"The trial was not started: {start} has failed.", fix=f"look at the log of {start}.")
        last = [states[key] for task_id in self.upstream_task_ids - {start} for key in instances_of(task_id, states)]
        if any(state in _FAILED for state in last):
            keys = [key for task_id in sorted(body) for key in instances_of(task_id, states)]
            failed = [key for key in keys if states[key] == "failed"]
            told = [f"{key} failed: {_log_of(ti, key, body)}" for key in failed]
            return AppObservation("FAILED", "; ".join(told) or "a task before its last one has failed")
        if all(state in _SKIPPED for state in last):
            return AppObservation("CANCELLED", f"skipped: {', '.join(sorted(self.upstream_task_ids - {start}))}")
        return AppObservation("SUCCEEDED")


def recorded_failures(tasks: Iterable[object], states: Mapping[str, Any]) -> set[str]:
    """Return the names of failed task instances whose failure was recorded as the end of their trial.

    :param states: states of the task instances of a DAG run by ``task_id`` or ``task_id_mapindex``, as Airflow tells
        them.
    """
    found = set()
    for end in tasks:
        if isinstance(end, EndOfBodyMixin):
            for task_id in end.body_task_ids():
                for key in instances_of(task_id, states):
                    if "success" in (states.get(end.task_id), states.get(f"{end.task_id}{key.removeprefix(task_id)}")):
                        found.add(key)
    return found


def instances_of(task_id: str, states: Mapping[str, Any]) -> list[str]:
    """Return the names of a task's instances among those of ``states``."""
    if task_id in states:
        return [task_id]
    return sorted(key for key in states if key.startswith(f"{task_id}_") and key.removeprefix(f"{task_id}_").isdigit())


def _log_of(ti: Any, key: str, body: Iterable[str]) -> str:
    """Return the address of the log of a task instance, named as in ``get_task_states``."""
    task_id = key if key in body else key.rpartition("_")[0]
    index = key.removeprefix(task_id).removeprefix("_")
    return task_url(ti.dag_id, ti.run_id, task_id, int(index) if index else -1)
