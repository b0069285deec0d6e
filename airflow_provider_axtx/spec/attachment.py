"""Trials that a user attaches by hand: read from objects, JSON or rows of a table, and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_provider_axtx.core.errors import InvalidInputError, InvalidResultError
from airflow_provider_axtx.core.inputs import read_json, shorten
from airflow_provider_axtx.core.records import Parameters
from airflow_provider_axtx.spec.experiment import ExperimentSpec
from airflow_provider_axtx.spec.problems import closest
from airflow_provider_axtx.spec.reported import with_numbers

_KEYS = ("parameters", "results", "baseline")
#: Column of a table that marks the baseline's row.
BASELINE_COLUMN = "baseline"
_MARKS = {"": False, "0": False, "no": False, "false": False, "1": True, "yes": True, "true": True}


@dataclass(frozen=True)
class Attachment:
    """One trial to be attached, checked.

    :param parameters: the parameterization.
    :param results: metric -> (mean, SEM or None); None means that the trial has still to be run.
    :param baseline: whether the trial is the experiment's baseline.
    """

    parameters: Parameters
    results: dict[str, tuple[float, float | None]] | None = None
    baseline: bool = False


def read_trials(spec: ExperimentSpec, given: object) -> list[Attachment]:
    """Return the trials of a list of objects, one object, or the JSON text of either.

    :param given: each ``{"parameters": {...}, "results": {...}, "baseline": false}``, or a parameterization alone.
    :raises InvalidInputError: names the entry, the field, the value and the fix.
    """
    entries = _entries(given)
    names = {parameter.name for parameter in spec.parameters}
    # A parameterization may have a parameter of that name.
    wrapped = [e if "parameters" in e and "parameters" not in names else {"parameters": e} for e in entries]
    return _with_one_baseline([_attachment(spec, entry, f"trials[{i}]") for i, entry in enumerate(wrapped)])


def read_rows(spec: ExperimentSpec, rows: Sequence[Mapping[str, Any]]) -> list[Attachment]:
    """Return the trials of a table: a column for each parameter and metric, and optionally a column ``baseline``.

    An empty cell means that there is no value. A metric has the column ``m``, or the columns ``m/mean`` and ``m/sem``.

    :raises InvalidInputError: names the row, the column, the value and the fix.
    """
    parameters = [parameter.name for parameter in spec.parameters]
    metrics = [column for name in spec.metric_names for column in (name, f"{name}/mean", f"{name}/sem")]
    attachments = []
    for i, row in enumerate(rows):
        path, cells = f"table[{i}]", {str(k): v for k, v in row.items() if v is not None and v != ""}
        mark = cells.pop(BASELINE_COLUMN, "") if BASELINE_COLUMN not in parameters else ""
        if unknown := sorted(set(cells) - {*parameters, *metrics}):
            raise InvalidInputError(
                f"{path}: column {unknown[0]!r} names neither a parameter nor a metric of experiment {spec.name!r}.",
                fix=closest(unknown[0], [*parameters, *spec.metric_names, BASELINE_COLUMN]),
            )
        entry = {
            "parameters": {name: cells[name] for name in parameters if name in cells},
            "results": {name: cells[name] for name in metrics if name in cells},
            "baseline": _MARKS.get(str(mark).strip().lower(), mark),
        }
        attachments.append(_attachment(spec, entry, path))
    return _with_one_baseline(attachments)


def _entries(given: object) -> list[Mapping[str, Any]]:
    if isinstance(given, str):
        try:
            given = read_json(given)
        except ValueError as error:
            raise InvalidInputError(
                f"trials is not valid JSON ({error}): {shorten(given)}.",
                fix="pass a list of objects, or a template that ends in '| tojson'.",
            ) from error
    entries = [given] if isinstance(given, Mapping) else given
    if not isinstance(entries, (list, tuple)) or not all(isinstance(entry, Mapping) for entry in entries):
        raise InvalidInputError(
            f"trials must be a list of objects, not {shorten(given)}.",
            fix='write [{"parameters": {...}, "results": {...}}, ...].',
        )
    return list(entries)


def _attachment(spec: ExperimentSpec, entry: Mapping[str, Any], path: str) -> Attachment:
    for key in entry:
        if key not in _KEYS:
            raise InvalidInputError(f"{path}.{key}: unknown key.", fix=closest(key, _KEYS))
    results, baseline = entry.get("results") or None, entry.get("baseline", False)
    for name, value in (("parameters", entry["parameters"]), ("results", results or {})):
        if not isinstance(value, Mapping):
            raise InvalidInputError(
                f"{path}.{name} must be an object, not {shorten(value)}.", fix="write an object of values by name."
            )
    if not isinstance(baseline, bool):
        raise InvalidInputError(f"{path}.baseline must be true or false, not {baseline!r}.", fix="write true or false.")
    parameters = spec.read_parameters(entry["parameters"], f"{path}.parameters")
    try:
        return Attachment(parameters, None if results is None else spec.check_results(with_numbers(results)), baseline)
    except InvalidResultError as error:
        raise InvalidInputError(f"{path}.results: {error.message}", fix=error.fix) from error


def _with_one_baseline(attachments: list[Attachment]) -> list[Attachment]:
    if sum(attachment.baseline for attachment in attachments) > 1:
        raise InvalidInputError("Two trials are marked as the baseline.", fix="mark one of them.")
    return attachments
