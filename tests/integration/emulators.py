"""Real emulator processes for tests: started on a free port, stopped for sure."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

MODEL = "test-model"
_QUICK = ("llama-8b", f"--served-model-name={MODEL}", "--max-model-len=8192", "--emulator-startup-s=0", "--port=0")


class Emulator(NamedTuple):
    """A running emulator: where it answers, where its faults are changed, and its process."""

    url: str
    admin_url: str
    process: subprocess.Popen[str]


@contextmanager
def emulator(*flags: str) -> Iterator[Emulator]:
    """Run an emulator that starts at once; kills it at the end if the test has not."""
    with launch(*_QUICK, "--emulator-admin-port=0", *flags) as process:
        assert process.stderr is not None
        log = ""
        for line in process.stderr:
            log += line
            if "running on" in line:
                break
        found = dict(re.findall(r"(admin|running) on (http://\S+)", log))
        assert "running" in found, log
        yield Emulator(found["running"], found["admin"], process)


@contextmanager
def launch(*words: str, devices: str | None = None) -> Iterator[subprocess.Popen[str]]:
    """Run `fleetune-emulator` with these words on the devices CUDA_VISIBLE_DEVICES is to name."""
    env = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    if devices is not None:
        env["CUDA_VISIBLE_DEVICES"] = devices
    command = [sys.executable, "-m", "controlplane.emulator.main", *words]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=env)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()
