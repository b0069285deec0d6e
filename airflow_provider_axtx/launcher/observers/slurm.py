"""Slurm through its own commands.

TorchX's Slurm scheduler submits well, but its ``describe`` raises at every call for a cancelled job ("CANCELLED by
1000"), fails while slurmdbd is down, and does not know a new job until accounting has caught up (5 s). Its ``log_iter``
never ends for an unknown job, and only finds logs from the folder in which the job was submitted.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from airflow_provider_axtx.core.app_observation import UNSEEN, AppObservation
from airflow_provider_axtx.core.errors import SchedulerUnavailableError
from airflow_provider_axtx.launcher.log_sources import FileLog, LogSource
from airflow_provider_axtx.launcher.observers.base import (
    Observer,
    first_found,
    look_again,
    unavailable,
    with_times_of,
)
from airflow_provider_axtx.launcher.removal import remove_in

_TIMEOUT_SECONDS = 60
#: ``-a``: jobs of all users, since another one may submit, wait or reap.
_SACCT = ("sacct", "-a", "-X", "-P", "-n")
#: How far back ``find`` looks for a job by its name; without a start, sacct only knows the jobs of today.
_FIND_SINCE = "now-30days"
#: What ``observe`` asks for, in the same order of both commands; ``squeue`` has no exit code.
_ACCOUNTED = "JobID,JobName,State,ExitCode,Start,End"
_QUEUED = "%i|%j|%T||%S|%e"
#: Times in seconds since the epoch, so that they do not depend on the time zone of a machine.
_TIME_FORMAT = {"SLURM_TIME_FORMAT": "%s"}

_RUNNING = {"RUNNING", "COMPLETING", "SIGNALING", "STAGE_OUT", "SUSPENDED", "STOPPED"}
_PENDING = {
    *("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT"),
    *("RESIZING", "RESV_DEL_HOLD", "POWER_UP_NODE", "EXPEDITING"),
}
#: Ends that the app did not cause.
_INFRASTRUCTURE = {"NODE_FAIL", "BOOT_FAIL", "PREEMPTED", "REVOKED", "LAUNCH_FAILED", "RECONFIG_FAIL"}
_FAILED = {"FAILED", "TIMEOUT", "OUT_OF_MEMORY", "DEADLINE"} | _INFRASTRUCTURE


@dataclass
class _Source:
    """The answer of one command: a row of strings for each job (or part of a heterogeneous job), or an error."""

    rows: list[list[str]] = field(default_factory=list)
    error: str | None = None

    @property
    def is_off(self) -> bool:
        """Whether the cluster keeps no accounting at all: then squeue is all there is."""
        return self.error is not None and "accounting storage is disabled" in self.error.lower()

    def parts(self) -> dict[str, list[list[str]]]:
        """Return the rows of each job; ``12+0`` and ``12+1`` are parts of the heterogeneous job 12."""
        parts: dict[str, list[list[str]]] = defaultdict(list)
        for row in self.rows:
            parts[row[0].partition("+")[0]].append(row)
        return parts


class SlurmObserver(Observer):
    """One ``sacct`` for all jobs; ``squeue`` for those that it does not know, or that may have been requeued."""

    def observe(self, app_ids: Sequence[str]) -> dict[str, AppObservation]:
        jobs = {app_id: number for app_id in app_ids if (number := _job_number(app_id)) is not None}
        if not jobs:
            return dict.fromkeys(app_ids, UNSEEN)
        ids = ",".join(sorted(set(jobs.values())))
        accounting = _ask([*_SACCT, "-j", ids, "-o", _ACCOUNTED], columns=6)
        known = {job: _merged(parts) for job, parts in accounting.parts().items()}
        doubtful = sorted(j for j in set(jobs.values()) if j not in known or _is_doubtful(known[j]))
        queue = _queue(["-j", ",".join(doubtful)], _QUEUED, columns=6) if doubtful else _Source()
        live = {job: _merged(parts) for job, parts in queue.parts().items()}
        seen = {job: _combined_observation(job, known, live, accounting, queue) for job in jobs.values()}
        if all(observation is None for observation in seen.values()):
            raise unavailable(self.name, _reasons(accounting, queue))
        again = look_again(_reasons(accounting, queue))
        return {app_id: (seen[jobs[app_id]] or again) if app_id in jobs else UNSEEN for app_id in app_ids}

    def find(self, submission_key: str) -> str | None:
        """Return the job whose name is the key, whichever user submitted it."""
        queue = _queue(["--name", submission_key], "%i|%j", columns=2)
        found = _named(submission_key, queue)
        if found:
            return first_found(found, submission_key, self.name)
        accounting = _ask([*_SACCT, "-S", _FIND_SINCE, "--name", submission_key, "-o", "JobID,JobName"], columns=2)
        found = _named(submission_key, accounting)
        if not found and (queue.error or (accounting.error and not accounting.is_off)):
            # "Not found" by half of the sources is not an answer: the job would be submitted a second time.
            raise unavailable(self.name, _reasons(accounting, queue))
        return first_found(found or self._find_of_version_before(submission_key), submission_key, self.name)

    def _find_of_version_before(self, submission_key: str) -> list[str]:
        """Return the jobs of this user that the version before named otherwise: their comment begins with the key.

        A job whose handle was not recorded before the upgrade would otherwise be submitted a second time.
        """
        queue = _queue(["-u", str(os.getuid())], "%i|%k", columns=2)
        accounting = _ask(["sacct", "-X", "-P", "-n", "-S", _FIND_SINCE, "-o", "JobID,Comment"], columns=2)
        if queue.error or (accounting.error and not accounting.is_off):
            raise unavailable(self.name, _reasons(accounting, queue))
        rows = [row for row in (*queue.rows, *accounting.rows) if row[1].split()[:1] == [submission_key]]
        return sorted(_Source(rows).parts(), key=int)

    def cancel(self, app_id: str) -> None:
        """Cancel the job with all its parts. TorchX would ask its own ``describe`` first, which raises."""
        job = _job_number(app_id)
        if job is None:
            return
        answer = _run(["scancel", job])
        said = answer.stderr.lower()
        if answer.returncode and "invalid job id" not in said and "already complet" not in said:
            raise SchedulerUnavailableError(
                f"scancel {job} failed: {answer.stderr.strip() or f'exit code {answer.returncode}'}.",
                fix="it is tried again; if it stays so, check that this machine's user may cancel the job.",
            )

    def remove_files(self, submission_key: str) -> bool:
        """Remove the folder that the job had below ``job_dir``; without that option Slurm's files are not ours."""
        job_dir = self.options.get("job_dir")
        if isinstance(job_dir, str) and job_dir:
            if not Path(job_dir).is_dir():
                raise FileNotFoundError(f"the folder {job_dir} (scheduler option job_dir) is not on this machine")
            remove_in(Path(job_dir), submission_key)
        return True

    def logs(self, app_id: str) -> list[LogSource]:
        """Return the replicas' output files, which Slurm writes to the job's work folder."""
        job = _job_number(app_id)
        folder = None if job is None else _work_dir(job)
        if folder is None:
            raise FileNotFoundError(f"Slurm does not know the work folder of job {app_id}")
        files = sorted([*folder.glob(f"slurm-{job}-*.out"), *folder.glob(f"slurm-{job}-*.err")])
        files = files or sorted(folder.glob(f"slurm-{job}.out"))
        if not files:
            raise FileNotFoundError(
                f"there is no {folder}/slurm-{job}-*.out on this machine (the scheduler option job_dir names a folder; "
                "it has to be one that this machine shares with the cluster)"
            )
        return [FileLog(file.name, file) for file in files]


