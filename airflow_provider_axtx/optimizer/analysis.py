"""Ax's analysis cards of an experiment, as HTML and data."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator
from typing import Any

from airflow_provider_axtx.core.analysis import AnalysisCard
from airflow_provider_axtx.core.records import ExperimentSnapshot
from airflow_provider_axtx.optimizer.ax_logging import quiet_import

with quiet_import():
    import markdown
    from ax.analysis.graphviz.graphviz_analysis import GraphvizAnalysisCard
    from ax.analysis.markdown.markdown_analysis import MarkdownAnalysisCard
    from ax.analysis.plotly.plotly_analysis import PlotlyAnalysisCard
    from ax.core.analysis_card import AnalysisCard as AxCard
    from ax.core.analysis_card import (
        AnalysisCardBase,
        AnalysisCardGroup,
        ErrorAnalysisCard,
        NotApplicableStateAnalysisCard,
    )
    from ax.utils.common.random import with_rng_seed

    from airflow_provider_axtx.optimizer.kernel import without_stale_build_lock
    from airflow_provider_axtx.optimizer.rebuild import rebuild


def analyse(facts: ExperimentSnapshot) -> list[AnalysisCard]:
    """Return the analyses that Ax chooses for the state of an experiment, in its order.

    Fits a model when there is enough data, and takes as long as some generations. An analysis that fails is a card of
    the kind ``error``.

    :raises InvalidInputError: when spec or facts are not usable.
    """
    rebuilt = rebuild(facts)
    with without_stale_build_lock(), with_rng_seed(rebuilt.spec.generation.random_seed):
        cards = rebuilt.client.compute_analyses(display=False)
    return [card for top in cards for card in _flat(top, ())]


def _flat(card: AnalysisCardBase, section: tuple[str, ...]) -> Iterator[AnalysisCard]:
    if isinstance(card, AnalysisCardGroup):
        for child in card.children:
            yield from _flat(child, (*section, card.title))
        return
    kind, shown = _shown(card)
    data: dict[str, Any] = json.loads(card.df.to_json(orient="split", index=False, double_precision=15))
    yield AnalysisCard(card.name, card.title, card.subtitle, section, kind, shown, data)


def _shown(card: AxCard) -> tuple[str, str]:
    """Return the card's kind and its body as an HTML fragment. Text of users is escaped."""
    if isinstance(card, PlotlyAnalysisCard):
        return "plotly", card.get_figure().to_html(full_html=False, include_plotlyjs=False)
    if isinstance(card, MarkdownAnalysisCard):
        return "markdown", markdown.markdown(card.get_markdown().replace("<", "&lt;"))
    if isinstance(card, GraphvizAnalysisCard):
        return "graphviz", f"<pre>{html.escape(card.blob)}</pre>"
    if isinstance(card, ErrorAnalysisCard):
        return "error", f"<pre>{html.escape(card.blob)}</pre>"
    if isinstance(card, NotApplicableStateAnalysisCard):
        return "not_applicable", f"<p>{html.escape(card.blob)}</p>"
    return "table", card.df.to_html(index=False)
