"""What the routes have in common: the store of a request, with an experiment that the user may read or steer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, HTTPException, Path, Query, Request

from airflow_provider_axtx.core.errors import ExperimentNotFoundError
from airflow_provider_axtx.core.experiment_name import is_experiment_name
from airflow_provider_axtx.plugin.access import Reader, ReaderDep
from airflow_provider_axtx.plugin.answers import NOT_FOUND
from airflow_provider_axtx.plugin.stores import DEFAULT, may_open, no_such_store, this_installation
from airflow_provider_axtx.store.experiments import ExperimentStore
from airflow_provider_axtx.store.views import ExperimentViews, Owners

MAX_LINES = 200
#: What a database takes as a number of rows.
MAX_INT = 2**31 - 1
NOT_YOURS = "You may read this experiment. To change it you need the right to edit all DAGs that it belongs to."

Name = Annotated[str, Query(max_length=500)]
PathName = Annotated[str, Path(max_length=500, description="Name of the experiment")]
Since = Annotated[float | None, Query(allow_inf_nan=False)]


def store_of_request(request: Request, reader: ReaderDep, conn_id: Name = DEFAULT) -> ExperimentViews:
    """Return the store of a connection that the user may open.

    :raises HTTPException: 404 when there is no such store.
    """
    if not may_open(reader, conn_id):
        raise no_such_store()
    store: ExperimentViews = request.app.state.opened(conn_id)
    return store


def readable_owners(store: ExperimentViews, reader: Reader, name: str, conn_id: str) -> Owners | None:
    """Return whose an experiment is; None when it does not exist or the user may not read it."""
    try:
        owners = store.owners(name, this_installation()) if is_experiment_name(name) else None
    except ExperimentNotFoundError:
        return None
    return owners if owners is not None and reader.may_read_experiment(owners, conn_id) else None


@dataclass(frozen=True)
class Readable:
    """An experiment that the user may read.

    :param store: the store that has it.
    :param shows_output: whether the user may read what its apps wrote.
    """

    store: ExperimentViews
    shows_output: bool


def _readable(request: Request, reader: ReaderDep, name: Name, conn_id: Name = DEFAULT) -> Readable:
    store = store_of_request(request, reader, conn_id)
    owners = readable_owners(store, reader, name, conn_id)
    if owners is None:
        raise HTTPException(404, NOT_FOUND)
    return Readable(store, reader.may_read_output(owners))


def _readable_of_path(request: Request, reader: ReaderDep, name: PathName, conn_id: Name = DEFAULT) -> Readable:
    return _readable(request, reader, name, conn_id)


ReadableDep = Annotated[Readable, Depends(_readable)]
ReadableOfPathDep = Annotated[Readable, Depends(_readable_of_path)]


def _store_of(found: ReadableDep) -> ExperimentViews:
    """Return the store with an experiment that the user may read."""
    return found.store


def _store_of_path(found: ReadableOfPathDep) -> ExperimentViews:
    return found.store


def may_edit(store: ExperimentViews, reader: Reader, name: str, conn_id: str) -> bool:
    """Return whether the user may change what is wanted of an experiment."""
    owners = readable_owners(store, reader, name, conn_id)
    return owners is not None and reader.may_edit_experiment(owners, conn_id)


def _store_to_edit(request: Request, reader: ReaderDep, name: PathName, conn_id: Name = DEFAULT) -> ExperimentStore:
    """Return the store, opened for writing, with an experiment that the user may change.

    :raises HTTPException: 404 when the user may not read the experiment, 403 when the user may read it only.
    """
    owners = readable_owners(store_of_request(request, reader, conn_id), reader, name, conn_id)
    if owners is None:
        raise HTTPException(404, NOT_FOUND)
    if not reader.may_edit_experiment(owners, conn_id):
        raise HTTPException(403, NOT_YOURS)
    store: ExperimentStore = request.app.state.opened_to_write(conn_id)
    return store


StoreOfDep = Annotated[ExperimentViews, Depends(_store_of)]
StoreOfPathDep = Annotated[ExperimentViews, Depends(_store_of_path)]
StoreToEditDep = Annotated[ExperimentStore, Depends(_store_to_edit)]
