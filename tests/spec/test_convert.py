"""Experiments of Optuna, Ray Tune, Katib and W&B: what each becomes, and what is refused by name and with the fix."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import yaml

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.spec.convert import convert
from airflow_provider_axtx.spec.convert.ray import as_data


def choice(name: str, kind: str, *values: Any) -> dict[str, Any]:
    return {"type": "choice", "name": name, "parameter_type": kind, "values": list(values)}


def numbers(name: str, kind: str, low: float, high: float, **more: Any) -> dict[str, Any]:
    return {"type": "range", "name": name, "parameter_type": kind, "bounds": [low, high], **more}


#: Tool, content of its file, parameters.
SPACES: dict[str, tuple[str, str, list[dict[str, Any]]]] = {
    "optuna": (
        "optuna",
        """
        lr: {name: FloatDistribution, attributes: {step: null, low: 1.0e-5, high: 0.1, log: true}}
        momentum: '{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.0, "high": 1.0, "log": false}}'
        dropout: {name: FloatDistribution, attributes: {step: 0.1, low: 0.0, high: 0.55, log: false}}
        depth: {name: IntDistribution, attributes: {step: 1, low: 1, high: 9, log: false}}
        width: {name: IntDistribution, attributes: {step: 1, low: 1, high: 512, log: true}}
        batch: {name: IntDistribution, attributes: {step: 16, low: 16, high: 130, log: false}}
        kernel: {name: CategoricalDistribution, attributes: {choices: [rbf, poly]}}
        fixed: {name: IntDistribution, attributes: {step: 1, low: 3, high: 3, log: false}}
        old: {name: DiscreteUniformDistribution, attributes: {low: 0, high: 1, q: 0.25}}
        short: {type: float, low: 1, high: 10, log: true}
        """,
        [
            numbers("lr", "float", 1e-5, 0.1, scaling="log"),
            numbers("momentum", "float", 0.0, 1.0),
            numbers("dropout", "float", 0.0, 0.5, step_size=0.1),
            numbers("depth", "int", 1, 9),
            numbers("width", "int", 1, 512, scaling="log"),
            numbers("batch", "int", 16, 128, step_size=16),
            choice("kernel", "str", "rbf", "poly"),
            choice("fixed", "int", 3),
            numbers("old", "float", 0.0, 1.0, step_size=0.25),
            numbers("short", "float", 1.0, 10.0, scaling="log"),
        ],
    ),
    "ray": (
        "ray",
        """
        lr: {loguniform: [1.0e-5, 0.1]}
        momentum: {uniform: [0, 1]}
        dropout: {quniform: [0.0, 0.5, 0.1]}
        depth: {randint: [1, 10]}
        width: {lograndint: [1, 513]}
        batch: {qrandint: [16, 128, 16]}
        kernel: {choice: [rbf, poly]}
        mixed: {choice: [1, 0.5]}
        seed: 7
        """,
        [
            numbers("lr", "float", 1e-5, 0.1, scaling="log"),
            numbers("momentum", "float", 0.0, 1.0),
            numbers("dropout", "float", 0.0, 0.5, step_size=0.1),
            numbers("depth", "int", 1, 9),
            numbers("width", "int", 1, 512, scaling="log"),
            numbers("batch", "int", 16, 128, step_size=16),
            choice("kernel", "str", "rbf", "poly"),
            choice("mixed", "float", 1.0, 0.5),
            choice("seed", "int", 7),
        ],
    ),
}

KATIB = """
apiVersion: kubeflow.org/v1beta1
kind: Experiment
metadata: {name: random, namespace: kubeflow}
spec:
  objective: {type: minimize, objectiveMetricName: loss, additionalMetricNames: [Train-accuracy],
              metricStrategies: [{name: Train-accuracy, value: latest}]}
  algorithm: {algorithmName: random, algorithmSettings: [{name: random_state, value: "10"}]}
  parallelTrialCount: 3
  maxTrialCount: 12
  maxFailedTrialCount: 3
  resumePolicy: Never
  parameters:
    - {name: lr, parameterType: double, feasibleSpace: {min: "0.01", max: "0.05", distribution: logUniform}}
    - {name: momentum, parameterType: double, feasibleSpace: {min: "0.5", max: "0.95", step: "0.1"}}
    - {name: layers, parameterType: int, feasibleSpace: {min: "2", max: "5"}}
    - {name: batch, parameterType: discrete, feasibleSpace: {list: ["16", "32"]}}
    - {name: optimizer, parameterType: categorical, feasibleSpace: {list: [sgd, adam]}}
  trialTemplate: {primaryContainerName: training}
