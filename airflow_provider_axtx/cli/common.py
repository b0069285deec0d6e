"""What the commands have in common."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from airflow_provider_axtx.core.errors import AxtxError
from airflow_provider_axtx.hooks.ax import AxHook
from airflow_provider_axtx.hooks.torchx import TorchXHook

if TYPE_CHECKING:
    from argparse import Namespace

    from airflow_provider_axtx.core.records import AttemptRecord, TaskIdentity
    from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher


def command(function: Callable[[Namespace], None]) -> Callable[[Namespace], None]:
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


def hook_of(args: Namespace) -> AxHook:
    """Return the hook of the experiment store, and print where the store is."""
    hook = AxHook(args.ax_conn_id)
    # Not on stdout, which `--output json` keeps for the data.
    print(f"Experiment store: {hook.describe_store()}", file=sys.stderr)
    return hook


def launchers(args: Namespace) -> Callable[[AttemptRecord], TorchXLauncher]:
    """Return what makes the launcher of an attempt, through the connection that it was submitted with."""

    def launcher_for(attempt: AttemptRecord) -> TorchXLauncher:
        conn_id = attempt.identity.torchx_conn_id or args.torchx_conn_id
        return TorchXHook(conn_id).get_launcher_for(attempt)

    return launcher_for


def active_dag_runs(task: TaskIdentity | None = None) -> set[tuple[str, str]]:
    """Return (dag_id, run_id) of every DAG run that is queued or running, from Airflow's own database.

    :param task: only the DAG run of this task.

    The DAG run of a DAG that is gone stays "running" without end, because the scheduler passes over it.
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


def show(rows: Iterable[dict[str, Any]], args: Namespace) -> None:
    """Print rows in the format of ``--output``."""
    from airflow.cli.simple_table import AirflowConsole

    # Cells hold what an app has printed last. Rich takes `[error]` there for a style, fails at `[/usr/bin/train]`, and
    # draws `:bug:`.
    console = AirflowConsole(markup=False, emoji=False)
    data: Any = list(rows)
    # `print_as` makes a text of each number, which a program that reads JSON would have to convert back.
    if args.output == "json":
        console.print_as_json(data)
    elif args.output == "yaml":
        console.print_as_yaml(data)
    else:
        console.print_as(data, output=args.output)
