"""The page's own files, and plotly.js. Airflow's API server compresses what it sends."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path

from fastapi import HTTPException, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

STATIC = Path(__file__).parent / "static"
#: Draws the page's charts.
PLOTLY = "plotly-basic.min.js"
#: Not mounted: a mounted application does not require what the page's routes require of the user.
_files = StaticFiles(directory=STATIC, packages=[("airflow_provider_axtx.plugin", "vendor")])


async def send_file(name: str, scope: Scope) -> Response:
    """Answer a request for one of the page's files.

    :param name: the file's name, without a folder.
    :param scope: of the request, whose headers say which version the browser has already.
    :raises HTTPException: 404 when there is no such file.
    """
    answer = await _files.get_response(name, scope)
    answer.headers["Cache-Control"] = "private, max-age=604800" if name == PLOTLY else "no-cache"
    return answer


@cache
def full_plotly() -> Path:
    """Return the path of the complete plotly.js, which analysis cards need.

    The Python package plotly, which contains it, is not imported.

    :raises HTTPException: 404 when that package is not installed.
    """
    found = importlib.util.find_spec("plotly")
    if found is None or not found.submodule_search_locations:
        raise HTTPException(404, "The package plotly is not installed on the API server")
    return Path(found.submodule_search_locations[0]) / "package_data" / "plotly.min.js"
