"""Checks what users ask of an experiment before it is recorded: on the page, through REST, on the command line."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.core.inputs import shorten
from airflow_provider_axtx.core.records import Parameters, ParameterValue
from airflow_provider_axtx.core.steering import EDITABLE_LIMITS, Action, NewChange
from airflow_provider_axtx.spec.changes import changed_spec
from airflow_provider_axtx.spec.experiment import ExperimentSpec
from airflow_provider_axtx.spec.limits import read_limits
from airflow_provider_axtx.spec.parameterization import carried_over
from airflow_provider_axtx.spec.parameters import DerivedParameter, coerce
from airflow_provider_axtx.spec.problems import closest

MAX_TEXT = 10_000
MAX_TAGS = 20
MAX_TAG = 50


def limits_arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a change of limits.

    :param given: limits by name; None gives a limit back to the DAG. A deadline is a ``datetime`` or ISO text.
    :raises InvalidInputError: names every unusable limit, its value and the fix.
    """
    for name in given:
        if name not in EDITABLE_LIMITS:
            raise InvalidInputError(f"limits.{name} cannot be changed.", fix=closest(name, EDITABLE_LIMITS))
    if not given:
        raise InvalidInputError("No limit is given.", fix=f"give at least one of {', '.join(EDITABLE_LIMITS)}.")
    return {"limits": read_limits(given)}


def queue_arguments(
    definition: Mapping[str, Any],
    given: Mapping[str, Any],
    like: Parameters | None = None,
    *,
    recorded: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the arguments of a trial that is queued by hand.

    :param definition: the experiment's definition as recorded.
    :param like: the parameters of another trial, for those that are not given.
    :param recorded: the arguments of the change that has the request's id already. They are returned for the same
        parameters, also when these do not fit the definition any more.
    :raises InvalidInputError: names every parameter that does not fit the search space, its value and the fix.
    """
    spec = ExperimentSpec.from_store(definition)
    wanted = {**carried_over(spec.parameters, like or {}, given), **given}
    if recorded is not None:
        return dict(recorded) if _is_of(spec, wanted, recorded.get("parameters", {})) else {"parameters": wanted}
    parameters: Parameters = spec.read_parameters(wanted)
    return {"parameters": parameters}


def _is_of(spec: ExperimentSpec, wanted: Mapping[str, Any], recorded: Parameters) -> bool:
    """Return whether a recorded parameterization was read from the wanted one, by a definition that may be gone."""
    computed = {p.name for p in spec.parameters if isinstance(p, DerivedParameter) or p.frozen_value is not None}
    if not recorded.keys() - computed <= wanted.keys() <= recorded.keys():
        return False
    return all(_is_same(wanted[name], recorded[name]) for name in wanted)


def _is_same(given: object, recorded: ParameterValue) -> bool:
    value = coerce(given, type(recorded).__name__)
    if isinstance(value, float) and isinstance(recorded, float):
        return math.isclose(value, recorded, rel_tol=1e-6, abs_tol=1e-15)  # a rounding error was corrected
    return value == recorded


def change_arguments(definition: Mapping[str, Any], given: Mapping[str, Any], *, has_trials: bool) -> dict[str, Any]:
    """Return the arguments of a change of the definition.

    :param definition: the experiment's definition as recorded.
    :param given: see ``changes.changed_spec``.
    :param has_trials: whether the experiment has trials.
    :raises InvalidInputError: names every field that is wrong or that Ax cannot change, its value and the fix.
    """
    changed_spec(definition, given, has_trials=has_trials)
    return {"changes": dict(given)}


def note_arguments(text: str) -> dict[str, Any]:
    """Return the arguments of a note.

    :raises InvalidInputError: when it is empty or too long.
    """
    return {"text": checked_text("The note", text, empty=False)}


def tags_arguments(given: Sequence[str]) -> dict[str, Any]:
    """Return the arguments of a change of tags, each once and in the order given.

    :raises InvalidInputError: names the tag that cannot be used.
    """
    tags = list(dict.fromkeys(tag.strip() for tag in given))
    for tag in tags:
        if not 0 < len(tag) <= MAX_TAG or not tag.isprintable():
            raise InvalidInputError(
                f"The tag {shorten(tag)} cannot be used.", fix=f"write 1 to {MAX_TAG} printable characters."
            )
    if len(tags) > MAX_TAGS:
        raise InvalidInputError(f"{len(tags)} tags are given.", fix=f"give at most {MAX_TAGS}.")
    return {"tags": tags}


def checked_text(what: str, text: str, *, empty: bool = True) -> str:
    """Return a text that a user has written, without blanks at its ends; what no database holds is replaced.

    :param what: name of the text, for the error.
    :param empty: whether it may be empty.
    :raises InvalidInputError: when it is empty or too long.
    """
    text = text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode().strip()
    if len(text) > MAX_TEXT or not (text or empty):
        raise InvalidInputError(
            f"{what} has {len(text)} characters.", fix=f"write {0 if empty else 1} to {MAX_TEXT} characters."
        )
    return text


def new_change(
    action: Action,
    *,
    request_id: str,
    requested_by: str,
    via: str,
    reason: str = "",
    trial_index: int | None = None,
    arguments: dict[str, Any] | None = None,
) -> NewChange:
    """Return a change to be recorded; see ``NewChange``.

    :raises InvalidInputError: for a reason that is too long.
    """
    reason = checked_text("The reason", reason)
    return NewChange(action, request_id, requested_by, via, reason, trial_index, arguments or {})
