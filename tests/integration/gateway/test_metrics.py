"""What the gateway tells Prometheus: readable, and documented name by name."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from controlplane.domain.door.identity import ApiKey, Scope
from tests.integration.gateway.harness import Gateway, chat, gateway, revision, table
from tests.integration.gateway.upstream import upstream

DOCS = Path(__file__).parents[3] / "docs" / "gateway.md"


async def test_metrics_parse_and_are_those_of_the_documentation(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        await gw.route(revision("rev-a", 100, engine))
        await gw.post(chat())
        await gw.post(b"no json")
        async with gw.session.get(f"{gw.url}/metrics") as response:
            text = await response.text()
    found = {
        (f"{family.name}_total" if family.type == "counter" else family.name, family.type)
        for family in text_string_to_metric_families(text)
        if not family.name.endswith("_created")
    }
    documented = set(re.findall(r"^\| `(fleetune_gateway_\w+)` \| (\w+) \|", DOCS.read_text(), re.MULTILINE))
    assert found == documented


def a_key(name: str, *scopes: Scope) -> ApiKey:
    return ApiKey(name=name, sha256=hashlib.sha256(name.encode()).hexdigest(), scopes=scopes)


async def metrics(gw: Gateway, url: str, **headers: str) -> tuple[int, str | None]:
    """Ask for them and return the status and what the refusal calls itself."""
    async with gw.session.get(f"{url}/metrics", headers=headers) as response:
        text = await response.text()
        if response.status == 200:
            assert "fleetune_gateway_weight_percent" in text
            return 200, None
        error = json.loads(text)["error"]
        return response.status, error["code"] if isinstance(error, dict) else None


async def test_where_keys_are_needed_metrics_are_told_to_those_that_may_read(tmp_path: Path) -> None:
    keys = [a_key("client", Scope.INFER), a_key("reader", Scope.READ), a_key("operator", Scope.OPERATE)]
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        await gw.push(table(revision("rev-a", 100, engine)).evolve(api_keys=tuple(keys)))
        found = [await metrics(gw, gw.url, Authorization=f"Bearer {name}") for name in ("client", "reader", "operator")]
        nobody = await metrics(gw, gw.url)
    assert found == [(403, "wrong_scope"), (200, None), (200, None)]
    assert nobody == (401, "invalid_api_key")


async def test_without_keys_they_are_told_to_this_machine_and_no_web_page(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw:
        assert await metrics(gw, gw.url) == (200, None)
        assert await metrics(gw, gw.url, Host="evil.example") == (403, "host_not_allowed")
        assert await metrics(gw, gw.url, Origin="https://evil.example") == (403, "origin_not_allowed")


async def test_the_admin_port_tells_them_to_who_has_its_token(tmp_path: Path) -> None:
    async with gateway(tmp_path, require_keys=True, admin_token="word") as gw:
        url = gw.running.address.admin_url
        assert await metrics(gw, url, Authorization="Bearer word") == (200, None)
        assert (await metrics(gw, url))[0] == 401
        assert await metrics(gw, gw.url, Authorization="Bearer word") == (401, "invalid_api_key")
