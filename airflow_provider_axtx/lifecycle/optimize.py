"""One reconcile step of a whole experiment: observe, record, stop, decide, fill free slots, say what to wait for.

Every effect is recorded before it is made, or may be repeated: a step can be killed at any line, and the
next one, in whatever process, goes on from what is recorded. Ax is imported only when a slot has to be filled.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_axtx.core.analysis import AnalysisPlan
from airflow_provider_axtx.core.app_observation import AppObservation, LostAppPolicy
from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.core.failpoints import crash_point
from airflow_provider_axtx.core.loop_facts import LoopFacts
from airflow_provider_axtx.core.records import AttemptRecord, TaskIdentity, TrialRecord
from airflow_provider_axtx.core.status import TrialStatus, is_terminal_trial_status
from airflow_provider_axtx.core.steering import Steering
from airflow_provider_axtx.lifecycle.attempts import recorded_end
from airflow_provider_axtx.lifecycle.ends import Ends
from airflow_provider_axtx.lifecycle.loop_filling import FillingLoop
from airflow_provider_axtx.lifecycle.reading import ResultRules, curve_metrics, curve_source
from airflow_provider_axtx.lifecycle.submit import AppRequest
from airflow_provider_axtx.lifecycle.task_trials import TaskTrials, catch_up, read_task_trials
from airflow_provider_axtx.spec.experiment import ExperimentSpec
from airflow_provider_axtx.spec.limits import Limits

if TYPE_CHECKING:
    from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher
    from airflow_provider_axtx.store.experiments import ExperimentStore

log = logging.getLogger(__name__)

#: Start of the reason of a trial that was cancelled because a limit of the experiment was reached.
STOPPED = "stopped"
#: Seconds between two polls when Ax waits for trials of other tasks, and until a cancelled app is cancelled again.
LOOK_SECONDS = 30.0
#: Seconds between two looks for results that are not visible yet.
RESULTS_SECONDS = 1.0
#: Seconds that an app has run before a process that polls it again before long records its start.
STARTED_SECONDS = 2.0


@dataclass(frozen=True)
class Step:
    """What one step has led to.

    :param changed: something was recorded or submitted: take another step before waiting.
    :param live: attempts whose end is to be waited for, without those that only another host can observe.
    :param until: when to look again even if none has ended, in seconds since the epoch; None is never.
    :param finished: why the experiment has ended, or None while it goes on.
    :param last_seconds: how long the app that ended last took, in seconds; None before the first.
    :param reporting: for an experiment with early stopping, where each live app reports: tracker base, trial index, how
        many steps were there at the last look, and where else they are read if they are; None for one without.
    :param error: the first error of an attempt, or one that no further step can fix; the other attempts were dealt with
        all the same.
    :param steering_seen: position of the last change of what users want that this step has obeyed, -1 before the first.
    :param is_filling: there is more to propose, or to decide: take another step at once.
    """

    changed: bool
    live: tuple[AttemptRecord, ...]
    until: float | None
    finished: str | None
    last_seconds: float | None = None
    reporting: list[list[Any]] | None = None
    error: Exception | None = None
    steering_seen: int = -1
    is_filling: bool = False


@dataclass
class Loop(FillingLoop):
    """The loop of one task over one experiment.

    A retry goes on where the try before ended, and re-attaches to live apps. So does a user's Clear; trials whose apps
    were cancelled because the task was ended then run again. A live attempt goes on with the scheduler that it was
    submitted to, whichever scheduler new trials are submitted to.

    :param experiment: name of the experiment, which exists.
    :param task_key: identity of the task (``core.keys.task_key``): its trials are those that were granted to it.
    :param started_at: when the loop first started (``store.start_loop``).
    :param request: what to run for a trial.
    :param trial_timeout: seconds since submission after which an app is cancelled.
    :param early_stopping_interval: seconds between two looks at progressive results.
    :param launcher_for: gives the launcher of an attempt; None is ``launcher`` for all.
    :param refusal: why no further trial can be submitted; raised once no app is live any more.
    :param allowed_factories: patterns of what a stored ``generation.factory`` may name; None allows all.
    :param propose_ahead: how many trials are proposed for slots that become free later; None is as many as change
        nothing for the trials, and otherwise one for 8 slots from 32 results on and in proportion fewer before, while a
        proposal takes more than a hundredth of the time of an app.
    :param check: called before anything is submitted or settled; raises when the task was ended meanwhile.
    :param on_attempt: told of each attempt as soon as it is recorded.
    :param on_finalized: told the terminal ``TrialStatus`` name of each trial that this loop settles, and its attempts.
    :param generating: gives what is entered around each request for a trial.
    :param analysis: when the experiment is explained.
    """

    store: ExperimentStore
    launcher: TorchXLauncher
    experiment: str
    task_key: str
    identity: TaskIdentity
    started_at: float
    request: AppRequest
    limits: Limits
    trial_timeout: float
    early_stopping_interval: float = 60.0
    policy: LostAppPolicy = field(default_factory=LostAppPolicy)
    launcher_for: Callable[[AttemptRecord], TorchXLauncher] | None = None
    refusal: InvalidInputError | None = None
    allowed_factories: Sequence[str] | None = None
    propose_ahead: int | None = None
    check: Callable[[], None] = lambda: None
    on_attempt: Callable[[AttemptRecord], None] = lambda attempt: None
    on_finalized: Callable[[str, Sequence[AttemptRecord]], None] = lambda status, attempts: None
    generating: Callable[[], AbstractContextManager[object]] = nullcontext
    analysis: AnalysisPlan = field(default_factory=AnalysisPlan)
    _began: float = field(default=0.0, init=False)
    _changed: bool = field(default=False, init=False)
    _looked_at: float = field(default=0.0, init=False)
    _steps_seen: dict[str, int] | None = field(default=None, init=False)
    #: The trials of this loop, and what was read with them; read again when this process does not know what changed.
    _own: TaskTrials = field(init=False)
    _facts: LoopFacts | None = field(default=None, init=False)
    #: The trials by status, and what users wanted, when Ax last had no trial to propose.
    _refused_at: tuple[dict[str, int], int] | None = field(default=None, init=False)
    #: What users want of the experiment, as this step has read it.
    _steering: Steering = field(default_factory=Steering, init=False)
    #: The recorded definition and app, and what they say of results.
    _rules_read: tuple[tuple[dict[str, Any], dict[str, Any] | None], ResultRules] | None = field(
        default=None, init=False
    )
    #: What the trials of the experiment run, when it was compared with what this loop submits.
    _checked_app: dict[str, Any] | None = field(default=None, init=False)
    #: Seconds that the last proposal made ahead took; at first a guess.
    _proposing_seconds: float = field(default=0.2, init=False)
    #: Seconds that Ax took for each trial of the last request, and how many trials had completed then.
    _pace: tuple[int, float] = field(default=(-1, 0.0), init=False)
    #: Whether this step has left trials to propose to the next one.
    _is_filling: bool = field(default=False, init=False)
    _lacks_results: bool = field(default=False, init=False)
    _ends: Ends = field(init=False)

    def __post_init__(self) -> None:
        self._own = TaskTrials(self.identity)
        self._ends = Ends(
            store=self.store,
            launcher_for=self._launcher_of,
            policy=self.policy,
            trial_timeout=self.trial_timeout,
            trial_retries=self.request.trial_retries,
            check=lambda: self.check(),  # looked up at each call
            rules=lambda: self._rules,
            trial_of=lambda attempt: self._own.trial(attempt.trial_index),
            on_change=self._note_change,
            on_record=self._note_record,
            attempts_of=lambda attempt: self._own.attempts.get(attempt.trial_index, ()),
            on_finalized=self.on_finalized,
        )

    def _launcher_of(self, attempt: AttemptRecord) -> TorchXLauncher:
        return self.launcher if self.launcher_for is None else self.launcher_for(attempt)

    def step(self, ended: Mapping[str, AppObservation] | None = None) -> Step:
        """Bring the experiment one step forward.

        :param ended: terminal observations by app handle that were made already, by the trigger that has waited.
        :raises SchedulerUnavailableError: when no app can be submitted; the next call goes on from here.
        :raises AppElsewhereError: when only another host can observe the apps that are left.
        :raises ExperimentExistsError: when the trials of the experiment run another app, and no app is live any more.
        """
        self._began, self._changed, self._facts, self._is_filling = time.time(), False, None, False
        self._steering = self._read_facts().steering
        crash_point("steering.after_read")
        self._record_ends(ended or {})
        self._stop_early()
        self._stop_trials_by_hand()
        reason = self._decide()
        if reason is None and not self._is_filling:
            reason = self._fill()
        if reason is not None:
            self._wind_down(reason)
        own = self._trials_of_task()
        self._explain_if_due(is_over=reason is not None and not own.live)
        if reason is not None and not own.live and (why := self._recorded(reason)) is not None:
            return Step(True, (), None, why)
        error, seen = self._ends.error, self._steering.position
        live = tuple(attempt for attempt in own.live if attempt.submission_key not in self._ends.elsewhere)
        if own.live and not live and not self._changed:
            raise self._ends.elsewhere[own.live[0].submission_key]
        until = self._until(own, live)
        reporting = self._reporting(live)
        return Step(self._changed, live, until, None, own.last_seconds, reporting, error, seen, self._is_filling)

    def await_end(self, step: Step, poll_interval: float) -> None:
        """Wait until it is time for another step, or until one of the apps may have ended.

        :param poll_interval: seconds between two polls of the apps.
        """
        self._ends.note_starts_after = min(poll_interval, STARTED_SECONDS)
        # What took long in the step, such as a generation, has delayed the next poll already.
        look_at = (self._began if step.changed else time.time()) + poll_interval
        seconds = max(0.0, (look_at if step.until is None else min(look_at, step.until)) - time.time())
        launchers = {id(launcher): launcher for launcher in map(self._launcher_of, step.live)}
        if len(launchers) == 1:
            (launcher,) = launchers.values()
            launcher.await_end([str(attempt.app_handle) for attempt in step.live], seconds)
        else:
            time.sleep(seconds)

    def trials_of_task(self) -> TaskTrials:
        """Return all trials of this loop and their attempts, as they are recorded now."""
        return read_task_trials(self.store, self.experiment, self.task_key)

    def table(self) -> str:
        """Return a line for each trial of this loop: status, attempts, run time, metrics, parameters."""
        return self.trials_of_task().table(self.store.snapshot(self.experiment).observations)

    def _read_facts(self) -> LoopFacts:
        if self._facts is None:
            self._facts = catch_up(self.store, self.experiment, self.task_key, self._own)
        return self._facts

    def _trials_of_task(self) -> TaskTrials:
        """Return this loop's trials and their attempts as they are recorded."""
        self._read_facts()
        return self._own

    def _note_change(self) -> None:
        self._changed, self._facts = True, None

    def _note_record(self, attempt: AttemptRecord, trial: TrialRecord | None) -> None:
        """Take in an attempt, and a trial that has changed with it, as they are recorded now."""
        self._own.note_attempt(attempt, trial)
        self._changed |= trial is not None

    # Ends

    def _record_ends(self, known: Mapping[str, AppObservation]) -> None:
        """Poll all live apps; record what has ended, cancel what has had its time."""
        own = self._trials_of_task()
        self._ends.poll(own.live, known)
        for trial in own.trials:
            last = own.last_attempt(trial)
            # A CANDIDATE with an attempt is a FAILED trial that runs again.
            may_end = not is_terminal_trial_status(trial.status) and trial.status != TrialStatus.CANDIDATE
            if last is not None and may_end:
                observed = recorded_end(last)
                if observed is not None:
                    # The process that recorded its end came no further.
                    self._ends.each(last, functools.partial(self._ends.record, last, observed))

    # Stopping

    @property
    def _rules(self) -> ResultRules:
        facts = self._read_facts()
        recorded = facts.spec, facts.app
        if self._rules_read is None or self._rules_read[0] != recorded:
            self._rules_read = recorded, ResultRules.from_json(*recorded)
        return self._rules_read[1]

    @property
    def _spec(self) -> ExperimentSpec:
        return self._rules.spec

    def _stop_early(self) -> None:
        live, now = self._trials_of_task().live, time.time()
        if not live or now < self._looked_at + self.early_stopping_interval:
            return
        self._looked_at = now
        if self._spec.early_stopping is None:
            return
        from airflow_provider_axtx.lifecycle.early_stop import count_steps, stop_early

        metrics = curve_metrics(self.store, self.experiment)
        # Counted before they are read: what is written in between wakes a deferred task again.
        self._steps_seen = {str(one.app_handle): count_steps(one, curve_source(one, metrics)) for one in live}
        if stop_early(self.store, self._launcher_of, self.experiment, live):
            self._note_change()

    def _decide(self) -> str | None:
        """Return why there will be no further trial, recorded before anything is done about it, or None."""
        recorded = self._read_facts().loop
        if recorded is not None and recorded.stop_reason is not None:
            return recorded.stop_reason
        if self._steering.end_reason is not None:
            # Recorded with the loop at the end only: until then the user may take it back.
            return self._steering.end_reason
        reason = self._limits.reached(self._trials_of_task().progress(self.started_at), time.time())
        return None if reason is None else self._stop(reason)

    def _stop(self, reason: str) -> str | None:
        log.info("No further trial: %s", reason)
        recorded = self._recorded(reason)
        crash_point("loop.after_decide")
        return recorded

    def _recorded(self, reason: str) -> str | None:
        """Record why there is no further trial; None when the next step has to decide anew.

        A step may take minutes, for example to explain the experiment. Users who raised a limit meanwhile, or let the
        experiment go on, were once ignored: their change came before the reason that it takes back.
        """
        recorded = self.store.stop_loop(self.experiment, self.task_key, reason, seen=self._steering.position)
        if recorded is None:
            log.info("Users have asked for something since. Deciding anew.")
            self._changed = self._is_filling = True
        return recorded

    def _wind_down(self, reason: str) -> None:
        """Give up what has no app yet; cancel live apps if that was asked for."""
        own = self._trials_of_task()
        why = f"{STOPPED}: {reason}"
        for attempt in own.live if self._cancels_at_end else ():
            if attempt.cancel_requested_at is None:
                self._ends.each(attempt, functools.partial(self._cancel, attempt, why))
        for trial in own.unsubmitted(again=False):
            self._give_up(trial, own.last_attempt(trial), why)

    # Waiting

    def _reporting(self, live: Sequence[AttemptRecord]) -> list[list[Any]] | None:
        if (seen := self._steps_seen) is None:
            return None
        metrics = curve_metrics(self.store, self.experiment)
        return [
            [
                *(one.tracker_base, one.trial_index, seen.get(str(one.app_handle), 0)),
                # A triggerer of the version before knows three values.
                *([curve_source(one, metrics)] if metrics else []),
            ]
            for one in live
        ]

    def _until(self, own: TaskTrials, live: Sequence[AttemptRecord]) -> float | None:
        """Return when to look again although no app has ended."""
        now = time.time()
        times = [self._limits.look_at(own.progress(self.started_at), now)]
        for attempt in live:
            timeout = (attempt.submitted_at or attempt.requested_at) + self.trial_timeout
            times.append(timeout if attempt.cancel_requested_at is None else now + LOOK_SECONDS)
        if not live and self._steering.may_start:
            times.append(now + LOOK_SECONDS)
        if self._ends.results_pending:
            times.append(now + RESULTS_SECONDS)
        return min((at for at in times if at is not None), default=None)
