"""``airflow ax ...``: look at experiments and trials, and end the apps and trials of DAG runs that are over."""

from __future__ import annotations

import datetime as dt
import functools
import os
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from airflow.cli.cli_config import ARG_OUTPUT, ActionCommand, Arg, CLICommand, GroupCommand

from airflow_provider_axtx.core.errors import AxtxError, StoreNotFoundError
from airflow_provider_axtx.core.records import final_means
from airflow_provider_axtx.hooks.ax import AxHook
from airflow_provider_axtx.hooks.installation import installation_id_in_database
from airflow_provider_axtx.hooks.torchx import TorchXHook

if TYPE_CHECKING:
    from argparse import Namespace

    from airflow_provider_axtx.core.records import AttemptRecord, TaskIdentity
    from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher
    from airflow_provider_axtx.lifecycle.reap import Orphan
    from airflow_provider_axtx.store.experiments import ExperimentStore

_CONN_ID = Arg(
    ("--ax-conn-id",), help="Connection of the experiment store (default: ax_default)", default=AxHook.default_conn_name
)
_TORCHX_CONN_ID = Arg(
    ("--torchx-conn-id",),
    help="Connection for apps that were submitted outside Airflow (default: torchx_default)",
    default=TorchXHook.default_conn_name,
)
_EXPERIMENT = Arg(("experiment",), help="Name of the experiment")
_ONLY_EXPERIMENT = Arg(("--experiment",), help="Only this experiment", default=None)
_PREDICTIONS = Arg(
    ("--use-model-predictions",),
    help="Judge by the model's predictions instead of the observations; fits a model",
    action="store_true",
)
_FILE = Arg(("file",), help="The file to write; an existing one is replaced")
_DAG_ID = Arg(("--dag-id",), help="Only what this DAG has left behind", default=None)
_RUN_ID = Arg(("--run-id",), help="Only what this DAG run has left behind; needs --dag-id", default=None)
_LOST_HOST = Arg(
    ("--lost-host",),
    help="Name of a host that does not exist any more: the apps on it are lost. May be given several times",
    action="append",
    default=[],
)
_DRY_RUN = Arg(("--dry-run",), help="List what would be ended, and end nothing", action="store_true")


def get_commands() -> list[CLICommand]:
    """Return the command group ``ax``; Airflow finds this function through the provider's metadata."""
    return [
        GroupCommand(
            name="ax",
            help="Experiments of the Ax and TorchX provider",
            subcommands=(
                ActionCommand("experiments", "List the experiments", list_experiments, (_CONN_ID, ARG_OUTPUT)),
                ActionCommand(
                    "trials", "List the trials of an experiment", list_trials, (_EXPERIMENT, _CONN_ID, ARG_OUTPUT)
                ),
                ActionCommand("show", "Show an experiment", show_experiment, (_EXPERIMENT, _CONN_ID, ARG_OUTPUT)),
                ActionCommand(
                    "best",
                    "Show the best trial of an experiment, or its Pareto frontier",
                    show_best,
                    (_EXPERIMENT, _PREDICTIONS, _CONN_ID, ARG_OUTPUT),
                ),
                ActionCommand(
                    "export",
                    "Write an experiment to a file in Ax's own JSON format",
                    export_experiment,
                    (_EXPERIMENT, _FILE, _CONN_ID),
                ),
                ActionCommand(
                    "reap",
                    "Cancel the apps of DAG runs that are over, and settle their trials",
                    reap,
                    (_ONLY_EXPERIMENT, _DAG_ID, _RUN_ID, _LOST_HOST, _DRY_RUN, _CONN_ID, _TORCHX_CONN_ID, ARG_OUTPUT),
                ),
            ),
        )
    ]


def _command(function: Callable[[Namespace], None]) -> Callable[[Namespace], None]:
    """Make a function a command: it sees Airflow's connections, and its errors are shown without a traceback."""

    @functools.wraps(function)
    def run(args: Namespace) -> None:
        # As Airflow's own commands: without it connections are not looked for in Airflow's database.
        os.environ["_AIRFLOW_PROCESS_CONTEXT"] = "server"
        try:
            function(args)
        except AxtxError as error:
            raise SystemExit(str(error)) from error

    return run


def _hook(args: Namespace) -> AxHook:
    """Return the hook of the experiment store, and print where the store is."""
    hook = AxHook(args.ax_conn_id)
    # Not on stdout, which `--output json` keeps for the data.
    print(f"Experiment store: {hook.describe_store()}", file=sys.stderr)
    return hook


@_command
def list_experiments(args: Namespace) -> None:
    """Print a line for each experiment: its trials by status and why it ended."""
    try:
        summaries = _hook(args).existing_store.summaries()
    except StoreNotFoundError as error:
        print(error, file=sys.stderr)
        summaries = []
    statuses = ("COMPLETED", "FAILED", "ABANDONED", "RUNNING")
    rows = [
        {
            "experiment": summary.name,
            "trials": sum(summary.trial_counts.values()),
            **{status: summary.trial_counts.get(status, 0) for status in statuses},
            "stop_reason": summary.stop_reason or "",
        }
        for summary in summaries
    ]
    _show(rows, args)


