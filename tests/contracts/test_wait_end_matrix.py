"""Every scheduler, every way of waiting, every way of ending: ``matrix`` has the cells, ``cell`` plays one."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from airflow.cli import cli_parser
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

from airflow_provider_axtx.cli import reap
from airflow_provider_axtx.hooks import installation
from airflow_provider_axtx.hooks.ax import AxHook
from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher
from airflow_provider_axtx.store.experiments import ExperimentStore
from airflow_provider_axtx.triggers import timing
from tests.contracts.cell import Cell
from tests.contracts.conftest import rig_named
from tests.contracts.matrix import (
    ENDS,
    EXPECTED,
    PRODUCT,
    WAITS,
    Place,
    cell_parameters,
    cells_with_options,
    reason_against,
)
from tests.contracts.rigs import RIGS, FakeRig
from tests.contracts.table import MATRIX_PLACE
from tests.fakes.airflow_output import json_printed
from tests.operators.conftest import AirflowStates


@pytest.fixture(scope="module")
def store_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The experiment store of all cells, in which none of them may leave anything open."""
    # Imported before a cell's time counts: on a loaded machine that has taken 40 s.
    import_module("airflow_provider_axtx.optimizer.engine")
    file = tmp_path_factory.mktemp("matrix") / "experiments.db"
    yield file
    if file.exists():
        store = ExperimentStore(f"sqlite:///{file}")
        assert (store.open_attempts(), store.open_trials()) == ([], [])


@pytest.fixture
def airflow(monkeypatch: pytest.MonkeyPatch, store_file: Path) -> AirflowStates:
    """Airflow as the cells need it: a store, an identity, no heartbeat, and an answer about the state of a task."""
    monkeypatch.setenv("AIRFLOW_CONN_AX_DEFAULT", json.dumps({"conn_type": "ax", "schema": str(store_file)}))
    monkeypatch.setenv("AIRFLOW__AXTX__INSTALLATION", "the deployment of the matrix")
    monkeypatch.setattr(installation, "_known", "")
    monkeypatch.setenv("AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL", "0")
    monkeypatch.setattr(timing, "_MARGIN_SECONDS", 0.0)
    states = AirflowStates()
    monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", states.get_task_states)
    return states


@pytest.fixture
def ax(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Run ``airflow ax`` while no DAG run is active; return the rows that it prints."""
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "")  # which the command sets, and the test has to restore
    monkeypatch.setattr(reap, "active_dag_runs", lambda task=None: set())

    def run(*arguments: str) -> Any:
        capsys.readouterr()
        args = cli_parser.get_parser().parse_args(["ax", *arguments, "--output", "json"])
        args.func(args)
        return json_printed(capsys.readouterr().out)

    return run


@pytest.fixture
def cell(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, airflow: AirflowStates, ax: Callable[..., Any]
) -> Cell:
    place: Place = request.param
    if request.node.originalname == "test_cell":
        request.node.user_properties.append((MATRIX_PLACE, str(place)))
    rig = rig_named(place.scheduler, request)
    if isinstance(rig, FakeRig):
        _make_known(rig, monkeypatch)
    is_of_schema_0001 = "schema_0001" in request.node.name
    return Cell(place, rig, AxHook().store, monkeypatch, airflow, ax, is_of_schema_0001)


def _make_known(rig: FakeRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every launcher of this process find the fake scheduler."""
    original = TorchXLauncher.__init__

    def init(self: TorchXLauncher, scheduler: str, **arguments: Any) -> None:
        original(self, scheduler, **{**arguments, "scheduler_factories": {rig.name: rig.cluster.factory}})

    monkeypatch.setattr(TorchXLauncher, "__init__", init)


@pytest.mark.parametrize("cell", cell_parameters(), indirect=True)
def test_cell(cell: Cell) -> None:
    cell.play()


@pytest.mark.parametrize("cell", cells_with_options(), indirect=True)
def test_attempt_of_schema_0001(cell: Cell) -> None:
    """Before lookup options were recorded with an attempt, the connection's options led to its app; they still do."""
    cell.play()


def test_the_cells_are_the_full_product() -> None:
    """No cell is left out but by the rule that names the reason, which the table shows."""
    played = {parameter.values[0] for parameter in cell_parameters()}
    ruled_out = {place for place in PRODUCT if reason_against(place)}
    assert played | ruled_out == {Place(*cell) for cell in itertools.product(RIGS, WAITS, ENDS)}
    assert not played & ruled_out
    assert set(EXPECTED) == set(ENDS)
    assert len(ruled_out) == len(RIGS) * sum(wait.mode != "deferrable" for wait in WAITS)


def test_the_sample_has_every_wait_and_every_end_of_each_scheduler() -> None:
    sample = [
        parameter.values[0]
        for parameter in cell_parameters()
        if "thorough" not in {mark.name for mark in parameter.marks}
    ]
    for scheduler in RIGS:
        places = [place for place in sample if place.scheduler == scheduler]
        assert {place.wait for place in places} == set(WAITS)
        assert {place.end for place in places} == set(ENDS)
