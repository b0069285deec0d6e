"""What the store knows about an experiment, as plain frozen data: the only thing that store and Ax engine exchange."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from airflow_provider_axtx.core.home import axtx_home
from airflow_provider_axtx.core.keys import dag_run_key, task_key
from airflow_provider_axtx.core.status import is_terminal_trial_status

#: A value of one parameter.
ParameterValue = str | int | float | bool
Parameters = dict[str, ParameterValue]

#: Among an attempt's lookup options: when the files of its app were removed, in seconds since the epoch.
FILES_REMOVED_AT = "files_removed_at"
#: Among an attempt's lookup options: its trial's checkpoints were removed because another trial is better.
CHECKPOINT_REMOVED = "checkpoint_removed"
#: Among an attempt's lookup options: what an hour of a core and of a GPU cost when it was submitted.
PRICES = "prices"
#: Among an attempt's lookup options: how far its app was asked to go, where trials are promoted.
BUDGET = "budget"
#: The scheduler of an attempt that belongs to Airflow tasks instead of an app, see ``lifecycle.body``.
AIRFLOW = "airflow"


@dataclass(frozen=True)
class TrialRecord:
    """One trial as recorded.

    :param index: index within the experiment, from 0 without gaps.
    :param arm_name: Ax's arm name, for example ``3_0``.
    :param parameters: the parameterization.
    :param status: an Ax ``TrialStatus`` name.
    :param generation_node: Ax generation node that proposed it; None for an attached trial or the baseline.
    :param generation: JSON object with what else a rebuild needs of the generator run (generator key, type).
    :param origin: ``generated``, ``attached`` or ``baseline``.
    :param reason: why it failed or was abandoned.
    """

    index: int
    arm_name: str
    parameters: Parameters
    status: str
    generation_node: str | None = None
    generation: dict[str, Any] = field(default_factory=dict)
    origin: str = "generated"
    reason: str | None = None

    @property
    def is_baseline(self) -> bool:
        """Whether outcome constraints that are relative refer to it."""
        return self.origin == "baseline"


@dataclass(frozen=True)
class TaskIdentity:
    """The Airflow task instance that asked for something. Outside Airflow all fields keep their defaults.

    :param installation: identity of the Airflow deployment: two deployments may have a DAG of the same id.
    :param max_tries: Airflow raises it at a user's Clear, never at a retry: how the two are told apart.
    :param torchx_conn_id: connection through which the attempt was submitted; a reaper needs it to cancel.
    :param dag_run_generation: how often a DAG run of this id was deleted and created again before this one.
    """

    dag_id: str = ""
    run_id: str = ""
    task_id: str = ""
    map_index: int = -1
    try_number: int = 1
    max_tries: int = 0
    torchx_conn_id: str = ""
    installation: str = ""
    dag_run_generation: int = 0

    @property
    def dag_run(self) -> str:
        """Key of the DAG run, see ``keys.dag_run_key``."""
        return dag_run_key(self.dag_id, self.run_id, self.installation, self.dag_run_generation)

    @property
    def task_key(self) -> str:
        """Key of the task instance without its try number: the same for every retry of it."""
        return task_key(self.dag_run, self.task_id, self.map_index)

    def has_dag_run_id_of(self, other: TaskIdentity) -> bool:
        """Return whether both are tasks of DAG runs of one id, of which one may have been deleted and created again."""
        names = ("installation", "dag_id", "run_id")
        return bool(self.dag_id) and all(getattr(self, name) == getattr(other, name) for name in names)

    def is_task_of(self, other: TaskIdentity) -> bool:
        """Return whether both are tries of one task instance; rows do not hold the generation of its DAG run."""
        return self.has_dag_run_id_of(other) and (self.task_id, self.map_index) == (other.task_id, other.map_index)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object with this object's fields."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any] | None) -> Self:
        """Read one; unknown fields are ignored, and those that are missing or of another type have their defaults."""
        given = value if isinstance(value, Mapping) else {}
        defaults = asdict(cls())
        usable = {name: one for name, one in given.items() if name in defaults and type(one) is type(defaults[name])}
        return cls(**usable)


@dataclass(frozen=True)
class OpenTrial:
    """A trial that has not ended.

    :param dag_run: key of the DAG run that asked for it (``keys.dag_run_key``).
    :param requested_by: the task that asked for it; all defaults for a row of schema 0001.
    """

    experiment: str
    trial_index: int
    dag_run: str
    requested_by: TaskIdentity = TaskIdentity()


@dataclass(frozen=True)
class Observation:
    """One metric of one trial; ``step`` is None for the final value. Floats are exact; ``sem`` None means unknown."""

    trial_index: int
    metric: str
    mean: float
    sem: float | None = None
    step: float | None = None


def final_means(observations: Iterable[Observation]) -> dict[int, dict[str, float]]:
    """Return ``{trial index: {metric: mean}}`` of the final values; progressive results are left out."""
    means: dict[int, dict[str, float]] = {}
    for observation in observations:
        if observation.step is None:
            means.setdefault(observation.trial_index, {})[observation.metric] = observation.mean
    return means


@dataclass(frozen=True)
class EarlierDefinition:
    """A definition that an experiment had before a change of it.

    :param spec: the ``ExperimentSpec`` as a JSON object.
    :param trials: how many trials the experiment had when the definition was changed.
    """

    spec: dict[str, Any]
    trials: int


@dataclass(frozen=True)
class ExperimentSnapshot:
    """Everything that Ax needs to propose the next trial.

    :param name: the experiment's name.
    :param uid: random id given at creation; part of every submission key.
    :param spec: the ``ExperimentSpec`` as a JSON object.
    :param generator_state: what the Ax engine returned with the last proposal (a JSON object); None before the first.
    :param version: compare-and-swap token of this reading.
    :param trials: in order of their index.
    :param observations: in order of trial index, metric, step.
    :param history: the definitions that the experiment had before, the first one first.
    """

    name: str
    uid: str
    spec: dict[str, Any]
    generator_state: dict[str, Any] | None
    version: int
    trials: tuple[TrialRecord, ...] = ()
    observations: tuple[Observation, ...] = ()
    history: tuple[EarlierDefinition, ...] = ()

    @property
    def stoppable(self) -> set[int]:
        """Indexes of the trials in flight that may be stopped early.

        The baseline runs to its end: the constraints that refer to it, today's or later ones, need its final results.
        Without them no trial was ever the best, and Ax's model proposed none.
        """
        in_flight = (trial for trial in self.trials if not is_terminal_trial_status(trial.status))
        return {trial.index for trial in in_flight if not trial.is_baseline}


@dataclass(frozen=True)
class ProposedTrial:
    """A trial that the store has not recorded yet; fields as in ``TrialRecord``.

    :param results: metric -> (mean, SEM or None) of an attached trial that is COMPLETED from the start.
    """

    arm_name: str
    parameters: Parameters
    generation_node: str | None
    generation: dict[str, Any]
    origin: str = "generated"
    results: dict[str, tuple[float, float | None]] | None = None


@dataclass(frozen=True)
class Proposal:
    """Ax's answer to "the next n trials".

    :param trials: as many as Ax could propose, at most n.
    :param generator_state: to be stored with them, in the same transaction.
    :param finished: why there will be no further trial (search space exhausted, strategy completed), or None.
    :param pending: why fewer than n were proposed although it is not finished (Ax waits for results), or None.
    """

    trials: tuple[ProposedTrial, ...]
    generator_state: dict[str, Any] | None
    finished: str | None = None
    pending: str | None = None


@dataclass(frozen=True)
class AttemptRecord:
    """One attempt of a trial: one submission of its app. Times are seconds since the epoch (UTC); None means "not yet".

    :param number: number of the attempt, from 1.
    :param submission_key: the unique name under which it is submitted; how ``find`` recognises it.
    :param app_handle: None between the write-ahead commit and the scheduler's answer.
    :param finished_at: when a terminal app state was recorded.
    :param cancel_requested_at: when somebody decided to cancel it; recorded before the cancel is attempted.
    :param unseen_polls: consecutive observations in which the scheduler did not know the app.
    :param is_infrastructure_failure: it ended through no fault of its own (lost, preempted, node failure).
    :param cpus: cores that its app asks for, all replicas together; a replica that names none counts as one.
    :param gpus: GPUs that its app asks for.
    :param lookup_options: what the scheduler needs to find the app again; None for a row of schema 0001.
    :param host: the host on which alone the app can be observed; None for a scheduler of a cluster.
    :param started_at: when the app began to run, as far as its scheduler tells.
    :param ended_at: when the app ended, as far as its scheduler tells.
    :param poll_failures: consecutive polls that the scheduler has not answered.
    """

    experiment: str
    trial_index: int
    number: int
    submission_key: str
    scheduler: str
    tracker_base: str
    requested_at: float
    identity: TaskIdentity
    app_handle: str | None = None
    submitted_at: float | None = None
    finished_at: float | None = None
    cancel_requested_at: float | None = None
    cancel_reason: str | None = None
    app_state: str | None = None
    message: str | None = None
    unseen_polls: int = 0
    is_infrastructure_failure: bool = False
    cpus: int = 0
    gpus: int = 0
    lookup_options: dict[str, Any] | None = None
    host: str | None = None
    started_at: float | None = None
    ended_at: float | None = None
    poll_failures: int = 0

    @property
    def has_files(self) -> bool:
        """Whether its app's folder, logs and tracker may still be there: they have not been removed."""
        return FILES_REMOVED_AT not in (self.lookup_options or {})

    @property
    def prices(self) -> dict[str, float]:
        """The prices of ``cpu_hour`` and ``gpu_hour`` when it was submitted; empty when none were set."""
        return prices_in(self.lookup_options)

    @property
    def budget(self) -> float | None:
        """How far its app was asked to go; None where trials are not promoted."""
        recorded = (self.lookup_options or {}).get(BUDGET)
        return None if recorded is None else float(recorded)

    @property
    def may_have_checkpoint(self) -> bool:
        """Whether its trial may have checkpoints: they have not been removed, as far as is recorded."""
        return self.has_files and CHECKPOINT_REMOVED not in (self.lookup_options or {})

    @property
    def tracker_may_be_elsewhere(self) -> bool:
        """Whether its tracker may be where this machine does not reach it, when its folder is missing here.

        An app of one host had it there. Tasks that return their results leave nothing in the default folder.
        """
        is_default = Path(self.tracker_base).is_relative_to(axtx_home())
        return self.host is None and not (self.scheduler == AIRFLOW and is_default)

    @property
    def title(self) -> str:
        """Its name within its experiment, in other tools."""
        return f"trial {self.trial_index}" + ("" if self.number == 1 else f", attempt {self.number}")

    def __str__(self) -> str:
        return f"trial {self.trial_index} of {self.experiment!r}, attempt {self.number}"


