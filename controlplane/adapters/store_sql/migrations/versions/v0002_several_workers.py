"""Several workers hold one study: claims get a table of their own. Claims of before are lost, as after a crash."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "fleetune_study_claims",
        sa.Column("study_id", sa.Text(), primary_key=True),
        sa.Column("worker", sa.Text(), primary_key=True),
        sa.Column("heartbeat_at", sa.Double(), nullable=False),
    )
    op.drop_column("fleetune_studies", "worker")
    op.drop_column("fleetune_studies", "heartbeat_at")


def downgrade() -> None:
    op.add_column("fleetune_studies", sa.Column("worker", sa.Text()))
    op.add_column("fleetune_studies", sa.Column("heartbeat_at", sa.Double()))
    op.drop_table("fleetune_study_claims")
