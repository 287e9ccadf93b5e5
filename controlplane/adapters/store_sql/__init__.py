"""The Store port on SQLite (WAL) and PostgreSQL: SQLAlchemy for the queries, Alembic for the schema's history.

Here: `store.py` is the port, `glance.py` what commands read of SQLite without SQLAlchemy. Nothing is imported here.
"""
