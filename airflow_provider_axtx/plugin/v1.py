"""The versioned REST interface: what the page shows, and what users want of experiments.

A change is recorded and answered at once; the tasks that work on the experiment carry it out. Airflow's own session
(the cookie ``_token``, SameSite=lax, or a bearer token) tells the user. Since a browser sends the cookie by itself, a
change also requires a header that a page of another origin cannot set without asking this server first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI, Header, HTTPException, Path, Query, Request, Response
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field

from airflow_provider_axtx.core.errors import InvalidInputError, TrialNotFoundError, TrialStateError
from airflow_provider_axtx.core.steering import Action, Change
from airflow_provider_axtx.plugin.access import ReaderDep
from airflow_provider_axtx.plugin.answers import json_answer
from airflow_provider_axtx.plugin.data import cards_json, change_json, curves_json, experiment_json
from airflow_provider_axtx.plugin.dependencies import (
    MAX_INT,
    Name,
    PathName,
    ReadableOfPathDep,
    Since,
    StoreOfPathDep,
    StoreToEditDep,
    may_edit,
)
from airflow_provider_axtx.plugin.ranked import RankedExperiments
from airflow_provider_axtx.plugin.stores import DEFAULT
from airflow_provider_axtx.spec.steering import (
    limits_arguments,
    new_change,
    note_arguments,
    queue_arguments,
    tags_arguments,
)
from airflow_provider_axtx.store.experiments import ExperimentStore

PREFIX = "/v1"
_REQUEST_ID = "Idempotency-Key"
#: Room for the suffix of each field of one PATCH.
_MAX_REQUEST_ID = 80
TrialIndex = Annotated[int, Path(ge=0, le=MAX_INT)]
Reason = Annotated[str, Field(description="Why; recorded with the change")]


class Body(BaseModel):
    """The body of a request; a field that it does not know is refused."""

    model_config = ConfigDict(extra="forbid")


class ExperimentPatch(Body):
    """What is to be changed of an experiment; a field that is left out stays as it is."""

    state: Literal["run", "pause", "drain", "stop"] | None = None
    limits: dict[str, Any] | None = Field(
        None,
        description="max_trials, max_seconds, deadline (ISO text), max_resource_hours, max_cost; null gives one back",
    )
    tags: list[str] | None = None
    archived: bool | None = None
    reason: Reason = ""


class TrialByHand(Body):
    """A trial that is to be run before the optimizer's next one."""

    parameters: dict[str, Any]
    reason: Reason = ""


class Note(Body):
    """A note on an experiment."""

    text: str


class Why(Body):
    """Why something is asked for."""

    reason: Reason = ""


class ChangeAnswer(BaseModel):
    """A recorded change. It is open until a task has carried it out."""

    position: int
    request_id: str
    action: str
    trial_index: int | None
    arguments: dict[str, Any]
    reason: str
    requested_by: str
    requested_at: float
    via: str
    is_open: bool
    settled_at: float | None
    outcome: str | None


class ChangesAnswer(BaseModel):
    """The recorded changes."""

    changes: list[ChangeAnswer]


