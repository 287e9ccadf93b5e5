"""How engines are asked over HTTP: with the key they ask their clients for, and what it means when they say nothing."""

from __future__ import annotations

from typing import Any

import httpx

from controlplane.domain.engines.fleet import Engine
from controlplane.domain.errors import Unavailable


def key_headers(key: str | None) -> dict[str, str]:
    """Return the headers of who has this key; None: the engine asks for none."""
    return {} if key is None else {"Authorization": f"Bearer {key}"}


def asked(client: httpx.Client, method: str, engine: Engine, path: str, **options: Any) -> httpx.Response:
    """Return what an engine answers, whatever that is. Raises Unavailable when it does not."""
    try:
        return client.request(method, f"{engine.url}{path}", headers=key_headers(engine.spec.api_key), **options)
    except httpx.HTTPError as error:
        why = str(error) or type(error).__name__
        raise Unavailable(f"{engine.spec.engine_id} does not answer", why=why) from error
