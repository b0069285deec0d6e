"""Commands that remove experiments."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

from airflow_provider_axtx.cli.common import active_dag_runs, command, hook_of, launchers, show
from airflow_provider_axtx.core.errors import StoreNotFoundError
from airflow_provider_axtx.core.inputs import as_duration
from airflow_provider_axtx.hooks.installation import installation_id_in_database

if TYPE_CHECKING:
    from argparse import Namespace

    from airflow_provider_axtx.lifecycle.cleanup import CleanedUp, Retention
    from airflow_provider_axtx.store.experiments import ExperimentStore


@command
def clean_up(args: Namespace) -> None:
    """Remove experiments without an open trial or a live app that have not been used for a time; print what is removed.

    An experiment goes with its rows, the trackers of its attempts, and the folders and logs of their apps on
    `local_detached` and, below `job_dir`, on Slurm. What is still used, and what cannot be removed from this machine,
    is left and printed with the reason. Experiments that are too young are not printed.
    """
    from airflow_provider_axtx.lifecycle.cleanup import Retention

    idle_since = time.time() - as_duration("--older-than", args.older_than)
    try:
        store = hook_of(args).existing_store
    except StoreNotFoundError as error:
        print(error, file=sys.stderr)
        show([], args)
        return
    retention = Retention(
        idle_since=idle_since,
        experiment=args.experiment,
        keep_best=args.keep_best,
        installation=installation_id_in_database(),
        lost_hosts=args.lost_host,
    )
    show([asdict(line) for line in _clean_up(store, retention, args, dry_run=args.dry_run)], args)


@command
def delete(args: Namespace) -> None:
    """Remove one experiment, whatever its age, as `airflow ax cleanup` does. It asks first, unless `--yes` is given.

    It is refused, with the reason, while a trial of the experiment is open, an app of it may run, or the DAG run of a
    task that has worked on it is active.
    """
    from airflow_provider_axtx.lifecycle.cleanup import Retention

    store = hook_of(args).existing_store
    trials = sum(store.summary(args.experiment).trial_counts.values())
    question = f"This removes the experiment {args.experiment!r} with {trials} trials and their files. Proceed? (y/n) "
    if not args.yes and _answer(question).upper() != "Y":
        raise SystemExit("Nothing was removed.")
    retention = Retention(
        experiment=args.experiment, installation=installation_id_in_database(), lost_hosts=args.lost_host
    )
    for line in _clean_up(store, retention, args, dry_run=False):
        if line.reason:
            raise SystemExit(f"{args.experiment!r} is left: {line.reason}")
    print(f"Removed {args.experiment}.", file=sys.stderr)


def _clean_up(store: ExperimentStore, retention: Retention, args: Namespace, *, dry_run: bool) -> list[CleanedUp]:
    from airflow_provider_axtx.lifecycle.cleanup import clean_up as remove

    active = active_dag_runs()
    return remove(
        store,
        launchers(args),
        retention,
        is_active=lambda task: (task.dag_id, task.run_id) in active,
        dry_run=dry_run,
    )


def _answer(question: str) -> str:
    try:
        return input(question).strip()
    except EOFError:  # no terminal
        return ""
