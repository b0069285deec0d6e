"""What the OpenLineage provider gets of a trial's tasks, through its own extractor."""

from __future__ import annotations

import json
from typing import Any

from airflow.providers.common.compat.openlineage.facet import Dataset
from airflow.providers.openlineage.extractors import OperatorLineage
from airflow.providers.openlineage.extractors.base import DefaultExtractor
from airflow.providers.openlineage.utils.utils import translate_airflow_asset
from openlineage.client.serde import Serde

from airflow_provider_axtx.assets import experiment_asset
from airflow_provider_axtx.operators.ax import (
    AxBestTrialOperator,
    AxCompleteTrialOperator,
    AxCreateExperimentOperator,
    AxGenerateTrialsOperator,
)
from airflow_provider_axtx.operators.torchx import TorchXSubmitTrialOperator
from airflow_provider_axtx.sensors.torchx import TorchXTrialSensor
from tests.operators.conftest import BOOTH, Execute

DATASET = Dataset(namespace="ax://ax_default", name="booth")


def extracted(operator: Any) -> OperatorLineage[Any, Any]:
    """Return what the provider reads from an operator that has been executed."""
    found = DefaultExtractor(operator).extract_on_complete(None)
    assert found is not None
    return found


def trials_of(lineage: OperatorLineage[Any, Any]) -> list[dict[str, Any]]:
    """Return the facet's trials as they are sent."""
    sent = json.loads(Serde.to_json(lineage.run_facets["axtx_trials"]))
    assert sent["experiment"] == "booth"
    return sent["trials"]


def test_each_task_of_a_trial_tells_what_it_read_wrote_and_knows(execute: Execute) -> None:
    create = AxCreateExperimentOperator(task_id="create", experiment=BOOTH)
    execute(create)
    assert extracted(create) == OperatorLineage(outputs=[DATASET])

    generate = AxGenerateTrialsOperator(task_id="generate", experiment_name="booth", n=1)
    (trial,) = execute(generate)
    assert (extracted(generate).inputs, extracted(generate).outputs) == ([DATASET], [DATASET])
    known = {name: trial[name] for name in ("trial_index", "arm_name", "parameters")}
    assert trials_of(extracted(generate)) == [known]

    submit = TorchXSubmitTrialOperator(task_id="submit", trial=trial, component="utils.booth")
    run = execute(submit)
    assert (extracted(submit).inputs, extracted(submit).outputs) == ([DATASET], [])
    assert trials_of(extracted(submit)) == [{**known, "attempt": 1, "app_handle": run["app_handle"]}]

    wait = TorchXTrialSensor(task_id="wait", run=run, poke_interval=0.05)
    ended = execute(wait)
    assert trials_of(extracted(wait))[0]["trial_status"] == "COMPLETED"

    complete = AxCompleteTrialOperator(task_id="complete", run=ended)
    # OpenLineage leaves out what is None.
    metrics = {"booth_eval": {"mean": execute(complete)["metrics"]["booth_eval"]["mean"]}}
    assert (extracted(complete).inputs, extracted(complete).outputs) == ([], [DATASET])
    assert trials_of(extracted(complete))[0]["metrics"] == metrics

    best = AxBestTrialOperator(task_id="best", experiment_name="booth")
    execute(best)
    assert (extracted(best).inputs, extracted(best).outputs) == ([DATASET], [])
    assert trials_of(extracted(best)) == [{**known, "metrics": metrics}]


def test_a_task_that_has_done_nothing_tells_nothing() -> None:
    assert DefaultExtractor(AxBestTrialOperator(task_id="best", experiment_name="x")).extract_on_complete(None) is None


def test_an_asset_is_the_same_dataset() -> None:
    assert translate_airflow_asset(experiment_asset("booth"), None) == DATASET
    assert translate_airflow_asset(experiment_asset("my booth"), None) == Dataset("ax://ax_default", "my booth")
