"""Reading operator arguments that a Jinja template or a UI form may have turned into strings."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any, Protocol, TypeAlias, TypeVar

from pydantic import TypeAdapter, ValidationError

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.core.experiment_name import EXPERIMENT_NAME_FIX, fitted_name, is_experiment_name
from airflow_provider_axtx.core.numbers import as_number, as_whole

_T = TypeVar("_T")
_DURATION: TypeAdapter[timedelta] = TypeAdapter(timedelta)

#: Seconds between two polls of an app unless an operator is told otherwise.
DEFAULT_INTERVAL = 10.0


#: The largest count: what every database stores as a whole number.
MAX_COUNT = 2**31 - 1
#: The longest duration: Python cannot sleep for much longer.
MAX_SECONDS = 1e9
#: Texts that are booleans.
FLAGS = {"true": True, "false": False}


class Resolvable(Protocol):
    """A value that Airflow computes when the task starts: an ``XComArg``, a ``DagParam``, a mapped argument."""

    def resolve(self, context: Any) -> Any:
        """Return the value; Airflow calls this with the task's context."""


#: The type of a templated operator argument: a value, the Jinja template of one, or what Airflow resolves to one.
#: Write ``Templated[int]``.
Templated: TypeAlias = _T | str | Resolvable
#: A TorchX component as operators take it: a name, ``file.py:function``, ``module:function``, or the function itself.
ComponentRef: TypeAlias = str | Callable[..., Any] | Resolvable


def is_templated(value: object) -> bool:
    """Return whether ``value`` is unknown while the DAG is parsed: it holds a template, or comes from another task."""
    if isinstance(value, str):
        return "{{" in value or "{%" in value or "{#" in value
    if isinstance(value, Mapping):
        return any(is_templated(v) for pair in value.items() for v in pair)
    if isinstance(value, (list, tuple, set, frozenset)):
        return any(is_templated(v) for v in value)
    # An XComArg, a DagParam and every other resolvable of Airflow has `resolve`; the task's start reveals its value.
    return hasattr(value, "resolve") and callable(value.resolve)


def as_object(field: str, value: object) -> dict[str, Any]:
    """Return ``value`` as a JSON object; a JSON string is parsed; what is not given is an empty object.

    :param field: the argument's name, for the error. The value of ``scheduler_args`` is not shown, because it may hold
        a secret.
    :raises InvalidInputError: when it is neither an object nor the text of one.
    """
    if not is_given(value):
        return {}
    shown = "" if field == "scheduler_args" else f": {shorten(value)}"
    if isinstance(value, str):
        try:
            value = read_json(value)
        except ValueError as error:
            raise InvalidInputError(
                f"{field} is not valid JSON ({error}){shown}.",
                fix=f"pass a dict, the output of the task before, or a template that ends in '| tojson' for {field}.",
            ) from error
    if not isinstance(value, Mapping):
        raise InvalidInputError(
            f"{field} must be an object, not {type(value).__name__}{shown}.",
            fix=f"pass a dict or a JSON object for {field}.",
        )
    return dict(value)


