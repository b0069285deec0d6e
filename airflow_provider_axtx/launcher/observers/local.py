"""Observer of ``local_detached``, from the files of its apps."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from airflow_provider_axtx.core.app_observation import UNSEEN, AppObservation
from airflow_provider_axtx.core.errors import AppElsewhereError
from airflow_provider_axtx.launcher.local_detached.awaiting import EndWatch
from airflow_provider_axtx.launcher.local_detached.local_root import check_root
from airflow_provider_axtx.launcher.local_detached.retention import remove_app, remove_rubbish
from airflow_provider_axtx.launcher.log_sources import FileLog, LogSource
from airflow_provider_axtx.launcher.observers.base import Observer, look_again, replicas_of, unavailable
from airflow_provider_axtx.launcher.scheduler_registry import describe_error


class LocalDetachedObserver(Observer):
    """One scan of the state directory for all apps; the key is the app's id.

    Each call raises ``AppElsewhereError`` when the files of the apps are not on this machine.
    """

    #: Whether what killed processes have left in the root was removed, once for each launcher.
    _is_tidy = False

    @functools.cached_property
    def _watch(self) -> EndWatch:
        return EndWatch()

    def observe(self, app_ids: Sequence[str]) -> dict[str, AppObservation]:
        self._check_root()
        seen: dict[str, AppObservation | Exception] = self.scheduler.describe_many(app_ids)
        failures = [one for one in seen.values() if isinstance(one, Exception)]
        if failures and len(failures) == len(seen):
            if isinstance(failures[0], AppElsewhereError):
                raise failures[0]
            raise unavailable(self.name, describe_error(failures[0])) from failures[0]
        return {app_id: look_again(str(one)) if isinstance(one, Exception) else one for app_id, one in seen.items()}

    def await_end(self, app_ids: Sequence[str], seconds: float) -> None:
        self._watch.wait((self.scheduler.directory(app_id) for app_id in app_ids), seconds)

    def find(self, submission_key: str) -> str | None:
        self._check_root()
        return submission_key if self.scheduler.find(submission_key) else None

    def cancel(self, app_id: str) -> None:
        self._check_root()
        self.scheduler.cancel(app_id)

    def remove_files(self, submission_key: str) -> bool:
        self._check_root()
        if not self._is_tidy:
            remove_rubbish(self.scheduler.root)
            self._is_tidy = True
        # This also records the end of an app whose supervisor has died, after killing what is left of it.
        seen = self.scheduler.describe_many([submission_key])[submission_key]
        if isinstance(seen, Exception):
            raise seen
        if not seen.is_terminal and seen != UNSEEN:
            return False
        remove_app(self.scheduler.root, submission_key)
        return True

    def logs(self, app_id: str) -> list[LogSource]:
        replicas = replicas_of(self.scheduler.describe(app_id))
        files = [(f"{role}/{replica}", self.scheduler.log_file(app_id, role, replica)) for role, replica in replicas]
        return [FileLog(label, file, self.scheduler.root) for label, file in files]

    def _check_root(self) -> None:
        check_root(self.scheduler.root, self.options)
