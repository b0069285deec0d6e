"""Submitting a trial's app at most once: plan, record, submit, record.

The write-ahead row is committed before the scheduler is called, and its submission key travels with the app. So the
next process can tell "never submitted" from "submitted, but the handle was not recorded".
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from airflow_provider_axtx.core.checkpoints import RetryFrom
from airflow_provider_axtx.core.errors import DuplicateAppError, ExperimentExistsError, TrialStateError
from airflow_provider_axtx.core.failpoints import crash_point
from airflow_provider_axtx.core.inputs import differing
from airflow_provider_axtx.core.keys import submission_key, tracker_base_for
from airflow_provider_axtx.core.records import BUDGET, PRICES, AttemptRecord, TaskIdentity
from airflow_provider_axtx.core.status import TrialStatus, is_terminal_trial_status
from airflow_provider_axtx.core.xcom import SubmittedTrial, Trial
from airflow_provider_axtx.launcher.tracker import check_reachable, remove_checkpoint, remove_results
from airflow_provider_axtx.lifecycle.attempts import KILLED, await_end, cancel_attempt, find_app
from airflow_provider_axtx.lifecycle.complete import conclude_patiently
from airflow_provider_axtx.lifecycle.conflicts import retry_conflicts
from airflow_provider_axtx.lifecycle.mlflow import mlflow_variables

if TYPE_CHECKING:
    from airflow_provider_axtx.launcher.plan import SubmissionPlan
    from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher
    from airflow_provider_axtx.store.experiments import ExperimentStore

log = logging.getLogger(__name__)

#: Statuses of a trial that a user's Clear lets run again.
REOPENABLE = ("FAILED", "ABANDONED")


@dataclass(frozen=True)
class Budget:
    """How far an app is to go before its trial pauses.

    :param argument: the argument that tells it.
    :param is_next: whether an EARLY_STOPPED trial goes on with it; else a trial that has attempts keeps its own.
    """

    argument: str
    value: float
    is_next: bool = False


@dataclass(frozen=True)
class AppRequest:
    """What to run for a trial.

    :param component: TorchX component: a name, ``file.py:function``, an import path ``module:function``, or a function.
    :param component_args: its constant arguments.
    :param tracker_base: folder or fsspec URL under which each attempt gets a folder of its own; None is
        ``tracker_root``.
    :param tracker_root: folder or fsspec URL.
    :param tracker_base_shared: pass ``tracker_base`` to the app as it is: all attempts share it.
    :param trial_retries: how many attempts that ended by an infrastructure failure are followed by another.
    :param metrics: where the metrics of a program are read that reports nothing by itself, see
        ``core.metric_sources``.
    :param retry_from: ``checkpoint`` leaves what earlier attempts of a trial have left in its checkpoint folder to the
        next one; ``beginning`` removes it before another attempt begins.
    :param prices: what ``cpu_hour`` and ``gpu_hour`` cost, recorded with each attempt.
    :param budget: how far the app of a new attempt is to go; None where trials are not promoted.
    :param allow_app_change: whether trials may run another component, with other constant arguments or on another
        scheduler than the experiment's trials before.
    """

    component: str | Callable[..., Any]
    component_args: Mapping[str, Any] = field(default_factory=dict)
    tracker_base: str | None = None
    tracker_root: str = ""
    tracker_base_shared: bool = False
    trial_retries: int = 0
    retry_from: RetryFrom = "checkpoint"
    prices: Mapping[str, float] = field(default_factory=dict)
    allow_app_change: bool = False
    metrics: Mapping[str, Any] | None = None
    budget: Budget | None = None

    def to_json(self, scheduler: str) -> dict[str, Any]:
        """Return what the trials of an experiment have in common, as it is recorded with the experiment."""
        component = self.component
        if not isinstance(component, str):
            component = f"{component.__module__}:{getattr(component, '__qualname__', type(component).__qualname__)}"
        constant: dict[str, Any] = json.loads(json.dumps(dict(self.component_args), default=str))
        app = {"component": component, "component_args": constant, "scheduler": scheduler}
        return {**app, "metrics": json.loads(json.dumps(self.metrics))} if self.metrics else app


def check_app(store: ExperimentStore, experiment: str, request: AppRequest, scheduler: str) -> dict[str, Any]:
    """Record what the experiment's trials run, or refuse what differs from the recorded: results could not be compared.

    :param scheduler: name of the scheduler that is to run it.
    :return: what is recorded.
    :raises ExperimentExistsError: when it differs and ``request.allow_app_change`` is not set; names what differs.
    """
    app = request.to_json(scheduler)
    recorded = store.record_app(experiment, app, replace=request.allow_app_change)
    lines = differing(recorded, {"metrics": None, **app}, "recorded")
    if lines:
        raise ExperimentExistsError(
            f"The trials of experiment {experiment!r} run another app: {'; '.join(lines)}.",
            fix="set it back, choose another experiment name, or pass allow_app_change=True to mix their results.",
        )
    return recorded


def lookup_options_of(launcher: TorchXLauncher, request: AppRequest) -> dict[str, Any]:
    """Return what is recorded with an attempt: how its app is found again, the prices, and the budget."""
    prices = {PRICES: dict(request.prices)} if request.prices else {}
    budget = {BUDGET: request.budget.value} if request.budget else {}
    return {**launcher.lookup_options(), **prices, **budget}


def budget_arguments(request: AppRequest, value: float | None) -> dict[str, float]:
    """Return the argument that tells an app how far to go; empty where trials are not promoted."""
    if request.budget is None or value is None:
        return {}
    return {request.budget.argument: int(value) if value.is_integer() else value}


@dataclass(frozen=True)
class _Submission:
    """One call of ``submit_trial``: what it works with."""

    store: ExperimentStore
    launcher: TorchXLauncher
    trial: Trial
    request: AppRequest
    identity: TaskIdentity
    launcher_for: Callable[[AttemptRecord], TorchXLauncher]
    check_start: Callable[[], None]

    @retry_conflicts
    def current_attempt(self) -> tuple[AttemptRecord, bool]:
        """Return the attempt to go on with, and whether this call began it."""
        record = self.store.trial(self.trial.experiment, self.trial.trial_index)
        last = self.store.latest_attempt(self.trial.experiment, self.trial.trial_index)
        if last is None:
            return self._begin(1, reopen=is_terminal_trial_status(record.status)), True
        if record.status == TrialStatus.CANDIDATE:
            # A FAILED trial that a user has asked to run again.
            return self._follow(last)
        cleared = was_cleared(last.identity, self.identity)
        if is_terminal_trial_status(record.status):
            if cleared and record.status in REOPENABLE:
                log.info("Trial %s was %s (%s); cleared, so it runs again.", record.index, record.status, record.reason)
                return self._follow(last, reopen=True)
            if self._is_promotion and record.status == TrialStatus.EARLY_STOPPED:
                return self._follow(last)
            log.info("Trial %s is %s already; nothing is submitted.", record.index, record.status)
            return last, False
        killed = last.cancel_reason is not None and last.cancel_reason.startswith(KILLED)
        if self._waits_for_another_scheduler(last):
            return self._begin(last.number + 1), True
        if not (cleared or killed or self._may_retry(last)):
            return self.store.pass_to_try(last, self.identity), False
        # Reopened: the task that waits for the cancelled app may have recorded its end as the trial's meanwhile.
        return self._follow(last, reopen=cleared)

    def _follow(self, last: AttemptRecord, *, reopen: bool = False) -> tuple[AttemptRecord, bool]:
        """Begin the attempt after the last one, as soon as the app of that is gone; one that had succeeded stays.

        The trial may have ended before its app: one that is marked is ABANDONED after 2 s, and its app may need longer.
        """
        if last.finished_at is None and self._has_succeeded(last):
            return self.store.attempt(last.experiment, last.trial_index, last.number), False
        return self._begin(last.number + 1, reopen=reopen), True

    def _waits_for_another_scheduler(self, last: AttemptRecord) -> bool:
        """Return whether an attempt was recorded for another scheduler than today's, and never submitted there."""
        if last.finished_at is not None or last.app_handle or last.scheduler == self.launcher.scheduler:
            return False
        launcher = self.launcher_for(last)
        if (handle := find_app(launcher, last)) is not None:
            self.store.record_handle(last, handle)
            return False
        self.store.finish_attempt(last, "CANCELLED", f"never submitted: the scheduler is {self.launcher.scheduler} now")
        return True

    def _has_succeeded(self, last: AttemptRecord) -> bool:
        """Cancel the app of an attempt that another one is to follow; return whether it had succeeded before.

        Then its trial has its results and never runs again.
        """
        launcher, reason = self.launcher_for(last), f"{KILLED}: cleared, attempt {last.number + 1} follows"
        last, observed = await_end(self.store, launcher, cancel_attempt(self.store, launcher, last, reason))
        if observed.app_state == "SUCCEEDED":
            return str(conclude_patiently(self.store, last, observed)["trial_status"]) == "COMPLETED"
        self.store.finish_observed(last, observed)
        return False

    def _may_retry(self, last: AttemptRecord) -> bool:
        return last.is_infrastructure_failure and retries_left(self.store, last, self.request.trial_retries)

    @property
    def _is_promotion(self) -> bool:
        return self.request.budget is not None and self.request.budget.is_next

    def _with_own_budget(self) -> AppRequest:
        """Return the request with the budget of the next attempt: the last one's, unless the trial is promoted."""
        request, last = self.request, self.store.latest_attempt(self.trial.experiment, self.trial.trial_index)
        if request.budget is None or request.budget.is_next or last is None or last.budget is None:
            return request
        return replace(request, budget=replace(request.budget, value=last.budget))

    def _begin(self, attempt: int, *, reopen: bool = False) -> AttemptRecord:
        """Check by a dry run that the app can be submitted, then commit the write-ahead row."""
        self.check_start()
        uid = self.store.uid(self.trial.experiment)
        key = submission_key(self.trial.experiment, uid, self.trial.trial_index, attempt)
        request = self._with_own_budget()
        budget = None if request.budget is None else request.budget.value
        base = tracker_base_for(key, request.tracker_root, request.tracker_base, shared=request.tracker_base_shared)
        asked = self._plan(key, base, budget).resources
        check_reachable(request.tracker_base or request.tracker_root)
        check_app(self.store, self.trial.experiment, self.request, self.launcher.scheduler)
        if request.tracker_base_shared:
            # Shared by all attempts: what an earlier one left there must not be read as this one's result.
            remove_results(base, self.trial.trial_index)
        if attempt > 1 and request.retry_from == "beginning" and not self._is_promotion:
            # Before the attempt is recorded: from then on its app may have written what must stay.
            remove_checkpoint(base, key)
            crash_point("submit.after_checkpoint_removed")
        crash_point("submit.before_begin_attempt")
        return self.store.begin_attempt(
            self.trial.experiment,
            self.trial.trial_index,
            expected_attempt=attempt,
            scheduler=self.launcher.scheduler,
            tracker_base=base,
            identity=self.identity,
            reopen_reason="cleared in Airflow, runs again" if reopen else None,
            cpus=asked.cpu or asked.replicas,
            gpus=asked.gpu,
            lookup_options=lookup_options_of(self.launcher, request),
            host=self.launcher.host,
            is_promoted=self._is_promotion,
        )

    def _plan(
        self, key: str, tracker_base: str, budget: float | None, variables: Mapping[str, str] | None = None
    ) -> SubmissionPlan:
        return self.launcher.plan(
            self.request.component,
            # The trial may have been generated before a parameter was added that its app has by now.
            {
                **self.store.backfill_values(self.trial.experiment),
                **self.trial.parameters,
                **budget_arguments(self.request, budget),
            },
            self.request.component_args,
            trial_index=self.trial.trial_index,
            experiment=self.trial.experiment,
            tracker_base=tracker_base,
            submission_key=key,
            variables=variables,
        )

    def attach_or_submit(self, attempt: AttemptRecord, *, began: bool) -> AttemptRecord:
        """Return the attempt with its handle: adopted when its app is there, else submitted."""
        handle = None if began else find_app(self.launcher_for(attempt), attempt)
        if handle is None and attempt.cancel_requested_at is not None:
            # Cancelled before it was submitted: nothing may start any more.
            attempt, seen = await_end(self.store, self.launcher_for(attempt), attempt)
            return self.store.finish_observed(attempt, seen)
        if handle is None:
            handle = self._submit(attempt)
        else:
            log.info("Trial %s, attempt %s was submitted already: %s", attempt.trial_index, attempt.number, handle)
        try:
            attempt = self.store.record_handle(attempt, handle)
        except TrialStateError:
            # A second app of the same attempt: the recorded one stays, ours goes before anything waits for it.
            self.launcher.cancel(handle)
            raise
        crash_point("submit.after_record_handle")
        if attempt.cancel_requested_at is not None:
            # Cancelled between the write-ahead row and the handle, when there was no app to cancel yet.
            self.launcher.cancel(handle)
        return attempt

    def _submit(self, attempt: AttemptRecord) -> str:
        variables = mlflow_variables(self.store, attempt, self.request.metrics, self.launcher.mlflow_tracking_uri)
        plan = self._plan(attempt.submission_key, attempt.tracker_base, attempt.budget, variables)
        crash_point("submit.before_submit")
        try:
            handle = self.launcher.submit(plan)
        except DuplicateAppError:
            # Another process of this task was faster, on a scheduler that refuses a second app of the same name.
            found = self.launcher.find(attempt.submission_key)
            if found is None:
                raise
            return found
        crash_point("submit.after_submit")
        log.info("Submitted trial %s, attempt %s: %s", attempt.trial_index, attempt.number, handle)
        return handle


