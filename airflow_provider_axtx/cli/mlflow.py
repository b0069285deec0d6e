"""The command that brings MLflow up to date."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING

from airflow.cli.cli_config import ARG_OUTPUT, ActionCommand, Arg

from airflow_provider_axtx.cli.common import command, hook_of, show
from airflow_provider_axtx.hooks.mlflow import tracking_uri

if TYPE_CHECKING:
    from argparse import Namespace

_EXPERIMENT = Arg(("--experiment",), help="Only this experiment", default=None)
_TRACKING_URI = Arg(
    ("--tracking-uri",), help="Address of the MLflow server (default: [axtx] mlflow_tracking_uri)", default=None
)


def mlflow_command(conn_id: Arg, of: Callable[[str], Callable[[Namespace], None]]) -> ActionCommand:
    """Return the command of this module.

    :param of: gives a command that is imported when it is used.
    """
    arguments = (_EXPERIMENT, _TRACKING_URI, conn_id, ARG_OUTPUT)
    return ActionCommand("mlflow", "Record experiments in MLflow", of("mlflow.record"), arguments)


@command
def record(args: Namespace) -> None:
    """Bring MLflow up to date with the store: add what is missing there, and leave what is there.

    Tasks do the same when they end, if `[axtx] mlflow_tracking_uri` is set. The command repairs what a killed task or a
    server that was away has left out, and records experiments of earlier times.
    """
    from airflow_provider_axtx.integrations.mlflow_mirror import mirror

    store = hook_of(args).existing_store
    names = [args.experiment] if args.experiment else [summary.name for summary in store.summaries()]
    uri = args.tracking_uri or tracking_uri()
    show([asdict(mirror(store, name, uri)) for name in names], args)
