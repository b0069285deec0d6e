"""The SQL steps on analysis cards. Each runs inside one transaction of ``ExperimentStore``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from airflow_provider_axtx.core.analysis import EXPLANATION, AnalysisCard
from airflow_provider_axtx.core.steering import Change
from airflow_provider_axtx.store import _change_rows, _experiment_rows
from airflow_provider_axtx.store.tables import analyses

#: Position of the first card of an explanation: the cards of Ax's own analyses are before it.
_FIRST_OF_EXPLANATION = 10_000


def replace(connection: sa.Connection, name: str, cards: Sequence[AnalysisCard]) -> None:
    """Record Ax's cards in place of those recorded before."""
    _replace(connection, name, cards, analyses.c.kind != EXPLANATION, 0)


def replace_explanation(
    connection: sa.Connection, name: str, cards: Sequence[AnalysisCard], asked: Sequence[Change], outcome: str
) -> None:
    """Record the charts of an explanation in place of those before, and that it was carried out."""
    _replace(connection, name, cards, analyses.c.kind == EXPLANATION, _FIRST_OF_EXPLANATION)
    for change in asked:
        _change_rows.settle(connection, change, outcome, time.time())


def _replace(
    connection: sa.Connection,
    name: str,
    cards: Sequence[AnalysisCard],
    replaced: sa.ColumnElement[bool],
    first: int,
) -> None:
    _experiment_rows.require(connection, name)
    connection.execute(sa.delete(analyses).where(analyses.c.experiment == name, replaced))
    now = time.time()
    rows = [
        {
            "experiment": name,
            "position": position,
            "name": card.name,
            "title": card.title,
            "subtitle": card.subtitle,
            "section": list(card.section),
            "kind": card.kind,
            "html": card.html,
            "data": card.data,
            "created_at": now,
        }
        for position, card in enumerate(cards, first)
    ]
    if rows:
        connection.execute(sa.insert(analyses), rows)


def recorded(connection: sa.Connection, name: str) -> list[AnalysisCard]:
    """Return the cards of Ax's own analyses in their order."""
    return _cards(connection, name, analyses.c.kind != EXPLANATION)


def explanation(connection: sa.Connection, name: str) -> list[AnalysisCard]:
    """Return the charts of the explanation in their order."""
    return _cards(connection, name, analyses.c.kind == EXPLANATION)


def explained(connection: sa.Connection, name: str) -> int:
    """Return how many trials had completed at the last explanation, 0 before the first."""
    first = (analyses.c.experiment == name, analyses.c.position == _FIRST_OF_EXPLANATION)
    data: dict[str, Any] | None = connection.scalar(sa.select(analyses.c.data).where(*first))
    return 0 if data is None else int(data["completed"])


def _cards(connection: sa.Connection, name: str, chosen: sa.ColumnElement[bool]) -> list[AnalysisCard]:
    _experiment_rows.require(connection, name)
    query = sa.select(analyses).where(analyses.c.experiment == name, chosen).order_by(analyses.c.position)
    return [
        AnalysisCard(
            name=row.name,
            title=row.title,
            subtitle=row.subtitle,
            section=tuple(row.section),
            kind=row.kind,
            html=row.html,
            data=row.data,
            created_at=row.created_at,
        )
        for row in connection.execute(query)
    ]
