"""Changes of a definition after trials were generated: what is changed, and what Ax cannot express."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from airflow_provider_axtx.core.inputs import as_object
from airflow_provider_axtx.spec.differences import differences
from airflow_provider_axtx.spec.experiment import ExperimentSpec
from airflow_provider_axtx.spec.parameters import DerivedParameter, ParameterSpec
from airflow_provider_axtx.spec.problems import Problem, closest, raise_for

#: Fields that may change. A list is replaced as a whole; parameters are changed by name and field.
CHANGEABLE = ("parameters", "parameter_constraints", "objective", "outcome_constraints", "tracking_metrics")
#: What may change of a parameter.
_OF_PARAMETER = ("bounds", "step_size", "values", "backfill_value", "frozen_value")
#: Fields with a value for each parameter. A parameter that is added has the value there that earlier trials had.
_FOR_EACH = ("baseline", "pruning_target_parameterization")
#: Lists of texts whose order means nothing.
_ORDERLESS = ("parameter_constraints", "outcome_constraints", "tracking_metrics")
_ANOTHER_NAME = "restore it, or choose another name for the new definition."


def changed_spec(definition: Mapping[str, Any], changes: object, *, has_trials: bool = True) -> ExperimentSpec:
    """Return a definition with changes, checked.

    :param definition: the definition as the store holds it.
    :param changes: the fields that change: ``{"objective": "loss", "parameters": {"x": {"bounds": [0, 2]}}}``. A field
        of a parameter that is null is removed; a parameter that is not there is added.
    :param has_trials: without any trial every change is possible.
    :raises InvalidInputError: names every field that is wrong or that Ax cannot change, its value and the fix.
    """
    given = as_object("changes", changes)
    unknown = [Problem(name, given[name], "cannot be changed", closest(name, CHANGEABLE)) for name in given]
    raise_for("The change", [problem for problem in unknown if problem.path not in CHANGEABLE])
    if not isinstance(given.get("parameters", {}), Mapping):
        fix = 'write {"parameters": {"x": {"bounds": [0, 2]}}}.'
        raise_for("The change", [Problem("parameters", given["parameters"], "is not an object", fix)])
    before = ExperimentSpec.from_store(definition)
    after = ExperimentSpec.load(_merged(before.to_json(), given))
    check_change(before, after, has_trials=has_trials)
    return after


def changes_between(before: ExperimentSpec, after: ExperimentSpec) -> dict[str, Any]:
    """Return the changes that make one definition of another, as ``changed_spec`` reads them."""
    old, new = before.to_json(), after.to_json()
    changes = {
        name: new.get(name, [])
        for name in CHANGEABLE
        if name != "parameters" and _unordered(old.get(name)) != _unordered(new.get(name))
    }
    known = {one["name"]: one for one in old["parameters"]}
    parameters = {one["name"]: _fields_between(known.get(one["name"], {}), one) for one in new["parameters"]}
    if changed := {name: fields for name, fields in parameters.items() if fields}:
        changes["parameters"] = changed
    return changes


def taken_up(before: ExperimentSpec, after: ExperimentSpec, recorded: ExperimentSpec) -> ExperimentSpec:
    """Return a definition with those fields of another one that are recorded already.

    A DAG file that takes up one of several changes by users has nothing to change there: it was refused for good.

    :param before: what a DAG gave last.
    :param after: what the DAG gives now.
    :param recorded: with what users have changed since.
    """
    old, new, known = (spec.to_json() for spec in (before, after, recorded))
    fields = _with_recorded(old, new, known)
    given, wanted, kept = ({one["name"]: one for one in part.pop("parameters")} for part in (old, new, known))
    # A parameter that both have added is compared with the recorded one.
    added = {name: kept[name] for name in wanted if name in kept and name not in given}
    parameters = {**given, **added}
    fields["parameters"] = [
        _with_recorded(one, wanted.get(name, one), kept.get(name, {})) for name, one in parameters.items()
    ]
    return ExperimentSpec.from_store(fields)


def _with_recorded(old: Mapping[str, Any], new: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    names = dict.fromkeys((*old, *new))
    chosen = {name: (new if _is_same(name, new.get(name), known.get(name)) else old).get(name) for name in names}
    return {name: value for name, value in chosen.items() if value is not None}


def _is_same(name: str, one: Any, other: Any) -> bool:
    return bool(one == other or (name in _ORDERLESS and _unordered(one) == _unordered(other)))


def _fields_between(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    names = dict.fromkeys((*old, *new))
    # A definition that does not repeat what earlier trials had means the same.
    kept = {"backfill_value"} if "backfill_value" not in new else set()
    return {name: new.get(name) for name in names if old.get(name) != new.get(name) and name not in kept}


def _unordered(value: Any) -> Any:
    return sorted(value) if isinstance(value, list) else value or []


def _merged(definition: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = {**definition, **{name: value for name, value in changes.items() if name != "parameters"}}
    parameters: dict[str, Any] = {one["name"]: one for one in definition["parameters"]}
    for name, fields in changes.get("parameters", {}).items():
        is_new = name not in parameters
        one = {**parameters.get(name, {}), **as_object(f"parameters.{name}", fields), "name": name}
        parameters[name] = {field: value for field, value in one.items() if value is not None}
        for field in _FOR_EACH if is_new and "backfill_value" in one else ():
            if definition.get(field) is not None:
                merged[field] = {name: one["backfill_value"], **merged[field]}
    return {**merged, "parameters": list(parameters.values())}


def check_change(before: ExperimentSpec, after: ExperimentSpec, *, has_trials: bool) -> None:
    """Check that an experiment may go on with another definition.

    :raises InvalidInputError: names every field that Ax cannot change, its value and the fix.
    """
    if not differences(before.to_json(), after):
        raise_for("The change", [Problem("changes", {}, "changes nothing", "give a value that differs.")])
    if has_trials:
        raise_for("The change", _problems(before, after))


def _problems(before: ExperimentSpec, after: ExperimentSpec) -> Iterator[Problem]:
    """Yield what Ax cannot change once there are trials."""
    old, new = before.to_json(), after.to_json()
    for name in dict.fromkeys((*old, *new)):
        if name in (*CHANGEABLE, *_FOR_EACH, "name", "description") or old.get(name) == new.get(name):
            continue
        yield Problem(name, new.get(name), "cannot be changed once there are trials", _ANOTHER_NAME)
    yield from _problems_of_targets(before, after)
    known = {parameter.name: parameter for parameter in before.parameters}
    given = {parameter.name: parameter for parameter in after.parameters}
    for name in known.keys() - given.keys():
        fix = "keep it, and give it a frozen_value, which every further trial has."
        yield Problem(f"parameters.{name}", None, "cannot be removed: the earlier trials have it", fix)
    for name, parameter in given.items():
        if name in known:
            yield from _problems_of_parameter(known[name], parameter)
        else:
            yield from _problems_of_new(parameter)
    if after.is_hierarchical and given.keys() != known.keys():
        text = "cannot be added beside dependent_parameters"
        yield Problem("parameters", sorted(given), text, "change bounds or values, or choose another name.")


def _problems_of_targets(before: ExperimentSpec, after: ExperimentSpec) -> Iterator[Problem]:
    for field in _FOR_EACH:
        old, new = getattr(before, field), getattr(after, field)
        if old != (new and {name: value for name, value in new.items() if name in old} if old else new):
            yield Problem(field, new, "cannot be changed once there are trials", _ANOTHER_NAME)


def _problems_of_parameter(old: ParameterSpec, new: ParameterSpec) -> Iterator[Problem]:
    before, after = old.model_dump(mode="json"), new.model_dump(mode="json")
    for field in dict.fromkeys((*before, *after)):
        if field not in _OF_PARAMETER and before.get(field) != after.get(field):
            text = f"cannot be changed from {before.get(field)!r} once there are trials"
            yield Problem(f"parameters.{new.name}.{field}", after.get(field), text, _ANOTHER_NAME)
    if before.get("backfill_value") != after.get("backfill_value"):
        text = f"cannot be changed from {before.get('backfill_value')!r}: it says what earlier trials had"
        yield Problem(f"parameters.{new.name}.backfill_value", after.get("backfill_value"), text, "restore it.")


def _problems_of_new(new: ParameterSpec) -> Iterator[Problem]:
    if not isinstance(new, DerivedParameter) and new.backfill_value is None:
        fix = "give the value that the earlier trials had."
        yield Problem(f"parameters.{new.name}.backfill_value", None, "is missing of a parameter that is added", fix)
