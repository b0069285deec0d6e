"""The part of a loop that obeys its users: trials that are stopped or run again, limits that were changed."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from airflow_provider_axtx.core.analysis import AnalysisPlan
from airflow_provider_axtx.core.failpoints import crash_point
from airflow_provider_axtx.core.records import AttemptRecord, TrialRecord
from airflow_provider_axtx.core.status import is_terminal_trial_status
from airflow_provider_axtx.core.steering import Action, Steering
from airflow_provider_axtx.lifecycle.attempts import cancel_attempt, end_attempt
from airflow_provider_axtx.lifecycle.ends import Ends
from airflow_provider_axtx.lifecycle.explain import explain_if_due
from airflow_provider_axtx.lifecycle.steering import limits_in_force
from airflow_provider_axtx.lifecycle.task_trials import TaskTrials
from airflow_provider_axtx.spec.limits import Limits

if TYPE_CHECKING:
    from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher
    from airflow_provider_axtx.store.experiments import ExperimentStore

log = logging.getLogger(__name__)


class SteeredLoop:
    """Base of ``Loop``."""

    store: ExperimentStore
    experiment: str
    limits: Limits
    analysis: AnalysisPlan
    allowed_factories: Sequence[str] | None
    check: Callable[[], None]
    #: What users want of the experiment, as this step has read it.
    _steering: Steering
    _ends: Ends

    def _launcher_of(self, attempt: AttemptRecord) -> TorchXLauncher:
        raise NotImplementedError

    def _trials_of_task(self) -> TaskTrials:
        raise NotImplementedError

    def _note_change(self) -> None:
        raise NotImplementedError

    @property
    def _limits(self) -> Limits:
        """The limits of the DAG with those that users have set in their place."""
        return limits_in_force(self.limits, self._steering)

    @property
    def _cancels_at_end(self) -> bool:
        return self.limits.on_stop == "cancel" or self._steering.state == Action.STOP

    def _explain_if_due(self, *, is_over: bool) -> None:
        if explain_if_due(
            self.store,
            self.experiment,
            self.analysis,
            self._steering,
            is_over=is_over,
            allowed_factories=self.allowed_factories,
        ):
            self._note_change()  # apps may have ended meanwhile

    def _stop_trials_by_hand(self) -> None:
        """Cancel the apps of trials that users have stopped; give up such trials that have none yet."""
        asked = {change.trial_index for change in self._steering.open(Action.STOP_TRIAL)}
        if not asked:
            return
        own = self._trials_of_task()
        for trial in own.trials:
            if trial.index in asked and not is_terminal_trial_status(trial.status):
                self._end_trial(own, trial, self._steering.stop_reason_of(trial.index) or "")

    def _end_trial(self, own: TaskTrials, trial: TrialRecord, why: str) -> None:
        live = [attempt for attempt in own.live if attempt.trial_index == trial.index]
        for attempt in live:
            if attempt.cancel_requested_at is None:
                self._ends.each(attempt, functools.partial(self._cancel, attempt, why))
        if not live:
            self._give_up(trial, own.last_attempt(trial), why)

    def _give_up(self, trial: TrialRecord, last: AttemptRecord | None, why: str) -> None:
        """Settle a trial that has no app and will get none."""
        if last is None:
            self.check()
            self.store.complete(self.experiment, trial.index, status="ABANDONED", reason=why)
        else:
            self._ends.each(last, functools.partial(self._give_up_attempt, last, why))
        log.warning("Trial %s is given up: %s", trial.index, why)
        self._note_change()

    def _give_up_attempt(self, last: AttemptRecord, why: str) -> None:
        self.check()
        if last.finished_at is None:
            end_attempt(self.store, self._launcher_of(last), last, why)
        else:
            self.store.complete(self.experiment, last.trial_index, status="ABANDONED", reason=last.message or why)

    def _cancel(self, attempt: AttemptRecord, why: str) -> None:
        self.check()
        cancel_attempt(self.store, self._launcher_of(attempt), attempt, why)
        self._note_change()

    def _run_again_by_hand(self) -> None:
        """Let FAILED trials of this loop that users want to run again wait for their submission."""
        for change in self._steering.open(Action.RETRY_TRIAL):
            if change.trial_index is not None and self._trials_of_task().owns(change.trial_index):
                self.check()
                self.store.reopen_trial(change)
                crash_point("steering.after_reopen")
                self._note_change()
