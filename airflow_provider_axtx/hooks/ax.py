"""The ``ax`` connection: where the experiment store is."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook

from airflow_provider_axtx.core.errors import InvalidInputError, StoreNotFoundError
from airflow_provider_axtx.core.experiment_name import fitted_name
from airflow_provider_axtx.core.inputs import given_or
from airflow_provider_axtx.core.tables import TIMES, Table, columns, tables
from airflow_provider_axtx.hooks.connections import afind_connection, find_connection
from airflow_provider_axtx.hooks.embedded import (
    embedded_store_path,
    embedded_store_warning,
    make_file,
    make_folder,
    warn_about_embedded_store,
)
from airflow_provider_axtx.hooks.store_url import connection_url

__all__ = ["AxHook", "connection_url", "embedded_store_warning", "warn_about_embedded_store"]

if TYPE_CHECKING:
    from pathlib import Path

    from airflow.sdk import Connection
    from ax.api.client import Client
    from pandas import DataFrame

    from airflow_provider_axtx.store.experiments import ExperimentStore


class AxHook(BaseHook):
    """Gives access to the experiments in the store.

    Without a connection ``ax_default`` the store is the SQLite file ``axtx/experiments.db`` in AIRFLOW_HOME.

    ```python
    from airflow_provider_axtx.hooks.ax import AxHook

    best = AxHook("ax_default").get_best("my-experiment")
    trials = AxHook("ax_default").get_frame("my-experiment")
    ```

    :param ax_conn_id: a connection of type ``ax``, ``postgres``, ``mysql`` or ``sqlite``.
    """

    conn_name_attr = "ax_conn_id"
    default_conn_name = "ax_default"
    conn_type = "ax"
    hook_name = "Ax experiment store"

    def __init__(self, ax_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.ax_conn_id: str = given_or(self.default_conn_name, ax_conn_id)

    @cached_property
    def store(self) -> ExperimentStore:
        """The experiment store; opened, and its schema created or upgraded, at first use.

        :raises InvalidInputError: when the connection cannot be used; names the field.
        :raises StoreUnavailableError: when the database does not answer.
        :raises AirflowUnavailableError: when Airflow does not say whether the connection is defined.
        """
        from airflow_provider_axtx.store.experiments import ExperimentStore

        connection = self._connection()
        if connection is not None:
            return ExperimentStore(connection_url(connection))
        make_file()
        return ExperimentStore(_embedded_url())

    @cached_property
    def existing_store(self) -> ExperimentStore:
        """The experiment store for those who only read: neither the store nor a table is created or changed.

        :raises StoreNotFoundError: when there is no store yet.
        :raises SchemaVersionError: when the store was made by another version of this package.
        """
        from airflow_provider_axtx.store.experiments import ExperimentStore

        connection = self._connection()
        if connection is None and not embedded_store_path().exists():
            raise StoreNotFoundError(
                f"There is no experiment store at {embedded_store_path()} yet.",
                fix="run a DAG that creates an experiment, or define the connection ax_default.",
            )
        return ExperimentStore(_url(connection), create=False)

    def get_url(self) -> str:
        """Return the store's SQLAlchemy URL, with the password."""
        connection = self._connection()
        if connection is None:
            make_folder()
        return _url(connection)

    async def aget_url(self) -> str:
        """Return the store's SQLAlchemy URL without blocking an event loop; for triggers."""
        connection = await afind_connection(self.ax_conn_id)
        if connection is None:
            self._use_embedded_store()
            make_folder()
        return _url(connection)

    def describe_store(self) -> str:
        """Return where the store is and what says so, without the password."""
        from sqlalchemy.engine import make_url

        connection = self._connection()
        shown = make_url(_url(connection)).render_as_string(hide_password=True)
        if connection is None:
            return f"{shown} (the embedded store of this machine: the connection {self.ax_conn_id} is not defined)"
        return f"{shown} (connection {self.ax_conn_id})"

    def _connection(self) -> Connection | None:
        """Return the connection, or None for the embedded store."""
        connection = find_connection(self.ax_conn_id)
        if connection is None:
            self._use_embedded_store()
        return connection

    def _use_embedded_store(self) -> None:
        if self.ax_conn_id != self.default_conn_name:
            raise InvalidInputError(
                f"ax_conn_id={self.ax_conn_id!r}: no such connection.",
                fix=f"define it (type ax), or leave ax_conn_id at {self.default_conn_name!r} for the embedded store.",
            )
        warn_about_embedded_store()

    def get_client(self, experiment_name: str) -> Client:
        """Return a live ``ax.api.client.Client`` with all facts of an experiment, for notebooks and analyses.

        It is a copy: what is done with it does not reach the store.

        :raises StoreNotFoundError: when there is no store yet.
        :raises ExperimentNotFoundError: when there is no such experiment.
        """
        from airflow_provider_axtx.optimizer import engine as optimizer

        return optimizer.client(self.existing_store.snapshot(fitted_name(experiment_name)))

    def get_best(self, experiment_name: str, *, use_model_predictions: bool = False) -> list[dict[str, Any]]:
        """Return the best trial of an experiment, or its Pareto frontier when it has several objectives.

        :param use_model_predictions: judge by the model's predictions instead of the observations; fits a model.
        :return: ``[{trial_index, arm_name, parameters, metrics: {name: {mean, sem}}}]`` in order of trial index.
        :raises StoreNotFoundError: when there is no store yet.
        :raises ExperimentNotFoundError: when there is no such experiment.
        :raises TrialNotFoundError: when no trial qualifies yet.
        """
        from airflow_provider_axtx.optimizer import engine as optimizer

        snapshot = self.existing_store.snapshot(fitted_name(experiment_name))
        return optimizer.best(snapshot, use_model_predictions=use_model_predictions)

    def get_frame(self, experiment_name: str, table: Table = "trials") -> DataFrame:
        """Return an experiment as a pandas ``DataFrame``.

        :param table: ``trials`` has a row for each trial, with columns such as ``parameters.lr`` and ``metrics.loss``;
            ``attempts`` one for each attempt; ``curves`` one for each trial, metric and step.
        :raises StoreNotFoundError: when there is no store yet.
        :raises ExperimentNotFoundError: when there is no such experiment.
        """
        import pandas as pd

        name = fitted_name(experiment_name)
        rows = tables(self.existing_store.snapshot(name), self.existing_store.attempts(name))[table]
        frame = pd.DataFrame(rows, columns=columns(table, rows))
        for time in set(TIMES) & set(frame):
            frame[time] = pd.to_datetime(frame[time].astype(float), unit="s", utc=True)
        return frame

    def export(self, experiment_name: str, path: str | Path) -> None:
        """Write an experiment as Ax's own JSON snapshot, for ``Client.load_from_json_file``.

        :param path: the file; replaced as a whole or not at all.
        :raises StoreNotFoundError: when there is no store yet.
        :raises ExperimentNotFoundError: when there is no such experiment.
        :raises OSError: when the file cannot be written.
        """
        from airflow_provider_axtx.optimizer import engine as optimizer

        optimizer.export_json(self.existing_store.snapshot(fitted_name(experiment_name)), path)

    def test_connection(self) -> tuple[bool, str]:
        """Read the store, without creating it; for the Test button of the connection form."""
        from airflow_provider_axtx.core.errors import AxtxError

        try:
            count = len(self.existing_store.summaries())
        except StoreNotFoundError:
            return True, "The connection can be used. There is no experiment store yet; the first task creates it."
        except AxtxError as error:
            return False, str(error)
        return True, f"The experiment store answers; it holds {count} experiment(s)."


def _embedded_url() -> str:
    return f"sqlite:///{embedded_store_path()}"


def _url(connection: Connection | None) -> str:
    return _embedded_url() if connection is None else connection_url(connection)
