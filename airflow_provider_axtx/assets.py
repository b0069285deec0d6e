"""The asset scheme ``ax``: an experiment is ``ax://<ax_conn_id>/<experiment>``, and each result is an event of it.

A DAG that is scheduled on the asset gets the trial in the event's ``extra``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, quote, unquote, urlsplit

from airflow.sdk import Asset

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.core.experiment_name import is_experiment_name
from airflow_provider_axtx.hooks.ax import AxHook
from airflow_provider_axtx.spec.ranking import goals

if TYPE_CHECKING:
    from airflow.providers.common.compat.openlineage.facet import Dataset
    from airflow.sdk import Context

    from airflow_provider_axtx.spec.experiment import ExperimentSpec

SCHEME = "ax"
_CONN_ID = re.compile(r"[\w.-]+", re.ASCII)
#: Characters of a name that a URI's path may hold; all others are percent-encoded.
_SAFE = ":@+=,"


class AssetUriError(InvalidInputError, ValueError):
    """An ``ax://`` URI that does not name an experiment. Airflow expects a ``ValueError`` of a handler."""


def experiment_asset(
    name: str, *, ax_conn_id: str = AxHook.default_conn_name, extra: dict[str, Any] | None = None
) -> Asset:
    """Return the asset of an experiment, for the outlets of a task or the schedule of a DAG.

    As an outlet of ``AxCompleteTrialOperator`` it gets one event for each COMPLETED trial; of ``AxBestTrialOperator``
    one for each result. The event's ``extra`` is what ``trial_extra`` returns.

    ```python
    from airflow.providers.standard.operators.bash import BashOperator
    from airflow.sdk import DAG
    from airflow_provider_axtx.assets import experiment_asset

    with DAG("deploy", schedule=[experiment_asset("my-experiment")]):
        BashOperator(task_id="deploy", bash_command="echo deploying")
    ```

    :param name: name of the experiment. Airflow does not render templates here: if each DAG run has an experiment of
        its own, choose one name for all of them; the event's ``extra`` names the experiment.
    :param ax_conn_id: connection of the experiment store.
    :param extra: the asset's own ``extra``.
    :raises InvalidInputError: when the name or the connection id cannot be used.
    """
    return Asset(uri=experiment_uri(name, ax_conn_id), extra=extra)


def experiment_uri(name: str, ax_conn_id: str = AxHook.default_conn_name) -> str:
    """Return the normalised URI of an experiment.

    :raises InvalidInputError: when the name or the connection id cannot be used.
    """
    if not isinstance(ax_conn_id, str) or not _CONN_ID.fullmatch(ax_conn_id):
        raise AssetUriError(
            f"ax_conn_id {ax_conn_id!r} cannot be part of an asset's URI.", fix="use letters, digits and '_', '-', '.'."
        )
    if not isinstance(name, str) or not is_experiment_name(name):
        raise AssetUriError(
            f"{name!r} is not usable as an experiment name.",
            fix="write the experiment's name, without a template: Airflow does not render assets.",
        )
    return f"{SCHEME}://{ax_conn_id}/{quote(name, safe=_SAFE)}"


def sanitize_uri(uri: SplitResult) -> SplitResult:
    """Return the normalised form of an ``ax://`` URI; Airflow's handler of the scheme.

    :raises AssetUriError: when it is not ``ax://<ax_conn_id>/<experiment>``.
    """
    name = uri.path.removeprefix("/")
    if not uri.netloc or not name or "/" in name or uri.query:
        raise AssetUriError(
            f"The asset URI {uri.geturl()!r} does not name an experiment.",
            fix="write ax://<ax_conn_id>/<experiment>, or use airflow_provider_axtx.assets.experiment_asset(name).",
        )
    return urlsplit(experiment_uri(unquote(name), uri.netloc))


def convert_asset_to_openlineage(asset: Asset, lineage_context: object) -> Dataset:
    """Return the OpenLineage dataset of an experiment's asset; Airflow's converter of the scheme."""
    from airflow_provider_axtx.lineage import experiment_dataset

    uri = urlsplit(asset.uri)
    return experiment_dataset(uri.netloc, unquote(uri.path.removeprefix("/")))


def is_experiment_asset(outlet: object) -> bool:
    """Return whether an outlet of a task is an ``ax://`` asset."""
    return isinstance(outlet, Asset) and outlet.uri.startswith(f"{SCHEME}://")


def fill_outlets(context: Context, outlets: Iterable[object], extra: Mapping[str, Any]) -> None:
    """Set ``extra`` of the event of every ``ax://`` outlet of the running task."""
    for outlet in outlets:
        if is_experiment_asset(outlet):
            context["outlet_events"][outlet].extra = dict(extra)  # type: ignore[index]


def trial_extra(spec: ExperimentSpec, trial: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ``extra`` of an event about a trial.

    :param trial: ``{trial_index, arm_name, parameters, metrics: {name: {mean, sem}}}``.
    :return: ``{experiment, trial_index, arm_name, parameters, metrics: {name: mean}, value}``; ``value`` is the
        objective's value, with several objectives ``{objective: value}``.
    """
    means = {name: metric["mean"] for name, metric in trial["metrics"].items()}
    values = {goal.label: goal.value(means) for goal in goals(spec)}
    return {
        "experiment": spec.name,
        "trial_index": trial["trial_index"],
        "arm_name": trial["arm_name"],
        "parameters": dict(trial["parameters"]),
        "metrics": means,
        "value": values if spec.is_multi_objective else next(iter(values.values())),
    }


def best_extra(spec: ExperimentSpec, best: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the ``extra`` of an event about the result of an experiment.

    :param best: the best trial, or the trials of the Pareto frontier, as ``trial_extra`` takes them.
    :return: ``trial_extra`` of the best trial; with several objectives ``{experiment, frontier: [...]}``.
    """
    extras = [trial_extra(spec, trial) for trial in best]
    return {"experiment": spec.name, "frontier": extras} if spec.is_multi_objective else extras[0]
