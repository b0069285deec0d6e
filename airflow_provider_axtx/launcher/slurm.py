"""Submitting to Slurm: what has to be checked and changed in TorchX's request."""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torchx.specs import AppDef, Role

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.launcher.local_detached.environment import app_environment

#: TorchX writes these options into the batch script without quotes. Characters besides letters, digits and ``_``.
_OPTION_CHARACTERS = {
    "partition": ".,+-",
    "time": ":-",
    "constraint": "&|*!()[],.:@=+-",
    "mail-user": ".@+,-",
    "mail-type": ",",
}
#: Our own option beside TorchX's: the signal that the app gets before Slurm ends it, as ``sbatch --signal`` takes it.
SIGNAL = "signal"
_SIGNAL = re.compile(r"([A-Z][A-Z0-9]{1,9}|[1-9][0-9]?)(@[1-9][0-9]{0,4})?")
_TEXT_OPTIONS = ("comment", "job_dir")
_ROLE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def checked(app: AppDef, options: Mapping[str, Any]) -> dict[str, Any]:
    """Check that Slurm can run an app with these options.

    :return: the options that TorchX takes: it would work in ``job_dir`` itself, and does not know the signal.
    :raises InvalidInputError: names what it cannot run, or that Slurm's commands are not installed.
    """
    check_command("sbatch")
    check_options(options)
    check_submission(app)
    return {name: value for name, value in options.items() if name not in ("job_dir", SIGNAL)}


def complete_request(request: Any, key: str, options: Mapping[str, Any]) -> None:
    """Change what TorchX would submit: names, environment, restarts, the signal and the folder.

    :param request: TorchX's ``SlurmBatchRequest``.
    :param key: the submission key.
    """
    withhold_secrets(request)
    forbid_requeue(request)
    name_job(request, key)
    signal_before_end(request, options.get(SIGNAL))
    work_in(request, options.get("job_dir"), key)


def check_options(options: Mapping[str, Any]) -> None:
    """Check that no option becomes a further option or a command of the batch script.

    :raises InvalidInputError: names the option.
    """
    for name, characters in _OPTION_CHARACTERS.items():
        value = options.get(name)
        if value is not None and not re.fullmatch(rf"[\w{re.escape(characters)}]+", value, re.ASCII):
            raise InvalidInputError(
                f"scheduler_args: {name} {value!r} has characters that this option of Slurm cannot have.",
                fix=f"use only letters, digits and the characters _{characters}",
            )
    value = options.get(SIGNAL)
    if value is not None and not _SIGNAL.fullmatch(value):
        raise InvalidInputError(
            f"scheduler_args: {SIGNAL} {value!r} is not a signal and a number of seconds.",
            fix="write for example TERM@120: the app gets SIGTERM 120 s before its time is up.",
        )
    for name in _TEXT_OPTIONS:
        value = options.get(name)
        if value is not None and not value.isprintable():
            raise InvalidInputError(
                f"scheduler_args: {name} {value!r} has a newline or another control character.", fix="use one line."
            )


def check_submission(app: AppDef) -> None:
    """Check that an app has nothing that Slurm, unlike other schedulers, cannot run.

    :raises InvalidInputError: the name of a role or a variable that would become part of the batch script, an
        environment variable that Slurm would corrupt, or an argument that TorchX would.
    """
    for role in app.roles:
        _check_names(role)
        bad = sorted(name for name, value in role.env.items() if re.search(r"[,'\"\n\r]", value))
        if bad:
            raise InvalidInputError(
                f"Role {role.name} sets {', '.join(bad)} to a value with a comma, quote or newline. Slurm cuts such a "
                "value and drops the variables after it.",
                fix="let the component pass it in args, not in env.",
            )
        # TorchX puts the job number there after it has resolved ``$$``, so that no escape gets past it.
        if any(re.search(r"(?<!\$)(?:\$\$)+\{app_id\}", argument) for argument in role.args):
            raise InvalidInputError(
                f"An argument of role {role.name} contains the text ${{app_id}}, which TorchX replaces by the job's "
                "number on Slurm.",
                fix="choose another value.",
            )


