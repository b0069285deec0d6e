"""The command that ends what DAG runs have left behind."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from airflow_provider_axtx.cli.common import active_dag_runs, command, hook_of, launchers, show
from airflow_provider_axtx.core.errors import StoreNotFoundError
from airflow_provider_axtx.hooks.installation import installation_id_in_database

if TYPE_CHECKING:
    from argparse import Namespace

    from airflow_provider_axtx.core.records import AttemptRecord
    from airflow_provider_axtx.lifecycle.reap import Orphan
    from airflow_provider_axtx.store.experiments import ExperimentStore


@command
def reap(args: Namespace) -> None:
    """Cancel apps and settle trials whose DAG run is not queued or running any more; print what became of them.

    A DAG run also counts as over when its DAG is gone: deleted, or not in the DAG files any more. What no Airflow task
    has submitted, and what another Airflow deployment has, is left alone.

    Attempts on a host that the user declares lost have ended, whether or not their DAG run is over.
    """
    from dataclasses import asdict

    from airflow_provider_axtx.lifecycle.lost_hosts import record_lost
    from airflow_provider_axtx.lifecycle.reap import reap as end

    if args.run_id is not None and args.dag_id is None:
        raise SystemExit("--run-id needs --dag-id, because DAG runs of several DAGs may have the same id.")
    try:
        store = hook_of(args).existing_store
    except StoreNotFoundError as error:
        print(error, file=sys.stderr)
        show([], args)
        return

    launcher_for, on_lost_hosts = launchers(args), _attempts_on_lost_hosts(store, args)
    if args.dry_run:
        show(_would_end(store, _orphans(store, args), on_lost_hosts), args)
        return
    lost = record_lost(store, launcher_for, on_lost_hosts, args.lost_host)
    reason = "reaped: no active DAG run waits for it"
    reaped = end(store, launcher_for, _orphans(store, args), reason, is_active=lambda task: bool(active_dag_runs(task)))
    settled = {(one.experiment, one.trial_index) for one in reaped}
    rows = [asdict(one) for one in reaped]
    rows += [
        {
            "experiment": attempt.experiment,
            "trial_index": attempt.trial_index,
            "trial_status": store.trial(attempt.experiment, attempt.trial_index).status,
            "message": attempt.message or "",
        }
        for attempt in lost
        if (attempt.experiment, attempt.trial_index) not in settled
    ]
    show(rows, args)


def _would_end(
    store: ExperimentStore, orphans: Iterable[Orphan], lost: Iterable[AttemptRecord]
) -> list[dict[str, Any]]:
    """Return a line for each trial that ``reap`` would work on."""
    last = {(orphan.experiment, orphan.trial_index): orphan.attempt for orphan in orphans}
    last |= {(attempt.experiment, attempt.trial_index): attempt for attempt in lost}
    return [
        {
            "experiment": experiment,
            "trial": index,
            "app_handle": attempt.app_handle if attempt and attempt.app_handle else "",
            "host": attempt.host if attempt and attempt.host else "",
            "trial_status": store.trial(experiment, index).status,
        }
        for (experiment, index), attempt in sorted(last.items(), key=lambda item: item[0])
    ]


def _attempts_on_lost_hosts(store: ExperimentStore, args: Namespace) -> list[AttemptRecord]:
    """Return the open attempts on the hosts that were declared lost; say which hosts have open ones when none is."""
    if not args.lost_host:
        return []
    found = [
        attempt
        for attempt in store.open_attempts(
            experiment=args.experiment,
            dag_id=args.dag_id,
            run_id=args.run_id,
            installation=installation_id_in_database(),
        )
        if attempt.identity.dag_id
    ]
    hosts = {attempt.host for attempt in found if attempt.host}
    for name in args.lost_host:
        if name not in hosts:
            known = ", ".join(sorted(hosts)) or "none"
            print(f"No open attempt belongs to host {name!r}. Hosts with open attempts: {known}.", file=sys.stderr)
    return [attempt for attempt in found if attempt.host in args.lost_host]


def _orphans(store: ExperimentStore, args: Namespace) -> list[Orphan]:
    from airflow_provider_axtx.lifecycle.reap import orphans_without_dag_run

    found = orphans_without_dag_run(
        store, active_dag_runs(), args.experiment, installation=installation_id_in_database()
    )
    return [
        orphan
        for orphan in found
        if args.dag_id in (None, orphan.owner.dag_id) and args.run_id in (None, orphan.owner.run_id)
    ]
