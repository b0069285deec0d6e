"""DAG files that change while tasks are deferred: in a folder, and in a Git repository."""

from __future__ import annotations

import time

import pytest
from realairflow import poll

from tests.platform.repository import Repository
from tests.platform.world import LONG, World

pytestmark = pytest.mark.celery

DAG = """from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import dag
from tests.platform.dags.platform_common import loop, settings

@dag(dag_id={dag_id!r}, **settings())
def written():
    loop(fused=False, poke_interval={interval}, timeout={timeout}){more}

written()
"""


def text(dag_id: str, interval: int = 2, timeout: int = 600, more: str = "") -> str:
    return DAG.format(dag_id=dag_id, interval=interval, timeout=timeout, more=more)


def changed(dag_id: str) -> str:
    """Return the file with other arguments and another task."""
    return text(dag_id, interval=3, timeout=900, more=' >> EmptyOperator(task_id="added")')


def await_added(world: World, dag_id: str) -> None:
    """Wait until Airflow has parsed the changed file."""

    def look() -> bool | None:
        tasks = world.cluster.api.request("GET", f"/dags/{dag_id}/tasks")["tasks"]
        return any(task["task_id"] == "added" for task in tasks) or None

    poll(look, LONG, f"the changed DAG {dag_id}")


@pytest.mark.platform
def test_a_file_is_changed_while_its_tasks_are_deferred(world: World) -> None:
    file = world.cluster.shared / "written" / "written.py"
    file.write_text(text("written"))
    run = world.run("written", 2)
    run.await_waiting()
    file.write_text(changed("written"))
    since = time.time()
    await_added(world, "written")
    run.let_go()
    world.assert_whole("DAG file changed while deferred", [run], since)


def test_a_commit_follows_while_tasks_are_deferred(world: World) -> None:
    repository = Repository(world.cluster.shared)
    repository.commit("committed.py", text("committed"))
    run = world.run("committed", 2)
    run.await_waiting()
    repository.commit("committed.py", changed("committed"))
    since = time.time()
    await_added(world, "committed")
    run.let_go()
    world.assert_whole("Git bundle, commit while deferred", [run], since)
    assert "added" not in run.states()
