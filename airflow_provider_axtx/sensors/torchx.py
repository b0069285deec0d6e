"""The sensor that waits on an app handle until the mapped TrialStatus is terminal."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator, PokeReturnValue, conf
from airflow.sdk.exceptions import AirflowSensorTimeout

from airflow_provider_axtx.core.inputs import DEFAULT_INTERVAL, Templated, as_flag, as_interval, as_object, as_seconds
from airflow_provider_axtx.core.xcom import SubmittedTrial
from airflow_provider_axtx.links import ExperimentLink, TrialLink
from airflow_provider_axtx.operators._waiting import WaitForTrialMixin
from airflow_provider_axtx.operators.base import airflow_errors, push_links

if TYPE_CHECKING:
    from airflow.sdk import Context


class TorchXTrialSensor(WaitForTrialMixin, BaseSensorOperator):
    """Waits until the app of a trial has ended and its mapped Ax ``TrialStatus`` is terminal.

    Any terminal status ends the sensor successfully, with the status in XCom: a failed trial is data for Ax.

    ```python
    from airflow.sdk import DAG
    from airflow_provider_axtx.operators.ax import AxGenerateTrialOperator
    from airflow_provider_axtx.operators.torchx import TorchXSubmitTrialOperator
    from airflow_provider_axtx.sensors.torchx import TorchXTrialSensor

    with DAG("wait"):
        generate = AxGenerateTrialOperator(task_id="generate", experiment_name="my-experiment")
        submit = TorchXSubmitTrialOperator(task_id="submit", trial=generate.output, component="utils.booth")
        TorchXTrialSensor(task_id="wait", run=submit.output, timeout=3600, deferrable=True)
    ```

    :param run: the output of ``TorchXSubmitTrialOperator`` (templated).
    :param poke_interval: seconds between two polls of the app; ``poll_interval`` is the same.
    :param timeout: seconds since the app's submission after which ``on_timeout`` applies.
    :param deferrable: wait in the triggerer; it polls once before it defers. Without it, ``mode`` is ``poke`` or
        ``reschedule`` as in every sensor.
    :param on_timeout: ``cancel`` reports the trial ABANDONED, ``fail`` fails the task; the app is cancelled either way.
    :param stream_logs: show the app's output in the task's log, see ``WaitForTrialMixin``.
    :param fail_on: terminal ``TrialStatus`` names that fail the task.
    :return: the run with ``trial_status``, ``app_state`` and ``message``.
    """

    template_fields: Sequence[str] = ("run", "torchx_conn_id", "ax_conn_id")
    template_fields_renderers = {"run": "json"}
    ui_color = "#e6e3f5"
    operator_extra_links = (ExperimentLink(), TrialLink())

    def __init__(
        self,
        *,
        run: Templated[Mapping[str, Any]],
        poke_interval: float | timedelta = DEFAULT_INTERVAL,
        poll_interval: float | timedelta | None = None,
        timeout: float | timedelta = timedelta(days=7),
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(
            poke_interval=as_interval("poke_interval", poke_interval, "poll_interval", poll_interval),
            timeout=as_seconds("timeout", timeout),
            **kwargs,
        )
        self.run = run
        self.deferrable = as_flag("deferrable", deferrable)

    @property
    def waits_in_process(self) -> bool:
        """Whether this task's process polls the app until it ends."""
        return not (self.deferrable or self.reschedule)

    def _trial(self) -> SubmittedTrial:
        return SubmittedTrial.from_json(as_object("run", self.run))

    def end_apps(self, reason: str, seconds: float) -> None:
        """End the app that is waited for: another task has submitted it."""
        from airflow_provider_axtx.lifecycle.attempts import end_attempt

        # None before the first poll, and where Airflow fails a resumed task without running it.
        attempt = self._live_attempt or self.own_attempt(self._trial())
        if attempt.finished_at is None:
            end_attempt(self.ax_hook.store, self.launcher_for(attempt), attempt, reason, seconds=seconds)

    @airflow_errors
    def execute(self, context: Context) -> Any:
        """Poll once, then wait."""
        with self.responsible_for_app(context):
            push_links(self, context)
            if self.deferrable:
                return self.wait_deferred(self._trial(), context)
            try:
                return super().execute(context)
            except AirflowSensorTimeout:
                return self.time_out(self.find_attempt(self._trial()))

    def poke(self, context: Context) -> bool | PokeReturnValue:
        """Poll the app once; done when it has ended or its time is up."""
        attempt = self.find_attempt(self._trial())
        observed = self.poll(attempt)
        if observed.is_terminal:
            return PokeReturnValue(True, self.conclude(attempt, observed))
        if time.time() > self.deadline(attempt):
            return PokeReturnValue(True, self.time_out(attempt))
        self.log.info("%s is %s. %s", attempt.app_handle, observed.app_state, observed.message)
        return False

    def _get_next_poke_interval(self, *args: Any, **kwargs: Any) -> float:
        # Longer while the scheduler does not answer.
        return max(super()._get_next_poke_interval(*args, **kwargs), self._pause)
