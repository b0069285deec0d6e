"""The connection to the experiment store is defined in the database, in the environment, or on workers only."""

from __future__ import annotations

import json
import time

import pytest

from tests.platform.conftest import ax_connection
from tests.platform.world import World

pytestmark = pytest.mark.celery


@pytest.mark.platform
def test_in_the_database(world: World) -> None:
    connection = ax_connection(world.cluster.store_url)
    extra = json.dumps(connection.pop("extra"))
    world.cluster.api.request(
        "POST", "/connections", json={"connection_id": "ax_database", **connection, "extra": extra}
    )
    assert_whole_with(world, "connection in the database", "database")


@pytest.mark.platform
def test_in_the_environment(world: World) -> None:
    assert_whole_with(world, "connection in the environment", "environment")


def test_only_on_workers(world: World) -> None:
    """The triggerer sees the end of an app without the store; what users want is obeyed when the task goes on."""
    assert_whole_with(world, "connection on workers only", "workers")


def assert_whole_with(world: World, scenario: str, place: str) -> None:
    run = world.run(f"loop_of_{place}")
    run.await_waiting()
    since = time.time()
    run.let_go()
    world.assert_whole(scenario, [run], since)
