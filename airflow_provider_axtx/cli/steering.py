"""Commands that record what is wanted of an experiment. The tasks that work on it carry that out."""

from __future__ import annotations

import datetime as dt
import getpass
import json
import os
import uuid
from typing import TYPE_CHECKING, Any

from airflow.cli.cli_config import ARG_OUTPUT, ActionCommand, Arg

from airflow_provider_axtx.cli.common import command, hook_of, show
from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.core.inputs import shorten
from airflow_provider_axtx.core.steering import EDITABLE_LIMITS, Action, Change

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable

    from airflow_provider_axtx.store.experiments import ExperimentStore

#: Gives a limit back to the DAG.
_OF_THE_DAG = "dag"
_TRIAL = Arg(("trial",), help="Index of the trial", type=int)
_ONE_TRIAL = Arg(("--trial",), help="Stop only the trial with this index", type=int, default=None)
_REASON = Arg(("--reason",), help="Why; recorded with the change", default="")
_REQUEST_ID = Arg(
    ("--request-id",), help="An id of your choice: the command repeated with it records nothing more", default=None
)
_LIMITS = (
    Arg(("--max-trials",), help=f"Trials in all, or {_OF_THE_DAG!r} for the DAG's own limit", default=None),
    Arg(("--max-seconds",), help=f"Seconds since the task first began, or {_OF_THE_DAG!r}", default=None),
    Arg(("--deadline",), help=f"ISO text with its time zone, or {_OF_THE_DAG!r}", default=None),
    Arg(("--max-resource-hours",), help=f"Core-hours or GPU-hours, or {_OF_THE_DAG!r}", default=None),
    Arg(("--max-cost",), help=f"Money at the prices of the torchx connection, or {_OF_THE_DAG!r}", default=None),
)
_PARAMETERS = Arg(("parameters",), help="The parameterization as a JSON object", nargs="?", default=None)
_LIKE = Arg(("--like",), help="Begin with the parameters of the trial with this index", type=int, default=None)
_CHANGES = Arg(("changes",), help="The changed fields of the definition as a JSON object")
_TEXT = Arg(("text",), help="The note")
_TAGS = Arg(("tags",), help="The tags, in place of those before", nargs="*")
_UNDO = Arg(("--undo",), help="Take the experiment out of the archive", action="store_true")
_POSITION = Arg(("position",), help="Number of the change, as 'changes' prints it", type=int)


def steering_commands(experiment: Arg, conn_id: Arg, of: Callable[[str], Any]) -> tuple[ActionCommand, ...]:
    """Return the commands of this module.

    :param of: gives a command that is imported when it is used.
    """

    def made(name: str, text: str, function: str, *arguments: Arg, reason: bool = True) -> ActionCommand:
        common = (*((_REASON,) if reason else ()), _REQUEST_ID, conn_id, ARG_OUTPUT)
        return ActionCommand(name, text, of(f"steering.{function}"), (experiment, *arguments, *common))

    return (
        made("pause", "Start nothing more, and let live apps end", "pause"),
        made("resume", "Let a paused, drained or stopped experiment go on", "resume"),
        made("drain", "Start nothing more, and end the experiment when its live apps have ended", "drain"),
        made("stop", "Cancel the live apps and end the experiment, or stop one trial", "stop", _ONE_TRIAL),
        made("extend", "Change the limits", "extend", *_LIMITS),
        made("queue", "Queue a trial by hand, before the optimizer's next one", "queue", _PARAMETERS, _LIKE),
        made("change", "Change the definition for the trials that follow", "change", _CHANGES),
        made("analyze", "Ask for the explanation to be computed anew", "analyze"),
        made("retry", "Run a FAILED trial again", "retry", _TRIAL),
        made("note", "Write a note", "note", _TEXT, reason=False),
        made("tag", "Set the tags", "tag", _TAGS, reason=False),
        made("archive", "Leave the experiment out of lists", "archive", _UNDO),
        made("withdraw", "Withdraw a change that no task has carried out yet", "withdraw", _POSITION),
        ActionCommand(
            "changes", "List what users have asked for", of("steering.changes"), (experiment, conn_id, ARG_OUTPUT)
        ),
    )


def _record(
    args: Namespace,
    action: Action,
    *,
    store: ExperimentStore | None = None,
    trial_index: int | None = None,
    arguments: dict[str, Any] | None = None,
) -> None:
    """Record a change, and print it."""
    from airflow_provider_axtx.spec.steering import new_change

    wanted = new_change(
        action,
        request_id=uuid.uuid4().hex if args.request_id is None else args.request_id,
        requested_by=_user(),
        via="cli",
        reason=getattr(args, "reason", ""),
        trial_index=trial_index,
        arguments=arguments,
    )
    store = store or hook_of(args).existing_store
    show([_row(store.steer(args.experiment, wanted))], args)


def _recorded(args: Namespace, store: ExperimentStore) -> dict[str, Any] | None:
    """Return the arguments of the change that has the request id of the command already, or None."""
    known = (change.arguments for change in store.changes(args.experiment) if change.request_id == args.request_id)
    return next(known, None)


