"""The errors of this package. Each says what is wrong and how to mend it."""

from __future__ import annotations


class AxtxError(Exception):
    """Base of all errors raised by this package.

    :param message: what is wrong; names the field and the value.
    :param fix: what the reader should do about it.
    """

    #: True when the same call may succeed later without anybody changing anything.
    retryable = False

    def __init__(self, message: str, *, fix: str) -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.message} Fix: {self.fix}"

    def __reduce__(self) -> tuple[object, ...]:
        # Airflow's executors pickle exceptions between processes; the default protocol would drop the keyword argument
        # and the *unpickling* process (the scheduler) would be the one that dies.
        return (_rebuild, (type(self), self.message, self.fix))


def _rebuild(cls: type[AxtxError], message: str, fix: str) -> AxtxError:
    return cls(message, fix=fix)


class InvalidInputError(AxtxError):
    """A spec, parameter, component, connection or Param that cannot be used as given."""


class InvalidResultError(AxtxError):
    """What an app reported cannot be given to Ax (missing, not a number, infinite): fails the trial, not the task."""


class ExperimentNotFoundError(AxtxError):
    """No experiment of that name in the store."""


class ExperimentExistsError(AxtxError):
    """The experiment exists already, and ``if_exists="fail"`` or its definition differs."""


class TrialNotFoundError(AxtxError):
    """No such trial or run in the experiment."""


class TrialStateError(AxtxError):
    """The trial is in a status that does not allow the call, for example another outcome for a terminal trial."""


class SchemaVersionError(AxtxError):
    """The store's schema is newer than this package, or not one of ours."""


class DuplicateAppError(AxtxError):
    """The scheduler already has an app under this submission key."""


class StoreConflictError(AxtxError):
    """Another process changed the experiment between reading its facts and writing; read again."""

    retryable = True


class StoreUnavailableError(AxtxError):
    """The experiment store's database cannot be reached."""

    retryable = True


class TrackerUnavailableError(AxtxError):
    """The tracker base cannot be read just now."""

    retryable = True


class SchedulerUnavailableError(AxtxError):
    """The TorchX scheduler did not answer."""

    retryable = True


class AppElsewhereError(SchedulerUnavailableError):
    """The app belongs to another host, or to files that this machine does not have: nothing can be said about it here.

    A retry may run on that host, so the same call may succeed there.
    """


class TrialsPendingError(AxtxError):
    """Ax cannot propose another trial until some that are in flight have ended."""

    retryable = True
