"""Explains an experiment: at its end, every so many trials, or because a user asks; recorded in one transaction."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from airflow_provider_axtx.core.analysis import EXPLANATION, AnalysisCard, AnalysisPlan
from airflow_provider_axtx.core.failpoints import crash_point
from airflow_provider_axtx.core.status import TrialStatus
from airflow_provider_axtx.core.steering import Action

if TYPE_CHECKING:
    from airflow_provider_axtx.core.steering import Steering
    from airflow_provider_axtx.store.experiments import ExperimentStore

log = logging.getLogger(__name__)


def explain_if_due(
    store: ExperimentStore,
    experiment: str,
    plan: AnalysisPlan,
    steering: Steering,
    *,
    is_over: bool = False,
    allowed_factories: Sequence[str] | None = None,
) -> bool:
    """Compute what the model says about an experiment if that is due; return whether it was.

    :param plan: when the DAG asks for it.
    :param steering: what users want of the experiment now.
    :param is_over: whether the experiment has no further trial.
    :param allowed_factories: patterns of what a stored ``generation.factory`` may name; None allows all.
    """
    if not steering.open(Action.ANALYZE) and not _is_planned(store, experiment, plan, is_over=is_over):
        return False
    explain(store, experiment, allowed_factories=allowed_factories)
    return True


def _is_planned(store: ExperimentStore, experiment: str, plan: AnalysisPlan, *, is_over: bool) -> bool:
    if not plan:
        return False
    completed = store.summary(experiment).trial_counts.get(TrialStatus.COMPLETED, 0)
    return plan.is_due(completed, store.explained(experiment), is_over=is_over)


def explain(
    store: ExperimentStore, experiment: str, *, allowed_factories: Sequence[str] | None = None
) -> list[AnalysisCard]:
    """Compute what the model says about an experiment, and record it in place of what was said before.

    What users have asked for until now is carried out with it. An error of Ax is recorded as well: it must end neither
    the experiment nor its task.

    :param allowed_factories: see ``explain_if_due``.
    """
    # Before the snapshot is read: who asks later may mean later results.
    asked = store.steering(experiment).open(Action.ANALYZE)
    snapshot = store.snapshot(experiment)
    crash_point("explain.before_compute")
    # Only now: importing Ax is slow.
    from airflow_provider_axtx.optimizer import explanation

    try:
        cards = explanation.explain(snapshot, allowed_factories=allowed_factories)
    except Exception as error:
        log.warning("Experiment %r cannot be explained.", experiment, exc_info=True)
        completed = sum(trial.status == TrialStatus.COMPLETED for trial in snapshot.trials)
        data = {"completed": completed, "problems": [f"{type(error).__name__}: {error}"]}
        cards = [AnalysisCard("summary", "What the charts rest on", "", (), EXPLANATION, "", data)]
    crash_point("explain.before_record")
    problems = cards[0].data["problems"]
    outcome = f"computed from {cards[0].data['completed']} completed trials" if len(cards) > 1 else problems[0]
    store.record_explanation(experiment, cards, asked, outcome)
    crash_point("explain.after_record")
    log.info("The explanation of %r is recorded: %s charts. %s", experiment, len(cards) - 1, " ".join(problems))
    return cards
