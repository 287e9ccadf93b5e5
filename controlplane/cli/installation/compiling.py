"""The twin is compiled for this processor once: before anybody waits for an engine, and said, for it takes a while."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading

from tuner.twin.precompile import is_compiled

COMPILING = "compiling the twin for this processor, once: about a minute"
_COMMAND = (sys.executable, "-m", "controlplane.cli.main", "twin", "compile")
_LOOK_S = 0.5

log = logging.getLogger(__name__)


def compile_twin() -> None:
    """Compile the twin when it is not yet, in a process of its own, which says so: its memory is given back."""
    if is_compiled():
        return
    # When it fails, whoever needs the twin first fails with the reason.
    subprocess.run(_COMMAND, check=False)


def compile_unless_stopped(stop: threading.Event) -> None:
    """As `compile_twin`, said in the log; given up once `stop` is set."""
    if is_compiled():
        return
    log.info(COMPILING)
    with subprocess.Popen(_COMMAND, stdout=subprocess.DEVNULL) as compiling:
        while compiling.poll() is None and not stop.wait(_LOOK_S):
            pass
        compiling.terminate()
