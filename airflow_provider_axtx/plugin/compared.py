"""Several experiments side by side: how their best values grew over trials, time and resources; their definitions."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response

from airflow_provider_axtx.core.completed import CompletedTrial
from airflow_provider_axtx.core.errors import ExperimentNotFoundError
from airflow_provider_axtx.plugin.access import ReaderDep
from airflow_provider_axtx.plugin.answers import json_answer
from airflow_provider_axtx.plugin.data import line_json
from airflow_provider_axtx.plugin.dependencies import Name, readable_owners, store_of_request
from airflow_provider_axtx.plugin.ranked import Ranked, RankedExperiments
from airflow_provider_axtx.plugin.stores import DEFAULT
from airflow_provider_axtx.store.views import Course, ExperimentViews

#: Experiments that are compared at once.
MAX_COMPARED = 20
#: Completed trials, seconds since the first trial, core-hours, GPU-hours, best value.
Point = tuple[int, float, float, float, float]
Names = Annotated[list[Name], Query(min_length=1, max_length=MAX_COMPARED)]


def add_comparison(app: FastAPI, ranked: RankedExperiments) -> None:
    """Add the route to the page's application."""

    @app.get("/api/compare")
    def compare(request: Request, reader: ReaderDep, name: Names, conn_id: Name = DEFAULT) -> Response:
        """Answer the experiments; those that do not exist or that the user may not read are named as missing."""
        store = store_of_request(request, reader, conn_id)
        found: list[dict[str, Any]] = []
        missing: list[str] = []
        for one in dict.fromkeys(name):
            try:
                if readable_owners(store, reader, one, conn_id) is None:
                    missing.append(one)
                else:
                    found.append(_compared(store, ranked, one))
            except ExperimentNotFoundError:  # removed meanwhile
                missing.append(one)
        return json_answer(request, {"experiments": found, "missing": missing})


def _compared(store: ExperimentViews, ranked: RankedExperiments, name: str) -> dict[str, Any]:
    line = store.line(name)
    known = ranked.of(store, line)
    course = store.course(name)
    found = line_json(line, known)
    if found["best"] is not None:
        found["best"]["parameters"] = store.parameters(name, found["best"]["trial_index"])
    last = max([*course.completed_at.values(), *(one.at for one in course.spent)], default=None)
    return {
        **found,
        "spec": None if known.spec is None else json.loads(line.definition),
        "progress": _progress_of(known, ranked.completed(store, line), course) if len(known.goals) == 1 else [],
        "seconds": None if last is None or course.began_at is None else last - course.began_at,
        "cpu_hours": sum(one.cpu_seconds for one in course.spent) / 3600,
        "gpu_hours": sum(one.gpu_seconds for one in course.spent) / 3600,
    }


def _progress_of(ranked: Ranked, completed: Sequence[CompletedTrial], course: Course) -> list[Point]:
    (goal,) = ranked.goals
    feasible = set(ranked.standing.feasible)
    values = {one.index: goal.value(one.means) for one in completed if one.index in feasible}
    known = {index: value for index, value in values.items() if value is not None}
    return progress(course, known, minimize=goal.minimize)


def progress(course: Course, values: dict[int, float], *, minimize: bool) -> list[Point]:
    """Return the points at which the best value changes, in the order of time, and the last one.

    :param values: value of each trial that may be the best.
    """
    points: list[Point] = []
    point: Point | None = None
    best: float | None = None
    cpu = gpu = 0.0
    spent = deque(course.spent)
    for number, (index, at) in enumerate(course.completed_at.items(), start=1):
        while spent and spent[0].at <= at:
            one = spent.popleft()
            cpu, gpu = cpu + one.cpu_seconds / 3600, gpu + one.gpu_seconds / 3600
        value = values.get(index)
        is_better = value is not None and (best is None or (value < best if minimize else value > best))
        best = value if is_better else best
        if best is not None:
            point = (number, at - (course.began_at or at), cpu, gpu, best)
            points += [point] if is_better else []
    return points if point is None or point == points[-1] else [*points, point]
