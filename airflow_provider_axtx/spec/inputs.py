"""The types in which operators take the definition of an experiment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from airflow_provider_axtx.core.inputs import Resolvable

if TYPE_CHECKING:
    # Building the models of a definition takes 30 ms, which a DAG file with a templated definition need not pay.
    from airflow_provider_axtx.spec.experiment import ExperimentSpec

#: A definition as operators take it: an object, JSON text or its template, a spec, or what Airflow resolves to one.
ExperimentInput: TypeAlias = "ExperimentSpec | Mapping[str, Any] | str | Resolvable"
