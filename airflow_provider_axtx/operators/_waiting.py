"""Waiting for a trial's app, shared by the sensor and by ``TorchXRunTrialOperator``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk.exceptions import AirflowException, AirflowFailException

from airflow_provider_axtx.core.app_observation import (
    DEFAULT_GRACE_POLLS,
    DEFAULT_GRACE_SECONDS,
    AppObservation,
    LostAppPolicy,
)
from airflow_provider_axtx.core.errors import (
    AppElsewhereError,
    AxtxError,
    InvalidInputError,
    SchedulerUnavailableError,
    TrackerUnavailableError,
)
from airflow_provider_axtx.core.inputs import as_choice, as_flag, as_int, as_seconds
from airflow_provider_axtx.core.patience import Patience
from airflow_provider_axtx.core.status import TERMINAL_TRIAL_STATUSES
from airflow_provider_axtx.core.xcom import SubmittedTrial, TrialOutcome
from airflow_provider_axtx.operators._ending import CancelOnKillMixin
from airflow_provider_axtx.operators._metrics import count_trial
from airflow_provider_axtx.operators.base import airflow_errors
from airflow_provider_axtx.triggers.timing import earliest_event

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_axtx.core.records import AttemptRecord
    from airflow_provider_axtx.launcher.logs import LogFollower
    from airflow_provider_axtx.triggers.trial import TorchXTrialTrigger

ON_TIMEOUT = ("cancel", "fail")
#: Lines of the app's log that are shown when a trial fails.
LOG_LINES = 50
_EVENTS = ("observed", "timeout", "execution_timeout", "error", "progress")


class WaitForTrialMixin(CancelOnKillMixin):
    """Base of the tasks that wait for an app.

    :param on_timeout: what happens after ``timeout`` seconds since submission: ``cancel`` cancels the app and reports
        the trial ABANDONED; ``fail`` cancels it too and fails the task.
    :param fail_on: terminal ``TrialStatus`` names that fail the task; by default none does, since a failed trial is
        data for Ax. The trial's status is recorded either way.
    :param grace_seconds: how long after submission an app that the scheduler does not know may still turn up, in
        seconds or as a ``timedelta``.
    :param grace_polls: consecutive polls without the app before it is lost.
    :param stream_logs: show the app's output in the task's log while it runs, each ``poke_interval``; when the task is
        rescheduled, as a whole at the end. A triggerer that is restarted shows again what it has shown.
    :param early_stopping_interval: for an experiment with ``early_stopping``, seconds between two looks at the app's
        progressive results while the task is deferred: each takes a worker slot for some seconds. A task that is not
        deferred looks every ``poke_interval``.
    """

    poke_interval: float
    timeout: float

    def __init__(
        self,
        *,
        on_timeout: str = "cancel",
        fail_on: Sequence[str] = (),
        grace_seconds: float | timedelta = DEFAULT_GRACE_SECONDS,
        grace_polls: int = DEFAULT_GRACE_POLLS,
        stream_logs: bool = False,
        early_stopping_interval: float | timedelta = 60.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.on_timeout = as_choice("on_timeout", on_timeout, ON_TIMEOUT)
        self.fail_on = tuple(fail_on)
        unknown = sorted(set(self.fail_on) - TERMINAL_TRIAL_STATUSES)
        if unknown or isinstance(fail_on, str):
            raise InvalidInputError(
                f"fail_on must not be {fail_on!r}.", fix=f"a list of {', '.join(sorted(TERMINAL_TRIAL_STATUSES))}."
            )
        self.grace_seconds = as_seconds("grace_seconds", grace_seconds)
        self.grace_polls = as_int("grace_polls", grace_polls, minimum=1)
        self.stream_logs = as_flag("stream_logs", stream_logs)
        self.early_stopping_interval = as_seconds("early_stopping_interval", early_stopping_interval)
        self._has_early_stopping: bool | None = None
        self._steps_seen = 0
        self._steering_seen: int | None = None
        self._curve_source: dict[str, Any] | None = None
        self._follower: tuple[str, LogFollower] | None = None
        self._log_given: dict[str, int] = {}
        #: Seconds until the next poll; longer than ``poke_interval`` while the scheduler does not answer.
        self._pause = 0.0

    @property
    def waits_in_process(self) -> bool:
        """Whether this task's process polls the app until it ends."""
        return True

    @property
    def lost_app_policy(self) -> LostAppPolicy:
        """How long the app may be unknown."""
        return LostAppPolicy(self.grace_seconds, self.grace_polls)

    def find_attempt(self, trial: SubmittedTrial) -> AttemptRecord:
        """Return the recorded attempt, and make it the one that ends with the task.

        When the submit task was cleared meanwhile, it is the attempt that followed: the one waited for was cancelled.
        """
        attempt = self.own_attempt(trial)
        self.track_attempt(attempt)
        return attempt

    def own_attempt(self, trial: SubmittedTrial) -> AttemptRecord:
        """Return the recorded attempt, if this task may end its app."""
        from airflow_provider_axtx.lifecycle.attempts import find_attempt
        from airflow_provider_axtx.lifecycle.ownership import require_own

        if self._live_attempt is None:
            # An XCom can be edited: this task may end the app that it names.
            require_own(self.ax_hook.store, trial.experiment, self._identity.dag_id if self._identity else "")
        return find_attempt(self.ax_hook.store, trial)

    def deadline(self, attempt: AttemptRecord) -> float:
        """Return when the attempt has had its time, in seconds since the epoch.

        Counted from its submission: neither a retry of the task nor a restart of the triggerer gives it more.
        """
        return (attempt.submitted_at or attempt.requested_at) + self.timeout

    def poll(self, attempt: AttemptRecord) -> AppObservation:
        """Poll the app once, and let Ax stop its trial early. A call that is not answered counts as "poll again".

        :raises SchedulerUnavailableError: or TrackerUnavailableError, when ``core.patience`` is exhausted; at once when
            the app can only be observed on another host.
        """
        from airflow_provider_axtx.lifecycle.attempts import poll_attempt

        store = self.ax_hook.store
        self._pause = self.poke_interval
        try:
            observed = poll_attempt(store, self.launcher_for(attempt), attempt, self.lost_app_policy)
            if not observed.is_terminal:
                self._stop_by_hand(attempt)
                self._stop_early(attempt)
        except AppElsewhereError:
            raise
        except (SchedulerUnavailableError, TrackerUnavailableError) as error:
            # Counted in the store: a rescheduled task is another process at each poll.
            patience = Patience(self.poke_interval, store.note_poll_failure(attempt))
            self.log.warning("Poll %s in a row failed: %s", patience.failures, error)
            if patience.is_exhausted:
                store.clear_poll_failures(attempt)
                raise
            self._pause = patience.pause
            return AppObservation("PENDING", str(error))
        if attempt.poll_failures:
            store.clear_poll_failures(attempt)
        self.check_not_killed()
        if self.waits_in_process and not observed.is_terminal:
            self._show_new_lines(attempt)
        return observed

    def _stop_by_hand(self, attempt: AttemptRecord) -> None:
        """Cancel the app if a user has stopped its trial or the experiment; a later poll sees its end."""
        from airflow_provider_axtx.lifecycle.steering import read_steering, stop_app_if_asked

        steering = read_steering(self.ax_hook.store, attempt.experiment)
        stop_app_if_asked(self.ax_hook.store, self.launcher_for(attempt), attempt, steering)
        self._steering_seen = steering.position

    def _stop_early(self, attempt: AttemptRecord) -> None:
        """Cancel the app if Ax gives its trial up; a later poll sees its end."""
        from airflow_provider_axtx.lifecycle.early_stop import count_steps, has_early_stopping, stop_early

        if self._has_early_stopping is None:
            self._has_early_stopping = has_early_stopping(self.ax_hook.store, attempt.experiment)
        if not self._has_early_stopping:
            return
        from airflow_provider_axtx.lifecycle.reading import curve_metrics, curve_source

        # Counted before they are read: what is written in between wakes the task again.
        self._curve_source = curve_source(attempt, curve_metrics(self.ax_hook.store, attempt.experiment))
        self._steps_seen = count_steps(attempt, self._curve_source)
        stop_early(self.ax_hook.store, self.launcher_for, attempt.experiment, [attempt])

    def wait_in_process(self, trial: SubmittedTrial) -> dict[str, Any]:
        """Poll until the app has ended or its time is up; return the outcome as JSON."""
        while True:
            # Read again each time: that another process has cancelled it decides what its end means.
            attempt = self.find_attempt(trial)
            observed = self.poll(attempt)
            if observed.is_terminal:
                return self.conclude(attempt, observed)
            if time.time() > self.deadline(attempt):
                return self.time_out(attempt)
            time.sleep(self._pause)

    def wait_deferred(self, trial: SubmittedTrial, context: Context) -> dict[str, Any]:
        """Poll once, so that an app that has ended costs no deferral; else wait in the triggerer."""
        attempt = self.find_attempt(trial)
        observed = self.poll(attempt)
        while not observed.is_terminal:
            attempt = self.find_attempt(trial)  # the poll may have cancelled its app
            if attempt.app_handle is not None:
                self._defer(self.trigger(attempt, trial, self.execution_deadline(context)))
            # A new attempt that is just being submitted: the trigger has no app to poll yet.
            time.sleep(self._pause)
            attempt = self.find_attempt(trial)
            observed = self.poll(attempt)
        return self.conclude(attempt, observed)

    def _defer(self, trigger: TorchXTrialTrigger) -> NoReturn:
        # No timeout of Airflow's: after it neither execute_complete nor the trigger's on_kill would run.
        self.defer(trigger=trigger, method_name="execute_complete", timeout=None)

    def trigger(
        self, attempt: AttemptRecord, trial: SubmittedTrial, execution_deadline: float | None = None
    ) -> TorchXTrialTrigger:
        """Return the trigger that waits in this task's place."""
        from airflow_provider_axtx.triggers.trial import TorchXTrialTrigger

        return TorchXTrialTrigger(
            run={
                **trial.to_json(),
                "attempt": attempt.number,
                "app_handle": attempt.app_handle,
                "tracker_base": attempt.tracker_base,
            },
            scheduler=attempt.scheduler,
            lookup_options=attempt.lookup_options,
            submitted_at=attempt.submitted_at or attempt.requested_at,
            deadline=self.deadline(attempt),
            execution_deadline=execution_deadline,
            not_before=earliest_event(),
            poll_interval=self.poke_interval,
            grace_seconds=self.grace_seconds,
            grace_polls=self.grace_polls,
            early_stopping_interval=self.early_stopping_interval if self._has_early_stopping else None,
            steps_seen=self._steps_seen,
            steering_seen=self._steering_seen,
            curve_source=self._curve_source,
            cancel_reason=attempt.cancel_reason,
            stream_logs=self.stream_logs,
            log_given=self._log_given,
            ax_conn_id=self.ax_conn_id,
            torchx_conn_id=self.torchx_conn_id,
            identity=None if self._identity is None else self._identity.to_json(),
        )

    @airflow_errors
    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> dict[str, Any]:
        """Go on after the trigger's event; an event that is missing or unknown is an error, never a success."""
        with self.responsible_for_app(context):
            if not event or event.get("status") not in _EVENTS:
                raise AirflowException(
                    f"The trigger sent no event that can be used: {event!r}. The task can be retried."
                )
            return self._go_on(context, event)

    def _go_on(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        trial = SubmittedTrial.from_json(event["run"])
        attempt = self.find_attempt(trial)
        if attempt.number != trial.attempt:
            self.log.info("Attempt %s was replaced; waiting for attempt %s.", trial.attempt, attempt.number)
            return self.wait_deferred(trial, context)
        self._log_given = event.get("log_given", {})
        if event["status"] == "progress":
            return self.wait_deferred(trial, context)
        if event["status"] == "timeout":
            return self.time_out(attempt)
        if event["status"] == "execution_timeout":
            self.fail_for_execution_timeout()
        if event["status"] == "error":
            if event.get("elsewhere"):
                self.log.warning("The triggerer cannot poll the app, this process waits: %s", event["message"])
                return self.wait_in_process(trial)
            raise AirflowException(f"The app could not be polled: {event['message']}")
        observed = AppObservation.from_json(event)
        if attempt.cancel_reason is not None and observed.app_state != "SUCCEEDED":
            # It may have been cancelled after the task had deferred, of which the trigger knows nothing.
            observed = LostAppPolicy().evaluate(observed, age=0, unseen_polls=0, cancel_reason=attempt.cancel_reason)
        return self.conclude(attempt, observed)

    def time_out(self, attempt: AttemptRecord) -> dict[str, Any]:
        """End an app whose time is up, unless it has ended by itself.

        :raises SchedulerUnavailableError: when the scheduler does not answer; the next try of the task goes on.
        """
        from airflow_provider_axtx.lifecycle.attempts import end_attempt, poll_attempt

        store, launcher = self.ax_hook.store, self.launcher_for(attempt)
        observed = poll_attempt(store, launcher, attempt, self.lost_app_policy)
        if observed.is_terminal:
            return self.conclude(attempt, observed)
        doing = "running" if observed.app_state == "RUNNING" else f"{observed.app_state} in the queue"
        reason = f"timeout: still {doing} {timedelta(seconds=round(self.timeout))} after its submission"
        outcome = TrialOutcome.from_json(end_attempt(store, launcher, attempt, reason))
        answer = self.report(attempt, outcome)
        if self.on_timeout == "fail" and outcome.trial_status != "COMPLETED":
            raise AirflowFailException(f"Trial {attempt.trial_index}: {reason}; the app was cancelled.")
        return answer

    def conclude(self, attempt: AttemptRecord, observed: AppObservation) -> dict[str, Any]:
        """Record the end of the attempt and report it."""
        from airflow_provider_axtx.lifecycle.complete import finalize
        from airflow_provider_axtx.lifecycle.last_line import with_last_line

        observed = with_last_line(self.launcher_for, attempt, observed)
        return self.report(attempt, finalize(self.ax_hook.store, attempt, observed))

    def report(self, attempt: AttemptRecord, outcome: TrialOutcome) -> dict[str, Any]:
        """Report how the attempt has ended: log, stats, the app's last log lines when it failed; apply ``fail_on``.

        :return: the outcome as JSON.
        """
        self._live_attempt = None
        self.note_lineage(outcome.experiment, [outcome.to_json()])
        if outcome.trial_status != "COMPLETED":
            # A COMPLETED one is counted when its results are recorded.
            count_trial(self, outcome.trial_status)
        self.log.info(
            "Trial %s: app %s, trial %s. %s",
            outcome.trial_index,
            outcome.app_state,
            outcome.trial_status,
            outcome.message,
        )
        while self._show_new_lines(attempt):
            pass
        if outcome.trial_status == "FAILED" and outcome.app_handle and not self.stream_logs:
            self._show_app_log(attempt, outcome)
        if outcome.trial_status in self.fail_on:
            raise AirflowFailException(f"Trial {outcome.trial_index} is {outcome.trial_status}: {outcome.message}")
        return outcome.to_json()

    def _show_new_lines(self, attempt: AttemptRecord) -> bool:
        """Show what the app has written since the last call; return whether there was any."""
        if not self.stream_logs or attempt.app_handle is None:
            return False
        if self._follower is None or self._follower[0] != attempt.app_handle:
            follower = self.launcher_for(attempt).follow(attempt.app_handle, self._log_given)
            self._follower = (attempt.app_handle, follower)
        lines = self._follower[1].new_lines()
        for line in lines:
            self.log.info("%s", line)
        return bool(lines)

    def _show_app_log(self, attempt: AttemptRecord, outcome: TrialOutcome) -> None:
        try:
            lines = self.launcher_for(attempt).logs(outcome.app_handle, lines=LOG_LINES)
        except AxtxError as error:
            self.log.warning("The log of %s cannot be read: %s", outcome.app_handle, error)
            return
        self.log.error("Last lines of %s:\n%s", outcome.app_handle, "\n".join(lines) or "(nothing)")
