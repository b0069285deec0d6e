"""How the demo and the harness present themselves, without Airflow."""

from __future__ import annotations

from pathlib import Path

import pytest
from demo import parameters_text, trial_line
from realairflow import AirflowEnv, AirflowEnvError

from airflow_provider_axtx.core.records import Observation, TrialRecord


def test_a_completed_trial_is_shown_with_its_standard_error() -> None:
    trial = TrialRecord(7, "7_0", {"gamma": 0.031622, "kernel": "rbf", "pixels": 34}, "COMPLETED")
    line = trial_line(trial, [Observation(7, "accuracy", 0.5, 0.1, step=1.0), Observation(7, "accuracy", 0.97, 0.0123)])
    assert line == "    7  COMPLETED  0.9700 +- 0.0123   gamma=0.03162, kernel=rbf, pixels=34"


def test_a_failed_trial_is_shown_with_its_reason() -> None:
    trial = TrialRecord(0, "0_0", {"pixels": 4}, "FAILED", reason="exit code 1")
    assert trial_line(trial, []) == "    0  FAILED     -                  pixels=4  (exit code 1)"


def test_large_and_small_floats_stay_readable() -> None:
    assert parameters_text({"rate": 1e-7, "size": 123456.0}) == "rate=1e-07, size=1.235e+05"


def test_the_environment_is_loopback_only_and_free_of_the_shells_airflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__API__HOST", "0.0.0.0")
    monkeypatch.setenv("AIRFLOW_CONN_AX_DEFAULT", "ax://elsewhere")
    env = AirflowEnv(tmp_path, tmp_path, options={"core.parallelism": "9"}, environ={"AIRFLOW_CONN_MINE": "http://"})
    environ = env.environ()
    assert environ["AIRFLOW__API__HOST"] == "127.0.0.1"
    assert environ["AIRFLOW__CORE__PARALLELISM"] == "9"
    assert "AIRFLOW_CONN_AX_DEFAULT" not in environ
    assert environ["AIRFLOW_CONN_MINE"] == "http://"


def test_the_api_of_an_environment_that_is_not_up_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AirflowEnvError, match="not running"):
        AirflowEnv(tmp_path, tmp_path).api.health()
