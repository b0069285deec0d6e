"""What users want of experiments: pause, stop, limits, queued trials, notes.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from airflow_provider_axtx.store.migrations.steps import create_table
from airflow_provider_axtx.store.tables import long_text

revision = "0003"
down_revision = "0002"

_MYSQL: dict[str, Any] = {"mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}


def upgrade() -> None:
    """Add the table of changes."""
    create_table(
        "axtx_changes",
        sa.Column("experiment", sa.String(100), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("request_id", sa.String(100), nullable=False),
        sa.Column("action", sa.String(20), nullable=False),
        sa.Column("trial_index", sa.Integer()),
        sa.Column("arguments", long_text(), nullable=False),
        sa.Column("reason", long_text(), nullable=False),
        sa.Column("requested_by", sa.String(250), nullable=False),
        sa.Column("via", sa.String(20), nullable=False),
        sa.Column("requested_at", sa.Double(), nullable=False),
        sa.Column("settled_at", sa.Double()),
        sa.Column("outcome", long_text()),
        sa.PrimaryKeyConstraint("experiment", "position", name="pk_axtx_changes"),
        sa.UniqueConstraint("experiment", "request_id", name="uq_axtx_changes_experiment_request_id"),
        sa.ForeignKeyConstraint(["experiment"], ["axtx_experiments.name"], name="fk_axtx_changes_axtx_experiments"),
        **_MYSQL,
    )
