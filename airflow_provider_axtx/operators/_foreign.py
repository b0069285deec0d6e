"""What a stranger may name: an experiment of another DAG, or a component.

A DAG file is trusted code. A template is not: a form, an XCom or a Variable chooses its value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.core.inputs import as_experiment_name, as_object
from airflow_provider_axtx.core.xcom import Trial
from airflow_provider_axtx.hooks.torchx import TorchXHook
from airflow_provider_axtx.operators._templates import TypedTemplatesMixin
from airflow_provider_axtx.operators.base import as_given

if TYPE_CHECKING:
    from airflow_provider_axtx.store.experiments import ExperimentStore


def readable_experiment(
    operator: TypedTemplatesMixin, store: ExperimentStore, dag_id: str, field: str = "experiment_name"
) -> str:
    """Return the name of an experiment that the task only reads.

    A DAG file may name any experiment of the store. A name that a template gave has to be that of an own one.

    :param dag_id: the DAG of the task.
    :param field: the argument that names it.
    :raises ForeignExperimentError: when it belongs to another DAG that does not share it.
    """
    from airflow_provider_axtx.lifecycle.ownership import require_own

    name = as_experiment_name(field, getattr(operator, field))
    if operator.came_from_template(field):
        require_own(store, name, dag_id)
    return name


def own_experiment(operator: TypedTemplatesMixin, store: ExperimentStore, dag_id: str) -> str:
    """Return the name of an experiment to which the task adds something.

    :param dag_id: the DAG of the task.
    :raises ForeignExperimentError: when it belongs to another DAG that does not share it.
    """
    from airflow_provider_axtx.lifecycle.ownership import require_own

    name = as_experiment_name("experiment_name", getattr(operator, "experiment_name"))  # noqa: B009 - of subclasses
    require_own(store, name, dag_id)
    return name


def recorded_trial(store: ExperimentStore, trial: object, dag_id: str) -> Trial:
    """Return a trial as the store has it: an XCom can be edited, and parameters become arguments of an app.

    :param trial: the argument as Airflow has rendered it.
    :param dag_id: the DAG of the task.
    :raises ForeignExperimentError: when its experiment belongs to another DAG that does not share it.
    """
    from airflow_provider_axtx.lifecycle.ownership import require_own

    given = Trial.from_json(as_object("trial", trial))
    require_own(store, given.experiment, dag_id)
    record = store.trial(given.experiment, given.trial_index)
    return Trial(given.experiment, record.index, record.arm_name, record.parameters)


def allowed_component(
    operator: TypedTemplatesMixin, component: Any, allowed: Sequence[str], hook: TorchXHook
) -> str | Callable[..., Any]:
    """Return the component of an operator.

    :param component: the argument as Airflow has rendered it.
    :param allowed: the operator's ``allowed_components``.
    :param hook: of the scheduler's connection, whose own list is applied when the component is loaded.
    :raises InvalidInputError: when a template named it, and it is not on the list, or there is no list.
    """
    given: str | Callable[..., Any] = as_given(component)
    if callable(given) or not operator.came_from_template("component"):
        return given
    if allowed:
        from airflow_provider_axtx.launcher.components import load_component

        load_component(given, allowed)
    elif hook.settings.allowed_components is None:
        raise InvalidInputError(
            f"component {given!r} comes from a template, and nothing says which components are allowed.",
            fix="pass allowed_components=[...] to the operator, or set allowed_components in the torchx connection; "
            "a component is code.",
        )
    return given