def _job_number(app_id: str) -> str | None:
    """Return the job number of an app id: ``123``, or ``123;cluster`` of a federation."""
    match = re.fullmatch(r"(\d+)(;.*)?", app_id)
    return match[1] if match else None


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=_TIMEOUT_SECONDS,
            env={**os.environ, **_TIME_FORMAT},
        )
    except FileNotFoundError as error:
        raise SchedulerUnavailableError(
            f"There is no command {command[0]} on this machine.",
            fix="install Slurm's client commands on every Airflow worker and triggerer.",
        ) from error


def _ask(command: Sequence[str], *, columns: int) -> _Source:
    """Run a query. The last column may itself contain the separator."""
    try:
        answer = _run(command)
    except (SchedulerUnavailableError, subprocess.TimeoutExpired) as error:
        return _Source(error=str(error))
    if answer.returncode:
        return _Source(error=f"{command[0]}: {answer.stderr.strip() or f'exit code {answer.returncode}'}")
    rows = [line.split("|", columns - 1) for line in answer.stdout.splitlines()]
    return _Source([row for row in rows if len(row) == columns])


def _queue(which: Sequence[str], what: str, columns: int) -> _Source:
    source = _ask(["squeue", "-h", "-t", "all", *which, "-o", what], columns=columns)
    # So squeue answers for one number that it does not know; for several it just leaves them out.
    if source.error and "invalid job id" in source.error.lower():
        return _Source()
    return source


