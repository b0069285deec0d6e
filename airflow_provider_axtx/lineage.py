"""OpenLineage: an experiment as a dataset, a task's trials as a facet of its run.

The operators import this module only when Airflow's OpenLineage provider asks them for their lineage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
from airflow.providers.common.compat.openlineage.facet import Dataset, RunFacet
from airflow.providers.openlineage.extractors import OperatorLineage

#: Fields of a trial's JSON object that the facet shows if the task knows them.
_SHOWN = ("trial_index", "arm_name", "parameters", "attempt", "app_handle", "trial_status", "message", "metrics")


@attrs.define
class AxTrialsRunFacet(RunFacet):
    """The trials that a task worked on.

    :param experiment: name of the experiment.
    :param trials: the index and parameters of each; after its submission the app handle; after its end the status and
        metrics.
    """

    experiment: str
    trials: list[dict[str, Any]]


def experiment_dataset(ax_conn_id: str, experiment: str) -> Dataset:
    """Return the dataset of an experiment. Its namespace is the store, ``ax://<ax_conn_id>``."""
    return Dataset(namespace=f"ax://{ax_conn_id}", name=experiment)


def operator_lineage(
    ax_conn_id: str, experiment: str, trials: Sequence[Mapping[str, Any]], *, reads: bool, writes: bool
) -> OperatorLineage[Any, Any]:
    """Return the inputs and outputs of a task.

    :param trials: the trials that the task worked on, as JSON objects.
    :param reads: whether the task read the experiment.
    :param writes: whether the task changed the experiment.
    """
    dataset = experiment_dataset(ax_conn_id, experiment)
    shown = [{field: trial[field] for field in _SHOWN if field in trial} for trial in trials]
    return OperatorLineage(
        inputs=[dataset] if reads else [],
        outputs=[dataset] if writes else [],
        run_facets={"axtx_trials": AxTrialsRunFacet(experiment, shown)} if shown else {},
    )
