"""The page's files and plotly.js: kept compressed, and sent again only when they have changed."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fastapi import HTTPException, Request, Response

STATIC = Path(__file__).parent / "static"
#: What draws the page's charts.
PLOTLY = "plotly-basic.min.js"
_PLOTLY_PATH = Path(__file__).parent / "vendor" / PLOTLY
_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".html": "text/html"}


@dataclass(frozen=True)
class _File:
    packed: bytes
    etag: str
    media_type: str


def send_file(name: str, request: Request) -> Response:
    """Answer a request for a file by its name alone.

    Compressed here once: Airflow's own middleware would compress plotly.js again for each browser.

    :raises HTTPException: 404 when there is no such file.
    """
    file = _file(name)
    kept = "private, max-age=604800" if name == PLOTLY else "no-cache"
    headers = {"Cache-Control": kept, "ETag": file.etag, "Vary": "Accept-Encoding"}
    if file.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if "gzip" not in request.headers.get("accept-encoding", ""):
        return Response(gzip.decompress(file.packed), headers=headers, media_type=file.media_type)
    headers["Content-Encoding"] = "gzip"
    return Response(file.packed, headers=headers, media_type=file.media_type)


@cache
def plotly() -> Path:
    """Return all of plotly.js, for analysis cards. The Python package plotly, which brings it, is not imported."""
    found = importlib.util.find_spec("plotly")
    if found is None or not found.submodule_search_locations:
        raise HTTPException(404, "The package plotly is not installed on the API server")
    return Path(found.submodule_search_locations[0]) / "package_data" / "plotly.min.js"


@cache
def _file(name: str) -> _File:
    path = _PLOTLY_PATH if name == PLOTLY else STATIC / name
    if path.suffix not in _TYPES or (path.parent == STATIC and path not in STATIC.iterdir()):
        raise HTTPException(404, "No such file")
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()[:32]
    # Weak: the same for the compressed and the plain form.
    return _File(gzip.compress(content, 6, mtime=0), f'W/"{digest}"', _TYPES[path.suffix])
