"""The page, its data, and the REST interface. Uses the experiment store only; imports neither Ax nor TorchX."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import cache
from html import escape
from typing import Any

from airflow.api_fastapi.common.db.common import SessionDep
from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse

from airflow_provider_axtx.core.analysis import AnalysisCard
from airflow_provider_axtx.core.errors import AxtxError, StoreNotFoundError
from airflow_provider_axtx.plugin.access import MAY_VIEW, ReaderDep
from airflow_provider_axtx.plugin.answers import (
    SafeJSONResponse,
    error_answer,
    error_text,
    invalid_request,
    json_answer,
    refused,
)
from airflow_provider_axtx.plugin.compared import add_comparison
from airflow_provider_axtx.plugin.data import cards_json, line_json
from airflow_provider_axtx.plugin.definition import add_definition
from airflow_provider_axtx.plugin.dependencies import (
    MAX_INT,
    MAX_LINES,
    Name,
    StoreOfDep,
    readable_owners,
    store_of_request,
)
from airflow_provider_axtx.plugin.files import PLOTLY, full_plotly, send_file
from airflow_provider_axtx.plugin.page_data import add_experiment_data
from airflow_provider_axtx.plugin.ranked import RankedExperiments
from airflow_provider_axtx.plugin.stores import (
    DEFAULT,
    open_store,
    open_store_to_write,
    readable_stores,
    this_installation,
    warning,
)
from airflow_provider_axtx.plugin.v1 import add_v1
from airflow_provider_axtx.store.experiments import ExperimentStore
from airflow_provider_axtx.store.views import ExperimentLine, ExperimentViews, ListFilter

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


@cache
def the_app() -> FastAPI:
    """Return this process's application."""
    return create_app(open_store, open_store_to_write)


def create_app(opened: Callable[[str], ExperimentViews], opened_to_write: Callable[[str], ExperimentStore]) -> FastAPI:
    """Return the application.

    :param opened: opens the experiment store of a connection to read it; called for each request.
    :param opened_to_write: opens it to record what a user wants.
    """
    app = FastAPI(
        title="Ax and TorchX experiments",
        dependencies=[MAY_VIEW],
        openapi_url=None,
        default_response_class=SafeJSONResponse,
    )
    app.state.opened = opened
    app.state.opened_to_write = opened_to_write
    app.middleware("http")(_with_headers)
    app.exception_handler(AxtxError)(error_answer)
    app.exception_handler(RequestValidationError)(invalid_request)
    app.exception_handler(HTTPException)(refused)
    ranked = RankedExperiments()
    _add_pages(app)
    _add_lists(app, ranked)
    add_experiment_data(app, ranked)
    add_comparison(app, ranked)
    _add_analyses(app)
    add_v1(app, ranked)
    add_definition(app)
    return app


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


def _add_lists(app: FastAPI, ranked: RankedExperiments) -> None:
    def lines_json(store: ExperimentViews, conn_id: str, lines: list[ExperimentLine]) -> list[dict[str, Any]]:
        return [{**line_json(line, ranked.of(store, line)), "conn_id": conn_id} for line in lines]

    @app.get("/v1/stores", tags=["Read"], summary="The experiment stores that the user may read")
    @app.get("/api/stores")
    def stores(request: Request, reader: ReaderDep, session: SessionDep) -> Response:
        found = {"stores": readable_stores(reader, session), "default": DEFAULT, "warning": warning()}
        return json_answer(request, found)

    @app.get("/v1/experiments", tags=["Read"], summary="Experiments, the one with the latest activity first")
    @app.get("/api/experiments")
    def experiments(
        request: Request,
        reader: ReaderDep,
        conn_id: Name = DEFAULT,
        search: Name = "",
        limit: int = Query(50, ge=1, le=MAX_LINES),
        offset: int = Query(0, ge=0, le=MAX_INT),
        archived: bool = False,
        dag_id: Name = "",
    ) -> Response:
        try:
            store = store_of_request(request, reader, conn_id)
        except StoreNotFoundError:
            return json_answer(request, {"experiments": [], "total": 0})
        wanted = ListFilter(
            search=_without_nul(search).strip(),
            hidden_dags=reader.hidden_dags(store.dag_ids()),
            with_unowned=reader.may_read_connection(conn_id),
            installation=this_installation(),
            archived=archived,
            dag_id=_without_nul(dag_id),
        )
        lines, total = store.page(wanted, limit=limit, offset=offset)
        return json_answer(request, {"experiments": lines_json(store, conn_id, lines), "total": total})

    @app.get("/v1/dag-runs", tags=["Read"], summary="The experiments of a DAG run")
    @app.get("/api/dag-runs")
    def of_dag_run(request: Request, reader: ReaderDep, session: SessionDep, dag_id: Name, run_id: Name) -> Response:
        """Look in every store; a DAG that the user may not read is answered as one that has no experiment."""
        lines: list[dict[str, Any]] = []
        unreadable = {}
        for conn_id in readable_stores(reader, session) if reader.may_read_runs(dag_id) else ():
            try:
                store = store_of_request(request, reader, conn_id)
                own = this_installation()
                names = store.experiments_of(_without_nul(dag_id), _without_nul(run_id), own)
                found = [store.line(name) for name in names if readable_owners(store, reader, name, conn_id)]
                lines += lines_json(store, conn_id, found)
            except StoreNotFoundError:
                continue
            except AxtxError as error:  # the other stores are still shown
                unreadable[conn_id] = error_text(error)
        return json_answer(request, {"experiments": lines, "total": len(lines), "unreadable": unreadable})


def _add_analyses(app: FastAPI) -> None:
    @app.get("/api/analyses")
    def analyses(request: Request, store: StoreOfDep, name: Name) -> Response:
        return json_answer(request, {"cards": cards_json(store.analyses(name))})

    @app.get("/card")
    def card(store: StoreOfDep, name: Name, position: int = Query(ge=0, le=MAX_INT)) -> HTMLResponse:
        cards = store.analyses(name)
        if position >= len(cards):
            raise HTTPException(404, "No such card")
        return HTMLResponse(_card_page(cards[position]), headers={"Content-Security-Policy": _CARD_POLICY})


def _without_nul(text: str) -> str:
    """Return the text without the one character that PostgreSQL refuses."""
    return text.replace("\x00", "")


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
