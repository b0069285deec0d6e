"""Definitions in files, and parameters as objects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import DAG

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.decorators import Choice, Range
from airflow_provider_axtx.operators.ax import AxCreateExperimentOperator, AxOptimizeOperator
from airflow_provider_axtx.spec.experiment import ExperimentSpec
from airflow_provider_axtx.store.experiments import ExperimentStore
from airflow_provider_axtx.task_groups import ax_trial_loop
from tests.operators.conftest import Execute

YAML = """
name: wine
objective: -loss
parameters:
  c: {type: range, parameter_type: float, bounds: [1e-3, 1e3], scaling: log}
  n: {type: range, parameter_type: int, bounds: [1, 4]}
"""
OBJECTS = {"c": Range(1e-3, 1e3, log=True), "n": Range(1, 4)}


def create(experiment: Any) -> AxCreateExperimentOperator:
    return AxCreateExperimentOperator(task_id="create", experiment=experiment)


def test_a_file_beside_the_dag_is_read_when_the_dag_is_parsed(tmp_path: Path) -> None:
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "wine.yaml").write_text(YAML)
    (tmp_path / "tuning.py").write_text(
        "from airflow.sdk import dag\n"
        "from airflow_provider_axtx.operators.ax import AxOptimizeOperator\n"
        "@dag\n"
        "def tuning():\n"
        "    AxOptimizeOperator(\n"
        "        task_id='o', experiment='experiments/wine.yaml', component='utils.booth', max_trials=1\n"
        "    )\n"
        "tuning()\n"
    )
    bag = DagBag(tmp_path)
    assert bag.import_errors == {}
    assert bag.dags["tuning"].get_task("o").experiment["parameters"][1] == {
        "name": "n",
        "type": "range",
        "parameter_type": "int",
        "bounds": [1, 4],
    }


@pytest.mark.parametrize("ending", ["yaml", "yml", "json"])
def test_a_file_and_objects_say_the_same(execute: Execute, store: ExperimentStore, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"wine.{ending}"
    path.write_text(YAML if ending != "json" else ExperimentSpec.load(create(_objects()).experiment).model_dump_json())
    execute(create(str(path)))
    execute(create(_objects()))  # resumes: it is the same definition
    assert [p["name"] for p in store.spec("wine")["parameters"]] == ["c", "n"]


def _objects() -> dict[str, Any]:
    return {"name": "wine", "objective": "-loss", "parameters": OBJECTS}


def test_objects_reach_every_operator_and_the_check_of_a_command() -> None:
    args = {"component": "axtx.command", "component_args": {"command": ["train", "{c}", "{n}"]}}
    AxOptimizeOperator(task_id="o", experiment=_objects(), max_trials=1, **args)
    with DAG("tuning", schedule=None):
        ax_trial_loop("tune", experiment=_objects(), rounds=1, **args)
    with pytest.raises(InvalidInputError, match=r"\{depth\} in command is not a parameter"):
        AxOptimizeOperator(
            task_id="o",
            experiment=_objects(),
            max_trials=1,
            component="axtx.command",
            component_args={"command": ["train", "{c}", "{n}", "{depth}"]},
        )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "there is no such file"),
        ("a: [", "cannot be read"),
        ("- a", "not an object"),
        ("name: e\nobjective: a\nparameters: {x: 3}", "parameters['x'] must not be 3"),
        ("name: e\nobjective: a\nparameters: {x: {name: y}}", "parameters['x'] must not be"),
        (
            "name: e\nobjective: min:a\nparameters: {x: {type: range, bounds: [0, 1], parameter_type: int}}",
            "write '-a'",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, content: str | None, said: str) -> None:
    path = tmp_path / "wine.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InvalidInputError) as raised:
        create(str(path))
    assert said in str(raised.value)


def test_a_choice_keeps_its_values() -> None:
    (parameter,) = create(
        {"name": "e", "objective": "a", "parameters": {"k": Choice(1, 2, 8, ordered=True)}}
    ).experiment["parameters"]
    assert (parameter["values"], parameter["parameter_type"], parameter["is_ordered"]) == ([1, 2, 8], "int", True)
