"""An installation on the GPUs of this host, on ports of its own: several may run beside each other."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from controlplane.host.ports import free_port

GPUS = 2


def install(file: Path, data_dir: Path, *more: str) -> tuple[subprocess.Popen[bytes], dict[str, int]]:
    """Start `fleetune up` of one service, without dashboard and workers; return it and its ports by name."""
    ports = {name: free_port() for name in ("api", "gateway", "gateway-admin")}
    command = [sys.executable, "-m", "controlplane.cli.main", "up", "-f", str(file), "--no-dashboard", "--workers=0"]
    command += [f"--gpus={GPUS}", "--data-dir", str(data_dir), *more]
    return subprocess.Popen([*command, *(f"--{name}-port={port}" for name, port in ports.items())]), ports


def parser(description: str | None, service: Path) -> argparse.ArgumentParser:
    """Return the options of every program that drives an installation here; `service` is the file without --file."""
    found = argparse.ArgumentParser(description=description)
    found.add_argument("--data-dir", type=Path, required=True)
    found.add_argument("--json", type=Path, required=True)
    found.add_argument("--file", type=Path, default=service)
    return found
