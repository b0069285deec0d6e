"""The page and its data. Reads the experiment store only; imports neither Ax nor TorchX."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from functools import cache
from html import escape
from typing import Annotated, Any

from airflow.api_fastapi.common.db.common import SessionDep
from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse

from airflow_provider_axtx.core.analysis import AnalysisCard
from airflow_provider_axtx.core.errors import AxtxError, ExperimentNotFoundError
from airflow_provider_axtx.plugin.access import MAY_VIEW, ReaderDep
from airflow_provider_axtx.plugin.data import cards_json, curves_json, experiment_json, line_json
from airflow_provider_axtx.plugin.files import PLOTLY, full_plotly, send_file
from airflow_provider_axtx.plugin.stores import DEFAULT, known_stores, open_store, readable_stores
from airflow_provider_axtx.spec.experiment import ExperimentSpec
from airflow_provider_axtx.spec.ranking import Standing, standing
from airflow_provider_axtx.store.views import ExperimentLine, ExperimentViews

#: Scripts and data come from this server only; plotly.js writes style elements; only Airflow may frame the page.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "connect-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
#: A card is HTML with scripts that Ax made. It runs in an origin of its own, from which it cannot reach the page.
_CARD_POLICY = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:; frame-ancestors 'self'"
)
_CARD_STYLE = (
    "body{margin:8px;font:14px sans-serif;color:#18181b;background:#fff}td,th{padding:3px 8px;text-align:left}"
)
_MAX_LINES = 200
_KEPT = 500

#: The standing of an experiment, and the means of the trials that it names.
_Ranked = tuple[Standing, dict[int, dict[str, float]]]


class _Standings:
    """Caches the standing of each experiment until it changes: a list must not read every observation."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[Any, ...], _Ranked] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, store: ExperimentViews, line: ExperimentLine) -> _Ranked:
        """Return the standing, and the means of the trials that it names."""
        summary = line.summary
        key = (line.uid, summary.last_activity_at, tuple(summary.trial_counts.items()))
        ranked = self._kept.get(key)
        if ranked is None:
            completed, baseline = store.completed(summary.name)
            found = standing(ExperimentSpec.load(line.spec), completed, baseline)
            ranked = (found, {index: means for index, means in completed if index == found.best})
            with self._lock:  # requests are answered in threads
                self._kept[key] = ranked
                while len(self._kept) > _KEPT:
                    self._kept.popitem(last=False)
        return ranked


@cache
def the_app() -> FastAPI:
    """Return this process's application."""
    return create_app(open_store)


def create_app(opened: Callable[[str], ExperimentViews]) -> FastAPI:
    """Return the application.

    :param opened: opens the experiment store of a connection; called for each request.
    """
    app = FastAPI(title="Ax and TorchX experiments", dependencies=[MAY_VIEW], openapi_url=None)
    app.state.opened = opened
    app.middleware("http")(_with_headers)
    app.exception_handler(AxtxError)(_error_answer)
    _add_pages(app)
    _add_lists(app, _Standings())
    _add_experiments(app)
    return app


def _store(request: Request, conn_id: str = DEFAULT) -> ExperimentViews:
    store: ExperimentViews = request.app.state.opened(conn_id)
    return store


StoreDep = Annotated[ExperimentViews, Depends(_store)]


def _store_of(store: StoreDep, reader: ReaderDep, name: str) -> ExperimentViews:
    """Return the store with an experiment that the user may read."""
    reader.require_any(store.line(name).dag_ids)
    return store


StoreOfDep = Annotated[ExperimentViews, Depends(_store_of)]


def _add_pages(app: FastAPI) -> None:
    @app.get("/")
    async def page(request: Request) -> Response:
        answer = await send_file("index.html", request.scope)
        if request.query_params.keys() & {"experiment", "run_id"}:
            # The browser requests the largest file before the page's scripts do.
            answer.headers["Link"] = f"<static/{PLOTLY}>; rel=preload; as=script"
        return answer

    @app.get("/static/{name}")
    async def static(name: str, request: Request) -> Response:
        return await send_file(name, request.scope)


