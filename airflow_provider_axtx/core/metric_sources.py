"""Where the metrics of a program are read that reports nothing by itself: its output, its files, its MLflow run.

Standard library only, but for the check of a pattern: DAG files load this module.
"""

from __future__ import annotations

import difflib
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from airflow_provider_axtx.core.command_line import placeholders
from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.core.inputs import shorten
from airflow_provider_axtx.core.numbers import as_number

Kind = Literal["regex", "json", "csv", "tensorboard", "mlflow"]
KINDS: tuple[Kind, ...] = ("regex", "json", "csv", "tensorboard", "mlflow")
#: Those that read files in the tracker base of the attempt.
_FILES = ("json", "csv", "tensorboard")
#: Which of several values counts as the final one; a number names a step.
TAKES = ("last", "max", "min")
#: The only placeholders in the path of a file.
_IN_PATHS = ("trial_idx", "experiment_name")
_OPTIONS: dict[Kind, tuple[str, ...]] = {
    "regex": ("take",),
    "json": ("key", "step", "take"),
    "csv": ("key", "step", "take"),
    "tensorboard": ("key", "take"),
    "mlflow": ("tracking_uri", "take"),
}
_EXAMPLE = (
    '{"accuracy": {"regex": r"val_acc=([0-9.eE+-]+)"}} or {"accuracy": {"json": "results.json", "key": "val.acc"}}'
)


@dataclass(frozen=True)
class MetricSource:
    """Where one metric is read.

    :param kind: ``regex`` reads the app's output; ``json``, ``csv`` and ``tensorboard`` read files; ``mlflow`` the
        attempt's run in MLflow.
    :param place: the pattern; or the file or folder, relative to the attempt's tracker base; or the metric in MLflow.
    :param key: field, column or tag.
    :param step: field or column with the step; in a pattern it is the group ``step``.
    :param take: ``last``, ``max`` or ``min`` of several values, or the step whose value counts.
    :param tracking_uri: address of the MLflow server; None means that of the environment variable
        ``MLFLOW_TRACKING_URI``.
    """

    kind: Kind
    place: str
    key: str
    step: str | None = None
    take: str | float = "last"
    tracking_uri: str | None = None

    @property
    def has_steps(self) -> bool:
        """Whether it may give a curve."""
        return (
            self.kind in ("tensorboard", "mlflow")
            or self.step is not None
            or re.search(r"\(\?P?<step>", self.place) is not None
        )


