"""Is an installation up, and who runs it."""

from __future__ import annotations

import json
from pathlib import Path

from controlplane.domain.process import ProcessId
from controlplane.host.passes import PROCESSES
from controlplane.host.processes import is_alive


def supervisor_pid(data_dir: Path) -> int | None:
    """Return the process that runs the installation, None when none does."""
    path = data_dir / PROCESSES
    if not path.exists():
        return None
    try:
        supervisor = ProcessId.model_validate(json.loads(path.read_text())["supervisor"])
    except (ValueError, KeyError):  # of an earlier version, or damaged: nothing of this one runs
        return None
    return supervisor.pid if is_alive(supervisor) else None
