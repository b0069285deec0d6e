"""The operator that stores Ax's analyses of an experiment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_axtx.core.inputs import Templated, as_flag
from airflow_provider_axtx.operators._foreign import own_experiment
from airflow_provider_axtx.operators.base import (
    BaseAxOperator,
    airflow_errors,
    check_name_at_parse,
)

if TYPE_CHECKING:
    from airflow.sdk import Context


class AxAnalyzeOperator(BaseAxOperator):
    """Computes what explains an experiment, and stores it: the charts of the page, and Ax's own analysis cards.

    The store keeps the newest of each experiment: ``AxHook(...).store.explanation(name)`` are the numbers of the charts
    (importance of the parameters, slices, contours, cross-validation, best trial), ``AxHook(...).store.analyses(name)``
    Ax's cards as HTML and data. What users have asked for until now is carried out with it.

    ```python
    from airflow.sdk import DAG
    from airflow_provider_axtx.operators.ax import AxAnalyzeOperator

    with DAG("explain"):
        AxAnalyzeOperator(task_id="analyze", experiment_name="my-experiment", ax_cards=False)
    ```

    :param experiment_name: the experiment (templated).
    :param ax_cards: whether to compute Ax's own cards too, which takes as long again.
    :param allowed_factories: see ``AxCreateExperimentOperator``; what the store holds is checked again.
    :param ax_conn_id: connection of the experiment store.
    :return: ``[{name, title}]`` of the stored charts and cards.
    """

    template_fields: Sequence[str] = ("experiment_name", "ax_conn_id")

    def __init__(
        self,
        *,
        experiment_name: Templated[str],
        ax_cards: bool = True,
        allowed_factories: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.experiment_name = experiment_name
        self.ax_cards = as_flag("ax_cards", ax_cards)
        self.allowed_factories = tuple(self.of_dag_file("allowed_factories", allowed_factories))
        check_name_at_parse("experiment_name", experiment_name)

    @airflow_errors
    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Compute charts and cards; they replace the stored ones."""
        store = self.ax_hook.store
        experiment = own_experiment(self, store, context["ti"].dag_id)
        # Only now: importing Ax is slow.
        from airflow_provider_axtx.lifecycle.explain import explain
        from airflow_provider_axtx.optimizer.analysis import analyse

        charts = explain(store, experiment, allowed_factories=self.allowed_factories)
        cards = []
        if self.ax_cards:
            cards = analyse(store.snapshot(experiment), allowed_factories=self.allowed_factories)
            store.record_analyses(experiment, cards)
        for card in cards:
            self.log.info("%s (%s): %s", card.title, card.kind, card.subtitle)
        return [{"name": card.name, "title": card.title} for card in (*charts, *cards)]
