"""The keys of Ax's older service API (``AxClient.create_experiment``), rewritten to those of the current one.

The documentation of TorchX and of Ax's TorchXRunner uses them, and so do many existing experiments.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from airflow_provider_axtx.spec.expressions import metric_name_problem
from airflow_provider_axtx.spec.problems import Problem

_TYPE_BY_KEY = {"bounds": "range", "values": "choice", "value": "fixed", "expression_str": "derived"}
_RENAMED = {"value_type": "parameter_type", "dependents": "dependent_parameters"}
#: Keys without an equivalent; harmless when their value is None or False, which is their default.
_NO_FIDELITY = (
    "Ax's client takes no fidelity parameter. Give the full length in component_args, let the app report progress, and "
    'set early_stopping to {"type": "successive_halving"}: most trials then end at a small budget.'
)
_UNSUPPORTED = {
    "is_fidelity": _NO_FIDELITY,
    "target_value": f"It belongs to a fidelity or task parameter. {_NO_FIDELITY}",
    "is_task": "task parameters are not supported; use a plain choice parameter.",
    "digits": "Ax's current API has no rounding; use step_size, or round in the component.",
    "logit_scale": "Ax's current API has no logit scaling; use scaling 'log' or 'linear'.",
}


def modernize(spec: Mapping[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """Return the spec in the keys of Ax's current API, and what could not be rewritten.

    :param spec: an experiment spec as an object, in either API's keys.
    """
    new = dict(spec)
    problems: list[Problem] = []
    if "tracking_metric_names" in new:
        _rename(new, "tracking_metric_names", "tracking_metrics", "", problems)
    if "objectives" in new:
        _rewrite_objectives(new, problems)
    if "objective_name" in new:
        _rewrite_objective_name(new, problems)
    if isinstance(new.get("parameters"), (list, tuple)):
        new["parameters"] = [
            _rewritten_parameter(p, f"parameters[{i}]", problems) if isinstance(p, Mapping) else p
            for i, p in enumerate(new["parameters"])
        ]
    return new, problems


def _rename(values: dict[str, Any], old: str, new: str, path: str, problems: list[Problem]) -> None:
    value = values.pop(old)
    if new in values:
        problems.append(Problem(f"{path}{old}", value, f"is given together with {new}", "give one of them."))
    else:
        values[new] = value


def _rewrite_objectives(spec: dict[str, Any], problems: list[Problem]) -> None:
    given = spec.pop("objectives")
    if not isinstance(given, Mapping) or not given or not all(isinstance(v, Mapping) for v in given.values()):
        fix = 'write {"<metric>": {"minimize": true}, ...}, or objective: "-<metric>".'
        problems.append(Problem("objectives", given, "is not an object of objects", fix))
        return
    if "objective" in spec:
        problems.append(Problem("objectives", given, "is given together with objective", "give one of them."))
        return
    thresholds = []
    for name, properties in given.items():
        path = f"objectives.{name}"
        problems.extend(_name_problems(path, name))
        for key in set(properties) - {"minimize", "threshold"}:
            problems.append(Problem(f"{path}.{key}", properties[key], "unknown key", "Known: minimize, threshold."))
        if not isinstance(properties.get("minimize"), bool):
            problems.append(Problem(f"{path}.minimize", properties.get("minimize"), "is missing", "true or false."))
        if properties.get("threshold") is not None:
            thresholds.append(f"{name} {'<=' if properties.get('minimize') else '>='} {properties['threshold']}")
    spec["objective"] = ", ".join(f"-{n}" if p.get("minimize") else str(n) for n, p in given.items())
    if thresholds:
        spec["outcome_constraints"] = [*(spec.get("outcome_constraints") or ()), *thresholds]


def _rewrite_objective_name(spec: dict[str, Any], problems: list[Problem]) -> None:
    name, minimize = spec.pop("objective_name"), spec.pop("minimize", False)
    if "objective" in spec:
        problems.append(Problem("objective_name", name, "is given together with objective", "give one of them."))
    elif not isinstance(minimize, bool):
        problems.append(Problem("minimize", minimize, "is neither true nor false", "write true or false."))
    else:
        problems.extend(_name_problems("objective_name", name))
        spec["objective"] = f"-{name}" if minimize else name


def _name_problems(path: str, name: object) -> Iterator[Problem]:
    """Yield why Ax would read something else than this metric's name."""
    if why := metric_name_problem(str(name)):
        yield Problem(path, name, *why)


def _rewritten_parameter(given: Mapping[str, Any], path: str, problems: list[Problem]) -> dict[str, Any]:
    new = dict(given)
    for old, key in _RENAMED.items():
        if old in new:
            _rename(new, old, key, f"{path}.", problems)
    for key, why in _UNSUPPORTED.items():
        value = new.pop(key, None)
        if value not in (None, False):
            problems.append(Problem(f"{path}.{key}", value, "is not supported", why))
    if "type" not in new:
        new["type"] = next((kind for key, kind in _TYPE_BY_KEY.items() if key in new), None)
        if new["type"] is None:
            del new["type"]
    _rewrite_scaling(new, path, problems)
    if new.get("type") == "fixed":
        _rewrite_fixed(new)
    if new.get("type") == "choice":
        _rewrite_choice(new, path, problems)
    return new


def _rewrite_scaling(new: dict[str, Any], path: str, problems: list[Problem]) -> None:
    log_scale = new.pop("log_scale", None)
    if log_scale is None:
        return
    if not isinstance(log_scale, bool):
        problems.append(Problem(f"{path}.log_scale", log_scale, "is neither true nor false", "write true or false."))
    elif new.get("scaling") is not None:
        problems.append(Problem(f"{path}.log_scale", log_scale, "is given together with scaling", "give one of them."))
    elif new.get("type") == "range":
        new["scaling"] = "log" if log_scale else "linear"
    elif log_scale:
        fix = "Ax decides it from the values; remove the key."
        problems.append(Problem(f"{path}.log_scale", log_scale, "is for range parameters only", fix))


def _rewrite_fixed(new: dict[str, Any]) -> None:
    new["type"] = "choice"
    if "value" in new:
        new["values"] = [new.pop("value")]


def _rewrite_choice(new: dict[str, Any], path: str, problems: list[Problem]) -> None:
    values = new.get("values")
    if "parameter_type" not in new and isinstance(values, (list, tuple)):
        kinds = {type(v) for v in values}
        known = {kind: kind.__name__ for kind in (bool, int, float, str)}
        if len(kinds) == 1 and kinds <= set(known):
            new["parameter_type"] = known[kinds.pop()]
        elif kinds == {int, float}:
            new["parameter_type"] = "float"
    sort_values = new.pop("sort_values", None)
    if sort_values is not None and sort_values != (new.get("parameter_type") != "str"):
        fix = "Ax's current API sorts numbers and keeps the order of strings; remove the key."
        problems.append(Problem(f"{path}.sort_values", sort_values, "is not supported", fix))
