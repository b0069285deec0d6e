"""The errors of this package. Each says what is wrong and how to fix it."""

from __future__ import annotations


class AxtxError(Exception):
    """Base of all errors raised by this package.

    ```python
    from airflow_provider_axtx.core.errors import AxtxError
    from airflow_provider_axtx.spec.experiment import ExperimentSpec

    try:
        ExperimentSpec.load({"name": "x", "parameters": [], "objective": "loss"})
    except AxtxError as error:
        print(error.message, error.fix)
    ```

    :param message: what is wrong; names the field and the value.
    :param fix: what the reader should do about it.
    """

    #: Whether the same call may succeed later although nothing was changed.
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


def is_final(error: Exception) -> bool:
    """Return whether the same call cannot succeed later, because a user has to change something first."""
    return isinstance(error, AxtxError) and not error.retryable


class InvalidInputError(AxtxError):
    """A spec, parameter, component, connection or Param that cannot be used as given."""


class InvalidResultError(AxtxError):
    """What an app reported cannot be given to Ax (missing, not a number, infinite): fails the trial, not the task."""


class ExperimentNotFoundError(AxtxError):
    """The store has no experiment of that name."""


class ExperimentExistsError(AxtxError):
    """The experiment exists already, and ``if_exists`` is ``fail`` or the stored definition differs."""


class ForeignExperimentError(AxtxError):
    """The experiment belongs to another DAG, whose author does not share it with this one."""


class TrialNotFoundError(AxtxError):
    """The experiment has no such trial or attempt."""


class TrialStateError(AxtxError):
    """The trial is in a status that does not allow the call, for example another outcome for a terminal trial."""


class SchemaVersionError(AxtxError):
    """The store's schema has another version than this package needs, or was not made by it."""


class NewerSchemaError(SchemaVersionError):
    """Another process, whose package is newer, has upgraded the store's schema.

    During an upgrade of a cluster, a retry may run on a machine that has been upgraded.
    """

    retryable = True


class DuplicateAppError(AxtxError):
    """The scheduler already has an app under this submission key."""


class StoreConflictError(AxtxError):
    """Another process changed the experiment between reading its facts and writing; read again."""

    retryable = True


class StoreUnavailableError(AxtxError):
    """The experiment store's database cannot be reached."""

    retryable = True


class StoreNotFoundError(AxtxError):
    """There is no experiment store yet where the connection points to; only raised where none may be made."""


class AirflowUnavailableError(AxtxError):
    """Airflow did not say whether a connection is defined."""

    retryable = True


class TrackerUnavailableError(AxtxError):
    """The tracker base cannot be read at the moment."""

    retryable = True


class SchedulerUnavailableError(AxtxError):
    """The TorchX scheduler did not answer."""

    retryable = True


class OutputLostError(AxtxError):
    """There is no log of the app any more: the scheduler has forgotten the app, or its log files are gone."""


class AppElsewhereError(SchedulerUnavailableError):
    """The app belongs to another host, or to files that this machine does not have: nothing can be said about it here.

    A retry may run on that host, so the same call may succeed there.
    """


class RecordingError(AxtxError):
    """Some runs of an experiment could not be recorded in another tool; the others are there."""


class ResultsPendingError(AxtxError):
    """The app has succeeded, and its results may still become visible: read them again in a moment."""

    retryable = True


class TrialsPendingError(AxtxError):
    """Ax cannot propose another trial until some that are in flight have ended."""

    retryable = True


class ExperimentPausedError(AxtxError):
    """A user has paused the experiment: nothing is started until it is resumed."""

    retryable = True


class TrialStoppedError(AxtxError):
    """A user has stopped the trial, or its experiment, before its app was started."""
