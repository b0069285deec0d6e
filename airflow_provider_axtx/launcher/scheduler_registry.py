"""The TorchX schedulers of a process, the one Runner over them, and what their options accept."""

from __future__ import annotations

import functools
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torchx.runner import Runner
from torchx.schedulers import get_scheduler_factories
from torchx.schedulers.api import Scheduler
from torchx.specs import InvalidRunConfigException, runopt

from airflow_provider_axtx.core.errors import AxtxError, InvalidInputError, SchedulerUnavailableError
from airflow_provider_axtx.launcher.lookup import SchedulerFactory, connecting_factories, connection_place
from airflow_provider_axtx.launcher.typecheck import shown, type_name, type_problem

LOCAL_DETACHED = "local_detached"
#: Schedulers whose apps leave files that ``TorchXLauncher.remove_files`` removes.
_WITH_FILES = (LOCAL_DETACHED, "slurm")

#: Schedulers of TorchX on which the promise (nothing lost, nothing twice) cannot be kept, and why.
REFUSED = {
    "local_cwd": "its apps die with the process that submitted them, and no other process can see them",
    "aws_sagemaker": "it cannot list its apps, so a submission that was cut short could not be found again",
}


#: What TorchX's schedulers raise for an AppDef or options that they cannot run, before any call to the scheduler.
BAD_APP = (
    *(ValueError, TypeError, AssertionError, LookupError, AttributeError, RuntimeError),
    InvalidRunConfigException,
)


@contextmanager
def scheduler_errors(scheduler: str, doing: str) -> Iterator[None]:
    """Turn every exception of a scheduler's client into a ``SchedulerUnavailableError``, except our own errors.

    :param scheduler: the scheduler's name.
    :param doing: what was attempted, for the message: ``submit digits-...-t0-a1``.
    """
    try:
        yield
    except AxtxError:
        raise
    except Exception as error:
        raise SchedulerUnavailableError(
            f"Scheduler {scheduler} failed to {doing}: {describe_error(error)}.",
            fix=f"it is tried again; if it stays so, check that {scheduler} can be reached from this machine.",
        ) from error


def describe_error(error: BaseException) -> str:
    """Return an exception's type and text, and the standard error of a command that failed."""
    said = getattr(error, "stderr", None)
    if isinstance(said, bytes):
        said = said.decode(errors="replace")
    return f"{type(error).__name__}: {error}{f' ({said.strip()})' if said else ''}"


def leaves_files(scheduler: str) -> bool:
    """Return whether apps of a scheduler leave files that ``TorchXLauncher.remove_files`` removes."""
    return scheduler in _WITH_FILES


class Schedulers:
    """Builds each TorchX scheduler at first use and keeps it; thread-safe.

    :param session: TorchX session name, part of every app handle.
    :param extra: further schedulers by name, in addition to TorchX's own and ``local_detached``.
    """

    def __init__(self, session: str = "torchx", extra: Mapping[str, SchedulerFactory] | None = None) -> None:
        self._session = session
        # Never through a ``torchx.schedulers`` entry point: in TorchX 0.7 one entry point hides all built-ins.
        self._factories: dict[str, SchedulerFactory] = {
            **get_scheduler_factories(),
            LOCAL_DETACHED: _local_detached,
            **(extra or {}),
        }
        self._instances: dict[str, Scheduler] = {}
        self._lock = threading.RLock()
        # The Runner makes an argument of every TORCHX_* environment variable, under a mangled name (TORCHX_SESSION_NAME
        # becomes a second ``session_name`` and a TypeError). ``_for_runner`` takes them and drops them.
        self.runner = Runner(session, {name: functools.partial(self._for_runner, name) for name in self.names()})

    def names(self) -> list[str]:
        """Return the names of the schedulers that may be used, sorted."""
        return sorted(set(self._factories) - set(REFUSED))

    def check_name(self, name: object, allowed: list[str] | None = None) -> str:
        """Return ``name`` if it is a scheduler that may be used.

        :raises InvalidInputError: unknown, refused, or not in ``allowed``; lists the known ones.
        """
        known = self.names() if allowed is None else [n for n in self.names() if n in allowed]
        if isinstance(name, str) and name in REFUSED:
            raise InvalidInputError(
                f"scheduler {name!r} is not supported: {REFUSED[name]}.",
                fix=f"use {LOCAL_DETACHED!r}, whose apps outlive the process that submitted them, or one of "
                f"{', '.join(known)}.",
            )
        if not isinstance(name, str) or name not in self._factories:
            raise InvalidInputError(f"There is no scheduler {name!r}.", fix=f"one of {', '.join(known)}.")
        if name not in known:
            raise InvalidInputError(
                f"scheduler {name!r} is not allowed by the torchx connection.", fix=f"one of {', '.join(known)}."
            )
        return name

    def get(self, name: str) -> Scheduler:
        """Return the scheduler.

        :raises InvalidInputError: it needs a package that is not installed.
        :raises SchedulerUnavailableError: it cannot be set up just now.
        """
        with self._lock:
            if name not in self._instances:
                with scheduler_errors(name, "set up its client"), _signal_handlers_kept():
                    self._instances[name] = self._create(name)
            return self._instances[name]

    def _create(self, name: str) -> Scheduler:
        try:
            return self._factories[name](self._session)
        except ImportError as error:
            raise missing_package(name, error) from error

    def _for_runner(self, name: str, _session: str, **_mangled_environment: object) -> Scheduler:
        return self.get(name)


