"""Observers: the state of an app as the scheduler really reports it.

TorchX's raw answer is wrong somewhere on every engine: a cancelled Slurm job raises at every call, a removed container
has SUCCEEDED, an unknown Ray job raises, a deleted Kubernetes job is "not found". An observer returns the same for
all of them: the app's state, or ``UNKNOWN`` when the scheduler does not know the app. ``LostAppPolicy`` decides whether
an unknown app has not appeared yet or is lost.

TorchX reports no times. The observers of Slurm, Docker, Kubernetes and ``local_detached`` read from the scheduler
itself when the app began to run and when it ended.
"""

from __future__ import annotations

import functools
import inspect
import json
import logging
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from typing import Any

from torchx.schedulers.api import DescribeAppResponse, ListAppResponse, Scheduler
from torchx.specs import NONE, AppState

from airflow_provider_axtx.core.app_observation import UNSEEN, AppObservation
from airflow_provider_axtx.core.errors import OutputLostError, SchedulerUnavailableError
from airflow_provider_axtx.launcher.log_sources import LinesLog, LogSource
from airflow_provider_axtx.launcher.scheduler_registry import describe_error

log = logging.getLogger(__name__)

_PARALLEL_LOOKS = 8
_MAX_MESSAGE = 500


class Observer:
    """Observes the apps of one scheduler through the interface that every TorchX scheduler has.

    Methods raise the exceptions of the scheduler's client when the scheduler does not answer. Such an exception says
    nothing about an app.

    :param name: the scheduler's name.
    :param scheduler: the scheduler.
    :param options: its options (``scheduler_args``); newer TorchX wants them for ``list``.
    """

    def __init__(self, name: str, scheduler: Scheduler, options: Mapping[str, Any] | None = None) -> None:
        self.name = name
        self.scheduler = scheduler
        self.options = dict(options or {})

    def observe(self, app_ids: Sequence[str]) -> dict[str, AppObservation]:
        """Look at many apps at once.

        :param app_ids: ids without duplicates.
        :return: one observation for each. An app that could not be looked at this time, while others could, is PENDING
            with the reason, which means "look again".
        :raises SchedulerUnavailableError: no app at all could be looked at.
        """
        if not app_ids:
            return {}
        with ThreadPoolExecutor(min(_PARALLEL_LOOKS, len(app_ids)), thread_name_prefix="axtx-observe") as pool:
            looks = {app_id: pool.submit(self._look, app_id) for app_id in app_ids}
        failures = {app_id: error for app_id, look in looks.items() if (error := look.exception())}
        if len(failures) == len(app_ids):
            raise unavailable(self.name, describe_error(next(iter(failures.values())))) from next(
                iter(failures.values())
            )
        return {
            app_id: look_again(describe_error(failures[app_id])) if app_id in failures else look.result()
            for app_id, look in looks.items()
        }

    def await_end(self, app_ids: Sequence[str], seconds: float) -> None:
        """Return when any of the apps may have ended, after ``seconds`` at the latest. Most schedulers tell no end."""
        time.sleep(seconds)

    def find(self, submission_key: str) -> str | None:
        """Return the id of the app that was submitted under the key, or None if there is none."""
        found = sorted(
            app.app_id for app in list_apps(self.scheduler, self.options) if names(app.app_id, submission_key)
        )
        return first_found(found, submission_key, self.name)

    def cancel(self, app_id: str) -> None:
        """Ask the scheduler to end the app; nothing happens if it has ended or is unknown."""
        # An ended app is left alone: on Kubernetes, cancelling deletes the job and with it the logs.
        if self.observe([app_id])[app_id].is_terminal:
            return
        try:
            self.scheduler.cancel(app_id)
        except Exception as error:
            if not says_unknown(error):
                raise

    def withdraw(self, request: Any) -> None:
        """Take back what a submission that raised may have left behind. Most schedulers submit all or nothing.

        :param request: what was submitted, the dry run's request.
        """

    def remove_files(self, submission_key: str) -> bool:
        """Remove the files that an ended app has left on this machine; most schedulers leave none.

        :return: whether none is left; False when the app has not ended.
        """
        return True

    def logs(self, app_id: str) -> list[LogSource]:
        """Return the log of each replica."""
        answer = self.scheduler.describe(app_id)
        return [
            LinesLog(f"{role}/{replica}", functools.partial(self.scheduler.log_iter, app_id, role, replica))
            for role, replica in replicas_of(answer)
        ]

    def output(self, app_id: str) -> list[LogSource]:
        """Return the log of each replica of an app that the scheduler knows.

        :raises OutputLostError: it knows the app no more, or has no log of it here.
        """
        # Asked first: some schedulers' log iterators wait without end for an app that they do not know.
        seen = self.observe([app_id])[app_id]
        try:
            found = [] if seen.app_state == "UNKNOWN" else self.logs(app_id)
        except FileNotFoundError as error:
            raise _lost(str(error)) from error
        if not found:
            raise _lost(seen.message if seen.app_state == "UNKNOWN" else "its scheduler names no replica")
        return found

    def _look(self, app_id: str) -> AppObservation:
        try:
            answer = self.scheduler.describe(app_id)
        except Exception as error:
            if says_unknown(error):
                return UNSEEN
            raise
        return self._read(answer)

    def _read(self, answer: DescribeAppResponse | None) -> AppObservation:
        if answer is None:
            return UNSEEN
        if answer.state == AppState.UNKNOWN:
            return AppObservation("UNKNOWN", _message(answer) or UNSEEN.message)
        return AppObservation(answer.state.name, _message(answer))


