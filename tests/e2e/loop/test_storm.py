"""A study on real processes in a storm: a part of the space bursts, engines die, no two are equally fast."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import yaml

from controlplane.adapters.fleet_processes.host import MARK
from tests.e2e.loop import stormy_engine
from tests.e2e.loop.installation import SERVICE


def test_a_study_ends_right_though_engines_burst_die_and_differ(tmp_path: Path) -> None:
    found = _tune(tmp_path)
    study, trials = found["study"], found["trials"]
    assert study["state"] == "done", study["reason"]
    assert study["recommendation"]["improvement"], study["recommendation"]["summary"]
    assert study["recommendation"]["config"]["flags"]["max-num-seqs"] == 8

    burst = [trial for trial in trials if trial["start_failure"] == "out_of_memory"]
    assert [(t["state"], t["attempt"], t["config"]["flags"]["max-num-seqs"]) for t in burst] == [("infeasible", 1, 32)]
    died = [trial for trial in trials if trial["attempt"] > 1]
    assert died
    assert all(trial["state"] == "feasible" for trial in died)
    assert sorted(trial["number"] for trial in trials) == list(range(len(trials)))
    assert not _engines(tmp_path)


def _tune(folder: Path) -> dict[str, Any]:
    """Run `fleetune tune` on such engines and return what it wrote."""
    storm = folder / "storm"
    storm.mkdir()
    (folder / "service.yaml").write_text(yaml.safe_dump(_service(storm)))
    command = [sys.executable, "-m", "controlplane.cli.main", "tune", "-f", str(folder / "service.yaml")]
    command += ["--data-dir", str(folder / "data"), "--json", str(folder / "study.json")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    found: dict[str, Any] = json.loads((folder / "study.json").read_text())
    return found


def _service(storm: Path) -> dict[str, Any]:
    command = [sys.executable, stormy_engine.__file__, "{model}", "--host", "{host}", "--port", "{port}"]
    emulator = {"startup_s": 0.1, "time_lapse": 4, "max_lag_ms": 1000}
    engine = SERVICE["engine"] | {"command": [*command, "{args}"], "env": {"STORM": str(storm)}, "emulator": emulator}
    tuning = {
        "space": {"max-num-seqs": {"choices": [2, 8, int(stormy_engine.BURSTS.partition("=")[2])]}},
        "budget": {"engine_starts": 6},
        "levels": {"min_s": 4, "max_s": 8, "warmup_s": 0, "precision": 0.8},
        "confirm_fleet": False,
    }
    return SERVICE | {"engine": engine, "tuning": tuning}


def _engines(folder: Path) -> list[int]:
    return [p.pid for p in psutil.process_iter() if str(folder) in _mark(p) and p.status() != psutil.STATUS_ZOMBIE]


def _mark(process: psutil.Process) -> str:
    try:
        return process.environ().get(MARK, "")
    except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
        return ""
