"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_SEARCHED = {
    "fleetune_studies": ("service", "state", "to_apply"),
    "fleetune_trials": ("study_id",),
    "fleetune_revisions": ("service",),
    "fleetune_rollouts": ("service",),
    "fleetune_events": ("service", "subject"),
    "fleetune_load_reports": ("service",),
}


def upgrade() -> None:
    op.create_table("fleetune_services", _seq(), _text("name", unique=True), *_document())
    op.create_table(
        "fleetune_studies",
        _seq(),
        _text("study_id", unique=True),
        _text("service"),
        _text("state"),
        sa.Column("to_apply", sa.Boolean(), nullable=False),
        sa.Column("worker", sa.Text()),
        sa.Column("heartbeat_at", sa.Double()),
        *_document(),
    )
    op.create_table("fleetune_trials", _seq(), _text("trial_id", unique=True), _text("study_id"), *_document())
    op.create_table(
        "fleetune_revisions", _seq(), _text("revision_id", unique=True), _text("service"), _text("document")
    )
    op.create_table(
        "fleetune_rollouts", _seq(), _text("rollout_id", unique=True), _text("service"), _text("state"), *_document()
    )
    op.create_table(
        "fleetune_schedules",
        _seq(),
        _text("service"),
        _text("name"),
        *_document(),
        sa.UniqueConstraint("service", "name"),
    )
    op.create_table("fleetune_events", _seq(), sa.Column("service", sa.Text()), _text("subject"), _text("document"))
    op.create_table(
        "fleetune_load_reports",
        _seq(),
        _text("report_id", unique=True),
        sa.Column("service", sa.Text()),
        sa.Column("at", sa.Double(), nullable=False),
        _text("document"),
    )
    op.create_table(
        "fleetune_counters",
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("value", sa.BigInteger(), nullable=False),
    )
    op.create_table("fleetune_settings", sa.Column("name", sa.Text(), primary_key=True), _text("value"))
    _indexes()


def downgrade() -> None:
    tables = (
        "fleetune_settings",
        "fleetune_counters",
        "fleetune_load_reports",
        "fleetune_events",
        "fleetune_schedules",
        "fleetune_rollouts",
        "fleetune_revisions",
        "fleetune_trials",
        "fleetune_studies",
    )
    for table in (*tables, "fleetune_services"):
        op.drop_table(table)


def _indexes() -> None:
    for table, columns in _SEARCHED.items():
        for column in columns:
            op.create_index(f"ix_{table}_{column}", table, [column])
    unfinished = sa.text("state NOT IN ('aborted', 'promoted')")
    op.create_index(
        "one_rollout_per_service",
        "fleetune_rollouts",
        ["service"],
        unique=True,
        sqlite_where=unfinished,
        postgresql_where=unfinished,
    )


def _seq() -> sa.Column[int]:
    return sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=True)


def _text(name: str, *, unique: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=False, unique=unique)


def _document() -> tuple[sa.Column[int], sa.Column[str]]:
    return sa.Column("version", sa.Integer(), nullable=False), _text("document")
