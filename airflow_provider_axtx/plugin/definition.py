"""The part of the REST interface that is about the definition of an experiment and what explains its results."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request, Response
from pydantic import Field

from airflow_provider_axtx.core.steering import Action
from airflow_provider_axtx.plugin.answers import json_answer
from airflow_provider_axtx.plugin.data import explanation_json
from airflow_provider_axtx.plugin.dependencies import Name, PathName, StoreOfDep, StoreOfPathDep, StoreToEditDep
from airflow_provider_axtx.plugin.v1 import PREFIX, AskingDep, Body, ChangeAnswer, Reason, Why, refusals
from airflow_provider_axtx.spec.steering import change_arguments


class DefinitionPatch(Body):
    """What is to be changed of the definition; a field that is left out stays as it is."""

    parameters: dict[str, dict[str, Any]] | None = Field(
        None,
        description="Changed fields by parameter: bounds, step_size, values, frozen_value; null removes one. "
        "A parameter that is not there is added: all of its fields, and backfill_value, which earlier trials had",
    )
    parameter_constraints: list[str] | None = None
    objective: str | None = None
    outcome_constraints: list[str] | None = None
    tracking_metrics: list[str] | None = None
    reason: Reason = ""


def add_definition(app: FastAPI) -> None:
    """Add the routes to the page's application."""

    @app.patch(
        f"{PREFIX}/experiments/{{name}}/definition",
        tags=["Change"],
        status_code=202,
        summary="Change the definition for the trials that follow",
        response_model=ChangeAnswer,
    )
    def change(store: StoreToEditDep, asking: AskingDep, name: PathName, body: DefinitionPatch) -> dict[str, Any]:
        given = {field: value for field, value in body if value is not None and field != "reason"}
        arguments: dict[str, Any] = {"changes": given}
        with refusals():
            # A repeated request is answered as before, also when the change is carried out by now.
            if asking.recorded(store, name) is None:
                has_trials = bool(store.summary(name).trial_counts)
                arguments = change_arguments(store.spec(name), given, has_trials=has_trials)
            return asking.record(store, name, Action.CHANGE_DEFINITION, reason=body.reason, arguments=arguments)

    @app.post(
        f"{PREFIX}/experiments/{{name}}/explanation",
        tags=["Change"],
        status_code=202,
        summary="Ask for the explanation to be computed anew",
        response_model=ChangeAnswer,
    )
    def analyze(store: StoreToEditDep, asking: AskingDep, name: PathName, body: Why) -> dict[str, Any]:
        with refusals():
            return asking.record(store, name, Action.ANALYZE, reason=body.reason)

    @app.get(
        f"{PREFIX}/experiments/{{name}}/explanation",
        tags=["Read"],
        summary="What the model says: importance, slices, contours, cross-validation",
    )
    def explanation(request: Request, store: StoreOfPathDep, name: PathName) -> Response:
        return json_answer(request, explanation_json(store.explanation(name)))

    @app.get("/api/explanation")
    def explanation_of_page(request: Request, store: StoreOfDep, name: Name) -> Response:
        return json_answer(request, explanation_json(store.explanation(name)))
