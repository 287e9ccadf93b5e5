"""What the gateway tells Prometheus: readable, and documented name by name."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.integration.gateway.harness import chat, gateway, revision
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
