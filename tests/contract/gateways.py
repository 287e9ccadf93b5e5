"""A real gateway on a thread of its own, for routers under test that block."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from controlplane.domain.door.routing import GatewayAddress
from controlplane.gateway.process import open_gateway
from controlplane.gateway.settings import GatewaySettings


@contextmanager
def gateway(data_dir: Path, name: str, **more: object) -> Iterator[GatewayAddress]:
    """Run a gateway on a thread of its own: the router under test blocks."""
    settings = GatewaySettings.model_validate(
        {"data_dir": data_dir, "name": name, "port": 0, "admin_port": 0, "admin_token": "adm1n", "drain_s": 1} | more
    )
    opened: list[tuple[GatewayAddress, Callable[[], object]]] = []
    is_open = threading.Event()

    async def serve() -> None:
        async with open_gateway(settings) as running:
            loop = asyncio.get_running_loop()
            opened.append((running.address, lambda: loop.call_soon_threadsafe(running.drain.request)))
            is_open.set()
            await running.drain.requested.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert is_open.wait(240)
    address, close = opened[0]
    yield address
    close()
    thread.join(240)
    assert not thread.is_alive()
