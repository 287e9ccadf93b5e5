"""The Store port on SQLite (WAL) and PostgreSQL: SQLAlchemy for the queries, Alembic for the schema's history."""

from controlplane.adapters.store_sql.store import SqlStore, open_store

__all__ = ["SqlStore", "open_store"]
