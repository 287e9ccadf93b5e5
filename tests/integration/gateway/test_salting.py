"""Tenants' prefixes are kept apart at engines that can, and nothing else of a body changes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from controlplane.domain.door.gateway_files import records_dir
from controlplane.domain.door.gateway_options import GatewayOptions
from controlplane.domain.door.identity import ApiKey
from controlplane.domain.door.routing import RoutingTable
from tests.integration.gateway.harness import CHAT, Gateway, chat, gateway, revision, table
from tests.integration.gateway.upstream import Upstream, upstream

OF = {"ann": "red", "bob": "red", "cem": "blue", "dan": "default"}
KEYS = tuple(
    ApiKey(name=name, tenant=tenant, sha256=hashlib.sha256(name.encode()).hexdigest()) for name, tenant in OF.items()
)


def routes(*engines: Upstream, by_salt: bool = True, **options: Any) -> RoutingTable:
    found = table(revision("rev-a", 100, *engines), options=GatewayOptions(**options)).evolve(api_keys=KEYS)
    (service,) = found.services
    (route,) = service.revisions
    backends = tuple(each.evolve(by_salt=by_salt) for each in route.backends)
    return found.evolve(services=(service.evolve(revisions=(route.evolve(backends=backends),)),))


async def asks(gw: Gateway, who: str, **fields: Any) -> int:
    status, _, _ = await gw.post(chat(**fields), Authorization=f"Bearer {who}")
    return status


def salts(engine: Upstream) -> Sequence[str | None]:
    return [json.loads(body).get("cache_salt") for body in engine.bodies]


async def test_each_tenant_has_a_salt_of_its_own_that_names_nobody_and_the_default_one_none(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        await gw.push(routes(engine))
        assert [await asks(gw, who) for who in OF] == [200] * 4
        ann, bob, cem, dan = salts(engine)
        assert ann == bob != cem
        assert dan is None
        assert ann is not None
        assert len(ann) == 64
        assert json.loads(engine.bodies[0]) == {**chat(), "cache_salt": ann}
        assert json.loads(engine.bodies[3]) == chat()
        assert hashlib.blake2b(b"red").hexdigest()[:64] != ann


async def test_a_salt_outlives_restarts_and_is_that_of_every_gateway_and_of_no_other_installation(
    tmp_path: Path,
) -> None:
    async with upstream("e1") as engine:
        for folder, name in (("a", "gw-1"), ("a", "gw-1"), ("a", "gw-2"), ("b", "gw-1")):
            async with gateway(tmp_path / folder, name=name) as gw:
                await gw.push(routes(engine))
                assert await asks(gw, "ann") == 200
        first, restarted, other, elsewhere = salts(engine)
        assert first == restarted == other != elsewhere


async def test_a_callers_own_salt_separates_further_and_never_joins(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        await gw.push(routes(engine))
        for who in ("ann", "cem", "dan"):
            assert await asks(gw, who, cache_salt="mine") == 200
        assert await asks(gw, "ann") == 200
        ann, cem, dan, plain = salts(engine)
        assert len({ann, cem, dan, plain}) == 4
        assert dan == "mine"  # as the client wrote it: nothing is ours to add
        assert await asks(gw, "cem", cache_salt=plain) == 200  # who learns a salt gains nothing by it
        assert salts(engine)[-1] not in (ann, cem, plain)


@pytest.mark.parametrize("wrong", ["", 7, ["a"], {}, False])
async def test_a_salt_that_is_none_is_refused_and_not_replaced_unseen(tmp_path: Path, wrong: object) -> None:
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        await gw.push(routes(engine))
        assert await asks(gw, "ann", cache_salt=wrong) == 400
        assert await asks(gw, "dan", cache_salt=wrong) == 200  # the engine's to refuse
        assert await asks(gw, "ann", cache_salt=None) == 200
        assert salts(engine)[1] is not None


async def test_two_salts_in_one_body_are_one_and_not_the_clients(tmp_path: Path) -> None:
    body = json.dumps(chat()).encode()[:-1] + b', "cache_salt": "a", "cache\\u005fsalt": "b"}'
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        await gw.push(routes(engine))
        await gw.post(body, Authorization="Bearer ann")
        (found,) = salts(engine)
        assert found not in ("a", "b")


@pytest.mark.parametrize(("by_salt", "shared"), [(False, False), (True, True)])
async def test_engines_that_do_not_know_it_and_services_that_share_get_the_bytes_of_the_client(
    tmp_path: Path, by_salt: bool, shared: bool
) -> None:
    body = b' {"model":"llama",\n"messages":[{"role":"user","content":"a"}], "stream":true }'
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        await gw.push(routes(engine, by_salt=by_salt, share_prefixes=shared))
        assert (await gw.post(body, Authorization="Bearer ann"))[0] == 200
        assert engine.bodies == [body]


@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/v1/responses", "/v1/messages", "/v1/embeddings"])
async def test_every_way_to_ask_has_it(tmp_path: Path, path: str) -> None:
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        await gw.push(routes(engine))
        await gw.post(chat(prompt="a" * 100_000), path=path, Authorization="Bearer ann")
        assert salts(engine)[0] is not None


async def test_records_share_prefixes_within_a_tenant_only_so_that_replays_find_the_cache_as_it_was(
    tmp_path: Path,
) -> None:
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        await gw.push(routes(engine))
        for who in OF:
            await asks(gw, who, messages=[{"role": "user", "content": "long " * 100}])
        blocks = {record.key: record.prefix_blocks for record in await gw.records(4)}
        assert blocks["ann"] == blocks["bob"]
        assert len(blocks["ann"]) > 5
        assert not set(blocks["ann"]) & {*blocks["cem"], *blocks["dan"]}
        kept = b"".join(path.read_bytes() for path in records_dir(tmp_path).iterdir())
        assert str(salts(engine)[0]).encode() not in kept


async def test_a_model_that_answers_instead_keeps_tenants_apart_too(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        small = routes(engine)
        (service,) = small.services
        full = service.evolve(revisions=(), options=GatewayOptions(fallback="small", share_prefixes=True))
        both = (full, service.evolve(service="small", model="small"))
        assert (await gw.push(small.evolve(services=both)))[0] == 200
        assert await asks(gw, "ann") == 200
        assert await asks(gw, "cem") == 200
        first, second = salts(engine)
        assert None not in (first, second)
        assert first != second
