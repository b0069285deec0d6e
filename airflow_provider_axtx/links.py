"""Links on a task's page: to its experiment, to its trial, and to the scheduler's own page of its app.

Airflow calls ``get_link`` in the task's process when the task ends; a task that waits pushes its links earlier.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urljoin, urlsplit

from airflow.sdk import BaseOperatorLink, conf

from airflow_provider_axtx.compat import page_path
from airflow_provider_axtx.core.experiment_name import fitted_name
from airflow_provider_axtx.core.inputs import given_or, read_json

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey

#: The store that the page shows when its address does not name one.
_DEFAULT_CONN_ID = "ax_default"
#: Arguments of the operators that hold the trial or name the experiment, in the order in which they are read.
_TRIALS = ("trial", "run")
_EXPERIMENTS = ("experiment_name", "experiment")


def page_url(experiment: str, trial_index: int | None = None, ax_conn_id: str = _DEFAULT_CONN_ID) -> str:
    """Return the address of an experiment's page within Airflow's UI."""
    base = conf.get("api", "base_url", fallback="") or "/"
    base = base if base.endswith("/") else f"{base}/"
    query: dict[str, Any] = {"experiment": experiment}
    if trial_index is not None:
        query["trial"] = trial_index
    if ax_conn_id != _DEFAULT_CONN_ID:
        query["conn_id"] = ax_conn_id
    return urljoin(base, f"{page_path(urlsplit(base).path)}?{urlencode(query)}")


def task_url(dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> str:
    """Return the address of a task instance's log in Airflow's UI."""
    base = conf.get("api", "base_url", fallback="") or "/"
    mapped = f"/mapped/{map_index}" if map_index >= 0 else ""
    return f"{base.rstrip('/')}/dags/{quote(dag_id)}/runs/{quote(run_id)}/tasks/{quote(task_id)}{mapped}"


def _object(value: Any) -> dict[str, Any]:
    """Return the object that an argument holds: a mapping, the JSON text of one, or an ``ExperimentSpec``."""
    if isinstance(value, str):
        try:
            return _object(read_json(value))
        except ValueError:
            return {}
    return dict(value) if isinstance(value, Mapping) else {"name": getattr(value, "name", None)}


def trial_of(operator: BaseOperator) -> tuple[str | None, int | None]:
    """Return (experiment, trial index) of an operator whose arguments are rendered; None for what they do not name."""
    for argument in _TRIALS:
        trial = _object(getattr(operator, argument, None))
        if "trial_index" in trial:
            return str(trial["experiment"]), int(trial["trial_index"])
    for argument in _EXPERIMENTS:
        given = getattr(operator, argument, None)
        name = given if argument == "experiment_name" else _object(given).get("name")
        if name:
            return fitted_name(str(name)), None
    return None, None


def conn_id_of(operator: BaseOperator) -> str:
    """Return the connection of the experiment store that an operator works on."""
    return str(given_or(_DEFAULT_CONN_ID, getattr(operator, "ax_conn_id", None)))


class ExperimentLink(BaseOperatorLink):
    """Leads to the page of the task's experiment."""

    name = "Experiment"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the address; empty when the task ended before it knew its experiment."""
        experiment, _ = trial_of(operator)
        return "" if experiment is None else page_url(experiment, ax_conn_id=conn_id_of(operator))


class TrialLink(BaseOperatorLink):
    """Leads to the task's trial on the page of its experiment."""

    name = "Trial"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the address; empty when the task ended before it knew its trial."""
        experiment, index = trial_of(operator)
        return "" if experiment is None or index is None else page_url(experiment, index, conn_id_of(operator))


class AppLink(BaseOperatorLink):
    """Leads to the scheduler's own page of the app, if the scheduler has one, as AWS Batch does."""

    name = "App"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the address that the scheduler returned at the submission; empty when it returned none."""
        return getattr(operator, "app_url", None) or ""
