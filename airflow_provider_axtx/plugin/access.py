"""Authorization. Airflow does not protect a plugin's application: each route of the page states what it requires.

Everything requires a user who may view plugins (401 without a user, 403 without the right). What belongs to DAGs
requires the right to read one of them as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Any

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import AccessView, DagAccessEntity, DagDetails
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_view
from airflow.configuration import conf
from airflow.models.dag import DagModel
from fastapi import Depends, HTTPException

#: Required by every route: the user may view plugins.
MAY_VIEW = Depends(requires_access_view(AccessView.PLUGINS))


class Reader:
    """What the user of this request may read."""

    def __init__(self, user: Any, may_read: Callable[[str, DagAccessEntity | None], bool]) -> None:
        self.user = user
        self._may_read = may_read
        self._known: dict[str, bool] = {}

    def may_read_dag(self, dag_id: str) -> bool:
        """Return whether the user may read the DAG."""
        if dag_id not in self._known:
            self._known[dag_id] = self._may_read(dag_id, None)
        return self._known[dag_id]

    def may_read_any(self, dag_ids: Iterable[str]) -> bool:
        """Return whether the user may read one of the DAGs; an experiment that no DAG has run is everybody's."""
        given = tuple(dag_ids)
        return not given or any(self.may_read_dag(dag_id) for dag_id in given)

    def require_any(self, dag_ids: Iterable[str]) -> None:
        """Answer 403 unless the user may read one of the DAGs."""
        if not self.may_read_any(dag_ids):
            raise HTTPException(403, "Forbidden")

    def require_runs(self, dag_id: str) -> None:
        """Answer 403 unless the user may read the runs of the DAG."""
        if not self._may_read(dag_id, DagAccessEntity.RUN):
            raise HTTPException(403, "Forbidden")


def _reader(user: GetUserDep) -> Reader:
    def may_read(dag_id: str, entity: DagAccessEntity | None) -> bool:
        team = DagModel.get_team_name(dag_id) if conf.getboolean("core", "multi_team") else None
        details = DagDetails(id=dag_id, team_name=team)
        return get_auth_manager().is_authorized_dag(method="GET", access_entity=entity, details=details, user=user)

    return Reader(user, may_read)


ReaderDep = Annotated[Reader, Depends(_reader)]
