"""The gateway as it was in an earlier commit, to be measured beside the present one."""

from __future__ import annotations

import subprocess
from pathlib import Path


def unpacked(commit: str, folder: Path) -> Path:
    """Write the package of a commit into a folder of its own and return that. Raises SystemExit for none of ours."""
    target = folder / "before"
    target.mkdir()
    archive = subprocess.run(("git", "archive", commit, "controlplane"), check=False, capture_output=True)
    if archive.returncode:
        raise SystemExit(f"{commit} cannot be unpacked: {archive.stderr.decode().strip()}; allowed: a commit of ours")
    subprocess.run(("tar", "-x", "-C", str(target)), input=archive.stdout, check=True)
    return target
