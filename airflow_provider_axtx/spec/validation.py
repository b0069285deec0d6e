"""Turns pydantic's validation errors into problems with field, value and fix."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from airflow_provider_axtx.spec.generation import GenerationSpec
from airflow_provider_axtx.spec.parameters import ChoiceParameter, DerivedParameter, RangeParameter
from airflow_provider_axtx.spec.problems import Problem, closest
from airflow_provider_axtx.spec.stopping import STRATEGIES, GlobalStoppingSpec, Promotion

_PARAMETERS: dict[str, type[BaseModel]] = {
    get_args(model.model_fields["type"].annotation)[0]: model
    for model in (RangeParameter, ChoiceParameter, DerivedParameter)
}
_PARTS: dict[str, type[BaseModel]] = {"generation": GenerationSpec, "global_stopping": GlobalStoppingSpec}
_FIXES = {
    "bool": "write true or false.",
    "dict": "write an object.",
    "finite": "write a finite number.",
    "float": "write a number.",
    "int": "write a whole number.",
    "model": "write an object.",
    "not": "write a number.",
    "string": "write a text.",
    "too": "write exactly two numbers: [lower, upper].",
    "tuple": "write a list.",
}


def problems_of(error: ValidationError, model: type[BaseModel]) -> Iterator[Problem]:
    """Yield the problems behind a validation error.

    :param model: the model that was being built.
    """
    for item in error.errors(include_url=False):
        location, kind, value = item["loc"], item["type"], item["input"]
        context = item.get("ctx", {})
        path = _path(location)
        if kind == "axtx":
            found: Sequence[Problem] = context["problems"]
            yield from (p._replace(path=f"{path}.{p.path}" if path else p.path) for p in found)
        elif kind == "missing":
            yield Problem(path, value, "is missing", "add it.")
        elif kind == "extra_forbidden":
            yield Problem(path, value, "unknown key", closest(location[-1], _known_keys(location, model)))
        elif kind.startswith("union_tag"):
            given = value.get("type") if isinstance(value, dict) else value
            what, known = ("parameter", _PARAMETERS) if location[0] == "parameters" else ("strategy", STRATEGIES)
            yield Problem(f"{path}.type", given, f"is not a {what} type", closest(given, known))
        else:
            fix = _fix(kind, context)
            if path == "parameters" and isinstance(value, dict):
                fix = 'write a list of parameters, each with its name: [{"name": "x", "type": "range", ...}].'
            yield Problem(path, value, _message(item["msg"]), fix)


def _message(message: str) -> str:
    message = message.replace("Input should be", "must be").replace("a valid tuple", "a list")
    return message[:1].lower() + message[1:]


def _fix(kind: str, context: dict[str, Any]) -> str:
    if "fix" in context:
        return str(context["fix"])
    if kind == "literal_error":
        return f"write {context['expected']}."
    limits = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
    for key, words in limits.items():
        if key in context:
            return f"write a number of {words} {context[key]:g}."
    return _FIXES.get(kind.split("_")[0], "correct the value.")


def _path(location: Sequence[str | int]) -> str:
    """Return ``parameters[1].bounds[0]`` of a location, without the types that Pydantic puts in."""
    if location and location[0] == "early_stopping":
        parts = [part for part in location if part not in STRATEGIES]
    else:
        parts = [part for i, part in enumerate(location) if not (i == 2 and location[0] == "parameters")]
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).lstrip(".")


def _known_keys(location: Sequence[str | int], model: type[BaseModel]) -> list[str]:
    """Return the known keys at the place of an unknown one."""
    if location[0] == "parameters" and len(location) > 2:
        return list(_PARAMETERS[str(location[2])].model_fields)
    if location[0] == "early_stopping" and len(location) > 1:
        models: dict[str, type[BaseModel]] = {**STRATEGIES, "promotion": Promotion}
        return list(models[str(location[-2])].model_fields)
    return list((_PARTS.get(str(location[0]), model) if len(location) > 1 else model).model_fields)
