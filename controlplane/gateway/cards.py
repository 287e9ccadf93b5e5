"""What engines say of their models: how long a prompt may be, and which LoRA adapters go by names of their own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

import aiohttp

from controlplane.gateway.choice import choose
from controlplane.gateway.pools import Replica, Route
from controlplane.gateway.routing import Routing
from controlplane.gateway.sse import as_mapping

FRESH_S = 30.0
"""An adapter that is loaded or unloaded is noticed after so long, or when somebody asks for a name nobody knows."""
ASKED_AGAIN_S = 5.0
"""Unknown names make engines be asked no more often than this."""
_ANSWER_S = 2.0

Card = Mapping[str, Any]


@dataclass
class Cards:
    """The cards of every service, as one of its replicas shows them at `/v1/models`. `monotonic` in seconds."""

    routing: Routing
    session: aiohttp.ClientSession
    monotonic: Callable[[], float]
    chance: Random
    _known: dict[str, Mapping[str, Card]] = field(default_factory=dict)  # by service, then by the name clients use
    _asked_at: dict[str, float] = field(default_factory=dict)

    async def all(self) -> list[Card]:
        """Return a card for every model, version, alias and adapter, as OpenAI's `/v1/models` lists them."""
        await self._refresh(FRESH_S)
        found: list[Card] = []
        for route in self.routing.routes():
            known = self._known.get(route.service, {})
            found.append(_card(route.model, known.get(route.model, {}), parent=None))
            for name, version in route.versions.items():
                found.append(_card(name, known.get(route.model, {}), parent=route.model, root=version.version))
            found += [_card(name, {}, parent=route.model) for name in route.adapters]
            hidden = {part.loaded_as for adapter in route.adapters.values() for part in adapter.parts}
            others = known.keys() - hidden - {route.model}
            found += [_card(name, known[name], parent=route.model) for name in sorted(others)]
        return found

    async def route_of(self, name: str) -> Route | None:
        """Return who serves a model, or the adapter of that name."""
        found = self.routing.route(name) or self._with_adapter(name)
        if found is None:
            await self._refresh(ASKED_AGAIN_S)
            found = self._with_adapter(name)
        return found

    def _with_adapter(self, name: str) -> Route | None:
        return next((route for route in self.routing.routes() if name in self._known.get(route.service, {})), None)

    async def _refresh(self, older_than_s: float) -> None:
        now = self.monotonic()
        due = [r for r in self.routing.routes() if now - self._asked_at.get(r.service, -FRESH_S) >= older_than_s]
        self._asked_at.update({route.service: now for route in due})
        for route, cards in zip(due, await asyncio.gather(*map(self._ask, due)), strict=True):
            if cards is not None:
                self._known[route.service] = cards

    async def _ask(self, route: Route) -> Mapping[str, Card] | None:
        replica = choose(route, session=None, tried=(), prefer=None, now=self.monotonic(), chance=self.chance)
        if replica is None:
            return None
        try:
            async with asyncio.timeout(_ANSWER_S), self._get(replica) as response:
                return _cards(await response.read()) if response.status == 200 else None
        except (aiohttp.ClientError, TimeoutError, ConnectionError):
            return None

    def _get(self, replica: Replica) -> Any:
        key = replica.backend.api_key
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        return self.session.get(f"{replica.backend.url.rstrip('/')}/v1/models", headers=headers)


def _cards(body: bytes) -> Mapping[str, Card]:
    try:
        shown = as_mapping(json.loads(body)).get("data")
    except ValueError:
        return {}
    cards = [as_mapping(card) for card in shown] if isinstance(shown, list) else []
    return {card["id"]: card for card in cards if isinstance(card.get("id"), str)}


def _card(name: str, shown: Card, *, parent: str | None, root: str | None = None) -> Card:
    created, longest = shown.get("created"), shown.get("max_model_len")
    card = {
        "id": name,
        "object": "model",
        "created": created if isinstance(created, int) else 0,
        "owned_by": "fleetune",
        "root": root or name,
        "parent": parent,
    }
    return card | ({"max_model_len": longest} if isinstance(longest, int) else {})
