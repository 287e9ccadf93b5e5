"""What the command line and the long-running processes cost before they do anything.

    python -m benchmarks.command_line --json docs/results/command-line.json

CPU seconds (user and system, of the process and what it waits for) of commands that only ask or print, the smallest of
several runs: what else runs on the machine adds, nothing subtracts. Asked on the data folder of an installation
that is up, as people do, and of one that is down. Resident memory of the api and the controller of
an installation without services, some seconds after they answer.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil

from controlplane.host.ports import free_port
from controlplane.host.processes import this_process
from controlplane.settings import Settings, save

FLEETUNE = [sys.executable, "-m", "controlplane.cli.main"]
TARGET_CPU_S = 0.4
TARGET_MIB = 150.0
SETTLE_S = 5.0
START_S = 120.0
ASKING = (
    ("--help",),
    ("study", "--help"),
    ("study", "list"),
    ("service", "list"),
    ("rollout", "list"),
    ("event", "list"),
    ("schedule", "list"),
    ("fleet", "list"),
    ("status",),
)
WITHOUT_A_SERVER = (("study", "list"), ("service", "list"), ("rollout", "list"), ("event", "list"), ("fleet", "list"))


def cpu_s(command: Sequence[str]) -> float:
    """Run a command to its end and return its CPU seconds. Raises RuntimeError when it fails."""
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, stdin=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            raise RuntimeError(f"{' '.join(command)}: {said.read().decode()}")
    return usage.ru_utime + usage.ru_stime


@contextmanager
def running(name: str, data_dir: Path) -> Iterator[psutil.Process]:
    """Keep one of the supervised processes running on `data_dir`."""
    process = subprocess.Popen([*FLEETUNE, "process", name, f"--data-dir={data_dir}"])
    try:
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


def measure(repeats: int) -> dict[str, object]:
    """Return CPU seconds per command and MiB per process."""
    with tempfile.TemporaryDirectory(prefix="fleetune-") as folder:
        data_dir, url = _installation(Path(folder))
        with running("api", data_dir) as api:
            _await(url)
            with running("controller", data_dir) as controller:
                time.sleep(SETTLE_S)
                memory = {name: _mib(each) for name, each in (("api", api), ("controller", controller))}
            commands: dict[str, float] = {}
            for asked in ASKING:
                at = [] if asked[-1] == "--help" else ["--data-dir", str(data_dir)]
                commands[" ".join(asked)] = min(cpu_s([*FLEETUNE, *asked, *at]) for _ in range(repeats))
        (data_dir / "processes.json").unlink()
        alone = {
            " ".join(asked): min(cpu_s([*FLEETUNE, *asked, "--data-dir", str(data_dir)]) for _ in range(repeats))
            for asked in WITHOUT_A_SERVER
        }
    return {"cpu_s": commands, "cpu_s_without_a_server": alone, "resident_mib": memory}


def _installation(folder: Path) -> tuple[Path, str]:
    port = free_port()
    settings = Settings(data_dir=folder, api_port=port)
    save(settings)
    settings.operator_key_file.write_text("measured")
    # As `fleetune up` says that it runs: the command line then asks its api and reads no store itself.
    (folder / "processes.json").write_text(json.dumps({"supervisor": this_process().model_dump()}))
    return folder, settings.api_url


def _await(url: str) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        try:
            httpx.get(f"{url}/api/v1/services", trust_env=False).raise_for_status()
        except httpx.TransportError:
            time.sleep(0.2)
        else:
            return
    raise RuntimeError(f"the api did not answer within {START_S:g} s")


def _mib(process: psutil.Process) -> float:
    return float(process.memory_info().rss) / 2**20


def main() -> None:
    """Measure, print, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = measure(options.repeats) | {"python": platform.python_version(), "repeats": options.repeats}
    text = json.dumps(found, indent=1)
    print(text)
    print(f"targets: {TARGET_CPU_S:g} s of CPU for what asks a server, {TARGET_MIB:g} MiB per process")
    if options.json is not None:
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
