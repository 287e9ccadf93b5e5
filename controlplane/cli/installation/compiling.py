"""The twin is compiled for this processor once: before anybody waits for an engine, and said, for it takes a while."""

from __future__ import annotations

import subprocess
import sys

from tuner.twin.precompile import is_compiled

COMPILING = "compiling the twin for this processor, once: about a minute"


def compile_twin() -> None:
    """Compile the twin when it is not yet, in a process of its own, which says so: its memory is given back."""
    if is_compiled():
        return
    # When it fails, whoever needs the twin first fails with the reason.
    subprocess.run([sys.executable, "-m", "controlplane.cli.main", "twin", "compile"], check=False)
