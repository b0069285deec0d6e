"""``airflow ax`` as a command of its own: which store it reads, what it leaves alone, which DAG runs it takes for over.

What it does to apps is seen in ``tests/e2e/test_cli.py``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_axtx.store.experiments import ExperimentStore

SPEC = {"name": "e", "parameters": []}


@dataclass
class Home:
    """An AIRFLOW_HOME with a database, and its command line."""

    folder: Path
    environ: dict[str, str] = field(default_factory=dict)

    def run(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "AIRFLOW_HOME": str(self.folder), **self.environ, **environ}
        command = [sys.executable, *arguments]
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, cwd=self.folder)

    def airflow(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        done = self.run("-m", "airflow", *arguments, **environ)
        assert done.returncode == 0, done.stderr
        return done

    def ax(self, *arguments: str, **environ: str) -> tuple[Any, str]:
        """Run ``airflow ax`` with ``--output json``; return the data from stdout and the text of stderr."""
        done = self.airflow("ax", *arguments, "--output", "json", **environ)
        return json.loads(done.stdout), done.stderr


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    folder = tmp_path_factory.mktemp("home")
    home = Home(folder)
    home.airflow("db", "migrate")
    yield home


def fill(path: Path, name: str) -> None:
    store = ExperimentStore(f"sqlite:///{path}")
    store.create(name, SPEC)
    store.close()


def test_it_reads_the_store_of_a_connection_in_airflows_database(home: Home, tmp_path: Path) -> None:
    fill(tmp_path / "team.db", "digits")
    home.airflow("connections", "add", "team", "--conn-type", "ax", "--conn-schema", str(tmp_path / "team.db"))
    rows, told = home.ax("experiments", "--ax-conn-id", "team")
    assert [row["experiment"] for row in rows] == ["digits"]
    assert f"Experiment store: sqlite:///{tmp_path / 'team.db'} (connection team)" in told


def test_it_reads_the_store_of_a_connection_in_the_environment(home: Home, tmp_path: Path) -> None:
    fill(tmp_path / "other.db", "wine")
    defined = json.dumps({"conn_type": "ax", "schema": str(tmp_path / "other.db")})
    rows, _ = home.ax("experiments", AIRFLOW_CONN_AX_DEFAULT=defined)
    assert [row["experiment"] for row in rows] == ["wine"]


def test_a_store_that_cannot_be_read_is_named(home: Home, tmp_path: Path) -> None:
    (tmp_path / "garbage.db").write_bytes(b"no database" * 1000)
    defined = json.dumps({"conn_type": "ax", "schema": str(tmp_path / "garbage.db")})
    done = home.run("-m", "airflow", "ax", "experiments", AIRFLOW_CONN_AX_DEFAULT=defined)
    assert done.returncode == 1
    assert f"Experiment store: sqlite:///{tmp_path}/garbage.db (connection ax_default)" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", [("experiments",), ("reap",), ("reap", "--dry-run")])
def test_without_a_store_it_makes_none(home: Home, command: tuple[str, ...]) -> None:
    rows, told = home.ax(*command)
    assert rows == []
    assert "There is no experiment store" in told
    assert not (home.folder / "axtx").exists()


def test_an_experiment_that_does_not_exist_is_an_error_without_a_traceback(home: Home, tmp_path: Path) -> None:
    fill(tmp_path / "store.db", "digits")
    defined = json.dumps({"conn_type": "ax", "schema": str(tmp_path / "store.db")})
    done = home.run("-m", "airflow", "ax", "trials", "nothing", AIRFLOW_CONN_AX_DEFAULT=defined)
    assert done.returncode == 1
    assert "nothing" in done.stderr
    assert "Traceback" not in done.stderr


def test_it_warns_about_the_embedded_store_of_one_machine(home: Home) -> None:
    _, told = home.ax("experiments", AIRFLOW__CORE__EXECUTOR="CeleryExecutor")
    assert "The connection ax_default is not defined" in told
    _, told = home.ax("experiments", AIRFLOW__CORE__EXECUTOR="LocalExecutor")
    assert "several machines" not in told


def test_a_connection_that_is_not_defined_is_an_error(home: Home) -> None:
    done = home.run("-m", "airflow", "ax", "experiments", "--ax-conn-id", "elsewhere")
    assert done.returncode == 1
    assert "elsewhere" in done.stderr


DAG_RUNS = """
import datetime as dt
from airflow.models.dag import DagModel
from airflow.models.dagbundle import DagBundleModel
from airflow.models.dagrun import DagRun
from airflow.models.errors import ParseImportError
from airflow.utils.session import create_session
from airflow.utils.types import DagRunTriggeredByType, DagRunType

now = dt.datetime.now(dt.UTC)
with create_session() as session:
    session.add(DagBundleModel(name="bundle"))
    session.flush()
    for dag_id, stale in (("present", False), ("gone", True), ("broken", True)):
        session.add(DagModel(dag_id=dag_id, bundle_name="bundle", relative_fileloc=f"{dag_id}.py", is_stale=stale))
    session.add(ParseImportError(filename="broken.py", bundle_name="bundle", timestamp=now, stacktrace="error"))
    for dag_id in ("present", "gone", "broken", "deleted"):
        for state in ("running", "queued", "success", "failed"):
            run = DagRun(
                dag_id=dag_id, run_id=state, run_type=DagRunType.MANUAL, state=state, run_after=now, logical_date=None,
                triggered_by=DagRunTriggeredByType.CLI,
            )
            session.add(run)
from airflow_provider_axtx.cli import _active_dag_runs
print(sorted(_active_dag_runs()))
"""


def test_dag_runs_of_dags_that_are_gone_are_over(home: Home) -> None:
    done = home.run("-c", DAG_RUNS)
    assert done.returncode == 0, done.stderr
    active = [(dag_id, state) for dag_id in ("broken", "present") for state in ("queued", "running")]
    assert done.stdout.splitlines()[-1] == str(active)
