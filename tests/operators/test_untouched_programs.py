"""Programs that import nothing of ours and only print: run by shipped components, their metrics read by ``metrics``."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.operators.ax import (
    AxCompleteTrialOperator,
    AxCreateExperimentOperator,
    AxGenerateTrialOperator,
    AxOptimizeOperator,
)
from airflow_provider_axtx.operators.torchx import TorchXRunTrialOperator, TorchXSubmitTrialOperator
from airflow_provider_axtx.sensors.torchx import TorchXTrialSensor
from airflow_provider_axtx.store.experiments import ExperimentStore
from airflow_provider_axtx.task_groups import ax_trial_loop
from airflow_provider_axtx.triggers.optimize import AxOptimizeTrigger
from airflow_provider_axtx.triggers.trial import TorchXTrialTrigger
from tests.operators.conftest import BOOTH, Execute, app_state

SPEC = {**BOOTH, "objective": "-loss", "tracking_metrics": ["seconds"]}
EARLY = {
    **SPEC,
    "early_stopping": {"type": "threshold", "metric_threshold": 1.0, "min_progression": 2, "min_curves": 0},
}
METRICS = {"loss": {"regex": r"(?:epoch (?P<step>\d+) )?loss=(?P<value>\S+)"}}
ARGUMENTS = "a = dict(v[2:].split('=', 1) for v in sys.argv[1:])\n"
TRAIN = f"import sys\n{ARGUMENTS}" + (
    "for epoch in range(3): print('epoch %d loss=%r' % (epoch, abs(float(a['x1'])) + epoch), file=sys.stderr)\n"
    "print('done')\n"
)
#: Prints a plateau, and would go on for minutes.
PLATEAU = (
    "import time\n"
    "for epoch in range(6000):\n"
    "    print('\\repoch %d loss=50.0' % epoch, end='', flush=True); time.sleep(0.2)\n"
)


def after(gate: Path) -> str:
    """Return the program that prints a plateau as soon as a file is there."""
    return f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.05)\n{PLATEAU}"


@pytest.fixture
def trial(execute: Execute) -> dict[str, Any]:
    return new_trial(execute, SPEC)


def new_trial(execute: Execute, spec: dict[str, Any]) -> dict[str, Any]:
    execute(AxCreateExperimentOperator(task_id="create", experiment=spec))
    found: dict[str, Any] = execute(AxGenerateTrialOperator(task_id="generate", experiment_name="booth"))
    return found


def command(code: str, **more: Any) -> dict[str, Any]:
    return {
        "component": "axtx.command",
        "component_args": {"command": [sys.executable, "-c", code, "{flags}"], **more},
    }


def run(execute: Execute, trial: dict[str, Any], code: str, **given: Any) -> dict[str, Any]:
    """Run a trial to its end and complete it, in one task."""
    args = {"metrics": METRICS, **command(code), **given}
    task = TorchXRunTrialOperator(task_id="run", trial=trial, poke_interval=0.05, complete=True, **args)
    outcome: dict[str, Any] = execute(task)
    return outcome


def test_what_a_program_prints_is_its_result_and_its_curve(
    execute: Execute, trial: dict[str, Any], store: ExperimentStore
) -> None:
    loss = abs(trial["parameters"]["x1"])
    outcome = run(execute, trial, TRAIN)
    assert (outcome["trial_status"], outcome["metrics"]) == (
        "COMPLETED",
        {"loss": {"mean": pytest.approx(loss + 2), "sem": None}},
    )
    steps = {o.step: o.mean for o in store.observations("booth", 0)}
    assert steps == {step: pytest.approx(loss + (2 if step is None else step)) for step in (0, 1, 2, None)}


def test_another_task_completes_the_trial(execute: Execute, trial: dict[str, Any]) -> None:
    submit = TorchXSubmitTrialOperator(task_id="submit", trial=trial, metrics=METRICS, **command(TRAIN))
    waited = execute(TorchXTrialSensor(task_id="wait", run=execute(submit), poke_interval=0.05))
    completed = execute(AxCompleteTrialOperator(task_id="complete", run=waited))
    assert completed["trial_status"] == "COMPLETED"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("print('nothing')", "metric 'loss': no line of the output (1 lines) matches"),
        ("print('loss=nan')", "is not a finite number"),
        ("print('loss=high')", "'high', which is not a number"),
    ],
)
def test_no_usable_metric_fails_the_trial_with_the_reason(
    execute: Execute, trial: dict[str, Any], code: str, reason: str
) -> None:
    outcome = run(execute, trial, code)
    assert outcome["trial_status"] == "FAILED"
    assert reason in outcome["message"]


def test_a_lost_log_is_no_metric(
    execute: Execute, trial: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AXTX_LOCAL_ROOT", str(tmp_path / "apps"))
    submit = TorchXSubmitTrialOperator(task_id="submit", trial=trial, metrics=METRICS, **command(TRAIN))
    waited = execute(TorchXTrialSensor(task_id="wait", run=execute(submit), poke_interval=0.05))
    key = waited["app_handle"].rpartition("/")[2]
    for log in (tmp_path / "apps").rglob("*.log"):
        assert key in str(log)
        log.unlink()
    completed = execute(AxCompleteTrialOperator(task_id="complete", run=waited))
    assert completed["trial_status"] == "FAILED"
    assert "The output of the app is lost" in completed["message"]


def test_a_lost_app_is_no_metric(
    execute: Execute, trial: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AXTX_LOCAL_ROOT", str(tmp_path / "apps"))
    submit = TorchXSubmitTrialOperator(task_id="submit", trial=trial, metrics=METRICS, **command(TRAIN))
    waited = execute(TorchXTrialSensor(task_id="wait", run=execute(submit), poke_interval=0.05))
    for folder in (tmp_path / "apps").rglob(waited["app_handle"].rpartition("/")[2]):
        shutil.rmtree(folder)
    completed = execute(AxCompleteTrialOperator(task_id="complete", run=waited))
    assert completed["trial_status"] == "FAILED"
    assert "The output of the app is lost" in completed["message"]


def test_the_tracker_counts_first(execute: Execute, trial: dict[str, Any], store: ExperimentStore) -> None:
    code = (
        "import sys, json, pathlib\n"
        f"{ARGUMENTS}p = pathlib.Path(sys.argv[1]); p.mkdir(parents=True)\n"
        "(p / '0').write_text(json.dumps({'loss/mean': 0.25, 'loss/sem': 0.5}))\n"
        "(p / 'out.json').write_text(json.dumps({'s': 9}))\n"
        "print('epoch 1 loss=7')\n"
    )
    args = command(code)
    args["component_args"]["command"][3] = "{tracker_base}"
    args["component_args"]["command"].append("{flags}")
    args["component_args"]["command"][2] = code.replace("sys.argv[1:]", "sys.argv[2:]")
    outcome = run(execute, trial, code, **{**args, "metrics": {**METRICS, "seconds": {"json": "out.json", "key": "s"}}})
    assert outcome["metrics"] == {"loss": {"mean": 0.25, "sem": 0.5}, "seconds": {"mean": 9.0, "sem": None}}
    losses = {o.step: o.mean for o in store.observations("booth", 0) if o.metric == "loss"}
    assert losses == {1.0: 7.0, None: 0.25}


def test_a_file_in_the_working_folder_is_read(execute: Execute, trial: dict[str, Any]) -> None:
    code = 'open(\'r.jsonl\', \'w\').write(\'{"step": 1, "val": {"loss": 3}}\\n{"step": 2, "val": {"loss": 4}}\')'
    args = command(code, cwd="{tracker_base}")
    metrics = {"loss": {"json": "r.jsonl", "key": "val.loss", "step": "step", "take": "min"}}
    outcome = run(execute, trial, code, **{**args, "metrics": metrics})
    assert outcome["metrics"] == {"loss": {"mean": 3.0, "sem": None}}


def test_metrics_that_differ_from_the_recorded_are_refused(execute: Execute, trial: dict[str, Any]) -> None:
    run(execute, trial, TRAIN)
    second = execute(AxGenerateTrialOperator(task_id="second", experiment_name="booth"))
    other = {"loss": {"regex": "loss=(.*)"}}
    with pytest.raises(AirflowFailException, match=r"metrics\.loss\.regex: recorded"):
        run(execute, second, TRAIN, metrics=other)
    assert run(execute, second, TRAIN, metrics=other, allow_app_change=True)["trial_status"] == "COMPLETED"


# -- early stopping of a program that only prints


def check_stopped(outcome: dict[str, Any], store: ExperimentStore) -> None:
    assert (outcome["trial_status"], outcome["app_state"]) == ("EARLY_STOPPED", "CANCELLED")
    assert "worse than the metric threshold" in outcome["message"]
    assert app_state(outcome["app_handle"]) in ("CANCELLED", "FAILED")
    assert [o.mean for o in store.observations("booth", 0)] == [50.0] * len(store.observations("booth", 0))
    assert len(store.observations("booth", 0)) >= 3


def test_a_program_that_prints_is_stopped_early(execute: Execute, store: ExperimentStore) -> None:
    check_stopped(run(execute, new_trial(execute, EARLY), PLATEAU), store)


async def test_the_triggerer_counts_what_a_program_prints(
    execute: Execute, resume: Execute, store: ExperimentStore, tmp_path: Path
) -> None:
    submit = TorchXSubmitTrialOperator(
        task_id="submit", trial=new_trial(execute, EARLY), metrics=METRICS, **command(after(tmp_path / "gate"))
    )
    sensor = TorchXTrialSensor(
        task_id="wait", run=execute(submit), deferrable=True, poke_interval=60, early_stopping_interval=0.05
    )
    with pytest.raises(TaskDeferred) as first:
        execute(sensor)
    (tmp_path / "gate").touch()
    waiting, outcome, events = first.value, None, []
    while outcome is None:
        _, arguments = waiting.trigger.serialize()
        arguments = json.loads(json.dumps(arguments))
        assert arguments["curve_source"]["metrics"] == METRICS
        events += [event.payload async for event in TorchXTrialTrigger(**arguments).run()]
        try:
            outcome = resume(sensor, events[-1])
        except TaskDeferred as deferred:
            waiting = deferred
    assert events[0]["status"] == "progress"
    check_stopped(outcome, store)


@pytest.mark.thorough
async def test_a_deferred_optimization_reads_what_its_programs_print(
    execute: Execute, resume: Execute, store: ExperimentStore, tmp_path: Path
) -> None:
    task = AxOptimizeOperator(
        task_id="optimize",
        experiment=EARLY,
        max_trials=1,
        poll_interval=10,
        early_stopping_interval=0.05,
        deferrable=True,
        metrics=METRICS,
        **command(after(tmp_path / "gate")),
    )
    with pytest.raises(TaskDeferred) as first:
        execute(task)
    (tmp_path / "gate").touch()
    waiting, result, events = first.value, None, []
    while result is None:
        _, arguments = waiting.trigger.serialize()
        events += [event.payload async for event in AxOptimizeTrigger(**json.loads(json.dumps(arguments))).run()]
        await asyncio.sleep(0)
        try:
            result = resume(task, events[-1])
        except TaskDeferred as deferred:
            waiting = deferred
    assert events[0]["status"] == "due"
    assert result["trials"] == {"EARLY_STOPPED": 1}


def test_an_ordinary_script_is_tuned_in_one_task(
    execute: Execute, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "train.py").write_text(TRAIN)
    monkeypatch.syspath_prepend(str(tmp_path))
    task = AxOptimizeOperator(
        task_id="optimize",
        experiment=SPEC,
        component="axtx.script",
        component_args={"script": "train.py"},
        metrics=METRICS,
        max_trials=3,
        parallelism=3,
        poll_interval=0.05,
    )
    result = execute(task)
    assert result["trials"] == {"COMPLETED": 3}
    assert result["best"]["metrics"]["loss"]["mean"] == pytest.approx(abs(result["best"]["parameters"]["x1"]) + 2)


# -- at DAG parse


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"metrics": {"loss": {"json": "r.json"}}, "tracker_base_shared": True}, "tracker_base_shared"),
        ({"metrics": {"loss": {"regex": "loss=.*"}}}, "put the number in parentheses"),
        ({"component_args": {"command": ["train", "{rate}"]}}, "{rate} in command is not a parameter"),
    ],
)
def test_a_mistake_shows_when_the_dag_is_parsed(given: dict[str, Any], said: str) -> None:
    arguments = {"component": "axtx.command", "component_args": {"command": ["train"]}, "metrics": METRICS, **given}
    with pytest.raises(InvalidInputError) as optimizing:
        AxOptimizeOperator(task_id="optimize", experiment=SPEC, max_trials=1, **arguments)
    assert said in str(optimizing.value)
    with DAG("tuning", schedule=None), pytest.raises(InvalidInputError) as looping:
        ax_trial_loop("tune", experiment=SPEC, rounds=1, **arguments)
    assert said in str(looping.value)
