"""A real PostgreSQL cluster for tests: made in a temporary folder, reached by a Unix socket only, gone afterwards."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import psycopg

_PROGRAMS = Path("/usr/lib/postgresql")
_OPTIONS = "-c listen_addresses='' -c fsync=off -c full_page_writes=off -c max_connections=60 -c shared_buffers=16MB"


def postgres_programs() -> Path | None:
    """Return the folder of the newest installed PostgreSQL's programs (Debian's layout), None without one."""
    found = sorted(_PROGRAMS.glob("*/bin"), key=lambda folder: float(folder.parent.name))
    return found[-1] if found else None


@contextmanager
def postgres_cluster(programs: Path) -> Iterator[PostgresCluster]:
    """Run a cluster until the block ends."""
    folder = Path(tempfile.mkdtemp(prefix="fleetune-pg-"))
    user = _unprivileged()
    if user is not None:
        os.chown(folder, user.pw_uid, user.pw_gid)
    cluster = PostgresCluster(programs, folder, user)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


class PostgresCluster:
    def __init__(self, programs: Path, folder: Path, user: pwd.struct_passwd | None) -> None:
        self._programs = programs
        self._folder = folder
        self._user = user
        self._databases = 0

    def start(self) -> None:
        data = str(self._folder / "data")
        self._run("initdb", "-D", data, "-U", "fleetune", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        options = f"{_OPTIONS} -c unix_socket_directories='{self._folder}'"
        self._run("pg_ctl", "-D", data, "-l", str(self._folder / "log"), "-o", options, "-w", "-t", "60", "start")

    def stop(self) -> None:
        if (self._folder / "data" / "postmaster.pid").exists():
            self._run("pg_ctl", "-D", str(self._folder / "data"), "-m", "immediate", "-w", "stop")

    def new_database(self) -> str:
        """Return the URL of an empty database."""
        self._databases += 1
        name = f"test{self._databases}"
        with psycopg.connect(host=str(self._folder), user="fleetune", dbname="postgres", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return f"postgresql://fleetune@/{name}?host={quote(str(self._folder))}"

    def _run(self, program: str, *args: str) -> None:
        command = [str(self._programs / program), *args]
        if self._user is None:
            subprocess.run(command, check=True, cwd=self._folder, stdout=subprocess.DEVNULL)
            return
        # PostgreSQL refuses to run as root, so root hands over to the account Debian's package made.
        uid, gid = self._user.pw_uid, self._user.pw_gid
        subprocess.run(
            command, check=True, cwd=self._folder, user=uid, group=gid, extra_groups=[], stdout=subprocess.DEVNULL
        )


def _unprivileged() -> pwd.struct_passwd | None:
    return pwd.getpwnam("postgres") if os.geteuid() == 0 else None
