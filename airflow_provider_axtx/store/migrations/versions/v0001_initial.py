"""The first schema: experiments, trials, runs, loops, observations, analyses.

Revision ID: 0001
Revises:
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

from airflow_provider_axtx.store.tables import SqliteExactFloat

revision = "0001"
down_revision = None

_MYSQL: dict[str, Any] = {"mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}


def _long_text() -> sa.types.TypeEngine[str]:
    return sa.Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")


def _exact() -> sa.types.TypeEngine[float]:
    return sa.Double().with_variant(SqliteExactFloat(), "sqlite")


def upgrade() -> None:
    """Create the tables."""
    _create_experiments()
    _create_trials()
    _create_runs()
    _create_loops()
    _create_observations()
    _create_analyses()


def _create_experiments() -> None:
    op.create_table(
        "axtx_experiments",
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("uid", sa.String(32), nullable=False),
        sa.Column("spec", _long_text(), nullable=False),
        sa.Column("generator_state", _long_text()),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("lease_owner", sa.String(250)),
        sa.Column("lease_expires_at", sa.Double()),
        sa.Column("ax_version", sa.String(50), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("stop_reason", sa.Text()),
        sa.Column("stopped_at", sa.Double()),
        sa.PrimaryKeyConstraint("name", name="pk_axtx_experiments"),
        sa.UniqueConstraint("uid", name="uq_axtx_experiments_uid"),
        **_MYSQL,
    )


def _create_trials() -> None:
    op.create_table(
        "axtx_trials",
        sa.Column("experiment", sa.String(100), nullable=False),
        sa.Column("trial_index", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("arm_name", sa.String(250), nullable=False),
        sa.Column("parameters", _long_text(), nullable=False),
        sa.Column("status", sa.String(20), nullable=False),
        sa.Column("generation_node", sa.String(250)),
        sa.Column("generation", _long_text(), nullable=False),
        sa.Column("origin", sa.String(20), nullable=False),
        sa.Column("request_key", sa.String(250)),
        sa.Column("dag_run", sa.String(100)),
        sa.Column("reason", sa.Text()),
        sa.Column("evidence", _long_text()),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.Column("completed_at", sa.Double()),
        sa.PrimaryKeyConstraint("experiment", "trial_index", name="pk_axtx_trials"),
        sa.UniqueConstraint("experiment", "request_key", name="uq_axtx_trials_experiment_request_key"),
        sa.ForeignKeyConstraint(["experiment"], ["axtx_experiments.name"], name="fk_axtx_trials_axtx_experiments"),
        **_MYSQL,
    )
    op.create_index(
        "ix_axtx_trials_experiment_status_updated_at", "axtx_trials", ["experiment", "status", "updated_at"]
    )
    op.create_index("ix_axtx_trials_status_dag_run", "axtx_trials", ["status", "dag_run"])


def _create_runs() -> None:
    op.create_table(
        "axtx_runs",
        sa.Column("experiment", sa.String(100), nullable=False),
        sa.Column("trial_index", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("attempt", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("submission_key", sa.String(100), nullable=False),
        sa.Column("claim", sa.String(32), nullable=False),
        sa.Column("scheduler", sa.String(250), nullable=False),
        sa.Column("tracker_base", sa.Text(), nullable=False),
        sa.Column("app_handle", sa.Text()),
        sa.Column("requested_at", sa.Double(), nullable=False),
        sa.Column("submitted_at", sa.Double()),
        sa.Column("finished_at", sa.Double()),
        sa.Column("cancel_requested_at", sa.Double()),
        sa.Column("cancel_reason", sa.Text()),
        sa.Column("app_state", sa.String(20)),
        sa.Column("message", sa.Text()),
        sa.Column("unseen_polls", sa.Integer(), nullable=False),
        sa.Column("infrastructure", sa.Boolean(), nullable=False),
        sa.Column("cpus", sa.Integer(), nullable=False),
        sa.Column("gpus", sa.Integer(), nullable=False),
        sa.Column("dag_id", sa.String(250), nullable=False),
        sa.Column("run_id", sa.String(250), nullable=False),
        sa.Column("task_id", sa.String(250), nullable=False),
        sa.Column("map_index", sa.Integer(), nullable=False),
        sa.Column("try_number", sa.Integer(), nullable=False),
        sa.Column("max_tries", sa.Integer(), nullable=False),
        sa.Column("torchx_conn_id", sa.String(250), nullable=False),
        sa.PrimaryKeyConstraint("experiment", "trial_index", "attempt", name="pk_axtx_runs"),
        sa.UniqueConstraint("submission_key", name="uq_axtx_runs_submission_key"),
        sa.ForeignKeyConstraint(
            ["experiment", "trial_index"],
            ["axtx_trials.experiment", "axtx_trials.trial_index"],
            name="fk_axtx_runs_axtx_trials",
        ),
        **_MYSQL,
    )
    op.create_index("ix_axtx_runs_finished_at", "axtx_runs", ["finished_at"])
    op.create_index("ix_axtx_runs_dag_id_run_id", "axtx_runs", ["dag_id", "run_id"])


def _create_loops() -> None:
    op.create_table(
        "axtx_loops",
        sa.Column("experiment", sa.String(100), nullable=False),
        sa.Column("loop_key", sa.String(250), nullable=False),
        sa.Column("max_tries", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("stop_reason", sa.Text()),
        sa.PrimaryKeyConstraint("experiment", "loop_key", name="pk_axtx_loops"),
        **_MYSQL,
    )


def _create_observations() -> None:
    op.create_table(
        "axtx_observations",
        sa.Column("experiment", sa.String(100), nullable=False),
        sa.Column("trial_index", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("metric", sa.String(250), nullable=False),
        sa.Column("mean", _exact(), nullable=False),
        sa.Column("sem", _exact()),
        sa.Column("step", _exact()),
        sa.PrimaryKeyConstraint("experiment", "trial_index", "position", name="pk_axtx_observations"),
        sa.UniqueConstraint(
            "experiment",
            "trial_index",
            "metric",
            "step",
            name="uq_axtx_observations_experiment_trial_index_metric_step",
        ),
        sa.ForeignKeyConstraint(
            ["experiment", "trial_index"],
            ["axtx_trials.experiment", "axtx_trials.trial_index"],
            name="fk_axtx_observations_axtx_trials",
        ),
        **_MYSQL,
    )


def _create_analyses() -> None:
    op.create_table(
        "axtx_analyses",
        sa.Column("experiment", sa.String(100), nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("name", sa.String(250), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("subtitle", sa.Text(), nullable=False),
        sa.Column("section", _long_text(), nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("html", _long_text(), nullable=False),
        sa.Column("data", _long_text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("experiment", "position", name="pk_axtx_analyses"),
        sa.ForeignKeyConstraint(["experiment"], ["axtx_experiments.name"], name="fk_axtx_analyses_axtx_experiments"),
        **_MYSQL,
    )
