"""An auth manager with finer roles than Airflow's simple one, whose every role may view everything."""

from __future__ import annotations

from typing import Any

from airflow.api_fastapi.auth.managers.models.resource_details import (
    AccessView,
    ConnectionDetails,
    DagAccessEntity,
    DagDetails,
)
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

#: May log in and read DAGs, but not view plugins.
NO_PLUGINS = "noplugins"
#: May view plugins, but neither read DAGs whose id begins with "secret" nor any connection but "team".
NO_SECRETS = "nosecrets"
#: May view all that a viewer may, except the logs of tasks.
NO_LOGS = "nologs"


class RolesAuthManager(SimpleAuthManager):
    """Knows the three roles above besides the simple auth manager's."""

    def is_authorized_view(self, *, access_view: AccessView, user: SimpleAuthManagerUser) -> bool:
        if user.role == NO_PLUGINS:
            return access_view != AccessView.PLUGINS
        return user.role in (NO_SECRETS, NO_LOGS) or super().is_authorized_view(access_view=access_view, user=user)

    def is_authorized_dag(self, *, user: SimpleAuthManagerUser, details: DagDetails | None = None, **rest: Any) -> bool:
        if user.role == NO_SECRETS:
            return details is None or not str(details.id).startswith("secret")
        if user.role == NO_LOGS:
            return rest["method"] == "GET" and rest.get("access_entity") != DagAccessEntity.TASK_LOGS
        return user.role == NO_PLUGINS or super().is_authorized_dag(user=user, details=details, **rest)

    def is_authorized_connection(
        self, *, user: SimpleAuthManagerUser, details: ConnectionDetails | None = None, **rest: Any
    ) -> bool:
        if user.role == NO_SECRETS:
            return details is not None and details.conn_id == "team"
        return super().is_authorized_connection(user=user, details=details, **rest)
