"""What all operators share: error translation, reading of arguments, the identity of a task instance."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from airflow.sdk.exceptions import AirflowException, AirflowFailException

from airflow_provider_axtx.core.errors import AxtxError
from airflow_provider_axtx.core.experiment import ExperimentSpec
from airflow_provider_axtx.core.facts import TaskIdentity
from airflow_provider_axtx.core.inputs import is_templated
from airflow_provider_axtx.core.names import task_key

if TYPE_CHECKING:
    from airflow.sdk import Context

_P = ParamSpec("_P")
_R = TypeVar("_R")


def airflow_errors(method: Callable[_P, _R]) -> Callable[_P, _R]:
    """Turn an ``AxtxError`` into what Airflow acts on: fail at once when a retry cannot help, else let it retry."""

    @functools.wraps(method)
    def translated(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return method(*args, **kwargs)
        except AxtxError as error:
            if error.retryable:
                raise AirflowException(str(error)) from error
            raise AirflowFailException(str(error)) from error

    return translated


def check_experiment_at_parse(experiment: object) -> None:
    """Check an experiment that is a literal in the DAG file, so that a mistake shows as an import error of the DAG.

    A name may be templated while the rest is a literal; anything else that is templated waits for the task's start.

    :raises InvalidInputError: lists every mistake.
    """
    if isinstance(experiment, dict) and isinstance(experiment.get("name"), str) and is_templated(experiment["name"]):
        experiment = {**experiment, "name": "templated"}
    if not is_templated(experiment):
        ExperimentSpec.load(experiment)


def current_task_key(context: Context) -> str:
    """Return the identity of the running task instance without its try number: the key of what it requests."""
    ti = context["ti"]
    return task_key(ti.dag_id, ti.run_id, ti.task_id, _map_index(ti))


def current_identity(context: Context, torchx_conn_id: str) -> TaskIdentity:
    """Return the running task instance as it is recorded with a run."""
    ti = context["ti"]
    return TaskIdentity(
        dag_id=ti.dag_id,
        run_id=ti.run_id,
        task_id=ti.task_id,
        map_index=_map_index(ti),
        try_number=ti.try_number,
        max_tries=getattr(ti, "max_tries", 0),
        torchx_conn_id=torchx_conn_id,
    )


def _map_index(ti: Any) -> int:
    return -1 if ti.map_index is None else int(ti.map_index)
