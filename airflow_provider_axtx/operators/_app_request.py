"""The arguments that say how a trial's app runs, which two operators have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_axtx.core.checkpoints import as_keep, as_retry_from
from airflow_provider_axtx.core.errors import AxtxError, InvalidInputError
from airflow_provider_axtx.core.inputs import Templated, is_given, is_templated
from airflow_provider_axtx.core.promotion import since_last_pause
from airflow_provider_axtx.operators._ending import CancelOnKillMixin
from airflow_provider_axtx.operators._metrics import count_trial, count_usage

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator

    from airflow_provider_axtx.core.checkpoints import Keep
    from airflow_provider_axtx.core.records import AttemptRecord
    from airflow_provider_axtx.lifecycle.submit import AppRequest
    from airflow_provider_axtx.store.experiments import ExperimentStore


class AppRequestMixin(CancelOnKillMixin):
    """Base of the operators that submit apps.

    :param retry_from: where an attempt after a trial's first begins: ``checkpoint`` leaves what the attempts before
        have left in the trial's checkpoint folder, ``beginning`` removes it (templated).
    """

    tracker_base: Templated[str] | None
    tracker_base_shared: bool
    trial_retries: int
    allow_app_change: bool
    metrics: Mapping[str, Any] | None

    def __init__(self, *, retry_from: str = "checkpoint", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.retry_from = retry_from
        if not is_templated(retry_from):
            as_retry_from(retry_from)

    def check_prices(self, max_cost: float | None) -> None:
        """Refuse a limit in money that could never be reached.

        :raises InvalidInputError: the connection has no prices.
        """
        if max_cost is not None and not any(self.torchx_hook.settings.prices.values()):
            raise InvalidInputError(
                f"max_cost is {max_cost:g}, and the connection {self.torchx_conn_id!r} has no prices.",
                fix='set its field prices, for example {"cpu_hour": 0.04, "gpu_hour": 2.5}, or use max_resource_hours.',
            )

    def app_request(self, component: str | Callable[..., Any], component_args: Mapping[str, Any]) -> AppRequest:
        """Return what to run for a trial.

        :raises InvalidInputError: when ``retry_from`` cannot be used.
        """
        from airflow_provider_axtx.lifecycle.submit import AppRequest

        return AppRequest(
            component=component,
            component_args=component_args,
            tracker_base=str(self.tracker_base) if is_given(self.tracker_base) else None,
            tracker_base_shared=self.tracker_base_shared,
            tracker_root=self.torchx_hook.settings.tracker_root,
            trial_retries=self.trial_retries,
            prices=self.torchx_hook.settings.prices,
            retry_from=as_retry_from(self.retry_from),
            allow_app_change=self.allow_app_change,
            metrics=self.metrics,
        )


class SettlesTrialsMixin(AppRequestMixin):
    """Base of the operator that runs trials to their end.

    :param keep_checkpoints: of which trials the checkpoints are kept, see ``AxCompleteTrialOperator``.
    """

    def __init__(self, *, keep_checkpoints: str = "all", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.keep_checkpoints = as_keep(keep_checkpoints)

    def note_end(self, experiment: str, status: str, attempts: Sequence[AttemptRecord]) -> None:
        """Count a trial that has ended, and remove the checkpoints that are not kept."""
        count_trial(self, status)
        count_usage(self, since_last_pause(attempts))
        prune_checkpoints(self, self.ax_hook.store, experiment, self.keep_checkpoints)


def prune_checkpoints(
    task: BaseOperator, store: ExperimentStore, experiment: str, keep: Keep, *, is_over: bool = False
) -> None:
    """Remove the checkpoints that are not kept; an error is logged, since it says nothing about the trials.

    :param task: the operator.
    :param keep: its ``keep_checkpoints``.
    :param is_over: whether the experiment has ended, so that no paused trial goes on.
    """
    if keep == "all":
        return
    from airflow_provider_axtx.lifecycle import checkpoints

    try:
        removed = checkpoints.prune_checkpoints(store, experiment, keep, is_over=is_over)
    except AxtxError as error:
        task.log.warning("No checkpoint was removed: %s", error)
        return
    if removed:
        task.log.info("The checkpoints of trials %s were removed.", ", ".join(map(str, removed)))
