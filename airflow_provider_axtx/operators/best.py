"""Return the best trial of an experiment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import TriggerRule

from airflow_provider_axtx.core.inputs import Templated, as_flag
from airflow_provider_axtx.operators._completing import announce_best
from airflow_provider_axtx.operators._defaults import OwnDefaultsMixin
from airflow_provider_axtx.operators._foreign import readable_experiment
from airflow_provider_axtx.operators._skipped import skip_with_experiment
from airflow_provider_axtx.operators.base import BaseAxOperator, airflow_errors, check_name_at_parse

if TYPE_CHECKING:
    from airflow.sdk import Context


class AxBestTrialOperator(OwnDefaultsMixin, BaseAxOperator):
    """Returns the best trial of an experiment, or its Pareto frontier when it has several objectives.

    Its default trigger rule is ``none_failed``: it also runs behind a loop whose last rounds were skipped, since Ax had
    finished. With this rule it is skipped when the tasks before it that create the experiment were skipped, since a
    branch has not chosen them.

    ```python
    from airflow.providers.standard.operators.bash import BashOperator
    from airflow.sdk import DAG
    from airflow_provider_axtx.operators.ax import AxBestTrialOperator

    with DAG("report"):
        best = AxBestTrialOperator(task_id="best", experiment_name="my-experiment")
        BashOperator(task_id="show", bash_command="echo {{ ti.xcom_pull(task_ids='best').parameters }}") << best
    ```

    :param experiment_name: the experiment (templated). The DAG file may name one of another DAG; a template may not,
        unless its author shares it (``shared_with``).
    :param use_model_predictions: judge by the model's prediction instead of the observation; fits a model.
    :param allowed_factories: see ``AxCreateExperimentOperator``; a model of a stored strategy needs it.
    :param ax_conn_id: connection of the experiment store.
    :param outlets: an ``assets.experiment_asset(...)`` among them gets an event with the result.
    :return: ``{trial_index, arm_name, parameters, metrics, checkpoint_dir}``, or a list of them for several objectives.
    """

    template_fields: Sequence[str] = ("experiment_name", "ax_conn_id")

    def __init__(
        self,
        *,
        experiment_name: Templated[str],
        use_model_predictions: bool = False,
        allowed_factories: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.experiment_name = experiment_name
        self.use_model_predictions = as_flag("use_model_predictions", use_model_predictions)
        self.allowed_factories = tuple(self.of_dag_file("allowed_factories", allowed_factories))
        check_name_at_parse("experiment_name", experiment_name)
        self.note_template("experiment_name", experiment_name)

    @classmethod
    def own_defaults(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the trigger rule."""
        # Behind a loop whose last rounds were skipped (it was finished early) there is a best trial all the same.
        return {"trigger_rule": TriggerRule.NONE_FAILED}

    @airflow_errors
    def execute(self, context: Context) -> dict[str, Any] | list[dict[str, Any]]:
        """Ask Ax for the best of what was observed."""
        if self.trigger_rule == TriggerRule.NONE_FAILED:
            skip_with_experiment(self, context, self.experiment_name)
        store = self.ax_hook.store
        facts = store.snapshot(readable_experiment(self, store, context["ti"].dag_id))
        from airflow_provider_axtx.optimizer import engine as optimizer  # only now: importing Ax is slow
        from airflow_provider_axtx.spec.experiment import ExperimentSpec

        best = optimizer.best(
            facts, use_model_predictions=self.use_model_predictions, allowed_factories=self.allowed_factories
        )
        return announce_best(self, context, store, ExperimentSpec.from_store(facts.spec), best)