def submit_trial(
    store: ExperimentStore,
    launcher: TorchXLauncher,
    trial: Trial,
    request: AppRequest,
    identity: TaskIdentity,
    *,
    on_attempt: Callable[[AttemptRecord], None] = lambda attempt: None,
    launcher_for: Callable[[AttemptRecord], TorchXLauncher] | None = None,
    check_start: Callable[[], None] = lambda: None,
) -> SubmittedTrial:
    """Return the one live attempt of the trial: an app that is already there is adopted, else one is submitted.

    A retry re-attaches. A user's Clear cancels the live attempt and starts a new one. A trial that has its results is
    never run again.

    :param on_attempt: told of the attempt as soon as it is recorded, so that a kill signal can cancel its app.
    :param launcher_for: gives the launcher of an earlier attempt, which may have run on another scheduler; None is
        ``launcher`` for all.
    :param check_start: called before an attempt begins; raises when nothing may be started.
    :raises ExperimentExistsError: when the experiment's trials run another app.
    :raises InvalidInputError: when the component does not fit the parameters; nothing is recorded or submitted then.
    :raises SchedulerUnavailableError: when the scheduler does not answer; the next call goes on from here.
    """
    submission = _Submission(
        store, launcher, trial, request, identity, launcher_for or (lambda attempt: launcher), check_start
    )
    attempt, began = submission.current_attempt()
    on_attempt(attempt)
    if attempt.app_handle is None and attempt.finished_at is None:
        attempt = submission.attach_or_submit(attempt, began=began)
    return SubmittedTrial(
        **trial.to_json(),
        attempt=attempt.number,
        app_handle=attempt.app_handle or "",
        tracker_base=attempt.tracker_base,
    )


def retries_left(store: ExperimentStore, attempt: AttemptRecord, trial_retries: int) -> bool:
    """Return whether a trial may be submitted again after its last attempt ended by an infrastructure failure."""
    if trial_retries < 1:
        return False
    earlier = [
        before for before in store.attempts(attempt.experiment, attempt.trial_index) if before.number < attempt.number
    ]
    return sum(before.is_infrastructure_failure for before in earlier) < trial_retries


def was_cleared(before: TaskIdentity, now: TaskIdentity) -> bool:
    """Return whether a user cleared the task since: Airflow sets ``max_tries`` anew at a Clear, never at a retry.

    It becomes the number of tries so far plus the task's ``retries``, which may be less than before when those were
    lowered. An earlier try that still runs (a zombie) was not cleared.
    """
    same_task = (before.dag_id, before.run_id, before.task_id, before.map_index) == (
        now.dag_id,
        now.run_id,
        now.task_id,
        now.map_index,
    )
    later = now.try_number > before.try_number
    return same_task and bool(now.dag_id) and later and now.max_tries != before.max_tries
