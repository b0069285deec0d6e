"""``AxOptimizeOperator``: a whole experiment in one task, trials in parallel."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk import conf
from airflow.sdk.exceptions import AirflowException

from airflow_provider_axtx.core.analysis import AnalysisPlan
from airflow_provider_axtx.core.app_observation import (
    DEFAULT_GRACE_POLLS,
    DEFAULT_GRACE_SECONDS,
    AppObservation,
    LostAppPolicy,
)
from airflow_provider_axtx.core.errors import (
    AppElsewhereError,
    SchedulerUnavailableError,
    TrackerUnavailableError,
    is_final,
)
from airflow_provider_axtx.core.inputs import (
    DEFAULT_INTERVAL,
    ComponentRef,
    Templated,
    as_flag,
    as_int,
    as_interval,
    as_object,
    as_seconds,
)
from airflow_provider_axtx.core.metric_sources import check_metrics
from airflow_provider_axtx.core.ownership import as_dag_ids
from airflow_provider_axtx.core.patience import Patience
from airflow_provider_axtx.links import ExperimentLink
from airflow_provider_axtx.operators._app_request import SettlesTrialsMixin
from airflow_provider_axtx.operators._dag_runs import settle_what_ended_dag_runs_left
from airflow_provider_axtx.operators._defaults import RetriesMixin
from airflow_provider_axtx.operators._definition import definition_of_task
from airflow_provider_axtx.operators._foreign import allowed_component
from airflow_provider_axtx.operators._metrics import generation_timer
from airflow_provider_axtx.operators._new_trials import launcher_of_new_trials
from airflow_provider_axtx.operators._optimize_checks import check_optimize_at_parse
from airflow_provider_axtx.operators._optimize_deferral import may_end_soon
from airflow_provider_axtx.operators._optimize_result import result_of
from airflow_provider_axtx.operators.base import (
    airflow_errors,
    as_if_exists,
    as_on_change,
    definition_of,
    push_links,
    uncalled,
)
from airflow_provider_axtx.spec.limits import Limits
from airflow_provider_axtx.triggers.timing import earliest_event

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_axtx.core.records import TaskIdentity
    from airflow_provider_axtx.lifecycle.optimize import Loop, Step
    from airflow_provider_axtx.spec.inputs import ExperimentInput

_LIMITS: tuple[str, ...] = tuple(Limits.model_fields)


class AxOptimizeOperator(RetriesMixin, SettlesTrialsMixin):
    """Runs a whole experiment: generates trials, keeps ``parallelism`` apps running, refills a slot at once.

    While it waits deferred it holds no worker slot. A deferral takes at least ``[workers] min_heartbeat_interval`` and
    5 s, 10 s by default. It does not defer when a limit or a timeout is due sooner, or when an app may end sooner:
    in its first seconds, or at about the time that the last app took. The latter only with a shorter ``poll_interval``.

    It can be killed at any moment: a retry re-attaches to the live apps and goes on. So does a user's Clear; its
    trials whose apps were cancelled by it run again, those that a reaper has ended meanwhile stay ABANDONED, and
    further trials follow up to ``max_trials``. A Clear of a task that had finished returns the result again, unless a
    limit was raised. A retry, a Clear and another DAG run with the same experiment count what is there:
    ``max_trials`` is the experiment's, ``max_seconds`` counts from the task's first start. When the task fails for
    good, its live apps are cancelled.

    ```python
    from airflow.sdk import DAG
    from airflow_provider_axtx.operators.ax import AxOptimizeOperator

    X = {"type": "range", "parameter_type": "float", "bounds": [-10, 10]}
    EXPERIMENT = {"name": "booth", "parameters": [{"name": "x1", **X}, {"name": "x2", **X}], "objective": "-booth_eval"}

    with DAG("optimize"):
        AxOptimizeOperator(
            task_id="optimize", experiment=EXPERIMENT, component="utils.booth", max_trials=20, parallelism=4
        )
    ```

    :param experiment: an ``ExperimentSpec``, a dict, a JSON string of it (templated), or the path of a YAML or JSON
        file. What is known of it when the DAG is parsed is checked then.
    :param component: TorchX component, as for ``TorchXSubmitTrialOperator``.
    :param max_trials: no further trial when the experiment has this many (templated).
    :param parallelism: trials in flight at once (templated).
    :param component_args: the component's constant arguments (templated).
    :param scheduler: TorchX scheduler; None means the connection's, ``local_detached`` without one (templated).
    :param scheduler_args: run options of the scheduler, added to the connection's (templated).
    :param tracker_base: folder or fsspec URL in which each attempt gets a folder of its own; None is the connection's
        (templated).
    :param tracker_base_shared: pass ``tracker_base`` to the component as it is: apps report under the trial's index.
    :param if_exists: ``resume`` goes on with an experiment of the same name and definition; ``fail`` refuses one that
        this task has not created itself (templated).
    :param on_change: see ``AxCreateExperimentOperator`` (templated).
    :param analyze: when the experiment is explained: ``"end"``, or a number, then also whenever so many further trials
        have completed; None is never (templated).
    :param max_failed_trials: ends when this many trials of this task have failed or timed out (templated).
    :param max_failure_rate: ends when a greater share of its ended trials has failed or timed out (templated).
    :param min_trials_for_rate: trials that must have ended before the rate counts, 5 by default (templated).
    :param deadline: ends at this point in time, a ``datetime`` or ISO text with a time zone (templated).
    :param max_seconds: ends so long after the first start of the task (templated).
    :param max_resource_hours: ends when the apps' core-hours or GPU-hours, from start to end, reach this; an app that
        names no cores counts as one for each replica (templated).
    :param resource: ``cpu`` or ``gpu``: which hours ``max_resource_hours`` limits (templated).
    :param max_cost: ends when the apps have cost this much, at the ``prices`` of the connection (templated).
    :param on_stop: what a limit does to the apps that still run: ``drain`` lets them end, ``cancel`` cancels them.
    :param on_trial_failure: ``continue``, since a failed trial is data for Ax; or ``fail``, which ends the experiment
        at the first one and fails the task.
    :param trial_timeout: seconds since its submission after which an app is cancelled and its trial ABANDONED.
    :param trial_retries: how often the same parameters are submitted again after an infrastructure failure.
    :param retry_from: see ``TorchXSubmitTrialOperator`` (templated).
    :param keep_checkpoints: see ``AxCompleteTrialOperator``.
    :param poll_interval: seconds between two looks at the apps; ``poke_interval`` is the same.
    :param early_stopping_interval: seconds between two looks at progressive results, if the experiment stops early.
    :param propose_ahead: how many trials are proposed before a slot is free for them; None is one for 8 slots from 32
        results on (docs/performance.md tells when fewer); with random search, 2 for each slot.
    :param allowed_factories: see ``AxCreateExperimentOperator``.
    :param allowed_components: see ``TorchXSubmitTrialOperator``.
    :param shared_with: see ``AxCreateExperimentOperator``.
    :param deferrable: wait in the triggerer instead of in a worker slot.
    :param grace_seconds: how long after submission an app that the scheduler does not know may still turn up.
    :param grace_polls: consecutive observations without the app before it is lost.
    :param allow_app_change: let trials run another component, with other constant arguments or on another scheduler
        than the experiment's earlier trials. Without it such a change is an error once the live apps have ended.
    :param metrics: where the metrics are read of a program that reports nothing, see ``TorchXSubmitTrialOperator``.
    :param torchx_conn_id: connection of the scheduler.
    :param ax_conn_id: connection of the experiment store.
    :return: ``{experiment, best, trials: {status: n}, n_trials, stop_reason, resource_hours: {cpu, gpu}, cost,
        saved}``; ``best`` is one trial, the Pareto frontier as a list for several objectives, or None if no trial is
        feasible; ``cost`` is None without prices; ``saved`` is what early stopping and continuing have saved.
    """

    template_fields: Sequence[str] = (
        "experiment",
        "component",
        "component_args",
        "scheduler",
        "scheduler_args",
        "tracker_base",
        *("retry_from", "if_exists", "on_change", "analyze"),
        *_LIMITS,
        "torchx_conn_id",
        "ax_conn_id",
    )
    template_fields_renderers = {"experiment": "json", "component_args": "json", "scheduler_args": "json"}
    ui_color = "#e3f0e8"
    operator_extra_links = (ExperimentLink(),)
    lineage_writes = True

    def __init__(
        self,
        *,
        experiment: ExperimentInput,
        component: ComponentRef,
        max_trials: Templated[int],
        parallelism: Templated[int] = 1,
        component_args: Templated[Mapping[str, Any]] | None = None,
        scheduler: str | None = None,
        scheduler_args: Templated[Mapping[str, Any]] | None = None,
        tracker_base: str | None = None,
        if_exists: str = "resume",
        on_change: str = "refuse",
        analyze: Templated[int | str] | None = None,
        max_failed_trials: Templated[int] | None = None,
        max_failure_rate: Templated[float] | None = None,
        min_trials_for_rate: Templated[int] | None = None,
        deadline: datetime | str | None = None,
        max_seconds: Templated[float | timedelta] | None = None,
        max_resource_hours: Templated[float] | None = None,
        resource: str = "cpu",
        max_cost: Templated[float] | None = None,
        on_trial_failure: str = "continue",
        on_stop: str = "drain",
        trial_timeout: float | timedelta = timedelta(days=7),
        trial_retries: int = 0,
        poll_interval: float | timedelta = DEFAULT_INTERVAL,
        poke_interval: float | timedelta | None = None,
        early_stopping_interval: float | timedelta = 60.0,
        propose_ahead: int | None = None,
        allowed_factories: Sequence[str] = (),
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        grace_seconds: float | timedelta = DEFAULT_GRACE_SECONDS,
        grace_polls: int = DEFAULT_GRACE_POLLS,
        tracker_base_shared: bool = False,
        allow_app_change: bool = False,
        allowed_components: Sequence[str] = (),
        shared_with: Sequence[str] = (),
        metrics: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.note_template("component", component)
        self.allowed_components = tuple(self.of_dag_file("allowed_components", allowed_components))
        self.shared_with = as_dag_ids("shared_with", self.of_dag_file("shared_with", shared_with))
        self.experiment = definition_of(self, experiment)
        self.component = uncalled(component)
        self.component_args = component_args
        self.scheduler = scheduler
        self.scheduler_args = scheduler_args
        self.tracker_base = tracker_base
        self.if_exists = if_exists
        self.on_change = on_change
        self.analyze = analyze
        self.max_trials = max_trials
        self.parallelism = parallelism
        self.max_failed_trials = max_failed_trials
        self.max_failure_rate = max_failure_rate
        self.min_trials_for_rate = min_trials_for_rate
        self.deadline = deadline
        self.max_seconds = max_seconds
        self.max_resource_hours = max_resource_hours
        self.resource = resource
        self.max_cost = max_cost
        self.on_trial_failure = on_trial_failure
        self.on_stop = on_stop
        self.trial_timeout = as_seconds("trial_timeout", trial_timeout)
        self.trial_retries = as_int("trial_retries", trial_retries, minimum=0)
        self.poll_interval = as_interval("poll_interval", poll_interval, "poke_interval", poke_interval)
        self.early_stopping_interval = as_seconds("early_stopping_interval", early_stopping_interval)
        self.propose_ahead = None if propose_ahead is None else as_int("propose_ahead", propose_ahead, minimum=0)
        self.allowed_factories = tuple(self.of_dag_file("allowed_factories", allowed_factories))
        self.deferrable = as_flag("deferrable", deferrable)
        self.tracker_base_shared = as_flag("tracker_base_shared", tracker_base_shared)
        self.allow_app_change = as_flag("allow_app_change", allow_app_change)
        self.metrics = check_metrics(metrics, tracker_base_shared=self.tracker_base_shared)
        self.lost_app_policy = LostAppPolicy(
            as_seconds("grace_seconds", grace_seconds), as_int("grace_polls", grace_polls, minimum=1)
        )
        check_optimize_at_parse(self, _LIMITS)

    @airflow_errors
    def execute(self, context: Context) -> dict[str, Any]:
        """Run the experiment, or go on with it."""
        with self.responsible_for_app(context) as identity:
            return self._run(context, identity, {}, first=True)

    @airflow_errors
    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> dict[str, Any]:
        """Go on after the trigger's event; an event that is missing or unknown is an error, never a success."""
        with self.responsible_for_app(context) as identity:
            if not event or event.get("status") not in ("ended", "due", "error", "execution_timeout"):
                raise AirflowException(
                    f"The trigger sent no event that can be used: {event!r}. The task can be retried."
                )
            if event["status"] == "execution_timeout":
                self.fail_for_execution_timeout()
            if event["status"] == "error":
                # Polled from here, with pauses: this may be a machine that reaches the scheduler.
                self.log.warning("The apps could not be polled by the triggerer: %s", event["message"])
                # From its host they never can: deferring again would wake this task again and again.
                self.deferrable = self.deferrable and not event.get("elsewhere")
            ended = {handle: AppObservation.from_json(seen) for handle, seen in event.get("apps", {}).items()}
            return self._run(context, identity, ended)

    def _run(
        self,
        context: Context,
        identity: TaskIdentity,
        ended: Mapping[str, AppObservation],
        *,
        first: bool = False,
    ) -> dict[str, Any]:
        """Take steps until the experiment has ended.

        :param ended: what the trigger has observed.
        :param first: whether a try begins, rather than goes on after a deferral.
        """
        self.check_not_killed()
        loop = self._make_loop(identity)
        push_links(self, context)
        if first:
            from airflow_provider_axtx.lifecycle.reap import end_task

            store = self.ax_hook.store
            # A user's Clear may take up a changed name; no task would wait for the apps of the experiment before it.
            reason = f"{self.task_id} was cleared and runs another experiment now"
            end_task(store, self.launcher_for, identity, reason, other_than=loop.experiment)
            settle_what_ended_dag_runs_left(store, self.launcher_for, loop.experiment, identity, context["ti"])
        return self._steps(context, loop, ended)

    def _make_loop(self, identity: TaskIdentity) -> Loop:
        from airflow_provider_axtx.lifecycle.generate import start_loop
        from airflow_provider_axtx.lifecycle.optimize import Loop
        from airflow_provider_axtx.spec.halving import argument_types

        spec = definition_of_task(self.ax_hook.store, self.experiment, identity)
        limits = Limits.load(**{name: getattr(self, name) for name in _LIMITS})
        self.check_prices(limits.max_cost)
        component = allowed_component(self, self.component, self.allowed_components, self.torchx_hook)
        component_args = as_object("component_args", self.component_args)
        launcher, refusal = launcher_of_new_trials(self, identity, self.scheduler, self.scheduler_args)
        store, task_key = self.ax_hook.store, identity.task_key
        if store.loop(spec.name, task_key) is None:
            launcher.check(component, argument_types(spec), component_args)
        record = start_loop(
            store,
            spec,
            if_exists=as_if_exists(self.if_exists),
            on_change=as_on_change(self.on_change),
            task_key=task_key,
            max_tries=identity.max_tries,
            allowed_factories=self.allowed_factories,
            created_by=identity,
            shared_with=self.shared_with,
        )
        return Loop(
            store=store,
            launcher=launcher,
            experiment=spec.name,
            task_key=task_key,
            identity=identity,
            started_at=record.started_at,
            request=self.app_request(component, component_args),
            limits=limits,
            analysis=AnalysisPlan.load(self.analyze),
            trial_timeout=self.trial_timeout,
            early_stopping_interval=self.early_stopping_interval,
            policy=self.lost_app_policy,
            propose_ahead=self.propose_ahead,
            launcher_for=self.launcher_for,
            refusal=refusal,
            allowed_factories=self.allowed_factories,
            check=self.check_not_killed,
            on_finalized=functools.partial(self.note_end, spec.name),
            generating=lambda: generation_timer(self),
        )

    def _steps(self, context: Context, loop: Loop, ended: Mapping[str, AppObservation]) -> dict[str, Any]:
        patience = Patience(self.poll_interval)
        while True:
            error: Exception | None = None
            try:
                step = loop.step(ended)
                error, ended = step.error, {}
            except AppElsewhereError:
                raise  # another worker may be able to observe the app
            except (SchedulerUnavailableError, TrackerUnavailableError) as unavailable:
                error = unavailable
            if error is not None:
                patience.note_failure()
                self.log.warning("Step %s in a row met an error: %s", patience.failures, error)
                if is_final(error) or patience.is_exhausted:
                    raise error
                time.sleep(patience.pause)
                self.check_not_killed()
                continue
            patience.note_answer()
            if step.finished is not None:
                return result_of(self, context, loop, step.finished)
            if step.is_filling or (step.changed and (self.deferrable or not step.live)):
                continue
            if self.deferrable and not may_end_soon(step, self.poll_interval):
                self._defer(context, loop, step)
            loop.await_end(step, self.poll_interval)
            self.check_not_killed()

    def _defer(self, context: Context, loop: Loop, step: Step) -> NoReturn:
        from airflow_provider_axtx.triggers.optimize import AxOptimizeTrigger, lookups_of

        submitted = {str(attempt.app_handle): attempt.submitted_at or attempt.requested_at for attempt in step.live}
        # Visible while it waits, so that a killed task can be traced and cancelled by hand.
        context["ti"].xcom_push(key="app_handles", value=list(submitted))
        trigger = AxOptimizeTrigger(
            experiment=loop.experiment,
            submitted=submitted,
            identity=loop.identity.to_json(),
            scheduler=step.live[0].scheduler if step.live else loop.launcher.scheduler,
            until=step.until,
            poll_interval=self.poll_interval,
            grace_seconds=self.lost_app_policy.seconds,
            grace_polls=self.lost_app_policy.polls,
            ax_conn_id=self.ax_conn_id,
            reporting=step.reporting,
            early_stopping_interval=self.early_stopping_interval,
            lookups=lookups_of(step.live),
            not_before=earliest_event(),
            execution_deadline=self.execution_deadline(context),
            steering_seen=step.steering_seen,
            cancelled={str(one.app_handle): one.cancel_reason for one in step.live if one.cancel_reason is not None},
        )
        # No timeout of Airflow's: after it neither execute_complete nor the trigger's on_kill would run.
        self.defer(trigger=trigger, method_name="execute_complete", timeout=None)
