"""Checks the part of a definition that is known when a DAG file is parsed, while other fields are templates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_provider_axtx.core.inputs import is_templated
from airflow_provider_axtx.spec.experiment import ExperimentSpec

_OBJECTIVE = ("objective", "objectives", "objective_name", "minimize")
#: Fields that are judged together with the metrics of the objective.
_OF_METRICS = ("outcome_constraints", "tracking_metrics", "tracking_metric_names", "early_stopping", "global_stopping")
#: Fields that are judged together with the parameters.
_OF_PARAMETERS = ("parameter_constraints", "baseline", "pruning_target_parameterization")


def check_known(given: Mapping[str, Any]) -> None:
    """Check the fields of a definition that hold no template.

    :param given: a definition as an object; any field of it, or a part of one, may be a template.
    :raises InvalidInputError: lists every mistake in the other fields.
    """
    if any(map(is_templated, given)):
        return  # Which fields there are is not known either.
    known = {name: value for name, value in given.items() if not is_templated(value)}
    unknown = given.keys() - known.keys()
    if "name" in unknown:
        known["name"] = "templated"
    if unknown & {*_OBJECTIVE}:
        known = {name: value for name, value in known.items() if name not in (*_OBJECTIVE, *_OF_METRICS)}
        known["objective"] = "templated"
    if "parameters" in unknown:
        known = {name: value for name, value in known.items() if name not in _OF_PARAMETERS}
        known["parameters"] = _with_placeholders(given["parameters"])
    ExperimentSpec.load(known)


def _with_placeholders(parameters: Any) -> list[Any]:
    """Return the parameters with a placeholder for each one that holds a template, at the same place."""
    if not isinstance(parameters, (list, tuple)):
        parameters = ["{{ all of them }}"]
    return [_placeholder(i, one) if is_templated(one) else one for i, one in enumerate(parameters)]


def _placeholder(index: int, parameter: Any) -> dict[str, Any]:
    name = parameter.get("name") if isinstance(parameter, Mapping) else None
    known = isinstance(name, str) and not is_templated(name)
    return {
        "type": "range",
        "name": name if known else f"templated_{index}",
        "bounds": [0, 1],
        "parameter_type": "float",
    }
