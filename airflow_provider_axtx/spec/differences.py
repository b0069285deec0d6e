"""Compares a stored definition with a new one, so that an experiment is resumed only with its own definition."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_provider_axtx.core.inputs import differing
from airflow_provider_axtx.spec.experiment import ExperimentSpec

#: Fields that may change: they do not influence which trials follow.
_FREE = ("name", "description")


def differences(stored: Mapping[str, Any], given: ExperimentSpec) -> list[str]:
    """Return what differs, one line for each field: ``parameters.c.bounds: stored [0, 1], given [0, 2]``.

    The description, the order of parameters, constraints and tracking metrics, a ``backfill_value`` that is not
    repeated, and fields of another version with their default values do not count.

    :param stored: a definition as the store holds it.
    :raises InvalidInputError: when it cannot be read.
    """
    before, after = _comparable(ExperimentSpec.from_store(stored)), _comparable(given)
    for name, parameter in after["parameters"].items():
        if "backfill_value" not in parameter and "backfill_value" in (known := before["parameters"].get(name, {})):
            parameter["backfill_value"] = known["backfill_value"]
    return differing(before, after, "stored")


def _comparable(spec: ExperimentSpec) -> dict[str, Any]:
    fields = {name: value for name, value in spec.to_json().items() if name not in _FREE}
    fields["parameters"] = {parameter["name"]: parameter for parameter in fields["parameters"]}
    for name in ("parameter_constraints", "outcome_constraints", "tracking_metrics"):
        fields[name] = sorted(fields.get(name, ()))
    return fields
