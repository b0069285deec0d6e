"""``AxOptimizeOperator`` on the real local scheduler, in process and deferred."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, TaskDeferred
from airflow.triggers.base import TriggerEvent

from airflow_provider_axtx.core.errors import InvalidInputError, TrialNotFoundError
from airflow_provider_axtx.lifecycle.ends import Ends
from airflow_provider_axtx.lifecycle.optimize import Step
from airflow_provider_axtx.operators import _optimize_deferral
from airflow_provider_axtx.operators.ax import AxOptimizeOperator
from airflow_provider_axtx.store.experiments import ExperimentStore
from airflow_provider_axtx.triggers import timing
from airflow_provider_axtx.triggers.optimize import AxOptimizeTrigger
from tests.operators.conftest import BOOTH, Execute, FakeTaskInstance, app_state, wait_until

APP = (
    "import sys, json, pathlib, time; a = dict(v.split('=', 1) for v in sys.argv[1:]);"
    "p = pathlib.Path(a['tracker_base']); p.mkdir(parents=True, exist_ok=True);"
)
REPORT = APP + "(p / a['trial_idx']).write_text(json.dumps({'booth_eval': float(a['x1'])}))"
SLEEP = "import time; time.sleep(600)"


def operator(component: str, **arguments: Any) -> AxOptimizeOperator:
    given: dict[str, Any] = {"max_trials": 3, "parallelism": 2, "poll_interval": 0.05, "deferrable": False}
    given |= {"experiment": BOOTH, "scheduler_args": {"max_parallel": 10, "term_grace": 1}, **arguments}
    return AxOptimizeOperator(task_id="optimize", component=component, **given)


def run_deferred(make: Any, on_defer: Callable[[], Any]) -> tuple[dict[str, Any], int]:
    """Run the task to its end as worker and triggerer do; return its result, and how often it was deferred."""
    context: Any = {"ti": FakeTaskInstance("optimize")}
    event: dict[str, Any] | None = None
    for deferrals in range(100):
        task = make()
        try:
            if event is None:
                return task.execute(context), deferrals
            return task.execute_complete(context, event), deferrals
        except TaskDeferred as deferred:
            assert (deferred.method_name, deferred.timeout) == ("execute_complete", None)
            on_defer()
            event = fire(deferred.trigger)
    raise AssertionError("deferred for ever")


def fire(trigger: Any) -> dict[str, Any]:
    """Run a trigger, made anew from what Airflow stores of it, until it fires."""
    _, arguments = trigger.serialize()
    again = AxOptimizeTrigger(**json.loads(json.dumps(arguments)))

    async def first() -> TriggerEvent:
        return await anext(again.run())

    payload: dict[str, Any] = asyncio.run(first()).payload
    return json.loads(json.dumps(payload))


def test_the_whole_experiment_in_process(execute: Execute, components: Any, store: ExperimentStore) -> None:
    result = execute(operator(components(REPORT)))
    trials = store.trials("booth")
    best = min(trials, key=lambda trial: trial.parameters["x1"])
    assert result["best"]["trial_index"] == best.index
    assert result["best"]["parameters"] == best.parameters
    assert result["best"]["metrics"] == {"booth_eval": {"mean": best.parameters["x1"], "sem": None}}
    assert result["trials"] == {"COMPLETED": 3}
    assert (result["n_trials"], result["experiment"]) == (3, "booth")
    assert result["stop_reason"] == "max_trials: the experiment has 3 trials"
    hours = sum((run.ended_at or 0) - (run.started_at or 0) for run in store.attempts("booth")) / 3600
    assert result["resource_hours"] == {"cpu": pytest.approx(hours), "gpu": 0.0}
    assert hours > 0


def test_money_is_counted_at_the_prices_of_the_connection_and_can_be_limited(
    execute: Execute, components: Any, store: ExperimentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(AirflowFailException, match="'torchx_default' has no prices"):
        execute(operator(components(REPORT), max_cost=5))
    extra = {"prices": {"cpu_hour": 3600, "gpu_hour": 1}}
    monkeypatch.setenv("AIRFLOW_CONN_TORCHX_DEFAULT", json.dumps({"conn_type": "torchx", "extra": extra}))
    result = execute(operator(components(REPORT), max_cost=1e-9, parallelism=1))
    assert result["stop_reason"].startswith("max_cost: ")
    assert result["cost"] == pytest.approx(3600 * result["resource_hours"]["cpu"])
    assert result["saved"]["early_stopping"] == {"cpu": 0.0, "gpu": 0.0, "cost": None}
    assert [run.prices for run in store.attempts("booth")] == [{"cpu_hour": 3600.0, "gpu_hour": 1.0}]


def test_deferred_it_waits_for_any_app_and_gives_the_same_result(
    components: Any, store: ExperimentStore, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    wait = f"\nwhile not pathlib.Path({str(gate)!r}).exists(): time.sleep(0.02)\n"
    component = components(APP + wait + REPORT.removeprefix(APP))
    result, deferrals = run_deferred(lambda: operator(component, deferrable=True), on_defer=gate.touch)
    assert 1 <= deferrals <= 3  # each end of an app wakes it at most once
    assert result["trials"] == {"COMPLETED": 3}
    assert [run.number for run in store.attempts("booth")] == [1, 1, 1]


@pytest.mark.parametrize(("deferral_seconds", "expected"), [(0.0, 3), (3600.0, 0)])
def test_apps_that_end_sooner_than_a_deferral_are_awaited_by_the_task_itself(
    components: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    deferral_seconds: float,
    expected: int,
) -> None:
    monkeypatch.setattr(_optimize_deferral, "deferral_seconds", lambda: deferral_seconds)
    gates = [tmp_path / f"gate-{index}" for index in range(3)]
    wait = f"\nwhile not pathlib.Path({str(tmp_path)!r}, 'gate-' + a['trial_idx']).exists(): time.sleep(0.02)\n"
    component = components(APP + wait + REPORT.removeprefix(APP))

    def let_go() -> None:
        next(gate for gate in gates if not gate.exists()).touch()

    if not expected:
        for _ in gates:
            let_go()
    result, deferrals = run_deferred(lambda: operator(component, parallelism=1, deferrable=True), let_go)
    assert result["trials"] == {"COMPLETED": 3}
    assert deferrals == expected


@pytest.mark.parametrize(
    ("ages", "last_seconds", "until", "poll_interval", "soon"),
    [
        ([2.0], None, None, 1.0, True),  # it may be a brief one
        ([11.0], None, None, 1.0, False),
        ([2.0], 3.0, None, 1.0, True),
        ([2.0], 60.0, None, 1.0, False),
        ([55.0], 60.0, None, 1.0, True),  # about as old as the last one became
        ([2.0, 65.0], 60.0, None, 1.0, True),
        ([75.0], 60.0, None, 1.0, False),
        ([2.0], None, None, 10.0, True),
        ([2.0], None, None, 11.0, False),  # a deferral takes no longer than until the next poll
        ([20.0], None, 5.0, 11.0, True),  # it is time to look before a deferral would be over
        ([20.0], None, 15.0, 1.0, False),
        ([], None, 30.0, 1.0, False),
    ],
)
def test_it_waits_in_its_slot_when_an_app_may_end_before_a_deferral_is_over(
    monkeypatch: pytest.MonkeyPatch,
    ages: list[float],
    last_seconds: float | None,
    until: float | None,
    poll_interval: float,
    soon: bool,
) -> None:
    monkeypatch.setenv("AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL", "5")
    monkeypatch.setattr(timing, "_MARGIN_SECONDS", 5.0)
    now = time.time()
    live: Any = tuple(SimpleNamespace(submitted_at=now - age) for age in ages)
    step = Step(False, live, None if until is None else now + until, None, last_seconds)
    assert _optimize_deferral.may_end_soon(step, poll_interval) is soon


def test_a_retry_goes_on_and_a_clear_of_a_finished_task_returns_the_result(
    execute: Execute, components: Any, store: ExperimentStore
) -> None:
    component = components(REPORT)
    first = execute(operator(component, max_trials=2))
    assert execute(operator(component, max_trials=2), try_number=2, max_tries=1) == first
    assert execute(operator(component, max_trials=3), try_number=3, max_tries=2)["n_trials"] == 3
    assert len(store.attempts("booth")) == 3


def deferred(execute: Execute, component: str, **arguments: Any) -> AxOptimizeTrigger:
    with pytest.raises(TaskDeferred) as raised:
        execute(operator(component, deferrable=True, **arguments))
    trigger = raised.value.trigger
    assert isinstance(trigger, AxOptimizeTrigger)
    return trigger


async def test_ending_a_deferred_task_cancels_all_its_apps(execute: Execute, components: Any) -> None:
    trigger = deferred(execute, components(SLEEP))
    handles = list(trigger.arguments["submitted"])
    assert len(handles) == 2
    await trigger.on_kill()
    for handle in handles:
        wait_until(lambda handle=handle: app_state(handle) == "CANCELLED")


@pytest.mark.parametrize("last", [False, True])
def test_a_killed_task_leaves_its_apps_to_its_retry_and_ends_them_without_one(
    execute: Execute, components: Any, store: ExperimentStore, tmp_path: Path, last: bool
) -> None:
    gate = tmp_path / "gate"
    wait = f"\nwhile not pathlib.Path({str(gate)!r}).exists(): time.sleep(0.02)\n"
    component = components(APP + wait + REPORT.removeprefix(APP))
    task = operator(component)
    handles: list[str] = []

    def submitted() -> list[Any]:
        return [run for run in store.open_attempts() if run.app_handle]

    def end_when_both_run() -> None:
        both = wait_until(lambda: runs if len(runs := submitted()) == 2 else None)
        handles.extend(run.app_handle for run in both)
        os.kill(os.getpid(), signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, lambda *_: task.on_kill())
    ending = threading.Thread(target=end_when_both_run)
    ending.start()
    try:
        with pytest.raises(AirflowException, match="Airflow ended this task"):
            execute(task, max_tries=0 if last else 1)
    finally:
        ending.join()
        signal.signal(signal.SIGUSR1, before)
    assert len(handles) == 2
    if last:
        for handle in handles:
            wait_until(lambda handle=handle: app_state(handle) == "CANCELLED")
        assert {trial.status for trial in store.trials("booth")} == {"ABANDONED"}
        return
    assert {app_state(handle) for handle in handles} <= {"PENDING", "RUNNING"}
    gate.touch()
    result = execute(operator(component), try_number=2, max_tries=1)
    assert result["trials"] == {"COMPLETED": 3}
    assert [run.number for run in store.attempts("booth")] == [1, 1, 1]


def test_a_trial_that_is_being_recorded_when_airflow_kills_the_task_is_ended_with_it(
    execute: Execute, components: Any, store: ExperimentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, add = operator(components(SLEEP), propose_ahead=1), ExperimentStore.add_trials

    def kill_and_add(self: ExperimentStore, *arguments: Any, **options: Any) -> Any:
        if len(store.trials("booth")) == 2:
            task.on_kill()
        return add(self, *arguments, **options)

    monkeypatch.setattr(ExperimentStore, "add_trials", kill_and_add)
    with pytest.raises(AirflowException, match="Airflow ended this task"):
        execute(task, max_tries=0)
    assert [trial.status for trial in store.trials("booth")] == ["ABANDONED"] * 3


def test_the_trigger_fires_when_it_is_time_to_look(execute: Execute, components: Any) -> None:
    component = components(SLEEP)
    trigger = deferred(execute, component)
    assert trigger.arguments["until"] > time.time() + 86400  # the trials' own timeout
    trigger.arguments["until"] = time.time() + 0.1
    event = fire(trigger)
    assert event == {"status": "due"}
    with pytest.raises(AirflowFailException, match="timeout: still running 1 s"):
        run_on(component, event)


def run_on(component: str, event: dict[str, Any]) -> Any:
    """Go on after the event; every app times out, until three have."""
    context: Any = {"ti": FakeTaskInstance("optimize")}
    while True:
        try:
            return operator(component, deferrable=True, trial_timeout=1).execute_complete(context, event)
        except TaskDeferred as again:
            event = fire(again.trigger)


@pytest.mark.parametrize("event", [None, {}, {"status": "splendid"}])
def test_an_event_that_says_nothing_is_no_success(components: Any, event: Any) -> None:
    with pytest.raises(AirflowException, match="no event that can be used"):
        operator(components(REPORT)).execute_complete({"ti": FakeTaskInstance("optimize")}, event)


def test_without_a_successful_trial_the_task_fails_and_names_the_reasons(execute: Execute, components: Any) -> None:
    with pytest.raises(AirflowFailException) as failed:
        execute(operator(components("import sys; sys.exit(3)"), max_failed_trials=2, parallelism=1))
    for said in ("No trial of experiment 'booth' has succeeded", "max_failed_trials: 2", "exit code 3"):
        assert said in str(failed.value)


def test_the_first_failure_fails_the_task_when_asked_for(execute: Execute, components: Any) -> None:
    code = REPORT + ";sys.exit(int(a['trial_idx']) > 0)"
    with pytest.raises(AirflowFailException, match=r"on_trial_failure: 1 of 2 trials have failed.*exit code 1"):
        execute(operator(components(code), on_trial_failure="fail", parallelism=1))


def test_a_task_that_fails_for_good_leaves_no_app_running(
    execute: Execute, components: Any, store: ExperimentStore
) -> None:
    component = components(SLEEP)
    trigger = deferred(execute, component)
    handles = list(trigger.arguments["submitted"])
    another_space = {**BOOTH, "parameters": BOOTH["parameters"][:1]}
    with pytest.raises(AirflowFailException, match="another definition"):
        execute(operator(component, experiment=another_space), try_number=2, max_tries=5)
    for handle in handles:
        wait_until(lambda handle=handle: app_state(handle) == "CANCELLED")


def test_a_component_that_does_not_fit_is_refused_before_anything_is_recorded(
    execute: Execute, components: Any, store: ExperimentStore
) -> None:
    with pytest.raises(AirflowFailException, match="x2"):
        execute(operator(components(REPORT, "x1: float, trial_idx: int, tracker_base: str")))
    assert store.summaries() == []


def test_an_error_that_no_retry_can_fix_ends_the_task_at_once(
    execute: Execute, components: Any, store: ExperimentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def gone(self: Any, attempt: Any, seen: Any) -> None:
        asked.append(attempt.trial_index)
        raise TrialNotFoundError("the trial is gone", fix="look at the store")

    monkeypatch.setattr(Ends, "_judge", gone)
    with pytest.raises(AirflowFailException, match="the trial is gone"):
        execute(operator(components(SLEEP), parallelism=1, poll_interval=3.0), max_tries=2)
    assert asked == [0]
    assert {trial.status for trial in store.trials("booth")} == {"ABANDONED"}


def test_apps_that_the_triggerers_host_cannot_observe_are_awaited_by_the_task_itself(
    execute: Execute, resume: Execute, components: Any, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    wait = f"\nwhile not pathlib.Path({str(gate)!r}).exists(): time.sleep(0.02)\n"
    component = components(APP + wait + REPORT.removeprefix(APP))
    deferred(execute, component)
    gate.touch()
    event = {"status": "error", "message": "The app belongs to host worker-7.", "elsewhere": True}
    assert resume(operator(component, deferrable=True), event)["trials"] == {"COMPLETED": 3}


def test_two_objectives_give_the_frontier(execute: Execute, components: Any) -> None:
    code = APP + "(p / a['trial_idx']).write_text(json.dumps({'a': float(a['x1']), 'b': -float(a['x1'])}))"
    task = AxOptimizeOperator(
        task_id="optimize",
        experiment={**BOOTH, "objective": "a, b"},
        component=components(code),
        max_trials=2,
        poll_interval=0.05,
    )
    assert [entry["trial_index"] for entry in execute(task)["best"]] == [0, 1]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"max_trials": 0}, "max_trials"),
        ({"parallelism": -1}, "parallelism"),
        ({"max_failed_trials": 0}, "max_failed_trials"),
        ({"max_failure_rate": 0}, "max_failure_rate"),
        ({"min_trials_for_rate": 0}, "min_trials_for_rate"),
        ({"max_seconds": -5}, "max_seconds"),
        ({"deadline": "tomorrow"}, "deadline"),
        ({"max_resource_hours": 0}, "max_resource_hours"),
        ({"max_cost": 0}, "max_cost"),
        ({"retry_from": "start"}, "retry_from"),
        ({"keep_checkpoints": "some"}, "keep_checkpoints"),
        ({"trial_timeout": 0}, "trial_timeout"),
        ({"trial_retries": -1}, "trial_retries"),
        ({"poll_interval": 0}, "poll_interval"),
        ({"early_stopping_interval": 0}, "early_stopping_interval"),
        ({"parallelism": 4, "max_trials": 3}, "parallelism: is more than max_trials=3"),
        ({"on_stop": "shrug"}, "on_stop"),
        ({"on_trial_failure": "fail", "max_failed_trials": 1}, "can never be reached"),
        ({"if_exists": "overwrite"}, "if_exists"),
        ({"component_args": "{"}, "component_args"),
    ],
)
def test_bad_arguments_are_refused_at_dag_parse(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        operator("utils.booth", **given)


def test_what_is_templated_waits_for_the_start() -> None:
    task = operator("utils.booth", max_trials="{{ params.n }}", parallelism=50, max_seconds="{{ params.s }}")
    assert task.max_trials == "{{ params.n }}"


def test_apps_are_found_under_the_tracker_base_that_was_named(
    execute: Execute, components: Any, store: ExperimentStore, tmp_path: Path
) -> None:
    execute(operator(components(REPORT), tracker_base=str(tmp_path / "named"), max_trials=2))
    # Two experiments may name the same one: each attempt has a folder of its own in it.
    keys = [attempt.submission_key for attempt in store.attempts("booth")]
    assert sorted(path.name for path in (tmp_path / "named").iterdir()) == sorted(keys)
    for index, key in enumerate(keys):
        assert [path.name for path in (tmp_path / "named" / key).iterdir()] == [str(index)]


def test_a_tracker_base_that_is_shared_on_purpose_is_passed_on_as_it_is(
    execute: Execute, components: Any, tmp_path: Path
) -> None:
    named = {"tracker_base": str(tmp_path / "named"), "tracker_base_shared": True}
    execute(operator(components(REPORT), **named, max_trials=2))
    assert sorted(path.name for path in (tmp_path / "named").iterdir()) == ["0", "1"]


def test_a_cleared_task_that_runs_another_experiment_now_ends_what_it_left_in_the_first(
    components: Callable[..., str], execute: Execute, store: ExperimentStore
) -> None:
    component = components(SLEEP)
    for try_number, name in enumerate(["before", "after"], 1):
        experiment = {**BOOTH, "name": name}
        task = operator(component, experiment=experiment, deferrable=True, poll_interval=4, propose_ahead=1)
        with pytest.raises(TaskDeferred):
            execute(task, try_number=try_number, max_tries=try_number - 1)
    assert [trial.status for trial in store.trials("before")] == ["ABANDONED"] * 3
    assert "another experiment" in str(store.trials("before")[0].reason)
    assert store.open_attempts(experiment="before") == []
    assert [trial.status for trial in store.trials("after")] == ["RUNNING", "RUNNING", "CANDIDATE"]
    task.end_apps("the test is over", 10.0)


def test_live_apps_are_waited_for_before_options_that_do_not_fit_are_an_error(
    execute: Execute, components: Any, store: ExperimentStore, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    component = components(f"{APP}\nwhile not pathlib.Path({str(gate)!r}).exists(): time.sleep(0.05)\n{REPORT}")
    deferred(execute, component)
    gate.touch()
    with pytest.raises(AirflowFailException, match="no_such_option"):
        execute(operator(component, scheduler_args={"no_such_option": 1}), try_number=2)
    assert [trial.status for trial in store.trials("booth")] == ["COMPLETED", "COMPLETED"]