class Asking:
    """The user of a request that changes something, and the id that the request has."""

    def __init__(self, request: Request, user: str, request_id: str) -> None:
        self._via = "rest" if "authorization" in request.headers else "page"
        self._user = user
        self._request_id = request_id

    def recorded(self, store: ExperimentStore, name: str) -> Change | None:
        """Return the change that has the id of the request already, or None.

        What was recorded is not judged again: it may not fit the experiment as it is now.
        """
        return next((change for change in store.changes(name) if change.request_id == self._request_id), None)

    def _check_unused(self, store: ExperimentStore, name: str, part: str) -> None:
        """Refuse an id that was used for a request with another number of changes, which have other ids in the store.

        With the same number, the store compares the changes themselves.
        """
        count = part.rpartition("/")[2]
        mine = re.compile(rf"{re.escape(self._request_id)}(?:#\d+/(\d+))?")
        for change in store.changes(name):
            known = mine.fullmatch(change.request_id)
            if known and (known[1] or "") != count:
                raise InvalidInputError(
                    f"The request id {self._request_id!r} was used for another change of {name!r} ({change.action}).",
                    fix="choose another request id for each change.",
                )

    def record(
        self,
        store: ExperimentStore,
        name: str,
        action: Action,
        *,
        part: str = "",
        reason: str = "",
        trial_index: int | None = None,
        arguments: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Record what the user wants, and return the change as JSON.

        :param part: which of several changes of one request this is, and of how many: ``1/2``.
        """
        self._check_unused(store, name, part)
        change = new_change(
            action,
            request_id=f"{self._request_id}#{part}" if part else self._request_id,
            requested_by=self._user,
            via=self._via,
            reason=reason,
            trial_index=trial_index,
            arguments=arguments,
        )
        return change_json(store.steer(name, change))


def _asking(
    request: Request,
    reader: ReaderDep,
    request_id: Annotated[
        str,
        Header(
            alias=_REQUEST_ID,
            min_length=1,
            max_length=_MAX_REQUEST_ID,
            pattern=r"^[\x21-\x7e]+$",
            description="Chosen by the client for each change. The same id again changes nothing more.",
        ),
    ],
) -> Asking:
    """Refuse a change that a page of another origin may have sent with the user's cookie."""
    if request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        raise HTTPException(403, "Changes are accepted from Airflow's own pages and from clients only.")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if request.method != "DELETE" and kind != "application/json":
        raise HTTPException(415, "Send the body as application/json.")
    return Asking(request, reader.name, request_id)


AskingDep = Annotated[Asking, Depends(_asking)]


def add_v1(app: FastAPI, ranked: RankedExperiments) -> None:
    """Add the routes below ``/v1`` to the page's application."""
    _add_reads(app, ranked)
    _add_changes(app)
    _add_trials(app)


@contextmanager
def refusals() -> Iterator[None]:
    """Answer a change that was refused with what is wrong and how to fix it."""
    try:
        yield
    except (InvalidInputError, TrialStateError, TrialNotFoundError) as error:
        if error.__cause__ is not None:
            raise  # what a database has said, perhaps with its host
        status = {TrialStateError: 409, TrialNotFoundError: 404}.get(type(error), 422)
        raise HTTPException(status, str(error)) from error


def _add_reads(app: FastAPI, ranked: RankedExperiments) -> None:
    @app.get(f"{PREFIX}/openapi.json", include_in_schema=False)
    def openapi(request: Request) -> Response:
        routes = [route for route in app.routes if isinstance(route, APIRoute) and route.path.startswith(f"{PREFIX}/")]
        document = get_openapi(
            title="Experiments of the Ax and TorchX provider",
            version="1",
            description="Changes are recorded and answered at once; the tasks of the experiment carry them out.",
            routes=routes,
            servers=[{"url": request.scope.get("root_path", "")}],
        )
        return json_answer(request, document)

    @app.get(f"{PREFIX}/experiments/{{name}}", tags=["Read"], summary="An experiment with its trials")
    def experiment(
        request: Request,
        readable: ReadableOfPathDep,
        reader: ReaderDep,
        name: PathName,
        conn_id: Name = DEFAULT,
        since: Since = None,
    ) -> Response:
        store = readable.store
        view = store.experiment(name, since)
        known = ranked.of(store, view.line)
        found = experiment_json(view, known, since=since, shows_output=readable.shows_output)
        return json_answer(request, {**found, "may_edit": may_edit(store, reader, name, conn_id)})

    @app.get(f"{PREFIX}/experiments/{{name}}/curves", tags=["Read"], summary="Progressive results")
    def curves(request: Request, store: StoreOfPathDep, name: PathName, since: Since = None) -> Response:
        return json_answer(request, {"curves": curves_json(store.curves(name, since))})

    @app.get(f"{PREFIX}/experiments/{{name}}/analyses", tags=["Read"], summary="Ax's analyses: title and data")
    def analyses(request: Request, store: StoreOfPathDep, name: PathName) -> Response:
        cards = store.analyses(name)
        found = [{**head, "data": card.data} for head, card in zip(cards_json(cards), cards, strict=True)]
        return json_answer(request, {"cards": found})

    @app.get(
        f"{PREFIX}/experiments/{{name}}/changes",
        tags=["Read"],
        summary="What users have asked for, in order",
        response_model=ChangesAnswer,
    )
    def changes(request: Request, store: StoreOfPathDep, name: PathName) -> Response:
        return json_answer(request, {"changes": [change_json(change) for change in store.line(name).changes]})


def _wanted(body: ExperimentPatch) -> list[tuple[str, Action, dict[str, Any]]]:
    """Return the changes that a PATCH asks for: the part of its request id, the action and its arguments."""
    wanted: list[tuple[Action, dict[str, Any]]] = []
    if body.limits is not None:
        wanted.append((Action.LIMITS, limits_arguments(body.limits)))
    if body.tags is not None:
        wanted.append((Action.TAGS, tags_arguments(body.tags)))
    if body.archived is not None:
        wanted.append((Action.ARCHIVE if body.archived else Action.UNARCHIVE, {}))
    if body.state is not None:
        wanted.append((Action(body.state), {}))
    if not wanted:
        raise InvalidInputError("Nothing is to be changed.", fix="give state, limits, tags or archived.")
    count = len(wanted)
    return [("" if count == 1 else f"{number}/{count}", *change) for number, change in enumerate(wanted, start=1)]


def _add_changes(app: FastAPI) -> None:
    @app.patch(
        f"{PREFIX}/experiments/{{name}}",
        tags=["Change"],
        status_code=202,
        summary="Pause, resume, drain or stop it; change its limits and tags; archive it",
        response_model=ChangesAnswer,
    )
    def patch(store: StoreToEditDep, asking: AskingDep, name: PathName, body: ExperimentPatch) -> dict[str, Any]:
        with refusals():
            # All are checked before the first is recorded.
            wanted = _wanted(body)
            recorded = [
                asking.record(store, name, action, part=part, reason=body.reason, arguments=arguments)
                for part, action, arguments in wanted
            ]
        return {"changes": recorded}

    @app.delete(
        f"{PREFIX}/experiments/{{name}}",
        tags=["Change"],
        status_code=202,
        summary="Ask for its deletion: the next cleanup removes it with all its files",
        response_model=ChangeAnswer,
    )
    def delete(
        store: StoreToEditDep, asking: AskingDep, name: PathName, reason: Annotated[str, Query()] = ""
    ) -> dict[str, Any]:
        with refusals():
            return asking.record(store, name, Action.DELETE, reason=reason)

    @app.post(
        f"{PREFIX}/experiments/{{name}}/notes",
        tags=["Change"],
        status_code=202,
        summary="Write a note",
        response_model=ChangeAnswer,
    )
    def note(store: StoreToEditDep, asking: AskingDep, name: PathName, body: Note) -> dict[str, Any]:
        with refusals():
            return asking.record(store, name, Action.NOTE, arguments=note_arguments(body.text))

    @app.delete(
        f"{PREFIX}/experiments/{{name}}/changes/{{position}}",
        tags=["Change"],
        status_code=202,
        summary="Withdraw a change that is still open",
        response_model=ChangeAnswer,
    )
    def withdraw(
        store: StoreToEditDep,
        asking: AskingDep,
        name: PathName,
        position: TrialIndex,
        reason: Annotated[str, Query()] = "",
    ) -> dict[str, Any]:
        with refusals():
            return asking.record(store, name, Action.WITHDRAW, reason=reason, arguments={"position": position})


def _add_trials(app: FastAPI) -> None:
    @app.post(
        f"{PREFIX}/experiments/{{name}}/trials",
        tags=["Change"],
        status_code=202,
        summary="Queue a trial by hand",
        response_model=ChangeAnswer,
    )
    def queue(store: StoreToEditDep, asking: AskingDep, name: PathName, body: TrialByHand) -> dict[str, Any]:
        with refusals():
            known = asking.recorded(store, name)
            recorded = None if known is None else known.arguments
            arguments = queue_arguments(store.spec(name), body.parameters, recorded=recorded)
            return asking.record(store, name, Action.QUEUE_TRIAL, reason=body.reason, arguments=arguments)

    @app.post(
        f"{PREFIX}/experiments/{{name}}/trials/{{index}}/stop",
        tags=["Change"],
        status_code=202,
        summary="Stop a trial: its app is cancelled, and it is ABANDONED",
        response_model=ChangeAnswer,
    )
    def stop(store: StoreToEditDep, asking: AskingDep, name: PathName, index: TrialIndex, body: Why) -> dict[str, Any]:
        with refusals():
            return asking.record(store, name, Action.STOP_TRIAL, reason=body.reason, trial_index=index)

    @app.post(
        f"{PREFIX}/experiments/{{name}}/trials/{{index}}/retry",
        tags=["Change"],
        status_code=202,
        summary="Run a FAILED trial again",
        response_model=ChangeAnswer,
    )
    def retry(store: StoreToEditDep, asking: AskingDep, name: PathName, index: TrialIndex, body: Why) -> dict[str, Any]:
        with refusals():
            return asking.record(store, name, Action.RETRY_TRIAL, reason=body.reason, trial_index=index)
