"""OpenLineage: an experiment as a dataset, a task's trials as a facet of its run.

Imported only by Airflow's OpenLineage provider, which calls for it when it is installed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
from airflow.providers.common.compat.openlineage.facet import Dataset, RunFacet
from airflow.providers.openlineage.extractors import OperatorLineage

#: Fields of a trial's JSON object that the facet shows, as far as the task knows them.
_SHOWN = ("trial_index", "arm_name", "parameters", "attempt", "app_handle", "trial_status", "message", "metrics")


@attrs.define
class AxTrialsRunFacet(RunFacet):
    """The trials that a task worked on.

    :param experiment: name of the experiment.
    :param trials: what the task knows of each: index, parameters; once submitted the app handle; once ended the status
        and metrics.
    """

    experiment: str
    trials: list[dict[str, Any]]


def experiment_dataset(ax_conn_id: str, experiment: str) -> Dataset:
    """Return an experiment as a dataset: the namespace is its store, ``ax://<ax_conn_id>``."""
    return Dataset(namespace=f"ax://{ax_conn_id}", name=experiment)


def operator_lineage(
    ax_conn_id: str, experiment: str, trials: Sequence[Mapping[str, Any]], *, reads: bool, writes: bool
) -> OperatorLineage[Any, Any]:
    """Return what a task has read and written.

    :param trials: the trials that it worked on, as JSON objects.
    """
    dataset = experiment_dataset(ax_conn_id, experiment)
    shown = [{field: trial[field] for field in _SHOWN if field in trial} for trial in trials]
    return OperatorLineage(
        inputs=[dataset] if reads else [],
        outputs=[dataset] if writes else [],
        run_facets={"axtx_trials": AxTrialsRunFacet(experiment, shown)} if shown else {},
    )
