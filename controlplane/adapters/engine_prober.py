"""EngineProber over HTTP: one request to `/v1/completions` holds all prompts of a probe, so that they come together."""

from __future__ import annotations

import random
import time

import httpx

from controlplane.adapters.engine_http import key_headers
from controlplane.domain.engines.fleet import Engine
from controlplane.domain.errors import InvalidInput, Unavailable
from controlplane.domain.studies.warm_up import Probe
from controlplane.host.addresses import is_tls

_LOWEST_ID, _HIGHEST_ID = 100, 999
"""Load tests begin at 1000 (`loadtests/send/prompts.py`): no block of a probe is one of theirs."""


class HttpProber:
    """Implements `ports.EngineProber`."""

    def __init__(self, transport: httpx.BaseTransport | None = None) -> None:
        self._transport = transport

    def ask(self, engine: Engine, probe: Probe, *, seed: int, timeout_s: float) -> float:
        """See `ports.EngineProber.ask`."""
        url, headers = str(engine.url), key_headers(engine.spec.api_key)
        body, who = _body(engine, probe, seed), engine.spec.engine_id
        verify, began_s = is_tls(url), time.monotonic()
        try:
            with httpx.Client(
                headers=headers, timeout=timeout_s, trust_env=False, verify=verify, transport=self._transport
            ) as client:
                answer = client.post(f"{url}/v1/completions", json=body)
        except httpx.HTTPError as error:
            raise Unavailable(f"{who} did not answer a probe", why=str(error) or type(error).__name__) from error
        _check(who, answer)
        return time.monotonic() - began_s


def _check(who: str, answer: httpx.Response) -> None:
    if answer.is_client_error:
        raise InvalidInput(f"{who} refuses a probe", why=f"it answered {answer.status_code}")
    if not answer.is_success:
        raise Unavailable(f"{who} failed at a probe", why=f"it answered {answer.status_code}")


def _body(engine: Engine, probe: Probe, seed: int) -> dict[str, object]:
    """Return random token ids, other ones for each seed: a prefix found in a cache would hide the work."""
    chance = random.Random(seed)
    prompts = [
        [chance.randint(_LOWEST_ID, _HIGHEST_ID) for _ in range(probe.prompt_tokens)] for _ in range(probe.prompts)
    ]
    return {
        "model": engine.spec.served_name,
        "prompt": prompts,
        "max_tokens": probe.answer_tokens,
        "ignore_eos": True,
        "temperature": 0,
    }
