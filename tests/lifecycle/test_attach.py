"""Attaching trials: killed, or beside another process, each once; what is read from another experiment or a table."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_provider_axtx.core.app_observation import AppObservation
from airflow_provider_axtx.core.errors import InvalidInputError, TrackerUnavailableError
from airflow_provider_axtx.core.records import Observation, TrialEnd
from airflow_provider_axtx.lifecycle import attach as module
from airflow_provider_axtx.lifecycle.attach import attach_trials, read_csv, trials_of
from airflow_provider_axtx.spec.attachment import read_trials
from airflow_provider_axtx.spec.experiment import ExperimentSpec
from airflow_provider_axtx.store.experiments import ExperimentStore
from tests.store.material import begin, killed_at

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


def test_a_trial_that_another_process_adds_meanwhile_costs_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ExperimentStore(f"sqlite:///{tmp_path / 'store.db'}")
    store.create(SPEC.name, SPEC.to_json())
    ours, theirs = (read_trials(SPEC, [{"x": x}]) for x in (0.25, 0.5))

    with monkeypatch.context() as patched:

        def between(point: str) -> None:
            patched.undo()
            attach_trials(store, SPEC.name, theirs, task_key="dag/run/other/-1")

        patched.setattr(module, "crash_point", between)
        (trial,) = attach_trials(store, SPEC.name, ours, task_key="dag/run/attach/-1")
    assert (trial.trial_index, trial.parameters) == (1, {"x": 0.25})
    assert [one.parameters for one in store.trials(SPEC.name)] == [{"x": 0.5}, {"x": 0.25}]


def test_only_completed_trials_of_another_experiment_are_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = ExperimentStore(f"sqlite:///{tmp_path / 'store.db'}")
    store.create(SPEC.name, SPEC.to_json())
    rows = [{"parameters": {"x": 0.25}, "results": {"loss": 1.5}}, {"x": 0.5}, {"x": 0.75}]
    attach_trials(store, SPEC.name, read_trials(SPEC, rows), task_key="dag/run/attach/-1")
    failed = TrialEnd("FAILED", (Observation(1, "loss", 0.5),), reason="no latency")
    store.end_attempt(begin(store, SPEC.name, 1), AppObservation("SUCCEEDED"), failed)
    (taken,) = trials_of(store, SPEC.name, SPEC)
    assert (taken.parameters, taken.results) == ({"x": 0.25}, {"loss": (1.5, None)})
    assert [record.message for record in caplog.records if record.name == module.__name__] == []


@pytest.mark.parametrize("content", [None, b"x,loss\n0.5,\xe9\n"], ids=["folder", "latin-1"])
def test_what_is_no_table_is_bad_input(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path
    if content is not None:
        path = tmp_path / "table.csv"
        path.write_bytes(content)
    with pytest.raises(InvalidInputError, match="cannot be read"):
        read_csv(str(path))


def test_an_error_of_the_file_system_is_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.symlink_to(path)
    with pytest.raises(TrackerUnavailableError, match="Too many levels of symbolic links"):
        read_csv(str(path))
