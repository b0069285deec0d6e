"""One cell of the matrix, played: an app is really submitted, waited for in one way, and ended in one way.

Workers, triggerer and scheduler of Airflow are played by this process: an operator that defers or reschedules is made
anew, as in another process, and its trigger is made from what Airflow stores of it. Wherever a waiting task pauses, the
cell takes its turn: it waits until the app runs, changes the connection and lets happen what ends the wait.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import sqlalchemy as sa
from airflow.sdk.bases import sensor as airflow_sensor
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowRescheduleException, TaskDeferred
from airflow.sdk.execution_time.context import set_current_context

from airflow_provider_axtx.core.records import AttemptRecord, Proposal, ProposedTrial
from airflow_provider_axtx.core.status import is_terminal_app_state
from airflow_provider_axtx.core.steering import Action, NewChange
from airflow_provider_axtx.core.xcom import Trial
from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher
from airflow_provider_axtx.operators import _optimize_deferral, _waiting, optimize
from airflow_provider_axtx.operators.ax import AxCompleteTrialOperator, AxOptimizeOperator
from airflow_provider_axtx.operators.torchx import (
    TorchXReapTrialsOperator,
    TorchXRunTrialOperator,
    TorchXSubmitTrialOperator,
)
from airflow_provider_axtx.sensors.torchx import TorchXTrialSensor
from airflow_provider_axtx.store.experiments import ExperimentStore
from airflow_provider_axtx.store.tables import runs
from tests.contracts.apps import trial_app
from tests.contracts.matrix import (
    CLI_REAP,
    EARLY_STOP,
    EXPECTED,
    FAILURE,
    REAP,
    SUCCESS,
    TASK_KILL,
    TIMEOUT,
    TRIGGER_KILL,
    USER_STOP,
    Place,
)
from tests.contracts.processes import Clock, TaskEndedError, WorkerDiedError
from tests.contracts.rig import Rig
from tests.operators.conftest import AirflowStates, FakeTaskInstance

DAG_ID = "matrix"
HOUR = 3600.0
_POLL_SECONDS = 0.02
_DEADLINE_SECONDS = 50
_CONNECTION = "AIRFLOW_CONN_TORCHX_DEFAULT"


@dataclass
class Cell:
    """One cell.

    :param airflow: what Airflow answers about the state of the waiting task.
    :param ax: runs ``airflow ax``; returns what it printed as JSON.
    :param is_of_schema_0001: let the attempt be one that was recorded before lookup options were: then the connection
        has to lead to the app, and does not change.
    """

    place: Place
    rig: Rig
    store: ExperimentStore
    patch: pytest.MonkeyPatch
    airflow: AirflowStates
    ax: Callable[..., Any]
    is_of_schema_0001: bool = False
    #: Of the app: it was seen running, and what ends the wait has happened.
    acted: bool = field(default=False, init=False)
    #: The task in whose process the cell is.
    operator: Any = field(default=None, init=False)
    run: dict[str, Any] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._until = time.monotonic() + _DEADLINE_SECONDS
        self.name = self.rig.key
        self.connect(self.rig.scheduler_args)
        for module in (_waiting, optimize, airflow_sensor):
            self.patch.setattr(module, "time", Clock(self.pause))
        await_end = TorchXLauncher.await_end
        # The first wait of a whole experiment in one task is the cell's turn; the next ones are as long as they are.
        self.patch.setattr(
            TorchXLauncher, "await_end", lambda *given: await_end(*given) if self.acted else self.pause()
        )
        # A killed task is killed in its worker, where this operator waits at first; else it defers at once.
        self.patch.setattr(_optimize_deferral, "deferral_seconds", lambda: 60.0 if self.place.end == TASK_KILL else 0.0)

    # -- what there is before the wait

    def connect(self, scheduler_args: Mapping[str, Any], tracker: str = "tracker") -> None:
        """Define the connection of the scheduler."""
        extra = {
            "scheduler": self.rig.name,
            "scheduler_args": dict(scheduler_args),
            "tracker_base": str(self.rig.folder / tracker),
        }
        self.patch.setenv(_CONNECTION, json.dumps({"conn_type": "torchx", "extra": extra}))

    def connect_elsewhere(self) -> None:
        """Let the connection, and what this process has in its environment, lead to another place."""
        if self.is_of_schema_0001:
            forgotten = {"lookup_options": sa.null(), "host": None}
            self._write(sa.update(runs).where(runs.c.experiment == self.name).values(**forgotten))
            return
        self.connect(self.rig.other_args, "another tracker")
        self.rig.lead_elsewhere(self.patch)

    @property
    def spec(self) -> dict[str, Any]:
        """The experiment: a trial of it is stopped early when its loss stays above 1."""
        early = {"type": "threshold", "metric_threshold": 1.0, "min_progression": 2, "min_curves": 0}
        return {
            "name": self.name,
            "parameters": [{"type": "range", "name": "x", "parameter_type": "float", "bounds": [0.0, 1.0]}],
            "objective": "-loss",
            "generation": {"initialization_budget": 4, "initialization_random_seed": 1},
            **({"early_stopping": early} if self.place.end == EARLY_STOP else {}),
        }

    def prepare(self) -> None:
        """Record the trial, and submit its app where another task than the waiting one does so."""
        if self.place.wait.task == "optimize":
            return
        self.store.create(self.name, self.spec)
        trial = ProposedTrial("0_0", {"x": 0.25}, None, {}, origin="attached")
        self.store.add_trials(
            self.name,
            Proposal((trial,), None),
            task_key=self.name,
            first_slot=0,
            expected_version=self.store.snapshot(self.name).version,
        )
        if self.place.wait.task == "sensor":
            submit = TorchXSubmitTrialOperator(task_id="submit", trial=self.trial, **self.app)
            self.run = self.execute(submit)
            self.connect_elsewhere()

    @property
    def trial(self) -> dict[str, Any]:
        """The trial as a generating task returns it."""
        return Trial(self.name, 0, "0_0", {"x": 0.25}).to_json()

    @property
    def app(self) -> dict[str, Any]:
        """The arguments of an operator that submits."""
        constant = {"folder": str(self.rig.folder), "key": self.rig.key, **self.rig.component_args}
        return {"component": trial_app, "component_args": constant}

    def waiting_operator(self) -> Any:
        """Return the task that waits, as each of its processes makes it."""
        wait = self.place.wait
        common: dict[str, Any] = {
            "task_id": "wait",
            "deferrable": wait.mode == "deferrable",
            "early_stopping_interval": 0.05,
        }
        if wait.task == "optimize":
            limits = {"max_trials": 1, "trial_timeout": 600, "poll_interval": _POLL_SECONDS}
            return AxOptimizeOperator(experiment=self.spec, **self.app, **common, **limits)
        common |= {"poke_interval": _POLL_SECONDS, "timeout": 600}
        if wait.task == "sensor":
            mode = "reschedule" if wait.mode == "reschedule" else "poke"
            return TorchXTrialSensor(run=self.run, mode=mode, **common)
        return TorchXRunTrialOperator(trial=self.trial, complete=wait.task == "fused", **self.app, **common)

    # -- Airflow

    def execute(self, operator: Any, **identity: Any) -> Any:
        """Execute a task in a worker."""
        return self._in_context(operator, operator.execute, identity)

    def _in_context(self, operator: Any, method: Callable[..., Any], identity: dict[str, Any], *given: Any) -> Any:
        # With a retry left: what ends the app is not that no try follows.
        ti = FakeTaskInstance(operator.task_id, dag_id=DAG_ID, run_id=self.name, **{"max_tries": 1, **identity})
        context: Any = {"ti": ti}
        operator.render_template_fields(context)
        with set_current_context(context):
            return method(context, *given)

    def wait(self, **identity: Any) -> Any:
        """Let the task wait to its end, in as many processes as that takes; return its result."""
        event: dict[str, Any] | None = None
        while True:
            self.operator = operator = self.waiting_operator()
            if self.place.end == TASK_KILL and hasattr(operator, "poll"):
                # The only moment at which a task that reschedules or defers is in a worker; as good as any for others.
                self.patch.setattr(operator, "poll", self._pausing_before(operator.poll))
            try:
                if event is None:
                    return self.execute(operator, **identity)
                return self._in_context(operator, operator.execute_complete, identity, event)
            except AirflowRescheduleException:
                self.pause()
            except TaskDeferred as deferred:
                event = self.fire(deferred.trigger)

    def _pausing_before(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def paused(*arguments: Any) -> Any:
            self.pause()
            return call(*arguments)

        return paused

    def fire(self, trigger: Any) -> dict[str, Any]:
        """Run the trigger in a triggerer until it fires; return its event."""
        _, arguments = trigger.serialize()
        arguments = json.loads(json.dumps(arguments))
        if self.place.end == TIMEOUT and not self.acted:
            for name in ("deadline", "until"):
                if arguments.get(name) is not None:
                    arguments[name] -= HOUR
        payload: dict[str, Any] = asyncio.run(self._fire(type(trigger)(**arguments)))
        return payload

    async def _fire(self, trigger: Any) -> Any:
        firing = asyncio.ensure_future(anext(trigger.run()))
        try:
            if not self.acted:
                await asyncio.to_thread(self.pause)
            if self.place.end == TRIGGER_KILL:
                firing.cancel("a user has marked the task")
                await trigger.on_kill()
                raise TaskEndedError
            async with asyncio.timeout(_DEADLINE_SECONDS):
                return json.loads(json.dumps((await firing).payload))
        finally:
            firing.cancel()
            await asyncio.gather(firing, return_exceptions=True)

    # -- what happens while the task waits

    def pause(self) -> None:
        """Take the cell's turn while the task waits."""
        if time.monotonic() > self._until:
            pytest.fail(f"nothing has ended for {_DEADLINE_SECONDS} s")
        if self.acted:
            time.sleep(_POLL_SECONDS)
            return
        self.acted = True
        self.rig.await_true(lambda: self.rig.starts(self.rig.key) == 1, "start of the app")
        self.connect_elsewhere()
        self._until = time.monotonic() + _DEADLINE_SECONDS
        self._act()

    def _act(self) -> None:
        end, key = self.place.end, self.rig.key
        if end == SUCCESS:
            self.rig.release(key)
        elif end == FAILURE:
            self.rig.release(key, exit_code=3)
        elif end == EARLY_STOP:
            self.rig.plateau(key)
        elif end == USER_STOP:
            self.store.steer(self.name, NewChange(Action.STOP_TRIAL, self.name, "ada", "page", trial_index=0))
        elif end == TIMEOUT:
            self.let_an_hour_pass()
        elif end in (TASK_KILL, TRIGGER_KILL):
            self.airflow.state = "failed"  # a user has marked it
            if end == TASK_KILL:
                self.operator.on_kill()
        else:
            raise WorkerDiedError

    def let_an_hour_pass(self) -> None:
        """Let the app have been submitted an hour earlier, which is more than its time."""
        [attempt] = self.store.attempts(self.name)
        launcher, handle = self._launcher(attempt), str(attempt.app_handle)
        self.rig.await_true(lambda: launcher.observe([handle])[handle].app_state == "RUNNING", "running app")
        earlier = {"requested_at": runs.c.requested_at - HOUR, "submitted_at": runs.c.submitted_at - HOUR}
        self._write(sa.update(runs).where(runs.c.experiment == self.name).values(**earlier))

    def _launcher(self, attempt: AttemptRecord) -> TorchXLauncher:
        """Return a launcher that reaches the app, not through the code that tasks use for that."""
        if attempt.lookup_options is None:
            return self.rig.launcher
        return self.rig.attempt_launcher(attempt.lookup_options)

    def _write(self, statement: sa.Update) -> None:
        self.store._db.write("test", lambda connection: connection.execute(statement))

    # -- the whole cell

    def play(self) -> None:
        """Submit, wait, end, and check what is left: in the store, on the scheduler, for the next try of the task."""
        self.prepare()
        result = self._result()
        assert self.acted
        self.check_result(result)
        self.check_records()
        self.check_scheduler()
        if self.place.end in (TASK_KILL, TRIGGER_KILL):
            return  # a task that a user has marked has no other try but after a Clear, which begins another attempt
        self.check_result(self._wait_as_expected(try_number=2))
        self.check_records()
        assert self.rig.submissions(self.rig.key) == 1

    def _result(self) -> Any:
        """Let the task wait to its end; return its result, or None when it has none."""
        end = self.place.end
        if end in (REAP, CLI_REAP):
            with pytest.raises(WorkerDiedError):
                self.wait()
            self._reap()
            return None
        return self._wait_as_expected()

    def _wait_as_expected(self, **identity: Any) -> Any:
        """Let the task wait; return its result, or None when it ends with the error that it has to end with."""
        expected: tuple[type[Exception], str | None] | None = None
        if self.place.end == TASK_KILL:
            expected = (AirflowException, "its app was ended with it")
        elif self.place.end == TRIGGER_KILL:
            expected = (TaskEndedError, None)
        elif self.place.wait.task == "optimize" and self.place.end not in (SUCCESS, EARLY_STOP):
            expected = (AirflowFailException, "No trial .* has succeeded")
        if expected is None:
            return self.wait(**identity)
        with pytest.raises(expected[0], match=expected[1]):
            self.wait(**identity)
        return None

    def _reap(self) -> None:
        """End what the dead worker has left, in a process in which the connection is not defined."""
        if not self.is_of_schema_0001:
            self.patch.delenv(_CONNECTION)
        if self.place.end == REAP:
            reaped = self.execute(TorchXReapTrialsOperator(task_id="reap"))
        else:
            reaped = self.ax("reap", "--dag-id", DAG_ID, "--run-id", self.name)
        assert [(one["trial_index"], one["trial_status"]) for one in reaped] == [(0, "ABANDONED")]
        self.connect_elsewhere()

    def check_result(self, result: dict[str, Any] | None) -> None:
        """Check what the waiting task returns and, where that is another task, what completing the trial returns."""
        if result is None:
            return
        status, _, _ = EXPECTED[self.place.end]
        metrics = {
            SUCCESS: {"loss": {"mean": self.store.trial(self.name, 0).parameters["x"], "sem": None}},
            EARLY_STOP: {"loss": {"mean": 50.0, "sem": None}},
        }.get(self.place.end, {})
        if self.place.wait.task == "optimize":
            assert result["trials"] == {status: 1}
            return
        assert result["trial_status"] == status
        if self.place.wait.task != "fused":
            result = self.execute(AxCompleteTrialOperator(task_id="complete", run=result))
            assert result["trial_status"] == status
        assert result["metrics"] == metrics

    def check_records(self) -> None:
        """Check the trial and its one attempt in the store."""
        status, app_state, reason = EXPECTED[self.place.end]
        trial = self.store.trial(self.name, 0)
        assert trial.status == status, trial
        assert (trial.reason or "").startswith(reason), trial
        if self.place.end == FAILURE and self.rig.tells_exit_code:
            assert "exit code 3" in str(trial.reason)
        assert [t.index for t in self.store.trials(self.name)] == [0]
        [attempt] = self.store.attempts(self.name)
        assert attempt.finished_at is not None, attempt
        assert attempt.app_state == app_state, attempt
        assert (attempt.lookup_options is None) is self.is_of_schema_0001
        if not self.is_of_schema_0001:
            assert attempt.host == (os.uname().nodename if self.rig.is_local else None)
        assert self.store.open_attempts(experiment=self.name) == []
        is_forgotten = app_state == "CANCELLED" and "UNKNOWN" in self.rig.after_cancel
        if self.rig.tells_times and not is_forgotten:
            assert attempt.started_at is not None, attempt
            assert attempt.ended_at is not None, attempt
            assert attempt.started_at <= attempt.ended_at <= time.time()

    def check_scheduler(self) -> None:
        """Check that the app was submitted once and has ended."""
        [attempt] = self.store.attempts(self.name)
        handle = str(attempt.app_handle)
        launcher = self._launcher(attempt)
        seen = launcher.observe([handle])[handle].app_state
        assert is_terminal_app_state(seen) or seen == "UNKNOWN", seen
        # The session of the test's launcher, which is part of a handle, may be another one than the tasks' is.
        found = launcher.find(attempt.submission_key)
        assert found is None or launcher.app_id(found) == launcher.app_id(handle)
        self.rig.await_true(lambda: not self.rig.processes(self.rig.key), "end of the app's processes", seconds=10)
        assert self.rig.submissions(self.rig.key) == 1
