"""How the page's server answers: JSON that every browser can read, nothing twice, and no details of errors."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import HTTPException, Request, Response
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from airflow_provider_axtx.core.errors import (
    AxtxError,
    ExperimentNotFoundError,
    SchemaVersionError,
    StoreNotFoundError,
    StoreUnavailableError,
)
from airflow_provider_axtx.store.views import RememberedOutageError

log = logging.getLogger(__name__)

NOT_FOUND = "There is no such experiment, or you do not have the right to read it."
#: What the browser is told of an error, first match first. Hosts, users and paths are in the log only.
_ANSWERS: tuple[tuple[type[AxtxError], int, str], ...] = (
    (ExperimentNotFoundError, 404, NOT_FOUND),
    (StoreNotFoundError, 404, NOT_FOUND),
    (StoreUnavailableError, 503, "The experiment store does not answer. The log of the API server says why."),
    (
        SchemaVersionError,
        503,
        "The experiment store was made by another version of airflow-provider-axtx. The next task that uses an older "
        "store upgrades it; the log of the API server says which version it has.",
    ),
    (AxtxError, 503, "The experiment store cannot be read. The log of the API server says why."),
)


def json_answer(request: Request, content: Any) -> Response:
    """Return the content as JSON, or 304 when the browser has it already."""
    answer: Response = SafeJSONResponse(content)
    etag = f'"{hashlib.sha256(answer.body).hexdigest()[:32]}"'
    # Searched for, not compared: a proxy may have made the tag a weak one.
    if etag in request.headers.get("if-none-match", ""):
        answer = Response(status_code=304)
    answer.headers["ETag"] = etag
    return answer


def error_text(error: AxtxError) -> str:
    """Log an error of the store, and return what the browser may know of it."""
    return _answer_for(error)[1]


async def error_answer(request: Request, error: Exception) -> JSONResponse:
    """Answer an error of this package."""
    assert isinstance(error, AxtxError)
    status, text = _answer_for(error)
    return SafeJSONResponse({"detail": text}, status_code=status)


def _answer_for(error: AxtxError) -> tuple[int, str]:
    status, text = next((status, text) for kind, status, text in _ANSWERS if isinstance(error, kind))
    # Each open tab asks every few seconds: an outage is logged when it is noticed, not at each request.
    if status != 404 and not isinstance(error, RememberedOutageError):
        log.warning("The page cannot show an experiment store: %s", error)
    return status, text


class SafeJSONResponse(JSONResponse):
    """JSON that every browser reads: NaN and infinity become null, and a lone surrogate a question mark.

    An app, a definition or a request may contain them, and one experiment must not take the others away.
    """

    def render(self, content: Any) -> bytes:
        try:
            return super().render(content)
        except ValueError:
            return super().render(_plain(content))


async def invalid_request(request: Request, error: Exception) -> JSONResponse:
    """Answer a request that does not fit its route, as FastAPI does; what was sent may not be encodable."""
    assert isinstance(error, RequestValidationError)
    return SafeJSONResponse({"detail": jsonable_encoder(error.errors())}, status_code=422)


async def refused(request: Request, error: Exception) -> Response:
    """Answer an ``HTTPException``, as FastAPI does."""
    assert isinstance(error, HTTPException)
    return SafeJSONResponse({"detail": error.detail}, status_code=error.status_code, headers=error.headers)


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, Mapping):
        return {_plain(key): _plain(one) for key, one in value.items()}
    if isinstance(value, Sequence):
        return [_plain(one) for one in value]
    return value
