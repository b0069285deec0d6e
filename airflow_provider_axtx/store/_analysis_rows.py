"""The SQL steps on analysis cards. Each runs inside one transaction of ``ExperimentStore``."""

from __future__ import annotations

import time
from collections.abc import Sequence

import sqlalchemy as sa

from airflow_provider_axtx.core.analysis import AnalysisCard
from airflow_provider_axtx.store import _experiment_rows
from airflow_provider_axtx.store.tables import analyses


def replace(connection: sa.Connection, name: str, cards: Sequence[AnalysisCard]) -> None:
    """Record the cards in place of those recorded before."""
    _experiment_rows.require(connection, name)
    connection.execute(sa.delete(analyses).where(analyses.c.experiment == name))
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
        for position, card in enumerate(cards)
    ]
    if rows:
        connection.execute(sa.insert(analyses), rows)


def recorded(connection: sa.Connection, name: str) -> list[AnalysisCard]:
    """Return the experiment's cards in their order."""
    _experiment_rows.require(connection, name)
    query = sa.select(analyses).where(analyses.c.experiment == name).order_by(analyses.c.position)
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
