"""Sweeps of Weights & Biases."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from airflow_provider_axtx.core.numbers import as_number, as_whole
from airflow_provider_axtx.spec.convert.source import NO_BOUNDS, Foreign, are_multiples

_METHODS = {"bayes": None, "random": "random_search"}
_KEYS = ("min", "max", "q", "mu", "sigma", "values", "value", "probabilities", "distribution", "parameters")
#: For each distribution with bounds: the type, whether it is logarithmic, whether its bounds are exponents of e.
_RANGES: dict[str, tuple[type[int] | type[float], bool, bool]] = {
    "int_uniform": (int, False, False),
    "uniform": (float, False, False),
    "q_uniform": (float, False, False),
    "log_uniform": (float, True, True),
    "log_uniform_values": (float, True, False),
}
_INSTEAD = "write uniform, or log_uniform_values."


def read(given: object, source: Foreign) -> None:
    """Read a sweep. What it runs (program, command) and where it is kept (project, entity) are said elsewhere here."""
    running = ("program", "command")
    kept = ("project", "entity", "name", "description")
    known = (*running, *kept, "method", "metric", "parameters", "early_terminate", "run_cap")
    sweep = source.fields("", given, known)
    source.definition |= {key: str(sweep[key]) for key in ("name", "description") if key in sweep}
    if "metric" in sweep:
        metric = source.fields("metric", sweep["metric"], ("name", "goal", "target"))
        source.set_objective(metric.get("name"), metric.get("goal", "minimize"), "metric")
        if "target" in metric:
            fix = "leave it out: an experiment ends by its limits, such as max_trials."
            source.refuse("metric.target", metric["target"], "has no counterpart", fix)
    method = sweep.get("method")
    if not isinstance(method, str) or method not in _METHODS:
        source.refuse("method", method, "is not a method of Ax", "write bayes or random.")
    elif _METHODS[method] is not None:
        source.definition["generation"] = {"method": _METHODS[method]}
    if "early_terminate" in sweep:
        fix = "leave it out, and write early_stopping in the definition: its rules differ."
        source.refuse("early_terminate", sweep["early_terminate"], "has no exact counterpart", fix)
    if "run_cap" in sweep:
        source.arguments["max_trials"] = as_whole(sweep["run_cap"])
    source.notes += [f"What a trial runs is the operator's component: see {key}." for key in running if key in sweep]
    for name, parameter in source.fields("parameters", sweep.get("parameters"), sweep.get("parameters") or ()).items():
        path = f"parameters.{name}"
        _read_parameter(path, str(name), source.fields(path, parameter, _KEYS), source)


def _read_parameter(path: str, name: str, given: Mapping[str, Any], source: Foreign) -> None:
    if "parameters" in given:
        fix = f"write its parameters at the top, such as {name}_x for its parameter x."
        source.refuse(f"{path}.parameters", given["parameters"], "is a nested space", fix)
        return
    if "probabilities" in given:
        fix = "leave it out: Ax learns from results which values are better."
        source.refuse(f"{path}.probabilities", given["probabilities"], "has no counterpart", fix)
        return
    distribution = str(given.get("distribution") or _default(given))
    if distribution in ("categorical", "constant"):
        key = "values" if distribution == "categorical" else "value"
        values = given.get("values") if key == "values" else [given.get("value")]
        source.add_choice(f"{path}.{key}", name, values)
    elif distribution in _RANGES:
        _read_range(path, name, distribution, given, source)
    else:
        bounded = distribution.startswith(("q_log_uniform", "inv_log_uniform"))
        text = "has no counterpart" if bounded else "has no bounds"
        source.refuse(f"{path}.distribution", distribution, text, _INSTEAD if bounded else NO_BOUNDS)


def _default(given: Mapping[str, Any]) -> str:
    """Return the distribution that W&B assumes where none is named."""
    if "values" in given:
        return "categorical"
    if "value" in given:
        return "constant"
    return "int_uniform" if all(type(given.get(key)) is int for key in ("min", "max")) else "uniform"


def _read_range(path: str, name: str, distribution: str, given: Mapping[str, Any], source: Foreign) -> None:
    kind, log, exponents = _RANGES[distribution]
    low, high = given.get("min"), given.get("max")
    if exponents:
        low, high = _e_to_the(low), _e_to_the(high)
    quantum = given.get("q", 1) if distribution == "q_uniform" else None
    if quantum is not None and not are_multiples(quantum, low, high):
        fix = "round min and max to multiples of q."
        source.refuse(f"{path}.q", quantum, "does not divide min and max", fix)
        return
    source.add_range(path, name, kind, (low, high), log=log, step=quantum)


def _e_to_the(power: object) -> float | None:
    number = as_number(power)
    try:
        return None if number is None else math.exp(number)
    except OverflowError:
        return None
