"""Katib's ``Experiment`` (``kubeflow.org/v1beta1``)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from airflow_provider_axtx.core.numbers import as_number, as_whole
from airflow_provider_axtx.spec.convert.source import NO_BOUNDS, Foreign, reachable

#: Katib's algorithms that Ax has an equivalent of, and its ``generation.method``; None is Ax's own default.
_METHODS = {
    "random": "random_search",
    "sobol": "random_search",
    "bayesianoptimization": None,
    "tpe": None,
    "multivariate-tpe": None,
}
_SETTINGS = {"random_state": "random_seed", "n_initial_points": "initialization_budget"}
_COUNTS = {
    "maxTrialCount": "max_trials",
    "parallelTrialCount": "parallelism",
    "maxFailedTrialCount": "max_failed_trials",
}
_TAKES = {"min": "min", "max": "max", "latest": "last"}
#: Parts that say how Katib runs and collects, which operators and components say here.
_RUNNING = {
    "trialTemplate": "What a trial runs is the operator's component: see spec.trialTemplate.",
    "resumePolicy": "An experiment can always be resumed: spec.resumePolicy has no counterpart.",
}
_SPEC = (*("objective", "algorithm", "parameters", "earlyStopping", "metricsCollectorSpec", "nasConfig"), *_COUNTS)
#: The numbers that Katib finds in the output.
_NUMBER = r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)"


def read(given: object, source: Foreign) -> None:
    """Read an experiment."""
    whole = source.fields("", given, ("apiVersion", "kind", "metadata", "spec", "status"))
    if whole.get("kind", "Experiment") != "Experiment":
        source.refuse("kind", whole["kind"], "is not an experiment of Katib", "give a file of kind Experiment.")
        return
    metadata = whole.get("metadata")
    name = metadata.get("name") if isinstance(metadata, Mapping) else None
    if name is not None:
        source.definition["name"] = name
    spec = source.fields("spec", whole.get("spec"), (*_SPEC, *_RUNNING))
    _read_objective(spec.get("objective"), spec, source)
    if "algorithm" in spec:
        _read_algorithm(spec["algorithm"], source)
    if "earlyStopping" in spec:
        fix = 'leave it out, and write early_stopping={"type": "percentile"} in the definition: its rule differs.'
        source.refuse("spec.earlyStopping", spec["earlyStopping"], "has no exact counterpart", fix)
    if "nasConfig" in spec:
        fix = "use Katib for architecture search, or write the choices as parameters."
        source.refuse("spec.nasConfig", spec["nasConfig"], "is a search for an architecture", fix)
    parameters = spec.get("parameters")
    if not isinstance(parameters, list) or not parameters:
        source.refuse("spec.parameters", parameters, "must be a list of parameters", "list at least one.")
        parameters = []
    for i, parameter in enumerate(parameters):
        _read_parameter(f"spec.parameters[{i}]", parameter, source)
    source.arguments |= {ours: as_whole(spec[theirs]) for theirs, ours in _COUNTS.items() if theirs in spec}
    source.notes += [note for field, note in _RUNNING.items() if field in spec]


def _read_objective(given: object, spec: Mapping[str, Any], source: Foreign) -> None:
    path = "spec.objective"
    known = ("type", "goal", "objectiveMetricName", "additionalMetricNames", "metricStrategies")
    objective = source.fields(path, given, known)
    if "goal" in objective:
        fix = "leave it out: an experiment ends by its limits, such as max_trials."
        source.refuse(f"{path}.goal", objective["goal"], "has no counterpart", fix)
    metric = objective.get("objectiveMetricName")
    source.set_objective(metric, objective.get("type"), path)
    others = [
        str(name)
        for name in source.items(f"{path}.additionalMetricNames", objective.get("additionalMetricNames"))
        if name != metric
    ]
    if others:
        source.definition["tracking_metrics"] = others
    takes = dict.fromkeys((str(metric), *others), str(objective.get("type"))[:3])
    strategies = source.items(f"{path}.metricStrategies", objective.get("metricStrategies"))
    for i, given_strategy in enumerate(strategies):
        strategy = source.fields(f"{path}.metricStrategies[{i}]", given_strategy, ("name", "value"))
        takes[str(strategy.get("name"))] = _TAKES.get(str(strategy.get("value")), "last")
    if "metricsCollectorSpec" in spec:
        source.notes.append("Where metrics are read is the operator's argument metrics: see spec.metricsCollectorSpec.")
        return
    # Without a collector of its own Katib reads 'metric=value' in the output.
    source.arguments["metrics"] = {
        name: {"regex": rf"(?<![\w|-]){re.escape(name)}\s*=\s*{_NUMBER}", "take": take} for name, take in takes.items()
    }


def _read_algorithm(given: object, source: Foreign) -> None:
    path = "spec.algorithm"
    algorithm = source.fields(path, given, ("algorithmName", "algorithmSettings"))
    name = algorithm.get("algorithmName")
    if not isinstance(name, str) or name not in _METHODS:
        fix = f"leave spec.algorithm out for Ax's Bayesian optimization, or write one of {', '.join(_METHODS)}."
        source.refuse(f"{path}.algorithmName", name, "is not an algorithm of Ax", fix)
        return
    generation: dict[str, Any] = {} if _METHODS[name] is None else {"method": _METHODS[name]}
    for i, setting in enumerate(source.items(f"{path}.algorithmSettings", algorithm.get("algorithmSettings"))):
        read = source.fields(f"{path}.algorithmSettings[{i}]", setting, ("name", "value"))
        if (known := str(read.get("name"))) in _SETTINGS:
            generation[_SETTINGS[known]] = as_whole(read.get("value"))
        else:
            fix = f"leave it out; known are {', '.join(_SETTINGS)}."
            source.refuse(f"{path}.algorithmSettings[{i}]", setting, "has no counterpart", fix)
    if generation:
        source.definition["generation"] = generation


def _read_parameter(path: str, given: object, source: Foreign) -> None:
    parameter = source.fields(path, given, ("name", "parameterType", "feasibleSpace"))
    name, kind = str(parameter.get("name")), parameter.get("parameterType")
    where = f"{path}.feasibleSpace"
    space = source.fields(where, parameter.get("feasibleSpace"), ("min", "max", "step", "list", "distribution"))
    distribution = space.get("distribution", "uniform")
    if distribution not in ("uniform", "logUniform"):
        source.refuse(f"{where}.distribution", distribution, "has no bounds", NO_BOUNDS)
    elif kind in ("int", "double"):
        step, low, high = space.get("step"), space.get("min"), space.get("max")
        high = high if step is None else reachable(low, high, step)
        type_ = int if kind == "int" else float
        source.add_range(where, name, type_, (low, high), log=distribution == "logUniform", step=step)
    elif kind == "categorical":
        values = space.get("list")
        source.add_choice(f"{where}.list", name, values)
    elif kind == "discrete":
        source.add_choice(f"{where}.list", name, _numbers(space.get("list")))
    else:
        fix = "write int, double, discrete or categorical."
        source.refuse(f"{path}.parameterType", kind, "is not a type of parameter", fix)


def _numbers(values: object) -> object:
    """Return the values of a discrete parameter, which Katib writes as text, as numbers; others as they are."""
    if not isinstance(values, list) or any(as_number(value) is None for value in values):
        return values
    whole = [as_whole(value) for value in values]
    return whole if None not in whole else [as_number(value) for value in values]
