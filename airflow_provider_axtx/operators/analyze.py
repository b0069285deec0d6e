"""The operator that stores Ax's analyses of an experiment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_axtx.core.inputs import Templated
from airflow_provider_axtx.operators._foreign import own_experiment
from airflow_provider_axtx.operators.base import (
    BaseAxOperator,
    airflow_errors,
    check_name_at_parse,
)

if TYPE_CHECKING:
    from airflow.sdk import Context


class AxAnalyzeOperator(BaseAxOperator):
    """Computes Ax's analysis cards (which parameters matter, how well the model fits, the best arms) and stores them.

    The store keeps the newest cards of each experiment, as HTML and data: ``AxHook(...).store.analyses(name)``.

    :param experiment_name: the experiment (templated).
    :param allowed_factories: see ``AxCreateExperimentOperator``; what the store holds is checked again.
    :param ax_conn_id: connection of the experiment store.
    :return: ``[{name, title}]`` of the stored cards.
    """

    template_fields: Sequence[str] = ("experiment_name", "ax_conn_id")

    def __init__(
        self, *, experiment_name: Templated[str], allowed_factories: Sequence[str] = (), **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.experiment_name = experiment_name
        self.allowed_factories = tuple(allowed_factories)
        check_name_at_parse("experiment_name", experiment_name)

    @airflow_errors
    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Compute the cards; they replace the stored ones."""
        store = self.ax_hook.store
        experiment = own_experiment(self, store, context["ti"].dag_id)
        # Only now: importing Ax is slow.
        from airflow_provider_axtx.optimizer.analysis import analyse

        cards = analyse(store.snapshot(experiment), allowed_factories=self.allowed_factories)
        store.record_analyses(experiment, cards)
        for card in cards:
            self.log.info("%s (%s): %s", card.title, card.kind, card.subtitle)
        return [{"name": card.name, "title": card.title} for card in cards]
