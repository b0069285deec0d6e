"""What an app reported, read as Ax's ``TorchXMetric`` reads it: ``name``, or ``name/mean`` and ``name/sem``."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from airflow_provider_axtx.core.errors import InvalidResultError
from airflow_provider_axtx.core.inputs import shorten
from airflow_provider_axtx.core.numbers import as_number, finite
from airflow_provider_axtx.spec.expressions import MAX_METRIC_NAME, is_metric_name
from airflow_provider_axtx.spec.problems import Problem

_MEAN, _SEM = "/mean", "/sem"
#: Names in an error message.
_SHOWN = 50
#: Metrics of one trial, or of one step; further ones are left out.
MAX_METRICS = 1000


def names_in(reported: Mapping[str, object]) -> list[str]:
    """Return the reported metrics in order, whether or not their values are usable."""
    names = dict.fromkeys(
        key.removesuffix(_MEAN) for key in map(str, reported) if not key.endswith(_SEM) or key == _SEM
    )
    return [name for name in names if name]


def with_numbers(given: Mapping[str, object]) -> dict[str, object]:
    """Return results that a template or a form may have turned into text: the text of a number becomes the number."""
    return {name: value if (number := _number_in(value)) is None else number for name, value in given.items()}


def _number_in(value: object) -> float | None:
    return as_number(value) if isinstance(value, str) else None


def read(reported: Mapping[str, object], required: Iterable[str]) -> dict[str, tuple[float, float | None]]:
    """Return ``{metric: (mean, sem)}`` of all usable metrics; ``sem`` None means unknown.

    :param reported: what the app wrote.
    :param required: metrics that must be reported; another one is left out unless it is a finite number.
    :raises InvalidResultError: when a required metric is missing, not a finite number, or has an impossible SEM.
    """
    problems: list[Problem] = []
    results: dict[str, tuple[float, float | None]] = {}
    wanted = dict.fromkeys(required)
    for name in dict.fromkeys((*wanted, *names_in(reported)[:MAX_METRICS])):
        found = _metric(reported, name)
        if isinstance(found, Problem):
            problems.extend([found] if name in wanted else [])
        else:
            results[name] = found
    if problems:
        text = " ".join(str(p) for p in problems)
        names = ", ".join(map(ascii_if_odd, names_in(reported)[:_SHOWN])) or "nothing"
        raise InvalidResultError(f"{text} The app reported: {names}.", fix=" ".join({p.fix: None for p in problems}))
    return results


def unusable(reported: Mapping[str, object], required: Iterable[str]) -> list[str]:
    """Return why each metric that is not required was left out; empty when none was."""
    skip = set(required)
    names = names_in(reported)
    found = (_metric(reported, name) for name in names[:MAX_METRICS] if name not in skip)
    problems = [str(problem) for problem in found if isinstance(problem, Problem)]
    if len(names) > MAX_METRICS:
        problems.append(f"{len(names) - MAX_METRICS} metrics after the first {MAX_METRICS} are left out.")
    return problems


def ascii_if_odd(name: str) -> str:
    """Return a metric's name for a message: one with characters that do not print is written as Python writes it."""
    return name if is_metric_name(name) else shorten(name)


def _metric(reported: Mapping[str, object], name: str) -> tuple[float, float | None] | Problem:
    if not is_metric_name(name):
        fix = f"use at most {MAX_METRIC_NAME} printable characters, without spaces at the ends."
        return Problem("a metric", name, "cannot have this name", fix)
    if name in reported:
        key, value, sem = name, reported[name], None
    else:
        key, value, sem = f"{name}{_MEAN}", reported.get(f"{name}{_MEAN}"), reported.get(f"{name}{_SEM}")
    if value is None:
        fix = f"have the app report {name!r}, or {name + _MEAN!r} and {name + _SEM!r}, to the tracker."
        return Problem(f"metric {name!r}", None, "was not reported", fix)
    mean = finite(value)
    if mean is None:
        return Problem(f"metric {key!r}", value, "is not a finite number", "have the app report a finite number.")
    # A standard error of NaN is what a single sample gives; Ax takes it for "unknown" and infers the noise.
    if sem is None or (isinstance(sem, float) and math.isnan(sem)):
        return mean, None
    error = finite(sem)
    if error is None or error < 0:
        fix = "report a finite standard error of 0 or more, or leave it out when it is unknown."
        return Problem(f"metric {name + _SEM!r}", sem, "is not a standard error", fix)
    return mean, error
