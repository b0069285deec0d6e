"""What the end of a task means for its app: it is ended only when no try of the task goes on with it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowTaskTimeout, TaskDeferred

from airflow_provider_axtx.core.errors import SchedulerUnavailableError
from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher
from airflow_provider_axtx.operators import _ending
from airflow_provider_axtx.operators.ax import AxCreateExperimentOperator, AxGenerateTrialOperator
from airflow_provider_axtx.operators.torchx import (
    TorchXReapTrialsOperator,
    TorchXRunTrialOperator,
    TorchXSubmitTrialOperator,
)
from airflow_provider_axtx.sensors.torchx import TorchXTrialSensor
from airflow_provider_axtx.store.experiments import ExperimentStore
from airflow_provider_axtx.triggers import task_state
from tests.operators.conftest import BOOTH, AirflowStates, Execute, app_state, wait_until

SLEEP = "import time; time.sleep(600)"
REPORT = (
    "import sys, json, pathlib; a = dict(v.split('=', 1) for v in sys.argv[1:]);"
    "p = pathlib.Path(a['tracker_base']); p.mkdir(parents=True, exist_ok=True);"
    "(p / a['trial_idx']).write_text('{\"booth_eval\": 1}')"
)
FOR_GOOD = ["failed", "success", "skipped", "removed", "upstream_failed", "missing"]
GOES_ON = [
    *(None, "scheduled", "queued", "restarting", "deferred", "up_for_retry", "up_for_reschedule"),
    "running",
]
Components = Callable[..., str]


@pytest.fixture
def trial(execute: Execute) -> dict[str, Any]:
    execute(AxCreateExperimentOperator(task_id="create", experiment=BOOTH))
    return execute(AxGenerateTrialOperator(task_id="generate", experiment_name="booth"))


@pytest.fixture
def run(execute: Execute, trial: dict[str, Any], components: Components) -> Any:
    """A submitted app that would run for ten minutes."""
    yield execute(TorchXSubmitTrialOperator(task_id="submit", trial=trial, component=components(SLEEP)), max_tries=2)
    execute(TorchXReapTrialsOperator(task_id="reap"))


class Task:
    """A task in a thread, as a process that Airflow may kill."""

    def __init__(self, execute: Execute, operator: Any, **identity: Any) -> None:
        self.operator = operator
        self.result: Any = None
        self.error: BaseException | None = None

        def work() -> None:
            try:
                self.result = execute(operator, **identity)
            except BaseException as error:  # noqa: BLE001 - the test looks at it
                self.error = error

        self._thread = threading.Thread(target=work)
        self._thread.start()

    def waits(self) -> None:
        """Wait until it waits for its app."""
        wait_until(lambda: self.operator._live_attempt is not None)

    def ended(self) -> Any:
        """Return its error, or its result."""
        self._thread.join(30)
        assert not self._thread.is_alive()
        return self.error or self.result


def sensor(run: dict[str, Any], **arguments: Any) -> TorchXTrialSensor:
    return TorchXTrialSensor(task_id="wait", run=run, poke_interval=0.05, **arguments)


@pytest.mark.parametrize("state", GOES_ON)
def test_a_killed_wait_leaves_the_app_to_the_next_try(
    execute: Execute, run: dict[str, Any], store: ExperimentStore, airflow: AirflowStates, state: str | None
) -> None:
    airflow.state = state
    first = Task(execute, sensor(run), max_tries=1)
    first.waits()
    first.operator.on_kill()
    assert "its next try goes on with its app" in str(first.ended())
    assert app_state(run["app_handle"]) in ("PENDING", "RUNNING")
    assert (store.trial("booth", 0).status, store.attempt("booth", 0, 1).cancel_reason) == ("RUNNING", None)


@pytest.mark.parametrize("state", FOR_GOOD)
def test_a_task_that_is_over_for_good_ends_its_app_and_settles_its_trial(
    execute: Execute, run: dict[str, Any], store: ExperimentStore, airflow: AirflowStates, state: str
) -> None:
    airflow.state = state
    first = Task(execute, sensor(run), max_tries=1)
    first.waits()
    first.operator.on_kill()
    assert "its app was ended with it" in str(first.ended())
    wait_until(lambda: app_state(run["app_handle"]) == "CANCELLED")
    trial = store.trial("booth", 0)
    assert (trial.status, (trial.reason or "").startswith("task killed: wait was ended")) == ("ABANDONED", True)


def test_the_last_try_is_over_when_its_worker_is_stopped(
    execute: Execute, run: dict[str, Any], store: ExperimentStore, airflow: AirflowStates
) -> None:
    last = Task(execute, sensor(run), try_number=2, max_tries=1)
    last.waits()
    last.operator.on_kill()
    assert isinstance(last.ended(), AirflowException)
    assert store.trial("booth", 0).status == "ABANDONED"


@pytest.mark.parametrize(("try_number", "status"), [(1, "RUNNING"), (2, "ABANDONED")])
def test_when_airflow_cannot_be_asked_only_the_last_try_is_over(
    execute: Execute,
    run: dict[str, Any],
    store: ExperimentStore,
    airflow: AirflowStates,
    try_number: int,
    status: str,
) -> None:
    airflow.error = ConnectionError("the API server is away")
    task = Task(execute, sensor(run), try_number=try_number, max_tries=1)
    task.waits()
    task.operator.on_kill()
    task.ended()
    assert store.trial("booth", 0).status == status


def test_a_signal_handler_does_not_wait_for_a_channel_that_the_interrupted_code_holds(
    execute: Execute,
    run: dict[str, Any],
    store: ExperimentStore,
    airflow: AirflowStates,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_ending, "_HANDLER_SECONDS", 0.1)
    monkeypatch.setattr(task_state, "ASK_SECONDS", 20.0)
    airflow.state = "failed"
    task = Task(execute, sensor(run), max_tries=1)
    task.waits()
    airflow.answers.clear()
    began = time.monotonic()
    task.operator.on_kill()
    assert time.monotonic() - began < 5
    assert store.trial("booth", 0).status == "RUNNING"
    airflow.answers.set()
    task.ended()
    assert store.trial("booth", 0).status == "ABANDONED"


def test_airflow_that_does_not_answer_in_time_counts_as_not_to_be_asked(
    airflow: AirflowStates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task_state, "ASK_SECONDS", 0.1)
    airflow.answers.clear()
    identity = task_state.TaskIdentity("dag", "run", "wait", try_number=3, max_tries=2)
    assert task_state.is_over(identity, when_running=False)
    airflow.answers.set()


def test_an_app_that_had_succeeded_before_the_kill_is_completed(
    execute: Execute, trial: dict[str, Any], components: Components, store: ExperimentStore, airflow: AirflowStates
) -> None:
    airflow.state = "failed"
    submit = TorchXSubmitTrialOperator(task_id="submit", trial=trial, component=components(REPORT))
    run = execute(submit)
    wait_until(lambda: app_state(run["app_handle"]) == "SUCCEEDED")
    submit.on_kill()
    assert store.trial("booth", 0).status == "COMPLETED"


def test_a_killed_submit_task_whose_retry_follows_submits_nothing_twice(
    execute: Execute, trial: dict[str, Any], components: Components, store: ExperimentStore, airflow: AirflowStates
) -> None:
    component = components(SLEEP)
    first = TorchXSubmitTrialOperator(task_id="submit", trial=trial, component=component)
    run = execute(first, max_tries=1)
    first.on_kill()
    again = execute(
        TorchXSubmitTrialOperator(task_id="submit", trial=trial, component=component), try_number=2, max_tries=1
    )
    assert again == run
    execute(TorchXReapTrialsOperator(task_id="reap"))


def test_a_task_that_was_over_runs_anew_after_a_clear(
    execute: Execute, trial: dict[str, Any], components: Components, store: ExperimentStore, airflow: AirflowStates
) -> None:
    component = components(SLEEP)
    airflow.state = "failed"
    first = TorchXSubmitTrialOperator(task_id="submit", trial=trial, component=component)
    run = execute(first)
    first.on_kill()
    # The handler of the signal returns after some seconds; a slow machine ends the app later.
    wait_until(lambda: store.trial("booth", 0).status == "ABANDONED")
    assert app_state(run["app_handle"]) == "CANCELLED"
    again = TorchXSubmitTrialOperator(task_id="submit", trial=trial, component=component)
    assert execute(again, try_number=2, max_tries=1)["attempt"] == 2
    execute(TorchXReapTrialsOperator(task_id="reap"))


def test_a_stranger_that_comes_back_ends_nothing_of_the_newer_try(
    execute: Execute, trial: dict[str, Any], components: Components, store: ExperimentStore, airflow: AirflowStates
) -> None:
    component = components(SLEEP)

    def operator() -> TorchXRunTrialOperator:
        return TorchXRunTrialOperator(task_id="run", trial=trial, component=component, poke_interval=0.05)

    stopped = Task(execute, operator())
    stopped.waits()
    # Taken for dead and cleared: its successor goes on with the app. A Clear of a submitting task submits anew.
    successor = Task(execute, operator(), try_number=2, max_tries=1)
    wait_until(lambda: len(store.attempts("booth")) == 2 and store.attempt("booth", 0, 2).app_handle)
    handle = store.attempt("booth", 0, 2).app_handle
    stopped.operator.on_kill()
    stopped.ended()
    assert app_state(str(handle)) in ("PENDING", "RUNNING")
    assert store.attempt("booth", 0, 2).cancel_reason is None
    airflow.state = "failed"
    successor.operator.on_kill()
    successor.ended()
    assert store.trial("booth", 0).status == "ABANDONED"


def test_a_sensor_that_comes_back_after_a_clear_leaves_the_app_to_the_newer_try(
    execute: Execute,
    run: dict[str, Any],
    store: ExperimentStore,
    airflow: AirflowStates,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It was stopped for so long that Airflow took it for dead, in its last try, and a user has cleared the task."""
    monkeypatch.setattr(task_state, "is_current_try", lambda ti_id: ti_id == UUID(int=2))
    airflow.state = "running"
    stopped = Task(execute, sensor(run), id=UUID(int=1), try_number=1, max_tries=0)
    stopped.waits()
    stopped.operator.on_kill()
    assert "its next try goes on with its app" in str(stopped.ended())
    broken = sensor(run)
    monkeypatch.setattr(broken, "poll", lambda attempt: (_ for _ in ()).throw(Unexpected("refused by Airflow")))
    with pytest.raises(Unexpected):
        execute(broken, id=UUID(int=1), try_number=1, max_tries=0)
    assert (store.trial("booth", 0).status, store.attempt("booth", 0, 1).cancel_reason) == ("RUNNING", None)
    cleared = Task(execute, sensor(run), id=UUID(int=2), try_number=2, max_tries=1)
    cleared.waits()
    cleared.operator.on_kill()
    cleared.ended()
    assert store.trial("booth", 0).status == "ABANDONED"


