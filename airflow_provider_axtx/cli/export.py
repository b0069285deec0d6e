"""The command that writes an experiment to a file."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from airflow.cli.cli_config import ActionCommand, Arg

from airflow_provider_axtx.cli.common import command, hook_of
from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.core.replaced_file import replaced_file
from airflow_provider_axtx.core.tables import TABLES, Table, columns, iso, tables

if TYPE_CHECKING:
    from argparse import Namespace

    from airflow_provider_axtx.hooks.ax import AxHook

_FILE = Arg(("file",), help="The file to write; an existing one is replaced, and a pipe gets the content")
_FORMAT = Arg(
    ("--format",),
    help="ax: Ax's own JSON (default); csv and parquet: one table; json: all tables; optuna: a study in SQLite",
    choices=("ax", "csv", "json", "parquet", "optuna"),
    default="ax",
)
_TABLE = Arg(("--table",), help="Of csv and parquet (default: trials)", choices=TABLES, default="trials")


def export_command(experiment: Arg, conn_id: Arg, of: Callable[[str], Callable[[Namespace], None]]) -> ActionCommand:
    """Return the command of this module.

    :param of: gives a command that is imported when it is used.
    """
    arguments = (experiment, _FILE, _FORMAT, _TABLE, conn_id)
    return ActionCommand("export", "Write an experiment to a file", of("export.export_experiment"), arguments)


@command
def export_experiment(args: Namespace) -> None:
    """Write an experiment with all trials and results to a file, which is replaced as a whole or not at all.

    Without `--format` it is a file that `ax.api.client.Client.load_from_json_file` reads.
    """
    hook = hook_of(args)
    try:
        if args.format == "ax":
            hook.export(args.experiment, args.file)
        else:
            with replaced_file(args.file) as path:
                _write(hook, args.experiment, args.format, args.table, path)
    except OSError as error:
        raise SystemExit(f"The file {args.file} cannot be written: {error.strerror}.") from error
    print(f"Wrote {args.experiment} to {args.file}.", file=sys.stderr)


def _write(hook: AxHook, experiment: str, format_: str, table: Table, path: Path) -> None:
    if format_ == "parquet":
        _write_parquet(hook, experiment, table, path)
        return
    store = hook.existing_store
    snapshot, attempts = store.snapshot(experiment), store.attempts(experiment)
    if format_ == "optuna":
        from airflow_provider_axtx.integrations.optuna_study import write_study

        write_study(snapshot, attempts, path)
        return
    found = tables(snapshot, attempts, iso)
    if format_ == "json":
        path.write_text(json.dumps({"experiment": snapshot.spec, **found}, indent=2) + "\n")
        return
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns(table, found[table]))
        writer.writeheader()
        writer.writerows(found[table])


def _write_parquet(hook: AxHook, experiment: str, table: Table, path: Path) -> None:
    try:
        hook.get_frame(experiment, table).to_parquet(path, index=False)
    except ImportError as error:
        raise InvalidInputError(
            "The format parquet needs a package that is not installed here.", fix="pip install pyarrow."
        ) from error
