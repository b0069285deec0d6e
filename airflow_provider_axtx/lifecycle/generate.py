"""Which trial comes next: reads the facts, asks Ax, records the answer once."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping, Sequence
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
    from airflow_provider_axtx.core.records import LoopRecord, Proposal, TaskIdentity, TrialRecord
    from airflow_provider_axtx.spec.experiment import ExperimentSpec
    from airflow_provider_axtx.store.experiments import ExperimentStore

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
    :param task_key: identity of the requesting task, see ``names.task_key``.
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
    with store.lease(experiment, task_key, LEASE_SECONDS):
        records, proposal = _propose_and_record(
            store, experiment, n, task_key, max_trials, requested_by, allowed_factories, fixed_parameters
        )
    if records:
        _record_plan(store, experiment, records[-1].index + 1, max_trials, trials_to_follow)
    if not records and proposal.pending:
        raise TrialsPendingError(
            f"Ax cannot propose a trial for {experiment!r} yet: {proposal.pending}.",
            fix="let trials in flight finish first; give the task retries, or ask for fewer trials at a time.",
        )
    return Generation(tuple(_as_trial(experiment, record) for record in records), proposal.finished, proposal.pending)


@retry_conflicts
def _propose_and_record(
    store: ExperimentStore,
    experiment: str,
    n: int,
    task_key: str,
    max_trials: int | None,
    requested_by: TaskIdentity | None,
    allowed_factories: Sequence[str] | None,
    fixed_parameters: Mapping[str, Any] | None,
) -> tuple[list[TrialRecord], Proposal]:
    from airflow_provider_axtx.core.records import Proposal
    from airflow_provider_axtx.optimizer import engine as optimizer

    granted = store.granted(experiment, task_key)
    snapshot = store.snapshot(experiment)
    wanted = n - len(granted)
    if max_trials is not None:
        wanted = min(wanted, max_trials - len(snapshot.trials))
    if wanted <= 0:
        limit = f"max_trials={max_trials} reached" if len(granted) < n else None
        return granted, Proposal((), snapshot.generator_state, finished=limit)
    steering = store.steering(experiment)
    if changes := steering.open(Action.CHANGE_DEFINITION):
        carry_out_change(store, snapshot, changes[0])
        return _propose_and_record(
            store, experiment, n, task_key, max_trials, requested_by, allowed_factories, fixed_parameters
        )
    if asked := asked_trials(steering, {record.index for record in granted}):
        slot = len(granted)
        add_asked_trial(store, snapshot, asked[0], task_key=task_key, slot=slot, requested_by=requested_by)
        return _propose_and_record(
            store, experiment, n, task_key, max_trials, requested_by, allowed_factories, fixed_parameters
        )
    crash_point("generate.before_propose")
    proposal = optimizer.propose(
        snapshot, wanted, allowed_factories=allowed_factories, fixed_parameters=fixed_parameters
    )
    crash_point("generate.after_propose")
    if not proposal.trials:
        return granted, proposal
    added = store.add_trials(
        experiment,
        proposal,
        task_key=task_key,
        first_slot=len(granted),
        expected_version=snapshot.version,
        requested_by=requested_by,
    )
    crash_point("generate.after_record")
    return [*granted, *added], proposal


def _record_plan(
    store: ExperimentStore, experiment: str, trials: int, max_trials: int | None, to_follow: int | None
) -> None:
    limits = [limit for limit in (max_trials, None if to_follow is None else trials + to_follow) if limit is not None]
    if limits:
        store.plan(experiment, min(limits))


def _as_trial(experiment: str, record: TrialRecord) -> Trial:
    return Trial(experiment, record.index, record.arm_name, record.parameters)