@_command
def list_trials(args: Namespace) -> None:
    """Print a line for each trial of an experiment: status, parameters, metrics, attempts, app handle, reason."""
    store = _hook(args).existing_store
    snapshot = store.snapshot(args.experiment)
    metrics = final_means(snapshot.observations)
    last = {attempt.trial_index: attempt for attempt in store.attempts(args.experiment)}
    rows = [
        {
            "trial": trial.index,
            "status": trial.status,
            "parameters": trial.parameters,
            "metrics": metrics.get(trial.index, {}),
            "attempts": last[trial.index].number if trial.index in last else 0,
            "app_handle": (last[trial.index].app_handle or "") if trial.index in last else "",
            "reason": trial.reason or "",
        }
        for trial in snapshot.trials
    ]
    _show(rows, args)


@_command
def show_experiment(args: Namespace) -> None:
    """Print the definition of an experiment, its trials by status, why it ended, and its times."""
    store = _hook(args).existing_store
    summary = store.summary(args.experiment)
    details = {
        "experiment": summary.name,
        "stop_reason": summary.stop_reason,
        "trials": sum(summary.trial_counts.values()),
        "planned_trials": summary.planned_trials,
        "trials_by_status": summary.trial_counts,
        "created_at": _as_time(summary.created_at),
        "last_activity_at": _as_time(summary.last_activity_at),
        "ax_version": summary.ax_version,
        "definition": store.spec(args.experiment),
    }
    if args.output in ("json", "yaml"):
        _show([details], args)
    else:
        # As `airflow dags details`.
        rows = [{"property_name": name, "property_value": value} for name, value in details.items()]
        _show(rows, args)


@_command
def show_best(args: Namespace) -> None:
    """Print the best trial, or with several objectives a line for each trial of the Pareto frontier.

    It is the result of `AxBestTrialOperator`. Metrics are shown as mean and standard error.
    """
    best = _hook(args).get_best(args.experiment, use_model_predictions=args.use_model_predictions)
    _show(best, args)


@_command
def export_experiment(args: Namespace) -> None:
    """Write an experiment with all trials and results to a file that `ax.api.client.Client.load_from_json_file` reads.

    The file is replaced as a whole or not at all.
    """
    try:
        _hook(args).export(args.experiment, args.file)
    except OSError as error:
        raise SystemExit(f"The file {args.file} cannot be written: {error.strerror}.") from error
    print(f"Wrote {args.experiment} to {args.file}.", file=sys.stderr)


@_command
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
        store = _hook(args).existing_store
    except StoreNotFoundError as error:
        print(error, file=sys.stderr)
        _show([], args)
        return

    def launcher_for(attempt: AttemptRecord) -> TorchXLauncher:
        conn_id = attempt.identity.torchx_conn_id or args.torchx_conn_id
        return TorchXHook(conn_id).get_launcher_for(attempt)

    on_lost_hosts = _attempts_on_lost_hosts(store, args)
    if args.dry_run:
        _show(_would_end(store, _orphans(store, args), on_lost_hosts), args)
        return
    lost = record_lost(store, launcher_for, on_lost_hosts, args.lost_host)
    reason = "reaped: no active DAG run waits for it"
    reaped = end(
        store, launcher_for, _orphans(store, args), reason, is_active=lambda task: bool(_active_dag_runs(task))
    )
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
    _show(rows, args)


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
        store, _active_dag_runs(), args.experiment, installation=installation_id_in_database()
    )
    return [
        orphan
        for orphan in found
        if args.dag_id in (None, orphan.owner.dag_id) and args.run_id in (None, orphan.owner.run_id)
    ]


def _active_dag_runs(task: TaskIdentity | None = None) -> set[tuple[str, str]]:
    """Return (dag_id, run_id) of every DAG run that is queued or running, from Airflow's own database.

    :param task: only the DAG run of this task.

    The DAG run of a DAG that is gone stays "running" for ever, because the scheduler passes over it.
    """
    from airflow.models.dag import DagModel
    from airflow.models.dagrun import DagRun
    from airflow.models.errors import ParseImportError
    from airflow.utils.session import create_session
    from airflow.utils.state import State
    from sqlalchemy import and_, or_, select

    # A DAG file with an error makes its DAGs stale, too, but they come back when the error is fixed.
    has_error = (
        select(ParseImportError.id)
        .where(
            and_(
                ParseImportError.filename == DagModel.relative_fileloc,
                ParseImportError.bundle_name == DagModel.bundle_name,
            )
        )
        .exists()
    )
    query = (
        select(DagRun.dag_id, DagRun.run_id)
        .join(DagModel, DagModel.dag_id == DagRun.dag_id)
        .where(DagRun.state.in_(State.unfinished_dr_states), or_(DagModel.is_stale.is_(False), has_error))
    )
    if task is not None:
        query = query.where(DagRun.dag_id == task.dag_id, DagRun.run_id == task.run_id)
    with create_session() as session:
        return {(dag_id, run_id) for dag_id, run_id in session.execute(query)}


def _as_time(seconds: float) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat(timespec="seconds")


def _show(rows: Iterable[dict[str, Any]], args: Namespace) -> None:
    from airflow.cli.simple_table import AirflowConsole

    console = AirflowConsole()
    data: Any = list(rows)
    # `print_as` makes a text of each number, which a program that reads JSON would have to convert back.
    if args.output == "json":
        console.print_as_json(data)
    elif args.output == "yaml":
        console.print_as_yaml(data)
    else:
        console.print_as(data, output=args.output)