def _user() -> str:
    """Return the name of the user, or the uid where it has no name, as in a container that runs under any uid."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # the latter from Python 3.13 on
        return str(os.getuid())


def _row(asked: Change) -> dict[str, Any]:
    return {
        "position": asked.position,
        "action": asked.action,
        "trial": asked.trial_index,
        "arguments": asked.shown_arguments,
        "requested_by": asked.requested_by,
        "requested_at": dt.datetime.fromtimestamp(asked.requested_at, dt.UTC).isoformat(timespec="seconds"),
        "via": asked.via,
        "reason": asked.reason,
        "open": asked.is_open,
        "outcome": asked.outcome or "",
    }


@command
def pause(args: Namespace) -> None:
    """Pause an experiment: live apps go on to their end, and no other is started until it is resumed."""
    _record(args, Action.PAUSE)


@command
def resume(args: Namespace) -> None:
    """Let a paused, drained or stopped experiment go on.

    A task that waits goes on at once. A task that has ended because of `drain` or `stop` does not begin again by
    itself: clear it, or trigger the DAG.
    """
    _record(args, Action.RUN)


@command
def drain(args: Namespace) -> None:
    """End an experiment when its live apps have ended; no other is started."""
    _record(args, Action.DRAIN)


@command
def stop(args: Namespace) -> None:
    """Cancel the live apps of an experiment and end it; with `--trial` stop only that trial.

    The trials of cancelled apps are ABANDONED with the reason.
    """
    if args.trial is None:
        _record(args, Action.STOP)
    else:
        _record(args, Action.STOP_TRIAL, trial_index=args.trial)


@command
def extend(args: Namespace) -> None:
    """Set limits of an experiment in place of those of its DAG; the word `dag` gives one back.

    A lower limit than before lets live apps end.
    """
    from airflow_provider_axtx.spec.steering import limits_arguments

    given = {name: getattr(args, name) for name in EDITABLE_LIMITS}
    wanted = {name: None if text == _OF_THE_DAG else text for name, text in given.items() if text is not None}
    _record(args, Action.LIMITS, arguments=limits_arguments(wanted))


@command
def queue(args: Namespace) -> None:
    """Queue a trial by hand. The next task that generates a trial runs it before the optimizer's own.

    With `--like` the parameters begin with those of that trial, and the JSON object names only those that differ.
    Parameters of that trial that do not exist together with these are left out.
    """
    from airflow_provider_axtx.spec.steering import queue_arguments

    store = hook_of(args).existing_store
    like = None if args.like is None else store.trial(args.experiment, args.like).parameters
    if args.parameters is None and like is None:
        raise InvalidInputError("No parameters are given.", fix="give a JSON object, or --like with a trial's index.")
    typed = _object("parameters", args.parameters or "{}", """write '{"x": 0.5}'.""")
    arguments = queue_arguments(store.spec(args.experiment), typed, like, recorded=_recorded(args, store))
    _record(args, Action.QUEUE_TRIAL, store=store, arguments=arguments)


def _object(what: str, text: str, fix: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise InvalidInputError(f"The {what} are not valid JSON ({error}): {shorten(text)}.", fix=fix) from error
    if not isinstance(found, dict):
        raise InvalidInputError(f"The {what} are not an object: {shorten(text)}.", fix=fix)
    return found


@command
def change(args: Namespace) -> None:
    """Change the definition of an experiment: bounds, values, added or frozen parameters, objective, constraints.

    The next task that generates a trial carries it out. Fields that are not named stay as they are.
    """
    from airflow_provider_axtx.spec.steering import change_arguments

    store = hook_of(args).existing_store
    given = _object("changes", args.changes, """write '{"parameters": {"x": {"bounds": [0, 2]}}}'.""")
    arguments: dict[str, Any] = {"changes": given}
    if _recorded(args, store) is None:
        has_trials = bool(store.summary(args.experiment).trial_counts)
        arguments = change_arguments(store.spec(args.experiment), given, has_trials=has_trials)
    _record(args, Action.CHANGE_DEFINITION, store=store, arguments=arguments)


@command
def analyze(args: Namespace) -> None:
    """Ask for the explanation of an experiment: importance, slices, contours, cross-validation.

    The next task that works on the experiment computes it.
    """
    _record(args, Action.ANALYZE)


@command
def retry(args: Namespace) -> None:
    """Run a FAILED trial again: in another attempt of its task or, when that has ended, in a new trial."""
    _record(args, Action.RETRY_TRIAL, trial_index=args.trial)


@command
def note(args: Namespace) -> None:
    """Write a note on an experiment, which stays."""
    from airflow_provider_axtx.spec.steering import note_arguments

    _record(args, Action.NOTE, arguments=note_arguments(args.text))


@command
def tag(args: Namespace) -> None:
    """Set the tags of an experiment; without any it has none."""
    from airflow_provider_axtx.spec.steering import tags_arguments

    _record(args, Action.TAGS, arguments=tags_arguments(args.tags))


@command
def archive(args: Namespace) -> None:
    """Leave an experiment out of the list of the page; its tasks go on as before."""
    _record(args, Action.UNARCHIVE if args.undo else Action.ARCHIVE)


@command
def withdraw(args: Namespace) -> None:
    """Withdraw a change that no task has carried out yet.

    It is a queued trial, or a request to stop a trial, to run it again, to change the definition, to compute the
    explanation, or to delete the experiment.
    """
    _record(args, Action.WITHDRAW, arguments={"position": args.position})


@command
def changes(args: Namespace) -> None:
    """Print a line for each change: what was asked for, by whom, when, why, and what has become of it."""
    show([_row(one) for one in hook_of(args).existing_store.changes(args.experiment)], args)
