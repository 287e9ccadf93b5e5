"""An emulated engine answering HTTP inside the test's own process: no child to start, fifty times as fast as life."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from controlplane.emulator.assembly import assemble
from controlplane.emulator.boot import engine_setup
from controlplane.emulator.flags import parse_command_line
from controlplane.emulator.main import switches

Client = TestClient[web.Request, web.Application]
MODEL = "test-model"


@asynccontextmanager
async def served(*flags: str, **environment: str) -> AsyncIterator[Client]:
    """Answer like `fleetune-emulator llama-8b FLAGS` with these variables set."""
    words = ["llama-8b", f"--served-model-name={MODEL}", "--max-model-len=8192", "--emulator-time-lapse=50", *flags]
    settings = parse_command_line(words, visible_devices=None).evolve(**switches(environment))
    shape, setup = engine_setup(settings)
    server = assemble(
        settings,
        setup,
        vocabulary_size=shape.vocab_size,
        version=lambda: {"version": "0.26.0"},
        on_request=lambda _: None,
        log=lambda _: None,
    )
    engine = asyncio.create_task(server.conversation.engine.run())
    try:
        async with TestClient(TestServer(server.app)) as client:
            yield client
    finally:
        engine.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await engine
