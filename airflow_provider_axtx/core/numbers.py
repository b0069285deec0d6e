"""The one place where numbers are read: from definitions, forms, templates, tables and apps.

Pydantic reads them: numpy scalars, ``Decimal``, ``"3.0"`` for a whole number, and large integers exactly. A boolean is
not a number here, although Python and pydantic take ``True`` for 1.
"""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError


def _refuse_boolean(value: object) -> object:
    # By name: a boolean of numpy is not a bool, and numpy takes too long to import for a DAG file.
    if type(value).__name__ in ("bool", "bool_"):
        raise PydanticCustomError("not_a_number", "is not a number")
    return value


_T = TypeVar("_T")

#: A whole number of any size.
Whole = Annotated[int, BeforeValidator(_refuse_boolean)]
#: A finite number.
Number = Annotated[float, Field(allow_inf_nan=False), BeforeValidator(_refuse_boolean)]

_WHOLE: TypeAdapter[int] = TypeAdapter(Whole)
_NUMBER: TypeAdapter[float] = TypeAdapter(Number)


def as_whole(value: object) -> int | None:
    """Return ``value`` as a whole number, or None when it is not one. The text of a whole number is read."""
    return _read(_WHOLE, value)


def as_number(value: object) -> float | None:
    """Return ``value`` as a finite number, or None when it is not one. The text of a number is read."""
    return _read(_NUMBER, value)


def finite(value: object) -> float | None:
    """Return ``value`` as a finite number, or None when it is not one. Text is not a number, as Ax has it."""
    return None if isinstance(value, (str, bytes)) else as_number(value)


def _read(adapter: TypeAdapter[_T], value: object) -> _T | None:
    try:
        return adapter.validate_python(value)
    except ValidationError:
        return None
