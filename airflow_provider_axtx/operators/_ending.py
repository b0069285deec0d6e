"""What the end of a task means for its app: it is ended with the task, or left to the task's next try."""

from __future__ import annotations

import contextvars
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowRescheduleException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
)

from airflow_provider_axtx.core.errors import AxtxError
from airflow_provider_axtx.hooks.ax import AxHook
from airflow_provider_axtx.hooks.torchx import TorchXHook
from airflow_provider_axtx.operators.base import LineageMixin, as_airflow_error, current_identity
from airflow_provider_axtx.triggers.task_state import is_last_try, is_over, is_running, is_superseded

if TYPE_CHECKING:
    from uuid import UUID

    import jinja2
    from airflow.sdk import Context

    from airflow_provider_axtx.core.records import AttemptRecord, TaskIdentity
    from airflow_provider_axtx.lifecycle.launchers import LauncherFor

#: Seconds for which a signal handler waits: the interrupted code may hold a lock that ending the app needs.
_HANDLER_SECONDS = 1.0
#: Seconds for which the end of a cancelled app is awaited when Airflow kills the task, which it does within 5 s.
_KILL_SECONDS = 2.0
#: Seconds for which it is awaited when the task fails by itself.
_FAIL_SECONDS = 30.0
#: After these Airflow starts no further try.
_NO_RETRY = (AirflowFailException, AirflowSensorTimeout, AirflowSkipException)


class _Decided:
    """A retry policy that was asked."""

    def __init__(self, decision: Any) -> None:
        self._decision = decision

    def evaluate(self, **_: Any) -> Any:
        """Return the decision."""
        return self._decision


