"""Sends a notification when a trial is the best so far."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseNotifier

from airflow_provider_axtx.assets import trial_extra
from airflow_provider_axtx.core.completed import completed_trials
from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.core.records import final_means
from airflow_provider_axtx.hooks.ax import AxHook
from airflow_provider_axtx.spec.experiment import ExperimentSpec
from airflow_provider_axtx.spec.ranking import standing

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_axtx.core.records import ExperimentSnapshot
    from airflow_provider_axtx.store.experiments import ExperimentStore

MESSAGE = (
    "New best trial of {{ new_best.experiment }}: trial {{ new_best.trial_index }} "
    "with {{ new_best.metrics }} at {{ new_best.parameters }}"
)


class NewBestTrialNotifier(BaseNotifier):
    """Calls another notifier or callback when the task's trial is the best of its experiment so far.

    Use it as ``on_success_callback`` of ``AxCompleteTrialOperator`` or ``AxOptimizeOperator``. Trials are compared by
    their observed means, within the outcome constraints; with several objectives every trial on the Pareto frontier is
    reported. ``AxOptimizeOperator`` notifies once, when it ends, and only if it ran the best trial itself.

    The context that ``send`` receives has the key ``new_best``: the fields of ``assets.trial_extra`` and the rendered
    ``message``. A notifier renders its own arguments with it:
    ``NewBestTrialNotifier(SmtpNotifier(to="me@example.org", subject="{{ new_best.message }}"))``.

    ```python
    from airflow.sdk import DAG
    from airflow_provider_axtx.notifications.new_best import NewBestTrialNotifier
    from airflow_provider_axtx.operators.ax import AxOptimizeOperator

    X = {"type": "range", "parameter_type": "float", "bounds": [-10, 10]}
    EXPERIMENT = {"name": "booth", "parameters": [{"name": "x1", **X}, {"name": "x2", **X}], "objective": "-booth_eval"}

    with DAG("notify"):
        AxOptimizeOperator(
            task_id="optimize",
            experiment=EXPERIMENT,
            component="utils.booth",
            max_trials=20,
            on_success_callback=NewBestTrialNotifier(lambda context: print(context["new_best"]["message"])),
        )
    ```

    :param send: another notifier, or any callable that takes the context.
    :param message: Jinja template of ``new_best.message``.
    :raises InvalidInputError: when ``send`` cannot be called.
    """

    def __init__(self, send: Callable[[Context], object], *, message: str = MESSAGE) -> None:
        super().__init__()
        self.send = send
        self.message = message
        if not callable(send):
            raise InvalidInputError(
                f"send must be a notifier or a callable, not {send!r}.", fix="pass, for instance, SmtpNotifier(...)."
            )

    def notify(self, context: Context) -> None:
        """Call ``send`` if the task's trial is the best so far.

        :param context: the task's context; Airflow passes it.
        :raises InvalidInputError: when the task has not returned a trial.
        """
        ti = context["ti"]
        result = ti.xcom_pull(task_ids=ti.task_id, map_indexes=-1 if ti.map_index is None else ti.map_index)
        if not isinstance(result, Mapping) or "experiment" not in result:
            raise InvalidInputError(
                f"Task {ti.task_id!r} returned {result!r}, which does not name a trial.",
                fix="use this notifier on AxCompleteTrialOperator or AxOptimizeOperator, with do_xcom_push=True.",
            )
        store = AxHook(getattr(context["task"], "ax_conn_id", AxHook.default_conn_name)).store
        snapshot = store.snapshot(result["experiment"])
        own = _trials_of(store, result, ti)
        new = [index for index in best_trials(snapshot) if index in own]
        if not new:
            self.log.info("No new best trial of %s.", snapshot.name)
            return
        trial = snapshot.trials[new[-1]]
        metrics = {name: {"mean": mean} for name, mean in final_means(snapshot.observations)[trial.index].items()}
        spec = ExperimentSpec.from_store(snapshot.spec)
        fields = {"trial_index": trial.index, "arm_name": trial.arm_name, "parameters": trial.parameters}
        new_best = trial_extra(spec, {**fields, "metrics": metrics})
        # Airflow's type of the context does not allow further keys.
        extended: Any = {**context, "new_best": new_best}
        new_best["message"] = self.render_template(self.message, extended, self.get_template_env(context.get("dag")))
        self.send(extended)


def _trials_of(store: ExperimentStore, result: Mapping[str, Any], ti: Any) -> set[int]:
    if "trial_index" in result:
        return {result["trial_index"]}
    task = (ti.dag_id, ti.run_id, ti.task_id)
    return {
        attempt.trial_index
        for attempt in store.attempts(result["experiment"])
        if (attempt.identity.dag_id, attempt.identity.run_id, attempt.identity.task_id) == task
    }


def best_trials(snapshot: ExperimentSnapshot) -> tuple[int, ...]:
    """Return the index of the best trial, or those of the Pareto frontier; empty while no trial is feasible."""
    completed = completed_trials(snapshot.trials, snapshot.observations)
    return standing(ExperimentSpec.from_store(snapshot.spec), completed).best_trials