def list_apps(scheduler: Scheduler, options: Mapping[str, Any]) -> list[ListAppResponse]:
    """Return the scheduler's apps. TorchX 0.7 has ``list()``, newer versions have ``list(cfg)``."""
    takes_options = any(
        p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.VAR_POSITIONAL)
        for p in inspect.signature(scheduler.list).parameters.values()
    )
    return list(scheduler.list(options) if takes_options else scheduler.list())


def names(app_id: str, submission_key: str) -> bool:
    """Return whether an app's id was made from the key.

    TorchX appends ``-<random>``, and schedulers put ``namespace:``, ``queue:`` or ``host:port-`` in front.
    """
    return re.search(rf"(?:^|[:/-]){re.escape(submission_key)}(?:-[a-z0-9]+)?$", app_id) is not None


def first_found(found: Sequence[str], submission_key: str, scheduler: str) -> str | None:
    """Return the first of the app ids found for a key; more than one is worth a warning."""
    if len(found) > 1:
        log.warning("Scheduler %s has %d apps for %s: %s", scheduler, len(found), submission_key, ", ".join(found))
    return found[0] if found else None


def _lost(reason: str) -> OutputLostError:
    return OutputLostError(
        f"The output of the app is lost: {reason}.", fix="keep the logs of apps until their trials are completed."
    )


def seconds_of(moment: object) -> float | None:
    """Return a moment as schedulers write it (RFC 3339, in UTC) in seconds since the epoch; None for any other text."""
    if not isinstance(moment, str):
        return None
    try:
        # Docker writes nanoseconds, of which Python reads the first six digits.
        seconds = datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp()
    except (ValueError, OverflowError):
        return None
    # Docker writes the year 1 for a container that has not started, or not ended.
    return seconds if seconds > 0 else None


def with_times_of(parts: Iterable[AppObservation], whole: AppObservation) -> AppObservation:
    """Return the observation of an app of several parts, with the first start and, once it has ended, the last end."""
    parts = list(parts)
    starts = [part.started_at for part in parts if part.started_at is not None]
    ends = [part.ended_at for part in parts if part.ended_at is not None] if whole.is_terminal else []
    return replace(whole, started_at=min(starts, default=None), ended_at=max(ends, default=None))


def until_now(seen: Mapping[str, AppObservation]) -> dict[str, AppObservation]:
    """Return the observations with no time in the future: the scheduler's clock may be ahead of ours.

    Results are waited for until some seconds after the end, which must not become hours.
    """
    now = time.time()

    def at_most_now(at: float | None) -> float | None:
        return None if at is None else min(at, now)

    return {
        app_id: replace(one, started_at=at_most_now(one.started_at), ended_at=at_most_now(one.ended_at))
        for app_id, one in seen.items()
    }


def look_again(reason: str) -> AppObservation:
    """Return the observation of an app that could not be looked at this time."""
    return AppObservation("PENDING", f"could not be observed this time: {reason}")


def unavailable(scheduler: str, reason: str) -> SchedulerUnavailableError:
    """Return the error for "no app could be looked at"."""
    return SchedulerUnavailableError(
        f"Scheduler {scheduler} could not be asked about its apps: {reason}.",
        fix=f"it is asked again; if it stays so, check that {scheduler} can be reached from this machine.",
    )


def says_unknown(error: BaseException) -> bool:
    """Return whether an exception is a scheduler's way to say that it does not know the app."""
    # Kubernetes has ``status``, docker ``status_code``, Google ``code``; Ray only a text.
    if 404 in {getattr(error, name, None) for name in ("status", "status_code", "code")}:
        return True
    return isinstance(error, RuntimeError) and "does not exist" in str(error)


def replicas_of(answer: DescribeAppResponse | None) -> list[tuple[str, int]]:
    """Return role and number of each replica in a description."""
    if answer is None:
        return []
    replicas = sorted((status.role, replica.id) for status in answer.roles_statuses for replica in status.replicas)
    return replicas or [(role.name, replica) for role in answer.roles for replica in range(role.num_replicas)]


def _message(answer: DescribeAppResponse) -> str:
    parts = [answer.msg, _structured(answer.structured_error_msg) if answer.state == AppState.FAILED else ""]
    return " ".join(p for p in parts if p and p != NONE)[:_MAX_MESSAGE]


def _structured(text: str) -> str:
    """Return the message within an error file of torchelastic (``{"message": {"message": ..., "extraInfo": ...}}``)."""
    if not text or text == NONE:
        return ""
    try:
        content = json.loads(text)
    except ValueError:
        return text
    inner = content.get("message", content) if isinstance(content, dict) else content
    message = inner.get("message", inner) if isinstance(inner, dict) else inner
    return message if isinstance(message, str) else json.dumps(message)