def _check_names(role: Role) -> None:
    if not _ROLE_NAME.fullmatch(role.name):
        raise InvalidInputError(
            f"The role name {role.name!r} cannot be part of a job's name and of the names of its log files.",
            fix="use up to 100 letters, digits, dots, dashes and underscores.",
        )
    bad = [name for name in role.env if not _VARIABLE_NAME.fullmatch(name)]
    if bad:
        raise InvalidInputError(
            f"Role {role.name} sets {bad[0]!r}, which is not the name of an environment variable.",
            fix="use letters, digits and underscores.",
        )


def withhold_secrets(request: Any) -> None:
    """Hide Airflow's own variables from ``sbatch``, which passes its environment on to the job.

    :param request: TorchX's ``SlurmBatchRequest``.
    """
    withheld = sorted(set(os.environ) - set(app_environment(os.environ)))
    if withheld:
        request.cmd[:0] = ["env", *(f"--unset={name}" for name in withheld)]


def forbid_requeue(request: Any) -> None:
    """Let Slurm run the job once, unless its component asks for restarts (``max_retries``).

    TorchX always submits with ``--requeue``: after a node failure Slurm would start the app a second time under the
    same job, while what is left of the first run may still write results. Not requeued, the job ends as NODE_FAIL, an
    infrastructure failure: the trial gets another attempt, with a tracker of its own.

    :param request: TorchX's ``SlurmBatchRequest``.
    """
    if request.max_retries == 0:
        for replica in request.replicas.values():
            replica.sbatch_opts.pop("requeue", None)
            replica.sbatch_opts["no-requeue"] = None


def signal_before_end(request: Any, signal: str | None) -> None:
    """Let Slurm signal the app before its time is up.

    Without the letter ``B`` the processes of the job's steps get the signal, which are the app, and not the batch
    script.

    :param request: TorchX's ``SlurmBatchRequest``.
    :param signal: as ``sbatch --signal`` takes it; None does not change the request.
    """
    if signal is not None:
        for replica in request.replicas.values():
            replica.sbatch_opts["signal"] = signal


def name_job(request: Any, key: str) -> None:
    """Name the job after its submission key: the name is how it is found, with or without accounting, by any user.

    Of a job of several replicas, which is a heterogeneous job, the first part has the key as its name; the others have
    the replica behind it.

    :param request: TorchX's ``SlurmBatchRequest``.
    """
    for number, (label, replica) in enumerate(request.replicas.items()):
        replica.name = key if number == 0 else f"{key}.{label}"


def work_in(request: Any, job_dir: str | None, key: str) -> None:
    """Let the job work, and leave its logs, in a folder of its own under ``job_dir``.

    TorchX wants a folder that exists, notes it in a file in the submitting process's working directory, and fails when
    that cannot be written, although the job has been submitted by then. Hence ``--chdir`` on the request itself.

    :param request: TorchX's ``SlurmBatchRequest``.
    :param job_dir: absolute path on a file system that the cluster shares; None does not change the request.
    :raises InvalidInputError: not absolute, or the folder cannot be made.
    """
    if job_dir is None:
        return
    folder = Path(job_dir) / key
    try:
        if not folder.is_absolute():
            raise ValueError("it is not an absolute path")
        folder.parent.mkdir(parents=True, exist_ok=True)
        _make_own_folder(folder)
    except (OSError, ValueError) as error:
        raise InvalidInputError(
            f"scheduler_args: job_dir {job_dir!r} cannot be used: {error}.",
            fix="name a folder that exists on the cluster and on the Airflow workers, and is writable.",
        ) from error
    request.cmd.append(f"--chdir={folder}")


def _make_own_folder(folder: Path) -> None:
    """Make a folder for this user only. A folder that exists may belong to another user, who guessed its name."""
    try:
        folder.mkdir(mode=0o700)
        return
    except FileExistsError:
        status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise ValueError(f"{folder} exists and is not a folder")
    if status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise ValueError(f"{folder} exists and belongs to another user, or others may write to it")


def check_command(command: str) -> None:
    """Check that a client command of Slurm is installed.

    :raises InvalidInputError: it is not.
    """
    if shutil.which(command) is None:
        raise InvalidInputError(
            f"There is no command {command} on this machine.",
            fix="install Slurm's client commands on every Airflow worker, or choose another scheduler.",
        )
