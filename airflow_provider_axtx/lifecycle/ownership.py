"""Refuses an experiment of another DAG before anything of it is read, compared or told."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from airflow_provider_axtx.core.errors import ForeignExperimentError

if TYPE_CHECKING:
    from airflow_provider_axtx.core.records import TaskIdentity
    from airflow_provider_axtx.store.experiments import ExperimentStore

log = logging.getLogger(__name__)


def require_own(store: ExperimentStore, experiment: str, dag_id: str) -> None:
    """Refuse an experiment that belongs to another DAG, unless its author shares it with the task's DAG.

    :param dag_id: the DAG of the task that wants to use it; empty for a user with access to the database.
    :raises ForeignExperimentError: when it does; the message tells nothing of the experiment but its name.
    :raises ExperimentNotFoundError: when there is no such experiment.
    """
    if not store.ownership(experiment).allows(dag_id):
        raise ForeignExperimentError(
            f"The experiment {experiment!r} belongs to another DAG.",
            fix="choose another name, or have the author of the DAG that created it pass "
            f"shared_with=[{dag_id!r}] to the operator that creates it, and run that DAG once.",
        )


def share(store: ExperimentStore, experiment: str, task: TaskIdentity | None, shared_with: tuple[str, ...]) -> None:
    """Record with which DAGs the owner shares the experiment, when the DAG's code says something else than before.

    :param task: the task that says so; another DAG than the owner changes nothing.
    """
    known = store.ownership(experiment)
    if task is None or not task.dag_id or task.dag_id != known.dag_id or known.shared_with == shared_with:
        return
    store.share(experiment, shared_with)
    log.info("The experiment %r is shared with %s now.", experiment, list(shared_with) or "no other DAG")
