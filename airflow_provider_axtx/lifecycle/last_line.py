"""What a failed app wrote last, for the reason of its trial."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_provider_axtx.core.app_observation import AppObservation
from airflow_provider_axtx.core.output_line import with_line
from airflow_provider_axtx.core.records import AttemptRecord

if TYPE_CHECKING:
    from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher

log = logging.getLogger(__name__)

#: Lines of each replica among which the last one is looked for, and seconds for reading them.
_LINES, _SECONDS = 50, 5.0


def with_last_line(
    launcher_for: Callable[[AttemptRecord], TorchXLauncher], attempt: AttemptRecord, observed: AppObservation
) -> AppObservation:
    """Return the observation of an app that has failed by itself with the last line that it wrote.

    An end that is recorded already, and output that cannot be read, change nothing.
    """
    by_itself = observed.app_state == "FAILED" and not observed.is_infrastructure_failure
    if not by_itself or attempt.app_handle is None or attempt.finished_at is not None:
        return observed
    try:
        lines = launcher_for(attempt).logs(attempt.app_handle, lines=_LINES, deadline_seconds=_SECONDS)
        return replace(observed, message=with_line(observed.message, _texts(lines, observed.message)))
    except Exception as error:  # noqa: BLE001 - how the app ended must be recorded whatever becomes of its output
        log.info("The output of %s cannot be read: %s: %s", attempt.app_handle, type(error).__name__, error)
        return observed


def _texts(lines: list[str], message: str) -> list[str]:
    """Return the texts of ``role/replica: text``, of the replica that the message names if it names one."""
    written = [line.partition(": ") for line in lines if not line.startswith("[")]  # in brackets: the launcher's notes
    failed = message.partition(": ")[0]
    own = [text for label, _, text in written if label == failed]
    return own or [text for _, _, text in written]
