"""AdapterLoader on vLLM's own routes, which the emulator has too: `/v1/load_lora_adapter` and its opposite.

vLLM has them with VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, and loads under `--enable-lora` only.
"""

from __future__ import annotations

from collections.abc import Mapping

import httpx

from controlplane.adapters.engine_http import asked
from controlplane.domain.engines.fleet import Engine
from controlplane.domain.errors import InvalidInput, Unavailable

LOOK_S = 2.0
LOAD_S = 120.0
"""Some hundred megabytes from a network disk."""

_ALREADY = "has already been loaded"
_NO_ROUTE = "it must be started with VLLM_ALLOW_RUNTIME_LORA_UPDATING=True and --enable-lora"


class EngineAdapters:
    """Asks engines over HTTP."""

    def __init__(self, transport: httpx.BaseTransport | None = None) -> None:
        self._http = httpx.Client(timeout=LOOK_S, trust_env=False, transport=transport)

    def close(self) -> None:
        """Close the kept connections."""
        self._http.close()

    def loaded(self, engine: Engine) -> Mapping[str, str]:
        """See `ports.AdapterLoader.loaded`: cards with a parent are adapters."""
        answer = asked(self._http, "GET", engine, "/v1/models")
        try:
            cards = answer.raise_for_status().json()["data"]
            return {card["id"]: str(card.get("root") or "") for card in cards if card.get("parent")}
        except (httpx.HTTPStatusError, ValueError, KeyError, TypeError, AttributeError) as error:
            why = f"it answered {answer.status_code}"
            raise Unavailable(f"{engine.spec.engine_id} does not list its models", why=why) from error

    def load(self, engine: Engine, name: str, path: str) -> None:
        """See `ports.AdapterLoader.load`."""
        who, body = engine.spec.engine_id, {"lora_name": name, "lora_path": path}
        answer = asked(self._http, "POST", engine, "/v1/load_lora_adapter", json=body, timeout=LOAD_S)
        if answer.is_success or (answer.status_code == httpx.codes.BAD_REQUEST and _ALREADY in answer.text):
            return
        if answer.status_code == httpx.codes.NOT_FOUND and "lora" not in answer.text.lower():
            raise InvalidInput(f"{who} loads no adapters", why="it has no such route", allowed=_NO_ROUTE)
        raise InvalidInput(f"{who} refuses the adapter {path}", why=_message(answer))

    def unload(self, engine: Engine, name: str) -> None:
        """See `ports.AdapterLoader.unload`."""
        answer = asked(self._http, "POST", engine, "/v1/unload_lora_adapter", json={"lora_name": name}, timeout=LOAD_S)
        if not answer.is_success and answer.status_code != httpx.codes.NOT_FOUND:
            raise Unavailable(f"{engine.spec.engine_id} does not unload {name}", why=_message(answer))


def _message(answer: httpx.Response) -> str:
    try:
        found = answer.json()
        return str(found.get("message") or found["error"]["message"])[:300]
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"it answered {answer.status_code}"
