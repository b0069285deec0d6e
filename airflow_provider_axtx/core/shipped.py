"""The components that this package ships, as far as a DAG file has to know them: their arguments, what fits them."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from airflow_provider_axtx.core.command_line import (
    BUILTIN,
    DEFAULT_FLAG,
    FLAGS,
    CommandLine,
    placeholders,
    shell_text,
    split,
)
from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.core.inputs import is_templated
from airflow_provider_axtx.core.promotion import budget_argument

COMMAND, SCRIPT, DDP, FUNCTION = "axtx.command", "axtx.script", "axtx.ddp", "axtx.function"
_RESOURCES = ("cpu", "gpu", "memMB", "named_resource", "image", "env", "mounts")
#: The arguments that component_args may give, by component; a test compares them with the functions.
ARGUMENTS: dict[str, tuple[str, ...]] = {
    COMMAND: ("command", "shell", "flag", "cwd", "num_replicas", *_RESOURCES),
    SCRIPT: ("script", "m", "args", "flag", "python", "cwd", "num_replicas", *_RESOURCES),
    FUNCTION: ("function", "constants", "report", "metric", "python", "num_replicas", *_RESOURCES),
    DDP: ("script", "m", "args", "flag", "j", "rdzv_port", "rdzv_backend", *_RESOURCES),
}


def problems(component: object, parameters: Collection[str], component_args: Mapping[str, Any]) -> list[str]:
    """Return what does not fit a shipped component; nothing for any other component.

    :param component: the reference.
    :param parameters: names of the experiment's parameters.
    :param component_args: the constant arguments.
    """
    if not isinstance(component, str) or component not in ARGUMENTS:
        return []
    return list(_problems(component, parameters, component_args))


def check_at_parse(component: object, experiment: object, component_args: object) -> None:
    """Check a shipped component against the search space while the DAG file is parsed; what is a template waits.

    :param experiment: the definition as the operator was given it.
    :raises InvalidInputError: lists everything that does not fit.
    """
    if not isinstance(component, str) or component not in ARGUMENTS or is_templated(component_args):
        return
    names = _argument_names(experiment)
    if names is None or not isinstance(component_args, Mapping | None):
        return
    found = problems(component, names, component_args or {})
    if found:
        raise InvalidInputError(
            f"Component {component} does not fit: {'; '.join(found)}.",
            fix="correct component_args, or the names of the experiment's parameters.",
        )


def command_line(component: str, component_args: Mapping[str, Any]) -> CommandLine:
    """Return the words that a shipped component fills.

    :raises ValueError: a command in one text has a quotation mark that is not closed.
    """
    given = component_args.get("command" if component == COMMAND else "args") or ()
    words = split(given) if isinstance(given, str) else tuple(given)
    return CommandLine(words, component_args.get("flag") or DEFAULT_FLAG)


def _argument_names(experiment: object) -> list[str] | None:
    """Return the parameters of a definition, and the argument of its budget; None where they are not known yet."""
    if isinstance(experiment, Mapping):
        given = experiment.get("parameters")
        if is_templated(given) or not isinstance(given, list | tuple):
            return None
        names = [one.get("name") if isinstance(one, Mapping) else getattr(one, "name", None) for one in given]
    else:
        names = [one.name for one in getattr(experiment, "parameters", ())]
    known = [name for name in names if isinstance(name, str)]
    budget = budget_argument(experiment)
    return [*known, budget] if known and budget is not None else known or None


def _problems(component: str, parameters: Collection[str], given: Mapping[str, Any]) -> Iterator[str]:
    known = ARGUMENTS[component]
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            yield f"{name} is not an argument of {component} ({hint}it takes {', '.join(known)})"
    taken = (*known, *BUILTIN, FLAGS[1:-1])
    for name in parameters:
        if name in taken:
            yield f"the parameter {name} has the name of an argument or placeholder of {component}: rename it"
    if component == FUNCTION:
        if not isinstance(given.get("function"), str):
            yield f"{FUNCTION} is the component of @task.ax_optimize, which gives it the function"
    elif component == COMMAND:
        yield from _command_problems(parameters, given)
    else:
        yield from _program_problems(component, parameters, given)
    cwd = given.get("cwd")
    for name in placeholders(cwd) if isinstance(cwd, str) else ():
        if name not in (*parameters, *BUILTIN[:-1]):
            yield f"{{{name}}} in cwd is not a parameter of the experiment"


def _command_problems(parameters: Collection[str], given: Mapping[str, Any]) -> Iterator[str]:
    command = given.get("command")
    if not command or not isinstance(command, str | list | tuple) or not all(isinstance(w, str) for w in command):
        yield 'command has to be a list of words, such as ["python", "train.py", "--lr={lr}"], or one text'
        return
    if not given.get("shell"):
        try:
            line = command_line(COMMAND, given)
        except ValueError as error:
            yield f"command cannot be split into words: {error}"
            return
        yield from line.problems(parameters, "command")
    elif not isinstance(command, str):
        yield "with shell=True the command has to be one text"
    else:
        missing = [name for name in parameters if name not in placeholders(command)]
        if missing:
            names = ", ".join(missing)
            yield f"{names} would not reach the program: with shell=True name each one, such as {{{missing[0]}}}"
        yield from CommandLine((command, FLAGS)).problems(parameters, "command")
        try:
            shell_text(command, dict.fromkeys(placeholders(command), ""))
        except ValueError as error:
            yield str(error)


def _program_problems(component: str, parameters: Collection[str], given: Mapping[str, Any]) -> Iterator[str]:
    if (given.get("script") is None) == (given.get("m") is None):
        yield f"{component} needs either script (a file) or m (a module)"
    args = given.get("args")
    if args is not None and not (isinstance(args, list | tuple) and all(isinstance(word, str) for word in args)):
        yield 'args has to be a list of words, such as ["--lr={lr}"]'
    else:
        yield from command_line(component, given).problems(parameters, "args")
