"""Which trial comes next: reads the facts, asks Ax, records the answer once."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_axtx.core.errors import ExperimentNotFoundError, TrialsPendingError
from airflow_provider_axtx.core.failpoints import crash_point
from airflow_provider_axtx.core.steering import Action
from airflow_provider_axtx.core.xcom import Trial
from airflow_provider_axtx.lifecycle.conflicts import retry_conflicts
from airflow_provider_axtx.lifecycle.definition import OnChange, carry_out_change, resume_definition
from airflow_provider_axtx.lifecycle.ownership import require_own, share
from airflow_provider_axtx.lifecycle.steering import add_asked_trial, asked_trials, paused, read_steering

if TYPE_CHECKING:
    from airflow_provider_axtx.core.records import (
        ExperimentSnapshot,
        LoopRecord,
        Proposal,
        TaskIdentity,
        TrialRecord,
    )
    from airflow_provider_axtx.core.steering import Change
    from airflow_provider_axtx.spec.experiment import ExperimentSpec
    from airflow_provider_axtx.store.experiments import ExperimentStore, Lease

log = logging.getLogger(__name__)

#: Seconds after which another task may fit a model although the lease holder is not done. A generation takes 1 to 2 s
#: at 40 trials, up to 56 s on a constrained mixed space. Only doing the same work twice is avoided: it may be wrong.
LEASE_SECONDS = 300.0


@dataclass(frozen=True)
class Generation:
    """The answer to one request for trials.

    :param trials: the trials of this request, in order of their slot; may be fewer than asked for.
    :param finished: why the experiment will have no further trial, or None.
    :param pending: why Ax proposed fewer than asked for although the experiment goes on, or None.
    """

    trials: tuple[Trial, ...]
    finished: str | None = None
    pending: str | None = None


def create_experiment(
    store: ExperimentStore,
    spec: ExperimentSpec,
    *,
    if_exists: Literal["resume", "fail"],
    on_change: OnChange | None = "refuse",
    allowed_factories: Sequence[str] = (),
    created_by: TaskIdentity | None = None,
    shared_with: tuple[str, ...] = (),
) -> bool:
    """Put an experiment into the store, checked by Ax itself.

    :param if_exists: ``resume`` or ``fail``.
    :param on_change: ``refuse`` another definition than the recorded one, or ``update`` that; None when they were
        compared before.
    :param allowed_factories: patterns (``fnmatch``) of what ``generation.factory`` may name: it is code, and the
        definition may come from a form.
    :param created_by: the task that creates it, and so the DAG whose experiment it is.
    :param shared_with: patterns (``fnmatch``) of the DAG ids that may use it too.
    :return: True when it was created, False when it was there.
    :raises InvalidInputError: when Ax refuses the definition or the change of it, or its factory is not allowed.
    :raises ForeignExperimentError: when it belongs to another DAG that does not share it.
    :raises ExperimentExistsError: when it is there with another definition, or at all with ``fail``.
    """
    from airflow_provider_axtx.spec.generation import check_factory

    check_factory(spec.generation.factory, allowed_factories)
    try:
        require_own(store, spec.name, created_by.dag_id if created_by else "")
        store.spec(spec.name)
    except ExperimentNotFoundError:
        # Only a new experiment is checked: a resumed one was checked when it was created, and importing Ax is slow.
        from airflow_provider_axtx.optimizer import engine as optimizer

        optimizer.validate(spec)
    else:
        if if_exists == "resume":
            if on_change is not None:
                resume_definition(store, spec, on_change, created_by)
            share(store, spec.name, created_by, shared_with)
            return False
    created = store.create(
        spec.name,
        spec.to_json(),
        if_exists=if_exists,
        ax_version=version("ax-platform"),
        created_by=created_by,
        shared_with=shared_with,
    )
    if not created:
        # Another DAG may have created it since.
        require_own(store, spec.name, created_by.dag_id if created_by else "")
        share(store, spec.name, created_by, shared_with)
    return created


def start_loop(
    store: ExperimentStore,
    spec: ExperimentSpec,
    *,
    if_exists: Literal["resume", "fail"],
    task_key: str,
    max_tries: int,
    on_change: OnChange = "refuse",
    allowed_factories: Sequence[str] = (),
    created_by: TaskIdentity | None = None,
    shared_with: tuple[str, ...] = (),
) -> LoopRecord:
    """Create the experiment and record that the task's loop over it begins, or goes on.

    :param if_exists: ``fail`` refuses an experiment that this task has not created itself.
    :param max_tries: Airflow's; another one than before means that a user has cleared the task.
    :param on_change: see ``create_experiment``.
    :param allowed_factories: see ``create_experiment``.
    :param shared_with: see ``create_experiment``.
    :raises ForeignExperimentError: when it belongs to another DAG that does not share it.
    :raises InvalidInputError: when Ax refuses the definition.
    :raises ExperimentExistsError: when it is there with another definition, or at all with ``fail``.
    """
    with contextlib.suppress(ExperimentNotFoundError):
        require_own(store, spec.name, created_by.dag_id if created_by else "")
    known = store.loop(spec.name, task_key)
    if known is None and if_exists == "fail":
        with contextlib.suppress(ExperimentNotFoundError):
            store.spec(spec.name)
            store.create(spec.name, spec.to_json(), if_exists="fail")
    # A start that goes on is not compared again: another task may have changed the definition since.
    is_compared = known is not None and known.max_tries == max_tries and known.definition == spec.to_json()
    if if_exists == "resume" and not is_compared:
        with contextlib.suppress(ExperimentNotFoundError):
            # Before the start is recorded: a retry after a crash between the two compares again.
            resume_definition(store, spec, on_change, created_by)
            is_compared = True
    # First: a retry after a crash between the two must not take the experiment for somebody else's.
    record = store.start_loop(spec.name, task_key, max_tries, spec.to_json())
    create_experiment(
        store,
        spec,
        if_exists="resume" if known is not None else if_exists,
        on_change=None if is_compared else on_change,
        allowed_factories=allowed_factories,
        created_by=created_by,
        shared_with=shared_with,
    )
    return record


def generate_trials(
    store: ExperimentStore,
    experiment: str,
    n: int,
    *,
    task_key: str,
    max_trials: int | None = None,
    trials_to_follow: int | None = None,
    requested_by: TaskIdentity | None = None,
    allowed_factories: Sequence[str] | None = None,
    fixed_parameters: Mapping[str, Any] | None = None,
) -> Generation:
    """Return ``n`` trials for the requesting task: those granted before, those that users ask for, then Ax's.

    A retry, or a second run of the same task, gets the same trials again: the request key is the task instance without
    its try number.

    :param store: the experiment store.
    :param experiment: name of the experiment.
    :param n: number of trials wanted.
    :param task_key: identity of the requesting task, see ``core.keys.task_key``.
    :param max_trials: no further trial when the experiment has this many.
    :param requested_by: the requesting task, recorded with the trials.
    :param trials_to_follow: how many the same DAG run will ask for after these, if known; for displays of progress.
    :param allowed_factories: patterns of what a stored ``generation.factory`` may name; None allows all.
    :param fixed_parameters: values that some parameters have in Ax's trials.
    :raises ExperimentNotFoundError: when there is no such experiment.
    :raises ExperimentPausedError: while a user has paused it.
    :raises TrialsPendingError: when Ax waits for results of trials in flight and no trial could be granted.
    """
    granted = store.granted(experiment, task_key)
    if len(granted) >= n:
        # The trials are already granted, so the task need not import Ax, which is slow.
        return Generation(tuple(_as_trial(experiment, record) for record in granted[:n]))
    steering = read_steering(store, experiment)
    if steering.end_reason is not None:
        return Generation(tuple(_as_trial(experiment, record) for record in granted), finished=steering.end_reason)
    if not steering.may_start:
        raise paused(experiment, steering)
    max_trials = steering.limits.get("max_trials", max_trials)
    request = TrialRequest(
        store,
        experiment,
        task_key,
        max_trials,
        trials_to_follow,
        requested_by,
        allowed_factories=allowed_factories,
        fixed_parameters=fixed_parameters,
    )
    records, proposal = request.grant(n, own={record.index for record in granted})
    if not records and proposal.pending:
        raise TrialsPendingError(
            f"Ax cannot propose a trial for {experiment!r} yet: {proposal.pending}.",
            fix="let trials in flight finish first; give the task retries, or ask for fewer trials at a time.",
        )
    return Generation(tuple(_as_trial(experiment, record) for record in records), proposal.finished, proposal.pending)


@dataclass(frozen=True)
class TrialRequest:
    """For whom trials are generated, and within which limits; arguments as for ``generate_trials``.

    :param first_slot: the task has trials in the slots before this one.
    :param check: called before Ax's answer is recorded; raises when the task was ended meanwhile.
    :param on_definition: called when the definition of the experiment was changed on the way.
    """

    store: ExperimentStore
    experiment: str
    task_key: str
    max_trials: int | None = None
    trials_to_follow: int | None = None
    requested_by: TaskIdentity | None = None
    first_slot: int = 0
    allowed_factories: Sequence[str] | None = None
    fixed_parameters: Mapping[str, Any] | None = None
    check: Callable[[], None] = lambda: None
    on_definition: Callable[[], None] = lambda: None

    def grant(self, n: int, *, own: Collection[int]) -> tuple[list[TrialRecord], Proposal]:
        """Return the trials of the next ``n`` slots: those granted before, those that users ask for, then Ax's.

        :param own: indexes of the task's trials.
        :return: the trials, and Ax's answer, which says why they are fewer.
        :raises ExperimentPausedError: when a user has paused the experiment meanwhile.
        :raises StoreConflictError: when other processes were faster again and again.
        """
        with self.store.lease(self.experiment, self.task_key, LEASE_SECONDS) as lease:
            return self._propose_and_record(n, frozenset(own), lease)

    @retry_conflicts
    def _propose_and_record(self, n: int, own: frozenset[int], lease: Lease) -> tuple[list[TrialRecord], Proposal]:
        from airflow_provider_axtx.core.records import Proposal

        snapshot, steering, granted = self.store.facts_for_proposal(self.experiment, self.task_key, self.first_slot)
        wanted = n - len(granted)
        if self.max_trials is not None:
            wanted = min(wanted, self.max_trials - len(snapshot.trials))
        if wanted <= 0:
            limit = f"max_trials={self.max_trials} reached" if len(granted) < n else None
            return granted, Proposal((), snapshot.generator_state, finished=limit)
        if steering.end_reason is not None:
            return granted, Proposal((), snapshot.generator_state, finished=steering.end_reason)
        if not steering.may_start:
            raise paused(self.experiment, steering)
        if changes := steering.open(Action.CHANGE_DEFINITION):
            carry_out_change(self.store, snapshot, changes[0])
            self.on_definition()
            return self._propose_and_record(n, own, lease)
        if asked := asked_trials(steering, own | {record.index for record in granted}):
            self._add_asked(snapshot, asked[0], self.first_slot + len(granted))
            return self._propose_and_record(n, own, lease)
        proposal, added = self._ask_ax(snapshot, wanted, self.first_slot + len(granted), lease)
        return [*granted, *added], proposal

    def _add_asked(self, snapshot: ExperimentSnapshot, asked: Change, slot: int) -> None:
        add_asked_trial(self.store, snapshot, asked, task_key=self.task_key, slot=slot, requested_by=self.requested_by)
        if (planned := self._planned(len(snapshot.trials) + 1)) is not None:
            self.store.plan(self.experiment, planned)

    def _ask_ax(
        self, snapshot: ExperimentSnapshot, n: int, slot: int, lease: Lease
    ) -> tuple[Proposal, list[TrialRecord]]:
        """Ask Ax for ``n`` trials and record its answer; return both."""
        from airflow_provider_axtx.optimizer import engine as optimizer

        crash_point("generate.before_propose")
        proposal = optimizer.propose(
            snapshot, n, allowed_factories=self.allowed_factories, fixed_parameters=self.fixed_parameters
        )
        crash_point("generate.after_propose")
        if not proposal.trials:
            return proposal, []
        self.check()
        added = self.store.add_trials(
            self.experiment,
            proposal,
            task_key=self.task_key,
            first_slot=slot,
            expected_version=snapshot.version,
            requested_by=self.requested_by,
            planned_trials=self._planned(len(snapshot.trials) + len(proposal.trials)),
        )
        lease.released = True
        crash_point("generate.after_record")
        return proposal, added

    def _planned(self, trials: int) -> int | None:
        """Return how many trials the experiment will have in the end, if that is known now that it has ``trials``."""
        to_follow = None if self.trials_to_follow is None else trials + self.trials_to_follow
        return min((limit for limit in (self.max_trials, to_follow) if limit is not None), default=None)


def _as_trial(experiment: str, record: TrialRecord) -> Trial:
    return Trial(experiment, record.index, record.arm_name, record.parameters)
