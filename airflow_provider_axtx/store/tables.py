"""The store's tables. A change here needs a new file in ``migrations/versions`` and a new ``HEAD_REVISION``.

Names carry the prefix ``axtx_``: the database may be shared with Airflow, Ax or an experiment tracker, which have
tables called ``experiments``, ``runs`` and ``alembic_version`` themselves.
"""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

#: The newest migration. Kept here so that opening an up-to-date store does not import Alembic (0.3 s for each task);
#: a test compares it with the migrations.
HEAD_REVISION = "0003"
#: Alembic's bookkeeping for this schema alone.
VERSION_TABLE = "axtx_alembic_version"

#: Longest name of an experiment (Ax's own limit).
NAME_LENGTH = 100
#: Longest string in an index: MySQL allows 3072 bytes for a key, four for each character.
KEY_LENGTH = 250
#: Longest request id of a change.
REQUEST_ID_LENGTH = 100


class SqliteExactFloat(sa.types.UserDefinedType[float]):
    """A column without numeric affinity: SQLite's own REAL stores -0.0 as the integer 0."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        """Return the type's name in SQL."""
        return "BLOB"


def long_text() -> sa.types.TypeEngine[str]:
    """Return text of any length: MySQL's TEXT ends at 64 kB, below the size of a generator state or a bad message."""
    return sa.Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")


class Json(sa.types.TypeDecorator[Any]):
    """JSON as text: database JSON types reorder keys (MySQL, jsonb) or round numbers; text keeps floats exact."""

    impl = long_text()
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> str | None:
        """Return the text to store; None stays NULL."""
        return None if value is None else json.dumps(value)

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> Any:
        """Return the stored object."""
        return None if value is None else json.loads(value)


class Message(sa.types.TypeDecorator[str]):
    """Free text from apps and schedulers: PostgreSQL refuses NUL, every database refuses lone surrogates."""

    impl = long_text()
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:
        """Return the text with what cannot be stored replaced."""
        return None if value is None else value.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()