"""
WANDB = """
program: train.py
method: bayes
name: sweep
metric: {name: val/acc, goal: maximize}
run_cap: 40
parameters:
  lr: {distribution: log_uniform_values, min: 1e-5, max: 0.1}
  decay: {distribution: log_uniform, min: -3, max: 0}
  momentum: {min: 0.0, max: 1.0}
  depth: {min: 1, max: 9}
  dropout: {distribution: q_uniform, min: 0.1, max: 0.5, q: 0.1}
  kernel: {values: [rbf, poly]}
  epochs: {value: 5}
"""


@pytest.mark.parametrize(("kind", "text", "parameters"), SPACES.values(), ids=SPACES)
def test_a_space_becomes_parameters(kind: str, text: str, parameters: list[dict[str, Any]]) -> None:
    found = convert(kind, yaml.safe_load(text), name="n", objective="acc")
    assert found.definition == {"name": "n", "parameters": parameters, "objective": "acc"}
    assert [found.arguments, found.notes] == [{}, []]


def test_katib_becomes_a_definition_arguments_and_notes() -> None:
    found = convert("katib", yaml.safe_load(KATIB), name="unused")
    assert found.definition == {
        "name": "random",
        "objective": "-loss",
        "tracking_metrics": ["Train-accuracy"],
        "generation": {"method": "random_search", "random_seed": 10},
        "parameters": [
            numbers("lr", "float", 0.01, 0.05, scaling="log"),
            numbers("momentum", "float", 0.5, 0.9, step_size=0.1),
            numbers("layers", "int", 2, 5),
            choice("batch", "int", 16, 32),
            choice("optimizer", "str", "sgd", "adam"),
        ],
    }
    metrics = found.arguments.pop("metrics")
    assert found.arguments == {"max_trials": 12, "parallelism": 3, "max_failed_trials": 3}
    assert {name: source["take"] for name, source in metrics.items()} == {"loss": "min", "Train-accuracy": "last"}
    assert len(found.notes) == 2


def test_the_pattern_of_katib_finds_what_its_collector_finds() -> None:
    import regex

    pattern = convert("katib", yaml.safe_load(KATIB), name="n").arguments["metrics"]["loss"]["regex"]
    assert regex.findall(pattern, "epoch 1: loss=0.25 val-loss=3 loss = -1e-3") == ["0.25", "-1e-3"]


def test_a_sweep_becomes_a_definition() -> None:
    found = convert("wandb", yaml.safe_load(WANDB), name="unused")
    assert found.definition == {
        "name": "sweep",
        "objective": "val/acc",
        "parameters": [
            numbers("lr", "float", 1e-5, 0.1, scaling="log"),
            numbers("decay", "float", math.exp(-3), 1.0, scaling="log"),
            numbers("momentum", "float", 0.0, 1.0),
            numbers("depth", "int", 1, 9),
            numbers("dropout", "float", 0.1, 0.5, step_size=0.1),
            choice("kernel", "str", "rbf", "poly"),
            choice("epochs", "int", 5),
        ],
    }
    assert found.arguments == {"max_trials": 40}
    assert "program" in found.notes[0]


#: Tool, change of a file that is accepted, field, fix.
REFUSED: dict[str, tuple[str, Any, str, str]] = {
    "optuna: no objective": ("optuna", {"x": {"type": "float", "low": 0, "high": 1}}, "objective", "--objective"),
    "optuna: an unknown class": ("optuna", {"x": {"name": "BetaDistribution", "attributes": {}}}, "x", "Known: "),
    "optuna: None as a choice": ("optuna", {"x": {"type": "categorical", "choices": [None]}}, "x.choices", "word"),
    "optuna: several types": ("optuna", {"x": {"type": "categorical", "choices": ["a", 1]}}, "x.choices", "quotes"),
    "optuna: bounds of infinity": ("optuna", {"x": {"type": "float", "low": 0, "high": "inf"}}, "x", "correct"),
    "optuna: a wrong key": ("optuna", {"x": {"type": "int", "low": 0, "high": 9, "base": 2}}, "x.base", "Known"),
    "optuna: a list": ("optuna", [], "the file", "distribution_to_json"),
    "ray: grid": ("ray", {"x": {"grid_search": [1, 2]}}, "x.grid_search", "choice"),
    "ray: normal": ("ray", {"x": {"randn": [0, 1]}}, "x.randn", "bounds"),
    "ray: a function": ("ray", {"x": {"sample_from": ["f"]}}, "x.sample_from", "derived"),
    "ray: nested": ("ray", {"net": {"lr": {"uniform": [0, 1]}}}, "net", "net_x"),
    "ray: logarithmic steps": ("ray", {"x": {"qloguniform": [1, 10, 0.5]}}, "x.qloguniform", "list values"),
    "ray: bounds between steps": ("ray", {"x": {"quniform": [0.05, 1, 0.1]}}, "x.quniform", "round"),
    "ray: a list": ("ray", {"x": [1, 2]}, "x", "component_args"),
    "ray: a wrong name": ("ray", {"x": {"unifrom": [0, 1]}}, "x", "did you mean 'uniform'"),
    "katib: goal": ("katib", {"objective.goal": 0.9}, "spec.objective.goal", "max_trials"),
    "katib: hyperband": ("katib", {"algorithm.algorithmName": "hyperband"}, "spec.algorithm.algorithmName", "leave"),
    "katib: a setting": (
        "katib",
        {"algorithm.algorithmSettings": [{"name": "gamma", "value": "1"}]},
        "spec.algorithm.algorithmSettings[0]",
        "leave it out",
    ),
    "katib: median stop": ("katib", {"earlyStopping": {}}, "spec.earlyStopping", "percentile"),
    "katib: architecture search": ("katib", {"nasConfig": {}}, "spec.nasConfig", "Katib"),
    "katib: normal": (
        "katib",
        {"parameters": [{"name": "x", "parameterType": "double", "feasibleSpace": {"distribution": "normal"}}]},
        "spec.parameters[0].feasibleSpace.distribution",
        "bounds",
    ),
    "katib: an unknown field": ("katib", {"objektive": {}}, "spec.objektive", "did you mean 'objective'"),
    "katib: a list of algorithms": (
        "katib",
        {"algorithm.algorithmName": ["random"]},
        "spec.algorithm.algorithmName",
        "leave",
    ),
    "katib: one setting": (
        "katib",
        {"algorithm.algorithmSettings": 5},
        "spec.algorithm.algorithmSettings",
        "write a list",
    ),
    "katib: a setting without a name": (
        "katib",
        {"algorithm.algorithmSettings": [{"name": ["gamma"]}]},
        "spec.algorithm.algorithmSettings[0]",
        "leave it out",
    ),
    "katib: one other metric": (
        "katib",
        {"objective.additionalMetricNames": "loss"},
        "spec.objective.additionalMetricNames",
        "write a list",
    ),
    "katib: one strategy": (
        "katib",
        {"objective.metricStrategies": {"name": "loss"}},
        "spec.objective.metricStrategies",
        "write a list",
    ),
    "wandb: a list of methods": ("wandb", {"method": ["bayes"]}, "method", "bayes"),
    "wandb: a list of distributions": (
        "wandb",
        {"parameters": {"x": {"min": 1, "max": 9, "distribution": ["uniform"]}}},
        "parameters.x.distribution",
        "bounds",
    ),
    "wandb: grid": ("wandb", {"method": "grid"}, "method", "bayes"),
    "wandb: target": ("wandb", {"metric": {"name": "a", "target": 1}}, "metric.target", "max_trials"),
    "wandb: hyperband": ("wandb", {"early_terminate": {"type": "hyperband"}}, "early_terminate", "early_stopping"),
    "wandb: nested": ("wandb", {"parameters": {"net": {"parameters": {}}}}, "parameters.net.parameters", "net_x"),
    "wandb: beta": ("wandb", {"parameters": {"x": {"distribution": "beta"}}}, "parameters.x.distribution", "bounds"),
    "wandb: inverse": (
        "wandb",
        {"parameters": {"x": {"distribution": "inv_log_uniform_values"}}},
        "parameters.x.distribution",
        "log_uniform_values",
    ),
    "wandb: probabilities": (
        "wandb",
        {"parameters": {"x": {"values": [1, 2], "probabilities": [0.1, 0.9]}}},
        "parameters.x.probabilities",
        "learns",
    ),
    "wandb: steps from elsewhere": (
        "wandb",
        {"parameters": {"x": {"distribution": "q_uniform", "min": 0.5, "max": 2}}},
        "parameters.x.q",
        "multiples",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "change", "field", "fix"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_expressed_is_refused_by_name(kind: str, change: Any, field: str, fix: str) -> None:
    given = change
    if kind == "wandb":
        given = {**yaml.safe_load(WANDB), **change}
    elif kind == "katib":
        given = yaml.safe_load(KATIB)
        for path, value in change.items():
            *parents, last = path.split(".")
            place = given["spec"]
            for parent in parents:
                place = place[parent]
            place[last] = value
    objective = "acc" if kind == "ray" or (kind == "optuna" and field != "objective") else None
    with pytest.raises(InvalidInputError) as refused:
        convert(kind, given, name="n", objective=objective)
    assert f"{field}: " in refused.value.message
    assert fix in refused.value.fix


def test_every_refusal_is_in_one_error_and_a_field_can_be_left_out() -> None:
    given = {**yaml.safe_load(WANDB), "early_terminate": {"type": "hyperband"}, "method": "grid"}
    with pytest.raises(InvalidInputError, match=r"(?s)2 problems.*method.*early_terminate"):
        convert("wandb", given, name="n")
    given["method"] = "bayes"
    assert convert("wandb", given, name="n", leave_out=["early_terminate"]).definition["name"] == "sweep"
    with pytest.raises(InvalidInputError, match=r"no field 'parameters\.lr\.mx'"):
        convert("wandb", given, name="n", leave_out=["parameters.lr.mx"])


def test_it_reads_what_optuna_writes() -> None:
    import optuna.distributions as optuna

    space = {
        "lr": optuna.FloatDistribution(1e-5, 0.1, log=True),
        "drop": optuna.FloatDistribution(0, 1, step=0.3),
        "depth": optuna.IntDistribution(1, 9, step=3),
        "kernel": optuna.CategoricalDistribution(["rbf", "poly"]),
    }
    given = {name: optuna.distribution_to_json(one) for name, one in space.items()}
    assert convert("optuna", given, name="n", objective="acc").definition["parameters"] == [
        numbers("lr", "float", 1e-5, 0.1, scaling="log"),
        numbers("drop", "float", 0.0, 0.9, step_size=0.3),
        numbers("depth", "int", 1, 7, step_size=3),
        choice("kernel", "str", "rbf", "poly"),
    ]


class Sampler:
    def __init__(self, text: str, **attributes: Any) -> None:
        self.text = text
        self.__dict__.update(attributes)

    def __str__(self) -> str:
        return self.text


def domain(kind: str, sampler: Sampler, **attributes: Any) -> Any:
    """An object with the attributes of Ray Tune's, which has to be installed for its own."""
    return type(kind, (), {"get_sampler": lambda self: sampler, **attributes})()


