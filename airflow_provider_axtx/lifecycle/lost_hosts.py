"""Hosts that do not exist any more: no process can observe their apps, so a user says that they are lost."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from airflow_provider_axtx.core.app_observation import LostAppPolicy
from airflow_provider_axtx.core.errors import AppElsewhereError, SchedulerUnavailableError
from airflow_provider_axtx.core.records import AttemptRecord
from airflow_provider_axtx.lifecycle.attempts import poll_attempt
from airflow_provider_axtx.lifecycle.launchers import LauncherFor, cached_launchers

if TYPE_CHECKING:
    from airflow_provider_axtx.store.experiments import ExperimentStore

log = logging.getLogger(__name__)


def record_lost(
    store: ExperimentStore, launcher_for: LauncherFor, attempts: Iterable[AttemptRecord], hosts: Collection[str]
) -> list[AttemptRecord]:
    """Record that attempts whose host does not exist any more have ended, because no process can observe them again.

    Their trials are left open, so that a task that still waits may submit them again (``trial_retries``); a reap
    settles the others. An attempt that can be observed from here is left as it is.

    :param hosts: names of the hosts that do not exist any more.
    :return: the attempts that were recorded as lost.
    """
    launcher_for, lost = cached_launchers(launcher_for), []
    for attempt in attempts:
        if attempt.host not in hosts or attempt.finished_at is not None:
            continue
        try:
            poll_attempt(store, launcher_for(attempt), attempt, LostAppPolicy())
        except AppElsewhereError:
            state, why = ("FAILED", f"lost: its host {attempt.host} does not exist any more")
            if attempt.cancel_reason is not None:
                state, why = "CANCELLED", attempt.cancel_reason
            lost.append(store.finish_attempt(attempt, state, why, is_infrastructure_failure=state == "FAILED"))
        except SchedulerUnavailableError as error:
            log.warning("%s is left as it is: %s", attempt, error)
        else:
            log.warning("%s is left as it is: its app can be observed from this host.", attempt)
    return lost
