"""Optuna's search spaces: ``{"lr": distribution}`` in the JSON form of ``optuna.distributions``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from airflow_provider_axtx.spec.convert.source import Foreign, reachable
from airflow_provider_axtx.spec.problems import closest

#: The type of values and whether they are logarithmic, for each class; also those that Optuna 3 has deprecated.
_RANGES: dict[str, tuple[type[int] | type[float], bool]] = {
    "FloatDistribution": (float, False),
    "IntDistribution": (int, False),
    "UniformDistribution": (float, False),
    "LogUniformDistribution": (float, True),
    "DiscreteUniformDistribution": (float, False),
    "IntUniformDistribution": (int, False),
    "IntLogUniformDistribution": (int, True),
}
_CHOICE = "CategoricalDistribution"
#: The classes behind the short form ``{"type": "float", "low": 0, "high": 1}``.
_SHORT = {"float": "FloatDistribution", "int": "IntDistribution", "categorical": _CHOICE}


def read(given: object, source: Foreign) -> None:
    """Read ``{parameter: distribution}``; each is an object or the text that ``distribution_to_json`` gives."""
    if not isinstance(given, Mapping) or not given:
        fix = "write {name: json.loads(distribution_to_json(d)) for name, d in trial.distributions.items()} as JSON."
        source.refuse("the file", given, "must be an object with a distribution for each parameter", fix)
        return
    for name, distribution in given.items():
        _read_distribution(str(name), distribution, source)


def _read_distribution(name: str, given: object, source: Foreign) -> None:
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except ValueError:
            given = None
    if not isinstance(given, Mapping):
        source.refuse(name, given, "is not a distribution", 'write {"name": "FloatDistribution", "attributes": {...}}.')
        return
    if "name" in given:
        kind, attributes = str(given["name"]), given.get("attributes", {})
    else:
        kind = _SHORT.get(str(given.get("type")), str(given.get("type")))
        attributes = {key: value for key, value in given.items() if key != "type"}
    if kind == _CHOICE:
        source.add_choice(f"{name}.choices", name, source.fields(name, attributes, ("choices",)).get("choices"))
    elif kind in _RANGES:
        _read_range(name, kind, source.fields(name, attributes, ("low", "high", "log", "step", "q")), source)
    else:
        source.refuse(name, kind, "is not a distribution of Optuna", closest(kind, [*_RANGES, _CHOICE]))


def _read_range(name: str, kind: str, given: Mapping[str, Any], source: Foreign) -> None:
    type_, log = _RANGES[kind]
    step = given.get("q", given.get("step"))
    high = given.get("high") if step is None else reachable(given.get("low"), given.get("high"), step)
    source.add_range(name, name, type_, (given.get("low"), high), log=bool(given.get("log", log)), step=step)
