"""Authorization. Airflow does not protect a plugin's application: each route of the page states what it requires.

Every route requires a user who may view plugins (401 without a login, 403 without the right). An experiment belongs to
the DAGs that created it or ran its trials, is shown to users who may read all of them, and is changed by users who may
edit all of them. One that the user may not read is answered as one that does not exist.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Annotated, Any

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.base_auth_manager import ResourceMethod
from airflow.api_fastapi.auth.managers.models.resource_details import (
    AccessView,
    ConnectionDetails,
    DagAccessEntity,
    DagDetails,
)
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_view
from airflow.configuration import conf
from airflow.models.connection import Connection
from airflow.models.dag import DagModel
from fastapi import Depends

from airflow_provider_axtx.store.views import Owners

#: Required by every route: the user may view plugins.
MAY_VIEW = Depends(requires_access_view(AccessView.PLUGINS))


MayUseDag = Callable[[ResourceMethod, str, DagAccessEntity | None], bool]
MayUseConnection = Callable[[ResourceMethod, str], bool]


class Reader:
    """The user of a request, and what this user may do.

    :param name: the user's name, recorded with what the user changes.
    """

    def __init__(self, name: str, may_use_dag: MayUseDag, may_use_connection: MayUseConnection) -> None:
        self.name = name
        self._may_use_dag = may_use_dag
        self._may_use_connection = may_use_connection
        self._dags: dict[str, bool] = {}

    def may_read_dag(self, dag_id: str) -> bool:
        """Return whether the user may read the DAG."""
        if dag_id not in self._dags:
            self._dags[dag_id] = self._may_use_dag("GET", dag_id, None)
        return self._dags[dag_id]

    def may_read_runs(self, dag_id: str) -> bool:
        """Return whether the user may read the runs of the DAG."""
        return self._may_use_dag("GET", dag_id, DagAccessEntity.RUN)

    def may_read_connection(self, conn_id: str) -> bool:
        """Return whether the user may read the connection."""
        return self._may_use_connection("GET", conn_id)

    def may_read_experiment(self, owners: Owners, conn_id: str) -> bool:
        """Return whether the user may read an experiment.

        One that belongs to no DAG, or also to another Airflow deployment, of whose DAGs nothing is known here, requires
        the right to read the connection of its store.

        :param owners: whose it is.
        :param conn_id: the connection of its store.
        """
        if (not owners.dag_ids or owners.is_shared) and not self.may_read_connection(conn_id):
            return False
        return all(map(self.may_read_dag, owners.dag_ids))

    def may_read_output(self, owners: Owners) -> bool:
        """Return whether the user may read what the apps of a readable experiment wrote: the task logs of all its DAGs.

        Of the DAGs of another Airflow deployment nothing is known here.

        :param owners: whose it is.
        """
        return not owners.is_shared and all(
            self._may_use_dag("GET", dag_id, DagAccessEntity.TASK_LOGS) for dag_id in owners.dag_ids
        )

    def may_edit_experiment(self, owners: Owners, conn_id: str) -> bool:
        """Return whether the user may change what is wanted of an experiment: edit all of its DAGs.

        One that belongs to no DAG, or also to another Airflow deployment, requires the right to edit the connection of
        its store.

        :param owners: whose it is.
        :param conn_id: the connection of its store.
        """
        if (not owners.dag_ids or owners.is_shared) and not self._may_use_connection("PUT", conn_id):
            return False
        return all(self._may_use_dag("PUT", dag_id, None) for dag_id in owners.dag_ids)

    def hidden_dags(self, dag_ids: Collection[str]) -> set[str]:
        """Return those DAGs that the user may not read."""
        return {dag_id for dag_id in dag_ids if not self.may_read_dag(dag_id)}


def _reader(user: GetUserDep) -> Reader:
    has_teams = conf.getboolean("core", "multi_team", fallback=False)
    auth_manager: Any = get_auth_manager()

    def may_use_dag(method: ResourceMethod, dag_id: str, entity: DagAccessEntity | None) -> bool:
        team = DagModel.get_team_name(dag_id) if has_teams else None
        details = DagDetails(id=dag_id, team_name=team)
        return bool(auth_manager.is_authorized_dag(method=method, access_entity=entity, details=details, user=user))

    def may_use_connection(method: ResourceMethod, conn_id: str) -> bool:
        team = Connection.get_team_name(conn_id) if has_teams else None
        details = ConnectionDetails(conn_id=conn_id, team_name=team)
        return bool(auth_manager.is_authorized_connection(method=method, details=details, user=user))

    return Reader(user.get_name(), may_use_dag, may_use_connection)


ReaderDep = Annotated[Reader, Depends(_reader)]
