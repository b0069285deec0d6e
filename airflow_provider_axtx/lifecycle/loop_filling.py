"""The part of a loop that fills its slots: trials that wait for their app, then new ones."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_provider_axtx.core.app_observation import AppObservation
from airflow_provider_axtx.core.errors import (
    ExperimentExistsError,
    ExperimentPausedError,
    InvalidInputError,
    StoreConflictError,
)
from airflow_provider_axtx.core.failpoints import crash_point
from airflow_provider_axtx.core.loop_facts import LoopFacts
from airflow_provider_axtx.core.promotion import budget_argument
from airflow_provider_axtx.core.records import AttemptRecord, TaskIdentity, TrialRecord
from airflow_provider_axtx.core.status import TrialStatus, is_terminal_trial_status
from airflow_provider_axtx.core.xcom import Trial
from airflow_provider_axtx.lifecycle.attempts import recorded_end
from airflow_provider_axtx.lifecycle.generate import TrialRequest
from airflow_provider_axtx.lifecycle.loop_steering import SteeredLoop
from airflow_provider_axtx.lifecycle.steering import asked_trials
from airflow_provider_axtx.lifecycle.submit import AppRequest, Budget, check_app, submit_trial
from airflow_provider_axtx.lifecycle.submit_new import NewApps
from airflow_provider_axtx.lifecycle.task_trials import TaskTrials
from airflow_provider_axtx.spec.experiment import ExperimentSpec
from airflow_provider_axtx.spec.halving import promoting, promotions

if TYPE_CHECKING:
    from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher

log = logging.getLogger(__name__)

_ENGINE = "airflow_provider_axtx.optimizer.engine"
#: Seconds for which free slots wait at most for the proposals of others: Ax is asked for as many trials at once as it
#: proposes in this time. Asked for sixteen trials of a model at once, it took 24 s, and all slots were empty. With a
#: second here, one proposal of 0.24 s was followed by a request for four; each took 0.63 s, because trials were in
#: flight by then. The four apps ended together, and as many slots waited for Ax from then on.
PROPOSING_SECONDS = 0.2
#: Slots may wait for Ax for this share of the time of an app before trials are proposed ahead by default.
WAITING_SHARE = 0.01
#: By default one trial is proposed ahead for so many slots, ...
SLOTS_FOR_EACH = 8
#: ... once so many results are known, and in proportion fewer before.
ENOUGH_RESULTS = 32


def ahead_by_default(parallelism: int, results: int) -> int:
    """Return how many trials of a model are proposed ahead where slots would wait for long.

    :param parallelism: number of slots.
    :param results: number of COMPLETED trials.
    """
    return parallelism * min(results, ENOUGH_RESULTS) // (SLOTS_FOR_EACH * ENOUGH_RESULTS)


class FillingLoop(SteeredLoop):
    """Base of ``Loop``."""

    launcher: TorchXLauncher
    task_key: str
    identity: TaskIdentity
    request: AppRequest
    refusal: InvalidInputError | None
    allowed_factories: Sequence[str] | None
    on_attempt: Callable[[AttemptRecord], None]
    propose_ahead: int | None
    generating: Callable[[], AbstractContextManager[object]]
    _changed: bool
    _own: TaskTrials
    _facts: LoopFacts | None
    _refused_at: tuple[dict[str, int], int] | None
    _checked_app: dict[str, Any] | None
    _proposing_seconds: float
    _pace: tuple[int, float]
    _is_filling: bool
    _lacks_results: bool

    def _read_facts(self) -> LoopFacts:
        raise NotImplementedError

    @property
    def _spec(self) -> ExperimentSpec:
        raise NotImplementedError

    def _stop(self, reason: str) -> str | None:
        raise NotImplementedError

    def _fill(self) -> str | None:
        """Submit what waits for it, then new trials, until no slot is free or Ax takes long.

        In the latter case the next step goes on at once, with the results that have arrived meanwhile.

        :return: why there is no further trial, once no app is live any more.
        """
        if not self._steering.may_start:
            return None
        self._run_again_by_hand()
        asked = len(asked_trials(self._steering, self._trials_of_task().indexes))
        while True:
            own = self._trials_of_task()
            free = self.limits.parallelism - len(own.live)
            if free <= 0:
                self._propose_ahead(own)
                return None
            if not self._may_submit_more(own):
                return None
            trials: list[TrialRecord] = []
            refused = None
            if asked:
                # What users have asked for does not wait for what was proposed ahead.
                trials, refused = self._generate(own, min(free, asked), 0)
                asked = 0
            trials = trials or own.unsubmitted()[:free]
            if not trials and self._promote(own, free):
                continue
            if not trials:
                # Without results to wait for, the next ones are asked for with these, which is cheaper.
                at_once, ahead = self._most_at_once(own, free), self._ahead(own) if self._spec.ignores_results else 0
                trials, refused = self._generate(own, at_once, ahead)
                is_stuck = refused and (self._lacks_results or not own.counts.get("COMPLETED"))
                if not trials and is_stuck and self._promote(own, 1, is_last=True):
                    continue
                if not trials:
                    return refused
                self._is_filling = at_once < free
            self._submit(trials[:free])
            if self._is_filling:
                return None

    def _promote(self, own: TaskTrials, free: int, *, is_last: bool = False) -> bool:
        """Let paused trials go on with their next budgets; return whether any does.

        :param free: number of apps that can be submitted now.
        :param is_last: see ``spec.halving.promotions``.
        """
        if (rule := promoting(self._spec)) is None:
            return False
        snapshot = self.store.snapshot(self.experiment)
        found = promotions(self._spec, rule, snapshot, own=own.indexes, is_last=is_last)[:free]
        for index, budget in found:
            self._changed = True
            # When it has paused again, Ax is asked with the same counts and other results.
            self._refused_at = None
            self.check()
            self._submit_again(snapshot.trials[index], self._request_for(budget, is_next=True))
        return bool(found)

    def _request_for(self, budget: float | None = None, *, is_next: bool = False) -> AppRequest:
        """Return what to run, with a budget where trials are promoted: the given one, or that of a first attempt."""
        rule, argument = promoting(self._spec), budget_argument(self._spec)
        if rule is None or argument is None:
            return self.request
        value = rule.budgets[0] if budget is None else budget
        return replace(self.request, budget=Budget(argument, value, is_next))

    def _may_submit_more(self, own: TaskTrials) -> bool:
        """Return whether the app fits those of the experiment's other trials; live apps go on before that is an error.

        :raises ExperimentExistsError: when it does not, and no app is live any more.
        """
        if self._checked_app is not None and self._checked_app == self._read_facts().app:
            return True
        try:
            if self.refusal is not None:
                raise self.refusal
            app = check_app(self.store, self.experiment, self.request, self.launcher.scheduler)
        except (ExperimentExistsError, InvalidInputError) as error:
            if not own.live:
                raise
            log.warning("%s No further trial is submitted; live apps are waited for.", error)
            return False
        self._checked_app, self._facts = app, replace(self._read_facts(), app=app)
        return True

    def _submit(self, trials: Sequence[TrialRecord]) -> None:
        self._changed = True
        new = [trial for trial in trials if trial.status == TrialStatus.CANDIDATE and not self._own.last_attempt(trial)]
        if new:
            self._submit_new(new)
        for trial in trials:
            if trial not in new:
                self.check()
                self._submit_again(trial, self._request_for())

    def _submit_new(self, trials: Sequence[TrialRecord]) -> None:
        rule = promoting(self._spec)
        baseline = [trial for trial in trials if trial.is_baseline and rule is not None]
        if baseline and rule is not None:
            # It does not pause: the constraints that refer to it need its final results.
            self._submit_together(baseline, self._request_for(rule.budgets[-1]))
        if others := [trial for trial in trials if trial not in baseline]:
            self._submit_together(others, self._request_for())

    def _submit_together(self, trials: Sequence[TrialRecord], request: AppRequest) -> None:
        apps = NewApps(
            store=self.store,
            launcher=self.launcher,
            experiment=self.experiment,
            uid=self._read_facts().uid,
            request=request,
            identity=self.identity,
            backfill=self._spec.backfill_values,
            check=self.check,
            on_attempt=self._note_new_attempt,
        )
        try:
            apps.submit(trials)
        except StoreConflictError:
            log.info("Another process works on one of the trials %s.", [trial.index for trial in trials])
            self._note_change()
        except Exception:
            self._note_change()
            raise

    def _note_new_attempt(self, attempt: AttemptRecord) -> None:
        status = TrialStatus.STAGED if attempt.app_handle is None else TrialStatus.RUNNING
        if (trial := self._own.trial(attempt.trial_index)) is not None:
            self._own.note_attempt(attempt, replace(trial, status=status))
        self.on_attempt(attempt)

    def _submit_again(self, trial: TrialRecord, request: AppRequest) -> None:
        """Submit a trial that has an attempt already, in whatever state that is."""
        travelling = Trial(self.experiment, trial.index, trial.arm_name, trial.parameters)
        submit_trial(
            self.store,
            self.launcher,
            travelling,
            request,
            self.identity,
            on_attempt=self.on_attempt,
            launcher_for=self._launcher_of,
        )
        self._note_change()
        last = self.store.latest_attempt(self.experiment, trial.index)
        if last is not None and last.finished_at is not None:
            # Cancelled by another process before it could be submitted.
            self._trials_of_task()
            self._ends.record(last, recorded_end(last) or AppObservation("CANCELLED"))

    def _ahead(self, own: TaskTrials) -> int:
        """Return how many proposals are to be ready when a slot becomes free."""
        if self.propose_ahead is not None:
            return self.propose_ahead
        if self._spec.ignores_results:
            # To ask Ax for many takes little longer than to ask for one.
            return 2 * self.limits.parallelism
        # A trial that is proposed ahead knows one result less. While few are known, this makes the best value worse by
        # more than chance (docs/performance.md), and Ax proposes quickly.
        _, seconds = self._pace
        if own.last_seconds is not None and seconds < WAITING_SHARE * own.last_seconds:
            return 0
        return ahead_by_default(self.limits.parallelism, own.counts.get("COMPLETED", 0))

    def _most_at_once(self, own: TaskTrials, wanted: int) -> int:
        """Return for how many of these trials Ax is to be asked at once: one where it is not known how long that takes.

        It is not known after a new result, with which Ax fits its model again, or for the first time.
        """
        if self._spec.ignores_results:
            return wanted
        completed, seconds = self._pace
        if completed != own.counts.get("COMPLETED", 0):
            return 1
        return max(1, min(wanted, int(PROPOSING_SECONDS / seconds)))

    def _propose_ahead(self, own: TaskTrials) -> None:
        """Have Ax propose trials for slots that become free later; they wait as trials without an attempt.

        A result that arrives before they run does not replace them. A process that has not asked Ax for anything, as
        one that only records an end and refills a slot from them, does not import it for this.
        """
        wanted = self._ahead(own)
        missing = wanted - len(own.unsubmitted())
        is_sought = missing > 0 and _ENGINE in sys.modules
        if is_sought and self._spec.ignores_results:
            # Ax takes little longer for several than for one; a slot that becomes free meanwhile would wait.
            is_sought = 2 * missing > wanted and not self._is_end_due(own)
        if is_sought and self._may_submit_more(own):
            began = time.monotonic()
            trials, _ = self._generate(own, 0, at_once := self._most_at_once(own, missing))
            self._proposing_seconds = time.monotonic() - began
            self._changed |= bool(trials)  # apps may have ended meanwhile
            self._is_filling = bool(trials) and at_once < missing

    def _is_end_due(self, own: TaskTrials) -> bool:
        """Return whether an app may end while Ax proposes, going by how long the app took that ended last."""
        if own.last_seconds is None:
            return False
        now = time.time()
        due = [(one.submitted_at or one.requested_at) + own.last_seconds for one in own.live]
        return any(abs(at - now) < self._proposing_seconds for at in due)

    def _generate(self, own: TaskTrials, free: int, ahead: int) -> tuple[list[TrialRecord], str | None]:
        """Return the next trials, or why there will be none any more; neither when Ax has to wait for results.

        :param free: number of trials that can be submitted now.
        :param ahead: number of further ones.
        """
        self._lacks_results = False
        counts = own.counts
        total = sum(counts.values())
        limit = self._limits.max_trials
        if total >= limit:
            return [], None if own.live else f"max_trials: the experiment has {total} trials"
        if (counts, self._steering.position) == self._refused_at:
            # Nothing has changed since Ax had no trial to propose, so asking again would import Ax for nothing.
            return [], None
        if stop := self._global_stop(counts):
            return [], self._stop(stop)
        self.check()
        began = time.monotonic()
        try:
            with self.generating():
                trials, proposal = self._request.grant(free + ahead, own=own.indexes)
        except ExperimentPausedError:
            return [], None  # since this step has read what is wanted
        if trials:
            self._pace = counts.get("COMPLETED", 0), (time.monotonic() - began) / len(trials)
            own.note_granted(trials)
            crash_point("loop.after_generate")
            return trials, None
        finished, pending = proposal.finished, proposal.pending
        self._refused_at = dict(counts), self._steering.position
        log.info("No trial just now: %s", finished or pending)
        in_flight = sum(number for status, number in counts.items() if not is_terminal_trial_status(status))
        if own.live or (in_flight and not finished):
            return [], None
        self._lacks_results = not finished
        return [], finished or f"Ax has no trial to propose, and none is in flight: {pending}{self._advice}"

    @property
    def _advice(self) -> str:
        """Return what a user can do about an experiment that ends because Ax waits for results of ended trials."""
        if self._spec.early_stopping is None:
            return ""
        return (
            " Ax's model waits for COMPLETED trials, and not for those that were stopped early. Fix: set "
            "generation.allow_exceeding_initialization_budget, lower generation.min_observed_initialization_trials, "
            "or stop fewer trials (min_curves)."
        )

    @property
    def _request(self) -> TrialRequest:
        return TrialRequest(
            self.store,
            self.experiment,
            self.task_key,
            max_trials=self._limits.max_trials,
            requested_by=self.identity,
            first_slot=len(self._own.slots),
            allowed_factories=self.allowed_factories,
            check=self.check,
            on_definition=self._forget_facts,
        )

    def _forget_facts(self) -> None:
        self._facts = None

    def _global_stop(self, counts: Mapping[str, int]) -> str | None:
        if not counts.get("COMPLETED") or self._spec.global_stopping is None:
            return None
        from airflow_provider_axtx.optimizer import engine as optimizer

        reason = optimizer.global_stop(self.store.snapshot(self.experiment))
        return reason and f"global_stopping: {reason}"
