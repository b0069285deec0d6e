"""A process that attaches trials and is killed: its retry attaches each once."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_provider_axtx.lifecycle.attach import attach_trials
from airflow_provider_axtx.spec.attachment import read_trials
from airflow_provider_axtx.spec.experiment import ExperimentSpec
from airflow_provider_axtx.store.experiments import ExperimentStore
from tests.store.material import killed_at

SPEC = ExperimentSpec.load(
    {
        "name": "attached",
        "parameters": [{"type": "range", "name": "x", "parameter_type": "float", "bounds": [0.0, 1.0]}],
        "objective": "-loss",
    }
)


@pytest.mark.parametrize(("point", "recorded"), [("attach.before_record", 0), ("attach.after_record", 2)])
def test_killed_while_attaching(tmp_path: Path, point: str, recorded: int) -> None:
    store = ExperimentStore(f"sqlite:///{tmp_path / 'store.db'}")
    store.create(SPEC.name, SPEC.to_json())
    given = read_trials(SPEC, [{"parameters": {"x": 0.25}, "results": {"loss": 1.5}}, {"parameters": {"x": 0.5}}])

    def attach() -> list[int]:
        to_run = attach_trials(store, SPEC.name, given, task_key="dag/run/attach/-1")
        return [trial.trial_index for trial in to_run]

    killed_at(point, attach)
    assert len(store.trials(SPEC.name)) == recorded
    assert attach() == attach() == [1]
    assert [(trial.parameters, trial.status, trial.origin) for trial in store.trials(SPEC.name)] == [
        ({"x": 0.25}, "COMPLETED", "attached"),
        ({"x": 0.5}, "CANDIDATE", "attached"),
    ]
    assert [seen.mean for seen in store.observations(SPEC.name, 0)] == [1.5]