def load_metrics(given: object) -> dict[str, MetricSource]:
    """Read the argument ``metrics`` of an operator, or what is recorded of it.

    :param given: ``{metric: {"regex": pattern}}``, or with ``json``, ``csv`` or ``tensorboard``; None and
        an empty object are no sources.
    :raises InvalidInputError: names the metric, the field, its value and the fix.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping) or not all(isinstance(name, str) and name for name in given):
        raise InvalidInputError(
            f"metrics must be an object with a source for each metric, not {shorten(given)}.",
            fix=f"write for example {_EXAMPLE}.",
        )
    return {name: _source(name, value) for name, value in given.items()}


def check_metrics(given: object, *, tracker_base_shared: bool = False) -> dict[str, Any] | None:
    """Return the argument ``metrics`` of an operator as it is recorded, or None when nothing is given.

    :param tracker_base_shared: whether all attempts have the same tracker base.
    :raises InvalidInputError: see ``load_metrics``; also for files in a shared tracker base, where a file of an earlier
        attempt could be read as this one's.
    """
    sources = load_metrics(given)
    _check_one_server(sources)
    files = [name for name, source in sources.items() if source.kind in _FILES]
    if files and tracker_base_shared:
        raise InvalidInputError(
            f"metrics[{files[0]!r}] is read from a file, but all attempts share one folder (tracker_base_shared).",
            fix="leave tracker_base_shared out, so that each attempt has a folder of its own.",
        )
    return {name: dict(source) for name, source in given.items()} if isinstance(given, Mapping) and given else None


def _source(metric: str, given: object) -> MetricSource:
    kinds = [kind for kind in KINDS if isinstance(given, Mapping) and kind in given]
    if not isinstance(given, Mapping) or len(kinds) != 1:
        raise InvalidInputError(
            f"metrics[{metric!r}] must name one of {', '.join(KINDS)}, not {shorten(given)}.",
            fix=f"write for example {_EXAMPLE}.",
        )
    kind, place = kinds[0], given[kinds[0]]
    known = (kind, *_OPTIONS[kind])
    for option in given:
        if option not in known:
            near = difflib.get_close_matches(str(option), known, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise _problem(metric, option, given[option], f"{hint}known: {', '.join(known)}")
    if not isinstance(place, str) or not place:
        raise _problem(metric, kind, place, "write it as text")
    texts = {name: given.get(name) for name in ("key", "step", "tracking_uri")}
    for name, text in texts.items():
        if text is not None and not (isinstance(text, str) and text):
            raise _problem(metric, name, text, "write it as text, or leave it out")
    if kind == "regex":
        _check_pattern(metric, place)
    elif kind == "mlflow":
        _check_server(metric, texts["tracking_uri"])
    else:
        _check_path(metric, kind, place)
    return MetricSource(kind, place, texts["key"] or metric, texts["step"], _take(metric, given), texts["tracking_uri"])


def _check_server(metric: str, uri: str | None) -> None:
    """Refuse the address of a server with a password: it is recorded with the experiment."""
    if uri is not None and "@" in uri.partition("://")[2].partition("/")[0]:
        fix = "leave user and password out, and set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        raise _problem(metric, "tracking_uri", "an address with a password", fix)


def _check_one_server(sources: Mapping[str, MetricSource]) -> None:
    """Refuse two MLflow servers: an app logs to one run."""
    uris = {source.tracking_uri: name for name, source in sources.items() if source.kind == "mlflow"}
    if len(uris) > 1:
        name = list(uris.values())[-1]
        raise _problem(name, "tracking_uri", sources[name].tracking_uri, "give all metrics of kind mlflow the same one")


def _take(metric: str, given: Mapping[str, Any]) -> str | float:
    take = given.get("take", "last")
    if isinstance(take, str) and take in TAKES:
        return take
    number = None if isinstance(take, str) else as_number(take)
    if number is None:
        raise _problem(metric, "take", take, f"one of {', '.join(TAKES)}, or the number of a step")
    return number


def _check_pattern(metric: str, pattern: str) -> None:
    import regex

    try:
        compiled = regex.compile(pattern)
    except (regex.error, ValueError) as error:
        raise _problem(metric, "regex", pattern, f"correct the pattern: {error}") from error
    if value_group(compiled) is None:
        raise _problem(metric, "regex", pattern, "put the number in parentheses, such as val_acc=([0-9.eE+-]+)")


def value_group(compiled: Any) -> int | None:
    """Return the group of a compiled pattern that holds the value: ``value``, else the first that is not ``step``."""
    named: Mapping[str, int] = compiled.groupindex
    if "value" in named:
        return named["value"]
    return next((number for number in range(1, compiled.groups + 1) if number != named.get("step")), None)


def _check_path(metric: str, kind: str, place: str) -> None:
    """Refuse a path that leaves the attempt's own folder: a file there may be an earlier attempt's."""
    fix = (
        'name a file in the tracker base of the attempt, such as "results.json", and let the program write it there: '
        'pass --out={tracker_base}, or the component argument cwd="{tracker_base}"'
    )
    if place.startswith(("/", "~")) or "://" in place or "\0" in place or ".." in posixpath.normpath(place).split("/"):
        raise _problem(metric, kind, place, fix)
    for name in placeholders(place):
        if name not in _IN_PATHS:
            raise _problem(metric, kind, place, f"known placeholders are {', '.join(_IN_PATHS)}")


def _problem(metric: str, field: object, value: object, fix: str) -> InvalidInputError:
    return InvalidInputError(f"metrics[{metric!r}]: {field} must not be {shorten(value)}.", fix=f"{fix}.")


@dataclass
class Measured:
    """What was read.

    :param values: the final value of each metric that was found; NaN and infinity are values here.
    :param steps: by step, the value of each metric.
    :param missing: why there is no value, for each metric without one.
    """

    values: dict[str, float] = field(default_factory=dict)
    steps: dict[float, dict[str, float]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
