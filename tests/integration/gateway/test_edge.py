"""The edge: keys, bad input, headers, limits, health and metrics."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from controlplane.domain.base import RevisionId
from controlplane.domain.door.identity import ApiKey, Scope
from controlplane.domain.door.routing import Backend, RevisionRoute, RoutingTable
from tests.integration.gateway.harness import MODEL, chat, gateway, revision, table
from tests.integration.gateway.upstream import status, upstream


def error_of(body: bytes) -> Any:
    return json.loads(body)["error"]


@pytest.mark.parametrize(
    ("body", "code", "named"),
    [
        pytest.param(b"{not json", 400, "invalid_json", id="not JSON"),
        pytest.param(b"[" * 100_000, 400, "invalid_json", id="nested too deeply"),
        pytest.param(b"[1]", 400, "invalid_json", id="no object"),
        pytest.param(b'\xff\xfe"', 400, "invalid_json", id="not text"),
        pytest.param(b"", 400, "invalid_json", id="empty"),
        pytest.param(b'{"messages":[]}', 400, "missing_model", id="no model"),
        pytest.param(b'{"model":7}', 400, "missing_model", id="model not a string"),
        pytest.param(b'{"model":"gpt-9"}', 404, "model_not_found", id="unknown model"),
    ],
)
async def test_a_bad_body_is_an_openai_error(tmp_path: Path, body: bytes, code: int, named: str) -> None:
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        await gw.route(revision("rev-a", 100, engine))
        answered, text, _ = await gw.post(body)
    error = error_of(text)
    assert (answered, error["code"], error["type"]) == (code, named, "invalid_request_error")
    assert error["message"]
    assert engine.seen == []


async def test_before_its_first_table_no_model_is_called_unknown(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw:
        code, body, headers = await gw.post(chat())
    assert (code, error_of(body)["code"], headers["Retry-After"]) == (503, "no_routing_table", "1")


async def test_a_huge_body_is_refused(tmp_path: Path) -> None:
    async with gateway(tmp_path, max_body_bytes=100_000) as gw, upstream("e1") as engine:
        await gw.route(revision("rev-a", 100, engine))
        code, body, _ = await gw.post(chat(padding="x" * 200_000))
    assert (code, error_of(body)["code"]) == (413, "request_too_large")
    assert engine.seen == []


async def test_a_large_body_within_the_limit_reaches_the_engine_unchanged(tmp_path: Path) -> None:
    sent = json.dumps(chat(padding="x" * 3_000_000), indent=1).encode()
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        await gw.route(revision("rev-a", 100, engine))
        code, _, _ = await gw.post(sent)
    assert code == 200
    assert engine.bodies == [sent]


@pytest.mark.parametrize("header", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic c2VjcmV0"}])
async def test_without_a_valid_key_nothing_is_served(tmp_path: Path, header: dict[str, str]) -> None:
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        await gw.route(revision("rev-a", 100, engine), keys={"team": "s3cret"})
        code, body, headers = await gw.post(chat(), **header)
        async with gw.session.get(gw.url + "/v1/models", headers=header) as models:
            assert models.status == 401
    assert (code, error_of(body)["code"]) == (401, "invalid_api_key")
    assert headers["WWW-Authenticate"] == "Bearer"
    assert engine.seen == []


async def test_a_valid_key_is_noted_by_name_and_never_reaches_the_engine(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        await gw.route(revision("rev-a", 100, engine), keys={"other": "x", "team": "s3cret"})
        code, _, _ = await gw.post(chat(), Authorization="Bearer s3cret", Cookie="a=b", Connection="X-Private")
        (record,) = await gw.records()
    assert (code, record.key) == (200, "team")
    assert not {"authorization", "cookie"} & {name.lower() for name in engine.seen[0].headers}
    assert "s3cret" not in record.model_dump_json()
    assert engine.seen[0].headers["Accept-Encoding"] == "identity"


def a_key(secret: str, **grant: Any) -> ApiKey:
    return ApiKey(name="team", sha256=hashlib.sha256(secret.encode()).hexdigest(), **grant)


@pytest.mark.parametrize(
    ("grant", "status", "code"),
    [
        ({}, 200, None),
        ({"scopes": (Scope.ADMIN,)}, 200, None),
        ({"scopes": (Scope.READ, Scope.OPERATE)}, 403, "wrong_scope"),
        ({"models": ("other",)}, 403, "model_not_allowed"),
        ({"models": (MODEL,)}, 200, None),
        ({"expires_at": datetime(2020, 1, 1, tzinfo=UTC)}, 401, "invalid_api_key"),
        ({"expires_at": datetime(2120, 1, 1, tzinfo=UTC)}, 200, None),
    ],
)
async def test_a_key_does_what_it_was_granted(
    tmp_path: Path, grant: dict[str, Any], status: int, code: str | None
) -> None:
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        routes = table(revision("rev-a", 100, engine))
        await gw.push(routes.evolve(api_keys=(a_key("s3cret", tenant="shop", **grant),)))
        answered, body, _ = await gw.post(chat(), Authorization="Bearer s3cret")
        async with gw.session.get(gw.url + "/v1/models", headers={"X-Api-Key": "s3cret"}) as response:
            shown = (await response.json()).get("data")
        if status == 200:
            (record,) = await gw.records()
            assert record.tenant == "shop"
    assert answered == status
    assert code is None or error_of(body)["code"] == code
    assert len(engine.seen) == (status == 200)
    assert (shown == []) == (code == "model_not_allowed")


@pytest.mark.parametrize("header", ["Authorization", "X-Api-Key", "Api-Key"])
async def test_a_key_may_come_in_any_header_that_clients_use(tmp_path: Path, header: str) -> None:
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        await gw.route(revision("rev-a", 100, engine), keys={"team": "s3cret"})
        value = "Bearer s3cret" if header == "Authorization" else "s3cret"
        assert (await gw.post(chat(), **{header: value}))[0] == 200
        assert (await gw.post(chat(), **{header: value + "x"}))[0] == 401
    assert header not in engine.seen[0].headers


async def test_while_a_key_is_rotated_both_secrets_work(tmp_path: Path) -> None:
    both = a_key("new", old_sha256=hashlib.sha256(b"old").hexdigest(), old_until=datetime(2120, 1, 1, tzinfo=UTC))
    over = both.evolve(old_until=datetime(2020, 1, 1, tzinfo=UTC))
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        routes = table(revision("rev-a", 100, engine))
        await gw.push(routes.evolve(api_keys=(both,)))
        assert [(await gw.post(chat(), Authorization=f"Bearer {s}"))[0] for s in ("new", "old", "x")] == [200, 200, 401]
        await gw.push(routes.evolve(version=2, api_keys=(over,)))
        assert [(await gw.post(chat(), Authorization=f"Bearer {s}"))[0] for s in ("new", "old")] == [200, 401]


async def test_on_loopback_the_last_key_revoked_leaves_the_door_shut(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        await gw.push(table(revision("rev-a", 100, engine)).evolve(keys_required=True))
        assert (await gw.post(chat()))[0] == 401


async def test_hop_by_hop_headers_end_at_the_gateway(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        await gw.route(revision("rev-a", 100, engine))
        extra = {"Connection": "keep-alive, X-Private", "X-Private": "1", "X-Public": "2", "TE": "trailers"}
        await gw.post(chat(), **extra)
    headers = engine.seen[0].headers
    assert "X-Private" not in headers
    assert "TE" not in headers
    assert headers["X-Public"] == "2"


@pytest.mark.parametrize("where", [{"host": "0.0.0.0"}, {"require_keys": True}])
async def test_beyond_loopback_nothing_is_served_before_keys_come(tmp_path: Path, where: dict[str, Any]) -> None:
    async with gateway(tmp_path, **where) as gw, upstream("e1") as engine:
        await gw.route(revision("rev-a", 100, engine))
        assert (await gw.post(chat()))[0] == 401
        await gw.route(revision("rev-a", 100, engine), version=2, keys={"team": "s3cret"})
        assert (await gw.post(chat(), Authorization="Bearer s3cret"))[0] == 200


async def test_beyond_loopback_revoking_the_last_key_closes_the_door(tmp_path: Path) -> None:
    async with gateway(tmp_path, host="0.0.0.0") as gw, upstream("e1") as engine:
        await gw.route(revision("rev-a", 100, engine), keys={"leaked": "s3cret"})
        await gw.route(revision("rev-a", 100, engine), version=2)
        assert (await gw.post(chat(), Authorization="Bearer s3cret"))[0] == 401
        assert (await gw.post(chat()))[0] == 401
    async with gateway(tmp_path, host="0.0.0.0") as gw:  # by the saved table
        assert (await gw.post(chat(), Authorization="Bearer s3cret"))[0] == 401


async def test_the_admin_port_asks_for_its_token_and_refuses_web_pages(tmp_path: Path) -> None:
    async with gateway(tmp_path, admin_token="adm1n") as gw:
        assert (await gw.push(table()))[0] == 401
        assert (await gw.push(table(), Authorization="Bearer wrong"))[0] == 401
        assert (await gw.push(table(), Authorization="Bearer adm1n", Origin="http://evil.example"))[0] == 401
        assert (await gw.push(table(), Authorization="Bearer adm1n"))[0] == 200


@pytest.mark.parametrize("named", ["evil.example", "evil.example:8001", "10.0.0.7"])
async def test_the_admin_port_answers_only_to_its_own_name(tmp_path: Path, named: str) -> None:
    async with gateway(tmp_path) as gw:
        assert (await gw.push(table(), Host=named))[0] == 401
        assert (await gw.push(table(), Host="localhost:8001"))[0] == 200
        assert (await gw.push(table(), Host="[::1]:8001"))[0] == 200


async def test_a_route_that_cannot_be_accepted_freezes_its_own_service_only(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("old") as old, upstream("new") as new:
        first = table(revision("rev-a", 100, old)).services[0]
        other = first.evolve(service="other", model="qwen")
        await gw.push(RoutingTable(version=1, services=(first, other)))
        rival = first.evolve(service="rival", revisions=(revision("rev-b", 100, new),))
        code, answer = await gw.push(RoutingTable(version=2, services=(rival, first, other.evolve(revisions=()))))
        assert (code, answer["refused"]) == (200, {"rival": "model llama is served by chat"})
        assert (await gw.post(chat()))[2]["X-Fleetune-Revision"] == "rev-a"
        assert (await gw.post(chat(model="qwen")))[0] == 503  # the others have their new routes
        assert (await gw.status())["table_version"] == 2


async def test_a_route_that_cannot_be_read_keeps_its_last_and_the_others_move_on(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("old") as old, upstream("new") as new:
        first = table(revision("rev-a", 100, old)).services[0]
        other = first.evolve(service="other", model="qwen")
        await gw.push(RoutingTable(version=1, services=(first, other)))
        moved = other.evolve(revisions=(revision("rev-b", 100, new),))
        raw = json.loads(RoutingTable(version=2, services=(first, moved)).model_dump_json())
        raw["services"][0]["revisions"][0]["weight_percent"] = 20
        code, answer = await gw.push(json.dumps(raw).encode())
        assert (code, list(answer["refused"])) == (200, ["chat"])
        assert (await gw.post(chat()))[2]["X-Fleetune-Revision"] == "rev-a"
        assert (await gw.post(chat(model="qwen")))[2]["X-Fleetune-Revision"] == "rev-b"


async def test_an_engines_own_key_is_given_to_it_and_to_nobody_else(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("e1") as locked, upstream("e2") as open_:
        keyed = RevisionRoute(
            revision=RevisionId("rev-a"),
            weight_percent=100,
            backends=(
                Backend(engine_id="e1", url=locked.url, api_key="eng1ne"),
                Backend(engine_id="e2", url=open_.url),
            ),
        )
        await gw.route(keyed)
        while not (locked.seen and open_.seen):
            assert (await gw.post(chat(), Authorization="Bearer client"))[0] == 200
    assert {request.headers["Authorization"] for request in locked.seen} == {"Bearer eng1ne"}
    assert all("Authorization" not in request.headers for request in open_.seen)


async def test_what_is_no_routing_table_is_refused_with_its_reason(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw:
        assert (await gw.push(b"{}"))[0] == 422
        code, why = await gw.push(b'{"version":1,"colour":"red"}')
    assert code == 422
    assert "colour: unknown field" in why["error"]


async def test_models_health_and_readiness_follow_the_table(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        assert await _get(gw.url + "/health", gw.session) == (200, {"status": "ok"})
        assert (await _get(gw.url + "/ready", gw.session))[0] == 503
        await gw.route(revision("rev-a", 100, engine))
        assert (await _get(gw.url + "/ready", gw.session))[0] == 200
        _, models = await _get(gw.url + "/v1/models", gw.session)
        assert [model["id"] for model in models["data"]] == [MODEL]
        code, missing = await _get(gw.url + "/v1/nothing", gw.session)
        assert (code, missing["error"]["type"]) == (404, "invalid_request_error")


async def test_metrics_count_requests_by_revision_and_status(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("bad", status(503)) as bad, upstream("good") as good:
        await gw.route(revision("rev-a", 100, bad, good), version=3)
        while not bad.seen:
            await gw.post(chat())
        await gw.post(b"{")
        async with gw.session.get(gw.url + "/metrics") as response:
            text = await response.text()
    served = f'fleetune_gateway_requests_total{{revision="rev-a",service="chat",status="200"}} {len(good.seen)}.0'
    assert served in text
    assert 'fleetune_gateway_retries_total{revision="rev-a",service="chat"} 1.0' in text
    assert 'fleetune_gateway_refused_total{code="invalid_json",status="400"} 1.0' in text
    assert "fleetune_gateway_routing_table_version 3.0" in text
    assert 'fleetune_gateway_in_flight{engine="good",revision="rev-a"} 0.0' in text
    assert 'fleetune_gateway_ttft_seconds_count{revision="rev-a",service="chat"}' in text


async def _get(url: str, session: Any) -> tuple[int, Any]:
    async with session.get(url) as response:
        return response.status, await response.json()
