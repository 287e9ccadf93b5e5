"""EngineSleeper on vLLM's own routes, which the emulator has too: `/sleep`, `/wake_up` and `/is_sleeping`.

vLLM has them with VLLM_SERVER_DEV_MODE=1, and frees memory under `--enable-sleep-mode` only.
"""

from __future__ import annotations

from typing import Any

import httpx

from controlplane.adapters.engine_http import asked
from controlplane.domain.engines.fleet import Engine
from controlplane.domain.errors import InvalidInput, Unavailable

LOOK_S = 2.0
MOVE_S = 120.0
"""What runs is waited for, then tens of GiB go to the host and back."""
RELOAD_S = 900.0
"""Weights that were dropped come from disk."""


class HttpSleeper:
    """Asks engines over HTTP."""

    def __init__(self, transport: httpx.BaseTransport | None = None) -> None:
        self._http = httpx.Client(timeout=LOOK_S, trust_env=False, transport=transport)

    def close(self) -> None:
        """Close the kept connections."""
        self._http.close()

    def is_sleeping(self, engine: Engine) -> bool:
        """See `ports.EngineSleeper.is_sleeping`."""
        answer = self._send("GET", engine, "/is_sleeping")
        try:
            return bool(answer.json()["is_sleeping"])
        except (ValueError, KeyError, TypeError) as error:
            raise Unavailable(f"{engine.spec.engine_id} does not say whether it sleeps") from error

    def sleep(self, engine: Engine, *, level: int = 1) -> None:
        """See `ports.EngineSleeper.sleep`."""
        self._send("POST", engine, "/sleep", params={"level": level, "mode": "wait"}, timeout=MOVE_S)

    def wake(self, engine: Engine, *, level: int = 1) -> None:
        """See `ports.EngineSleeper.wake`. At level 2 in the three steps of vLLM's documentation."""
        if level == 1:
            self._send("POST", engine, "/wake_up", timeout=MOVE_S)
            return
        self._send("POST", engine, "/wake_up", params={"tags": "weights"}, timeout=MOVE_S)
        self._send("POST", engine, "/collective_rpc", json={"method": "reload_weights"}, timeout=RELOAD_S)
        self._send("POST", engine, "/wake_up", params={"tags": "kv_cache"}, timeout=MOVE_S)

    def _send(self, method: str, engine: Engine, path: str, **options: Any) -> httpx.Response:
        who, answer = engine.spec.engine_id, asked(self._http, method, engine, path, **options)
        if answer.status_code == httpx.codes.NOT_FOUND:
            allowed = "VLLM_SERVER_DEV_MODE=1 and --enable-sleep-mode"
            raise InvalidInput(f"{who} cannot sleep", why=f"it has no {path}", allowed=allowed)
        if not answer.is_success:
            raise Unavailable(f"{who} refuses {path}", why=f"it answered {answer.status_code}")
        return answer
