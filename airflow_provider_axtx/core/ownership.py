"""Whose an experiment is: that of the DAG which created it, and of the DAGs with which its author shares it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Self

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.core.inputs import shorten

#: Key of the record of an experiment's creator.
_SHARED_WITH = "shared_with"


@dataclass(frozen=True)
class Ownership:
    """The owner of an experiment.

    :param dag_id: the DAG that created it; empty when none did (a notebook, or version 0.1 of this package).
    :param shared_with: patterns (``fnmatch``) of the DAG ids that may use it too.
    """

    dag_id: str = ""
    shared_with: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, created_by: Mapping[str, Any] | None) -> Self:
        """Read it from the record of the experiment's creator."""
        given = created_by or {}
        return cls(str(given.get("dag_id") or ""), tuple(map(str, given.get(_SHARED_WITH) or ())))

    def to_json(self) -> dict[str, Any]:
        """Return what the record of the creator holds besides the task: empty unless it is shared."""
        return {_SHARED_WITH: list(self.shared_with)} if self.shared_with else {}

    def allows(self, dag_id: str) -> bool:
        """Return whether tasks of a DAG may use the experiment; an empty id is not a task of Airflow."""
        if not self.dag_id or not dag_id or dag_id == self.dag_id:
            return True
        return any(fnmatchcase(dag_id, pattern) for pattern in self.shared_with)


def as_dag_ids(field: str, value: object) -> tuple[str, ...]:
    """Return patterns of DAG ids.

    :param field: the argument's name, for the error.
    :raises InvalidInputError: when it is not a list of texts.
    """
    if not isinstance(value, Sequence) or isinstance(value, str) or not all(isinstance(v, str) and v for v in value):
        raise InvalidInputError(
            f"{field} must be a list of DAG ids, not {shorten(value)}.", fix=f'write for example {field}=["report"].'
        )
    return tuple(value)
