"""Submitting to Slurm: what has to be checked and changed in TorchX's request."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from torchx.specs import AppDef

from airflow_provider_axtx.core.errors import InvalidInputError


def check_submission(app: AppDef) -> None:
    """Check what only Slurm cannot do.

    :raises InvalidInputError: an environment variable that Slurm would corrupt, or an argument that TorchX would.
    """
    for role in app.roles:
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
    :param job_dir: absolute path on a file system that the cluster shares; None leaves all as it is.
    :raises InvalidInputError: not absolute, or the folder cannot be made.
    """
    if job_dir is None:
        return
    folder = Path(job_dir) / key
    try:
        if not folder.is_absolute():
            raise ValueError("it is not an absolute path")
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise InvalidInputError(
            f"scheduler_args: job_dir {job_dir!r} cannot be used: {error}.",
            fix="name a folder that exists on the cluster and on the Airflow workers, and is writable.",
        ) from error
    request.cmd.append(f"--chdir={folder}")
