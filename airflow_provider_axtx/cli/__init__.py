"""``airflow ax ...``: look at experiments and trials, end what DAG runs have left behind, remove what is old."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from airflow.cli.cli_config import ARG_OUTPUT, ARG_YES, ActionCommand, Arg, CLICommand, GroupCommand, lazy_load_command

from airflow_provider_axtx.cli.convert import convert_command
from airflow_provider_axtx.cli.export import export_command
from airflow_provider_axtx.cli.recording import recording_commands
from airflow_provider_axtx.cli.steering import steering_commands
from airflow_provider_axtx.hooks.ax import AxHook
from airflow_provider_axtx.hooks.torchx import TorchXHook

if TYPE_CHECKING:
    from argparse import Namespace

_CONN_ID = Arg(
    ("--ax-conn-id",), help="Connection of the experiment store (default: ax_default)", default=AxHook.default_conn_name
)
_TORCHX_CONN_ID = Arg(
    ("--torchx-conn-id",),
    help="Connection for apps whose record names no connection (default: torchx_default)",
    default=TorchXHook.default_conn_name,
)
_EXPERIMENT = Arg(("experiment",), help="Name of the experiment")
_ONLY_EXPERIMENT = Arg(("--experiment",), help="Only this experiment", default=None)
_PREDICTIONS = Arg(
    ("--use-model-predictions",),
    help="Judge by the model's predictions instead of the observations; fits a model",
    action="store_true",
)
_DAG_ID = Arg(("--dag-id",), help="Only what this DAG has left behind", default=None)
_RUN_ID = Arg(("--run-id",), help="Only what this DAG run has left behind; needs --dag-id", default=None)
_LOST_HOST = Arg(
    ("--lost-host",),
    help="Name of a host that does not exist any more: the apps on it are lost. May be given several times",
    action="append",
    default=[],
)
_DRY_RUN = Arg(("--dry-run",), help="List what would be ended, and end nothing", action="store_true")
_OLDER_THAN = Arg(
    ("--older-than",),
    help="Only experiments without any activity for so long: 90d (days), PT12H (hours) or 3600 (seconds)",
    required=True,
)
_KEEP_BEST = Arg(
    ("--keep-best",),
    help="Keep the records of all trials, and the files of the best one; remove the files of the others",
    action="store_true",
)
_NOTHING_REMOVED = Arg(("--dry-run",), help="List what would be removed, and remove nothing", action="store_true")


def get_commands() -> list[CLICommand]:
    """Return the command group ``ax``; Airflow finds this function through the provider's metadata."""
    return [
        GroupCommand(
            name="ax",
            help="Experiments of the Ax and TorchX provider",
            subcommands=(
                ActionCommand(
                    "experiments", "List the experiments", _of("experiments.list_experiments"), (_CONN_ID, ARG_OUTPUT)
                ),
                ActionCommand(
                    "trials",
                    "List the trials of an experiment",
                    _of("experiments.list_trials"),
                    (_EXPERIMENT, _CONN_ID, ARG_OUTPUT),
                ),
                ActionCommand(
                    "show",
                    "Show an experiment",
                    _of("experiments.show_experiment"),
                    (_EXPERIMENT, _CONN_ID, ARG_OUTPUT),
                ),
                ActionCommand(
                    "best",
                    "Show the best trial of an experiment, or its Pareto frontier",
                    _of("experiments.show_best"),
                    (_EXPERIMENT, _PREDICTIONS, _CONN_ID, ARG_OUTPUT),
                ),
                export_command(_EXPERIMENT, _CONN_ID, _of),
                ActionCommand(
                    "reap",
                    "Cancel the apps of DAG runs that are over, and settle their trials",
                    _of("reap.reap"),
                    (_ONLY_EXPERIMENT, _DAG_ID, _RUN_ID, _LOST_HOST, _DRY_RUN, _CONN_ID, _TORCHX_CONN_ID, ARG_OUTPUT),
                ),
                ActionCommand(
                    "cleanup",
                    "Remove ended experiments that have not been used for a time, with their files",
                    _of("cleanup.clean_up"),
                    (
                        *(_OLDER_THAN, _KEEP_BEST, _ONLY_EXPERIMENT, _LOST_HOST, _NOTHING_REMOVED),
                        *(_CONN_ID, _TORCHX_CONN_ID, ARG_OUTPUT),
                    ),
                ),
                ActionCommand(
                    "delete",
                    "Remove one ended experiment with its files",
                    _of("cleanup.delete"),
                    (_EXPERIMENT, _LOST_HOST, ARG_YES, _CONN_ID, _TORCHX_CONN_ID),
                ),
                *steering_commands(_EXPERIMENT, _CONN_ID, _of),
                convert_command(_of),
                *recording_commands(_CONN_ID, _of),
            ),
        )
    ]


def _of(function: str) -> Callable[[Namespace], None]:
    """Return a command that is imported when it is used: ``airflow`` asks for the commands at each of its own."""
    loaded: Callable[[Namespace], None] = lazy_load_command(f"{__name__}.{function}")
    return loaded