def _combined_observation(
    job: str,
    known: Mapping[str, AppObservation],
    live: Mapping[str, AppObservation],
    accounting: _Source,
    queue: _Source,
) -> AppObservation | None:
    """Combine what accounting and the queue report about a job; None when that is not enough to decide."""
    if job in known and not known[job].is_infrastructure_failure:
        return replace(known[job], started_at=known[job].started_at or _started(live.get(job)))
    if job in live:
        return live[job]
    if queue.error:
        return None
    if job in known:
        return known[job]
    return None if accounting.error and not accounting.is_off else UNSEEN


def _is_doubtful(accounted: AppObservation) -> bool:
    """Return whether the queue may know better than accounting.

    A job that lost its node, or was preempted, is requeued: accounting says NODE_FAIL while it waits again. The end of
    a brief job may be accounted before its start.
    """
    has_run = accounted.app_state in ("SUCCEEDED", "FAILED")
    return accounted.is_infrastructure_failure or (has_run and accounted.started_at is None)


def _started(queued: AppObservation | None) -> float | None:
    return None if queued is None else queued.started_at


def _merged(parts: Sequence[Sequence[str]]) -> AppObservation:
    """Return the state of a job from its parts: it runs while one does, and failed if one failed."""
    observed = [_timed(_observation(*part[1:4]), *part[4:]) for part in parts]
    for wanted in ("RUNNING", "PENDING", "FAILED", "CANCELLED"):
        of_state = [o for o in observed if o.app_state == wanted]
        if of_state:
            decisive = next((o for o in of_state if o.is_infrastructure_failure), of_state[0])
            return with_times_of(observed, decisive)
    return with_times_of(observed, observed[0])


def _timed(seen: AppObservation, start: str, end: str) -> AppObservation:
    """Add the times of a job; one that has not happened is a forecast of Slurm's, or a word."""
    started = float(start) if start.isdecimal() and (seen.is_terminal or seen.app_state == "RUNNING") else None
    ended = float(end) if end.isdecimal() and seen.is_terminal else None
    return replace(seen, started_at=started or None, ended_at=ended or None)


def _observation(name: str, state: str, exit_code: str) -> AppObservation:
    word = state.split()[0].rstrip("+") if state.split() else ""
    code, _, signal_number = exit_code.partition(":")
    # Parts behind the first have names with the replica: see ``launcher.slurm.name_job``.
    replica = name.partition(".")[2]
    label = f"{replica}: " if replica else ""
    message = f"{label}{state}"
    message += f", exit code {code}" if code not in ("", "0") else ""
    message += f", signal {signal_number}" if signal_number not in ("", "0") else ""
    if word in _FAILED:
        return AppObservation("FAILED", message, is_infrastructure_failure=word in _INFRASTRUCTURE)
    if word in _RUNNING:
        return AppObservation("RUNNING")
    if word == "COMPLETED":
        return AppObservation("SUCCEEDED")
    if word == "CANCELLED":
        return AppObservation("CANCELLED", message)
    # A word that this table lacks must never end a trial.
    return AppObservation("PENDING", "" if word in _PENDING else f"{label}unknown Slurm state {state!r}")


def _named(key: str, source: _Source) -> list[str]:
    return sorted((job for job, parts in source.parts().items() if any(part[1] == key for part in parts)), key=int)


def _reasons(*sources: _Source) -> str:
    return "; ".join(source.error for source in sources if source.error)


def _work_dir(job: str) -> Path | None:
    queue = _queue(["-j", job], "%Z", columns=1)
    if not queue.rows:
        queue = _ask([*_SACCT, "-j", job, "-o", "WorkDir"], columns=1)
    folders = [row[0] for row in queue.rows if row[0]]
    return Path(folders[0]) if folders else None
