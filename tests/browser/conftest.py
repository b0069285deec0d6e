"""A real Airflow with users of different rights, and a browser."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Browser
from realairflow import AirflowEnv

ROOT = Path(__file__).parents[2]
USERS = "admin:admin,vera:viewer,olga:nosecrets,norman:noplugins"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave these tests out unless the command line names their marker: they need Chromium."""
    if "browser" not in config.option.markexpr:
        left_out = [item for item in items if item.get_closest_marker("browser")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AirflowEnv]:
    """Airflow with the example DAGs."""
    options = {
        "core.auth_manager": "tests.plugin.roles.RolesAuthManager",
        "core.simple_auth_manager_users": USERS,
    }
    home = tmp_path_factory.mktemp("airflow")
    with AirflowEnv(home, ROOT / "dags", options=options, environ={"PYTHONPATH": str(ROOT)}) as started:
        yield started


@pytest.fixture
def passwords(env: AirflowEnv) -> dict[str, str]:
    """Password by user name; Airflow has made up those that it did not know."""
    found: dict[str, str] = json.loads(env.paths.password.read_text())
    return found


@pytest.fixture
def browser(env: AirflowEnv, passwords: dict[str, str]) -> Iterator[Browser]:
    """A browser in which the administrator is logged in."""
    with Browser(env.url) as opened:
        opened.login("admin", passwords["admin"])
        yield opened
