"""Submitting the apps of several new trials: planned and recorded together, then submitted at the same time.

As for one trial, the write-ahead rows are committed before the scheduler is called. A process that is killed in between
leaves rows without a handle, of which ``submit_trial`` makes one app each, whether it was submitted or not.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_provider_axtx.core.errors import DuplicateAppError, TrialStateError
from airflow_provider_axtx.core.failpoints import crash_point
from airflow_provider_axtx.core.keys import submission_key, tracker_base_for
from airflow_provider_axtx.core.records import AttemptRecord, FirstAttempt, Parameters, TaskIdentity, TrialRecord
from airflow_provider_axtx.launcher.tracker import check_reachable, remove_results
from airflow_provider_axtx.lifecycle.mlflow import mlflow_variables, uses_mlflow
from airflow_provider_axtx.lifecycle.submit import AppRequest, budget_arguments, lookup_options_of

if TYPE_CHECKING:
    from airflow_provider_axtx.launcher.plan import SubmissionPlan
    from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher
    from airflow_provider_axtx.store.experiments import ExperimentStore

log = logging.getLogger(__name__)

#: Seconds for which the handles of other submissions are waited for before one is recorded.
_TOGETHER = 0.05


@dataclass
class NewApps:
    """Submits the apps of trials that have no attempt yet.

    :param uid: the experiment's random id.
    :param backfill: values of parameters that were added to the experiment, for trials that were generated before.
    :param check: called before anything is recorded; raises when the task was ended meanwhile.
    :param on_attempt: told of each attempt as soon as it is recorded, and again with its handle.
    """

    store: ExperimentStore
    launcher: TorchXLauncher
    experiment: str
    uid: str
    request: AppRequest
    identity: TaskIdentity
    backfill: Parameters
    check: Callable[[], None]
    on_attempt: Callable[[AttemptRecord], None]
    #: The first error of a submission. The others were carried out all the same.
    _error: Exception | None = field(default=None, init=False)

    def submit(self, trials: Sequence[TrialRecord]) -> None:
        """Submit one app for each of the trials, at most once.

        :raises StoreConflictError: when one of the trials is another process's meanwhile.
        :raises InvalidInputError: when the component does not fit the parameters.
        :raises SchedulerUnavailableError: when the scheduler does not answer; the attempts without a handle go on from
            there.
        """
        at_once = self._at_once
        # No attempt is recorded before its app can be submitted at once: the claim on its row does not last long.
        for start in range(0, len(trials), at_once):
            self.check()
            self._submit_together(trials[start : start + at_once])

    @property
    def _at_once(self) -> int:
        """How many apps are submitted at the same time: one, where MLflow is asked for its run before."""
        if uses_mlflow(self.request.metrics, self.launcher.mlflow_tracking_uri):
            return 1
        return self.launcher.submissions_at_once

    def _submit_together(self, trials: Sequence[TrialRecord]) -> None:
        planned = [self._plan_first(trial) for trial in trials]
        crash_point("submit.before_begin_attempt")
        attempts = self.store.begin_first_attempts(
            self.experiment,
            [
                FirstAttempt(trial.index, base, plan.resources.cpu or plan.resources.replicas, plan.resources.gpu)
                for trial, (base, plan) in zip(trials, planned, strict=True)
            ],
            scheduler=self.launcher.scheduler,
            identity=self.identity,
            lookup_options=lookup_options_of(self.launcher, self.request),
            host=self.launcher.host,
        )
        for attempt in attempts:
            self.on_attempt(attempt)
        self._error = None
        plans = [
            self._with_mlflow(trial, attempt, plan)
            for trial, attempt, (_, plan) in zip(trials, attempts, planned, strict=True)
        ]
        crash_point("submit.before_submit")
        for handles in self._handles(list(zip(attempts, plans, strict=True))):
            crash_point("submit.after_submit")
            self._record(handles)
        if self._error is not None:
            raise self._error

    def _plan_first(self, trial: TrialRecord) -> tuple[str, SubmissionPlan]:
        """Check by a dry run that the app can be submitted; return where it reports, and the plan."""
        request = self.request
        key = submission_key(self.experiment, self.uid, trial.index, 1)
        base = tracker_base_for(key, request.tracker_root, request.tracker_base, shared=request.tracker_base_shared)
        plan = self._plan(trial, key, base)
        check_reachable(request.tracker_base or request.tracker_root)
        if request.tracker_base_shared:
            # Shared by all attempts: what an earlier one left there must not be read as this one's result.
            remove_results(base, trial.index)
        return base, plan

    def _with_mlflow(self, trial: TrialRecord, attempt: AttemptRecord, plan: SubmissionPlan) -> SubmissionPlan:
        """Return the plan with the variables of the attempt's run in MLflow, which cannot be there before it."""
        tracking_uri = self.launcher.mlflow_tracking_uri
        variables = mlflow_variables(self.store, attempt, self.request.metrics, tracking_uri)
        return self._plan(trial, attempt.submission_key, attempt.tracker_base, variables) if variables else plan

    @property
    def _budget(self) -> dict[str, float]:
        budget = self.request.budget
        return {} if budget is None else budget_arguments(self.request, budget.value)

    def _plan(
        self, trial: TrialRecord, key: str, tracker_base: str, variables: Mapping[str, str] | None = None
    ) -> SubmissionPlan:
        return self.launcher.plan(
            self.request.component,
            {**self.backfill, **trial.parameters, **self._budget},
            self.request.component_args,
            trial_index=trial.index,
            experiment=self.experiment,
            tracker_base=tracker_base,
            submission_key=key,
            variables=variables,
        )

    def _handles(
        self, planned: Sequence[tuple[AttemptRecord, SubmissionPlan]]
    ) -> Iterator[list[tuple[AttemptRecord, str]]]:
        """Submit, and yield the handles as they come; an error of one submission is kept for the end."""
        if len(planned) == 1:
            ((attempt, plan),) = planned
            if handle := self._handle(functools.partial(self._submit, plan)):
                yield [(attempt, handle)]
            return
        with ThreadPoolExecutor(len(planned), thread_name_prefix="axtx-submit") as threads:
            pending = {threads.submit(self._submit, plan): attempt for attempt, plan in planned}
            while pending:
                # Those that come at about the same time are recorded in one transaction.
                done, _ = wait(pending, timeout=_TOGETHER)
                if not done:
                    done, _ = wait(pending, return_when=FIRST_COMPLETED)
                found = [(pending.pop(future), self._handle(future.result)) for future in done]
                if came := [(attempt, handle) for attempt, handle in found if handle is not None]:
                    yield came

    def _handle(self, answer: Callable[[], str]) -> str | None:
        try:
            return answer()
        except Exception as error:  # noqa: BLE001 - raised when the others are submitted
            self._error = self._error or error
            return None

    def _submit(self, plan: SubmissionPlan) -> str:
        try:
            return self.launcher.submit(plan)
        except DuplicateAppError:
            # Another process of this task was faster, on a scheduler that refuses a second app of the same name.
            found = self.launcher.find(plan.submission_key)
            if found is None:
                raise
            return found

    def _record(self, submitted: list[tuple[AttemptRecord, str]]) -> None:
        try:
            attempts = self.store.record_handles(submitted)
        except TrialStateError:
            for attempt, handle in submitted:
                self._record_one(attempt, handle)
            return
        crash_point("submit.after_record_handle")
        for attempt in attempts:
            self._look_after(attempt)

    def _record_one(self, attempt: AttemptRecord, handle: str) -> None:
        try:
            self._look_after(self.store.record_handle(attempt, handle))
        except TrialStateError as error:
            # A second app of the same attempt: the recorded one stays, ours goes before anything waits for it.
            self.launcher.cancel(handle)
            self._error = self._error or error

    def _look_after(self, attempt: AttemptRecord) -> None:
        log.info("Submitted trial %s, attempt %s: %s", attempt.trial_index, attempt.number, attempt.app_handle)
        self.on_attempt(attempt)
        if attempt.cancel_requested_at is not None and attempt.app_handle is not None:
            # Cancelled between the write-ahead row and the handle, when there was no app to cancel yet.
            self.launcher.cancel(attempt.app_handle)