@pytest.mark.parametrize("function", ["randint", "lograndint"])
@pytest.mark.parametrize("high", [10, 10.0, "10", np.int64(10), np.float64(10)])
def test_the_upper_bound_that_ray_leaves_out_is_left_out(function: str, high: Any) -> None:
    made = convert("ray", {"x": {function: [1, high]}}, name="n", objective="acc").definition["parameters"]
    assert made[0]["bounds"] == [1, 9]


@pytest.mark.parametrize("high", [10.5, "ten", True, None])
def test_an_upper_bound_that_is_no_whole_number_is_refused(high: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"x\.randint.*whole numbers"):
        convert("ray", {"x": {"randint": [0, high]}}, name="n", objective="acc")


@pytest.mark.parametrize(
    ("given", "data"),
    [
        (domain("Float", Sampler("Uniform"), lower=0, upper=1), {"uniform": [0, 1]}),
        (domain("Integer", Sampler("LogUniform"), lower=1, upper=9), {"lograndint": [1, 9]}),
        (
            domain("Integer", Sampler("Quantized", q=2, sampler=Sampler("Uniform")), lower=2, upper=8),
            {"qrandint": [2, 8, 2]},
        ),
        (domain("Float", Sampler("Normal"), lower=None, upper=None), {"randn": [None, None]}),
        (domain("Categorical", Sampler("Uniform"), categories=["a"]), {"choice": ["a"]}),
        (3, 3),
    ],
)
def test_objects_of_ray_are_data(given: Any, data: Any) -> None:
    assert as_data(given) == data