def prices_in(lookup_options: Mapping[str, Any] | None) -> dict[str, float]:
    """Return the prices that are recorded among an attempt's lookup options."""
    recorded = (lookup_options or {}).get(PRICES)
    return dict(recorded) if isinstance(recorded, Mapping) else {}


@dataclass(frozen=True)
class FirstAttempt:
    """The first attempt of a trial, which is to be recorded; fields as in ``AttemptRecord``."""

    trial_index: int
    tracker_base: str
    cpus: int = 0
    gpus: int = 0


@dataclass(frozen=True)
class TrialEnd:
    """How a trial ends.

    :param status: a terminal ``TrialStatus`` name.
    :param observations: its final values, and steps that are to be recorded with them.
    :param reason: why it failed or was abandoned.
    :param evidence: what the app reported, kept as it is when Ax cannot be given it.
    """

    status: str
    observations: tuple[Observation, ...] = ()
    reason: str | None = None
    evidence: dict[str, Any] | None = None


@dataclass(frozen=True)
class LoopRecord:
    """The loop that one Airflow task runs over an experiment, across its tries and deferrals.

    :param started_at: when its first try began, in seconds since the epoch.
    :param stop_reason: why it has no further trial, or None.
    :param experiment: name of the experiment.
    :param max_tries: Airflow's, at the last start; another value means that a user has cleared the task since.
    :param definition: the ``ExperimentSpec`` as the first start rendered it, as a JSON object.
    """

    started_at: float
    stop_reason: str | None
    experiment: str = ""
    max_tries: int = 0
    definition: dict[str, Any] | None = None
