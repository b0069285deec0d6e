"""Operators on the TorchX side: submit a trial's app, run it to its end, reap what a group of tasks left behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.sdk import conf, get_current_context
from airflow.sdk.exceptions import AirflowFailException

from airflow_provider_axtx.core.checkpoints import as_keep
from airflow_provider_axtx.core.errors import AxtxError, InvalidInputError
from airflow_provider_axtx.core.inputs import (
    DEFAULT_INTERVAL,
    ComponentRef,
    Templated,
    as_flag,
    as_int,
    as_interval,
    as_object,
    as_seconds,
    as_text,
    given_or,
    is_given,
    is_templated,
)
from airflow_provider_axtx.core.metric_sources import check_metrics
from airflow_provider_axtx.core.xcom import SubmittedTrial, TrialOutcome
from airflow_provider_axtx.hooks.ax import AxHook
from airflow_provider_axtx.hooks.torchx import TorchXHook
from airflow_provider_axtx.links import AppLink, ExperimentLink, TrialLink
from airflow_provider_axtx.operators._app_request import AppRequestMixin
from airflow_provider_axtx.operators._completing import complete_from_task
from airflow_provider_axtx.operators._foreign import allowed_component, recorded_trial
from airflow_provider_axtx.operators._metrics import count_trial
from airflow_provider_axtx.operators._new_trials import warn_of_other_hosts
from airflow_provider_axtx.operators._scope import task_scope
from airflow_provider_axtx.operators._steering import as_users_want
from airflow_provider_axtx.operators._templates import TypedTemplatesMixin
from airflow_provider_axtx.operators._waiting import WaitForTrialMixin
from airflow_provider_axtx.operators.base import (
    airflow_errors,
    current_identity,
    push_links,
    uncalled,
)
from airflow_provider_axtx.operators.body import recorded_failures

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_axtx.core.app_observation import AppObservation
    from airflow_provider_axtx.core.records import AttemptRecord
    from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher
    from airflow_provider_axtx.lifecycle.complete import Results
    from airflow_provider_axtx.lifecycle.reap import TaskScope
    from airflow_provider_axtx.store.experiments import ExperimentStore

_APP_FIELDS: tuple[str, ...] = (
    "trial",
    "component",
    "component_args",
    "scheduler",
    "scheduler_args",
    "tracker_base",
    "retry_from",
    "torchx_conn_id",
    "ax_conn_id",
)
#: The reason of trials that a reap has ended, unless it is given another one.
REAPED = "reaped: its tasks have ended and none waits for it"
_APP_RENDERERS = {"trial": "json", "component_args": "json", "scheduler_args": "json"}


class _SubmitTrialMixin(AppRequestMixin):
    """Base of the operators that submit an app.

    :param trial: the output of a generate task (templated).
    :param component: TorchX component, as in Ax's ``TorchXRunner``: a name (``utils.booth``), a file
        (``components.py:trainer``), an import path (``my_pkg.components:trainer``) or the function. The experiment's
        parameters match its arguments by name and type; ``trial_idx``, ``experiment_name``, ``tracker_base`` and
        ``checkpoint_dir`` are passed when its signature declares them.
    :param component_args: its constant arguments (templated).
    :param scheduler: TorchX scheduler; None means the connection's, ``local_detached`` without one (templated).
    :param scheduler_args: run options of the scheduler, added to the connection's (templated).
    :param tracker_base: folder or fsspec URL in which each attempt gets a folder of its own; None is the connection's
        ``tracker_base``, or a folder in AIRFLOW_HOME (templated).
    :param tracker_base_shared: pass ``tracker_base`` to the component as it is, as Ax's ``TorchXRunner`` does. Give
        each experiment another one then: apps report under the trial's index.
    :param retry_from: where an attempt after the trial's first begins (after an infrastructure failure, a preemption, a
        Clear): ``checkpoint`` leaves what the attempts before have left in the trial's checkpoint folder, ``beginning``
        removes it (templated).
    :param allow_app_change: let the trial run another component, with other constant arguments or on another scheduler
        than the other trials of its experiment. Without it that is an error: their results could not be compared.
    :param allowed_components: patterns of the components that a template in ``component`` may name, for example
        ``["utils.booth", "my_pkg.components:train"]``. One that a template names is refused unless this or the
        connection's ``allowed_components`` is set; the connection's list holds in any case. Not templated.
    :param metrics: where the metrics are read of a program that reports nothing by itself, by metric:
        ``{"accuracy": {"regex": r"val_acc=([0-9.eE+-]+)"}}`` in its output, ``{"json": "results.json", "key":
        "val.acc"}`` (``csv``, ``tensorboard``) in files in its tracker base, or ``mlflow`` in its run. ``take`` is
        ``last``, ``max``, ``min`` or a step. What the app reports to its tracker counts first.
    :param torchx_conn_id: connection of the scheduler.
    :param ax_conn_id: connection of the experiment store.
    """

    trial_retries = 0
    operator_extra_links = (ExperimentLink(), TrialLink(), AppLink())
    #: The scheduler's own page of the app.
    app_url: str | None = None

    def __init__(
        self,
        *,
        trial: Templated[Mapping[str, Any]],
        component: ComponentRef,
        component_args: Templated[Mapping[str, Any]] | None = None,
        scheduler: Templated[str] | None = None,
        scheduler_args: Templated[Mapping[str, Any]] | None = None,
        tracker_base: Templated[str] | None = None,
        tracker_base_shared: bool = False,
        allow_app_change: bool = False,
        allowed_components: Sequence[str] = (),
        metrics: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.note_template("component", component)
        self.allowed_components = tuple(self.of_dag_file("allowed_components", allowed_components))
        self.trial = trial
        self.component = uncalled(component)
        self.component_args = component_args
        self.scheduler = scheduler
        self.scheduler_args = scheduler_args
        self.tracker_base = tracker_base
        self.tracker_base_shared = as_flag("tracker_base_shared", tracker_base_shared)
        self.allow_app_change = as_flag("allow_app_change", allow_app_change)
        self.metrics = check_metrics(metrics, tracker_base_shared=self.tracker_base_shared)
        for name, value in (("component_args", component_args), ("scheduler_args", scheduler_args)):
            if not is_templated(value):
                as_object(name, value)

    def submit(self, context: Context) -> SubmittedTrial:
        """Submit the app, or adopt the one that is there."""
        from airflow_provider_axtx.lifecycle.steering import check_may_start
        from airflow_provider_axtx.lifecycle.submit import submit_trial

        identity = self._identity or current_identity(context, self.ax_hook.store, self.torchx_conn_id)
        request = self.app_request(
            allowed_component(self, self.component, self.allowed_components, self.torchx_hook),
            as_object("component_args", self.component_args),
        )
        launcher = self.torchx_hook.get_launcher(
            str(self.scheduler) if is_given(self.scheduler) else None, as_object("scheduler_args", self.scheduler_args)
        )
        warn_of_other_hosts(self, launcher.scheduler)
        trial = recorded_trial(self.ax_hook.store, self.trial, identity.dag_id)
        with as_users_want(self):
            submitted = submit_trial(
                self.ax_hook.store,
                launcher,
                trial,
                request,
                identity,
                on_attempt=self.track_attempt,
                launcher_for=self.launcher_for,
                check_start=lambda: check_may_start(self.ax_hook.store, trial.experiment, trial.trial_index),
            )
        self.check_not_killed()
        # Visible before anything waits, so that a killed task can be traced and cancelled by hand.
        context["ti"].xcom_push(key="app_handle", value=submitted.app_handle)
        self.note_lineage(submitted.experiment, [submitted.to_json()])
        self.app_url = self._page_of(launcher, submitted)
        push_links(self, context)
        return submitted

    def _page_of(self, launcher: TorchXLauncher, submitted: SubmittedTrial) -> str | None:
        try:
            return launcher.page_url(submitted.app_handle) if submitted.app_handle else None
        except AxtxError as error:
            self.log.warning("The scheduler's page of %s is not known: %s", submitted.app_handle, error)
            return None


class TorchXSubmitTrialOperator(_SubmitTrialMixin):
    """Submits the app of a trial; there is never more than one live app for a trial.

    A retry adopts the app that the try before submitted. A Clear cancels it and starts a new attempt. When the
    task fails for good, the app is ended. While a user has paused the experiment, the task is rescheduled; when a user
    has stopped the trial or its experiment, it is skipped and the trial is ABANDONED.

    The parameters are those of ``_SubmitTrialMixin``.

    ```python
    from airflow.sdk import DAG
    from airflow_provider_axtx.operators.torchx import TorchXSubmitTrialOperator

    with DAG("submit"):
        trial = "{{ ti.xcom_pull(task_ids='generate') }}"
        TorchXSubmitTrialOperator(task_id="submit", trial=trial, component="utils.booth")
    ```

    :return: the run: the trial with ``attempt``, ``app_handle`` and ``tracker_base``.
    """

    template_fields: Sequence[str] = _APP_FIELDS
    template_fields_renderers = _APP_RENDERERS
    ui_color = "#e6e3f5"

    @airflow_errors
    def execute(self, context: Context) -> dict[str, Any]:
        """Submit the app, or adopt the one that is there."""
        with self.responsible_for_app(context):
            return self.submit(context).to_json()


class TorchXRunTrialOperator(_SubmitTrialMixin, WaitForTrialMixin):
    """Submits the app of a trial and waits for its end, in one task; with ``complete`` it records the outcome too.

    The parameters are those of ``TorchXSubmitTrialOperator`` and ``TorchXTrialSensor``.

    ```python
    from airflow.sdk import DAG
    from airflow_provider_axtx.operators.torchx import TorchXRunTrialOperator

    with DAG("run_trial"):
        trial = "{{ ti.xcom_pull(task_ids='generate') }}"
        TorchXRunTrialOperator(task_id="run", trial=trial, component="utils.booth", complete=True)
    ```

    :param poke_interval: seconds between two polls of the app; ``poll_interval`` is the same.
    :param timeout: seconds since submission after which ``on_timeout`` applies.
    :param deferrable: wait in the triggerer instead of in a worker slot.
    :param stream_logs: show the app's output in the task's log, see ``WaitForTrialMixin``.
    :param trial_retries: how often the same parameters are submitted again after an infrastructure failure (lost,
        preempted, node failure). An app that exits non-zero is an objective failure and is not submitted again.
    :param complete: do what ``AxCompleteTrialOperator`` does when the app has ended, which saves the start of a task.
    :param results: with ``complete``, as for ``AxCompleteTrialOperator`` (templated).
    :param keep_checkpoints: with ``complete``, as for ``AxCompleteTrialOperator``.
    :return: the run with ``trial_status``, ``app_state``, ``message``; with ``complete`` also ``metrics``, ``usage``.
    """

    template_fields: Sequence[str] = (*_APP_FIELDS, "results")
    template_fields_renderers = {**_APP_RENDERERS, "results": "json"}
    ui_color = "#e6e3f5"

    def __init__(
        self,
        *,
        poke_interval: float | timedelta = DEFAULT_INTERVAL,
        poll_interval: float | timedelta | None = None,
        timeout: float | timedelta = timedelta(days=7),
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        trial_retries: int = 0,
        complete: bool = False,
        results: Results | Templated[Mapping[str, Any]] = None,
        keep_checkpoints: str = "all",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.keep_checkpoints = as_keep(keep_checkpoints)
        if results is not None and not complete:
            raise InvalidInputError(
                f"results={results!r} is for a task that completes its trial.",
                fix="pass complete=True, or give results to AxCompleteTrialOperator.",
            )
        self.complete = as_flag("complete", complete)
        self.results = uncalled(results)
        self.trial_retries = as_int("trial_retries", trial_retries, minimum=0)
        self.poke_interval = as_interval("poke_interval", poke_interval, "poll_interval", poll_interval)
        self.timeout = as_seconds("timeout", timeout)
        self.deferrable = as_flag("deferrable", deferrable)

    @property
    def waits_in_process(self) -> bool:
        """Whether this task's process polls the app until it ends."""
        return not self.deferrable

    @airflow_errors
    def execute(self, context: Context) -> dict[str, Any]:
        """Submit or adopt the app, then wait for it."""
        with self.responsible_for_app(context):
            return self._submit_and_wait(context)

    def _submit_and_wait(self, context: Context) -> dict[str, Any]:
        submitted = self.submit(context)
        return self.wait_deferred(submitted, context) if self.deferrable else self.wait_in_process(submitted)

    def conclude(self, attempt: AttemptRecord, observed: AppObservation) -> dict[str, Any]:
        """Record the end of the attempt, or submit the trial again after an infrastructure failure."""
        from airflow_provider_axtx.lifecycle.submit import retries_left

        store = self.ax_hook.store
        if not (observed.is_infrastructure_failure and retries_left(store, attempt, self.trial_retries)):
            return super().conclude(attempt, observed)
        store.finish_observed(attempt, observed)
        self.log.warning(
            "Trial %s, attempt %s: %s. Submitting it again.", attempt.trial_index, attempt.number, observed.message
        )
        return self._submit_and_wait(get_current_context())

    def report(self, attempt: AttemptRecord, outcome: TrialOutcome) -> dict[str, Any]:
        """Report how the attempt has ended, and complete its trial if that is this task's work."""
        answer = super().report(attempt, outcome)
        if not self.complete:
            return answer
        keep = self.keep_checkpoints
        return complete_from_task(self, get_current_context(), self.ax_hook.store, answer, self.results, keep)


