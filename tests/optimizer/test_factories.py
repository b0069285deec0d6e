"""Which generation factories an experiment may name: code, so only what the DAG's code allows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.core.records import ExperimentSnapshot, Observation, TrialRecord
from airflow_provider_axtx.lifecycle.generate import create_experiment
from airflow_provider_axtx.optimizer import attach, engine, stopping
from airflow_provider_axtx.optimizer.analysis import analyse
from airflow_provider_axtx.spec.attachment import Attachment
from airflow_provider_axtx.spec.experiment import ExperimentSpec
from airflow_provider_axtx.store.experiments import ExperimentStore

OWN = "tests.optimizer.strategies"


@pytest.mark.parametrize(
    ("factory", "allowed", "told"),
    [
        (f"{OWN}:halving", (), "is not allowed; allowed_factories are"),
        (f"{OWN}:halving", ("tests.optimizer.other:*",), "is not allowed"),
        (f"{OWN}:no_strategy", (f"{OWN}:*",), "returned str"),
        (f"{OWN}:nothing", ("*",), "cannot be used: AttributeError"),
        ("no.such.module:make", ("*",), "cannot be used: ModuleNotFoundError"),
        ("os:getcwd", (f"{OWN}:*",), "is not allowed"),
    ],
)
def test_refused_with_nothing_recorded(tmp_path: Path, factory: str, allowed: tuple[str, ...], told: str) -> None:
    store = ExperimentStore(f"sqlite:///{tmp_path / 'store.db'}")
    parameters: list[dict[str, Any]] = [{"type": "range", "name": "x", "bounds": [0, 1], "parameter_type": "float"}]
    spec = ExperimentSpec(name="own", parameters=parameters, objective="loss", generation={"factory": factory})
    with pytest.raises(InvalidInputError, match=told):
        create_experiment(store, spec, if_exists="fail", allowed_factories=allowed)
    assert store.summaries() == []


PARAMETERS: list[dict[str, Any]] = [
    {"type": "range", "name": name, "bounds": [0, 1], "parameter_type": "float"} for name in "xy"
]
#: Importing it is an error, so that a test sees whether it was imported.
EVIL = "tests.optimizer.not_there:make"


def stored(factory: str) -> ExperimentSnapshot:
    """Return an experiment whose definition somebody has edited in the store."""
    spec = ExperimentSpec(name="own", parameters=PARAMETERS, objective="loss", generation={"factory": factory})
    trials = tuple(TrialRecord(i, f"{i}_0", {"x": i / 4, "y": 0.5}, "COMPLETED") for i in range(3))
    observations = tuple(Observation(i, "loss", float(i)) for i in range(3))
    return ExperimentSnapshot("own", "uid", spec.to_json(), None, 0, trials, observations)


@pytest.mark.parametrize("allowed", [(), (f"{OWN}:*",)])
def test_a_stored_factory_is_checked_before_each_import(allowed: tuple[str, ...]) -> None:
    snapshot = stored(EVIL)
    for use in (
        lambda: engine.propose(snapshot, 1, allowed_factories=allowed),
        lambda: engine.best(snapshot, use_model_predictions=True, allowed_factories=allowed),
        lambda: analyse(snapshot, allowed_factories=allowed),
    ):
        with pytest.raises(InvalidInputError, match="is not allowed"):
            use()


def test_what_needs_no_strategy_imports_no_factory() -> None:
    snapshot = stored(EVIL)
    assert engine.best(snapshot, allowed_factories=())[0]["trial_index"] == 2
    assert stopping.global_stop(snapshot) is None
    assert stopping.early_stop(snapshot) == {}
    assert len(attach.attach(snapshot, [Attachment({"x": 0.9, "y": 0.1})]).trials) == 1


def test_an_allowed_stored_factory_is_used() -> None:
    assert len(engine.propose(stored(f"{OWN}:halving"), 1, allowed_factories=(f"{OWN}:halving",)).trials) == 1
