"""What a step of a loop reads: plain frozen data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from airflow_provider_axtx.core.records import AttemptRecord, LoopRecord, TaskIdentity, TrialRecord, prices_in
from airflow_provider_axtx.core.steering import Steering


@dataclass(frozen=True, slots=True)
class EndedTrial:
    """What a loop needs of a trial that has ended."""

    index: int
    status: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class AttemptSpan:
    """When an attempt ran, and what its app asked for; fields as in ``AttemptRecord``."""

    trial_index: int
    submitted_at: float | None
    started_at: float | None
    ended_at: float | None
    finished_at: float | None
    cpus: int
    gpus: int
    lookup_options: dict[str, Any] | None

    @property
    def prices(self) -> dict[str, float]:
        """The prices of ``cpu_hour`` and ``gpu_hour`` when it was submitted; empty when none were set."""
        return prices_in(self.lookup_options)


@dataclass(frozen=True)
class LoopFacts:
    """The records of one loop as of one moment, without what the loop knows already.

    :param uid: the experiment's random id.
    :param spec: the ``ExperimentSpec`` as a JSON object.
    :param app: what the experiment's trials run; None before the first submission.
    :param steering: what users want of the experiment.
    :param loop: the loop's own record; None before its first start.
    :param counts: number of the experiment's trials by status.
    :param granted: indexes of the trials in the slots that the loop did not know, in order of the slots.
    :param ended: those of them that have ended.
    :param spans: the attempts of these.
    :param trials: all open trials of the experiment, those with an attempt that has not ended, and those that the loop
        asked for.
    :param attempts: all attempts of these.
    :param asked_by: who asked for those of them that have ended for the reason that the loop asked about, without any
        attempt.
    """

    uid: str
    spec: dict[str, Any]
    app: dict[str, Any] | None
    steering: Steering
    loop: LoopRecord | None
    counts: dict[str, int]
    granted: tuple[int, ...]
    ended: tuple[EndedTrial, ...]
    spans: tuple[AttemptSpan, ...]
    trials: dict[int, TrialRecord]
    attempts: dict[int, list[AttemptRecord]]
    asked_by: dict[int, TaskIdentity] = field(default_factory=dict)
