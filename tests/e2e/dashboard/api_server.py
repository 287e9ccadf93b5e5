"""A real API server on a seeded store: `python -m tests.e2e.dashboard.api_server full|empty PORT`; prints the port."""

from __future__ import annotations

import socket
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime

import uvicorn

from controlplane.adapters.store_sql.store import open_store
from controlplane.api.app import create_app
from controlplane.domain.engines.fleet import Engine
from tests.e2e.dashboard import seed
from tests.e2e.dashboard.seed_traffic import SeededTraffic


class StillFleet:
    """A fleet to look at in which nothing moves."""

    def __init__(self, engines: Sequence[Engine], free: int) -> None:
        self._engines = engines
        self._free = free

    def list(self) -> Sequence[Engine]:
        return self._engines

    def free_gpus(self, *, spot: bool | None = None) -> int:
        return self._free


def clock() -> datetime:
    return datetime.now(UTC)


def serve(state: str, port: int, folder: str) -> None:
    """Serve until killed."""
    full = state == "full"
    store = open_store(f"sqlite:///{folder}/store.db")
    traffic = seed.fill(store, clock()) if full else {}
    chat = traffic.get(seed.CHAT)
    engines = seed.engines(clock(), chat.stable, chat.canary) if chat and chat.canary else []
    app = create_app(
        store=store,
        records=SeededTraffic(traffic, clock),
        fleet_view=StillFleet(engines, 1 if full else 8),
        clock=clock,
        open_without_keys=True,
        gpus=tuple(range(8)),
    )
    listener = socket.create_server(("127.0.0.1", port))
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    server.run(sockets=[listener])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        serve(sys.argv[1], int(sys.argv[2]), scratch)
