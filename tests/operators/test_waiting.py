"""How a task waits: what it says when the time is up, how long it asks again, and what it takes from where."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowRescheduleException, TaskDeferred

from airflow_provider_axtx.core import patience
from airflow_provider_axtx.core.errors import AppElsewhereError, InvalidInputError
from airflow_provider_axtx.hooks.torchx import TorchXHook
from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher
from airflow_provider_axtx.operators.ax import AxCreateExperimentOperator, AxGenerateTrialOperator
from airflow_provider_axtx.operators.torchx import TorchXRunTrialOperator, TorchXSubmitTrialOperator
from airflow_provider_axtx.sensors.torchx import TorchXTrialSensor
from airflow_provider_axtx.store.experiments import ExperimentStore
from airflow_provider_axtx.triggers import timing
from tests.fakes.scheduler import FakeCluster
from tests.operators.conftest import BOOTH, Execute


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    """A fake scheduler with a required option, which every launcher of this process finds as ``fake``."""
    cluster = FakeCluster(tmp_path / "cluster", required=("queue",))
    original = TorchXLauncher.__init__

    def init(self: TorchXLauncher, scheduler: str, **arguments: Any) -> None:
        original(self, scheduler, **{**arguments, "scheduler_factories": {"fake": cluster.factory}})

    monkeypatch.setattr(TorchXLauncher, "__init__", init)
    return cluster


@pytest.fixture
def trial(execute: Execute) -> dict[str, Any]:
    execute(AxCreateExperimentOperator(task_id="create", experiment=BOOTH))
    return execute(AxGenerateTrialOperator(task_id="generate", experiment_name="booth"))


APP: dict[str, Any] = {"scheduler": "fake", "scheduler_args": {"queue": "night"}, "component": "utils.booth"}


@pytest.fixture
def run(execute: Execute, cluster: FakeCluster, trial: dict[str, Any]) -> dict[str, Any]:
    return execute(TorchXSubmitTrialOperator(task_id="submit", trial=trial, **APP))


def wait(run: dict[str, Any], **arguments: Any) -> TorchXTrialSensor:
    return TorchXTrialSensor(task_id="wait", run=run, **{"poke_interval": 0.01, **arguments})


def app_id(run: dict[str, Any]) -> str:
    return str(run["app_handle"]).rsplit("/", 1)[1]


@pytest.mark.parametrize(
    ("state", "said"), [("PENDING", "still PENDING in the queue 0:00:01"), ("RUNNING", "still running 0:00:01")]
)
def test_time_in_the_queue_is_named_as_such(
    execute: Execute, cluster: FakeCluster, run: dict[str, Any], state: str, said: str
) -> None:
    cluster.set_state(app_id(run), state)
    ended = execute(wait(run, timeout=0.6))
    assert (ended["trial_status"], said in ended["message"]) == ("ABANDONED", True)
    assert ended["message"].startswith("timeout: ")


def test_an_app_that_succeeded_before_its_time_out_reached_it_is_no_time_out(
    execute: Execute, resume: Execute, cluster: FakeCluster, run: dict[str, Any], store: ExperimentStore
) -> None:
    cluster.set_state(app_id(run), "SUCCEEDED")
    event = {"run": run, "status": "timeout"}
    assert resume(wait(run, timeout=0.01, deferrable=True, on_timeout="fail"), event)["trial_status"] == "COMPLETED"
    assert cluster.calls("cancel") == 0


def test_a_wait_needs_no_option_of_the_submission(execute: Execute, cluster: FakeCluster, run: dict[str, Any]) -> None:
    with pytest.raises(TaskDeferred) as deferred:
        execute(wait(run, deferrable=True))
    assert deferred.value.trigger.serialize()[1]["lookup_options"] == {"queue": "night"}
    cluster.set_state(app_id(run), "SUCCEEDED")
    assert execute(wait(run))["trial_status"] == "COMPLETED"


def test_a_rescheduled_task_counts_failed_polls_over_its_processes(
    execute: Execute, cluster: FakeCluster, run: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "MAX_FAILURES", 3)
    cluster.fail_next("describe", times=100)
    for _ in range(2):
        with pytest.raises(AirflowRescheduleException):
            execute(wait(run, mode="reschedule"), max_tries=9)
    with pytest.raises(AirflowException, match="fail in describe"):
        execute(wait(run, mode="reschedule"), max_tries=9)
    # The next try begins to count anew, and an answer between failures does so too.
    with pytest.raises(AirflowRescheduleException):
        execute(wait(run, mode="reschedule"), try_number=2, max_tries=9)
    cluster.fail_next("describe", times=0)
    with pytest.raises(AirflowRescheduleException):
        execute(wait(run, mode="reschedule"), try_number=2, max_tries=9)
    cluster.fail_next("describe", times=2)
    for _ in range(2):
        with pytest.raises(AirflowRescheduleException):
            execute(wait(run, mode="reschedule"), try_number=2, max_tries=9)


def test_pauses_grow_while_the_scheduler_does_not_answer(
    execute: Execute, cluster: FakeCluster, run: dict[str, Any]
) -> None:
    cluster.fail_next("describe", times=3)
    pauses = []
    for _ in range(4):
        with pytest.raises(AirflowRescheduleException) as again:
            execute(wait(run, mode="reschedule", poke_interval=100), max_tries=9)
        pauses.append((again.value.reschedule_date - datetime.now(UTC)).total_seconds())
    assert pauses == pytest.approx([200, 300, 300, 100], abs=5)


def test_an_app_of_another_host_is_an_error_that_names_it_and_no_verdict(
    execute: Execute,
    resume: Execute,
    cluster: FakeCluster,
    run: dict[str, Any],
    store: ExperimentStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def elsewhere(*_: Any) -> None:
        raise AppElsewhereError("The app runs on worker-7.", fix="poll it there")

    with monkeypatch.context() as here, pytest.raises(AirflowException, match="worker-7") as error:
        here.setattr(TorchXLauncher, "observe", elsewhere)
        execute(wait(run), max_tries=1)
    assert not isinstance(error.value, AirflowFailException)
    assert (store.trial("booth", 0).status, store.attempt("booth", 0, 1).poll_failures) == ("RUNNING", 0)
    # Where the triggerer cannot poll it but this worker can, the worker does.
    cluster.set_state(app_id(run), "SUCCEEDED")
    event = {"run": run, "status": "error", "message": "The app runs on worker-7.", "elsewhere": True}
    assert resume(wait(run, deferrable=True), event)["trial_status"] == "COMPLETED"


def test_what_an_app_runs_with_comes_from_the_store_and_not_from_xcom(
    execute: Execute, cluster: FakeCluster, trial: dict[str, Any], store: ExperimentStore
) -> None:
    edited = {**trial, "parameters": {"x1": "x; id > /tmp/owned", "x2": 1.0}, "arm_name": "evil"}
    run = execute(TorchXSubmitTrialOperator(task_id="submit", trial=edited, **APP))
    assert run["parameters"] == store.trial("booth", 0).parameters
    (app,) = cluster.apps().values()
    assert not any("owned" in str(argument) for role in app["roles"] for argument in role["args"])
    cluster.set_state(app_id(run), "SUCCEEDED")
    forged = {**run, "parameters": {}, "app_handle": "fake://torchx/other", "tracker_base": "/etc"}
    ended = execute(wait(forged))
    assert (ended["app_handle"], ended["tracker_base"]) == (run["app_handle"], run["tracker_base"])
    assert ended["parameters"] == run["parameters"]


@pytest.mark.parametrize("given", [60, 60.0, "60", timedelta(minutes=1)])
def test_a_duration_is_a_number_its_text_or_a_timedelta(given: Any) -> None:
    sensor = wait({}, grace_seconds=given, poke_interval=given, timeout=given, early_stopping_interval=given)
    assert {sensor.grace_seconds, sensor.poke_interval, sensor.timeout, sensor.early_stopping_interval} == {60.0}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("grace_seconds", "soon"),
        ("grace_seconds", -1),
        ("grace_polls", 0),
        ("grace_polls", 1.5),
        ("grace_polls", "many"),
        ("deferrable", "perhaps"),
        ("deferrable", 1),
        ("stream_logs", "no"),
        ("poke_interval", None),
        ("timeout", timedelta(0)),
    ],
)
@pytest.mark.parametrize("operator", [TorchXTrialSensor, TorchXRunTrialOperator])
def test_an_argument_that_cannot_be_used_is_refused_where_it_enters(
    operator: Callable[..., Any], name: str, value: Any
) -> None:
    what = {"run": {}} if operator is TorchXTrialSensor else {"trial": {}, "component": "utils.booth"}
    with pytest.raises(InvalidInputError, match=name):
        operator(task_id="wait", **what, **{name: value})


@pytest.mark.parametrize("text", ["false", "False", " FALSE "])
def test_a_flag_given_as_text_is_read(text: str) -> None:
    assert wait({}, deferrable=text, stream_logs=text).deferrable is False
    run = TorchXRunTrialOperator(task_id="run", trial={}, component="c", complete=text, deferrable=text)
    assert (run.complete, run.deferrable) == (False, False)


@pytest.mark.parametrize("nothing", [None, "", "None"])
def test_none_and_empty_text_mean_not_given(
    execute: Execute, trial: dict[str, Any], store: ExperimentStore, nothing: str | None
) -> None:
    submit = TorchXSubmitTrialOperator(
        task_id="submit",
        trial=trial,
        component="utils.booth",
        component_args=nothing,
        scheduler=nothing,
        scheduler_args=nothing,
        tracker_base=nothing,
    )
    run = execute(submit)
    assert run["app_handle"].startswith("local_detached://")
    assert run["tracker_base"].startswith(TorchXHook().settings.tracker_root)


def test_a_deferral_fires_not_before_airflow_has_recorded_it(
    execute: Execute, cluster: FakeCluster, run: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL", "5")
    monkeypatch.setattr(timing, "_MARGIN_SECONDS", 2.0)
    with pytest.raises(TaskDeferred) as deferred:
        execute(wait(run, deferrable=True))
    not_before = deferred.value.trigger.serialize()[1]["not_before"]
    assert not_before - time.time() == pytest.approx(7.0, abs=1)
