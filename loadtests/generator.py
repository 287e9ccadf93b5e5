"""A generator process on a host of its own: `python -m loadtests.generator MASTER_HOST PORT`.

It becomes a worker of Locust that is told what to send, sends home what it saw, and ends a minute after its master.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from loadtests.send.runner import LOCUSTFILE


def command(host: str, port: str) -> list[str]:
    """Return what runs a worker of the master at a host and port."""
    program = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--worker", "--loglevel", "WARNING"]
    return [*program, "--master-host", host, "--master-port", port]


def main(words: Sequence[str]) -> None:
    """Raises SystemExit when it is not told where its master is."""
    if len(words) != 2:
        raise SystemExit("error: python -m loadtests.generator MASTER_HOST PORT")
    given = command(*words)
    os.execv(given[0], given)


if __name__ == "__main__":
    main(sys.argv[1:])
