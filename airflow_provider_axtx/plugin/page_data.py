"""The data of one experiment as its page fetches it: the latest trials, the older ones, what has changed, curves.

The first answer is small however long the experiment is. A refresh is one request, which brings what has changed.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response

from airflow_provider_axtx.plugin.access import ReaderDep
from airflow_provider_axtx.plugin.answers import json_answer
from airflow_provider_axtx.plugin.data import experiment_json, trials_json
from airflow_provider_axtx.plugin.dependencies import MAX_INT, Name, ReadableDep, Since, StoreOfDep, may_edit
from airflow_provider_axtx.plugin.ranked import Ranked, RankedExperiments, unranked
from airflow_provider_axtx.plugin.stores import DEFAULT
from airflow_provider_axtx.store.views import ExperimentLine

#: Trials of one answer.
MAX_TRIALS = 2000
#: Points of a curve, and trials whose curves are sent at once: the latest ones and the best.
MAX_POINTS, MAX_CURVES = 200, 100
#: Up to so many trials it is computed at once how an experiment stands; a longer one is shown before.
_RANKED_AT_ONCE = 2000
Limit = Annotated[int | None, Query(ge=1, le=MAX_TRIALS)]
Index = Annotated[int | None, Query(ge=0, le=MAX_INT)]


def add_experiment_data(app: FastAPI, ranked: RankedExperiments) -> None:
    """Add the routes to the page's application."""

    @app.get("/api/experiment")
    def experiment(
        *,
        request: Request,
        readable: ReadableDep,
        reader: ReaderDep,
        name: Name,
        conn_id: Name = DEFAULT,
        since: Since = None,
        limit: Limit = None,
        curves: Name = "",
    ) -> Response:
        """Answer the head of the experiment with its trials, and the changed curves of the metric ``curves``."""
        store = readable.store
        view = store.experiment(name, since, limit)
        is_waited_for = limit is None or sum(view.line.summary.trial_counts.values()) <= _RANKED_AT_ONCE
        known = ranked.of(store, view.line) if is_waited_for else ranked.known(view.line)
        found = experiment_json(
            view,
            known or unranked(view.line),
            since=since,
            is_ranked=known is not None,
            shows_output=readable.shows_output,
        )
        if since is None:
            found["may_edit"] = may_edit(store, reader, name, conn_id)
        if curves:
            found["curves"] = store.metric_curves(name, curves, since=since, most=MAX_POINTS)
        return json_answer(request, found)

    @app.get("/api/trials")
    def trials(
        request: Request,
        readable: ReadableDep,
        name: Name,
        before: int = Query(ge=0, le=MAX_INT),
        limit: int = Query(MAX_TRIALS, ge=1, le=MAX_TRIALS),
    ) -> Response:
        """Answer the trials before an index."""
        store = readable.store
        goals = _known(ranked, store.line(name)).goals
        found = trials_json(store.trials(name, before, limit), goals, shows_output=readable.shows_output)
        return json_answer(request, {"trial_list": found})

    @app.get("/api/curves")
    def curves(request: Request, store: StoreOfDep, name: Name, metric: Name = "", trial: Index = None) -> Response:
        """Answer the curves of a metric: of the latest and the best trials, or of one."""
        line = store.line(name)
        found = _known(ranked, line)
        total = sum(line.summary.trial_counts.values())
        indexes = {trial} if trial is not None else {*range(max(0, total - MAX_CURVES), total), *_best(found)}
        metrics = store.stepped_metrics(name, indexes)
        shown = metric or _first(metrics, found)
        points = store.metric_curves(name, shown, indexes=indexes, most=MAX_POINTS) if shown else {}
        return json_answer(request, {"metric": shown, "metrics": metrics, "curves": points})


def _known(ranked: RankedExperiments, line: ExperimentLine) -> Ranked:
    return ranked.known(line) or unranked(line)


def _best(ranked: Ranked) -> tuple[int, ...]:
    return ranked.standing.best_trials[:MAX_CURVES]


def _first(metrics: list[str], ranked: Ranked) -> str | None:
    """Return the metric that is shown first: one of an objective if there is any."""
    wanted: dict[str, Any] = {name: None for goal in ranked.goals for name in goal.weights}
    return next((name for name in wanted if name in metrics), metrics[0] if metrics else None)
