"""Answers of an A/B test are kept for its judge: only of tenants that allow it, once, for a moment, on no disk."""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from controlplane.adapters.gateway.traffic import GatewayTraffic
from controlplane.domain.ab_tests.ab_test import AbTestId
from controlplane.domain.door.gateway_options import GatewayOptions
from controlplane.domain.door.identity import ApiKey
from controlplane.domain.door.judging import Sample, Sampling
from controlplane.domain.door.personal import Personal
from controlplane.domain.door.privacy import OutputPolicy, PrivacyOptions
from controlplane.domain.door.routing import RevisionRoute, RoutingTable
from controlplane.gateway.samples import MOST_KEPT, Samples
from tests.integration.gateway.harness import Gateway, chat, gateway, revision, table
from tests.integration.gateway.upstream import DONE, FINISH, pieces, token_event, upstream

TEST = "chat-ab1"
PLANTED = "planted-words-of-a-user"
MAIL = pieces(token_event("write to "), token_event("ann@example.org"), token_event(" today"), FINISH, DONE)
SECRETS = {"acme": "acme-key", "other": "other-key"}


def sampled(*routes: RevisionRoute, tenants: tuple[str, ...] = ("acme",), **changes: Any) -> RoutingTable:
    """One service in a test; each tenant has a key of its name."""
    options = {"sample_percent": 100, "longest_bytes": 4096}
    made = table(*routes, options=changes.pop("options", GatewayOptions()))
    service = made.services[0].evolve(split_by=TEST, sampling=Sampling(tenants=tenants, **(options | changes)))
    keys = tuple(
        ApiKey(name=f"{tenant}-1", tenant=tenant, sha256=hashlib.sha256(secret.encode()).hexdigest())
        for tenant, secret in SECRETS.items()
    )
    return made.evolve(services=(service,), api_keys=keys)


def asking(*, stream: bool = False, **fields: Any) -> dict[str, Any]:
    return chat(stream=stream, **{"messages": [{"role": "user", "content": PLANTED}], **fields})


def on_disk(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in folder.rglob("*") if path.is_file()]


async def take(gw: Gateway, most: object = 10, test: str = TEST) -> tuple[int, Any]:
    url = f"{gw.running.address.admin_url}/admin/samples"
    async with gw.session.post(url, params={"test": test, "most": str(most)}) as response:
        return response.status, await response.json()


async def taken(gw: Gateway, **which: Any) -> list[dict[str, Any]]:
    status, told = await take(gw, **which)
    assert status == 200
    found: list[dict[str, Any]] = told["samples"]
    return found


def as_tenant(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {SECRETS[name]}"}


@pytest.mark.parametrize("stream", [False, True])
async def test_what_was_asked_and_answered_is_given_once_to_who_takes_it(tmp_path: Path, stream: bool) -> None:
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        await gw.push(sampled(revision("stable", 100, engine)))
        _, _, headers = await gw.post(asking(stream=stream, user="ann", temperature=0.3), **as_tenant("acme"))
        (sample,) = await taken(gw)
        assert sample["request_id"] == headers["X-Request-Id"]
        assert (sample["key"], sample["path"]) == ("acme-1", "/v1/chat/completions")
        assert sample["asked"] == {"messages": [{"role": "user", "content": PLANTED}]}  # not who, not how
        assert sample["answer"]
        assert await taken(gw) == []


async def test_the_controller_takes_samples_of_all_gateways_that_answer(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        await gw.push(sampled(revision("stable", 100, engine)))
        for _ in range(3):
            await gw.post(asking(stream=True), **as_tenant("acme"))
        there = gw.running.address
        traffic = GatewayTraffic(lambda: [there.evolve(admin_url="http://127.0.0.1:9"), there], timeout_s=240)
        found = await asyncio.to_thread(traffic.take_samples, AbTestId(TEST), most=2)
        assert ([each.answer for each in found.samples], found.dropped) == (["t0t1t2", "t0t1t2"], 0)
        assert len((await asyncio.to_thread(traffic.take_samples, AbTestId(TEST), most=2)).samples) == 1
        traffic.close()


async def test_nobody_is_sampled_who_did_not_allow_it(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        await gw.push(sampled(revision("stable", 100, engine)))
        await gw.post(asking(), **as_tenant("other"))
        assert await taken(gw) == []


async def test_without_a_test_or_a_judge_nothing_is_kept(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        made = sampled(revision("stable", 100, engine))
        for version, changes in enumerate(({"split_by": None}, {"sampling": None}), start=2):
            await gw.push(made.evolve(version=version, services=(made.services[0].evolve(**changes),)))
            await gw.post(asking(), **as_tenant("acme"))
        assert await taken(gw) == []


async def test_another_test_takes_none_of_it_and_a_bad_number_is_refused(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        await gw.push(sampled(revision("stable", 100, engine)))
        await gw.post(asking(), **as_tenant("acme"))
        assert await taken(gw, test="chat-ab2") == []
        for most in ("", "0", "-1", "x", "9" * 5000, MOST_KEPT + 1):
            assert (await take(gw, most))[0] in (400, 422)
        assert len(await taken(gw)) == 1


async def test_what_is_too_long_or_names_a_version_or_failed_is_not_sampled(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        await gw.push(sampled(revision("stable", 100, engine), longest_bytes=2048))
        long = [{"role": "user", "content": "x" * 4000}]
        assert (await gw.post(asking(messages=long), **as_tenant("acme")))[0] == 200
        assert await taken(gw) == []


async def test_the_judge_sees_what_the_client_saw_with_personal_data_gone(tmp_path: Path) -> None:
    options = GatewayOptions(privacy=PrivacyOptions(output=OutputPolicy(redact=(Personal.EMAIL,))))
    async with gateway(tmp_path) as gw, upstream("e1", MAIL) as engine:
        await gw.push(sampled(revision("stable", 100, engine), options=options))
        await gw.post(asking(stream=True), **as_tenant("acme"))
        (sample,) = await taken(gw)
        assert "ann@example.org" not in sample["answer"]
        assert "write to" in sample["answer"]


async def test_no_word_of_it_is_on_the_disk(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    said = pieces(token_event("the-answer"), FINISH, DONE)
    async with gateway(tmp_path, audit_days=1) as gw, upstream("e1", said) as engine:
        await gw.push(sampled(revision("stable", 100, engine)))
        await gw.post(asking(stream=True), **as_tenant("acme"))
        await gw.records(1)
        (sample,) = await taken(gw)
        assert (PLANTED in json.dumps(sample), "the-answer" in json.dumps(sample)) == (True, True)
    files = on_disk(tmp_path)
    assert files
    assert not any(word in content for content in files for word in (PLANTED.encode(), b"the-answer"))
    assert PLANTED not in caplog.text


async def test_what_nobody_takes_is_forgotten_and_what_has_no_room_is_counted() -> None:
    samples = Samples(kept_s=0.01)
    for number in range(MOST_KEPT + 3):
        samples.keep(TEST, Sample(request_id=str(number), path="/v1/completions", asked={}, answer="x"))
    async with asyncio.timeout(240):
        while samples._kept:  # noqa: ASYNC110  # forgotten means: not even held
            await asyncio.sleep(0.01)
    assert samples.take(TEST, 10) == ([], MOST_KEPT + 3)
    assert samples.take(TEST, 10) == ([], 0)
