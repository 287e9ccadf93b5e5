"""Which schema this version of Fleetune reads and writes."""

from __future__ import annotations

from typing import Final

NEWEST: Final = "0007"  # the last of migrations/versions

VERSION_TABLE: Final = "fleetune_schema"
"""Our tables carry our name because Optuna keeps its own `studies`, `trials` and `alembic_version` beside them."""
