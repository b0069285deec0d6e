"""Waiting for a trial's app, shared by the sensor and by ``TorchXRunTrialOperator``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowException, AirflowFailException

from airflow_provider_axtx.core.app_observation import (
    DEFAULT_GRACE_POLLS,
    DEFAULT_GRACE_SECONDS,
    AppObservation,
    LostAppPolicy,
)
from airflow_provider_axtx.core.errors import (
    AxtxError,
    InvalidInputError,
    SchedulerUnavailableError,
    TrackerUnavailableError,
)
from airflow_provider_axtx.core.inputs import as_choice, as_seconds
from airflow_provider_axtx.core.status import TERMINAL_TRIAL_STATUSES
from airflow_provider_axtx.core.xcom import SubmittedTrial, TrialOutcome
from airflow_provider_axtx.operators._metrics import count_trial
from airflow_provider_axtx.operators.base import CancelOnKillMixin, airflow_errors

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_axtx.core.records import AttemptRecord
    from airflow_provider_axtx.launcher.logs import LogFollower
    from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher
    from airflow_provider_axtx.triggers.trial import TorchXTrialTrigger

ON_TIMEOUT = ("cancel", "fail")
#: Consecutive failed observations after which the task fails, to be retried; the app is left alone.
MAX_POLL_FAILURES = 20
#: Lines of the app's log that are shown when a trial fails.
LOG_LINES = 50


class WaitForTrialMixin(CancelOnKillMixin):
    """Base of the tasks that wait for an app.

    :param on_timeout: what happens after ``timeout`` seconds since submission: ``cancel`` cancels the app and reports
        the trial ABANDONED; ``fail`` cancels it too and fails the task.
    :param fail_on: terminal ``TrialStatus`` names that fail the task; by default none does, since a failed trial is
        data for Ax. The trial's status is recorded either way.
    :param grace_seconds: how long after submission an app that the scheduler does not know may still turn up.
    :param grace_polls: consecutive observations without the app before it is lost.
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
        grace_seconds: float = DEFAULT_GRACE_SECONDS,
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
        self.grace_seconds = grace_seconds
        self.grace_polls = grace_polls
        self.stream_logs = stream_logs
        self.early_stopping_interval = as_seconds("early_stopping_interval", early_stopping_interval)
        self._has_early_stopping: bool | None = None
        self._steps_seen = 0
        self._poll_failures = 0
        self._follower: tuple[str, LogFollower] | None = None
        self._log_given: dict[str, int] = {}

    @property
    def waits_in_process(self) -> bool:
        """Whether this task's process looks at the app until it ends."""
        return True

    @property
    def lost_app_policy(self) -> LostAppPolicy:
        """How long the app may be unknown."""
        return LostAppPolicy(self.grace_seconds, self.grace_polls)

    def launcher_of(self, run: AttemptRecord) -> TorchXLauncher:
        """Return the launcher that reaches the app of the attempt."""
        return self.torchx_hook.get_launcher_for(run)

    def find_attempt(self, trial: SubmittedTrial) -> AttemptRecord:
        """Return the recorded run, and remember it as what ``on_kill`` cancels.

        When the submit task was cleared meanwhile, it is the attempt that followed: the one waited for was cancelled.
        """
        from airflow_provider_axtx.lifecycle.attempts import find_attempt

        run = find_attempt(self.ax_hook.store, trial)
        self.track_attempt(run)
        return run

    def deadline(self, run: AttemptRecord) -> float:
        """Return when the run has had its time, in seconds since the epoch.

        Counted from its submission: neither a retry of the task nor a restart of the triggerer gives it more.
        """
        return (run.submitted_at or run.requested_at) + self.timeout

    def poll(self, run: AttemptRecord) -> AppObservation:
        """Look once at the app, and whether Ax stops its trial early; what does not answer counts as "look again".

        :raises SchedulerUnavailableError: or TrackerUnavailableError, after ``MAX_POLL_FAILURES`` failures in a row.
        """
        from airflow_provider_axtx.lifecycle.attempts import poll_attempt

        try:
            observed = poll_attempt(self.ax_hook.store, self.launcher_of(run), run, self.lost_app_policy)
            if not observed.is_terminal:
                self._stop_early(run)
        except (SchedulerUnavailableError, TrackerUnavailableError) as error:
            self._poll_failures += 1
            self.log.warning("Look %s in a row failed: %s", self._poll_failures, error)
            if self._poll_failures >= MAX_POLL_FAILURES:
                raise
            return AppObservation("PENDING", str(error))
        self._poll_failures = 0
        self.check_not_killed()
        if self.waits_in_process and not observed.is_terminal:
            self._show_new_lines(run)
        return observed

    def _stop_early(self, run: AttemptRecord) -> None:
        """Cancel the app if Ax gives its trial up; a later poll sees its end."""
        from airflow_provider_axtx.launcher.tracker import list_steps
        from airflow_provider_axtx.lifecycle.early_stop import has_early_stopping, stop_early

        if self._has_early_stopping is None:
            self._has_early_stopping = has_early_stopping(self.ax_hook.store, run.experiment)
        if not self._has_early_stopping:
            return
        # Counted before they are read: what is written in between wakes the task again.
        self._steps_seen = len(list_steps(run.tracker_base, run.trial_index))
        stop_early(self.ax_hook.store, self.launcher_of, run.experiment, [run])

    def wait_in_process(self, trial: SubmittedTrial) -> dict[str, Any]:
        """Poll until the app has ended or its time is up; return the outcome as JSON."""
        while True:
            # Read again each time: that another process has cancelled it decides what its end means.
            run = self.find_attempt(trial)
            observed = self.poll(run)
            if observed.is_terminal:
                return self.conclude(run, observed)
            if time.time() > self.deadline(run):
                return self.time_out(run)
            time.sleep(self.poke_interval)

    def wait_deferred(self, trial: SubmittedTrial) -> dict[str, Any]:
        """Look once, so that an app that has ended costs no deferral; else wait in the triggerer."""
        run = self.find_attempt(trial)
        observed = self.poll(run)
        while not observed.is_terminal:
            if run.app_handle is not None:
                # No timeout of Airflow's: after it neither execute_complete nor the trigger's on_kill would run.
                self.defer(trigger=self.trigger(run, trial), method_name="execute_complete", timeout=None)
            # A new attempt that is just being submitted: the trigger has no app to look at yet.
            time.sleep(self.poke_interval)
            run = self.find_attempt(trial)
            observed = self.poll(run)
        return self.conclude(run, observed)

    def trigger(self, run: AttemptRecord, trial: SubmittedTrial) -> TorchXTrialTrigger:
        """Return the trigger that waits in this task's place."""
        from airflow_provider_axtx.triggers.trial import TorchXTrialTrigger

        return TorchXTrialTrigger(
            run={
                **trial.to_json(),
                "attempt": run.number,
                "app_handle": run.app_handle,
                "tracker_base": run.tracker_base,
            },
            scheduler=run.scheduler,
            submitted_at=run.submitted_at or run.requested_at,
            deadline=self.deadline(run),
            poll_interval=self.poke_interval,
            grace_seconds=self.grace_seconds,
            grace_polls=self.grace_polls,
            early_stopping_interval=self.early_stopping_interval if self._has_early_stopping else None,
            steps_seen=self._steps_seen,
            stream_logs=self.stream_logs,
            log_given=self._log_given,
            ax_conn_id=self.ax_conn_id,
            torchx_conn_id=self.torchx_conn_id,
        )

    @airflow_errors
    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> dict[str, Any]:
        """Go on after the trigger's event; an event that is missing or unknown is an error, never a success."""
        if not event or event.get("status") not in ("observed", "timeout", "error", "progress"):
            raise AirflowException(f"The trigger sent no event that can be used: {event!r}. The task can be retried.")
        trial = SubmittedTrial.from_json(event["run"])
        run = self.find_attempt(trial)
        if run.number != trial.attempt:
            self.log.info("Attempt %s was replaced; waiting for attempt %s.", trial.attempt, run.number)
            return self.wait_deferred(trial)
        self._log_given = event.get("log_given", {})
        if event["status"] == "progress":
            return self.wait_deferred(trial)
        if event["status"] == "timeout":
            return self.time_out(run)
        if event["status"] == "error":
            raise AirflowException(f"The app could not be observed: {event['message']} The app is left alone.")
        observed = AppObservation.from_json(event)
        if run.cancel_reason is not None and observed.app_state != "SUCCEEDED":
            # The trigger sees only the scheduler; that we cancelled the app ourselves is known here.
            observed = AppObservation("CANCELLED", run.cancel_reason)
        return self.conclude(run, observed)

    def time_out(self, run: AttemptRecord) -> dict[str, Any]:
        """Cancel an app whose time is up."""
        from airflow_provider_axtx.lifecycle.attempts import await_end, cancel_attempt

        reason = f"timeout: still running {timedelta(seconds=round(self.timeout))} after its submission"
        launcher = self.launcher_of(run)
        observed = self.poll(run)
        if not observed.is_terminal:
            run = cancel_attempt(self.ax_hook.store, launcher, run, reason)
            run, observed = await_end(self.ax_hook.store, launcher, run)
        answer = self.conclude(run, observed)
        if self.on_timeout == "fail" and observed.app_state == "CANCELLED":
            raise AirflowFailException(f"Trial {run.trial_index}: {reason}; the app was cancelled.")
        return answer

    def conclude(self, run: AttemptRecord, observed: AppObservation) -> dict[str, Any]:
        """Record the end of the run, show the app's last log lines when it failed, apply ``fail_on``."""
        from airflow_provider_axtx.lifecycle.complete import finalize

        outcome = finalize(self.ax_hook.store, run, observed)
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
        while self._show_new_lines(run):
            pass
        if outcome.trial_status == "FAILED" and outcome.app_handle and not self.stream_logs:
            self._show_app_log(run, outcome)
        if outcome.trial_status in self.fail_on:
            raise AirflowFailException(f"Trial {outcome.trial_index} is {outcome.trial_status}: {outcome.message}")
        return outcome.to_json()

    def _show_new_lines(self, run: AttemptRecord) -> bool:
        """Show what the app has written since the last call; return whether there was any."""
        if not self.stream_logs or run.app_handle is None:
            return False
        if self._follower is None or self._follower[0] != run.app_handle:
            self._follower = (run.app_handle, self.launcher_of(run).follow(run.app_handle, self._log_given))
        lines = self._follower[1].new_lines()
        for line in lines:
            self.log.info("%s", line)
        return bool(lines)

    def _show_app_log(self, run: AttemptRecord, outcome: TrialOutcome) -> None:
        try:
            lines = self.launcher_of(run).logs(outcome.app_handle, lines=LOG_LINES)
        except AxtxError as error:
            self.log.warning("The log of %s cannot be read: %s", outcome.app_handle, error)
            return
        self.log.error("Last lines of %s:\n%s", outcome.app_handle, "\n".join(lines) or "(nothing)")
