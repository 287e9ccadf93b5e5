"""One controller acts on a data folder: another one waits, and touches nothing."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

from controlplane import settings as installation
from controlplane.host.locks import alone
from controlplane.settings import Settings


def test_a_controller_waits_while_another_one_acts_on_its_folder(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    installation.save(settings)
    command = [sys.executable, "-m", "controlplane.cli.main", "process", "controller", f"--data-dir={tmp_path}"]
    with alone(tmp_path / "controller.lock", what="the first"):
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        patience = threading.Timer(120, process.kill)  # only for one that does not wait, and has nothing to say
        patience.start()
        said = any("another controller acts on this folder" in line for line in process.stderr)
        patience.cancel()
        process.terminate()
        process.communicate()
    assert said
    assert not settings.engines_dir.exists()
    assert not (tmp_path / installation.DATABASE).exists()
