"""A notification only when a trial is the best so far."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseNotifier

from airflow_provider_axtx.assets import trial_extra
from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.hooks.ax import AxHook
from airflow_provider_axtx.spec.experiment import ExperimentSpec
from airflow_provider_axtx.spec.ranking import Means, standing

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

    To be used as ``on_success_callback`` of ``AxCompleteTrialOperator`` or ``AxOptimizeOperator``. Judged by what was
    observed, within the outcome constraints; with several objectives a trial is news when it is on the Pareto frontier.
    ``AxOptimizeOperator`` notifies once, at its end, and only if it ran the best trial itself.

    The context that ``send`` gets holds ``new_best``: what ``assets.trial_extra`` says about the trial, and the
    rendered ``message``. A notifier renders its own arguments with it:
    ``NewBestTrialNotifier(SmtpNotifier(to="me@example.org", subject="{{ new_best.message }}"))``.

    :param send: another notifier, or any callable that takes the context.
    :param message: Jinja template of ``new_best.message``.
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
        """Call ``send`` if the task's trial is the best so far."""
        ti = context["ti"]
        result = ti.xcom_pull(task_ids=ti.task_id, map_indexes=-1 if ti.map_index is None else ti.map_index)
        if not isinstance(result, Mapping) or "experiment" not in result:
            raise InvalidInputError(
                f"Task {ti.task_id!r} has returned no trial but {result!r}.",
                fix="use this notifier on AxCompleteTrialOperator or AxOptimizeOperator, with do_xcom_push on.",
            )
        store = AxHook(getattr(context["task"], "ax_conn_id", AxHook.default_conn_name)).store
        facts = store.snapshot(result["experiment"])
        own = _trials_of(store, result, ti)
        news = [index for index in best_trials(facts) if index in own]
        if not news:
            self.log.info("No new best trial of %s.", facts.name)
            return
        trial = facts.trials[news[-1]]
        metrics = {name: {"mean": mean} for name, mean in _means(facts)[trial.index].items()}
        spec = ExperimentSpec.load(facts.spec)
        known = {"trial_index": trial.index, "arm_name": trial.arm_name, "parameters": trial.parameters}
        new_best = trial_extra(spec, {**known, "metrics": metrics})
        # The parts of the context are typed; what is added for the templates is not.
        extended: Any = {**context, "new_best": new_best}
        new_best["message"] = self.render_template(self.message, extended, self.get_template_env(context.get("dag")))
        self.send(extended)


def _trials_of(store: ExperimentStore, result: Mapping[str, Any], ti: Any) -> set[int]:
    if "trial_index" in result:
        return {result["trial_index"]}
    task = (ti.dag_id, ti.run_id, ti.task_id)
    runs = store.attempts(result["experiment"])
    return {run.trial_index for run in runs if (run.identity.dag_id, run.identity.run_id, run.identity.task_id) == task}


def best_trials(facts: ExperimentSnapshot) -> tuple[int, ...]:
    """Return the index of the best trial, or those of the Pareto frontier; empty while no trial is feasible."""
    means = _means(facts)
    completed = [(trial.index, means.get(trial.index, {})) for trial in facts.trials if trial.status == "COMPLETED"]
    baseline = next((means.get(trial.index) for trial in facts.trials if trial.origin == "baseline"), None)
    stands = standing(ExperimentSpec.load(facts.spec), completed, baseline)
    return stands.frontier if stands.best is None else (stands.best,)


def _means(facts: ExperimentSnapshot) -> dict[int, Means]:
    found: dict[int, dict[str, float]] = {}
    for seen in facts.observations:
        if seen.step is None:
            found.setdefault(seen.trial_index, {})[seen.metric] = seen.mean
    return dict(found)