class CancelOnKillMixin(LineageMixin):
    """Base of the tasks behind an app: a task that is over for good ends its app, any other leaves it to its next try.

    Airflow calls ``on_kill`` in a signal handler and lets the task run on until it kills it. From then on the task must
    neither submit nor record anything: hence ``check_not_killed`` wherever it goes on.

    :param torchx_conn_id: connection of the scheduler.
    :param ax_conn_id: connection of the experiment store.
    """

    #: This try of the task; None before it works on an app.
    _identity: TaskIdentity | None = None
    #: Airflow's id of this try.
    _ti_id: UUID | None = None
    _context: Context | None = None
    #: Whether Airflow resumes the task; ``resume_execution`` sees the errors then that Airflow acts on.
    _is_resumed = False
    _rendering_error: Exception | None = None
    _live_attempt: AttemptRecord | None = None
    _killed = False
    #: Whether no try follows; known when ``_ending`` is done.
    _is_over = False
    _ending: threading.Thread | None = None

    def __init__(
        self,
        *,
        ax_conn_id: str = AxHook.default_conn_name,
        torchx_conn_id: str = TorchXHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.ax_conn_id = ax_conn_id
        self.torchx_conn_id = torchx_conn_id

    @cached_property
    def ax_hook(self) -> AxHook:
        """The hook of ``ax_conn_id``."""
        return AxHook(self.ax_conn_id)

    @cached_property
    def torchx_hook(self) -> TorchXHook:
        """The hook of ``torchx_conn_id``."""
        return TorchXHook(self.torchx_conn_id)

    @cached_property
    def launcher_for(self) -> LauncherFor:
        """Gives the launcher that reaches the app of an attempt; one for all that are reached in the same way."""
        from airflow_provider_axtx.lifecycle.launchers import cached_launchers

        return cached_launchers(self.torchx_hook.get_launcher_for)

    @contextmanager
    def responsible_for_app(self, context: Context) -> Iterator[TaskIdentity]:
        """Run the task: an error that ends it for good ends its app too. The error itself is what is raised.

        :return: this try of the task.
        """
        identity = self._identify(context)
        try:
            yield identity
        except Exception as error:
            if not self._is_resumed:
                self._end_apps_if_final(error, identity)
            raise

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Go on after a deferral; called by Airflow.

        Airflow fails a task here whose trigger could not run, before any method of the operator is called, and makes a
        skip of the error of a sensor with ``soft_fail``.
        """
        self._is_resumed = True
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except Exception as error:
            self._end_apps_after(error, context)
            raise

    def render_template(
        self,
        content: Any,
        context: Context,
        jinja_env: jinja2.Environment | None = None,
        seen_oids: set[int] | None = None,
    ) -> Any:
        """Render a value of a template field; called by Airflow before each try, and before a deferred task goes on."""
        try:
            return super().render_template(content, context, jinja_env, seen_oids)
        except Exception as error:
            # It passes here for each list and object that holds the text. A user may render the task as well, with
            # `airflow tasks render`, to whom no app may be lost.
            if error is not self._rendering_error and "ti" in context:
                self._rendering_error = error
                if is_running(context["ti"]):
                    self._end_apps_after(error, context)
            raise

    def _identify(self, context: Context) -> TaskIdentity:
        self._context, self._ti_id = context, getattr(context["ti"], "id", None)
        self._identity = current_identity(context, self.ax_hook.store, self.torchx_conn_id)
        return self._identity

    def _end_apps_after(self, error: Exception, context: Context) -> None:
        """End the apps after an error that may have come before the task knew who it is."""
        try:
            identity = self._identity or self._identify(context)
        except Exception:
            self.log.exception("The store did not tell whether this task has an app. A reaper ends it.")
        else:
            self._end_apps_if_final(error, identity)

    def _end_apps_if_final(self, error: Exception, identity: TaskIdentity) -> None:
        if self._killed:
            self._end_what_was_recorded_since(error, identity)
        elif self._is_final(error, identity) and not is_superseded(identity, self._ti_id):
            self._try_to_end_apps(f"{self.task_id} failed with {type(error).__name__}", _FAIL_SECONDS)

    def _is_final(self, error: Exception, identity: TaskIdentity) -> bool:
        """Return whether Airflow starts no further try after this error."""
        if isinstance(error, AxtxError):
            error = as_airflow_error(error)
        if isinstance(error, AirflowRescheduleException):
            return False
        return isinstance(error, _NO_RETRY) or is_last_try(identity) or self._policy_fails(error, identity)

    def _policy_fails(self, error: BaseException, identity: TaskIdentity) -> bool:
        """Return whether the task's ``retry_policy``, which Airflow 3.2 does not have, lets it fail at once."""
        policy = getattr(self, "retry_policy", None)
        if policy is None:
            return False
        try:
            decision = policy.evaluate(
                exception=error,
                try_number=identity.try_number,
                max_tries=identity.max_tries,
                context=self._context,
            )
        except Exception:
            # Airflow's own evaluation fails likewise, and it goes by the number of tries.
            self.log.warning("The retry_policy of this task could not be evaluated.", exc_info=True)
            return False
        # Airflow asks about the same error next. Another answer, as of one that asks a language model, would end the
        # task whose app goes on, or begin another try without it.
        decided: Any = _Decided(decision)
        self.retry_policy = decided
        return bool(decision.action.value == "fail")

    def track_attempt(self, attempt: AttemptRecord) -> None:
        """Make ``attempt`` the one that is ended with the task; end it when the task was killed already."""
        self._live_attempt = attempt
        if self._killed:
            self._end_what_was_recorded_since()
        self.check_not_killed()

    def check_not_killed(self) -> None:
        """Raise when Airflow has killed the task."""
        if self._killed:
            self._await_ending()
            became = "its app was ended with it" if self._is_over else "its next try goes on with its app"
            raise AirflowException(f"Airflow ended this task; {became}.")

    def on_kill(self) -> None:
        """End the app if the task is over for good.

        Otherwise (SIGTERM of a worker, a user's Clear, a zombie whose next try runs) another try goes on with it.
        """
        if self._killed:
            return
        # In a thread, in which nothing can be raised into the interrupted code, and which may outlast this handler.
        run = contextvars.copy_context().run
        timeout = error if isinstance(error := sys.exception(), AirflowTaskTimeout) else None
        ending = threading.Thread(target=run, args=(self._end_if_over, timeout), name="axtx-kill", daemon=True)
        ending.start()
        # Only now: a thread that executes the task meanwhile joins it as soon as it sees that the task was killed.
        self._ending, self._killed = ending, True
        ending.join(_HANDLER_SECONDS if timeout is None else _FAIL_SECONDS)

    def end_apps(self, reason: str, seconds: float) -> None:
        """End the apps that this task has submitted; what a newer try of it owns is left alone.

        :param reason: recorded as the reason of the cancellation and of the trial.
        :param seconds: how long the end of a cancelled app is awaited.
        """
        from airflow_provider_axtx.lifecycle.reap import end_task

        if self._identity is not None:
            end_task(self.ax_hook.store, self.launcher_for, self._identity, reason, seconds=seconds)

    def execution_deadline(self, context: Context) -> float | None:
        """Return when ``execution_timeout`` will have passed since the start of this try, in seconds since the epoch.

        Airflow itself counts it anew each time a task is resumed, and not at all while it is deferred.
        """
        started = getattr(context["ti"], "start_date", None)
        if self.execution_timeout is None or started is None:
            return None
        return float(started.timestamp() + self.execution_timeout.total_seconds())

    def fail_for_execution_timeout(self) -> None:
        """Do what Airflow does with a task whose ``execution_timeout`` has passed while it was running.

        :raises AirflowTaskTimeout: always.
        """
        try:
            raise AirflowTaskTimeout(
                f"execution_timeout: {self.execution_timeout} have passed while the task was deferred."
            )
        except AirflowTaskTimeout:
            self.on_kill()
            self._await_ending()
            raise

    def _end_if_over(self, timeout: AirflowTaskTimeout | None) -> None:
        identity = self._identity
        if identity is None:
            return
        no_try_follows = is_last_try(identity) or (timeout is not None and self._policy_fails(timeout, identity))
        self._is_over = is_over(identity, when_running=no_try_follows, ti_id=self._ti_id)
        if self._is_over:
            self._try_to_end_apps(f"{self.task_id} was ended", _KILL_SECONDS)
        else:
            self.log.info("The app is left to the next try of this task.")

    def _try_to_end_apps(self, reason: str, seconds: float) -> None:
        """End the apps; an error is logged, so that it does not hide why the task ends."""
        from airflow_provider_axtx.lifecycle.attempts import KILLED

        try:
            self.end_apps(f"{KILLED}: {reason}", seconds)
        except Exception:
            self.log.exception("The app of this task could not be ended. A reaper ends it.")

    def _end_what_was_recorded_since(
        self, error: Exception | None = None, identity: TaskIdentity | None = None
    ) -> None:
        """End a trial or an attempt that was being recorded while Airflow killed the task, if that is over for good.

        :param error: what the killed task ends with: a sensor with ``soft_fail`` is skipped, and no try follows.
        """
        self._await_ending()
        if not self._is_over and identity is not None and isinstance(error, _NO_RETRY):
            self._is_over = is_over(identity, when_running=True, ti_id=self._ti_id)
        if self._is_over:
            self._try_to_end_apps(f"{self.task_id} was ended", _KILL_SECONDS)

    def _await_ending(self) -> None:
        if self._ending is not None and self._ending is not threading.current_thread():
            self._ending.join(_FAIL_SECONDS)
