"""A/B tests: one that is not over per service, as with rollouts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_UNFINISHED = sa.text("state NOT IN ('concluded', 'stopped')")


def upgrade() -> None:
    op.create_table(
        "fleetune_ab_tests",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("test_id", sa.Text(), nullable=False, unique=True),
        sa.Column("service", sa.Text(), nullable=False, index=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
    )
    op.create_index(
        "one_ab_test_per_service",
        "fleetune_ab_tests",
        ["service"],
        unique=True,
        sqlite_where=_UNFINISHED,
        postgresql_where=_UNFINISHED,
    )


def downgrade() -> None:
    op.drop_table("fleetune_ab_tests")
