"""``airflow ax ...``: look at the experiments, and end what nobody waits for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from airflow.cli.cli_config import ARG_OUTPUT, ActionCommand, Arg, CLICommand, GroupCommand

from airflow_provider_axtx.hooks.ax import AxHook
from airflow_provider_axtx.hooks.torchx import TorchXHook

if TYPE_CHECKING:
    from argparse import Namespace

    from airflow_provider_axtx.core.records import AttemptRecord
    from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher

_CONN_ID = Arg(
    ("--ax-conn-id",), help="Connection of the experiment store (default: ax_default)", default=AxHook.default_conn_name
)
_TORCHX_CONN_ID = Arg(
    ("--torchx-conn-id",),
    help="Connection for apps that do not say through which they were submitted (default: torchx_default)",
    default=TorchXHook.default_conn_name,
)
_EXPERIMENT = Arg(("experiment",), help="Name of the experiment")
_ONLY_EXPERIMENT = Arg(("--experiment",), help="Only this experiment", default=None)
_DRY_RUN = Arg(("--dry-run",), help="Say what would be ended, and end nothing", action="store_true")


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
                ActionCommand(
                    "reap",
                    "Cancel apps that no active DAG run stands behind, and settle their trials",
                    reap,
                    (_ONLY_EXPERIMENT, _DRY_RUN, _CONN_ID, _TORCHX_CONN_ID, ARG_OUTPUT),
                ),
            ),
        )
    ]


def list_experiments(args: Namespace) -> None:
    """Print a line for each experiment: its trials by status and why it ended."""
    rows = [
        {
            "experiment": summary.name,
            "trials": sum(summary.trial_counts.values()),
            **{
                status: summary.trial_counts.get(status, 0)
                for status in ("COMPLETED", "FAILED", "ABANDONED", "RUNNING")
            },
            "stop_reason": summary.stop_reason or "",
        }
        for summary in AxHook(args.ax_conn_id).store.summaries()
    ]
    _show(rows, args)


def list_trials(args: Namespace) -> None:
    """Print a line for each trial of an experiment: status, parameters, metrics, attempts, app handle, reason."""
    facts = (store := AxHook(args.ax_conn_id).store).snapshot(args.experiment)
    metrics: dict[int, dict[str, float]] = {}
    for observation in facts.observations:
        if observation.step is None:
            metrics.setdefault(observation.trial_index, {})[observation.metric] = observation.mean
    last = {run.trial_index: run for run in store.attempts(args.experiment)}
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
        for trial in facts.trials
    ]
    _show(rows, args)


def reap(args: Namespace) -> None:
    """End apps and trials whose DAG run is not queued or running any more; print what became of them."""
    from dataclasses import asdict

    from airflow_provider_axtx.lifecycle.reap import orphans_without_dag_run
    from airflow_provider_axtx.lifecycle.reap import reap as end

    store = AxHook(args.ax_conn_id).store
    orphans = orphans_without_dag_run(store, _active_dag_runs(), args.experiment)
    if args.dry_run:
        rows: list[dict[str, Any]] = [
            {
                "experiment": orphan.experiment,
                "trial": orphan.trial_index,
                "app_handle": orphan.attempt.app_handle if orphan.attempt and orphan.attempt.app_handle else "",
                "trial_status": store.trial(orphan.experiment, orphan.trial_index).status,
            }
            for orphan in orphans
        ]
    else:

        def launcher_for(run: AttemptRecord) -> TorchXLauncher:
            return TorchXHook(run.identity.torchx_conn_id or args.torchx_conn_id).get_launcher(run.scheduler)

        rows = [asdict(one) for one in end(store, launcher_for, orphans, "reaped: no active DAG run waits for it")]
    _show(rows, args)


def _active_dag_runs() -> set[tuple[str, str]]:
    """Return (dag_id, run_id) of every DAG run that is queued or running, from Airflow's own database."""
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from airflow.utils.state import State
    from sqlalchemy import select

    with create_session() as session:
        query = select(DagRun.dag_id, DagRun.run_id).where(DagRun.state.in_(State.unfinished_dr_states))
        return {(dag_id, run_id) for dag_id, run_id in session.execute(query)}


def _show(rows: Iterable[dict[str, Any]], args: Namespace) -> None:
    from airflow.cli.simple_table import AirflowConsole

    AirflowConsole().print_as(list(rows), output=args.output)
