"""One cluster for all tests, since it takes most of a minute to start; the table of all scenarios at the end."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from airflow_provider_axtx.store.experiments import ExperimentStore
from tests.engines.airflow_cluster import AirflowCluster
from tests.platform.caught import Caught, catch
from tests.platform.pods import HIDDEN, RESULTS
from tests.platform.repository import Repository
from tests.platform.world import Row, World, table

DAGS = Path(__file__).parent / "dags"
_rows = pytest.StashKey[list[Row]]()


def ax_connection(store_url: str) -> dict[str, object]:
    """Return the Airflow connection to an experiment store."""
    url = make_url(store_url)
    login = {"login": url.username, "password": url.password}
    place = {"host": url.host, "port": url.port, "schema": url.database}
    return {"conn_type": "ax", **login, **place, "extra": {"drivername": url.drivername}}


def variables(cluster: AirflowCluster) -> dict[str, str]:
    """Return connections, executors and the three places of DAG files as variables."""
    # The apps of these tests only wait: all may run at once, on a machine of any size.
    torchx = {"scheduler_args": {"max_parallel": 100}, "tracker_base": str(cluster.shared / "tracker")}
    written = cluster.shared / "written"
    written.mkdir()
    local, git = "airflow.dag_processing.bundles.local.LocalDagBundle", "airflow.providers.git.bundles.git.GitDagBundle"
    repository = {"repo_url": str(Repository(cluster.shared).folder), "tracking_ref": "main", "refresh_interval": 15}
    bundles = [
        {"name": "dags-folder", "classpath": local, "kwargs": {}},
        {"name": "written", "classpath": local, "kwargs": {"path": str(written), "refresh_interval": 5}},
        {"name": "git", "classpath": git, "kwargs": repository},
    ]
    kubernetes = {"scheduler": "kubernetes", "scheduler_args": {"queue": "trials", "namespace": "default"}}
    pods = {**kubernetes, "tracker_base": str(cluster.results / "tracker")}
    store = json.dumps(ax_connection(cluster.store_url))
    cluster.worker_environ["AIRFLOW_CONN_AX_WORKERS"] = store
    return {
        "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor,PodExecutor:tests.platform.pods.PodExecutor",
        HIDDEN: str(cluster.folder),
        RESULTS: str(cluster.results),
        "KUBECONFIG": str(cluster.results / "kubeconfig"),
        "AIRFLOW_CONN_TORCHX_PODS": json.dumps({"conn_type": "torchx", "extra": pods}),
        "AIRFLOW_CONN_AX_ENVIRONMENT": store,
        "AIRFLOW_CONN_AX_DEFAULT": store,
        "AIRFLOW_CONN_TORCHX_DEFAULT": json.dumps({"conn_type": "torchx", "extra": torchx}),
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(bundles),
    }


@pytest.fixture(scope="session")
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """The cluster with the DAGs of ``dags``."""
    with AirflowCluster(DAGS, variables) as cluster:
        world = World(cluster, ExperimentStore(cluster.store_url))
        request.config.stash[_rows] = world.rows
        yield world


@pytest.fixture(scope="session")
def killed_worker(world: World) -> Caught:
    """A worker was killed with all its tasks, and has a successor."""
    caught = catch(world, "one")
    world.cluster.kill("worker-1")
    caught.submitting.release()
    world.cluster.start("worker-1")
    return Caught(caught.submitting, caught.waiting, time.time())


@pytest.fixture(scope="session")
def paused_worker(world: World) -> Caught:
    """All processes of a worker are stopped, without being ended; another worker takes tasks of its queue."""
    caught = catch(world, "two", waiting="poking_optimize")
    world.cluster.pause("worker-2")
    caught.submitting.release()
    world.cluster.start("worker-3", also=("--queues", "default,two"))
    return Caught(caught.submitting, caught.waiting, time.time())


@pytest.fixture(scope="session", autouse=True)
def slow_scenarios(request: pytest.FixtureRequest) -> None:
    """Begin first what waits 300 s for one of Airflow's timeouts, so that the other tests are played meanwhile."""
    for name in ("killed_worker", "paused_worker"):
        if any(name in getattr(item, "fixturenames", ()) for item in request.session.items):
            request.getfixturevalue(name)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table."""
    rows = terminalreporter.config.stash.get(_rows, [])
    if rows:
        terminalreporter.section("the platform's scenarios")
        terminalreporter.write_line("\n".join(table(rows)))
