"""Events of the asset ``ax://``: what the tasks of a trial put into them."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk import Asset
from airflow.sdk.execution_time.context import OutletEventAccessors

from airflow_provider_axtx.assets import experiment_asset
from airflow_provider_axtx.core.app_observation import AppObservation
from airflow_provider_axtx.core.records import TaskIdentity
from airflow_provider_axtx.hooks.ax import AxHook
from airflow_provider_axtx.lifecycle.complete import finalize
from airflow_provider_axtx.operators.ax import (
    AxBestTrialOperator,
    AxCompleteTrialOperator,
    AxCreateExperimentOperator,
    AxGenerateTrialOperator,
)
from airflow_provider_axtx.store.experiments import ExperimentStore
from tests.operators.conftest import BOOTH, Execute, FakeTaskInstance

BOOTH_ASSET = experiment_asset("booth")
REPORT = Asset(uri="file:///report.html")


@pytest.fixture
def outcome(execute: Execute) -> dict[str, Any]:
    """A trial whose app has ended well."""
    execute(AxCreateExperimentOperator(task_id="create", experiment=BOOTH))
    trial = execute(AxGenerateTrialOperator(task_id="generate", experiment_name="booth"))
    store = AxHook().store
    attempt = store.begin_attempt(
        "booth", trial["trial_index"], scheduler="local_detached", identity=TaskIdentity(), tracker_base="/nowhere"
    )
    attempt = store.record_handle(attempt, "local_detached://torchx/a")
    return finalize(store, attempt, AppObservation("SUCCEEDED")).to_json()


def events(operator: Any) -> dict[str, dict[str, Any]]:
    """Execute the operator; return the extra of each event that Airflow would make of its outlets."""
    accessors = OutletEventAccessors()
    operator.execute({"ti": FakeTaskInstance(operator.task_id), "outlet_events": accessors})
    return {outlet.uri: accessors[outlet].extra for outlet in operator.outlets}


def complete(outcome: dict[str, Any], results: Any, *outlets: Asset) -> AxCompleteTrialOperator:
    return AxCompleteTrialOperator(task_id="complete", run=outcome, results=results, outlets=list(outlets))


def test_a_completed_trial_is_an_event_with_the_trial(outcome: dict[str, Any]) -> None:
    extra = {
        "experiment": "booth",
        "trial_index": 0,
        "arm_name": "0_0",
        "parameters": outcome["parameters"],
        "metrics": {"booth_eval": 3.5},
        "value": 3.5,
    }
    both = complete(outcome, {"booth_eval": 3.5}, BOOTH_ASSET, REPORT)
    assert events(both) == {BOOTH_ASSET.uri: extra, REPORT.uri: {}}
    best = AxBestTrialOperator(task_id="best", experiment_name="booth", outlets=[BOOTH_ASSET])
    assert events(best) == {BOOTH_ASSET.uri: extra}


def test_a_failed_trial_is_no_event_of_the_experiment(outcome: dict[str, Any], store: ExperimentStore) -> None:
    assert events(complete(outcome, {"other": 1.0}, BOOTH_ASSET, REPORT)) == {REPORT.uri: {}}
    assert store.trial("booth", 0).status == "FAILED"
