"""Tokens of trusted issuers at the gateway: checked on the event loop, with the issuers asked on threads beside it."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime

from controlplane.domain.door.identity import Principal
from controlplane.domain.errors import FleetuneError, Forbidden, Unavailable
from controlplane.gateway.openai_errors import RequestRefused
from controlplane.telemetry.lasting import Lasting
from controlplane.tokens.door import KeysNeeded, TokenDoor, looks_like_token
from controlplane.tokens.key_set import ASKED_AT_MOST_EVERY_S, KeySet

_log = logging.getLogger(__name__)


class Tokens:
    """Finds whom a token speaks for. However many requests wait for an issuer, it is asked once."""

    def __init__(self, door: TokenDoor) -> None:
        self._door = door
        self._asking: dict[str, asyncio.Task[None]] = {}

    async def find(self, secret: str, now: datetime) -> Principal | None:
        """Return whom a token speaks for, None for what is no token. Raises RequestRefused (401, 403, 503)."""
        if not looks_like_token(secret):
            return None
        try:
            try:
                return self._door.known(secret, now)
            except KeysNeeded as needed:
                await asyncio.shield(self._ask(needed.keys))
                return self._door.known(secret, now)
        except FleetuneError as error:
            raise _refusal(error) from error

    async def run(self) -> None:
        """Keep the issuers' keys fresh until cancelled, so that few requests ever wait for them."""
        lasting = Lasting(_log)
        while True:
            for keys in self._door.key_sets:
                if keys.due:
                    await self._ask(keys)
            lasting.tell(f"issuer {keys.issuer.name}: {keys.problem}" for keys in self._door.key_sets if keys.problem)
            await asyncio.sleep(ASKED_AT_MOST_EVERY_S)

    def _ask(self, keys: KeySet) -> asyncio.Task[None]:
        name = keys.issuer.name
        task = self._asking.get(name)
        if task is None or task.done():
            task = self._asking[name] = asyncio.ensure_future(asyncio.to_thread(keys.refresh))
        return task


def _refusal(error: FleetuneError) -> RequestRefused:
    if isinstance(error, Forbidden):
        return RequestRefused(403, f"Forbidden: {error}.", code="token_forbidden")
    if isinstance(error, Unavailable):
        return RequestRefused(503, f"{error}.", code="issuer_unavailable", headers={"Retry-After": "10"})
    return RequestRefused(401, f"Invalid token: {error}.", code="invalid_token")