def read_json(text: str) -> Any:
    """Return the value of a JSON text.

    :raises ValueError: when it is none, also when it is nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def as_int(field: str, value: object, *, minimum: int) -> int:
    """Return ``value`` as a whole number from ``minimum`` to ``MAX_COUNT``; the text of one is read.

    :param field: the argument's name, for the error.
    :raises InvalidInputError: when it is not one.
    """
    number = as_whole(value)
    if number is None or number < minimum:
        raise InvalidInputError(
            f"{field} must be a whole number of at least {minimum}, not {shorten(value)}.",
            fix=f"set {field} to {minimum} or more.",
        )
    if number > MAX_COUNT:
        raise InvalidInputError(
            f"{field} must be at most {MAX_COUNT}, not {shorten(value)}.", fix=f"set {field} to {MAX_COUNT} or less."
        )
    return number


def as_seconds(field: str, value: object) -> float:
    """Return a duration above 0 in seconds.

    :param field: the argument's name, for the error.
    :param value: a number of seconds, its text, or a ``timedelta``.
    :raises InvalidInputError: when it is none of these, or not above 0.
    """
    seconds = seconds_in(value)
    if seconds is None:
        raise InvalidInputError(
            f"{field} must be a number of seconds above 0 and up to {MAX_SECONDS:g} (31 years), or a timedelta, not "
            f"{shorten(value)}.",
            fix=f"set {field}, for example to 10.",
        )
    return seconds


def as_interval(name: str, value: object, other_name: str, other: object) -> float:
    """Return the seconds between two polls, which operators take under two names.

    :param name: the name that the operator documents.
    :param value: what was given under it, or its default.
    :param other_name: the other name.
    :param other: what was given under that; None when it was not.
    :raises InvalidInputError: when it is not a duration above 0, or both are given and differ.
    """
    seconds = as_seconds(name, value)
    if other is None:
        return seconds
    otherwise = as_seconds(other_name, other)
    if seconds not in (otherwise, DEFAULT_INTERVAL):
        raise InvalidInputError(
            f"{name} is {shorten(value)} and {other_name} is {shorten(other)}, which is the same argument.",
            fix="give one of them.",
        )
    return otherwise


def seconds_in(value: object) -> float | None:
    """Return a duration (a number of seconds, its text, or a ``timedelta``) in seconds.

    None unless it is above 0 and at most ``MAX_SECONDS``.
    """
    seconds = as_number(value.total_seconds() if isinstance(value, timedelta) else value)
    return seconds if seconds is not None and 0 < seconds <= MAX_SECONDS else None


def as_duration(field: str, value: object) -> float:
    """Return a duration above 0 in seconds, also of a text such as ``90d``, ``12:00:00`` or ``PT12H`` (ISO 8601).

    :param field: the argument's name, for the error.
    :raises InvalidInputError: when it is not one, or not above 0.
    """
    seconds = seconds_in(value)
    if seconds is None and isinstance(value, str):
        with contextlib.suppress(ValidationError):
            seconds = seconds_in(_DURATION.validate_python(value.strip()))
    if seconds is None:
        raise InvalidInputError(
            f"{field} must be a duration above 0, not {shorten(value)}.",
            fix=f"set {field}, for example to 90d (days), PT12H (hours) or 3600 (seconds).",
        )
    return seconds


def is_given(value: object) -> bool:
    """Return whether an argument has a value. None, ``""`` and ``"None"`` (a template's None) mean "not given"."""
    return not (value is None or (isinstance(value, str) and value.strip() in ("", "None")))


def given_or(default: _T, value: object) -> Any:
    """Return an argument, or its default when it is not given (``is_given``)."""
    return value if is_given(value) else default


def as_text(field: str, value: object) -> str:
    """Return ``value`` as text; a number or a boolean, as a template may give it, is written out.

    :param field: the argument's name, for the error.
    :raises InvalidInputError: when it is not given, or neither text nor a number.
    """
    if not is_given(value):
        raise InvalidInputError(f"{field} is not given ({value!r}).", fix=f"set {field}.")
    if not isinstance(value, (str, int, float)):
        raise InvalidInputError(f"{field} must be text, not {shorten(value)}.", fix=f"set {field} to a text.")
    return str(value)


def as_experiment_name(field: str, value: object) -> str:
    """Return the name of an experiment as an operator was given it; one that is too long is cut (``fitted_name``).

    :param field: the argument's name, for the error.
    :raises InvalidInputError: when no experiment can have this name.
    """
    name = fitted_name(as_text(field, value))
    if not is_experiment_name(name):
        raise InvalidInputError(f"{field} cannot be {shorten(value)}.", fix=EXPERIMENT_NAME_FIX)
    return name


def as_flag(field: str, value: object) -> bool:
    """Return ``value`` as a boolean; the texts ``true`` and ``false`` are read, in capitals too.

    :param field: the argument's name, for the error.
    :raises InvalidInputError: when it is neither.
    """
    if isinstance(value, str):
        value = FLAGS.get(value.strip().lower(), value)
    if not isinstance(value, bool):
        raise InvalidInputError(f"{field} must be True or False, not {shorten(value)}.", fix=f"set {field} to either.")
    return value


def as_choice(field: str, value: object, choices: tuple[_T, ...]) -> _T:
    """Return the one of ``choices`` that equals ``value``.

    :raises InvalidInputError: when there is none; the message lists them.
    """
    for choice in choices:
        if value == choice:
            return choice
    raise InvalidInputError(f"{field} must not be {value!r}.", fix=f"one of {', '.join(map(repr, choices))}.")


def shorten(value: object, length: int = 200) -> str:
    """Return ``repr(value)``, cut to ``length`` characters: an error message must not hold a whole search space."""
    text = repr(value)
    return text if len(text) <= length else f"{text[:length]}… ({len(text)} characters)"


def differing(before: Mapping[str, Any], given: Mapping[str, Any], what: str) -> list[str]:
    """Return what differs between two JSON objects, one line for each field: ``bounds: stored [0, 1], given [0, 2]``.

    Only the parts of nested objects and of lists that differ are named.

    :param before: the one that is known.
    :param what: what is said of its values: ``stored``, ``recorded``.
    """
    return list(_differing(before, given, what, ""))


def _differing(before: Any, given: Any, what: str, path: str) -> Iterator[str]:
    if before == given:
        return
    if isinstance(before, Mapping) and isinstance(given, Mapping):
        for name in dict.fromkeys((*before, *given)):
            yield from _differing(before.get(name), given.get(name), what, f"{path}.{name}" if path else name)
    elif isinstance(before, list) and isinstance(given, list) and len(before) == len(given) > 3:
        for i, (one, other) in enumerate(zip(before, given, strict=True)):
            yield from _differing(one, other, what, f"{path}[{i}]")
    else:
        yield f"{path}: {what} {_json_text(before)}, given {_json_text(given)}"


def _json_text(value: Any) -> str:
    return "nothing" if value is None else shorten(value) if isinstance(value, str) else json.dumps(value)[:200]
