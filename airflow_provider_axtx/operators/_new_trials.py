"""Where new trials of a running experiment are submitted, or why none can be."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from airflow.sdk import conf

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.core.inputs import as_object, is_given
from airflow_provider_axtx.core.records import TaskIdentity
from airflow_provider_axtx.hooks.executors import remote_executors

if TYPE_CHECKING:
    from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher
    from airflow_provider_axtx.operators._ending import CancelOnKillMixin

#: TorchX schedulers whose apps are processes of the host that submits them.
_OF_ONE_HOST = ("local_detached", "local_docker")


def launcher_of_new_trials(
    task: CancelOnKillMixin, identity: TaskIdentity, scheduler: object, scheduler_args: object
) -> tuple[TorchXLauncher, InvalidInputError | None]:
    """Return the launcher of new trials and, while apps of the task are live, why there can be none.

    Scheduler and options may have been changed while apps run. Live apps go on before that is an error.

    :param scheduler: name of the scheduler; None or an empty text is the connection's.
    :param scheduler_args: its run options.
    :raises InvalidInputError: when they do not fit, and no app of the task is live.
    """
    try:
        name = str(scheduler) if is_given(scheduler) else None
        launcher = task.torchx_hook.get_launcher(name, as_object("scheduler_args", scheduler_args))
    except InvalidInputError as error:
        open_attempts = task.ax_hook.store.open_attempts(dag_id=identity.dag_id, run_id=identity.run_id)
        live = [attempt for attempt in open_attempts if attempt.identity.is_task_of(identity)]
        if not live:
            raise
        return task.launcher_for(live[0]), error
    warn_of_other_hosts(task, launcher.scheduler)
    return launcher, None


def warn_of_other_hosts(task: CancelOnKillMixin, scheduler: str) -> None:
    """Say before a trial runs that only this host will be able to observe its app, unless the task has a queue.

    :param scheduler: name of the TorchX scheduler.
    """
    executors = remote_executors()
    if scheduler not in _OF_ONE_HOST or not executors:
        return
    if task.queue == conf.get("operators", "default_queue", fallback="default"):
        task.log.warning(
            "Only this host (%s) can observe the apps that the task submits with %s. With %s other tasks of the DAG "
            "may run on other hosts. Fix: use a TorchX scheduler of a cluster, such as slurm or kubernetes, or give "
            "each host a queue of its own.",
            os.uname().nodename,
            scheduler,
            ", ".join(executors),
        )
