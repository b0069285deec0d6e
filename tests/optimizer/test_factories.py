"""Which generation factories an experiment may name: code, so only what the DAG's code allows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.lifecycle.generate import create_experiment
from airflow_provider_axtx.spec.experiment import ExperimentSpec
from airflow_provider_axtx.store.experiments import ExperimentStore

OWN = "tests.optimizer.strategies"


@pytest.mark.parametrize(
    ("factory", "allowed", "told"),
    [
        (f"{OWN}:halving", (), "is not allowed; allowed are"),
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
