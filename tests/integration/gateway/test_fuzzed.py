"""Whatever is sent to the gateway's door: no 5xx, no hang, and an error in OpenAI's shape."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings

from controlplane.gateway.paths import PASSED_ON
from tests.integration.gateway.harness import MODEL, gateway, revision
from tests.integration.gateway.upstream import pieces, upstream

_MESSAGE = {"type": "object", "properties": {"role": {"type": "string"}, "content": {}}, "required": ["role"]}
_BODY = {
    "type": "object",
    "properties": {
        "model": {"enum": [MODEL, "", "other", None, 5]},
        "stream": {"type": ["boolean", "string", "null"]},
        "messages": {"type": "array", "items": _MESSAGE},
        "prompt": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "integer"}}, {}]},
        "input": {},
        "user": {},
        "tools": {},
        "max_tokens": {"type": ["integer", "string", "null"]},
        "n": {"type": ["integer", "null"]},
        "cache_salt": {},
    },
    "required": ["model"],
}
_ANSWER = {"responses": {"200": {"description": "answered"}}}
_HEADERS = [
    {"name": name, "in": "header", "schema": {"type": "string"}, "required": False}
    for name in ("X-Session-Id", "X-Priority", "Content-Encoding", "Authorization", "X-Request-Id")
]


def _operation() -> dict[str, Any]:
    return {"parameters": _HEADERS, "requestBody": {"content": {"application/json": {"schema": _BODY}}}, **_ANSWER}


schema = schemathesis.openapi.from_dict(
    {
        "openapi": "3.1.0",
        "info": {"title": "gateway", "version": "1"},
        "paths": {path: {"post": _operation()} for path in PASSED_ON}
        | {
            "/v1/models/{name}": {
                "get": {
                    "parameters": [{"name": "name", "in": "path", "schema": {"type": "string"}, "required": True}],
                    **_ANSWER,
                }
            }
        },
    }
)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a gateway and its engine on a thread of their own: the cases are sent from this one."""
    found: list[str] = []
    ready, loop = threading.Event(), asyncio.new_event_loop()
    over = asyncio.Event()

    async def serve(folder: Path) -> None:
        async with gateway(folder) as gw, upstream("e1", pieces(b"{}", content_type="application/json")) as engine:
            await gw.route(revision("rev-a", 100, engine))
            found.append(gw.url)
            ready.set()
            await over.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=[serve(tmp_path_factory.mktemp("fuzzed"))])
    thread.start()
    assert ready.wait(240)
    yield found[0]
    loop.call_soon_threadsafe(over.set)
    thread.join()
    loop.close()


LIMITS = settings(
    max_examples=5,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("path", [*PASSED_ON, "/v1/models/{name}"])
def test_nothing_breaks_the_gateway(url: str, path: str) -> None:
    operation = schema[path]["get" if path.endswith("}") else "post"]

    @LIMITS
    @given(operation.as_strategy())
    def sent(case: schemathesis.Case[Any]) -> None:
        response = case.call(base_url=url, timeout=240)
        assert response.status_code < 500, (response.status_code, response.text[:200])
        if response.status_code >= 400:
            assert {"message", "type", "code", "param"} == response.json()["error"].keys()

    sent()
