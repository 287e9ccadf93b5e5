"""A Redis of the tests' own, where the machine has one."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass
class OwnRedis:
    """One running redis-server, behind a socket of the file system: no port that another test could take.

    Such a path has at most 107 bytes: pytest's folders may be too long.
    """

    url: str
    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def own_redis(folder: Path) -> Iterator[OwnRedis]:
    """Run one that keeps nothing on disk; skips the test on machines without redis-server."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("no redis-server on this machine")
    path = folder / "r.sock"
    options = ["--port", "0", "--unixsocket", str(path), "--save", "", "--appendonly", "no", "--dir", str(folder)]
    process = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL)
    try:
        _until_it_listens(path, process)
        yield OwnRedis(f"unix://{path}", process)
    finally:
        process.kill()
        process.wait()


def _until_it_listens(path: Path, process: subprocess.Popen[bytes]) -> None:
    for _ in range(3000):
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(path)) == 0:
                return
        assert process.poll() is None, "redis-server ended"
        time.sleep(0.02)
    raise AssertionError("redis-server does not listen")
