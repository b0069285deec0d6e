"""What the operators send to a real StatsD server through Airflow's own client."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.observability import stats
from airflow.sdk.observability.metrics.stats_utils import get_stats_factory

from airflow_provider_axtx.compat import stats_functions
from airflow_provider_axtx.core.records import PRICES, AttemptRecord, TaskIdentity
from airflow_provider_axtx.operators._metrics import count_usage
from airflow_provider_axtx.operators.ax import (
    AxCompleteTrialOperator,
    AxCreateExperimentOperator,
    AxGenerateTrialsOperator,
    AxOptimizeOperator,
)
from airflow_provider_axtx.operators.torchx import TorchXReapTrialsOperator, TorchXRunTrialOperator
from tests.fakes.statsd import StatsdServer, set_up
from tests.operators.conftest import BOOTH, Execute


@pytest.fixture
def statsd(monkeypatch: pytest.MonkeyPatch) -> Iterator[StatsdServer]:
    """A server to which this process sends, set up as in a task's process."""
    with StatsdServer() as server:
        for name, value in server.options().items():
            monkeypatch.setenv(f"AIRFLOW__{name.replace('.', '__').upper()}", value)
        set_up(stats, get_stats_factory)
        yield server
        monkeypatch.undo()
        set_up(stats, get_stats_factory)


@pytest.fixture
def trials(execute: Execute) -> list[dict[str, Any]]:
    execute(AxCreateExperimentOperator(task_id="create", experiment=BOOTH))
    return execute(AxGenerateTrialsOperator(task_id="generate", experiment_name="booth", n=3))


def run_and_complete(execute: Execute, trial: dict[str, Any], component: str, results: Any = None) -> None:
    index = trial["trial_index"]
    run = execute(
        TorchXRunTrialOperator(
            task_id=f"run_{index}", trial=trial, component=component, poke_interval=0.05, allow_app_change=True
        )
    )
    execute(AxCompleteTrialOperator(task_id=f"complete_{index}", run=run, results=results))


def test_each_trial_is_counted_once_by_its_status(
    statsd: StatsdServer, execute: Execute, trials: list[dict[str, Any]], components: Any
) -> None:
    run_and_complete(execute, trials[0], "utils.booth")
    run_and_complete(execute, trials[1], components("raise SystemExit(1)"))
    run_and_complete(execute, trials[2], "utils.booth", results={"booth_eval": "good"})
    # Sent last: what comes before it has arrived.
    execute(AxGenerateTrialsOperator(task_id="more", experiment_name="booth", n=1))
    execute(TorchXReapTrialsOperator(task_id="reap"))
    assert statsd.await_values("airflow.axtx.trials.abandoned") == ["1|c"]
    assert statsd.await_values("airflow.axtx.trials.failed", 2) == ["1|c", "1|c"]
    assert statsd.await_values("airflow.axtx.trials.completed") == ["1|c"]


def ended_attempt(number: int, seconds: float) -> AttemptRecord:
    return AttemptRecord(
        *("booth", 0, number, f"key-{number}", "fake", "/t", 0.0, TaskIdentity()),
        cpus=2,
        lookup_options={PRICES: {"cpu_hour": 0.25}},
        started_at=0.5,
        ended_at=0.5 + seconds,
        finished_at=1 + seconds,
    )


def test_what_a_trial_has_used_is_counted_in_seconds_and_hundredths(statsd: StatsdServer) -> None:
    dag: Any = SimpleNamespace(dag_id="dag")
    used = count_usage(dag, [ended_attempt(number, 1800.0) for number in (1, 2)])
    stats_functions(stats).incr("axtx.last")
    assert statsd.await_values("airflow.axtx.last") == ["1|c"]
    assert used.to_json() == {"cpu": 2.0, "gpu": 0.0, "cost": 0.5}
    assert statsd.await_values("airflow.axtx.cpu_seconds") == ["7200|c"]
    assert statsd.await_values("airflow.axtx.cost_hundredths") == ["50|c"]


def test_the_sum_is_right_for_trials_that_use_a_fraction_of_a_second(statsd: StatsdServer) -> None:
    dag: Any = SimpleNamespace(dag_id="dag")
    for number in range(200):
        count_usage(dag, [ended_attempt(number, 0.15)])
    stats_functions(stats).incr("axtx.last")
    statsd.await_values("airflow.axtx.last")
    # Of 0.3 core-seconds each; the standard deviation of the sum is 6.5.
    assert sum(int(value.removesuffix("|c")) for value in statsd.values("airflow.axtx.cpu_seconds")) == pytest.approx(
        60, abs=20
    )
    assert statsd.values("airflow.axtx.gpu_seconds") == []


def test_a_generation_is_timed(statsd: StatsdServer, trials: list[dict[str, Any]]) -> None:
    (duration,) = statsd.await_values("airflow.axtx.generation.duration")
    milliseconds, kind = duration.split("|")
    assert (float(milliseconds) > 0, kind) == (True, "ms")


def test_an_optimization_counts_its_trials_and_times_each_generation(statsd: StatsdServer, execute: Execute) -> None:
    execute(
        AxOptimizeOperator(
            task_id="tune",
            experiment=BOOTH,
            component="utils.booth",
            max_trials=2,
            poll_interval=0.05,
            deferrable=False,
        )
    )
    assert len(statsd.await_values("airflow.axtx.generation.duration", 2)) == 2
    assert statsd.await_values("airflow.axtx.trials.completed", 2) == ["1|c", "1|c"]
