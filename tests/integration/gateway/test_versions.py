"""Versions and aliases are models to clients: listed beside the model, and served by the replicas that have them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from controlplane.domain.base import RevisionId
from controlplane.domain.door.caching import CacheMode
from controlplane.domain.door.gateway_options import GatewayOptions
from controlplane.domain.door.identity import ApiKey
from controlplane.domain.door.routing import RoutingTable, VersionRoute
from tests.integration.gateway.harness import chat, gateway, revision, table
from tests.integration.gateway.upstream import Upstream, upstream

ALIASES = {"llama@1": ("llama@1", "stable"), "llama@3": ("llama@3", "canary"), "llama@candidate": ("llama@3", "canary")}


def routed(stable: Upstream, canary: Upstream, *, version: int = 1, **options: object) -> RoutingTable:
    plain = table(revision("stable", 95, stable), revision("canary", 5, canary), version=version)
    versions = tuple(
        VersionRoute(name=name, version=root, revisions=(RevisionId(served),))
        for name, (root, served) in ALIASES.items()
    )
    service = plain.services[0].evolve(versions=versions, options=GatewayOptions.model_validate(options))
    return plain.evolve(services=(service,))


async def test_a_version_or_alias_is_served_by_its_replicas_alone_under_the_models_own_name(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("e1") as first, upstream("e2") as second:
        await gw.push(routed(first, second))
        for name in ("llama@candidate", "llama@3"):
            for _ in range(5):
                assert (await gw.post(chat(model=name, temperature=0.5)))[0] == 200
        assert not first.bodies
        sent = [json.loads(body) for body in second.bodies]
        assert {(each["model"], each["temperature"]) for each in sent} == {("llama", 0.5)}
        assert (await gw.post(chat(model="llama@1")))[0] == 200
        records = await gw.records(11)
        found = {(each.model, each.version, each.revision) for each in records}
        assert found == {
            ("llama", "llama@candidate", "canary"),
            ("llama", "llama@3", "canary"),
            ("llama", "llama@1", "stable"),
        }
        assert {each.other_model for each in records} <= {None, False}


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"llama@3","x":NaN}',
        b'{"model":"llama@3","user":"\\ud83d"}',
        b'\xef\xbb\xbf{"model":"llama@3"}',
        '{"model":"llama@3"}'.encode("utf-16"),
    ],
    ids=["NaN", "half a surrogate pair", "byte order mark", "UTF-16"],
)
async def test_a_body_that_only_python_takes_for_json_may_name_a_version_too(tmp_path: Path, body: bytes) -> None:
    """It was a 500: the name was changed by a stricter parser than the one that had understood the body."""
    async with gateway(tmp_path) as gw, upstream("e1") as first, upstream("e2") as second:
        await gw.push(routed(first, second))
        assert (await gw.post(body))[0] == 200
        assert json.loads(second.bodies[0])["model"] == "llama"


async def test_versions_and_aliases_are_listed_with_what_they_are(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("e1") as first, upstream("e2") as second:
        first.cards = second.cards = [{"id": "llama", "max_model_len": 4096}]
        await gw.push(routed(first, second))
        async with gw.session.get(gw.url + "/v1/models") as answer:
            cards = (await answer.json())["data"]
        assert [(card["id"], card["root"], card["parent"], card["max_model_len"]) for card in cards] == [
            ("llama", "llama", None, 4096),
            ("llama@1", "llama@1", "llama", 4096),
            ("llama@3", "llama@3", "llama", 4096),
            ("llama@candidate", "llama@3", "llama", 4096),
        ]
        async with gw.session.get(gw.url + "/v1/models/llama@candidate") as answer:
            assert (await answer.json())["root"] == "llama@3"


async def test_an_unknown_version_is_404_as_openai_says_it(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("e1") as first, upstream("e2") as second:
        await gw.push(routed(first, second))
        for name in ("llama@2", "llama@", "other@1", "llama@best"):
            status, answer, _ = await gw.post(chat(model=name))
            assert (status, json.loads(answer)["error"]["code"]) == (404, "model_not_found")
        async with gw.session.get(gw.url + "/v1/models/llama@2") as shown:
            assert shown.status == 404


async def test_a_version_whose_replicas_are_gone_is_not_answered_by_another(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("e1") as first, upstream("e2") as second:
        await gw.push(routed(first, second))
        without = routed(first, second, version=2).services[0]
        canary = without.revisions[1].evolve(backends=())
        await gw.push(table(version=2).evolve(services=(without.evolve(revisions=(without.revisions[0], canary)),)))
        status, answer, _ = await gw.post(chat(model="llama@3"))
        assert (status, json.loads(answer)["error"]["code"]) == (503, "no_replica")
        assert not first.bodies
        assert (await gw.post(chat()))[0] == 200


async def test_a_kept_answer_of_what_leads_is_not_given_for_a_version(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("e1") as first, upstream("e2") as second:
        plain = routed(first, second, cache={"mode": CacheMode.ALL.value})
        alone = plain.services[0].revisions[0].evolve(weight_percent=100)
        await gw.push(plain.evolve(services=(plain.services[0].evolve(revisions=(alone,)),)))
        for model, asked in (("llama", 1), ("llama", 1), ("llama@1", 2), ("llama@1", 3), ("llama", 3)):
            assert (await gw.post(chat(model=model)))[0] == 200
            assert len(first.bodies) == asked


async def test_a_version_is_for_json_requests_and_for_keys_of_its_model(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("e1") as first, upstream("e2") as second:
        await gw.push(routed(first, second))
        form = b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nllama@3\r\n--x--\r\n'
        kind = {"Content-Type": "multipart/form-data; boundary=x"}
        status, answer, _ = await gw.post(form, path="/v1/audio/transcriptions", **kind)
        assert (status, json.loads(answer)["error"]["code"]) == (400, "adapter_not_here")
        keys = [
            ApiKey(name=name, sha256=hashlib.sha256(name.encode()).hexdigest(), models=(model,))
            for name, model in (("ours", "llama"), ("theirs", "other"))
        ]
        await gw.push(routed(first, second, version=2).evolve(api_keys=tuple(keys), keys_required=True))
        asked = [(await gw.post(chat(model="llama@3"), Authorization=f"Bearer {key.name}"))[0] for key in keys]
        assert asked == [200, 403]
