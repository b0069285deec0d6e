"""Operators for a scheduled DAG that keeps the experiment store tidy."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_axtx.core.errors import StoreNotFoundError
from airflow_provider_axtx.core.inputs import Templated, as_duration, as_flag, is_given, is_templated
from airflow_provider_axtx.hooks.installation import installation_id
from airflow_provider_axtx.hooks.torchx import TorchXHook
from airflow_provider_axtx.operators._dag_runs import is_active
from airflow_provider_axtx.operators._foreign import readable_experiment
from airflow_provider_axtx.operators.base import BaseAxOperator, airflow_errors

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_axtx.core.records import AttemptRecord, TaskIdentity
    from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher
    from airflow_provider_axtx.store.experiments import ExperimentStore


class _MaintenanceOperator(BaseAxOperator):
    """Base of the operators that work on all experiments of a store."""

    # They have no experiment to link to.
    operator_extra_links = ()

    def __init__(self, *, torchx_conn_id: str = TorchXHook.default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.torchx_conn_id = torchx_conn_id

    def _store(self) -> ExperimentStore | None:
        """Return the experiment store; None before a task has made one."""
        try:
            return self.ax_hook.existing_store
        except StoreNotFoundError as error:
            self.log.info("%s", error.message)
            return None

    def _launcher_for(self, attempt: AttemptRecord) -> TorchXLauncher:
        return TorchXHook(attempt.identity.torchx_conn_id or self.torchx_conn_id).get_launcher_for(attempt)


class AxReapOperator(_MaintenanceOperator):
    """Ends what DAG runs of this Airflow that are over have left behind: apps that no task waits for, open trials.

    A trial whose app has succeeded is completed with its results; any other app is cancelled and its trial ABANDONED.
    The DAG run of a DAG whose file was removed counts as running, as Airflow has it; ``airflow ax reap`` ends what it
    has left, too.

    ```python
    from airflow.sdk import DAG
    from airflow_provider_axtx.operators.ax import AxReapOperator

    with DAG("reap_hourly", schedule="@hourly"):
        AxReapOperator(task_id="reap", retries=2)
    ```

    :param torchx_conn_id: connection for attempts that do not say through which they were submitted (templated).
    :param ax_conn_id: connection of the experiment store (templated).
    :return: ``[{experiment, trial_index, trial_status, message}]`` of what was ended.
    """

    template_fields: Sequence[str] = ("torchx_conn_id", "ax_conn_id")

    @airflow_errors
    def execute(self, context: Context) -> list[dict[str, Any]]:
        """End what is left.

        :raises AirflowException: when some apps could not be ended, for example on another host; all were tried.
        """
        from airflow_provider_axtx.lifecycle.reap import orphans_without_dag_run, reap

        store, active = self._store(), _activity(context)
        if store is None:
            return []
        found = orphans_without_dag_run(store, (), installation=installation_id())
        ended = [orphan for orphan in found if not active(orphan.owner)]
        reason = "reaped: its DAG run is over and none waits for it"
        reaped = reap(store, self._launcher_for, ended, reason, is_active=_activity(context))
        for one in reaped:
            self.log.warning("Reaped %s", one)
        return [asdict(one) for one in reaped]


class AxCleanupOperator(_MaintenanceOperator):
    """Removes experiments that have ended and have not been used for a time, as ``airflow ax cleanup`` does.

    An experiment goes with its rows, the trackers of its attempts, and the folders and logs of their apps on
    ``local_detached`` and, below ``job_dir``, on Slurm. An experiment that is still used, or that has files which this
    worker cannot remove, is left with the reason.

    ```python
    from airflow.sdk import DAG
    from airflow_provider_axtx.operators.ax import AxCleanupOperator

    with DAG("clean_up", schedule="@daily"):
        AxCleanupOperator(task_id="cleanup", older_than="90d", keep_best=True)
    ```

    :param older_than: how long an experiment must not have been used: a ``timedelta``, seconds, or a text such as
        ``90d`` (templated).
    :param keep_best: keep the records of all trials, and the files of the best one or of those on the Pareto frontier;
        remove the files of the others.
    :param experiment_name: only this experiment (templated); None is all. A template has to give the name of an
        experiment that belongs to the DAG or is shared with it.
    :param torchx_conn_id: connection for attempts that do not say through which they were submitted (templated).
    :param ax_conn_id: connection of the experiment store (templated).
    :return: ``[{experiment, result, attempts, reason}]``; ``result`` is ``removed``, ``files removed`` or ``left``.
    """

    template_fields: Sequence[str] = ("older_than", "experiment_name", "torchx_conn_id", "ax_conn_id")

    def __init__(
        self,
        *,
        older_than: Templated[str | float | timedelta],
        keep_best: bool = False,
        experiment_name: Templated[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.older_than = older_than
        self.keep_best = as_flag("keep_best", keep_best)
        self.experiment_name = experiment_name
        self.note_template("experiment_name", experiment_name)
        if not is_templated(older_than):
            as_duration("older_than", older_than)

    @airflow_errors
    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Remove what is old; each experiment is on its own."""
        from airflow_provider_axtx.lifecycle.cleanup import Retention, clean_up

        idle_since = time.time() - as_duration("older_than", self.older_than)
        store = self._store()
        if store is None:
            return []
        experiment = None
        # An empty template is not "all": a form must not remove every experiment.
        if is_given(self.experiment_name) or self.came_from_template("experiment_name"):
            experiment = readable_experiment(self, store, context["ti"].dag_id)
        retention = Retention(
            idle_since=idle_since,
            experiment=experiment,
            keep_best=self.keep_best,
            installation=installation_id(),
        )
        lines = clean_up(store, self._launcher_for, retention, is_active=_activity(context))
        for line in lines:
            if line.reason:
                self.log.warning("%s is left: %s", line.experiment, line.reason)
            else:
                self.log.info("%s: %s", line.experiment, line.result)
        return [asdict(line) for line in lines]


def _activity(context: Context) -> Callable[[TaskIdentity], bool]:
    """Return what tells whether the DAG run of a task is active; Airflow is asked once for each DAG run."""
    answers: dict[tuple[str, str], bool] = {}

    def active(task: TaskIdentity) -> bool:
        key = (task.dag_id, task.run_id)
        if key not in answers:
            answers[key] = is_active(context["ti"], task)
        return answers[key]

    return active
