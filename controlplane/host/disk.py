"""What the disk under a folder has."""

from __future__ import annotations

import shutil
from pathlib import Path

from controlplane.domain.operations.space import Space


def space_at(folder: Path) -> Space | None:
    """Return what is there for us; None where it cannot be told, which is not the same as nothing."""
    try:
        found = shutil.disk_usage(folder)
    except OSError:
        return None
    return Space(size=found.used + found.free, free=found.free)
