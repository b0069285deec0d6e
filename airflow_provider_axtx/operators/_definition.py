"""The definition of an experiment over all starts of the task that runs it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from airflow_provider_axtx.core.records import TaskIdentity

if TYPE_CHECKING:
    from airflow_provider_axtx.spec.experiment import ExperimentSpec
    from airflow_provider_axtx.store.experiments import ExperimentStore

log = logging.getLogger(__name__)


def definition_of_task(store: ExperimentStore, rendered: object, task: TaskIdentity) -> ExperimentSpec:
    """Return the definition as the task's first start rendered it, unless a user has cleared the task since.

    A name that renders differently each time (a time, a random id) would otherwise begin another experiment at each
    start of the task, and a deferred task starts each time that it is resumed.

    :param rendered: the definition as it was rendered now.
    :raises InvalidInputError: when it cannot be used.
    """
    from airflow_provider_axtx.spec.experiment import ExperimentSpec

    spec = ExperimentSpec.load(rendered)
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
    return ExperimentSpec.load(known.definition)
