"""Completing a trial: its outcome is recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import TriggerRule, XComArg

from airflow_provider_axtx.core.checkpoints import as_keep
from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.core.inputs import Resolvable, Templated, as_object
from airflow_provider_axtx.links import ExperimentLink, TrialLink
from airflow_provider_axtx.operators._completing import complete_body, complete_from_task
from airflow_provider_axtx.operators.base import BaseAxOperator, airflow_errors, as_given, uncalled
from airflow_provider_axtx.operators.body import EndOfBodyMixin

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_axtx.lifecycle.complete import Results


class AxCompleteTrialOperator(EndOfBodyMixin, BaseAxOperator):
    """Records the outcome of a trial: its metrics, or why there are none. The same outcome again changes nothing.

    A failed trial is data for Ax, not a failed pipeline: the task succeeds and says FAILED with the reason.

    ```python
    from airflow.sdk import DAG
    from airflow_provider_axtx.operators.ax import AxCompleteTrialOperator, AxGenerateTrialOperator
    from airflow_provider_axtx.operators.torchx import TorchXRunTrialOperator

    with DAG("complete"):
        generate = AxGenerateTrialOperator(task_id="generate", experiment_name="my-experiment")
        run = TorchXRunTrialOperator(task_id="run", trial=generate.output, component="utils.booth")
        AxCompleteTrialOperator(task_id="complete", run=run.output)
    ```

    :param run: the output of the sensor or of ``TorchXRunTrialOperator`` (templated).
    :param trial: in place of ``run``, the output of ``AxStartTrialOperator``: the tasks between that task and this one
        have done the trial's work. When the last of them have failed, the trial is FAILED with the names and the log
        links of the failed tasks; when they were skipped, it is ABANDONED. The default trigger rule is then
        ``all_done``.
    :param results: None reads the tracker as Ax's ``TorchXMetric`` does; or a dict ``{metric: mean}`` or
        ``{metric/mean: m, metric/sem: s}`` (templated); or a callable that returns one for the run. With ``trial`` it
        is usually the output of a task, and may be a number if one metric is required.
    :param keep_checkpoints: of which trials that never run again the checkpoints stay: ``all``, ``best`` or ``none``.
    :param ax_conn_id: connection of the experiment store.
    :param outlets: with an ``assets.experiment_asset(...)`` among them, a trial that is COMPLETED gives it an event.
    :return: the run with ``metrics``, final ``trial_status`` and ``usage``: ``{cpu, gpu, cost}``, in hours and money.
    """

    template_fields: Sequence[str] = ("run", "trial", "results", "ax_conn_id")
    template_fields_renderers = {"run": "json", "trial": "json", "results": "json"}
    lineage_reads, lineage_writes = False, True
    operator_extra_links = (ExperimentLink(), TrialLink())

    def __init__(
        self,
        *,
        run: Templated[Mapping[str, Any]] | None = None,
        trial: Resolvable | None = None,
        results: Results | Templated[Mapping[str, Any]] = None,
        keep_checkpoints: str = "all",
        **kwargs: Any,
    ) -> None:
        super().__init__(**({} if trial is None else {"trigger_rule": TriggerRule.ALL_DONE}) | kwargs)
        if (run is None) == (trial is None):
            raise InvalidInputError(
                f"{self.task_id} needs either run or trial.",
                fix="pass the output of the task that has waited for the app as run, or that of AxStartTrialOperator "
                "as trial.",
            )
        self.run = run
        self.trial = trial
        self.results = uncalled(results)
        self.keep_checkpoints = as_keep(keep_checkpoints)
        if trial is not None:
            self.set_start(trial)
            # The results are rendered when the body has succeeded: a failed one may have left none.
            self.template_fields = ("trial", "ax_conn_id")
            XComArg.apply_upstream_relationship(self, results)

    @airflow_errors
    def execute(self, context: Context) -> dict[str, Any]:
        """Read the results and record the outcome."""
        store, keep = self.ax_hook.store, self.keep_checkpoints
        if self.start is None:
            return complete_from_task(self, context, store, as_object("run", self.run), self.results, keep)
        ended = self.end_of_body(context)
        results = as_given(self.render_template(self.results, context)) if ended.app_state == "SUCCEEDED" else None
        return complete_body(self, context, store, self.trial, ended, results, keep)
