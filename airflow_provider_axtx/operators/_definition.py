"""The definition of an experiment over all starts of the task that runs it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_axtx.core.experiment_name import fitted_name
from airflow_provider_axtx.core.inputs import as_object
from airflow_provider_axtx.core.records import TaskIdentity

if TYPE_CHECKING:
    from airflow_provider_axtx.spec.experiment import ExperimentSpec
    from airflow_provider_axtx.store.experiments import ExperimentStore

log = logging.getLogger(__name__)


#: Fields that are text. A template that gives a number or a boolean there gives its text.
_TEXTS = ("name", "description", "objective")


def read_definition(rendered: object) -> ExperimentSpec:
    """Return a definition whose templates Airflow has rendered.

    Where the definition declares text, a number that a template gave is its text; a name that is too long is cut.

    :raises InvalidInputError: when it cannot be used.
    """
    from airflow_provider_axtx.spec.experiment import ExperimentSpec

    if isinstance(rendered, ExperimentSpec):
        return rendered
    given = as_object("experiment", rendered)
    read: dict[str, Any] = {name: _as_text(value) if name in _TEXTS else value for name, value in given.items()}
    if isinstance(read.get("name"), str):
        read["name"] = fitted_name(read["name"])
    if isinstance(read.get("parameters"), (list, tuple)):
        read["parameters"] = [_with_texts(one) for one in read["parameters"]]
        texts = {one.get("name") for one in read["parameters"] if _is_text(one)}
        for name in ("baseline", "pruning_target_parameterization"):
            if isinstance(read.get(name), Mapping):
                read[name] = {key: _as_text(one) if key in texts else one for key, one in read[name].items()}
    return ExperimentSpec.load(read)


def _is_text(parameter: object) -> bool:
    return isinstance(parameter, Mapping) and parameter.get("parameter_type") == "str"


def _with_texts(parameter: Any) -> Any:
    if not _is_text(parameter) or not isinstance(parameter.get("values"), (list, tuple)):
        return parameter
    return {**parameter, "values": [_as_text(value) for value in parameter["values"]]}


def _as_text(value: object) -> object:
    return str(value) if isinstance(value, (int, float)) else value


def definition_of_task(store: ExperimentStore, rendered: object, task: TaskIdentity) -> ExperimentSpec:
    """Return the definition as the task's first start rendered it, unless a user has cleared the task since.

    A name that renders differently each time (a time, a random id) would otherwise begin another experiment at each
    start of the task, and a deferred task starts each time that it is resumed.

    :param rendered: the definition as it was rendered now.
    :raises InvalidInputError: when it cannot be used.
    """
    from airflow_provider_axtx.spec.experiment import ExperimentSpec

    spec = read_definition(rendered)
    known = store.loop_of_task(task.task_key)
    if known is None or known.definition is None or known.experiment == spec.name:
        return spec
    if known.max_tries != task.max_tries:
        return spec  # cleared by a user, who may have changed the DAG
    log.warning(
        "The experiment's name renders as %r now; this task began as %r and goes on with that. Use a name that renders "
        "the same at each start of the task, for example with {{ run_id }}.",
        spec.name,
        known.experiment,
    )
    return ExperimentSpec.from_store(known.definition)
