"""The ``torchx`` connection: which scheduler runs the apps, with which options, and where they report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from airflow.sdk import BaseHook

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.core.home import axtx_home
from airflow_provider_axtx.core.inputs import given_or, read_json
from airflow_provider_axtx.core.numbers import as_number
from airflow_provider_axtx.hooks.connections import afind_connection, find_connection
from airflow_provider_axtx.hooks.mlflow import tracking_uri_for_apps
from airflow_provider_axtx.launcher.typecheck import shown

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher

DEFAULT_SCHEDULER = "local_detached"
_KNOWN_EXTRAS = ("scheduler", "scheduler_args", "tracker_base", "allowed_components", "prices")
_PRICES = ("cpu_hour", "gpu_hour")


class RecordedAttempt(Protocol):
    """What reaches the app of an attempt.

    :param scheduler: name of the TorchX scheduler.
    :param lookup_options: what ``TorchXLauncher.lookup_options`` returned at the submission; None when unknown.
    """

    @property
    def scheduler(self) -> str: ...
    @property
    def lookup_options(self) -> Mapping[str, Any] | None: ...


@dataclass(frozen=True)
class TorchXSettings:
    """The fields of a ``torchx`` connection.

    :param scheduler: name of the TorchX scheduler.
    :param scheduler_args: its run options.
    :param tracker_base: root folder or fsspec URL below which every attempt gets a tracker base of its own; None means
        a folder in AIRFLOW_HOME. ``s3://CONNECTION@bucket/prefix`` names an Airflow connection with the credentials.
    :param allowed_components: patterns (``fnmatch``) of the component references that may be run; None allows all
        that the code of a DAG file names.
    :param prices: what ``cpu_hour`` and ``gpu_hour`` cost, in a currency of your own; recorded with each attempt.
    """

    scheduler: str = DEFAULT_SCHEDULER
    scheduler_args: Mapping[str, Any] = field(default_factory=dict)
    tracker_base: str | None = None
    allowed_components: tuple[str, ...] | None = None
    prices: Mapping[str, float] = field(default_factory=dict)

    @property
    def tracker_root(self) -> str:
        """Root of the tracker bases of attempts without an explicit one."""
        return self.tracker_base or str(axtx_home() / "tracker")


class TorchXHook(BaseHook):
    """Gives access to a TorchX scheduler. Works without any connection: then apps run on ``local_detached``.

    ```python
    from airflow_provider_axtx.hooks.torchx import TorchXHook

    settings = TorchXHook("torchx_default").settings
    print(settings.scheduler, settings.tracker_root)
    ```

    :param torchx_conn_id: a connection of type ``torchx``.
    """

    conn_name_attr = "torchx_conn_id"
    default_conn_name = "torchx_default"
    conn_type = "torchx"
    hook_name = "TorchX scheduler"

    def __init__(self, torchx_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.torchx_conn_id: str = given_or(self.default_conn_name, torchx_conn_id)

    @cached_property
    def settings(self) -> TorchXSettings:
        """The connection's fields, or the defaults when the default connection is not defined.

        :raises InvalidInputError: when a field cannot be used; names the connection, the field and the value.
        :raises AirflowUnavailableError: when Airflow does not say whether the connection is defined.
        """
        return self._settings_of(find_connection(self.torchx_conn_id))

    async def aload_settings(self) -> None:
        """Look the connection up without blocking an event loop, for ``settings``; for triggers. Errors as there."""
        self.settings = self._settings_of(await afind_connection(self.torchx_conn_id))

    def _settings_of(self, connection: Connection | None) -> TorchXSettings:
        if connection is None:
            if self.torchx_conn_id != self.default_conn_name:
                raise InvalidInputError(
                    f"There is no connection torchx_conn_id={self.torchx_conn_id!r}.",
                    fix=f"define it (type torchx), or leave torchx_conn_id at {self.default_conn_name!r}.",
                )
            return TorchXSettings()
        return read_settings(connection)

    def get_launcher(
        self, scheduler: str | None = None, scheduler_args: Mapping[str, Any] | None = None
    ) -> TorchXLauncher:
        """Return the launcher that submits, observes and cancels apps.

        :param scheduler: None means the connection's.
        :param scheduler_args: added to, and stronger than, the connection's when the scheduler is the connection's;
            another scheduler takes only these.
        :raises InvalidInputError: for an unknown scheduler or option.
        """
        from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher

        name = scheduler or self.settings.scheduler
        inherited = self.settings.scheduler_args if name == self.settings.scheduler else {}
        launcher = TorchXLauncher(
            name,
            scheduler_args={**inherited, **(scheduler_args or {})},
            allowed_components=self.settings.allowed_components,
        )
        launcher.mlflow_tracking_uri = tracking_uri_for_apps()
        return launcher

    def get_launcher_for(self, attempt: RecordedAttempt) -> TorchXLauncher:
        """Return a launcher that finds, observes, cancels and reads the app of an attempt, wherever it was submitted.

        It needs no option that only a submission needs, and cannot submit.

        :param attempt: an ``AttemptRecord``, or what has its ``scheduler`` and ``lookup_options``. With None for the
            latter (an attempt of an older version) the connection's options are taken, if the scheduler is its own.
        :raises InvalidInputError: unknown scheduler, a missing package, or options of the connection that do not fit.
        """
        from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher

        if attempt.lookup_options is not None:
            return TorchXLauncher.for_attempt(attempt.scheduler, attempt.lookup_options)
        if attempt.scheduler == self.settings.scheduler and self.settings.scheduler_args:
            return TorchXLauncher.for_attempt(attempt.scheduler, self.get_launcher().lookup_options())
        return TorchXLauncher.for_attempt(attempt.scheduler, None)


def read_settings(connection: Connection) -> TorchXSettings:
    """Read a ``torchx`` connection. Its extra fields are read by name; an unknown one is an error, not ignored.

    :raises InvalidInputError: when a field cannot be used.
    """
    where = f"connection {connection.conn_id!r}"
    if connection.conn_type != TorchXHook.conn_type:
        raise InvalidInputError(
            f"{where} is of type {connection.conn_type!r}.", fix="use a connection of type torchx as torchx_conn_id."
        )
    try:
        extra = read_json(connection.extra or "{}")
    except ValueError as error:
        raise InvalidInputError(
            f"{where}: extra is not valid JSON ({error}).", fix="write a JSON object into the field extra."
        ) from error
    unknown = sorted(set(extra) - set(_KNOWN_EXTRAS))
    if unknown:
        raise InvalidInputError(
            f"{where}: unknown extra field(s) {', '.join(unknown)}.", fix=f"known are {', '.join(_KNOWN_EXTRAS)}."
        )
    tracker_base = extra.get("tracker_base") or None
    if tracker_base is not None and not isinstance(tracker_base, str):
        raise InvalidInputError(
            f"{where}: tracker_base must be text, not {shown(tracker_base)}.",
            fix="set it to a folder or an fsspec URL.",
        )
    return TorchXSettings(
        scheduler=str(extra.get("scheduler") or DEFAULT_SCHEDULER),
        scheduler_args=_scheduler_args(extra.get("scheduler_args"), where),
        tracker_base=tracker_base,
        allowed_components=_allowed(extra.get("allowed_components"), where),
        prices=_prices(extra.get("prices"), where),
    )


def _scheduler_args(value: object, where: str) -> Mapping[str, Any]:
    if isinstance(value, str):
        # The connection form has only text fields for objects.
        try:
            value = read_json(value or "{}")
        except ValueError as error:
            raise InvalidInputError(
                # Without the value, here and below: the options may hold a secret.
                f"{where}: scheduler_args is not valid JSON ({error}).",
                fix='write for example {"partition": "gpu"}.',
            ) from None
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidInputError(
            f"{where}: scheduler_args must be an object of run options, not {type(value).__name__}.",
            fix='write for example {"partition": "gpu"}.',
        )
    return dict(value)


def _allowed(value: object, where: str) -> tuple[str, ...] | None:
    if value is None or value == "":
        return None
    patterns = value.replace(",", "\n").split() if isinstance(value, str) else value
    if not isinstance(patterns, list) or not all(isinstance(pattern, str) and pattern for pattern in patterns):
        raise InvalidInputError(
            f"{where}: allowed_components must be a list of patterns, not {shown(value)}.",
            fix='write for example ["utils.booth", "my_pkg.components:*"].',
        )
    return tuple(patterns)


def _prices(value: object, where: str) -> Mapping[str, float]:
    try:
        given = read_json(value or "{}") if isinstance(value, str) else value or {}
    except ValueError:
        given = value
    found = {name: as_number(one) for name, one in given.items()} if isinstance(given, Mapping) else None
    if found is None or not all(name in _PRICES and price is not None and price >= 0 for name, price in found.items()):
        raise InvalidInputError(
            f"{where}: prices must be an object with {' and '.join(_PRICES)} as numbers of 0 or more, "
            f"not {shown(value)}.",
            fix='write for example {"cpu_hour": 0.04, "gpu_hour": 2.5}.',
        )
    return {name: price for name, price in found.items() if price is not None}
