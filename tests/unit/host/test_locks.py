"""One holder at a time, and a dead one holds nothing."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from controlplane.domain.errors import Conflict
from controlplane.host.locks import alone

_HOLD = """
import sys
from pathlib import Path
from controlplane.host.locks import alone
with alone(Path(sys.argv[1]), what="x"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_holder_is_refused_and_told_what_to_do_until_the_first_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "up.lock"
    command = [sys.executable, "-c", _HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as first:
        assert first.stdout is not None
        first.stdout.readline()
        with (
            pytest.raises(Conflict, match=r"is up already.*locked.*fleetune down"),
            alone(path, what="the installation is up already", allowed="fleetune down"),
        ):
            pass
        first.send_signal(signal.SIGKILL)
    with alone(path, what="x"):
        assert path.stat().st_mode & 0o077 == 0
