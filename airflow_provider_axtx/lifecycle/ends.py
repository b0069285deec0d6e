"""How the apps of a loop end: polled in batches, each recorded on its own, whatever one of them reports."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from airflow_provider_axtx.core.app_observation import AppObservation, LostAppPolicy
from airflow_provider_axtx.core.errors import (
    AppElsewhereError,
    AxtxError,
    ResultsPendingError,
    StoreConflictError,
    StoreUnavailableError,
    is_final,
)
from airflow_provider_axtx.core.failpoints import crash_point
from airflow_provider_axtx.core.records import AttemptRecord, TrialRecord
from airflow_provider_axtx.core.status import is_terminal_trial_status
from airflow_provider_axtx.lifecycle.attempts import KILLED, cancel_attempt, evaluate
from airflow_provider_axtx.lifecycle.complete import Conclusion, fail_unreadable, settle
from airflow_provider_axtx.lifecycle.last_line import with_last_line
from airflow_provider_axtx.lifecycle.reading import ResultRules, outage_seconds
from airflow_provider_axtx.lifecycle.submit import retries_left
from airflow_provider_axtx.lifecycle.task_trials import TIMEOUT

if TYPE_CHECKING:
    from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher
    from airflow_provider_axtx.store.experiments import ExperimentStore

log = logging.getLogger(__name__)

#: Lines of the app's log that are shown when a trial fails.
LOG_LINES = 20
#: How often in a row the results of an app may be unreadable before its trial is FAILED for it, if that has also lasted
#: for ``outage_seconds``.
MAX_UNREADABLE = 3


@dataclass
class Ends:
    """Polls the apps of one loop and records how they ended.

    :param launcher_for: gives the launcher of an attempt.
    :param trial_timeout: seconds since submission after which an app is cancelled.
    :param trial_retries: how many infrastructure failures of a trial are followed by another attempt.
    :param check: called before anything is recorded or cancelled; raises when the task was ended meanwhile.
    :param rules: gives what the experiment says of results.
    :param trial_of: gives the trial of an attempt as it is recorded; None when nothing is left to do of it.
    :param on_change: called when something was recorded that ``on_record`` is not told.
    :param on_record: told an attempt as it is recorded now, and its trial if that has changed too.
    :param attempts_of: gives all attempts of an attempt's trial, as they were recorded last.
    :param on_finalized: told the terminal ``TrialStatus`` name of each trial that was settled, and its attempts.
    """

    store: ExperimentStore
    launcher_for: Callable[[AttemptRecord], TorchXLauncher]
    policy: LostAppPolicy
    trial_timeout: float
    trial_retries: int
    check: Callable[[], None]
    rules: Callable[[], ResultRules]
    trial_of: Callable[[AttemptRecord], TrialRecord | None]
    on_change: Callable[[], None]
    on_record: Callable[[AttemptRecord, TrialRecord | None], None]
    attempts_of: Callable[[AttemptRecord], Sequence[AttemptRecord]]
    on_finalized: Callable[[str, Sequence[AttemptRecord]], None]
    #: The first error of the last poll, or one that polling again cannot fix.
    error: Exception | None = field(default=None, init=False)
    #: Attempts that only another host can observe, by submission key.
    elsewhere: dict[str, AppElsewhereError] = field(default_factory=dict, init=False)
    #: Seconds that an app has run before its start is recorded; the next poll is then due before long.
    note_starts_after: float = field(default=0.0, init=False)
    #: Whether an app has succeeded whose results are not visible yet.
    results_pending: bool = field(default=False, init=False)
    _ended_at: dict[str, float] = field(default_factory=dict, init=False)
    #: How often the results of an attempt could not be read, and since when.
    _unreadable: dict[str, tuple[int, float]] = field(default_factory=dict, init=False)

    def poll(self, live: Sequence[AttemptRecord], known: Mapping[str, AppObservation]) -> None:
        """Poll live apps, those of one launcher in one batch; record what has ended, cancel what has had its time.

        An error stays with its attempt (``error``): the others are polled all the same.

        :param known: terminal observations by app handle that were made already.
        """
        self.error, self.results_pending, self.elsewhere = None, False, {}
        for launcher, attempts in self._batches(live):
            handles = [str(attempt.app_handle) for attempt in attempts]
            try:
                seen = {**launcher.observe([handle for handle in handles if handle not in known]), **known}
            except AppElsewhereError as error:
                log.warning("%s app(s) of scheduler %s: %s", len(attempts), launcher.scheduler, error)
                self.elsewhere |= {attempt.submission_key: error for attempt in attempts}
                continue
            except AxtxError as error:
                self._note_error(f"{len(attempts)} app(s) of scheduler {launcher.scheduler}", error)
                continue
            crash_point("loop.after_observe")
            for attempt in self._note_started(attempts, seen):
                observed = seen[str(attempt.app_handle)]
                self.each(attempt, functools.partial(self._judge, attempt, observed))

    def each(self, attempt: AttemptRecord, action: Callable[[], Any]) -> None:
        """Do something about one attempt; what it raises is noted and does not keep the others from their turn."""
        try:
            action()
        except Exception as error:  # noqa: BLE001 - noted: one trial's error must not stop the others
            # When the task was ended meanwhile, that is what the error says, and the loop must end.
            self.check()
            self._note_error(str(attempt), error)

    def _batches(self, live: Sequence[AttemptRecord]) -> Iterator[tuple[TorchXLauncher, list[AttemptRecord]]]:
        batches: dict[int, tuple[TorchXLauncher, list[AttemptRecord]]] = {}
        for attempt in live:
            launcher = self.launcher_for(attempt)
            batches.setdefault(id(launcher), (launcher, []))[1].append(attempt)
        yield from batches.values()

    def _note_started(
        self, attempts: Sequence[AttemptRecord], seen: Mapping[str, AppObservation]
    ) -> list[AttemptRecord]:
        """Record which apps have begun to run since the last poll; return the attempts as they are recorded now."""
        now = time.time()
        running = [one for one in attempts if one.started_at is None and _state_of(one, seen) == "RUNNING"]
        told = [(one, seen[str(one.app_handle)].started_at) for one in running]
        # The end of an app tells its start as well: one that runs for a second is not worth a transaction of its own.
        began = [(one, at or now) for one, at in told if at is None or now >= at + self.note_starts_after]
        if not began:
            return list(attempts)
        noted = {one.submission_key: one for one in self.store.note_started(began)}
        for one in noted.values():
            self.on_record(one, None)
        return [noted.get(one.submission_key, one) for one in attempts]

    def _note_error(self, what: str, error: Exception) -> None:
        log.warning("%s: %s: %s", what, type(error).__name__, error)
        if self.error is None or (is_final(error) and not is_final(self.error)):
            self.error = error

    def _judge(self, attempt: AttemptRecord, seen: AppObservation) -> None:
        observed = evaluate(self.store, attempt, seen, self.policy)
        now, since = time.time(), attempt.submitted_at or attempt.requested_at
        if observed.is_terminal:
            self.record(attempt, observed)
        elif attempt.cancel_requested_at is not None:
            # The process that decided it may have been killed before it told the scheduler.
            self.launcher_for(attempt).cancel(str(attempt.app_handle))
        elif now >= since + self.trial_timeout:
            self.check()
            doing = "still running" if observed.app_state == "RUNNING" else f"still {observed.app_state} in the queue"
            log.warning(
                "Trial %s: its app is %s after %.0f s and is cancelled.", attempt.trial_index, doing, now - since
            )
            reason = f"{TIMEOUT}: {doing} {self.trial_timeout:.0f} s after its submission"
            cancel_attempt(self.store, self.launcher_for(attempt), attempt, reason)
            self.on_change()

    def record(self, attempt: AttemptRecord, observed: AppObservation) -> None:
        """Record the end of an attempt and, unless the trial runs again, what becomes of its trial."""
        self.check()
        if self._runs_again(attempt, observed):
            if attempt.finished_at is None:
                self.store.finish_observed(attempt, observed)
                log.warning(
                    "Trial %s, attempt %s: %s. It runs again.", attempt.trial_index, attempt.number, observed.message
                )
                self.on_change()
            return
        trial = self.trial_of(attempt)
        was_over = trial is None or is_terminal_trial_status(trial.status)
        others = [one for one in self.attempts_of(attempt) if one.number != attempt.number]
        end = self._conclude(attempt, with_last_line(self.launcher_for, attempt, observed))
        if end is None:
            return
        self.on_record(end.attempt, end.trial)
        if not was_over:
            self.on_finalized(end.outcome.trial_status, [*others, end.attempt])
            self._tell(attempt, end)

    def _conclude(self, attempt: AttemptRecord, observed: AppObservation) -> Conclusion | None:
        """Record end and results; None when the results are still waited for."""
        key = attempt.submission_key
        ended_at = self._ended_at.setdefault(key, observed.ended_at or time.time())
        try:
            return settle(self.store, attempt, replace(observed, ended_at=ended_at), rules=self.rules())
        except ResultsPendingError:
            self.results_pending = True
            return None
        except (StoreUnavailableError, StoreConflictError):
            raise  # it says nothing about the results
        except Exception as error:
            times, since = self._unreadable.get(key, (0, time.monotonic()))
            self._unreadable[key] = (times + 1, since)
            given_up = times + 1 >= MAX_UNREADABLE and time.monotonic() >= since + outage_seconds(attempt)
            if not given_up and not is_final(error):
                raise
            return fail_unreadable(self.store, attempt, observed, error)

    def _runs_again(self, attempt: AttemptRecord, observed: AppObservation) -> bool:
        if observed.app_state != "SUCCEEDED" and (attempt.cancel_reason or "").startswith(KILLED):
            return True
        return observed.is_infrastructure_failure and retries_left(self.store, attempt, self.trial_retries)

    def _tell(self, attempt: AttemptRecord, end: Conclusion) -> None:
        status = end.outcome.trial_status
        if status == "COMPLETED":
            values = ", ".join(f"{name} {value['mean']:.6g}" for name, value in end.metrics.items())
            log.info("Trial %s COMPLETED: %s", attempt.trial_index, values)
            return
        how = logging.INFO if status == "EARLY_STOPPED" else logging.WARNING
        log.log(how, "Trial %s %s: %s", attempt.trial_index, status, end.outcome.message)
        if status == "FAILED" and attempt.app_handle is not None:
            self._show_app_log(attempt, attempt.app_handle)

    def _show_app_log(self, attempt: AttemptRecord, handle: str) -> None:
        try:
            lines = self.launcher_for(attempt).logs(handle, lines=LOG_LINES)
        except AxtxError as error:
            log.warning("The log of %s cannot be read: %s", handle, error)
            return
        log.warning("Last lines of %s:\n%s", handle, "\n".join(lines) or "(nothing)")


def _state_of(attempt: AttemptRecord, seen: Mapping[str, AppObservation]) -> str:
    return seen[str(attempt.app_handle)].app_state
