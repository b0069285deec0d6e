"""What the files of ``local_detached`` say about its apps."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from pathlib import Path

from airflow_provider_axtx.core.app_observation import AppObservation
from airflow_provider_axtx.launcher.observers.base import LogSource, Observer, replicas_of


def _lines_of(file: Path) -> Iterable[str]:
    if not file.exists():
        return []  # it waits in the queue
    with file.open(encoding="utf-8", errors="replace") as opened:
        return list(opened)


class LocalDetachedObserver(Observer):
    """One scan of the state directory for all apps; the key is the app's id."""

    def observe(self, app_ids: Sequence[str]) -> dict[str, AppObservation]:
        observed: dict[str, AppObservation] = self.scheduler.describe_many(app_ids)
        return observed

    def find(self, submission_key: str) -> str | None:
        return submission_key if self.scheduler.find(submission_key) else None

    def logs(self, app_id: str) -> list[LogSource]:
        replicas = replicas_of(self.scheduler.describe(app_id))
        files = [(f"{role}/{replica}", self.scheduler.log_file(app_id, role, replica)) for role, replica in replicas]
        return [LogSource(label, functools.partial(_lines_of, file), file) for label, file in files]
