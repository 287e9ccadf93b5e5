"""The twin is compiled for this processor once: before anybody waits for an engine, and said, for it takes a while."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

from tuner.twin.precompile import is_compiled

COMPILING = "compiling the twin for this processor, once: about a minute"


def compile_twin(say: Callable[[str], None]) -> None:
    """Compile the twin when it is not yet, in a process of its own: what compiling takes of memory is given back."""
    if is_compiled():
        return
    say(COMPILING)
    # When it fails, whoever needs the twin first fails with the reason.
    subprocess.run([sys.executable, "-m", "controlplane.cli.main", "twin", "compile"], check=False)
