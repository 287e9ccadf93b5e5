"""Who dies soon after each start is known by it: its last sign of life is not taken for work."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from controlplane.cli.installation.supervisor import Program, Supervisor
from controlplane.host.clock import since_boot_s
from controlplane.host.passes import DYING, PROCESSES, Passes, passed_s_ago

DIES, LIVES = "raise SystemExit(1)", "import time; time.sleep(60)"


def one(folder: Path, does: str, *, stable_after_s: float = 30.0) -> Supervisor:
    program = Program("controller", [sys.executable, "-S", "-c", does], env={})
    return Supervisor([program], folder, say=lambda _: None, stable_after_s=stable_after_s)


def until(there: Callable[[], bool], watched: Supervisor) -> None:
    for _ in range(1000):
        watched.check()
        if there():
            return
        time.sleep(0.02)
    raise AssertionError("it never came to that")


def restarts(folder: Path) -> int:
    count: int = json.loads((folder / PROCESSES).read_text())["controller"]["restarts"]
    return count


def test_a_controller_that_dies_at_each_start_finishes_no_pass_whatever_it_noted(tmp_path: Path) -> None:
    watched = one(tmp_path, DIES)
    watched.start()
    until(lambda: restarts(tmp_path) >= 2, watched)
    later_s = since_boot_s() + 100
    Passes(tmp_path, since_boot=lambda: later_s - 1).done()
    dying_s = passed_s_ago(tmp_path, since_boot=lambda: later_s)
    watched.stop()
    assert dying_s is not None
    assert dying_s > 100
    assert passed_s_ago(tmp_path, since_boot=lambda: later_s) == pytest.approx(1, abs=0.1)


def test_one_that_outlives_its_start_is_held_to_its_passes_again(tmp_path: Path) -> None:
    watched = one(
        tmp_path, f"import pathlib\nif pathlib.Path({str(tmp_path / 'well')!r}).exists(): {LIVES}\n", stable_after_s=0.3
    )
    watched.start()
    until(lambda: DYING in json.loads((tmp_path / PROCESSES).read_text())["controller"], watched)
    (tmp_path / "well").touch()
    until(lambda: DYING not in json.loads((tmp_path / PROCESSES).read_text())["controller"], watched)
    watched.stop()
    assert not (tmp_path / PROCESSES).exists()
