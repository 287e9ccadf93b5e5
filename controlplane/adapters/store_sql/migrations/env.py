"""Run by Alembic: use the connection it was given, inside the caller's transaction."""

from alembic import context

from controlplane.adapters.store_sql.tables import METADATA
from controlplane.adapters.store_sql.version import VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    version_table=VERSION_TABLE,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
