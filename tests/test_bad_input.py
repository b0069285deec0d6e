"""What a user gets wrong: every case names the field, the value and the fix, and nothing is submitted or recorded."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.hooks.ax import AxHook
from airflow_provider_axtx.launcher.local_detached.scheduler import default_root
from airflow_provider_axtx.operators.ax import (
    AxBestTrialOperator,
    AxCompleteTrialOperator,
    AxCreateExperimentOperator,
    AxGenerateTrialsOperator,
)
from airflow_provider_axtx.operators.torchx import TorchXRunTrialOperator, TorchXSubmitTrialOperator
from airflow_provider_axtx.sensors.torchx import TorchXTrialSensor
from airflow_provider_axtx.task_groups import ax_trial_loop
from tests.operators.conftest import BOOTH, FakeTaskInstance

TRIAL = {"experiment": "booth", "trial_index": 0, "arm_name": "0_0", "parameters": {"x1": 1.0, "x2": 2.0}}


def spec(change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    """Return the booth experiment with one mistake."""
    changed = deepcopy(BOOTH)
    change(changed)
    return changed


def parameter(**values: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda s: s["parameters"][0].update(values)


SPECS: list[tuple[str, Callable[[dict[str, Any]], Any], list[str]]] = [
    ("name missing", lambda s: s.pop("name"), ["name"]),
    ("name with a slash", lambda s: s.update(name="a/b"), ["name", "a/b"]),
    ("no parameters", lambda s: s.update(parameters=[]), ["parameters"]),
    ("unknown key", lambda s: s.update(objektive="x"), ["objektive", "objective"]),
    ("no objective", lambda s: s.pop("objective"), ["objective"]),
    ("objective is no expression", lambda s: s.update(objective="-"), ["objective"]),
    ("bounds reversed", parameter(bounds=[10.0, -10.0]), ["bounds", "10.0"]),
    ("bounds with one value", parameter(bounds=[1.0]), ["bounds"]),
    ("bounds with text", parameter(bounds=["low", "high"]), ["bounds", "low"]),
    ("infinite bounds", parameter(bounds=[0.0, float("inf")]), ["bounds", "inf"]),
    ("log scale from zero", parameter(bounds=[0.0, 1.0], scaling="log"), ["bounds", "log"]),
    ("unknown scaling", parameter(scaling="cubic"), ["scaling", "cubic"]),
    ("unknown parameter type", parameter(parameter_type="double"), ["parameter_type", "double"]),
    ("fractional bounds of an int", parameter(parameter_type="int", bounds=[0.5, 3.0]), ["bounds", "0.5"]),
    ("unknown kind of parameter", parameter(type="rnage"), ["type", "rnage"]),
    ("a name twice", parameter(name="x2"), ["x2"]),
    ("a name that is no identifier", parameter(name="learning rate"), ["name", "learning rate"]),
    ("a choice without values", parameter(type="choice", values=[], bounds=None), ["values"]),
    ("constraint on an unknown parameter", lambda s: s.update(parameter_constraints=["x9 <= 1"]), ["x9"]),
    ("constraint that is not linear", lambda s: s.update(parameter_constraints=["x1 * x2 <= 1"]), ["x1 * x2"]),
    ("outcome constraint without a bound", lambda s: s.update(outcome_constraints=["cost"]), ["cost"]),
    ("unknown method", lambda s: s["generation"].update(method="magic"), ["method", "magic"]),
    ("budget of zero", lambda s: s["generation"].update(initialization_budget=-1), ["initialization_budget", "-1"]),
    ("seed that is text", lambda s: s["generation"].update(random_seed="now"), ["random_seed", "now"]),
]


@pytest.mark.parametrize(("change", "named"), [c[1:] for c in SPECS], ids=[c[0] for c in SPECS])
def test_a_literal_experiment_is_refused_at_dag_parse(
    change: Callable[[dict[str, Any]], Any], named: list[str]
) -> None:
    with pytest.raises(InvalidInputError) as caught:
        AxCreateExperimentOperator(task_id="create", experiment=spec(change))
    assert [text for text in named if text not in str(caught.value)] == []
    assert caught.value.fix


@pytest.mark.parametrize(("change", "named"), [c[1:] for c in SPECS], ids=[c[0] for c in SPECS])
def test_a_templated_experiment_is_refused_at_task_start(
    change: Callable[[dict[str, Any]], Any], named: list[str]
) -> None:
    operator = AxCreateExperimentOperator(task_id="create", experiment="{{ params.experiment | tojson }}")
    operator.experiment = json.dumps(spec(change))
    with pytest.raises(AirflowFailException) as caught:
        execute(operator)
    shown = str(caught.value).replace("Infinity", "inf")
    assert [text for text in named if text not in shown] == []
    assert "Fix:" in shown
    assert AxHook().store.summaries() == []


LITERALS: list[tuple[str, Callable[[], Any], list[str]]] = [
    ("rounds", lambda: ax_trial_loop("t", BOOTH, "utils.booth", rounds=0), ["rounds", "0"]),
    ("rounds as text", lambda: ax_trial_loop("t", BOOTH, "utils.booth", rounds="many"), ["rounds", "many"]),
    (
        "templated rounds without max_rounds",
        lambda: ax_trial_loop("t", BOOTH, "utils.booth", "{{ x }}"),
        ["max_rounds"],
    ),
    (
        "trials_per_round",
        lambda: ax_trial_loop("t", BOOTH, "utils.booth", 1, trials_per_round=-2),
        ["trials_per_round", "-2"],
    ),
    ("if_exists", lambda: AxCreateExperimentOperator(task_id="c", experiment=BOOTH, if_exists="replace"), ["replace"]),
    ("n", lambda: AxGenerateTrialsOperator(task_id="g", experiment_name="e", n=0), ["n", "0"]),
    ("max_trials", lambda: AxGenerateTrialsOperator(task_id="g", experiment_name="e", max_trials=0), ["max_trials"]),
    ("fail_on", lambda: TorchXTrialSensor(task_id="w", run=TRIAL, fail_on=("BROKEN",)), ["fail_on", "BROKEN"]),
    ("fail_on as text", lambda: TorchXTrialSensor(task_id="w", run=TRIAL, fail_on="FAILED"), ["fail_on", "FAILED"]),
    ("on_timeout", lambda: TorchXTrialSensor(task_id="w", run=TRIAL, on_timeout="ignore"), ["on_timeout", "ignore"]),
    ("poke_interval", lambda: TorchXTrialSensor(task_id="w", run=TRIAL, poke_interval=0), ["poke_interval", "0"]),
    ("timeout", lambda: TorchXTrialSensor(task_id="w", run=TRIAL, timeout=-1), ["timeout", "-1"]),
    (
        "component_args",
        lambda: TorchXSubmitTrialOperator(task_id="s", trial=TRIAL, component="c", component_args=[1]),
        ["component_args", "[1]"],
    ),
    (
        "scheduler_args",
        lambda: TorchXRunTrialOperator(task_id="s", trial=TRIAL, component="c", scheduler_args="{'a': 1}"),
        ["scheduler_args", "JSON"],
    ),
    (
        "use_model_predictions",
        lambda: AxBestTrialOperator(task_id="b", experiment_name="e", use_model_predictions="yes"),  # type: ignore[arg-type]
        ["use_model_predictions", "yes"],
    ),
]


@pytest.mark.parametrize(("make", "named"), [c[1:] for c in LITERALS], ids=[c[0] for c in LITERALS])
def test_a_literal_argument_is_refused_at_dag_parse(make: Callable[[], Any], named: list[str]) -> None:
    with pytest.raises(InvalidInputError) as caught:
        make()
    assert [text for text in named if text not in str(caught.value)] == []


def submit(**arguments: Any) -> TorchXSubmitTrialOperator:
    return TorchXSubmitTrialOperator(task_id="s", **{"trial": TRIAL, "component": "utils.booth", **arguments})


AT_START: list[tuple[str, Callable[[], Any], list[str]]] = [
    ("trial is text", lambda: submit(trial="{'experiment': 'booth'}"), ["trial", "JSON"]),
    ("trial without parameters", lambda: submit(trial={"experiment": "booth"}), ["parameters", "trial_index"]),
    ("trial of another store", lambda: submit(trial={**TRIAL, "trial_index": 7}), ["7", "booth"]),
    ("unknown experiment", lambda: AxGenerateTrialsOperator(task_id="g", experiment_name="nope"), ["nope"]),
    ("unknown experiment for best", lambda: AxBestTrialOperator(task_id="b", experiment_name="nope"), ["nope"]),
    ("no completed trial", lambda: AxBestTrialOperator(task_id="b", experiment_name="booth"), ["booth", "completed"]),
    ("unknown component", lambda: submit(component="utils.boot"), ["utils.boot"]),
    ("component file missing", lambda: submit(component="/nowhere/components.py:app"), ["/nowhere/components.py"]),
    ("component with too few arguments", lambda: submit(component="utils.echo"), ["x1", "msg"]),
    ("unknown constant", lambda: submit(component_args={"x3": 1}), ["x3"]),
    ("constant of a wrong type", lambda: submit(component_args={"image": 3}), ["image", "3"]),
    ("constant that is a parameter", lambda: submit(component_args={"x1": 3.0}), ["x1"]),
    ("constant that is passed anyway", lambda: submit(component_args={"trial_idx": 3}), ["trial_idx"]),
    ("unknown scheduler", lambda: submit(scheduler="slrum"), ["slrum", "slurm"]),
    ("refused scheduler", lambda: submit(scheduler="local_cwd"), ["local_cwd", "local_detached"]),
    ("unknown scheduler option", lambda: submit(scheduler_args={"partition": "gpu"}), ["partition"]),
    (
        "scheduler option of a wrong type",
        lambda: submit(scheduler_args={"max_parallel": "two"}),
        ["max_parallel", "two"],
    ),
    ("relative tracker base", lambda: submit(tracker_base="tracker"), ["tracker_base", "tracker"]),
    ("run without a handle", lambda: TorchXTrialSensor(task_id="w", run=TRIAL), ["app_handle"]),
    ("outcome without a status", lambda: AxCompleteTrialOperator(task_id="c", run=TRIAL), ["trial_status"]),
    ("unknown ax connection", lambda: submit(ax_conn_id="ax_nowhere"), ["ax_conn_id", "ax_nowhere"]),
    ("unknown torchx connection", lambda: submit(torchx_conn_id="tx_nowhere"), ["torchx_conn_id", "tx_nowhere"]),
]


@pytest.mark.parametrize(("make", "named"), [c[1:] for c in AT_START], ids=[c[0] for c in AT_START])
def test_an_argument_that_only_the_task_knows_is_refused_at_its_start(
    make: Callable[[], Any], named: list[str], with_booth: None
) -> None:
    operator = make()
    with pytest.raises(AirflowFailException) as caught:
        execute(operator)
    assert [text for text in named if text not in str(caught.value)] == []
    assert "Fix:" in str(caught.value)
    assert_nothing_submitted()


CONNECTIONS: list[tuple[str, dict[str, Any], list[str]]] = [
    ("unknown extra", {"conn_type": "torchx", "extra": {"schedular": "slurm"}}, ["schedular", "scheduler"]),
    ("another type", {"conn_type": "http", "host": "h"}, ["http", "torchx"]),
    ("unknown scheduler", {"conn_type": "torchx", "extra": {"scheduler": "slrum"}}, ["slrum"]),
    ("options are a list", {"conn_type": "torchx", "extra": {"scheduler_args": [1]}}, ["scheduler_args", "list"]),
    ("options are no JSON", {"conn_type": "torchx", "extra": {"scheduler_args": "a=1"}}, ["scheduler_args", "JSON"]),
    ("tracker base is a number", {"conn_type": "torchx", "extra": {"tracker_base": 3}}, ["tracker_base", "3"]),
    ("allowed is a number", {"conn_type": "torchx", "extra": {"allowed_components": 3}}, ["allowed_components", "3"]),
    (
        "component not allowed",
        {"conn_type": "torchx", "extra": {"allowed_components": ["my_pkg.components:*"]}},
        ["utils.booth", "my_pkg.components:*"],
    ),
]


@pytest.mark.parametrize(("connection", "named"), [c[1:] for c in CONNECTIONS], ids=[c[0] for c in CONNECTIONS])
def test_a_torchx_connection_that_cannot_be_used_is_refused(
    connection: dict[str, Any], named: list[str], with_booth: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_TORCHX_DEFAULT", json.dumps(connection))
    with pytest.raises(AirflowFailException) as caught:
        execute(submit())
    assert [text for text in named if text not in str(caught.value)] == []
    assert_nothing_submitted()


STORES: list[tuple[str, dict[str, Any], list[str]]] = [
    ("no database", {"conn_type": "ax"}, ["schema"]),
    ("no host", {"conn_type": "ax", "schema": "d", "extra": {"drivername": "postgresql+psycopg"}}, ["host"]),
    ("unknown driver", {"conn_type": "ax", "schema": "d", "extra": {"drivername": "oracle"}}, ["drivername", "oracle"]),
    ("another type", {"conn_type": "ftp", "host": "h", "schema": "d"}, ["ftp"]),
    ("no such folder", {"conn_type": "ax", "schema": "/nowhere/at/all/x.db"}, ["/nowhere/at/all"]),
]


@pytest.mark.parametrize(("connection", "named"), [c[1:] for c in STORES], ids=[c[0] for c in STORES])
def test_an_ax_connection_that_cannot_be_used_is_refused(
    connection: dict[str, Any], named: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_AX_DEFAULT", json.dumps(connection))
    with pytest.raises(Exception, match="Fix:") as caught:
        execute(AxGenerateTrialsOperator(task_id="g", experiment_name="booth"))
    assert [text for text in named if text not in str(caught.value)] == []


def execute(operator: Any) -> Any:
    return operator.execute({"ti": FakeTaskInstance(operator.task_id)})


@pytest.fixture
def with_booth(airflow_home: Path) -> None:
    """The booth experiment with one trial, without importing Ax."""
    from airflow_provider_axtx.core.records import Proposal, ProposedTrial

    store = AxHook().store
    store.create("booth", BOOTH)
    proposal = Proposal((ProposedTrial("0_0", {"x1": 1.0, "x2": 2.0}, "Sobol", {}),), {})
    store.add_trials("booth", proposal, task_key="dag/run/generate/-1", first_slot=0, expected_version=0)


def assert_nothing_submitted() -> None:
    root = default_root()
    assert not root.exists() or [path for path in root.iterdir() if path.is_dir()] == []
    assert AxHook().store.attempts("booth") == []
    assert [trial.status for trial in AxHook().store.trials("booth")] == ["CANDIDATE"]
