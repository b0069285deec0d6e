"""The base of the models that a definition or its limits consist of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError

from airflow_provider_axtx.spec.problems import Problem


class Frozen(BaseModel):
    """An immutable model that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def problems(self) -> Iterator[Problem]:
        """Yield what is wrong, with paths relative to this model."""
        yield from ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        # Carried through pydantic, which gathers the errors of all parts, instead of raised at the first.
        if found := list(self.problems()):
            raise PydanticCustomError("axtx", "is invalid", {"problems": found})
        return self
