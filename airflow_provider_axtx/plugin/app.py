"""The page and its data. Reads the experiment store only; imports neither Ax nor TorchX."""

from __future__ import annotations

import importlib.util
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse

from airflow_provider_axtx.core.analysis import AnalysisCard
from airflow_provider_axtx.core.errors import AxtxError, ExperimentNotFoundError
from airflow_provider_axtx.core.experiment import ExperimentSpec
from airflow_provider_axtx.core.standing import Standing, standing
from airflow_provider_axtx.hooks.ax import AxHook
from airflow_provider_axtx.plugin.access import MAY_VIEW, ReaderDep
from airflow_provider_axtx.plugin.data import cards_json, curves_json, experiment_json, line_json
from airflow_provider_axtx.store.views import ExperimentLine, ExperimentViews

STATIC = Path(__file__).parent / "static"
_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".html": "text/html"}
#: Scripts and data come from here alone; plotly writes style elements. Shown only inside Airflow itself.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "connect-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
#: A card is HTML that Ax made, with scripts in it: it runs in an origin of its own, which reaches nothing of ours.
_CARD_POLICY = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:; frame-ancestors 'self'"
)
_CARD_STYLE = (
    "body{margin:8px;font:14px sans-serif;color:#18181b;background:#fff}td,th{padding:3px 8px;text-align:left}"
)
_MAX_LINES = 200
_KEPT = 500

#: What was found out of an experiment's completed trials, until it changes: a list must not read every observation.
_Known = tuple[Standing, dict[int, dict[str, float]]]


def views() -> ExperimentViews:
    """Return the store behind ``ax_default``."""
    return ExperimentViews(AxHook().get_url())


class _Standings:
    """Keeps the standing of experiments that have not changed since it was computed."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[Any, ...], _Known] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, store: ExperimentViews, line: ExperimentLine) -> _Known:
        """Return the standing, and the means of the trials that it names."""
        summary = line.summary
        key = (line.uid, summary.last_activity_at, tuple(summary.trial_counts.items()))
        known = self._kept.get(key)
        if known is None:
            completed, baseline = store.completed(summary.name)
            found = standing(ExperimentSpec.load(line.spec), completed, baseline)
            known = (found, {index: means for index, means in completed if index == found.best})
            with self._lock:  # requests are answered in threads
                self._kept[key] = known
                while len(self._kept) > _KEPT:
                    self._kept.popitem(last=False)
        return known


@cache
def the_app() -> FastAPI:
    """Return this process's application."""
    return create_app(views)


def create_app(store: Callable[[], ExperimentViews]) -> FastAPI:
    """Return the application.

    :param store: opens the experiment store; called for each request.
    """
    app = FastAPI(title="Ax and TorchX experiments", dependencies=[MAY_VIEW], openapi_url=None)
    standings = _Standings()
    app.middleware("http")(_with_headers)
    app.exception_handler(AxtxError)(_told)

    @app.get("/", response_class=FileResponse)
    def page() -> FileResponse:
        return _file("index.html")

    @app.get("/static/{name}", response_class=FileResponse)
    def static(name: str) -> FileResponse:
        return _file(name)

    @app.get("/api/experiments")
    def experiments(
        reader: ReaderDep, search: str = "", limit: int = Query(50, ge=1, le=_MAX_LINES), offset: int = Query(0, ge=0)
    ) -> JSONResponse:
        opened = store()
        wanted = search.strip().lower()
        found = [
            line for line in opened.lines() if wanted in line.summary.name.lower() and reader.may_read_any(line.dag_ids)
        ]
        shown = [line_json(line, *standings.of(opened, line)) for line in found[offset : offset + limit]]
        return JSONResponse({"experiments": shown, "total": len(found)})

    @app.get("/api/dag-runs")
    def of_dag_run(reader: ReaderDep, dag_id: str, run_id: str) -> JSONResponse:
        reader.require_runs(dag_id)
        opened = store()
        found = [opened.line(name) for name in opened.experiments_of(dag_id, run_id)]
        shown = [line_json(line, *standings.of(opened, line)) for line in found]
        return JSONResponse({"experiments": shown, "total": len(shown)})

    @app.get("/api/experiment")
    def experiment(reader: ReaderDep, name: str, since: float | None = None) -> JSONResponse:
        opened = store()
        view = opened.experiment(name, since)
        reader.require_any(view.line.dag_ids)
        return JSONResponse(experiment_json(view))

    @app.get("/api/curves")
    def curves(reader: ReaderDep, name: str, since: float | None = None) -> JSONResponse:
        opened = store()
        reader.require_any(opened.line(name).dag_ids)
        return JSONResponse({"curves": curves_json(opened.curves(name, since))})

    @app.get("/api/analyses")
    def analyses(reader: ReaderDep, name: str) -> JSONResponse:
        opened = store()
        reader.require_any(opened.line(name).dag_ids)
        return JSONResponse({"cards": cards_json(opened.analyses(name))})

    @app.get("/card")
    def card(reader: ReaderDep, name: str, position: int = Query(ge=0)) -> HTMLResponse:
        opened = store()
        reader.require_any(opened.line(name).dag_ids)
        cards = opened.analyses(name)
        if position >= len(cards):
            raise HTTPException(404, "No such card")
        return HTMLResponse(_card_page(cards[position]), headers={"Content-Security-Policy": _CARD_POLICY})

    return app


def _card_page(card: AnalysisCard) -> str:
    # Within the document: a sandboxed frame sends no cookie, so that it cannot fetch the script from here.
    script = f"<script>{plotly().read_text(encoding='utf-8')}</script>" if card.kind == "plotly" else ""
    head = f'<meta charset="utf-8"><title>{escape(card.title)}</title><style>{_CARD_STYLE}</style>{script}'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{card.html}</body></html>'


def _file(name: str) -> FileResponse:
    path = plotly() if name == "plotly.min.js" else STATIC / name
    if path.suffix not in _TYPES or (path.parent == STATIC and name not in _static_names()):
        raise HTTPException(404, "No such file")
    kept = "private, max-age=604800" if name == "plotly.min.js" else "no-cache"
    return FileResponse(path, media_type=_TYPES[path.suffix], headers={"Cache-Control": kept})


@cache
def _static_names() -> frozenset[str]:
    return frozenset(path.name for path in STATIC.iterdir())


@cache
def plotly() -> Path:
    """Return plotly.js, which the Python package plotly (a dependency of Ax) brings; that package is not imported."""
    found = importlib.util.find_spec("plotly")
    if found is None or not found.submodule_search_locations:
        raise HTTPException(404, "The package plotly is not installed on the API server")
    return Path(found.submodule_search_locations[0]) / "package_data" / "plotly.min.js"


async def _with_headers(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    answer = await call_next(request)
    answer.headers.setdefault("Content-Security-Policy", _POLICY)
    answer.headers["X-Content-Type-Options"] = "nosniff"
    answer.headers["Referrer-Policy"] = "same-origin"
    answer.headers.setdefault("Cache-Control", "no-store")
    return answer


async def _told(request: Request, error: Exception) -> JSONResponse:
    """Answer an error of this package with what is wrong and how to mend it."""
    status = 404 if isinstance(error, ExperimentNotFoundError) else 503
    return JSONResponse({"detail": str(error)}, status_code=status)
