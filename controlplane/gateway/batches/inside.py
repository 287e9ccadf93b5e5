"""Asking this gateway's own pipeline in somebody's name: lines of batches, messages of WebSockets.

They come in by a socket in a folder of this process and carry a word that is made for each request and known to this
process only: so they are identified, limited, queued, looked at, answered and recorded as everybody's requests are.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

import aiohttp

from controlplane.domain.door.batch import Batch
from controlplane.domain.door.identity import ApiKey, Principal, PriorityClass, Scope, may
from controlplane.gateway.batches.runner import Reply
from controlplane.gateway.call import REQUEST_ID_HEADER
from controlplane.gateway.classes import PRIORITY_HEADER
from controlplane.gateway.routing import Routing


@dataclass
class Inside:
    """Who asks by which word at this moment. `required` says whether anybody needs a key."""

    routing: Routing
    required: Callable[[], bool]
    wall_clock: Callable[[], datetime]
    asking: dict[str, Principal | None] = field(default_factory=dict)  # by the Authorization header's value

    def may_ask(self, batch: Batch) -> bool:
        """Say whether who gave a batch may still ask: a key that was revoked or has expired may not."""
        if batch.principal is None:
            return not self.required()
        return not batch.by_key or self._key(batch) is not None

    async def send(self, session: aiohttp.ClientSession, batch: Batch, body: bytes) -> Reply:
        """Send one line. Raises OSError when the gateway does not answer."""
        who = self._key(batch) if batch.by_key else batch.principal
        with self.word_of(who) as word:
            headers = {"Authorization": word, PRIORITY_HEADER: PriorityClass.BATCH, "Content-Type": "application/json"}
            try:
                async with session.post(f"http://inside{batch.endpoint}", data=body, headers=headers) as response:
                    answer = await response.read()
            except aiohttp.ClientError as error:
                raise ConnectionError("the gateway does not answer") from error
        request_id = response.headers.get(REQUEST_ID_HEADER, "")
        return Reply(response.status, answer, request_id, _wait_s(response.headers.get("Retry-After")))

    @contextmanager
    def word_of(self, who: Principal | None) -> Iterator[str]:
        """Make an Authorization by which one asks in somebody's name while inside."""
        word = f"Bearer inside-{secrets.token_hex(32)}"
        self.asking[word] = who
        try:
            yield word
        finally:
            del self.asking[word]

    def _key(self, batch: Batch) -> Principal | None:
        """Return the key as it is now: what it may do may have changed since."""
        table, now = self.routing.table, self.wall_clock()
        known = [key for key in table.api_keys if _is_same(key, batch.principal)] if table else []
        return next((key for key in known if key.is_valid(now) and may(key.scopes, Scope.INFER)), None)


def _is_same(key: ApiKey, principal: Principal | None) -> bool:
    """Say whether a key is the one that gave a batch: another tenant may have one of its name since it was revoked."""
    return principal is not None and (key.name, key.tenant) == (principal.name, principal.tenant)


def _wait_s(given: str | None) -> float:
    return float(given) if given and given.isascii() and given.isdigit() else 1.0
