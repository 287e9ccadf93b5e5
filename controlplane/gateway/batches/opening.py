"""Putting batches to work in a gateway process, where it offers them."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp
from aiohttp import web

from controlplane.domain.door.gateway_files import batches_dir
from controlplane.gateway.background import in_background
from controlplane.gateway.batches.contents import Contents
from controlplane.gateway.batches.inside import Inside
from controlplane.gateway.batches.ledger import Ledger
from controlplane.gateway.batches.port import BatchPort
from controlplane.gateway.batches.queue import BatchQueue, FolderQueue
from controlplane.gateway.batches.runner import Runner
from controlplane.gateway.batches.shelf import Shelf
from controlplane.gateway.settings import GatewaySettings
from controlplane.gateway.wire import DiscreetRunner
from controlplane.host.files import write_first

_DAY_S = 24 * 3600


def batch_port(
    settings: GatewaySettings, wall_clock: Callable[[], datetime], stack: AsyncExitStack
) -> BatchPort | None:
    """Return the door of files and batches; None where there are none. Raises InvalidInput."""
    if settings.batch_days is None:
        return None
    root = batches_dir(settings.data_dir)
    shelf = Shelf(root, _contents(settings, root))
    ledger = Ledger(shelf, settings.batch_quota, wall_clock)
    return BatchPort(shelf, ledger, _queue(settings, shelf, stack), settings.batch_file_bytes, wall_clock)


def _queue(settings: GatewaySettings, shelf: Shelf, stack: AsyncExitStack) -> BatchQueue:
    if settings.batch_rabbitmq_url is None:
        return FolderQueue(shelf)
    from controlplane.gateway.batches.queue_rabbitmq import open_rabbitmq

    queue = open_rabbitmq(shelf, settings.batch_rabbitmq_url.get_secret_value())
    stack.push_async_callback(queue.close)
    return queue


def _contents(settings: GatewaySettings, root: Path) -> Contents | None:
    """Return where contents are kept, None for the disk.

    In a bucket each data folder has a place of its own: what it does not know there is thrown away.
    """
    if settings.batch_s3 is None:
        return None
    from controlplane.gateway.batches.contents_s3 import open_s3

    write_first(root / "id", secrets.token_hex(12).encode())
    bucket, _, prefix = settings.batch_s3.partition("/")
    return open_s3(bucket, "/".join(filter(None, [prefix.strip("/"), (root / "id").read_text()])))


async def open_inside(app: web.Application, stack: AsyncExitStack) -> aiohttp.ClientSession:
    """Serve the data port on a socket of this process alone, and return a client of it."""
    folder = stack.enter_context(TemporaryDirectory(prefix="fleetune-"))
    path = str(Path(folder) / "inside.sock")
    runner = DiscreetRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1, auto_decompress=False)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.UnixSite(runner, path).start()
    connector, never = aiohttp.UnixConnector(path, limit=0), aiohttp.ClientTimeout(total=None)
    return await stack.enter_async_context(aiohttp.ClientSession(connector=connector, timeout=never))


async def run_batches(
    settings: GatewaySettings, port: BatchPort, session: aiohttp.ClientSession, inside: Inside, stack: AsyncExitStack
) -> None:
    """Run batches until the stack is left: then lines under way are given up, and made again by who comes next."""
    lines = Runner(
        shelf=port.shelf,
        send=partial(inside.send, session),
        may=inside.may_ask,
        has_room=port.ledger.has_room,
        wall_clock=port.wall_clock,
        queue=port.queue,
        troubles=port.troubles,
        at_once=settings.batch_at_once,
        retention_s=(settings.batch_days or 0) * _DAY_S,
    )
    await in_background(lines.run, stack)
