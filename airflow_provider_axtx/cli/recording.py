"""The commands that bring other tools up to date."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING

from airflow.cli.cli_config import ARG_OUTPUT, ActionCommand, Arg

from airflow_provider_axtx.cli.common import command, hook_of, show
from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.hooks.mlflow import tracking_uri
from airflow_provider_axtx.hooks.recording import tensorboard_log_dir, wandb_dir

if TYPE_CHECKING:
    from argparse import Namespace

    from airflow_provider_axtx.integrations.recording import Recorder

# Airflow prints help with rich, which takes a word in brackets for a style and leaves it out.
_EXPERIMENT = Arg(("--experiment",), help="Only this experiment", default=None)
_TRACKING_URI = Arg(
    ("--tracking-uri",),
    help="Address of the MLflow server (default: option mlflow_tracking_uri of section axtx)",
    default=None,
)
_WANDB_DIR = Arg(
    ("--dir",), help="Folder of the offline runs (default: option wandb_dir of section axtx)", default=None
)
_LOG_DIR = Arg(
    ("--log-dir",),
    help="Log directory of TensorBoard (default: option tensorboard_log_dir of section axtx)",
    default=None,
)


def recording_commands(conn_id: Arg, of: Callable[[str], Callable[[Namespace], None]]) -> list[ActionCommand]:
    """Return the commands of this module.

    :param of: gives a command that is imported when it is used.
    """
    places = {
        "mlflow": ("Record experiments in MLflow", _TRACKING_URI),
        "wandb": ("Record experiments as offline runs of Weights & Biases", _WANDB_DIR),
        "tensorboard": ("Record experiments as event files of TensorBoard", _LOG_DIR),
    }
    return [
        ActionCommand(name, help, of(f"recording.{name}"), (_EXPERIMENT, place, conn_id, ARG_OUTPUT))
        for name, (help, place) in places.items()
    ]


@command
def mlflow(args: Namespace) -> None:
    """Bring MLflow up to date with the store: add what is missing there, and leave what is there.

    Tasks do the same when they end, if `[axtx] mlflow_tracking_uri` is set. The command repairs what a killed task or a
    server that was away has left out, and records experiments of earlier times.
    """
    from airflow_provider_axtx.integrations.mlflow_mirror import MlflowRecorder

    _record(args, MlflowRecorder(args.tracking_uri or tracking_uri()))


@command
def wandb(args: Namespace) -> None:
    """Bring a folder of offline runs of Weights & Biases up to date with the store.

    Tasks do the same when they end, if `[axtx] wandb_dir` is set. `wandb sync` uploads the runs.
    """
    from airflow_provider_axtx.integrations.wandb_folders import WandbRecorder

    _record(args, WandbRecorder(_folder(args.dir or wandb_dir(), "--dir", "wandb_dir")))


@command
def tensorboard(args: Namespace) -> None:
    """Bring a log directory of TensorBoard up to date with the store.

    Tasks do the same when they end, if `[axtx] tensorboard_log_dir` is set.
    """
    from airflow_provider_axtx.integrations.tensorboard_files import TensorBoardRecorder

    folder = _folder(args.log_dir or tensorboard_log_dir(), "--log-dir", "tensorboard_log_dir")
    _record(args, TensorBoardRecorder(folder))


def _folder(given: str | None, argument: str, option: str) -> str:
    if given is None:
        raise InvalidInputError("No folder is given.", fix=f"pass {argument}, or set [axtx] {option}.")
    return given


def _record(args: Namespace, recorder: Recorder) -> None:
    from airflow_provider_axtx.integrations.recording import record_all

    store = hook_of(args).existing_store
    names = [args.experiment] if args.experiment else [summary.name for summary in store.summaries()]
    show([asdict(one) for one in record_all(store, names, lambda: recorder)], args)