def missing_package(scheduler: str, error: ImportError) -> InvalidInputError:
    """Return the error for a scheduler whose client library is not installed."""
    return InvalidInputError(
        f"scheduler {scheduler!r} needs a package that is not installed here: {error}.",
        fix=f"install it on every Airflow machine (for most schedulers: pip install 'torchx[{scheduler}]').",
    )


def schedulers_of_process(session: str, name: str = "", recorded: Mapping[str, Any] | None = None) -> Schedulers:
    """Return this process's schedulers. A forked child gets its own: sockets of a client must not be shared.

    So does a changed environment that ``local_detached`` takes its folder from.

    :param name: the scheduler that is connected to a recorded place.
    :param recorded: that place, as ``lookup.lookup_options`` returned it.
    """
    place = connection_place(name, recorded or {})
    environment = map(os.environ.get, ("AXTX_LOCAL_ROOT", "AIRFLOW_HOME"))
    return _schedulers(session, name if place else "", place, os.getpid(), *environment)


@functools.lru_cache(maxsize=32)
def _schedulers(session: str, name: str, place: str | None, *_process: object) -> Schedulers:
    return Schedulers(session, connecting_factories(name, place) if place else None)


def _local_detached(session_name: str) -> Scheduler:
    from airflow_provider_axtx.launcher.local_detached.scheduler import create_scheduler

    return create_scheduler(session_name)


@contextmanager
def _signal_handlers_kept() -> Iterator[None]:
    """Put back the SIGTERM and SIGINT handlers: LocalScheduler replaces them, and Airflow's ``on_kill`` needs them."""
    if threading.current_thread() is not threading.main_thread():
        yield  # no other thread can replace a handler
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None and signal.getsignal(number) is not handler:
                signal.signal(number, handler)


#: Options that this package adds to those of a TorchX scheduler.
_OWN_OPTIONS: dict[str, dict[str, runopt]] = {
    "slurm": {"signal": runopt(None, str, False, "signal before the end, as sbatch --signal takes it: TERM@120")}
}


def check_options(name: str, scheduler: Scheduler, options: object) -> dict[str, Any]:
    """Return a scheduler's options as a dict, checked against what the scheduler declares.

    :param options: ``scheduler_args``; None means none. An option that is None has its default.
    :raises InvalidInputError: unknown option, wrong type, required option missing: one error that names each, and the
        valid ones. Values of containers are not shown, they may hold secrets.
    """
    if options is None:
        options = {}
    if not isinstance(options, Mapping):
        raise InvalidInputError(
            f"scheduler_args must be an object of option names and values, not {type(options).__name__}.",
            fix='pass for example scheduler_args={"partition": "gpu"}.',
        )
    declared = {**dict(scheduler.run_opts()), **_OWN_OPTIONS.get(name, {})}
    problems = [f"{option!r} is not one of its options" for option in options if option not in declared]
    for option, rule in declared.items():
        value = options.get(option)
        if value is None:
            problems += [f"{option} is required"] if rule.is_required else []
        elif problem := type_problem(rule.opt_type, value):
            # A text where a mapping belongs is most likely that mapping, secrets and all.
            given = shown(value) if rule.opt_type in (str, int, float, bool) else f"a {type(value).__name__}"
            problems.append(f"{option} must be {type_name(rule.opt_type)}, not {given} ({problem})")
    if problems:
        valid = ", ".join(f"{o}: {type_name(r.opt_type)}" for o, r in declared.items())
        raise InvalidInputError(
            f"scheduler_args do not fit scheduler {name!r}: {'; '.join(problems)}.",
            fix=f"its options are {valid or 'none'}.",
        )
    # TorchX takes no int for a float.
    return {o: float(v) if declared[o].opt_type is float and v is not None else v for o, v in options.items()}