class Unexpected(RuntimeError):
    pass


@pytest.mark.parametrize(("max_tries", "status"), [(0, "ABANDONED"), (1, "RUNNING")])
def test_any_error_that_ends_the_task_for_good_ends_its_app(
    execute: Execute,
    run: dict[str, Any],
    store: ExperimentStore,
    monkeypatch: pytest.MonkeyPatch,
    max_tries: int,
    status: str,
) -> None:
    waiting = sensor(run)
    monkeypatch.setattr(waiting, "poll", lambda attempt: (_ for _ in ()).throw(Unexpected("a bug")))
    with pytest.raises(Unexpected, match="a bug"):
        execute(waiting, max_tries=max_tries)
    assert store.trial("booth", 0).status == status
    if status == "ABANDONED":
        assert "Unexpected" in (store.trial("booth", 0).reason or "")


def test_an_error_while_the_app_is_cancelled_hides_no_other(
    execute: Execute, run: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> None:
        raise SchedulerUnavailableError("The scheduler is away.", fix="start it")

    waiting = sensor(run)
    monkeypatch.setattr(waiting, "poll", lambda attempt: (_ for _ in ()).throw(Unexpected("a bug")))
    with monkeypatch.context() as broken, pytest.raises(Unexpected, match="a bug"):
        broken.setattr(TorchXLauncher, "cancel", away)
        execute(waiting)


def test_an_error_before_the_app_is_found_again_ends_the_app_of_the_try_before(
    execute: Execute, trial: dict[str, Any], components: Components, store: ExperimentStore
) -> None:
    arguments: dict[str, Any] = {"task_id": "submit", "trial": trial, "component": components(SLEEP)}
    run = execute(TorchXSubmitTrialOperator(**arguments), max_tries=1)
    with pytest.raises(AirflowFailException, match="no_such_scheduler"):
        execute(TorchXSubmitTrialOperator(**arguments, scheduler="no_such_scheduler"), try_number=2, max_tries=1)
    assert (store.trial("booth", 0).status, app_state(run["app_handle"])) == ("ABANDONED", "CANCELLED")


@pytest.mark.parametrize(("max_tries", "status"), [(0, "ABANDONED"), (1, "RUNNING")])
def test_an_execution_timeout_that_passes_while_the_task_is_deferred(
    execute: Execute,
    resume: Execute,
    run: dict[str, Any],
    store: ExperimentStore,
    airflow: AirflowStates,
    max_tries: int,
    status: str,
) -> None:
    start = datetime.now(UTC) - timedelta(seconds=50)
    waiting = sensor(run, deferrable=True, execution_timeout=timedelta(minutes=1))
    with pytest.raises(TaskDeferred) as deferred:
        execute(waiting, start_date=start, max_tries=max_tries)
    _, arguments = deferred.value.trigger.serialize()
    assert arguments["execution_deadline"] == pytest.approx(start.timestamp() + 60)
    event = {"run": arguments["run"], "status": "execution_timeout"}
    with pytest.raises(AirflowTaskTimeout, match="execution_timeout"):
        resume(sensor(run, deferrable=True), event, max_tries=max_tries)
    assert store.trial("booth", 0).status == status


def test_an_execution_timeout_of_a_running_task_waits_for_the_end_of_the_app(
    execute: Execute, run: dict[str, Any], store: ExperimentStore, airflow: AirflowStates
) -> None:
    waiting = Task(execute, sensor(run))
    waiting.waits()
    try:
        raise AirflowTaskTimeout("Timeout")
    except AirflowTaskTimeout:
        waiting.operator.on_kill()  # as the task runner does
    assert store.trial("booth", 0).status == "ABANDONED"
    waiting.ended()
