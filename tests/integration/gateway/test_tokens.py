"""Tokens of an issuer over HTTP, at a gateway that serves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from controlplane.domain.door.gateway_options import GatewayOptions
from controlplane.domain.door.identity import Limits
from tests.integration.gateway.harness import Gateway, chat, gateway, revision
from tests.integration.gateway.upstream import upstream
from tests.issuer import TestIssuer, serving_keys


@pytest.fixture
def issuer() -> Iterator[TestIssuer]:
    with serving_keys(TestIssuer()) as served:
        yield served


async def ask(gw: Gateway, token: str, **fields: Any) -> tuple[int, str | None]:
    code, body, _ = await gw.post(chat(**fields), Authorization=f"Bearer {token}")
    return code, None if code == 200 else json.loads(body)["error"]["code"]


def now() -> datetime:
    return datetime.now(UTC)


def lasting(issuer: TestIssuer, **claims: Any) -> str:
    """Return a token that outlasts any slow machine."""
    at = now()
    return issuer.token(at, **({"exp": at.timestamp() + 3600} | claims))


async def test_tokens_open_the_gateway_beside_keys_and_nothing_else_does(tmp_path: Path, issuer: TestIssuer) -> None:
    described = issuer.described(tenant_claim="org", models_claim="models")
    async with gateway(tmp_path, issuers=(described,)) as gw, upstream("e1") as engine:
        await gw.route(revision("rev-a", 100, engine), keys={"app": "app-secret"})
        good: dict[str, Any] = {"org": "acme", "models": ["llama"]}
        assert await ask(gw, lasting(issuer, **good)) == (200, None)
        assert await ask(gw, "app-secret") == (200, None)
        assert await ask(gw, "wrong") == (401, "invalid_api_key")
        assert await ask(gw, lasting(issuer, **good, exp=now().timestamp() - 60)) == (401, "invalid_token")
        assert await ask(gw, lasting(issuer, models=["llama"])) == (403, "token_forbidden")
        assert await ask(gw, lasting(issuer, org="acme", models=["other"])) == (403, "model_not_allowed")
        code, _, headers = await gw.post(chat())
        assert (code, headers["WWW-Authenticate"]) == (401, "Bearer")
        records = await gw.records(2)
    assert [(each.key, each.tenant) for each in records] == [("corp:ada", "acme"), ("app", "default")]
    assert all("Authorization" not in request.headers for request in engine.seen)
    assert issuer.fetched == 1


async def test_without_keys_or_table_a_token_is_still_needed(tmp_path: Path, issuer: TestIssuer) -> None:
    async with gateway(tmp_path, issuers=(issuer.described(),)) as gw, upstream("e1") as engine:
        await gw.route(revision("rev-a", 100, engine))
        assert (await gw.post(chat()))[0] == 401
        assert await ask(gw, lasting(issuer)) == (200, None)


async def test_many_requests_wait_for_one_question(tmp_path: Path, issuer: TestIssuer) -> None:
    async with gateway(tmp_path, issuers=(issuer.described(),)) as gw, upstream("e1") as engine:
        await gw.route(revision("rev-a", 100, engine))
        answers = await asyncio.gather(*(ask(gw, lasting(issuer, sub=f"user-{n}")) for n in range(20)))
    assert set(answers) == {(200, None)}
    assert issuer.fetched == 1


async def test_an_issuer_that_is_away_is_unavailable_not_a_refusal(tmp_path: Path, issuer: TestIssuer) -> None:
    issuer.down = True
    async with gateway(tmp_path, issuers=(issuer.described(),)) as gw, upstream("e1") as engine:
        await gw.route(revision("rev-a", 100, engine), keys={"app": "app-secret"})
        code, body, headers = await gw.post(chat(), Authorization=f"Bearer {lasting(issuer)}")
        assert (code, headers["Retry-After"]) == (503, "10")
        assert json.loads(body)["error"]["code"] == "issuer_unavailable"
        assert await ask(gw, "app-secret") == (200, None)  # keys go on


async def test_limits_of_a_tenant_hold_for_its_tokens(tmp_path: Path, issuer: TestIssuer) -> None:
    options = GatewayOptions(limits_of={"acme": Limits(requests_per_minute=1)})
    async with gateway(tmp_path, issuers=(issuer.described(tenant="acme"),)) as gw, upstream("e1") as engine:
        await gw.route(revision("rev-a", 100, engine), options=options)
        assert (await ask(gw, lasting(issuer)))[0] == 200
        assert (await ask(gw, lasting(issuer, sub="bob")))[0] == 429
