"""A trial from generate to complete through the operators, on the real local scheduler."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from airflow.sdk.exceptions import (
    AirflowFailException,
    AirflowRescheduleException,
    AirflowSkipException,
    TaskDeferred,
)

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.core.records import Observation
from airflow_provider_axtx.hooks.ax import AxHook
from airflow_provider_axtx.operators.ax import (
    AxBestTrialOperator,
    AxCompleteTrialOperator,
    AxCreateExperimentOperator,
    AxGenerateTrialOperator,
    AxGenerateTrialsOperator,
)
from airflow_provider_axtx.operators.torchx import (
    TorchXReapTrialsOperator,
    TorchXRunTrialOperator,
    TorchXSubmitTrialOperator,
)
from airflow_provider_axtx.sensors.torchx import TorchXTrialSensor
from airflow_provider_axtx.store.experiments import ExperimentStore
from airflow_provider_axtx.triggers.trial import TorchXTrialTrigger
from tests.operators.conftest import BOOTH, Execute, app_state, wait_until

REPORT = (
    "import sys, json, pathlib; a = dict(v.split('=', 1) for v in sys.argv[1:]);"
    "p = pathlib.Path(a['tracker_base']); p.mkdir(parents=True, exist_ok=True);"
)
SLEEP = "import time; time.sleep(600)"


@pytest.fixture
def trial(execute: Execute) -> dict[str, Any]:
    execute(AxCreateExperimentOperator(task_id="create", experiment=BOOTH))
    return execute(AxGenerateTrialOperator(task_id="generate", experiment_name="booth"))


def submit(execute: Execute, trial: dict[str, Any], component: Any, **identity: Any) -> dict[str, Any]:
    # Some tests run different apps in one experiment.
    submitting = TorchXSubmitTrialOperator(task_id="submit", trial=trial, component=component, allow_app_change=True)
    return execute(submitting, **identity)


def wait(execute: Execute, run: dict[str, Any], **arguments: Any) -> dict[str, Any]:
    done = TorchXTrialSensor(task_id="wait", run=run, poke_interval=0.05, **arguments)
    return execute(done)


def test_the_main_job(execute: Execute, trial: dict[str, Any], store: ExperimentStore) -> None:
    run = submit(execute, trial, "utils.booth")
    completed = execute(AxCompleteTrialOperator(task_id="complete", run=wait(execute, run)))
    x1, x2 = trial["parameters"]["x1"], trial["parameters"]["x2"]
    assert completed["metrics"] == {
        "booth_eval": {"mean": (x1 + 2 * x2 - 7) ** 2 + (2 * x1 + x2 - 5) ** 2, "sem": None}
    }
    assert store.trial("booth", 0).status == "COMPLETED"
    best = execute(AxBestTrialOperator(task_id="best", experiment_name="booth"))
    assert (best["trial_index"], best["parameters"]) == (0, trial["parameters"])
    client = AxHook().get_client("booth")
    assert client.summarize()["trial_status"].tolist() == ["COMPLETED"]


def test_submit_and_wait_in_one_task(execute: Execute, trial: dict[str, Any]) -> None:
    ended = execute(TorchXRunTrialOperator(task_id="run", trial=trial, component="utils.booth", poke_interval=0.05))
    assert (ended["trial_status"], ended["app_state"]) == ("COMPLETED", "SUCCEEDED")


def test_submit_wait_and_complete_in_one_task(
    execute: Execute, trial: dict[str, Any], store: ExperimentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    fused = TorchXRunTrialOperator(
        task_id="run", trial=trial, component="utils.booth", poke_interval=0.05, complete=True
    )
    with monkeypatch.context() as broken, pytest.raises(OSError, match="no tracker"):
        # Killed between the recorded end of the run and its results: the retry goes on from there.
        broken.setattr(
            "airflow_provider_axtx.lifecycle.complete.complete_trial", Mock(side_effect=OSError("no tracker"))
        )
        execute(fused, max_tries=1)
    assert store.trial("booth", 0).status == "RUNNING"
    completed = execute(fused, try_number=2, max_tries=1)
    assert completed["trial_status"] == store.trial("booth", 0).status == "COMPLETED"
    assert completed["metrics"]["booth_eval"]["mean"] == store.observations("booth", 0)[0].mean
    assert execute(fused, try_number=2, max_tries=1) == completed
    assert len(store.attempts("booth")) == 1


def test_a_fused_task_reports_a_failed_trial(execute: Execute, trial: dict[str, Any], components: Any) -> None:
    component = components("import sys; print('It diverged.', file=sys.stderr); sys.exit(3)")
    fused = TorchXRunTrialOperator(task_id="run", trial=trial, component=component, poke_interval=0.05, complete=True)
    ended = execute(fused)
    assert (ended["trial_status"], ended["metrics"]) == ("FAILED", {})
    assert ended["message"].endswith("exit code 3"), "Airflow shows an XCom also to users who may not read task logs"
    reason = fused.ax_hook.store.trial(trial["experiment"], trial["trial_index"]).reason
    assert str(reason).endswith("exit code 3; its last line: It diverged.")


def test_results_need_a_task_that_completes() -> None:
    with pytest.raises(InvalidInputError, match="complete=True"):
        TorchXRunTrialOperator(task_id="run", trial={}, component="utils.booth", results={"a": 1.0})


def test_a_generate_task_that_is_retried_or_cleared_gets_its_own_trials_again(
    execute: Execute, store: ExperimentStore
) -> None:
    execute(AxCreateExperimentOperator(task_id="create", experiment=BOOTH))
    generate = AxGenerateTrialsOperator(task_id="generate", experiment_name="booth", n=2)
    first = execute(generate)
    assert execute(generate, try_number=2) == first
    assert execute(generate, try_number=2, max_tries=1) == first  # after a user's Clear
    assert [trial["trial_index"] for trial in execute(generate, run_id="another")] == [2, 3]
    assert len(store.trials("booth")) == 4


def test_while_ax_waits_for_trials_in_flight_a_generate_task_is_rescheduled(
    execute: Execute, store: ExperimentStore
) -> None:
    young = {"initialization_budget": 2, "initialization_random_seed": 1, "random_seed": 1}
    execute(AxCreateExperimentOperator(task_id="create", experiment={**BOOTH, "generation": young}))
    execute(AxGenerateTrialsOperator(task_id="generate", experiment_name="booth", n=2))
    for chain in (
        AxGenerateTrialsOperator(task_id="another", experiment_name="booth", n=2),
        AxGenerateTrialOperator(task_id="one", experiment_name="booth"),
    ):
        with pytest.raises(AirflowRescheduleException) as again:
            execute(chain)
        assert 0 < (again.value.reschedule_date - datetime.now(UTC)).total_seconds() <= 20
    assert len(store.trials("booth")) == 2
    for index in range(2):
        store.complete("booth", index, status="COMPLETED", observations=[Observation(index, "booth_eval", index)])
    assert len(execute(AxGenerateTrialsOperator(task_id="another", experiment_name="booth", n=1))) == 1


def test_max_trials_and_rounds_end_the_generation(execute: Execute) -> None:
    execute(AxCreateExperimentOperator(task_id="create", experiment=BOOTH))
    two = AxGenerateTrialsOperator(task_id="generate", experiment_name="booth", n=5, max_trials="2")
    assert len(execute(two)) == 2
    late = AxGenerateTrialsOperator(task_id="late", experiment_name="booth", round_number=3, rounds="3")
    assert execute(late) == []
    with pytest.raises(AirflowSkipException, match="max_trials"):
        execute(AxGenerateTrialOperator(task_id="one", experiment_name="booth", max_trials=2))


def test_a_retry_adopts_the_live_app(execute: Execute, trial: dict[str, Any], components: Any) -> None:
    component = components(SLEEP)
    first = submit(execute, trial, component)
    assert submit(execute, trial, component, try_number=2) == first
    execute(TorchXReapTrialsOperator(task_id="reap"))


def test_a_clear_cancels_the_live_app_and_starts_a_new_attempt(
    execute: Execute, trial: dict[str, Any], components: Any, store: ExperimentStore
) -> None:
    component = components(SLEEP)
    first = submit(execute, trial, component)
    second = submit(execute, trial, component, try_number=2, max_tries=1)
    assert second["attempt"] == 2
    assert app_state(first["app_handle"]) == "CANCELLED"
    assert app_state(second["app_handle"]) in ("PENDING", "RUNNING")
    assert second["tracker_base"] != first["tracker_base"]
    execute(TorchXReapTrialsOperator(task_id="reap"))
    assert app_state(second["app_handle"]) == "CANCELLED"
    assert store.open_attempts() == []


def test_a_cleared_complete_task_changes_nothing_of_the_same_outcome(
    execute: Execute, trial: dict[str, Any], components: Callable[..., str], store: ExperimentStore
) -> None:
    component = components(REPORT + "(p / a['trial_idx']).write_text('{\"booth_eval\": 1.5}')")
    run = execute(TorchXRunTrialOperator(task_id="run", trial=trial, component=component, poke_interval=0.05))
    complete = AxCompleteTrialOperator(task_id="complete", run=run)
    first, before = execute(complete), store.snapshot("booth")
    assert execute(complete, try_number=2, max_tries=1) == first
    assert store.snapshot("booth") == before


def test_a_cleared_submit_never_runs_a_completed_trial_again(
    execute: Execute, trial: dict[str, Any], store: ExperimentStore
) -> None:
    run = submit(execute, trial, "utils.booth")
    execute(AxCompleteTrialOperator(task_id="complete", run=wait(execute, run)))
    assert submit(execute, trial, "utils.booth", try_number=2, max_tries=1) == run
    assert len(store.attempts("booth")) == 1


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("print('about to fail'); raise SystemExit(3)", "3"),
        ("pass", "reported nothing"),
        (f"{REPORT} (p / a['trial_idx']).write_text('{{\"booth_eval\": NaN}}')", "booth_eval"),
        (f"{REPORT} (p / a['trial_idx']).write_text('{{\"booth_eval\": \"good\"}}')", "booth_eval"),
        (f"{REPORT} (p / a['trial_idx']).write_text('{{\"other\": 1}}')", "booth_eval"),
        (f"{REPORT} (p / a['trial_idx']).write_bytes(b'\\x00\\xffgarbage')", "garbage"),
    ],
    ids=["exits 3", "no result", "NaN", "text", "another metric", "garbage"],
)
def test_what_an_app_does_wrong_fails_the_trial_not_the_task(
    execute: Execute, trial: dict[str, Any], components: Any, store: ExperimentStore, code: str, said: str
) -> None:
    ended = wait(execute, submit(execute, trial, components(code)))
    completed = execute(AxCompleteTrialOperator(task_id="complete", run=ended))
    assert completed["trial_status"] == "FAILED"
    assert said in completed["message"]
    fact = store.trial("booth", 0)
    assert (fact.status, said in (fact.reason or "")) == ("FAILED", True)
    assert execute(AxGenerateTrialOperator(task_id="next", experiment_name="booth"))["trial_index"] == 1


def test_the_log_of_a_failed_app_is_in_the_task_log(
    execute: Execute, trial: dict[str, Any], components: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    wait(execute, submit(execute, trial, components("print('the disk is on fire'); raise SystemExit(1)")))
    assert "the disk is on fire" in capfd.readouterr().out


def test_fail_on_fails_the_task_with_the_trial_recorded(
    execute: Execute, trial: dict[str, Any], components: Any, store: ExperimentStore
) -> None:
    run = submit(execute, trial, components("raise SystemExit(1)"))
    with pytest.raises(AirflowFailException, match="FAILED"):
        wait(execute, run, fail_on=("FAILED",))
    assert store.trial("booth", 0).status == "FAILED"


@pytest.mark.parametrize("arguments", [{}, {"on_timeout": "fail"}])
def test_an_app_whose_time_is_up_is_cancelled(
    execute: Execute, trial: dict[str, Any], components: Any, store: ExperimentStore, arguments: dict[str, Any]
) -> None:
    run = submit(execute, trial, components(SLEEP))
    if arguments:
        with pytest.raises(AirflowFailException, match="timeout"):
            wait(execute, run, timeout=0.5, **arguments)
    else:
        ended = wait(execute, run, timeout=0.5)
        assert (ended["trial_status"], "timeout" in ended["message"]) == ("ABANDONED", True)
    assert app_state(run["app_handle"]) == "CANCELLED"
    assert store.trial("booth", 0).status == "ABANDONED"


def test_a_deferrable_sensor_looks_once_and_defers_only_for_a_live_app(
    execute: Execute, trial: dict[str, Any], components: Any
) -> None:
    run = submit(execute, trial, components(SLEEP))
    with pytest.raises(TaskDeferred) as deferred:
        wait(execute, run, deferrable=True)
    assert deferred.value.timeout is None
    assert isinstance(deferred.value.trigger, TorchXTrialTrigger)
    execute(TorchXReapTrialsOperator(task_id="reap"))
    assert wait(execute, run, deferrable=True)["trial_status"] == "ABANDONED"


async def test_the_trigger_sees_the_end_and_the_sensor_goes_on(
    execute: Execute, resume: Execute, trial: dict[str, Any], store: ExperimentStore
) -> None:
    run = submit(execute, trial, "utils.booth")
    sensor = TorchXTrialSensor(task_id="wait", run=run, poke_interval=0.05, deferrable=True)
    recorded = store.attempt("booth", 0, 1)
    trigger = sensor.trigger(recorded, sensor._trial())
    path, arguments = trigger.serialize()
    assert path == "airflow_provider_axtx.triggers.trial.TorchXTrialTrigger"
    events = [event.payload async for event in TorchXTrialTrigger(**arguments).run()]
    assert [event["status"] for event in events] == ["observed"]
    assert resume(sensor, events[0])["trial_status"] == "COMPLETED"


@pytest.mark.parametrize("event", [None, {}, {"status": "fine"}])
def test_an_event_that_is_missing_or_unknown_is_never_a_success(
    execute: Execute, resume: Execute, trial: dict[str, Any], event: dict[str, Any] | None
) -> None:
    sensor = TorchXTrialSensor(task_id="wait", run=trial, deferrable=True)
    with pytest.raises(Exception, match="no event that can be used"):
        resume(sensor, event)


def test_the_reaper_completes_what_has_ended_and_abandons_the_rest(
    execute: Execute, components: Any, store: ExperimentStore
) -> None:
    execute(AxCreateExperimentOperator(task_id="create", experiment=BOOTH))
    generate = AxGenerateTrialsOperator(task_id="generate", experiment_name="booth", n=3)
    ended, live, _unsubmitted = execute(generate)
    finished = submit(execute, ended, "utils.booth")
    running = submit(execute, live, components(SLEEP))
    wait_until(lambda: app_state(finished["app_handle"]) == "SUCCEEDED")
    outcomes = execute(TorchXReapTrialsOperator(task_id="reap"))
    assert [outcome["trial_status"] for outcome in outcomes] == ["COMPLETED", "ABANDONED", "ABANDONED"]
    assert [trial.status for trial in store.trials("booth")] == ["COMPLETED", "ABANDONED", "ABANDONED"]
    assert [o.metric for o in store.observations("booth", 0)] == ["booth_eval"]
    assert app_state(running["app_handle"]) == "CANCELLED"
    assert execute(TorchXReapTrialsOperator(task_id="reap")) == []


def test_the_reaper_leaves_other_dag_runs_alone(
    execute: Execute, trial: dict[str, Any], components: Any, store: ExperimentStore
) -> None:
    run = submit(execute, trial, components(SLEEP))
    assert execute(TorchXReapTrialsOperator(task_id="reap"), run_id="another") == []
    assert app_state(run["app_handle"]) in ("PENDING", "RUNNING")
    execute(TorchXReapTrialsOperator(task_id="reap"))


@pytest.mark.parametrize("results", [{"booth_eval": 3.0}, {"booth_eval/mean": 3.0, "booth_eval/sem": 0.5}])
@pytest.mark.parametrize("as_callable", [False, True])
def test_results_may_be_given_instead_of_the_tracker(
    execute: Execute, trial: dict[str, Any], components: Any, results: dict[str, float], as_callable: bool
) -> None:
    ended = wait(execute, submit(execute, trial, components("pass")))
    given: Callable[[Any], Any] | dict[str, float] = (lambda run: results) if as_callable else results
    completed = execute(AxCompleteTrialOperator(task_id="complete", run=ended, results=given))
    assert completed["metrics"]["booth_eval"]["mean"] == 3.0


def test_the_component_may_be_a_function(execute: Execute, trial: dict[str, Any]) -> None:
    from torchx.components.utils import booth

    submitting = TorchXSubmitTrialOperator(task_id="submit", trial=trial, component=booth)
    assert str(submitting.component) == "torchx.components.utils.booth"
    assert wait(execute, execute(submitting))["trial_status"] == "COMPLETED"


CHATTY = REPORT + (
    "import time; print('before the gate', flush=True); gate = p / 'gate';\n"
    "while not gate.exists(): time.sleep(0.05)\n"
    "print('behind the gate'); sys.exit(3)"
)


def test_the_output_of_an_app_is_shown_while_it_runs(
    execute: Execute, trial: dict[str, Any], components: Callable[[str, str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = submit(execute, trial, components(CHATTY))
    sensor = TorchXTrialSensor(task_id="wait", run=run, poke_interval=0.05, stream_logs=True)
    told: list[str] = []

    def hear(text: str, *values: Any) -> None:
        told.append(text % values)
        if "before the gate" in told[-1]:
            (Path(run["tracker_base"]) / "gate").touch()  # so the line was seen while the app ran

    monkeypatch.setattr(sensor.log, "info", hear)
    assert execute(sensor)["trial_status"] == "FAILED"
    output = [line for line in told if "the gate" in line]
    assert output == ["app/0: before the gate", "app/0: behind the gate"]


@pytest.mark.parametrize(("limits", "planned"), [({}, None), ({"rounds": 3}, 6), ({"rounds": 3, "max_trials": 4}, 4)])
def test_how_many_trials_are_planned_is_recorded_for_displays(
    execute: Execute, store: ExperimentStore, limits: dict[str, int], planned: int | None
) -> None:
    execute(AxCreateExperimentOperator(task_id="create", experiment=BOOTH))
    execute(AxGenerateTrialsOperator(task_id="generate", experiment_name="booth", n=2, **limits))
    assert store.summary("booth").planned_trials == planned