def _add_lists(app: FastAPI, standings: _Standings) -> None:
    def lines_json(store: ExperimentViews, conn_id: str, lines: list[ExperimentLine]) -> list[dict[str, Any]]:
        return [{**line_json(line, *standings.of(store, line)), "conn_id": conn_id} for line in lines]

    @app.get("/api/stores")
    def stores(reader: ReaderDep, session: SessionDep) -> JSONResponse:
        return JSONResponse({"stores": readable_stores(reader.user, session), "default": DEFAULT})

    @app.get("/api/experiments")
    def experiments(
        store: StoreDep,
        reader: ReaderDep,
        conn_id: str = DEFAULT,
        search: str = "",
        limit: int = Query(50, ge=1, le=_MAX_LINES),
        offset: int = Query(0, ge=0),
    ) -> JSONResponse:
        wanted = search.strip().lower()
        found = [
            line for line in store.lines() if wanted in line.summary.name.lower() and reader.may_read_any(line.dag_ids)
        ]
        page = lines_json(store, conn_id, found[offset : offset + limit])
        return JSONResponse({"experiments": page, "total": len(found)})

    @app.get("/api/dag-runs")
    def of_dag_run(request: Request, reader: ReaderDep, session: SessionDep, dag_id: str, run_id: str) -> JSONResponse:
        """Look in every store: a user who may read the run may know where its trials are."""
        reader.require_runs(dag_id)
        lines: list[dict[str, Any]] = []
        unreadable = {}
        for conn_id in known_stores(session):
            try:
                store = _store(request, conn_id)
                found = [store.line(name) for name in store.experiments_of(dag_id, run_id)]
                lines += lines_json(store, conn_id, found)
            except AxtxError as error:  # the other stores are still shown
                unreadable[conn_id] = str(error)
        return JSONResponse({"experiments": lines, "total": len(lines), "unreadable": unreadable})


def _add_experiments(app: FastAPI) -> None:
    @app.get("/api/experiment")
    def experiment(store: StoreOfDep, name: str, since: float | None = None) -> JSONResponse:
        return JSONResponse(experiment_json(store.experiment(name, since)))

    @app.get("/api/curves")
    def curves(store: StoreOfDep, name: str, since: float | None = None) -> JSONResponse:
        return JSONResponse({"curves": curves_json(store.curves(name, since))})

    @app.get("/api/analyses")
    def analyses(store: StoreOfDep, name: str) -> JSONResponse:
        return JSONResponse({"cards": cards_json(store.analyses(name))})

    @app.get("/card")
    def card(store: StoreOfDep, name: str, position: int = Query(ge=0)) -> HTMLResponse:
        cards = store.analyses(name)
        if position >= len(cards):
            raise HTTPException(404, "No such card")
        return HTMLResponse(_card_page(cards[position]), headers={"Content-Security-Policy": _CARD_POLICY})


def _card_page(card: AnalysisCard) -> str:
    # Part of the document: a sandboxed frame sends no cookie, so that it cannot fetch the script from this server.
    script = f"<script>{full_plotly().read_text(encoding='utf-8')}</script>" if card.kind == "plotly" else ""
    head = f'<meta charset="utf-8"><title>{escape(card.title)}</title><style>{_CARD_STYLE}</style>{script}'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{card.html}</body></html>'


async def _with_headers(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    answer = await call_next(request)
    answer.headers.setdefault("Content-Security-Policy", _POLICY)
    answer.headers["X-Content-Type-Options"] = "nosniff"
    answer.headers["Referrer-Policy"] = "same-origin"
    answer.headers.setdefault("Cache-Control", "no-store")
    return answer


async def _error_answer(request: Request, error: Exception) -> JSONResponse:
    """Answer an error of this package with what is wrong and how to fix it."""
    status = 404 if isinstance(error, ExperimentNotFoundError) else 503
    return JSONResponse({"detail": str(error)}, status_code=status)
