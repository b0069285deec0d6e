"""Operators whose tasks have other retries or another trigger rule than Airflow's, unless the DAG gives some."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from airflow.sdk import BaseOperator, conf


class OwnDefaultsMixin(BaseOperator):
    """Base of the operators with defaults of their own for arguments that every task has.

    A default is for what neither the task, nor its task groups, nor the DAG gives.
    """

    def __init__(self, **kwargs: Any) -> None:
        # What the DAG and its groups give is in default_args. An argument would win against it.
        given = {**(kwargs.get("default_args") or {}), **kwargs}
        super().__init__(**{**_missing(self.own_defaults(given), given), **kwargs})

    @classmethod
    def own_defaults(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the defaults.

        :param given: the arguments that the task has from somewhere else.
        """
        raise NotImplementedError

    @classmethod
    def partial(cls, **kwargs: Any) -> Any:
        """Return the operator with a part of its arguments, to be mapped over the others.

        Airflow fills in its own defaults here, before ``__init__``, to which they look like the user's wishes: a mapped
        task would have no retries. It also tells the scheduler what it finds here.
        """
        made: Any = super().partial(**kwargs)
        given: dict[str, Any] = {}
        for where in (made.kwargs["dag"], made.kwargs["task_group"]):
            given |= (where.default_args if where else None) or {}
        given |= {**(kwargs.get("default_args") or {}), **kwargs}
        made.kwargs.update(_missing(cls.own_defaults(given), given))
        return made


class RetriesMixin(OwnDefaultsMixin):
    """Base of the operators that go on with their work when they start again.

    Without retries, a worker that dies ends the experiment, although a retry would go on with it.
    """

    @classmethod
    def own_defaults(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return retries, unless the DAG or Airflow's configuration gives some."""
        if "retries" in given or conf.getint("core", "default_task_retries", fallback=0):
            return {}
        return {"retries": 2, "retry_delay": timedelta(seconds=10)}


def add_own_defaults(mapped: Any) -> None:
    """Give the mapped task of a decorated function the defaults of its operator.

    Airflow makes such a task without ``partial`` of the operator.

    :param mapped: the mapped operator, whose ``partial_kwargs`` are what the task, its groups and the DAG give.
    """
    given = mapped.partial_kwargs
    given.update(_missing(mapped.operator_class.own_defaults(given), given))


def _missing(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in defaults.items() if name not in given}