class TorchXReapTrialsOperator(TypedTemplatesMixin):
    """Ends what tasks of this DAG run have left behind; to be used as a teardown.

    It ends only what its own group submitted or generated. In a task group these are the tasks of the group, those of
    groups in it included, and in a mapped group those of its own mapped instance. Outside every group they are the
    tasks upstream of it, direct or not; without any it is the whole DAG run.

    A trial whose app has succeeded is completed with its results; any other app is cancelled and its trial ABANDONED.
    Trials that were generated and never submitted are ABANDONED too.

    ```python
    from airflow.sdk import DAG
    from airflow_provider_axtx.operators.ax import AxGenerateTrialOperator
    from airflow_provider_axtx.operators.torchx import TorchXReapTrialsOperator

    with DAG("reaped"):
        generate = AxGenerateTrialOperator(task_id="generate", experiment_name="my-experiment")
        generate >> TorchXReapTrialsOperator(task_id="reap").as_teardown(setups=generate)
    ```

    :param reason: recorded as the reason of the cancelled trials (templated).
    :param fail_with_tasks: fail, once everything is ended, when one of these tasks has failed; a task of a trial's body
        does not count, if its failure was recorded as that of its trial. With
        ``as_teardown(on_failure_fail_dagrun=True)`` the reap then decides the DAG run as the tasks themselves would.
        Without it a DAG run that a user marks as failed ends as a success: Airflow skips the tasks that were to
        follow, and a DAG run whose last tasks were skipped, or are teardowns that succeeded, has succeeded.
    :param torchx_conn_id: connection for attempts that do not say through which they were submitted.
    :param ax_conn_id: connection of the experiment store.
    :return: ``[{experiment, trial_index, trial_status, message}]`` of what was ended.
    """

    template_fields: Sequence[str] = ("reason", "torchx_conn_id", "ax_conn_id")

    def __init__(
        self,
        *,
        reason: str = REAPED,
        fail_with_tasks: bool = False,
        torchx_conn_id: str = TorchXHook.default_conn_name,
        ax_conn_id: str = AxHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.reason = reason
        self.fail_with_tasks = as_flag("fail_with_tasks", fail_with_tasks)
        self.torchx_conn_id = torchx_conn_id
        self.ax_conn_id = ax_conn_id

    @cached_property
    def store(self) -> ExperimentStore:
        """The experiment store."""
        return AxHook(self.ax_conn_id).store

    @airflow_errors
    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Cancel the open attempts of the group's tasks and settle their open trials."""
        from airflow_provider_axtx.lifecycle.reap import orphans_of, reap

        task = current_identity(context, self.store)
        scope = task_scope(self, task.map_index)
        self.log.info("Reaping what these tasks have left: %s", scope)
        reason = as_text("reason", given_or(REAPED, self.reason))
        reaped = reap(self.store, self._launcher_for, orphans_of(self.store, task, scope), reason)
        for one in reaped:
            self.log.warning("Reaped %s", one)
            count_trial(self, one.trial_status)
        if self.fail_with_tasks:
            self._fail_with(context, scope)
        return [asdict(one) for one in reaped]

    def _fail_with(self, context: Context, scope: TaskScope) -> None:
        """Fail when a task of the scope has failed."""
        ti: Any = context["ti"]
        task_ids = sorted((scope.task_ids or frozenset()) - {self.task_id})
        states = ti.get_task_states(
            dag_id=ti.dag_id, run_ids=[ti.run_id], task_ids=task_ids, map_index=scope.map_index
        ).get(ti.run_id, {})
        recorded = recorded_failures(self.dag.tasks, states)
        failed = sorted(
            t for t, state in states.items() if state in ("failed", "upstream_failed") and t not in recorded
        )
        if failed:
            raise AirflowFailException(
                f"Everything that the tasks left is ended. This task fails because they failed: {', '.join(failed)}."
            )

    def _launcher_for(self, attempt: AttemptRecord) -> TorchXLauncher:
        return TorchXHook(attempt.identity.torchx_conn_id or self.torchx_conn_id).get_launcher_for(attempt)
