"""Alembic's folder: the history of the store's schema, shipped inside the package."""
