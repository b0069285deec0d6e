"""Whether a value fits a type annotation: one strict rule for component arguments and scheduler options."""

from __future__ import annotations

import functools
import inspect
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

#: A value of each parameter type of an experiment, to check a signature before any trial has values.
SAMPLES: dict[str, Any] = {"float": 0.5, "int": 1, "str": "text", "bool": True}
_MAX_SHOWN = 80


def type_name(annotation: Any) -> str:
    """Return an annotation as its author wrote it: ``float``, ``list[str]``, ``int | None``; ``any`` without one."""
    if annotation is inspect.Parameter.empty or annotation is Any:
        return "any"
    if isinstance(annotation, str):
        return annotation
    return str(inspect.formatannotation(annotation))


def shown(value: object) -> str:
    """Return a value and its type for an error message.

    Containers are shown by type only: a mapping of options may hold a secret.
    """
    kind = type(value).__name__
    if value is not None and not isinstance(value, (str, int, float)):
        return f"a {kind}"
    text = repr(value)
    return f"{text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + '...'} ({kind})"


def type_problem(annotation: Any, value: object, *, value_matters: bool = True) -> str | None:
    """Return why ``value`` does not fit ``annotation``, or None when it does.

    Strict, except that an int is a float: no string is parsed, and a bool is not a number.

    :param annotation: a type, or a string that could not be resolved (which fits everything).
    :param value: the value.
    :param value_matters: False when the value is only a sample of its type, so that a ``Literal`` or a bound that
        excludes just this value does not count.
    """
    if annotation is inspect.Parameter.empty or isinstance(annotation, str):
        return None
    try:
        adapter = _kept_adapter(annotation)
    except TypeError:  # an annotation that cannot be hashed, such as Annotated[float, []]
        adapter = _adapter(annotation)
    if adapter is None:
        return None
    try:
        adapter.validate_python(value, strict=True)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        if not value_matters and not all(e["type"].endswith("_type") or e["type"] == "is_instance_of" for e in found):
            return None
        place = ".".join(map(str, found[0]["loc"]))
        return f"{found[0]['msg']}{f' at {place}' if place else ''}"
    return None


@functools.lru_cache(typed=True)
def _kept_adapter(annotation: Any) -> TypeAdapter[Any] | None:
    # Made once: it takes half a millisecond, for each argument of each trial.
    return _adapter(annotation)


def _adapter(annotation: Any) -> TypeAdapter[Any] | None:
    """Return pydantic's validator; None when it knows no way to check the annotation."""
    try:
        return TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True))
    except PydanticUserError:
        pass  # models, dataclasses and typed dicts bring a configuration of their own and refuse another
    try:
        return TypeAdapter(annotation)
    except PydanticUserError:
        return None
