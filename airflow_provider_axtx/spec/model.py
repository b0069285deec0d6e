"""The base of the models that a definition or its limits consist of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Self

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError

from airflow_provider_axtx.spec.problems import Problem

_is_stored: ContextVar[bool] = ContextVar("is_stored", default=False)


@contextmanager
def stored_models() -> Iterator[None]:
    """Build models from what a version of this package has stored: it was checked by the rules of its own time."""
    token = _is_stored.set(True)
    try:
        yield
    finally:
        _is_stored.reset(token)


class Frozen(BaseModel):
    """An immutable model that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def problems(self) -> Iterator[Problem]:
        """Yield what is wrong, with paths relative to this model."""
        yield from ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        # Carried through pydantic, which gathers the errors of all parts, instead of raised at the first.
        if not _is_stored.get() and (found := list(self.problems())):
            raise PydanticCustomError("axtx", "is invalid", {"problems": found})
        return self
