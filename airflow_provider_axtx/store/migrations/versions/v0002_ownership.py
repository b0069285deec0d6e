"""Who asked for what, where an app can be found again, and when it ran.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from airflow_provider_axtx.store.migrations.steps import add_column, create_index, create_table
from airflow_provider_axtx.store.tables import long_text

revision = "0002"
down_revision = "0001"

_MYSQL: dict[str, Any] = {"mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}


def upgrade() -> None:
    """Add the columns and the table; rows of before have no owner, options or times."""
    add_column("axtx_experiments", sa.Column("created_by", long_text()))
    add_column("axtx_experiments", sa.Column("app", long_text()))
    add_column("axtx_trials", sa.Column("requested_by", long_text()))
    add_column("axtx_runs", sa.Column("installation", sa.String(250), nullable=False, server_default=""))
    add_column("axtx_runs", sa.Column("lookup_options", long_text()))
    add_column("axtx_runs", sa.Column("host", sa.String(250)))
    add_column("axtx_runs", sa.Column("started_at", sa.Double()))
    add_column("axtx_runs", sa.Column("ended_at", sa.Double()))
    add_column("axtx_runs", sa.Column("poll_failures", sa.Integer(), nullable=False, server_default="0"))
    add_column("axtx_loops", sa.Column("definition", long_text()))
    create_index("ix_axtx_loops_loop_key", "axtx_loops", ["loop_key"])
    create_table(
        "axtx_dag_runs",
        sa.Column("dag_run", sa.String(100), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("clear_number", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("dag_run", name="pk_axtx_dag_runs"),
        **_MYSQL,
    )
