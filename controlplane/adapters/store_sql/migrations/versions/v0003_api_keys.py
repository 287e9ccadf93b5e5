"""API keys get rows of their own. Those of before could do everything and still can: rotate them into narrower ones."""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_ALL = ["infer", "read", "operate", "admin"]

_SETTINGS = sa.table("fleetune_settings", sa.column("name"), sa.column("value"))
_KEYS = sa.table("fleetune_api_keys", sa.column("seq"), sa.column("name"), sa.column("version"), sa.column("document"))


def upgrade() -> None:
    op.create_table(
        "fleetune_api_keys",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("name", sa.Text(), nullable=False, unique=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
    )
    connection = op.get_bind()
    kept = connection.execute(sa.select(_SETTINGS.c.value).where(_SETTINGS.c.name == "api_keys")).scalar_one_or_none()
    for key in json.loads(kept or "[]"):
        document = json.dumps({"key": {**key, "scopes": _ALL}})
        connection.execute(_KEYS.insert().values(name=key["name"], version=1, document=document))
    connection.execute(_SETTINGS.delete().where(_SETTINGS.c.name == "api_keys"))


def downgrade() -> None:
    connection = op.get_bind()
    rows = connection.execute(sa.select(_KEYS.c.document).order_by(_KEYS.c.seq)).scalars().all()
    kept = [document["key"] for row in rows if not (document := json.loads(row)).get("revoked_at")]
    if kept:
        value = json.dumps([{"name": key["name"], "sha256": key["sha256"]} for key in kept])
        connection.execute(_SETTINGS.insert().values(name="api_keys", value=value))
    op.drop_table("fleetune_api_keys")
