"""The command that writes another tool's experiment as a definition."""

from __future__ import annotations

import json
import pkgutil
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.cli.cli_config import ActionCommand, Arg

from airflow_provider_axtx.cli.common import command
from airflow_provider_axtx.core.definition_file import read_object
from airflow_provider_axtx.core.errors import InvalidInputError

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable

_SOURCE = Arg(("source",), help="The tool whose file it is", choices=("optuna", "ray", "katib", "wandb"))
_INPUT = Arg(("input",), help="A YAML or JSON file; of Ray Tune also module:object, where Ray is installed")
_FILE = Arg(("--file",), help="The file to write (default: standard output)", default=None)
_NAME = Arg(("--name",), help="Name of the experiment if the file has none (default: the file's name)", default=None)
_OBJECTIVE = Arg(("--objective",), help="What to maximize, such as 'accuracy' or '-loss'", default=None)
_LEAVE_OUT = Arg(
    ("--leave-out",),
    help="Path of a field that is not read, such as spec.objective.goal. May be given several times",
    action="append",
    default=[],
)
_OUTPUT = Arg(("-o", "--output"), help="Format of the definition", choices=("yaml", "json"), default="yaml")


def convert_command(of: Callable[[str], Any]) -> ActionCommand:
    """Return the command of this module.

    :param of: gives a command that is imported when it is used.
    """
    arguments = (_SOURCE, _INPUT, _NAME, _OBJECTIVE, _LEAVE_OUT, _FILE, _OUTPUT)
    text = "Write an experiment of Optuna, Ray Tune, Katib or W&B as a definition"
    return ActionCommand("convert", text, of("convert.convert"), arguments)


@command
def convert(args: Namespace) -> None:
    """Write an experiment of another tool as a definition, which the argument `experiment` of the operators takes.

    What the file says beside the definition, such as the number of trials, is printed to standard error as arguments of
    `AxOptimizeOperator`. A field that cannot be expressed is refused by its name, with the fix.
    """
    from airflow_provider_axtx.spec.convert import convert as converted

    given = _given(args.source, args.input)
    name = args.name or re.split(r"[/:]", args.input)[-1].split(".")[0]
    found = converted(args.source, given, name=name, objective=args.objective, leave_out=args.leave_out)
    text = _as_text(found.definition, args.output)
    if args.file is None:
        print(text, end="")
    else:
        try:
            Path(args.file).write_text(text)
        except OSError as error:
            raise SystemExit(f"The file {args.file} cannot be written: {error.strerror}.") from error
    for argument, value in found.arguments.items():
        print(f"AxOptimizeOperator takes {argument}={value!r}.", file=sys.stderr)
    for note in found.notes:
        print(note, file=sys.stderr)


def _given(source: str, place: str) -> object:
    if source != "ray" or not re.fullmatch(r"[\w.]+:[\w.]+", place):
        return read_object(Path(place))
    sys.path.insert(0, "")  # as python -m has it, which finds a module in the working directory
    try:
        return pkgutil.resolve_name(place)
    except (ImportError, AttributeError, ValueError) as error:
        raise InvalidInputError(
            f"{place} cannot be imported: {error}.", fix="install Ray here, correct the path, or give a file."
        ) from error
    finally:
        sys.path.pop(0)


def _as_text(definition: dict[str, Any], output: str) -> str:
    if output == "json":
        return json.dumps(definition, indent=2) + "\n"
    import yaml

    text: str = yaml.safe_dump(definition, sort_keys=False, allow_unicode=True)
    return text
