"""The page "Experiments" in Airflow's UI, and the same for each DAG run.

Airflow finds it through the entry point ``airflow.plugins``: it would load plugins named in a provider's metadata only
where providers are not discovered lazily, which is not its default. Every Airflow process loads this module, so the
module imports little else; only the API server imports the page's code, at the first request.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from airflow.sdk.plugins_manager import AirflowPlugin

from airflow_provider_axtx.listeners import recording

#: Where Airflow's API server mounts the page and its data.
PREFIX = "/axtx"


async def application(
    scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
) -> None:
    """Answer one request (ASGI)."""
    from airflow_provider_axtx.plugin.app import the_app

    await the_app()(scope, receive, send)


class AxtxPlugin(AirflowPlugin):
    """Adds the page to Airflow's UI."""

    name = "axtx"
    listeners = [recording]
    fastapi_apps = [{"app": application, "url_prefix": PREFIX, "name": "Ax and TorchX experiments"}]
    # Relative addresses: Airflow may be served below a path, which its pages have as their base.
    external_views = [
        {
            "name": "Experiments",
            "href": f"{PREFIX[1:]}/",
            "destination": "nav",
            "url_route": "experiments",
            "nav_top_level": True,
            "icon": f"{PREFIX[1:]}/static/icon.svg",
            "icon_dark_mode": f"{PREFIX[1:]}/static/icon_dark.svg",
        },
        {
            "name": "Experiments",
            "href": f"{PREFIX[1:]}/?dag_id={{DAG_ID}}&run_id={{RUN_ID}}",
            "destination": "dag_run",
            "url_route": "experiments_of_run",
        },
    ]
