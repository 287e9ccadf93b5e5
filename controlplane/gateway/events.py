"""Reading a stream of the gateway's own pipeline, for doors that speak something else than server-sent events."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp


async def data_of(response: aiohttp.ClientResponse) -> AsyncIterator[str]:
    """Yield the data of whole events: the gateway sends no others."""
    rest = b""
    async for chunk in response.content.iter_any():
        rest += chunk.replace(b"\r\n", b"\n")
        *events, rest = rest.split(b"\n\n")
        for event in events:
            lines = [line[5:].strip() for line in event.split(b"\n") if line.startswith(b"data:")]
            if lines:
                yield b"\n".join(lines).decode(errors="replace")
