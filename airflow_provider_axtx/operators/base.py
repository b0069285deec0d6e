"""What all operators share: error translation, reading of arguments, the identity of a task instance."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar

from airflow.sdk import BaseOperator, BaseOperatorLink
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from airflow_provider_axtx.core.definition_file import read_definition
from airflow_provider_axtx.core.errors import AxtxError, InvalidInputError
from airflow_provider_axtx.core.experiment_name import EXPERIMENT_NAME_FIX, is_experiment_name
from airflow_provider_axtx.core.inputs import as_choice, given_or, is_templated, shorten
from airflow_provider_axtx.core.records import TaskIdentity
from airflow_provider_axtx.core.shipped import check_at_parse
from airflow_provider_axtx.hooks.ax import AxHook
from airflow_provider_axtx.hooks.installation import installation_id
from airflow_provider_axtx.links import ExperimentLink
from airflow_provider_axtx.operators._templates import TypedTemplatesMixin

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_axtx.store.experiments import ExperimentStore

_IF_EXISTS: tuple[Literal["resume", "fail"], ...] = ("resume", "fail")
_ON_CHANGE: tuple[Literal["refuse", "update"], ...] = ("refuse", "update")

_P = ParamSpec("_P")
_R = TypeVar("_R")


def airflow_errors(method: Callable[_P, _R]) -> Callable[_P, _R]:
    """Turn an ``AxtxError`` into what Airflow acts on: fail at once when a retry cannot help, else let it retry."""

    @functools.wraps(method)
    def translated(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return method(*args, **kwargs)
        except AxtxError as error:
            raise as_airflow_error(error) from error

    return translated


def as_airflow_error(error: AxtxError) -> AirflowException:
    """Return what Airflow gets to see of an error."""
    return AirflowException(str(error)) if error.retryable else AirflowFailException(str(error))


class Uncalled:
    """A function as the value of a template field. Airflow would call a bare function when it renders the field."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __str__(self) -> str:
        # Without an address in memory: it is part of the serialized DAG, which must not change with each parsing.
        return f"{self.function.__module__}.{getattr(self.function, '__qualname__', type(self.function).__qualname__)}"


def uncalled(value: Any) -> Any:
    """Return a value for a template field: a function is wrapped, so that Airflow does not call it."""
    return Uncalled(value) if callable(value) else value


def as_given(value: Any) -> Any:
    """Return what was given to ``uncalled``, or what Airflow has rendered of it."""
    return value.function if isinstance(value, Uncalled) else value


class LineageMixin(TypedTemplatesMixin):
    """Base of the operators that report to OpenLineage, where it is installed, which trials they worked on."""

    ax_conn_id: str
    lineage_reads = True
    lineage_writes = False
    _lineage: tuple[str, list[dict[str, Any]]] | None = None

    def note_lineage(self, experiment: str, trials: Sequence[dict[str, Any]] = ()) -> None:
        """Note the experiment and the trials that the task has worked on; a later note replaces an earlier one.

        :param trials: JSON objects of the trials.
        """
        self._lineage = (experiment, list(trials))

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """Return the experiment as a dataset and the trials as a facet; called by the OpenLineage provider."""
        from airflow_provider_axtx.lineage import operator_lineage

        if self._lineage is None:
            return None
        experiment, trials = self._lineage
        return operator_lineage(
            self.ax_conn_id, experiment, trials, reads=self.lineage_reads, writes=self.lineage_writes
        )


class BaseAxOperator(LineageMixin):
    """Base of the operators that work on the experiment store."""

    ui_color = "#e3f0e8"
    operator_extra_links: Collection[BaseOperatorLink] = (ExperimentLink(),)

    def __init__(self, *, ax_conn_id: str = AxHook.default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.ax_conn_id = ax_conn_id

    @cached_property
    def ax_hook(self) -> AxHook:
        """The hook of ``ax_conn_id``."""
        return AxHook(self.ax_conn_id)


def push_links(operator: BaseOperator, context: Context) -> None:
    """Show the operator's links already while it waits: Airflow itself asks for them when the task has ended."""
    ti: Any = context["ti"]
    for link in operator.operator_extra_links:
        ti.xcom_push(key=link.xcom_key, value=link.get_link(operator, ti_key=ti))


def definition_of(task: BaseOperator, experiment: Any) -> Any:
    """Return the definition of an experiment that a task was given; a file is read when the DAG is parsed.

    :raises InvalidInputError: the file cannot be read.
    """
    folders = [Path(task.dag.fileloc).parent] if task.has_dag() and task.dag.fileloc else []
    return read_definition(experiment, folders)


def check_experiment_at_parse(experiment: object, component: object = None, component_args: object = None) -> None:
    """Check what is known of an experiment in the DAG file, so that a mistake shows as an import error of the DAG.

    Fields that hold a template wait for the task's start.

    :param component: what its trials run; one that this package ships is checked against the search space.
    :param component_args: its constant arguments.
    :raises InvalidInputError: lists every mistake.
    """
    # Building its models takes 30 ms, which a DAG file without a literal experiment need not pay.
    if isinstance(experiment, Mapping):
        from airflow_provider_axtx.spec.partial import check_known

        check_known(experiment)
    elif not is_templated(experiment):
        from airflow_provider_axtx.spec.experiment import ExperimentSpec

        ExperimentSpec.load(experiment)
    check_at_parse(component, experiment, component_args)


def as_if_exists(value: object) -> Literal["resume", "fail"]:
    """Return what happens when an experiment exists already; ``resume`` when it is not given.

    :raises InvalidInputError: when it is something else.
    """
    return as_choice("if_exists", given_or("resume", value), _IF_EXISTS)


def as_on_change(value: object) -> Literal["refuse", "update"]:
    """Return what happens when an experiment exists with another definition; ``refuse`` when it is not given.

    :raises InvalidInputError: when it is something else.
    """
    return as_choice("on_change", given_or("refuse", value), _ON_CHANGE)


def check_name_at_parse(field: str, name: object) -> None:
    """Check the name of an experiment that the DAG file itself gives.

    :raises InvalidInputError: when no experiment can have it.
    """
    if not is_templated(name) and (not isinstance(name, str) or not is_experiment_name(name)):
        raise InvalidInputError(f"{field} cannot be {shorten(name)}.", fix=EXPERIMENT_NAME_FIX)


def current_identity(context: Context, store: ExperimentStore, torchx_conn_id: str = "") -> TaskIdentity:
    """Return the running task instance as it is recorded with what it asks for.

    :param store: the experiment store, which tells DAG runs of one id apart.
    :param torchx_conn_id: connection of the scheduler, for a task that submits apps.
    """
    ti, installation = context["ti"], installation_id()
    return TaskIdentity(
        dag_id=ti.dag_id,
        run_id=ti.run_id,
        task_id=ti.task_id,
        map_index=_map_index(ti),
        try_number=ti.try_number,
        max_tries=getattr(ti, "max_tries", 0),
        torchx_conn_id=torchx_conn_id,
        installation=installation,
        dag_run_generation=_generation(context, store, installation),
    )


def _generation(context: Context, store: ExperimentStore, installation: str) -> int:
    """Return how often a DAG run of this id was deleted and created again before the running one."""
    ti, dag_run = context["ti"], context.get("dag_run")
    started = getattr(dag_run, "start_date", None)
    if started is None:
        return 0
    return store.dag_run_generation(
        installation,
        ti.dag_id,
        ti.run_id,
        started_at=started.timestamp(),
        clear_number=getattr(dag_run, "clear_number", 0) or 0,
    )


def _map_index(ti: Any) -> int:
    return -1 if ti.map_index is None else int(ti.map_index)
