"""A parent that is killed leaves no generator behind."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.integration.loadtests import faulty

PARENT = """
import sys
from pathlib import Path
from loadtests.send.runner import Generator
from loadtests.loadtest import run_load_test
from tests.integration.loadtests.test_faults import test_of
processes, url, out = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
with Generator(processes=processes) as generator:
    say = lambda progress: print(progress.sent, flush=True)
    run_load_test(test_of(url, duration_s=600.0, processes=processes), generator, out_dir=out, watch=say)
"""


@pytest.mark.parametrize("processes", [1, 2])
def test_killed_parent_takes_its_generator_along(tmp_path: Path, processes: int) -> None:
    with faulty.faulty_server(faulty.good) as url:
        command = [sys.executable, "-c", PARENT, str(processes), url, str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
            assert parent.stdout is not None
            assert parent.stdout.readline()
            children = psutil.Process(parent.pid).children(recursive=True)
            parent.send_signal(signal.SIGKILL)
        _, alive = psutil.wait_procs(children, timeout=240)
    for process in alive:
        process.kill()
    assert children
    assert not alive
