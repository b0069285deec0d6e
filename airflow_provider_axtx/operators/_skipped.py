"""Whether the tasks that a task follows were skipped as a whole: a branch has not chosen them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowSkipException

from airflow_provider_axtx.core.experiment_name import fitted_name
from airflow_provider_axtx.operators.body import instances_of


def skip_with_experiment(task: BaseOperator, context: Context, experiment: object) -> None:
    """Skip a task when the tasks before it that create an experiment were skipped, and it follows no other work.

    No trigger rule tells this from a loop whose last round was skipped since Ax had finished: the task follows that
    round, which is skipped both times. A task that directly follows one that has succeeded, such as a join after a
    branch, is not skipped.

    :param experiment: the name that the task was given. If one of them has run with this experiment, the others do not
        matter.
    :raises AirflowSkipException: names the skipped tasks.
    """
    ti: Any = context["ti"]
    creating = _creating(task)
    if not creating:
        return
    asked = sorted({one.task_id for one in creating} | task.upstream_task_ids)
    states = ti.get_task_states(dag_id=ti.dag_id, run_ids=[ti.run_id], task_ids=asked, map_index=None).get(
        ti.run_id, {}
    )

    def names_of(one: Any) -> list[str]:
        return [f"{one.task_id}_{ti.map_index}"] if _is_beside(one, task) else instances_of(one.task_id, states)

    if any(states.get(name) == "success" for one in task.upstream_list for name in names_of(one)):
        return
    skipped, ran = [], []
    for one in creating:
        found = {states.get(name) for name in names_of(one)}
        if found == {"skipped"}:
            skipped.append(one.task_id)
        elif "success" in found:
            ran.append({"task_ids": one.task_id, **({"map_indexes": ti.map_index} if _is_beside(one, task) else {})})
    if skipped and not any(_is_of(ti.xcom_pull(**where), experiment) for where in ran):
        raise AirflowSkipException(f"What creates the experiment was skipped: {', '.join(sorted(skipped))}.")


def _creating(task: BaseOperator) -> list[Any]:
    """Return the tasks somewhere before a task that create an experiment."""
    # Imported here, because their module imports that of the task.
    from airflow_provider_axtx.operators.ax import AxCreateExperimentOperator, AxOptimizeOperator

    dag = task.get_dag()
    before = [dag.get_task(task_id) for task_id in task.get_flat_relative_ids(upstream=True)] if dag else []
    kinds = (AxCreateExperimentOperator, AxOptimizeOperator)
    return [one for one in before if issubclass(getattr(one, "operator_class", type(one)), kinds)]


def _is_beside(one: Any, task: BaseOperator) -> bool:
    """Return whether a task has an instance for each instance of another: both are in one mapped group."""
    group = task.get_closest_mapped_task_group()
    return group is not None and one.get_closest_mapped_task_group() is group


def _is_of(result: Any, experiment: object) -> bool:
    """Return whether a task has created an experiment, or one of its mapped instances has.

    :param result: the XCom of the task: a name, or what ``AxOptimizeOperator`` returns.
    """
    if isinstance(result, Mapping):
        result = result.get("experiment")
    if isinstance(result, str):
        return isinstance(experiment, str) and result == fitted_name(experiment)
    return result is not None and any(_is_of(item, experiment) for item in result)