metadata = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(referred_table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)
# MySQL compares text without case unless told otherwise: "Digits" and "digits" are two experiments.
_MYSQL: dict[str, Any] = {"mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}


def _seconds(name: str, *, nullable: bool = True) -> sa.Column[float]:
    """A point in time: seconds since the epoch (UTC)."""
    return sa.Column(name, sa.Double(), nullable=nullable)


def _exact(name: str, *, nullable: bool = True) -> sa.Column[float]:
    return sa.Column(name, sa.Double().with_variant(SqliteExactFloat(), "sqlite"), nullable=nullable)


def _key(name: str, length: int = KEY_LENGTH, *, nullable: bool = False, **options: Any) -> sa.Column[str]:
    return sa.Column(name, sa.String(length), nullable=nullable, **options)


experiments = sa.Table(
    "axtx_experiments",
    metadata,
    _key("name", NAME_LENGTH, primary_key=True),
    _key("uid", 32, unique=True),
    sa.Column("spec", Json(), nullable=False),
    sa.Column("generator_state", Json()),
    sa.Column("version", sa.Integer(), nullable=False),
    _key("lease_owner", nullable=True),
    _seconds("lease_expires_at"),
    _key("ax_version", 50),
    _seconds("created_at", nullable=False),
    sa.Column("stop_reason", Message()),
    _seconds("stopped_at"),
    # How many trials it is meant to have, as the task that generates last knew; for displays only.
    sa.Column("planned_trials", sa.Integer()),
    # The task that created it (``TaskIdentity``): whose experiment it is.
    sa.Column("created_by", Json()),
    # What its trials run: component, component_args, scheduler.
    sa.Column("app", Json()),
    **_MYSQL,
)

trials = sa.Table(
    "axtx_trials",
    metadata,
    sa.Column("experiment", sa.String(NAME_LENGTH), sa.ForeignKey("axtx_experiments.name"), primary_key=True),
    sa.Column("trial_index", sa.Integer(), primary_key=True, autoincrement=False),
    _key("arm_name"),
    sa.Column("parameters", Json(), nullable=False),
    _key("status", 20),
    _key("generation_node", nullable=True),
    sa.Column("generation", Json(), nullable=False),
    _key("origin", 20),
    _key("request_key", nullable=True),
    # Which DAG run asked for it: what a teardown looks for.
    _key("dag_run", 100, nullable=True),
    # The task that asked for it (``TaskIdentity``).
    sa.Column("requested_by", Json()),
    sa.Column("reason", Message()),
    sa.Column("evidence", Json()),
    _seconds("created_at", nullable=False),
    _seconds("updated_at", nullable=False),
    _seconds("completed_at"),
    sa.UniqueConstraint("experiment", "request_key"),
    # Covers the summary of all experiments, which would otherwise read every parameterization.
    sa.Index(None, "experiment", "status", "updated_at"),
    # Open trials, of one DAG run or of all: few in however long a table.
    sa.Index(None, "status", "dag_run"),
    **_MYSQL,
)

runs = sa.Table(
    "axtx_runs",
    metadata,
    sa.Column("experiment", sa.String(NAME_LENGTH), primary_key=True),
    sa.Column("trial_index", sa.Integer(), primary_key=True, autoincrement=False),
    sa.Column("attempt", sa.Integer(), primary_key=True, autoincrement=False),
    _key("submission_key", NAME_LENGTH, unique=True),
    _key("claim", 32),
    _key("scheduler"),
    sa.Column("tracker_base", sa.Text(), nullable=False),
    sa.Column("app_handle", sa.Text()),
    _seconds("requested_at", nullable=False),
    _seconds("submitted_at"),
    _seconds("finished_at"),
    _seconds("cancel_requested_at"),
    sa.Column("cancel_reason", Message()),
    _key("app_state", 20, nullable=True),
    sa.Column("message", Message()),
    sa.Column("unseen_polls", sa.Integer(), nullable=False),
    sa.Column("infrastructure", sa.Boolean(), nullable=False),
    sa.Column("cpus", sa.Integer(), nullable=False),
    sa.Column("gpus", sa.Integer(), nullable=False),
    _key("dag_id"),
    _key("run_id"),
    _key("task_id"),
    sa.Column("map_index", sa.Integer(), nullable=False),
    sa.Column("try_number", sa.Integer(), nullable=False),
    sa.Column("max_tries", sa.Integer(), nullable=False),
    _key("torchx_conn_id"),
    _key("installation", server_default=""),
    # What is needed to find the app again on its scheduler, and the host of an app that only its host can observe.
    sa.Column("lookup_options", Json()),
    _key("host", nullable=True),
    # When the app itself began and ended, as far as its scheduler tells.
    _seconds("started_at"),
    _seconds("ended_at"),
    sa.Column("poll_failures", sa.Integer(), nullable=False, server_default="0"),
    sa.ForeignKeyConstraint(["experiment", "trial_index"], ["axtx_trials.experiment", "axtx_trials.trial_index"]),
    sa.Index(None, "finished_at"),
    sa.Index(None, "dag_id", "run_id"),
    **_MYSQL,
)

loops = sa.Table(
    "axtx_loops",
    metadata,
    # No foreign key: recorded before its experiment, so that a retry knows an experiment that it has created itself.
    sa.Column("experiment", sa.String(NAME_LENGTH), primary_key=True),
    _key("loop_key", primary_key=True),
    sa.Column("max_tries", sa.Integer(), nullable=False),
    _seconds("started_at", nullable=False),
    sa.Column("stop_reason", Message()),
    # The definition as the task's first start rendered it.
    sa.Column("definition", Json()),
    sa.Index(None, "loop_key"),
    **_MYSQL,
)

dag_runs = sa.Table(
    "axtx_dag_runs",
    metadata,
    # ``keys.dag_run_key`` of generation 0: a DAG run that is deleted and created again is the next one of its id.
    _key("dag_run", 100, primary_key=True),
    sa.Column("generation", sa.Integer(), nullable=False),
    _seconds("started_at", nullable=False),
    sa.Column("clear_number", sa.Integer(), nullable=False),
    **_MYSQL,
)

observations = sa.Table(
    "axtx_observations",
    metadata,
    sa.Column("experiment", sa.String(NAME_LENGTH), primary_key=True),
    sa.Column("trial_index", sa.Integer(), primary_key=True, autoincrement=False),
    # Only a number: those of a trial are 0, 1, ... without gaps. A key on (metric, step) cannot hold a step of NULL.
    sa.Column("position", sa.Integer(), primary_key=True, autoincrement=False),
    _key("metric"),
    _exact("mean", nullable=False),
    _exact("sem"),
    _exact("step"),
    sa.ForeignKeyConstraint(["experiment", "trial_index"], ["axtx_trials.experiment", "axtx_trials.trial_index"]),
    sa.UniqueConstraint("experiment", "trial_index", "metric", "step"),
    **_MYSQL,
)

analyses = sa.Table(
    "axtx_analyses",
    metadata,
    sa.Column("experiment", sa.String(NAME_LENGTH), sa.ForeignKey("axtx_experiments.name"), primary_key=True),
    sa.Column("position", sa.Integer(), primary_key=True, autoincrement=False),
    _key("name"),
    sa.Column("title", Message(), nullable=False),
    sa.Column("subtitle", Message(), nullable=False),
    sa.Column("section", Json(), nullable=False),
    _key("kind", 20),
    sa.Column("html", Message(), nullable=False),
    sa.Column("data", Json(), nullable=False),
    _seconds("created_at", nullable=False),
    **_MYSQL,
)

#: What users want of experiments (``core.steering.Change``). A row never changes, apart from its last two columns,
#: which are written once; those of a change of the definition are written with its trial and more arguments.
changes = sa.Table(
    "axtx_changes",
    metadata,
    sa.Column("experiment", sa.String(NAME_LENGTH), sa.ForeignKey("axtx_experiments.name"), primary_key=True),
    # 0, 1, ... without gaps.
    sa.Column("position", sa.Integer(), primary_key=True, autoincrement=False),
    _key("request_id", REQUEST_ID_LENGTH),
    _key("action", 20),
    sa.Column("trial_index", sa.Integer()),
    sa.Column("arguments", Json(), nullable=False),
    sa.Column("reason", Message(), nullable=False),
    _key("requested_by"),
    _key("via", 20),
    _seconds("requested_at", nullable=False),
    _seconds("settled_at"),
    sa.Column("outcome", Message()),
    sa.UniqueConstraint("experiment", "request_id"),
    **_MYSQL,
)
